"""Training steps by two real gloo processes, in one start for all of them; what each rank saw comes back as a dict."""

from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing
from goldens import Golden
from objective_goldens import (
    KINDS,
    Picks,
    finetuning_case,
    gradient_norms,
    pair_batch,
    pretrain_objective,
    retrieval_objective,
    total,
)
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from blipbench.training.batches import NlvrBatch, PairBatch, VqaBatch

WORLD = 2
RETRIEVAL_CASES = ("train_retrieval_world2", "train_retrieval_all_rank_world2")
Batch = PairBatch | VqaBatch | NlvrBatch


def run_ranks(folder: Path) -> list[dict[str, Any]]:
    """Every rank's findings, in rank order."""
    torch.multiprocessing.spawn(_rank, (folder,), nprocs=WORLD)
    return [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in range(WORLD)]


def half(batch: Batch, rank: int) -> Batch:
    """The first or the second half of the examples, with their answers."""
    n = len(batch.labels if isinstance(batch, NlvrBatch) else batch.images) // WORLD
    own = slice(rank * n, (rank + 1) * n)
    if isinstance(batch, NlvrBatch):
        return NlvrBatch(batch.images, *(tensor[own] for tensor in batch[1:]))
    if isinstance(batch, PairBatch):
        return PairBatch(*(tensor[own] for tensor in batch))
    ends = batch.answers_per_question.cumsum(0)
    answers = slice(0 if rank == 0 else int(ends[n - 1]), int(ends[own][-1]))
    return VqaBatch(
        batch.images[own],
        torch.arange(n),
        batch.question_ids[own],
        batch.question_mask[own],
        batch.answer_ids[answers],
        batch.answer_mask[answers],
        batch.answers_per_question[own],
        batch.weights[answers],
    )


def gradients(module: nn.Module, batch: Batch) -> dict[str, torch.Tensor]:
    """What one step would apply, by the objective's own names."""
    total(module(batch, 0.4)).backward()
    return {name.removeprefix("module."): p.grad for name, p in module.named_parameters() if p.grad is not None}


def pretrain_queues(module: nn.Module, batch: Batch) -> list[dict[str, torch.Tensor]]:
    """Queues and pointer after each of two steps without an update: the first fills the queue to its end."""
    inner = module.module if isinstance(module, DistributedDataParallel) else module
    found = []
    for _ in range(2):
        module(batch, 0.4)
        found.append({name: inner.state_dict()[name].clone() for name in ("image_queue", "text_queue", "queue_ptr")})
    return found


def _rank(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=WORLD)
    golden = Golden()
    found: dict[str, Any] = {case: _retrieval(golden, case, rank) for case in RETRIEVAL_CASES}
    for kind in KINDS:
        objective, batch = finetuning_case(kind, golden)
        found[kind] = gradients(_distributed(objective), half(batch, rank))
    batch = pair_batch(golden, golden.json("train_pretrain"), length=30)
    found["pretrain"] = pretrain_queues(_distributed(pretrain_objective(Picks())), half(batch, rank))
    torch.save(found, folder / f"rank{rank}.pt")
    dist.destroy_process_group()


def _retrieval(golden: Golden, case: str, rank: int) -> dict[str, Any]:
    """Texts are padded to the longest of the rank's own, so that ranks hold texts of different lengths."""
    told, picks = golden.json(case)["ranks"][rank], Picks()
    batch = pair_batch(golden, told)
    objective = retrieval_objective(picks, told["negative_all_rank"])
    losses = objective(batch, told["alpha"])
    total(losses).backward()
    parallel = _distributed(retrieval_objective(Picks(), told["negative_all_rank"]))
    total(parallel(batch, told["alpha"])).backward()
    return {
        "losses": {name: loss.detach() for name, loss in losses.items()},
        "weights": picks.weights,
        "picked": [picked.tolist() for picked in picks.picked],
        "queues": {name: tensor for name, tensor in objective.state_dict().items() if "queue" in name},
        "gradient_norms": gradient_norms(objective),
        "mean_gradient_norms": gradient_norms(parallel.module),
        "text_length": batch.input_ids.shape[1],
    }


def _distributed(objective: nn.Module) -> DistributedDataParallel:
    return DistributedDataParallel(objective, broadcast_buffers=False)
