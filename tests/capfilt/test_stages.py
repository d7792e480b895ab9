"""`blipbench capfilt`: the captioner's own captions, the filter's own decisions, over ranks and kills."""

import json
import signal
import zlib
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from caption_goldens import golden_captioner
from click.testing import Result
from command_line import blipbench, run_processes
from forked import run_forked
from goldens import GOLDEN, Golden

from blipbench.data.images import decode_image, normalise
from blipbench.data.text import normalise_caption
from blipbench.inference.search import SearchSettings
from blipbench.models.tokenizer import load_tokenizer

CAPTIONER = ("--captioner", GOLDEN / "tiny_caption.pth", "--captioner-model", GOLDEN / "tiny.yaml")
FILTER = ("--filter", GOLDEN / "tiny_retrieval.pth", "--filter-model", GOLDEN / "tiny.yaml")
HOSTILE = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def web(golden: Golden, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The golden pictures, each with a caption of its own and one of another picture."""
    pictures = json.loads((golden.data / "coco_karpathy_test.json").read_text())
    records = []
    for number, picture in enumerate(pictures):
        wrong = pictures[(number + 3) % len(pictures)]["caption"][1]
        records.append({"image": picture["image"], "caption": picture["caption"][0]})
        records.append({"image": picture["image"], "caption": f"{wrong} {HOSTILE}" if number == 0 else wrong})
    file = tmp_path_factory.mktemp("web") / "web.json"
    file.write_text(json.dumps(records))
    return file


def flags(web: Path, out: Path, *more: object, images: Path = GOLDEN / "data") -> list[str]:
    common = ("--data", web, "--images", images, "--out", out / "boot.json", "--device", "cpu", "--workers", 0)
    return [str(flag) for flag in ("capfilt", *common, *more)]


def capfilt(web: Path, out: Path, *more: object) -> Result:
    return blipbench(*flags(web, out, *more))


def bootstrapped(out: Path) -> list[dict[str, str]]:
    texts: list[dict[str, str]] = json.loads((out / "boot.json").read_text())
    return texts


def result_of(out: Path) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((out / "boot.capfilt" / "result.json").read_text())
    return result


def rows(out: Path, stage: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(out / "boot.capfilt" / "samples" / f"{stage}.parquet").to_pylist()
    return found


@pytest.fixture(scope="module")
def whole(web: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run with captioner and filter."""
    out = tmp_path_factory.mktemp("whole")
    done = capfilt(web, out, *CAPTIONER, *FILTER)
    assert done.exit_code == 0, done.output
    return out


def test_the_filter_decides_as_the_plain_model_for_every_text(golden: Golden, whole: Path) -> None:
    model, tokenizer = golden.retrieval_model(), load_tokenizer(GOLDEN / "vocab.txt")
    judged = rows(whole, "filter")
    for row in judged:
        pixels = normalise(decode_image(golden.data / row["file"], 48)[None])
        (ids,) = tokenizer.encode([normalise_caption(row["text"], 30)], 35)
        ids[0] = tokenizer.enc_id
        mask = torch.ones(1, len(ids))
        (logits,) = model.match_logits(torch.tensor([ids]), mask, model.encode_images(pixels))
        assert row["kept"] == (int(logits.argmax()) == 1)
        assert [row["no_match"], row["match"]] == pytest.approx(logits.tolist(), rel=1e-4, abs=1e-5)
    assert {row["kept"] for row in judged} == {True, False}


def test_captions_are_the_captioners_own_for_the_seed_of_their_image(golden: Golden, whole: Path) -> None:
    runner = golden_captioner(golden).runner
    settings = SearchSettings(
        method="nucleus", top_p=0.9, top_k=50, repetition_penalty=1.1, max_length=20, min_length=5
    )
    for row in rows(whole, "caption"):
        tokens = runner.plain_tokens(decode_image(golden.data / row["file"], 48)[None])
        seed = zlib.crc32(f"0 {row['image_id']}".encode())
        assert row["caption"] == runner.plain_caption(tokens, "a picture of ", settings, seed).text


def test_what_is_written_is_what_was_kept_as_it_was_typed(web: Path, whole: Path) -> None:
    kept = [row for row in rows(whole, "filter") if row["kept"]]
    assert bootstrapped(whole) == [{"image": row["file"], "caption": row["text"]} for row in kept]
    of_web = [{"image": row["file"], "caption": row["text"]} for row in kept if not row["synthetic"]]
    assert of_web == [record for record in json.loads(web.read_text()) if record in of_web]


def test_counts_add_up(whole: Path) -> None:
    counts = result_of(whole)["counts"]
    assert counts["images"] == 12 and counts["failed"] == 0
    assert sum(counts["web"].values()) == 24
    assert sum(counts["synthetic"].values()) == 12
    assert counts["web"]["kept"] + counts["synthetic"]["kept"] == len(bootstrapped(whole))
    assert 12 - counts["without_text"] == len({text["image"] for text in bootstrapped(whole)})


def test_counts_are_printed_as_a_table_and_as_json(web: Path, whole: Path, tmp_path: Path) -> None:
    counts = result_of(whole)["counts"]
    table = capfilt(web, tmp_path, *CAPTIONER, *FILTER)
    printed = [line.split() for line in table.stdout.splitlines()]
    for origin in ("web", "synthetic"):
        (row,) = (line for line in printed if line[:1] == [origin])
        assert row[1:3] == [str(counts[origin]["kept"]), str(counts[origin]["dropped"])]
    (line,) = capfilt(web, tmp_path, *CAPTIONER, *FILTER, "--fresh", "--json").stdout.splitlines()
    assert json.loads(line)["counts"] == counts


def test_the_report_shows_examples_and_escapes_the_web(whole: Path) -> None:
    html = (whole / "boot.html").read_text()
    assert html.count("data:image/jpeg;base64,") == 12
    assert "<script" not in html and "&lt;script&gt;alert(1)&lt;/script&gt;" in html


def test_a_filter_alone_keeps_the_web_texts_that_match(web: Path, whole: Path, tmp_path: Path) -> None:
    done = capfilt(web, tmp_path, *FILTER)
    assert done.exit_code == 0, done.output
    counts = result_of(tmp_path)["counts"]
    assert counts["web"] == result_of(whole)["counts"]["web"]
    assert counts["synthetic"] == {"kept": 0, "dropped": 0}
    assert all(text in json.loads(web.read_text()) for text in bootstrapped(tmp_path))


def test_a_captioner_alone_keeps_every_text_and_adds_one_an_image(web: Path, whole: Path, tmp_path: Path) -> None:
    done = capfilt(web, tmp_path, *CAPTIONER)
    assert done.exit_code == 0, done.output
    judged = [{"image": row["file"], "caption": row["text"]} for row in rows(whole, "filter")]
    assert bootstrapped(tmp_path) == judged


def test_another_seed_draws_other_captions(web: Path, whole: Path, tmp_path: Path) -> None:
    done = capfilt(web, tmp_path, *CAPTIONER, "--seed", 1)
    assert done.exit_code == 0, done.output
    same = [
        a["caption"] == b["caption"] for a, b in zip(rows(tmp_path, "caption"), rows(whole, "caption"), strict=True)
    ]
    assert not all(same)


def test_a_caption_is_as_long_as_asked(web: Path, tmp_path: Path) -> None:
    done = capfilt(web, tmp_path, *CAPTIONER, "--max-length", 8, "--min-length", 8)
    assert done.exit_code == 0, done.output
    assert {len(row["token_ids"]) for row in rows(tmp_path, "caption")} == {8}


def test_captions_go_on_from_the_prompt_that_is_given(web: Path, tmp_path: Path) -> None:
    done = capfilt(web, tmp_path, *CAPTIONER, "--prompt", "two ", "--max-length", 8)
    assert done.exit_code == 0, done.output
    tokenizer = load_tokenizer(GOLDEN / "vocab.txt")
    (two,) = tokenizer.encode(["two"], 8)[0][1:-1]
    assert {tuple(row["token_ids"][:2]) for row in rows(tmp_path, "caption")} == {(tokenizer.dec_id, two)}
    assert result_of(tmp_path)["settings"]["prompt"] == "two "


def test_lengths_that_leave_no_room_for_a_caption_are_refused(web: Path, tmp_path: Path) -> None:
    done = capfilt(web, tmp_path, *CAPTIONER, "--max-length", 4, "--min-length", 1)
    assert done.exit_code == 2 and "leave no room" in done.output
    assert not list(tmp_path.iterdir())


def test_a_shortest_caption_longer_than_the_longest_is_refused(web: Path, tmp_path: Path) -> None:
    done = capfilt(web, tmp_path, *CAPTIONER, "--max-length", 10, "--min-length", 11)
    assert done.exit_code == 2 and "min_length: 11 tokens are more than max_length, which is 10" in done.output
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "models, message",
    [
        (
            ("--captioner", GOLDEN / "tiny_retrieval.pth", "--captioner-model", GOLDEN / "tiny.yaml", *FILTER),
            "tiny_retrieval.pth is a retrieval checkpoint",
        ),
        (
            (*CAPTIONER, "--filter", GOLDEN / "tiny_caption.pth", "--filter-model", GOLDEN / "tiny.yaml"),
            "tiny_caption.pth is a captioning checkpoint",
        ),
        ((), "give at least one of them"),
        ((*FILTER, "--captioner-model", "base"), "--captioner-model requires --captioner"),
    ],
)
def test_models_that_cannot_do_it_are_refused_before_any_work(
    web: Path, tmp_path: Path, models: tuple[object, ...], message: str
) -> None:
    done = capfilt(web, tmp_path, *models)
    assert done.exit_code == 2, done.output
    assert message in done.output and "Traceback" not in done.output
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "content, message",
    [
        ('[{"image": "a.png"', "web.json is not JSON"),
        ('[{"image": "gone.png", "caption": "x"}]', "first: gone.png"),
    ],
)
def test_bad_data_is_named_before_any_work(tmp_path: Path, content: str, message: str) -> None:
    (bad := tmp_path / "web.json").write_text(content)
    done = capfilt(bad, tmp_path, *FILTER)
    assert done.exit_code == 1 and message in done.output
    assert list(tmp_path.iterdir()) == [bad]


