"""How fast `rlvr-bench import` reads, and how much memory it takes: python benchmarks/imports.py [--mb 1024] [--json].

Generated NeMo-Skills files (64 seeds, responses of about 4 KB of text that does not repeat) are imported in a process of
its own, beside the least that any reader does: json.loads of every line. Peak memory is that of the whole process.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

SEEDS = 64
WORDS = 4_000  # vocabulary of the made-up responses
RESPONSE_WORDS = 600

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
import_run(sys.argv[2:], ImportOptions(model="made", task="made", out=Path(sys.argv[1])))
"""
PEAK = """
import resource, time
print(time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def write(folder: Path, megabytes: int) -> int:
    """Files of about ``megabytes`` in all; returns their size in bytes."""
    rng = random.Random(1)
    vocabulary = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(3, 9))) for _ in range(WORDS)]
    size = 0
    for seed in range(SEEDS):
        with (folder / f"output-rs{seed}.jsonl").open("w", encoding="utf-8") as lines:
            written, number = 0, 0
            while written < megabytes * 2**20 / SEEDS:
                gold, said = number % 1000, rng.choice((number % 1000, rng.randrange(1000)))
                line = json.dumps(
                    {
                        "problem": f"What is {number} modulo 1000? " + vocabulary[number % WORDS],
                        "expected_answer": str(gold),
                        "generation": " ".join(rng.choices(vocabulary, k=RESPONSE_WORDS)) + f" \\boxed{{{said}}}",
                        "predicted_answer": str(said),
                        "symbolic_correct": said == gold,
                        "num_generated_tokens": RESPONSE_WORDS,
                    }
                )
                written += lines.write(line + "\n")
                number += 1
        size += written
    return size


def timed(code: str, size_gb: float, *arguments: str) -> dict[str, float]:
    """Wall and CPU seconds and peak MB of a Python process that reads ``size_gb``."""
    began = time.perf_counter()
    shown = subprocess.run(
        [sys.executable, "-c", code + PEAK, *arguments], capture_output=True, text=True, check=True, encoding="utf-8"
    )
    wall_s = time.perf_counter() - began
    cpu_s, peak_mb = map(float, shown.stdout.split())
    return {"wall_s": wall_s, "cpu_s": cpu_s, "gb_per_minute": size_gb / wall_s * 60, "peak_mb": peak_mb}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mb", type=int, default=1024)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "made"
        folder.mkdir()
        size = write(folder, options.mb) / 2**30
        measured: dict[str, Any] = {
            "size_gb": size,
            "json_loads": timed(PLAIN, size, *map(str, folder.iterdir())),
            "import": timed(IMPORT, size, f"{name}/runs", str(folder)),
        }
        stored = sum(file.stat().st_size for file in Path(name, "runs").rglob("*") if file.is_file()) / 2**30
    if options.json:
        print(json.dumps({**measured, "stored_gb": stored}, indent=1))
        return
    print(f"{size:.2f} GB of jsonl in {SEEDS} files; the run takes {stored:.2f} GB")
    for what in ("json_loads", "import"):
        row = measured[what]
        print(
            f"{what:12} {row['wall_s']:6.1f} s wall, {row['cpu_s']:6.1f} s CPU, {row['gb_per_minute']:5.2f} GB/min, "
            f"peak {row['peak_mb']:5.0f} MB"
        )


if __name__ == "__main__":
    main()
