"""How long ``status`` takes on a run of ten million rollouts, beside a parquet library that reads every footer.

python benchmarks/status.py [ROLLOUTS]
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from rlvr_bench.pipeline import GradeOptions, SampleOptions, evaluate
from rlvr_bench.pipeline.status import States, status
from rlvr_bench.store import open_run
from rlvr_bench.store.shards import SHARD_ROLLOUTS


def main(rollouts: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        run = made(Path(folder), rollouts)
        files = [*run.rglob("*.parquet")]
        states = States()
        print(f"{rollouts:,} rollouts in {len(files):,} shards")
        print(f"status          {seconds(lambda: states.read([run])):.2f} s")
        print(f"status again    {seconds(lambda: states.read([run])):.2f} s")
        print(f"parquet footers {seconds(lambda: [pq.read_metadata(file) for file in files]):.2f} s")
        (done,) = status(run)
        print(json.dumps(msgspec.to_builtins(done.result)))


def made(folder: Path, rollouts: int) -> Path:
    """A run whose shards are all links to the first one: their number and size are what counts."""
    options = SampleOptions(n=16, limit=SHARD_ROLLOUTS // 16, out=folder)
    run, _ = evaluate("fake:0.3", "double_countdown", options, GradeOptions(workers=1))
    opened = open_run(run)
    for shards in (opened.rollouts.path, *(run / "verdicts").iterdir()):
        tables = [pq.read_table(file) for file in sorted(shards.glob("*.parquet"))]
        for file in shards.glob("*.parquet"):
            file.unlink()
        whole = pa.concat_tables(tables).unify_dictionaries().combine_chunks()
        type(opened.rollouts)(shards, whole.schema.remove_metadata()).append(whole)
        (first,) = shards.glob("*.parquet")
        for number in range(1, rollouts // SHARD_ROLLOUTS):
            os.link(first, shards / f"{number:06d}-{first.name.partition('-')[2]}")
    return run


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000_000)