def test_a_damaged_image_is_left_out_and_the_run_incomplete(golden: Golden, tmp_path: Path) -> None:
    (tmp_path / "good.png").write_bytes(golden.pictures()[0].read_bytes())
    (tmp_path / "bad.png").write_text("no picture")
    records = [{"image": name, "caption": "a ship"} for name in ("good.png", "bad.png")]
    (web := tmp_path / "web.json").write_text(json.dumps(records))
    done = capfilt(web, tmp_path, *CAPTIONER, *FILTER, "--images", tmp_path, "--on-error", "continue")
    assert done.exit_code == 1
    assert "incomplete" in done.output and "bad.png" in done.output
    result = result_of(tmp_path)
    assert result["status"] == "incomplete" and len(result["failures"]) == result["counts"]["failed"] == 1
    assert {row["file"] for row in rows(tmp_path, "filter")} == {"good.png"}


def test_the_web_file_is_never_overwritten(web: Path, tmp_path: Path) -> None:
    (own := tmp_path / "boot.json").write_text(before := web.read_text())
    done = capfilt(own, tmp_path, *FILTER)
    assert done.exit_code == 2 and "was not written by capfilt" in done.output
    assert own.read_text() == before


def test_a_resume_under_other_settings_is_refused(web: Path, tmp_path: Path) -> None:
    assert capfilt(web, tmp_path, *CAPTIONER).exit_code == 0
    assert "add --resume" in capfilt(web, tmp_path, *CAPTIONER).output
    done = capfilt(web, tmp_path, *CAPTIONER, "--resume", "--seed", 1)
    assert done.exit_code == 2 and "seed was 0, is 1" in done.output


