"""The retrieval protocol run whole, against the reference's matrices, ranks and metrics."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from goldens import Golden, relative_error

from blipbench.data.dataset import RetrievalDataset
from blipbench.evaluation.journal import RunFolder
from blipbench.evaluation.loop import Evaluation, evaluate
from blipbench.evaluation.ranks import Ranks
from blipbench.inference.blip import BlipRunner
from blipbench.protocols.retrieval.recipe import build_retrieval
from blipbench.protocols.retrieval.score import rank_samples, read_embeddings, read_pairs


@contextlib.contextmanager
def no_progress(name: str, noun: str, total: int, already: int) -> Iterator[Callable[[int], None]]:
    yield lambda items: None


def golden_dataset(golden: Golden, case: str) -> RetrievalDataset:
    told, pictures = golden.json(case), golden.pictures()
    is_video = "frames" in told
    items = told["frames"] if is_video else [[i] for i in told["images"]]
    owner = list(range(len(items))) if is_video else told["txt2img"]
    return RetrievalDataset(
        name=case,
        split="test",
        root=golden.data,
        annotation=golden.data / "coco_karpathy_test.json",
        annotation_sha256="",
        names=[str(item) for item in items],
        sources=[tuple(pictures[frame] for frame in item) for item in items],
        texts=told["texts"],
        image_of_text=np.array(owner, dtype=np.int32),
        total_images=len(items),
        is_video=is_video,
    )


def run_case(
    golden: Golden, runner: BlipRunner, folder: Path, case: str, k_test: int, rerank: bool = True
) -> tuple[Evaluation, dict[str, pa.Table]]:
    dataset = golden_dataset(golden, case)
    protocol = build_retrieval(runner, dataset, k_test=k_test, max_tokens=35, rerank=rerank, workers=0)
    run = RunFolder(folder)
    evaluation = evaluate(protocol, run, Ranks(), no_progress, seed=0, stop_on_error=True)
    return evaluation, {stage.name: pq.read_table(run.parts(stage.name)[0]) for stage in protocol.stages}


@pytest.mark.parametrize("k_test", [6, 12])
def test_scores_ranks_and_metrics_equal_the_reference(
    golden: Golden, tiny_runner: BlipRunner, tmp_path: Path, k_test: int
) -> None:
    case, told = golden.tensors(f"retrieval_k{k_test}"), golden.json(f"retrieval_k{k_test}")
    evaluation, samples = run_case(golden, tiny_runner, tmp_path, f"retrieval_k{k_test}", k_test)
    pairs = read_pairs(samples["rerank"], read_embeddings(samples["embed"]))

    for flags, name, turned in [(pairs.for_image, "score_i2t", False), (pairs.for_text, "score_t2i", True)]:
        expected = case[name].T if turned else case[name]
        assert set(zip(pairs.image[flags], pairs.text[flags], strict=True)) == set(
            map(tuple, (expected > -100).nonzero().tolist())
        )
        scores = torch.from_numpy((pairs.itm + pairs.itc)[flags])
        assert relative_error(scores, expected[pairs.image[flags], pairs.text[flags]].double()) < 1e-5

    _, ranks = rank_samples(samples)
    for found, golden_ranks in [(ranks.text_rank, told["rank_i2t"]), (ranks.image_rank, told["rank_t2i"])]:
        for rank, golden_rank in zip(found, golden_ranks, strict=True):
            assert rank == golden_rank if golden_rank is not None else rank >= k_test
    assert evaluation.metrics is not None
    values = {name: metric.value for name, metric in evaluation.metrics.values.items()}
    assert values.keys() == told["metrics"].keys()
    assert all(values[name] == expected for name, expected in told["metrics_free_of_ties"].items())


def test_clips_equal_the_reference(golden: Golden, tiny_runner: BlipRunner, tmp_path: Path) -> None:
    case, told = golden.tensors("video_k4"), golden.json("video_k4")
    evaluation, samples = run_case(golden, tiny_runner, tmp_path, "video_k4", 4)
    pairs = read_pairs(samples["rerank"], read_embeddings(samples["embed"]))
    scores = torch.from_numpy(pairs.itm + pairs.itc)
    for flags, expected in [(pairs.for_image, case["score_v2t"]), (pairs.for_text, case["score_t2v"].T)]:
        assert flags.sum() == (expected > -100).sum()
        assert relative_error(scores[flags], expected[pairs.image[flags], pairs.text[flags]].double()) < 1e-5
    assert evaluation.metrics is not None
    for name, value in told["metrics_free_of_ties"].items():
        assert evaluation.metrics.values[name].value == value
    assert evaluation.metrics.values.keys() == told["metrics"].keys()


def test_without_rerank_the_itc_similarity_ranks(golden: Golden, tiny_runner: BlipRunner, tmp_path: Path) -> None:
    similarity = golden.tensors("retrieval_k6")["similarity_i2t"]
    evaluation, samples = run_case(golden, tiny_runner, tmp_path, "retrieval_k6", 6, rerank=False)
    owner = torch.tensor(golden.json("retrieval_k6")["txt2img"])
    expected = (similarity.T.gather(1, owner[:, None]) < similarity.T).sum(1)
    _, ranks = rank_samples(samples)
    assert np.array_equal(ranks.image_rank, expected.numpy())
    assert samples.keys() == {"embed"}
    assert evaluation.self_check is not None and evaluation.self_check.compared >= 32


def test_k_larger_than_the_collection_matches_every_pair_once(
    golden: Golden, tiny_runner: BlipRunner, tmp_path: Path
) -> None:
    evaluation, _ = run_case(golden, tiny_runner, tmp_path, "retrieval_k6", 256)
    assert [stage.items for stage in evaluation.stages] == [72, 12 * 60]


def test_the_self_check_finds_float32_noise_and_no_changed_rank(
    golden: Golden, tiny_runner: BlipRunner, tmp_path: Path
) -> None:
    evaluation, _ = run_case(golden, tiny_runner, tmp_path, "retrieval_k6", 6)
    check = evaluation.self_check
    assert check is not None
    assert check.compared >= 32
    assert 0 < check.deviation < 1e-5
    assert check.changed == 0 < check.checked


def test_the_self_check_finds_a_wrong_score(golden: Golden, tiny_runner: BlipRunner, tmp_path: Path) -> None:
    _, samples = run_case(golden, tiny_runner, tmp_path, "retrieval_k6", 256)
    wrong = samples["rerank"].to_pylist()
    for row in wrong:
        row["itm"] = [-logit for logit in row["itm"]]
    dataset = golden_dataset(golden, "retrieval_k6")
    protocol = build_retrieval(tiny_runner, dataset, k_test=256, max_tokens=35, rerank=True, workers=0)
    tampered = {**samples, "rerank": pa.Table.from_pylist(wrong, schema=samples["rerank"].schema)}
    check = protocol.self_check(tampered, seed=0)
    assert check.deviation > 0.1
    assert check.changed > 0


def test_samples_are_readable_with_pandas(golden: Golden, tiny_runner: BlipRunner, tmp_path: Path) -> None:
    import pandas as pd

    run_case(golden, tiny_runner, tmp_path, "retrieval_k6", 6)
    embed = pd.read_parquet(tmp_path / "samples" / "embed.parquet")
    rerank = pd.read_parquet(tmp_path / "samples" / "rerank.parquet")
    assert list(embed["kind"].value_counts().sort_index()) == [12, 60]
    assert rerank["image"].tolist() == list(range(12))
    assert all(len(row.texts) == len(row.itm) == len(row.itc) for row in rerank.itertuples())
