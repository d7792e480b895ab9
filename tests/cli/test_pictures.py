"""`blipbench caption`, `ask` and `match` give what the evaluation computes, for single pictures."""

import json
import math
import os
from pathlib import Path

import pytest
import torch
from command_line import blipbench
from goldens import GOLDEN, Golden, relative_error

from blipbench.inference.blip import BlipRunner

CKPT = ("--ckpt", GOLDEN / "tiny_retrieval.pth", "--model", GOLDEN / "tiny.yaml", "--device", "cpu")


def test_match_gives_the_reference_scores(golden: Golden) -> None:
    case, told = golden.tensors("retrieval_k12"), golden.json("retrieval_k12")
    picture, texts = golden.pictures()[told["images"][3]], told["texts"][:20]
    done = blipbench("match", picture, *texts, *CKPT, "--json")
    assert done.exit_code == 0, done.output
    (line,) = done.stdout.splitlines()
    matches = json.loads(line)["matches"]
    assert [found["text"] for found in matches] == texts
    itc = torch.tensor([found["itc"] for found in matches])
    itm = torch.tensor([found["itm"] for found in matches])
    assert relative_error(itc, case["similarity_i2t"][3, :20]) < 1e-5
    asked = case["score_i2t"][3, :20] > -100
    assert asked.any()
    assert relative_error((itm + itc)[asked], case["score_i2t"][3, :20][asked]) < 1e-5


def test_the_probability_is_the_softmax_of_both_logits(golden: Golden, tiny_runner: BlipRunner) -> None:
    picture = golden.pictures()[2]
    done = blipbench("match", picture, "a red dog", "Two CATS!", *CKPT, "--json")
    matches = json.loads(done.stdout)["matches"]
    for found, text in zip(matches, ["a red dog", "two cats"], strict=True):
        no_match, match = _both_logits(picture, tiny_runner, text)
        assert found["probability"] == pytest.approx(math.exp(match) / (math.exp(match) + math.exp(no_match)), rel=1e-4)


def _both_logits(picture: Path, runner: BlipRunner, text: str) -> list[float]:
    """The plain model on one pair."""
    from blipbench.data.images import decode_image, normalise

    (ids,) = runner.tokenize([text], 35)
    ids[0] = runner.tokenizer.enc_id
    image = runner.plain.encode_images(normalise(decode_image(picture, 48)[None]))
    logits: list[float] = runner.plain.match_logits(torch.tensor([ids]), torch.ones(1, len(ids)), image)[0].tolist()
    return logits


def test_match_prints_a_line_a_text(golden: Golden) -> None:
    done = blipbench("match", golden.pictures()[0], "a red dog", "two cats", *CKPT)
    assert done.exit_code == 0, done.output
    header, *lines = done.stdout.splitlines()
    assert header.split() == ["match", "ITM", "logit", "ITC", "cosine", "text"]
    assert [line.split("  ")[-1] for line in lines] == ["a red dog", "two cats"]
    assert all(line.split()[0].endswith("%") for line in lines)


@pytest.mark.parametrize(
    "arguments, exit_code, message",
    [
        (("no.jpg", "a dog", *CKPT), 1, "no.jpg"),
        ((GOLDEN / "README.md", "a dog", *CKPT), 1, "README.md: not an image"),
        ((GOLDEN / "x.png", "a dog", "--ckpt", "gone.pth"), 1, "gone.pth"),
        ((GOLDEN / "x.png", *CKPT), 2, "TEXT"),
    ],
)
def test_what_cannot_be_done_is_explained(arguments: tuple[object, ...], exit_code: int, message: str) -> None:
    done = blipbench("match", *arguments)
    assert done.exit_code == exit_code, done.output
    assert message in done.output and "Traceback" not in done.output


@pytest.mark.parametrize(
    "command, checkpoint, kind",
    [
        ("match", "tiny_caption.pth", "a captioning checkpoint"),
        ("caption", "tiny_retrieval.pth", "a retrieval checkpoint"),
        ("ask", "tiny_retrieval.pth", "a retrieval checkpoint"),
    ],
)
def test_a_checkpoint_of_another_kind_is_refused_by_name(
    golden: Golden, command: str, checkpoint: str, kind: str
) -> None:
    texts = [] if command == "caption" else ["a dog"]
    done = blipbench(command, golden.pictures()[0], *texts, *with_checkpoint(checkpoint))
    assert done.exit_code == 2
    assert kind in done.output and f"{command} needs" in done.output