def test_two_ranks_write_the_file_of_one(web: Path, whole: Path, tmp_path: Path) -> None:
    done = run_processes(flags(web, tmp_path, *CAPTIONER, *FILTER), ranks=2)
    assert done.returncode == 0, done.stderr
    assert bootstrapped(tmp_path) == bootstrapped(whole)
    assert result_of(tmp_path)["counts"] == result_of(whole)["counts"]
    assert result_of(tmp_path)["environment"]["world_size"] == 2


def test_a_run_killed_in_the_filter_goes_on_where_it_was(web: Path, tmp_path: Path) -> None:
    models = (*CAPTIONER, *FILTER)
    (whole := tmp_path / "whole").mkdir()
    assert capfilt(web, whole, *models).exit_code == 0

    (killed := tmp_path / "killed").mkdir()
    samples = killed / "boot.capfilt" / "samples"
    (ended,) = run_forked(flags(web, killed, *models), killed_at_part=("filter", 3))
    assert ended.exit_code == -signal.SIGKILL
    assert not (killed / "boot.json").exists()
    parts = [pq.read_table(part).to_pylist() for part in (samples / "filter").glob("[!.]*.parquet")]
    kept = [row for part in parts for row in part]

    done = capfilt(web, killed, *models, "--resume")
    assert done.exit_code == 0, done.output
    assert bootstrapped(killed) == bootstrapped(whole)
    caption, judged = result_of(killed)["stages"]
    assert (caption["items"], caption["reused_items"]) == (0, 12)
    assert 0 < judged["reused_items"] == len(kept) < 36
    final = {(row["image_id"], row["text"]): row["match"] for row in rows(killed, "filter")}
    assert all(final[row["image_id"], row["text"]] == row["match"] for row in kept)
