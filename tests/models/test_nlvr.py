"""The plain NLVR2 model against the reference's goldens, and how it starts from a checkpoint of another kind."""

import pytest
import torch
import torch.nn.functional as F
from goldens import GOLDEN, Golden, relative_error

from blipbench.config.models import load_model_config
from blipbench.errors import UsageError
from blipbench.inference.packing import pad
from blipbench.models.checkpoint import load_checkpoint, load_weights
from blipbench.models.nlvr import MERGE_FROM, BlipNlvr, twin_state_dict
from blipbench.models.tokenizer import load_tokenizer

TOLERANCE = 1e-5


@pytest.fixture
def model(golden: Golden) -> BlipNlvr:
    loaded = load_checkpoint(str(GOLDEN / "tiny_nlvr.pth"), config=load_model_config(str(GOLDEN / "tiny_nlvr.yaml")))
    model = BlipNlvr(loaded.config)
    load_weights(model, loaded, "nlvr")
    return model.eval().requires_grad_(False)


def inputs_of(golden: Golden, model: BlipNlvr, case: str) -> tuple[torch.Tensor, ...]:
    """Ids with [ENC] first, mask, left and right tokens of a golden case."""
    told, tokenizer = golden.json(case), load_tokenizer(GOLDEN / "vocab.txt")
    ids = [[tokenizer.enc_id, *sentence[1:]] for sentence in tokenizer.encode(told["sentences"], 64)]
    pictures = golden.tensors("images")["image"]
    images = (model.visual_encoder(pictures[told[side]]) for side in ("images0", "images1"))
    return (*pad(ids, tokenizer.pad_id), *images)


def test_logits_and_loss_equal_the_reference(golden: Golden, model: BlipNlvr) -> None:
    case = golden.tensors("nlvr")
    logits = model(*inputs_of(golden, model, "nlvr"))
    assert relative_error(logits, case["logits"]) < TOLERANCE
    assert relative_error(F.cross_entropy(logits, case["targets"]), case["loss"]) < TOLERANCE


def test_the_first_six_layers_average_and_the_others_merge(model: BlipNlvr) -> None:
    merging = [layer.crossattention.output.merge_layer is not None for layer in model.text_encoder.encoder.layer]
    assert merging == [False] * MERGE_FROM + [True] * 2


def test_a_pretrained_checkpoint_initialises_both_cross_attentions(golden: Golden) -> None:
    loaded = load_checkpoint(str(GOLDEN / "tiny_pretrain.pth"), config=load_model_config(str(golden.model)))
    model = BlipNlvr(loaded.config).eval().requires_grad_(False)
    missing = model.load_state_dict(twin_state_dict(loaded.state_dict), strict=False).missing_keys
    assert sorted(missing) == golden.json("nlvr_from_pretrain")["missing_keys"]
    states = model.class_states(*inputs_of(golden, model, "nlvr_from_pretrain"))
    assert relative_error(states, golden.tensors("nlvr_from_pretrain")["class_state"]) < TOLERANCE


def test_other_weights_keep_their_names() -> None:
    state = {"text_encoder.encoder.layer.0.crossattention.output.LayerNorm.weight": torch.ones(2)}
    assert twin_state_dict(state).keys() == state.keys()


@pytest.mark.parametrize("checkpoint", ["tiny_pretrain.pth", "tiny_retrieval.pth"])
def test_evaluation_refuses_a_checkpoint_without_the_head(golden: Golden, checkpoint: str) -> None:
    loaded = load_checkpoint(str(GOLDEN / checkpoint), config=load_model_config(str(golden.model)))
    with pytest.raises(UsageError, match=r"no cls_head.*nlvr needs.*model_base_nlvr\.pth"):
        load_weights(BlipNlvr(loaded.config), loaded, "nlvr")
