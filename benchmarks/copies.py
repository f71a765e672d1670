"""How often `copied_rate` finds copies among the rollouts of a run: false alarms, and shares of copies that were made.

    rlvr-bench evaluate --model zoo:base --task double_countdown -n 640 --limit 20 --temperature 1 --top-p 1
    python -m benchmarks.copies runs/zoo-base/double_countdown [--rollouts 64] [--repeats 400]

Each repetition takes some rollouts of each problem at random, replaces a share of them by an earlier one of the same
problem, and tests them. Prints the lines of docs/statistics.md.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import msgspec
import numpy as np

from rlvr_bench import stats
from rlvr_bench.records import Outcomes
from rlvr_bench.scorers.copies import copied
from rlvr_bench.store import open_run
from rlvr_bench.store.outcomes import read_outcomes

SHARES = (0.0, 0.005, 0.01, 0.02, 0.05)


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--rollouts", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=400)
    given = parser.parse_args(argv)
    whole = read_outcomes(open_run(given.run))
    rng = stats.fresh_rng()
    for share in SHARES:
        tests = [copied(with_copies(rng, whole, given.rollouts, share))[0] for _ in range(given.repeats)]
        alarms = np.mean([bool(test.low) for test in tests])
        held = np.mean([(test.low or 0) <= share <= (test.high or 0) for test in tests])
        mean = np.mean([test.value or 0.0 for test in tests])
        sys.stdout.write(
            f"{share:.1%} copies: found in {alarms:.1%}, estimate {mean:.2%}, interval holds it in {held:.1%}\n"
        )
        sys.stdout.flush()


def with_copies(rng: np.random.Generator, whole: Outcomes, n: int, share: float) -> Outcomes:
    """``n`` rollouts of each problem, of which a share are copies of earlier ones."""
    rows = []
    for size, end in zip(whole.n_samples, np.cumsum(whole.n_samples), strict=True):
        chosen = end - size + rng.permutation(size)[:n]
        for j in np.flatnonzero(rng.random(len(chosen)) < share):
            chosen[j] = chosen[rng.integers(max(j, 1))]
        rows.append(chosen)
    taken = np.concatenate(rows)
    columns = {
        name: value[taken] for name, value in msgspec.structs.asdict(whole).items() if isinstance(value, np.ndarray)
    }
    return msgspec.structs.replace(whole, flags={}, **columns)


if __name__ == "__main__":
    main(sys.argv[1:])
