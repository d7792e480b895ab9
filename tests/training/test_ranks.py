"""Two ranks: contrastive objectives see what the reference's two ranks see, the others what one rank would see."""

from typing import Any

import pytest
import torch
from goldens import Golden, relative_error
from objective_goldens import KINDS, Picks, assert_gradient_norms, finetuning_case, pair_batch, pretrain_objective
from training_ranks import RETRIEVAL_CASES, WORLD, gradients, pretrain_queues, run_ranks

Found = list[dict[str, Any]]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Found:
    return run_ranks(tmp_path_factory.mktemp("ranks"))


@pytest.fixture(params=RETRIEVAL_CASES)
def case(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("rank", range(WORLD))
def test_retrieval_losses(golden: Golden, found: Found, case: str, rank: int) -> None:
    expected = golden.tensors(case)
    for name, key in (("itc", "loss_ita"), ("itm", "loss_itm")):
        assert relative_error(found[rank][case]["losses"][name][None], expected[f"rank{rank}.{key}"]) < 1e-5


@pytest.mark.parametrize("rank", range(WORLD))
def test_retrieval_negatives(golden: Golden, found: Found, case: str, rank: int) -> None:
    told, expected, own = golden.json(case)["ranks"][rank], golden.tensors(case), found[rank][case]
    for weights, key in zip(own["weights"], ("weights_t2i", "weights_i2t"), strict=True):
        assert relative_error(weights, expected[f"rank{rank}.{key}"]) < 1e-5
    assert own["picked"] == [told["negative_image_of_each_text"], told["negative_text_of_each_image"]]


@pytest.mark.parametrize("rank", range(WORLD))
def test_retrieval_queues_hold_both_ranks_features_in_order(golden: Golden, found: Found, case: str, rank: int) -> None:
    expected, queues = golden.tensors(case), found[rank][case]["queues"]
    assert {f"{name}_after" for name in queues} == {name for name in expected if name.endswith("_after")}
    for name, queue in queues.items():
        assert relative_error(queue.double(), expected[f"{name}_after"].double()) < 1e-5, name


@pytest.mark.parametrize("rank", range(WORLD))
def test_retrieval_gradients(golden: Golden, found: Found, case: str, rank: int) -> None:
    told, own = golden.json(case), found[rank][case]
    assert_gradient_norms(own["gradient_norms"], told["ranks"][rank]["grad_norm"])
    assert_gradient_norms(own["mean_gradient_norms"], told["grad_norm_mean_of_ranks"])


def test_ranks_may_hold_texts_of_different_lengths(found: Found) -> None:
    """Else the negatives from all ranks above would not show it."""
    assert len({rank["train_retrieval_all_rank_world2"]["text_length"] for rank in found}) == WORLD


@pytest.mark.parametrize("kind", KINDS)
def test_half_batches_on_two_ranks_are_the_whole_batch_on_one(golden: Golden, found: Found, kind: str) -> None:
    objective, batch = finetuning_case(kind, golden)
    expected = gradients(objective, batch)
    largest = max(gradient.abs().max() for gradient in expected.values())
    for rank in found:
        assert rank[kind].keys() == expected.keys()
        for name, gradient in expected.items():
            assert (rank[kind][name] - gradient).abs().max() < 1e-5 * max(gradient.abs().max(), 1e-2 * largest), name


def test_pretraining_queues_are_those_of_one_rank_with_the_whole_batch(golden: Golden, found: Found) -> None:
    batch = pair_batch(golden, golden.json("train_pretrain"), length=30)
    expected = pretrain_queues(pretrain_objective(Picks()), batch)
    assert [int(after["queue_ptr"]) for after in expected] == [0, 6]
    for rank in found:
        for ours, theirs in zip(rank["pretrain"], expected, strict=True):
            assert torch.equal(ours["queue_ptr"], theirs["queue_ptr"])
            for name in ("image_queue", "text_queue"):
                assert relative_error(ours[name], theirs[name]) < 1e-5
