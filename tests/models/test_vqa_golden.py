"""The plain VQA model gives the reference's training loss."""

import torch
from goldens import Golden, relative_error
from vqa_goldens import golden_vqa, golden_vqa_model

from blipbench.inference.packing import pad
from blipbench.models.med import IGNORED, language_model_loss
from blipbench.models.tokenizer import load_tokenizer


def test_the_loss_weights_each_answer_and_divides_by_the_questions(golden: Golden) -> None:
    case = golden_vqa(golden)
    told, tokenizer, model = case.told, load_tokenizer(golden.root / "vocab.txt"), golden_vqa_model(golden)
    questions = [[tokenizer.enc_id, *ids[1:]] for ids in tokenizer.encode(told["loss_questions"], 35)]
    answers = [[tokenizer.dec_id, *ids[1:]] for ids in tokenizer.encode(told["loss_answers"], 35)]
    question_ids, question_mask = pad(questions, tokenizer.pad_id)
    answer_ids, answer_mask = pad(answers, tokenizer.pad_id)
    images = torch.stack([golden.tensors("images")["image"][image] for image in told["loss_images"]])
    with torch.inference_mode():
        states = model.text_encoder(question_ids, question_mask, model.visual_encoder(images))
        owner = torch.repeat_interleave(torch.arange(len(questions)), torch.tensor(told["loss_n"]))
        logits = model.text_decoder(answer_ids, answer_mask, states[owner], question_mask[owner])
        losses = language_model_loss(logits, answer_ids.masked_fill(answer_mask == 0, IGNORED))
    loss = (losses * torch.tensor(told["loss_weights"])).sum() / len(questions)
    assert relative_error(loss[None], case.tensors["loss"]) < 1e-5
