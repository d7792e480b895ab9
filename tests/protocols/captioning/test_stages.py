"""The captioning protocol over golden pictures: units, batches, failures, the self-check, and what is scored."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pytest
from caption_goldens import golden_captioner
from goldens import Golden
from stage_samples import samples_of

from blipbench.data.captions import CaptionDataset, read_captions
from blipbench.errors import UsageError
from blipbench.inference.captioner import BlipCaptionRunner
from blipbench.inference.decoding import FastDecoder
from blipbench.inference.search import SearchSettings
from blipbench.protocols.base import Protocol, Sample
from blipbench.protocols.captioning.recipe import build_captioning
from blipbench.protocols.captioning.score import score

PROMPT = "a picture of "
COCO, NOCAPS = SearchSettings(), SearchSettings(repetition_penalty=1.1)
NUCLEUS = SearchSettings(method="nucleus", repetition_penalty=1.1)


@pytest.fixture(scope="module")
def runner(golden: Golden) -> BlipCaptionRunner:
    return golden_captioner(golden).runner


@pytest.fixture(scope="module")
def coco(golden: Golden) -> CaptionDataset:
    annotation = golden.data / "coco_karpathy_test.json"
    return read_captions(golden.data, annotation, None, name="caption_coco", split="test")


@pytest.fixture(scope="module")
def nocaps(golden: Golden) -> CaptionDataset:
    return read_captions(
        golden.data, golden.data / "nocaps_val.json", None, name="nocaps", split="val", reader="nocaps"
    )


def build(
    model: BlipCaptionRunner, dataset: CaptionDataset, settings: SearchSettings = COCO, seed: int = 0
) -> Protocol:
    return build_captioning(model, dataset, prompt=PROMPT, settings=settings, seed=seed, workers=0)


def table_of(protocol: Protocol, samples: Sequence[Sample]) -> pa.Table:
    (stage,) = protocol.stages
    rows = [{"unit": sample.unit, **row} for sample in samples for row in sample.rows]
    return pa.Table.from_pylist(rows, pa.schema([("unit", pa.string()), *stage.schema]))


def run(protocol: Protocol, which: slice = slice(None)) -> pa.Table:
    (stage,) = protocol.stages
    return table_of(protocol, samples_of(stage, stage.units({})[which]))


def captions(table: pa.Table) -> list[str]:
    return [str(caption) for caption in table.column("caption").to_pylist()]


@pytest.mark.parametrize(
    ("data", "settings", "case"), [("coco", COCO, "caption_coco_settings"), ("nocaps", NOCAPS, "caption_nocaps")]
)
def test_captions_are_the_references(
    golden: Golden,
    runner: BlipCaptionRunner,
    request: pytest.FixtureRequest,
    data: str,
    settings: SearchSettings,
    case: str,
) -> None:
    expected = golden.json("protocols")[case]
    table = run(build(runner, request.getfixturevalue(data), settings))
    assert captions(table) == [row["caption"] for row in expected]


def test_a_row_holds_all_that_scoring_reads(runner: BlipCaptionRunner, coco: CaptionDataset) -> None:
    row = run(build(runner, coco)).to_pylist()[1]
    assert (row["image_id"], row["file"], row["domain"]) == (1, "images/ship_001.png", None)
    assert row["references"] == coco.references[1]
    assert row["token_ids"][0] == runner.tokenizer.dec_id
    assert row["log_prob"] < 0


@pytest.mark.parametrize("settings", [COCO, NUCLEUS])
def test_no_batch_or_rank_changes_a_caption(
    golden: Golden, runner: BlipCaptionRunner, coco: CaptionDataset, settings: SearchSettings
) -> None:
    whole = captions(run(build(runner, coco, settings)))
    shares = [captions(run(build(runner, coco, settings), slice(rank, None, 3))) for rank in range(3)]
    assert [whole[rank::3] for rank in range(3)] == shares
    one_at_a_time = golden_captioner(golden).runner
    one_at_a_time.decoder = FastDecoder(
        one_at_a_time.plain.text_decoder,
        one_at_a_time.tokenizer.sep_id,
        dataclasses.replace(runner.runtime, batch_tokens=1),
    )
    assert one_at_a_time.batch(settings) == 1
    assert captions(run(build(one_at_a_time, coco, settings))) == whole


def test_another_seed_samples_other_captions(runner: BlipCaptionRunner, coco: CaptionDataset) -> None:
    one, again, other = (captions(run(build(runner, coco, NUCLEUS, seed))) for seed in (0, 0, 1))
    assert one == again != other


def test_an_image_that_cannot_be_read_fails_alone(
    runner: BlipCaptionRunner, coco: CaptionDataset, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"not an image")
    sources = [(broken,), *coco.sources[1:]]
    protocol = build(runner, dataclasses.replace(coco, sources=sources))
    (stage,) = protocol.stages
    samples = {sample.unit: sample for sample in samples_of(stage)}
    assert str(broken) in str(samples["image-0"].error)
    assert (
        captions(table_of(protocol, [samples[f"image-{i}"] for i in range(1, 12)]))
        == captions(run(build(runner, coco)))[1:]
    )


def test_the_self_check_finds_float32_noise_and_no_changed_caption(
    runner: BlipCaptionRunner, coco: CaptionDataset
) -> None:
    protocol = build(runner, coco)
    check = protocol.self_check({"caption": run(protocol)}, seed=0)
    assert (check.compared, check.changed, check.checked) == (8, 0, 2)
    assert 0 < check.deviation < 1e-5


def test_the_self_check_draws_what_was_drawn(runner: BlipCaptionRunner, coco: CaptionDataset) -> None:
    protocol = build(runner, coco, NUCLEUS, seed=5)
    assert protocol.self_check({"caption": run(protocol)}, seed=0).changed == 0


def test_the_self_check_finds_wrong_captions(runner: BlipCaptionRunner, coco: CaptionDataset) -> None:
    protocol = build(runner, coco)
    table = run(protocol)
    rows = table.to_pylist()
    for row, other in zip(rows, [*rows[1:], rows[0]], strict=True):
        row |= {name: other[name] for name in ("caption", "token_ids")}
    check = protocol.self_check({"caption": pa.Table.from_pylist(rows, table.schema)}, seed=0)
    assert check.deviation > 0.1
    assert check.changed == 2


def test_without_references_there_is_only_the_servers_file(runner: BlipCaptionRunner, nocaps: CaptionDataset) -> None:
    metrics = score({"caption": run(build(runner, nocaps, NOCAPS))}, seed=0)
    assert metrics.values == {}
    assert metrics.exports["captions.json"][0] == {"image_id": 1000, "caption": "two white bars at the field"}
    assert len(metrics.exports["captions.json"]) == 12
    assert "no reference captions" in metrics.notes[0]


def test_domains_are_scored_apart(runner: BlipCaptionRunner, nocaps: CaptionDataset) -> None:
    domains = ["in-domain", "near-domain", "out-domain"]
    annotated = dataclasses.replace(
        nocaps, references=[["A white bar.", "A circle."]] * 12, domains=[domains[i % 3] for i in range(12)]
    )
    metrics = score({"caption": run(build(runner, annotated, NOCAPS))}, seed=0)
    assert {"CIDEr", "in_CIDEr", "near_CIDEr", "out_CIDEr"} <= metrics.values.keys()
    assert len(metrics.exports["captions.json"]) == 12


def test_a_prompt_without_room_for_a_caption_is_refused_before_any_work(
    runner: BlipCaptionRunner, coco: CaptionDataset
) -> None:
    with pytest.raises(UsageError, match="leave no room after the prompt"):
        build(runner, coco, SearchSettings(max_length=4))