def with_checkpoint(name: str) -> tuple[object, ...]:
    return ("--ckpt", GOLDEN / name, "--model", GOLDEN / "tiny.yaml", "--device", "cpu")


def test_caption_writes_what_the_reference_writes(golden: Golden) -> None:
    told = golden.json("caption")
    (case,) = (
        case
        for case in told["cases"]
        if (case["num_beams"], case["max_length"], case["repetition_penalty"]) == (3, 20, 1.0)
    )
    pictures = [golden.pictures()[at] for at in told["images"]]
    done = blipbench("caption", *pictures, *with_checkpoint("tiny_caption.pth"), "--json")
    assert done.exit_code == 0, done.output
    expected = zip(pictures, case["captions"], strict=True)
    assert json.loads(done.stdout) == [{"image": str(picture), "caption": text} for picture, text in expected]


def test_one_caption_is_printed_alone_and_several_with_their_pictures(golden: Golden) -> None:
    first, second, *_ = golden.pictures()
    (alone,) = blipbench("caption", first, *with_checkpoint("tiny_caption.pth")).stdout.splitlines()
    lines = blipbench("caption", first, second, *with_checkpoint("tiny_caption.pth")).stdout.splitlines()
    assert lines[0] == f"{first}: {alone}"
    assert lines[1].startswith(f"{second}: ")


def test_ask_answers_what_the_reference_answers(golden: Golden) -> None:
    told, pictures = golden.json("vqa"), golden.pictures()
    for at in (0, 3, 4):
        picture, question = pictures[told["images"][at]], told["questions"][at]
        done = blipbench("ask", picture, question, *with_checkpoint("tiny_vqa.pth"), "--json")
        assert done.exit_code == 0, done.output
        found = {"image": str(picture), "question": question, "answer": told["generate_one_by_one"][at]}
        assert json.loads(done.stdout) == found


@pytest.mark.parametrize(
    "command, checkpoint, told, noun",
    [
        ("caption", "tiny_caption.pth", (), "pictures"),
        ("ask", "tiny_vqa.pth", ("what is it?",), "questions"),
        ("match", "tiny_retrieval.pth", ("a dog",), "texts"),
    ],
)
def test_what_may_take_seconds_shows_its_progress_beside_the_result(
    golden: Golden, command: str, checkpoint: str, told: tuple[str, ...], noun: str
) -> None:
    done = blipbench(command, golden.pictures()[0], *told, *with_checkpoint(checkpoint), "--json")
    assert f"{command}: done, 1/1 {noun}" in done.stderr
    assert isinstance(json.loads(done.stdout), dict | list)


def test_a_bad_picture_is_named_and_the_others_are_captioned(golden: Golden, tmp_path: Path) -> None:
    first, second, *_ = golden.pictures()
    (page := tmp_path / "page.jpg").write_text("<html>403</html>")
    flags = with_checkpoint("tiny_caption.pth")
    done = blipbench("caption", first, page, second, *flags)
    assert done.exit_code == 1
    assert done.stdout == blipbench("caption", first, second, *flags).stdout
    assert f"error: {page}: not an image" in done.stderr


def test_a_named_pipe_is_no_picture_and_does_not_block(golden: Golden, tmp_path: Path) -> None:
    os.mkfifo(pipe := tmp_path / "pipe.jpg")
    done = blipbench("caption", pipe, golden.pictures()[0], *with_checkpoint("tiny_caption.pth"))
    assert done.exit_code == 1
    assert f"error: {pipe}: not a regular file" in done.stderr and len(done.stdout.splitlines()) == 1


def test_a_bad_picture_is_an_error_in_json(golden: Golden, tmp_path: Path) -> None:
    (page := tmp_path / "page.jpg").write_text("<html>403</html>")
    done = blipbench("caption", page, golden.pictures()[0], *with_checkpoint("tiny_caption.pth"), "--json")
    assert done.exit_code == 1
    bad, good = json.loads(done.stdout)
    assert bad["image"] == str(page) and "not an image" in bad["error"]
    assert good["caption"] and "error" not in good
