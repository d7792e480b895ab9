"""How units are shared out over ranks, and that real processes exchange what they must."""

import subprocess
import sys
from pathlib import Path

import pytest

from blipbench.evaluation.ranks import Ranks, shard


@pytest.mark.parametrize("world_size", [1, 2, 3, 8])
def test_every_unit_goes_to_one_rank(world_size: int) -> None:
    costs = [float(i % 7 + 1) for i in range(50)]
    shares = [shard(costs, world_size, rank) for rank in range(world_size)]
    assert sorted(unit for share in shares for unit in share) == list(range(50))


def test_shares_cost_about_the_same() -> None:
    costs = [1000.0] + [10.0] * 100
    loads = [sum(costs[unit] for unit in shard(costs, 2, rank)) for rank in range(2)]
    assert loads == [1000.0, 1000.0]


def test_one_rank_needs_no_process_group() -> None:
    assert Ranks().gather_bytes(b"alone") == [b"alone"]
    assert Ranks().from_main({"a": 1}) == {"a": 1}


def test_ranks_exchange_tables_and_values_of_different_sizes(tmp_path: Path) -> None:
    script = tmp_path / "exchange.py"
    script.write_text(
        """
import pyarrow as pa
from blipbench.evaluation import ranks as distributed

ranks = distributed.join()
table = pa.table({"rank": [ranks.rank] * ranks.rank}, schema=pa.schema([("rank", pa.int64())]))
assert [t.column("rank").to_pylist() for t in ranks.gather_tables(table)] == [[], [1], [2, 2]]
assert ranks.gather_bytes(b"x" * ranks.rank) == [b"", b"x", b"xx"]
assert ranks.from_main("main" if ranks.is_main else None) == "main"
distributed.leave()
"""
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "3", str(script)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
