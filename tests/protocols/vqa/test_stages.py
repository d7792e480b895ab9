"""The VQA protocol on the golden questions: its units, its rows, and a self-check that notices what is wrong."""

from pathlib import Path

import pyarrow as pa
import pytest
from goldens import Golden
from stage_samples import samples_of
from vqa_goldens import VqaCase, golden_vqa

from blipbench.data.vqa import VqaDataset, read_vqa
from blipbench.inference.ranked import RankedAnswers
from blipbench.protocols.base import Protocol, Samples
from blipbench.protocols.vqa.recipe import build_vqa
from blipbench.protocols.vqa.score import score
from blipbench.protocols.vqa.stages import ANSWER_ROWS


@pytest.fixture(scope="module")
def case(golden: Golden) -> VqaCase:
    return golden_vqa(golden)


@pytest.fixture(scope="module")
def dataset(golden: Golden) -> VqaDataset:
    annotation = golden.data / "vqa_test.json"
    return read_vqa(golden.data, annotation, name="vqa", split="test", answer_list="answer_list.json")


@pytest.fixture(scope="module")
def protocol(case: VqaCase, dataset: VqaDataset) -> Protocol:
    question_ids = case.runner.tokenize_questions(dataset.questions, 35)
    return build_vqa(case.runner, dataset, RankedAnswers(case.runner, question_ids, dataset.answer_list, 5), workers=0)


@pytest.fixture(scope="module")
def samples(protocol: Protocol) -> Samples:
    (stage,) = protocol.stages
    rows = [{"unit": sample.unit, **row} for sample in samples_of(stage) for row in sample.rows]
    return {"answer": pa.Table.from_pylist(rows, schema=pa.schema([("unit", pa.string()), *ANSWER_ROWS]))}


def test_a_unit_costs_its_image_and_its_questions(protocol: Protocol, case: VqaCase) -> None:
    (stage,) = protocol.stages
    units = stage.units({})
    assert [unit.items for unit in units] == [1] * 10
    assert min(unit.cost for unit in units) > case.runner.image_flops(1)
    assert units[2].cost > units[4].cost  # "how many triangles are there ..." is longer than "isn't it a cat?"


def test_the_self_check_covers_32_scores(protocol: Protocol, samples: Samples) -> None:
    check = protocol.self_check(samples, seed=0)
    assert check.compared >= 32
    assert check.deviation < 1e-5
    assert (check.changed, check.checked) == (0, 7)


def test_the_self_check_sees_a_wrong_score_and_a_wrong_answer(protocol: Protocol, samples: Samples) -> None:
    rows = samples["answer"].to_pylist()
    for row in rows:
        row["scores"] = [value + 1 for value in row["scores"]]
        row["answer"] = "otter"
    spoilt = {"answer": pa.Table.from_pylist(rows, schema=samples["answer"].schema)}
    check = protocol.self_check(spoilt, seed=0)
    assert check.deviation > 1e-3
    assert check.changed == check.checked


def test_the_servers_file_is_in_the_order_of_the_annotation(samples: Samples, golden: Golden, tmp_path: Path) -> None:
    backwards = {"answer": samples["answer"].take(list(range(9, -1, -1)))}
    assert score(backwards, seed=0).exports["vqa_result.json"] == golden.json("protocols")["vqa_rank"]
