"""How fast `rlvr-bench import` reads, and how much memory it takes: python benchmarks/imports.py [--mb 64] [--json].

Generated files (64 rollouts per problem, responses of about 4 KB of text that does not repeat) are imported in a process of
their own, beside the least that any reader does: json.loads of every line. Peak memory is that of the whole process. The
files are those of NeMo-Skills, and tables that are read through a mapping. The published numbers are those of --mb 1024.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

SEEDS = 64
WORDS = 4_000  # vocabulary of the made-up responses
RESPONSE_WORDS = 600
LINE_BYTES = 4_300

PLAIN = """
import json, sys
for name in sys.argv[1:]:
    with open(name, encoding="utf-8") as lines:
        for line in lines:
            json.loads(line)
"""
IMPORT = """
import sys
from pathlib import Path
from rlvr_bench.pipeline.importing import ImportOptions, import_run
mapping = sys.argv[2] or None
import_run(sys.argv[3:], ImportOptions(model="made", task="made", map=mapping, out=Path(sys.argv[1])))
"""
PEAK = """
import resource, time
print(time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""
ROWS = "problem=problem,gold=expected_answer,text=generation,answer=predicted_answer,verdict=symbolic_correct"
INDEXED = ROWS + ",index=seed,tokens=num_generated_tokens"
LISTS = "problem=problem,gold=gold,text=rollouts[].text,answer=rollouts[].pred,verdict=rollouts[].correct"


def rows(megabytes: int) -> Iterator[dict[str, Any]]:
    """Rollouts of about ``megabytes`` in all, seed by seed."""
    rng = random.Random(1)
    vocabulary = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(3, 9))) for _ in range(WORDS)]
    problems = max(1, megabytes * 2**20 // LINE_BYTES // SEEDS)
    for seed in range(SEEDS):
        for number in range(problems):
            gold, said = number % 1000, rng.choice((number % 1000, rng.randrange(1000)))
            yield {
                "problem": f"What is {number} modulo 1000? " + vocabulary[number % WORDS],
                "expected_answer": str(gold),
                "generation": " ".join(rng.choices(vocabulary, k=RESPONSE_WORDS)) + f" \\boxed{{{said}}}",
                "predicted_answer": str(said),
                "symbolic_correct": said == gold,
                "num_generated_tokens": RESPONSE_WORDS,
                "seed": seed,
            }


def write_seeds(folder: Path, megabytes: int) -> None:
    """A file per seed, as NeMo-Skills writes them."""
    files = [(folder / f"output-rs{seed}.jsonl").open("w", encoding="utf-8") for seed in range(SEEDS)]
    for row in rows(megabytes):
        files[row["seed"]].write(json.dumps(row) + "\n")
    for file in files:
        file.close()


def write_lines(folder: Path, megabytes: int) -> None:
    with (folder / "rows.jsonl").open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows(megabytes))


def write_packed(folder: Path, megabytes: int) -> None:
    with gzip.open(folder / "rows.jsonl.gz", "wt", compresslevel=1, encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows(megabytes))


def write_array(folder: Path, megabytes: int) -> None:
    with (folder / "rows.json").open("w", encoding="utf-8") as file:
        for number, row in enumerate(rows(megabytes)):
            file.write((", " if number else "[") + json.dumps(row))
        file.write("]")


def write_lists(folder: Path, megabytes: int) -> None:
    """An object of problems, each with a list of 64 rollouts."""
    with (folder / "problems.json").open("w", encoding="utf-8") as file:
        file.write('{"model": "made", "problems": {')
        gathered: list[dict[str, Any]] = []
        number = 0
        for row in rows(megabytes):
            gathered.append(
                {"text": row["generation"], "pred": row["predicted_answer"], "correct": row["symbolic_correct"]}
            )
            if len(gathered) == SEEDS:
                problem = {"problem": number, "gold": row["expected_answer"], "rollouts": gathered}
                file.write((", " if number else "") + f'"p{number}": ' + json.dumps(problem))
                gathered, number = [], number + 1
        file.write("}}")


def write_parquet(folder: Path, megabytes: int) -> None:
    writer: pq.ParquetWriter | None = None
    gathered: list[dict[str, Any]] = []
    for row in rows(megabytes):
        gathered.append(row)
        if len(gathered) == 2_000:
            table = pa.Table.from_pylist(gathered)
            writer = writer or pq.ParquetWriter(folder / "rows.parquet", table.schema)
            writer.write_table(table)
            gathered = []
    if writer is not None:
        writer.close()


CASES: dict[str, tuple[Callable[[Path, int], None], str]] = {
    "nemo-skills": (write_seeds, ""),
    "jsonl": (write_lines, ROWS),
    "jsonl, index": (write_lines, INDEXED),
    "jsonl.gz": (write_packed, ROWS),
    "json array": (write_array, ROWS),
    "json object": (write_lists, LISTS),
    "parquet": (write_parquet, ROWS),
}


def timed(code: str, size_gb: float, *arguments: str) -> dict[str, float]:
    """Wall and CPU seconds and peak MB of a Python process that reads ``size_gb``."""
    began = time.perf_counter()
    shown = subprocess.run(
        [sys.executable, "-c", code + PEAK, *arguments], capture_output=True, text=True, check=True, encoding="utf-8"
    )
    wall_s = time.perf_counter() - began
    cpu_s, peak_mb = map(float, shown.stdout.split()[-2:])
    return {"wall_s": wall_s, "cpu_s": cpu_s, "gb_per_minute": size_gb / wall_s * 60, "peak_mb": peak_mb}


def measured(name: str, megabytes: int) -> dict[str, float]:
    """What importing the files of one case takes."""
    write, mapping = CASES[name]
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made) / "files"
        folder.mkdir()
        write(folder, megabytes)
        return timed(IMPORT, megabytes / 1024, f"{made}/runs", mapping, str(folder))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mb", type=int, default=int(os.environ.get("RLVR_BENCH_MB", "64")))
    parser.add_argument("--case", choices=list(CASES), action="append")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        write_lines(Path(name), options.mb)
        results = {"json.loads": timed(PLAIN, options.mb / 1024, f"{name}/rows.jsonl")}
    for case in options.case or CASES:
        results[case] = measured(case, options.mb)
    if options.json:
        print(json.dumps({"mb": options.mb, **results}, indent=1))
        return
    print(f"{options.mb} MB of rollouts")
    for name, row in results.items():
        ratio = row["cpu_s"] / results["json.loads"]["cpu_s"]
        print(
            f"{name:12} {row['wall_s']:6.1f} s wall, {row['cpu_s']:6.1f} s CPU ({ratio:4.1f} x json.loads), "
            f"{row['gb_per_minute']:5.2f} GB/min, peak {row['peak_mb']:5.0f} MB"
        )


if __name__ == "__main__":
    main()
