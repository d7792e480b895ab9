"""Ranks of an evaluation under torchrun: this process's rank, and the few exchanges with others.

No other module of the evaluation uses torch.distributed. Ranks exchange little (tables of sparse scores, a few
numbers), which is on the CPU, so gloo serves on any machine. Ranks can finish a stage minutes apart, hence the long
timeout. If a rank dies, torchrun notices and ends the others.
"""

import contextlib
import dataclasses
import datetime
import json
import os
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import torch
import torch.distributed as dist

from blipbench.errors import BlipbenchError, SharedError

TIMEOUT = datetime.timedelta(hours=24)


@dataclasses.dataclass(frozen=True)
class Ranks:
    rank: int = 0
    world_size: int = 1
    local_rank: int = 0

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def gather_bytes(self, payload: bytes) -> list[bytes]:
        """Every rank's bytes, in rank order, on every rank."""
        if self.world_size == 1:
            return [payload]
        sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(self.world_size)]
        dist.all_gather(sizes, torch.tensor([len(payload)]))
        longest = max(int(size) for size in sizes)
        mine = torch.zeros(longest, dtype=torch.uint8)
        mine[: len(payload)] = torch.frombuffer(bytearray(payload), dtype=torch.uint8) if payload else mine[:0]
        received = [torch.empty(longest, dtype=torch.uint8) for _ in range(self.world_size)]
        dist.all_gather(received, mine)
        return [data[: int(size)].numpy().tobytes() for data, size in zip(received, sizes, strict=True)]

    def gather_tables(self, table: pa.Table) -> list[pa.Table]:
        if self.world_size == 1:
            return [table]
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as stream:
            stream.write_table(table)
        return [pa.ipc.open_stream(data).read_all() for data in self.gather_bytes(sink.getvalue().to_pybytes())]

    def gather_json(self, value: Any) -> list[Any]:
        return [json.loads(data) for data in self.gather_bytes(json.dumps(value).encode())]

    def any(self, flag: bool) -> bool:
        """Whether `flag` is set on any rank."""
        if self.world_size == 1:
            return flag
        count = torch.tensor(int(flag))
        dist.all_reduce(count)
        return bool(count)

    def from_main(self, value: Any) -> Any:
        """Rank 0's value (anything that JSON can hold), on every rank."""
        return self.gather_json(value if self.is_main else None)[0]

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """The ranks meet at the end of the block. If one raised a BlipbenchError, all raise it as a SharedError."""
        error: BlipbenchError | None = None
        try:
            yield
        except BlipbenchError as mine:
            if self.world_size == 1:
                raise
            error = mine
        told = self.gather_json(None if error is None else [str(error), error.exit_code])
        failed = [rank for rank, one in enumerate(told) if one is not None]
        if failed:
            message, exit_code = told[failed[0]]
            raise SharedError(message, exit_code, is_mine=self.rank == failed[0]) from error


def join(on_gpus: bool = False) -> Ranks:
    """The ranks that torchrun started, or a single one. `on_gpus`: tensors on GPUs are exchanged too."""
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    if world_size == 1:
        return Ranks()
    if not dist.is_initialized():
        dist.init_process_group("cpu:gloo,cuda:nccl" if on_gpus else "gloo", timeout=TIMEOUT)
    return Ranks(dist.get_rank(), world_size, int(os.environ.get("LOCAL_RANK", "0")))


def leave() -> None:
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def shard(costs: list[float], world_size: int, rank: int) -> list[int]:
    """The units of this rank, ascending. The costliest are assigned first, each to the rank with the least work.

    Every rank computes the same split from the same costs (longest-processing-time rule, Graham 1969).
    """
    loads = [0.0] * world_size
    mine = []
    for unit in sorted(range(len(costs)), key=lambda i: (-costs[i], i)):
        target = loads.index(min(loads))
        loads[target] += costs[unit]
        if target == rank:
            mine.append(unit)
    return sorted(mine)
