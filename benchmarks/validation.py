"""CPU time of ``validation_metrics`` for 512 problems x 16 rollouts, beside a NumPy sort and beside the draws of its interval.

    python benchmarks/validation.py

Medians of 50 calls in CPU time of this process, taken in turn. The draws are NumPy's multinomial numbers of 2,000 bootstrap
replicates over the distinct counts, which a scorecard draws too: while values are to equal a scorecard's, this part stays.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from rlvr_bench import validation_metrics
from rlvr_bench.stats import REPLICATES, fresh_rng

PROBLEMS, ROLLOUTS, CALLS = 512, 16, 50


def cpu_ms(calls: dict[str, Callable[[], object]]) -> dict[str, float]:
    """The median of each call in milliseconds."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(CALLS):
        for name, call in calls.items():
            start = time.process_time()
            call()
            times[name].append(time.process_time() - start)
    return {name: 1e3 * float(np.median(values)) for name, values in times.items()}


def main() -> None:
    rng = np.random.default_rng(0)
    correct = rng.random((PROBLEMS, ROLLOUTS)) < rng.random((PROBLEMS, 1)) ** 2
    ids = [f"problem {i}" for i in range(PROBLEMS)]
    each_id, tokens = np.repeat(ids, ROLLOUTS).tolist(), rng.integers(1, 4096, correct.shape)
    shares = np.bincount(correct.sum(axis=1), minlength=ROLLOUTS + 1) / PROBLEMS
    numbers = rng.random(PROBLEMS * ROLLOUTS)
    medians = cpu_ms(
        {
            "np.sort of 8,192 numbers": lambda: np.sort(numbers),
            "draws of one interval": lambda: fresh_rng().multinomial(PROBLEMS, shares, size=REPLICATES),
            "validation_metrics, a table": lambda: validation_metrics(ids, correct),
            "validation_metrics, a list": lambda: validation_metrics(each_id, correct.ravel()),
            "with tokens and truncation": lambda: validation_metrics(
                ids, correct, tokens=tokens, truncated=tokens > 4000
            ),
        }
    )
    sort_ms = medians["np.sort of 8,192 numbers"]
    for name, value in medians.items():
        print(f"{name:28} {value:7.2f} ms   {value / sort_ms:6.1f} sorts")


if __name__ == "__main__":
    main()
