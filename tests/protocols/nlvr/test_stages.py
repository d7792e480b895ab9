"""The NLVR2 protocol over golden pictures: units, batches, failures, and what is scored."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from goldens import GOLDEN, Golden, relative_error
from stage_samples import samples_of

from blipbench.config.models import load_model_config
from blipbench.data.nlvr import NlvrDataset, read_nlvr
from blipbench.device import Runtime, make_runtime
from blipbench.inference.reasoning import NlvrRunner
from blipbench.models.checkpoint import load_checkpoint, load_weights
from blipbench.models.nlvr import BlipNlvr
from blipbench.models.tokenizer import load_tokenizer
from blipbench.protocols.base import Protocol, Sample
from blipbench.protocols.nlvr.recipe import build_nlvr
from blipbench.protocols.nlvr.score import score
from blipbench.protocols.nlvr.stages import SENTENCES_PER_UNIT


def make_runner(runtime: Runtime) -> NlvrRunner:
    loaded = load_checkpoint(str(GOLDEN / "tiny_nlvr.pth"), config=load_model_config(str(GOLDEN / "tiny_nlvr.yaml")))
    model = BlipNlvr(loaded.config)
    load_weights(model, loaded, "nlvr")
    return NlvrRunner(model, load_tokenizer(GOLDEN / "vocab.txt"), runtime)


@pytest.fixture(scope="module")
def runner() -> NlvrRunner:
    return make_runner(make_runtime("cpu", "fp32"))


@pytest.fixture
def dataset(golden: Golden) -> NlvrDataset:
    return read_nlvr(golden.data, golden.data / "nlvr_test.json", name="nlvr", split="test", max_words=40)


@pytest.fixture
def shared(dataset: NlvrDataset) -> NlvrDataset:
    """Three images in five pairs, two sentences about the first."""
    pairs = [(0, 1), (1, 0), (0, 2), (2, 2), (1, 2)]
    return dataclasses.replace(
        dataset,
        pairs=pairs,
        pair_of_sentence=[0, 1, 2, 3, 4, 0],
        images=dataset.images[:3],
        sources=dataset.sources[:3],
    )


def table_of(protocol: Protocol, samples: Sequence[Sample]) -> pa.Table:
    (stage,) = protocol.stages
    rows = [{"unit": sample.unit, **row} for sample in samples for row in sample.rows]
    return pa.Table.from_pylist(rows, pa.schema([("unit", pa.string()), *stage.schema]))


def run(protocol: Protocol) -> tuple[pa.Table, list[Sample]]:
    (stage,) = protocol.stages
    samples = samples_of(stage)
    return table_of(protocol, samples), samples


def test_logits_of_every_sentence_equal_the_reference(golden: Golden, runner: NlvrRunner, dataset: NlvrDataset) -> None:
    table, _ = run(build_nlvr(runner, dataset, workers=0))
    logits = torch.tensor(table.sort_by("index").column("logits").to_pylist())
    assert relative_error(logits, golden.tensors("nlvr")["logits"]) < 1e-5


def test_a_unit_is_an_image_pair_with_its_sentences(runner: NlvrRunner, shared: NlvrDataset) -> None:
    (stage,) = build_nlvr(runner, shared, workers=0).stages
    units = stage.units({})
    assert [unit.payload.sentences for unit in units] == [[0, 5], [1], [2], [3], [4]]
    assert len({unit.id for unit in units}) == 5
    assert sum(unit.items for unit in units) == 6


def test_many_sentences_about_one_pair_are_several_units(runner: NlvrRunner, dataset: NlvrDataset) -> None:
    count = SENTENCES_PER_UNIT + 1
    crowded = dataclasses.replace(
        dataset, pairs=[(0, 1)], sentences=["two circles"] * count, labels=[True] * count, pair_of_sentence=[0] * count
    )
    table, samples = run(build_nlvr(runner, crowded, workers=0))
    assert [len(sample.rows) for sample in samples] == [SENTENCES_PER_UNIT, 1]
    assert len(set(table.column("unit").to_pylist())) == 2


def test_a_pair_costs_its_own_images_only(runner: NlvrRunner, shared: NlvrDataset) -> None:
    (stage,) = build_nlvr(runner, shared, workers=0).stages
    two_images, one_image = (stage.units({})[pair].payload.images for pair in (2, 3))
    assert (two_images, one_image) == ({0, 2}, {2})


@pytest.mark.parametrize("batch_tokens", [10, 30, 1536])
def test_batches_of_any_size_give_the_same(runner: NlvrRunner, shared: NlvrDataset, batch_tokens: int) -> None:
    expected, _ = run(build_nlvr(runner, shared, workers=0))
    small = make_runner(dataclasses.replace(runner.runtime, batch_tokens=batch_tokens))
    table, _ = run(build_nlvr(small, shared, workers=0))
    assert table.column("index").to_pylist() == expected.column("index").to_pylist()
    logits = (torch.tensor(t.column("logits").to_pylist()) for t in (table, expected))
    assert relative_error(*logits) < 1e-5


def test_an_image_of_several_pairs_is_encoded_once_a_batch(
    runner: NlvrRunner, shared: NlvrDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[int] = []
    encode = runner.encode_images

    def counting(pixels: torch.Tensor) -> torch.Tensor:
        encoded.append(len(pixels))
        return encode(pixels)

    monkeypatch.setattr(runner, "encode_images", counting)
    run(build_nlvr(runner, shared, workers=0))
    assert sum(encoded) == 3


def test_an_unreadable_image_fails_its_pairs_alone(runner: NlvrRunner, shared: NlvrDataset, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_text("not a picture")
    broken = dataclasses.replace(shared, sources=[*shared.sources[:2], (tmp_path / "broken.png",)])
    table, samples = run(build_nlvr(runner, broken, workers=0))
    failed = {sample.unit for sample in samples if sample.error is not None}
    assert failed == {"pair-2-0", "pair-3-0", "pair-4-0"}
    assert all("broken.png" in sample.error for sample in samples if sample.error is not None)
    assert sorted(table.column("index").to_pylist()) == [0, 1, 5]


def test_the_score_needs_the_samples_alone(runner: NlvrRunner, dataset: NlvrDataset) -> None:
    table, _ = run(build_nlvr(runner, dataset, workers=0))
    backwards = table.take(np.arange(len(table))[::-1])
    metrics = score({"reason": backwards}, seed=0)
    assert metrics.values["test_p_acc"].value == pytest.approx(100 / 3)
    assert len(metrics.outcomes["correct"]) == 6


def test_the_self_check_finds_a_logit_that_strays(runner: NlvrRunner, dataset: NlvrDataset) -> None:
    protocol = build_nlvr(runner, dataset, workers=0)
    table, _ = run(protocol)
    honest = protocol.self_check({"reason": table}, seed=0)
    assert honest.deviation < 1e-5 and (honest.changed, honest.checked, honest.compared) == (0, 4, 8)
    rows = [{**row, "logits": [-x for x in row["logits"]]} for row in table.to_pylist()]
    strayed = protocol.self_check({"reason": pa.Table.from_pylist(rows, table.schema)}, seed=0)
    assert strayed.deviation > 0.1 and strayed.changed == 4
