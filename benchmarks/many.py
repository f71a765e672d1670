"""Work over many runs in one process and in two: scoring runs, a leaderboard, and a report's page.

python benchmarks/many.py [--runs 200] [--problems 300] [-n 64]

Prints the ratio of wall times, -j 1 to -j 2 (2 would be perfect), and whether both wrote the same bytes.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np

from rlvr_bench import SampleOptions, evaluate, leaderboard, report
from rlvr_bench.leaderboards import csv_text
from rlvr_bench.pipeline.several import score_all
from rlvr_bench.scorecard import Scorecard, encode_scorecard

TASK = "double_countdown"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument(
        "--report", type=int, default=12, help="runs on the page, which has every pair with two baselines"
    )
    parser.add_argument("--problems", type=int, default=300)
    parser.add_argument("-n", type=int, default=64)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run, card = evaluate("fake:0.3", TASK, SampleOptions(n=given.n, limit=given.problems, out=folder / "one"))
        runs = [Path(shutil.copytree(run, folder / "runs" / f"{i:03}")) for i in range(given.runs)]
        cards = [written(folder / "cards", card, i) for i in range(given.runs)]
        measure("score", lambda jobs: scored(runs, jobs))
        measure("leaderboard", lambda jobs: csv_text(leaderboard(cards, jobs=jobs).rows, (1, 4, 16, 64)).encode())
        measure("report", lambda jobs: page(cards[: given.report], folder / "page.html", jobs))


def written(folder: Path, card: Scorecard, number: int) -> Path:
    """A scorecard of another model: the run's, with counts drawn anew."""
    rng = np.random.default_rng(number)
    counts = rng.binomial([problem.n for problem in card.problems], rng.beta(0.4, 0.8, len(card.problems)))
    problems = [msgspec.structs.replace(problem, c=int(c)) for problem, c in zip(card.problems, counts, strict=True)]
    run = msgspec.structs.replace(card.run, model=f"m{number:03}", weights=f"w{number}", seed=number)
    folder.mkdir(exist_ok=True)
    file = folder / f"{number:03}.json"
    file.write_bytes(encode_scorecard(msgspec.structs.replace(card, run=run, problems=problems, estimates=[])))
    return file


def scored(runs: list[Path], jobs: int) -> bytes:
    done = score_all(runs, jobs=jobs)
    assert not [item for item in done if item.error]
    return b"".join((run / "scorecard.json").read_bytes() for run in runs)


def page(cards: list[Path], html: Path, jobs: int) -> bytes:
    report(cards, html, jobs=jobs)
    return html.read_bytes()


def measure(name: str, work: Callable[[int], bytes]) -> None:
    seconds, content = [], []
    for jobs in (1, 2):
        began = time.perf_counter()
        content.append(work(jobs))
        seconds.append(time.perf_counter() - began)
    same = "the same bytes" if content[0] == content[1] else "DIFFERENT BYTES"
    print(f"{name:12} -j 1 {seconds[0]:6.1f} s, -j 2 {seconds[1]:6.1f} s: ratio {seconds[0] / seconds[1]:.2f}, {same}")


if __name__ == "__main__":
    main()
