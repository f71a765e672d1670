"""Coverage of solve rates from borrowed rollouts on the zoo, as a Markdown table.

    python -m benchmarks.reach --work build/reach [--repeats 200]

Target: ``base``, on the 40 problems that it seldom solves. Large samples are drawn once (``benchmarks.reach_truth``: 100,000
rollouts a problem of base, 8,192 of each other checkpoint) and kept in the folder ``--work``. Small runs are then drawn from
them without replacement, many times. The truth is the balance heuristic over everything, whose own error is a few percent;
results/base_100k.csv has it beside the plain counts. About half an hour on two idle cores, nearly all of it the large samples.

Columns: the interval holds; its ends over the true rate (median); root mean square error of the estimate over the true rate,
and of the target's correct share alone; how often the certain bound is above the truth; of the estimates that are sound, how
often p exp(+-2.2 s), s the relative standard error, would hold.
"""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from benchmarks.reach_truth import TASK, correct_responses, hardest
from rlvr_bench.records import NEUTRAL
from rlvr_bench.samplers.logprobs import Passage
from rlvr_bench.samplers.logprobs_transformers import TransformersScorer
from rlvr_bench.samplers.protocol import SamplerOptions
from rlvr_bench.stats.borrowed_rate import (
    BorrowedRate,
    KnownPart,
    balance_weights,
    borrowed_rate,
    certain_bound,
)
from rlvr_bench.task import load_task
from rlvr_bench.zoo.checkpoints import checkpoint_path
from rlvr_bench.zoo.tokenizer import BOS, encode

POOLS = {"base": 100_000, "sft": 8192, "grpo": 8192, "rft": 8192, "rft-entropy": 8192}
MODELS = list(POOLS)
RESULTS = Path(__file__).parent.parent / "results" / "base_100k.csv"
ROUNDED = 1 + 1e-6
Pool = dict[str, list[tuple[tuple[int, ...], int]]]  # problem: correct responses and how often they were drawn


class Known(NamedTuple):
    """One problem: counts (D, S) of its distinct correct responses in the large samples, and their logprobs (D, S)."""

    name: str
    counts: npt.NDArray[np.int64]
    logprob: npt.NDArray[np.float64]
    truth: BorrowedRate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=200)
    asked = parser.parse_args()
    asked.work.mkdir(parents=True, exist_ok=True)
    pools = [pool_of(model, asked.work / f"{model}.json") for model in MODELS]
    known = known_problems(pools)
    write_truth(known)
    say("| base | others | of | holds | low / p | high / p | error | base alone | bound too high | +-2.2 s holds |")
    say("|---|---|---|---|---|---|---|---|---|---|")
    rng = np.random.default_rng(0)
    for own, other in ((64, 64), (1024, 1024), (0, 32), (0, 1024)):
        for lenders in (["sft"], ["grpo"], ["rft"], ["sft", "grpo", "rft", "rft-entropy"]):
            say(row(rng, known, own, other, lenders, asked.repeats))


def pool_of(model: str, file: Path) -> Pool:
    """The large sample of a checkpoint, drawn where the file is missing."""
    if not file.is_file():
        drawn = {
            name: list(found.items()) for name, found in correct_responses(model, POOLS[model], MODELS.index(model) > 0)
        }
        file.write_bytes(msgspec.json.encode(drawn))
    return msgspec.json.decode(file.read_bytes(), type=Pool)


def known_problems(pools: list[Pool]) -> list[Known]:
    problems = {problem.id: problem for problem in hardest(load_task(TASK))}
    keys = [
        (name, ids) for name in problems for ids in sorted({ids for pool in pools for ids, _ in pool.get(name, [])})
    ]
    prompts = {name: (BOS, *encode(problem.question)) for name, problem in problems.items()}
    passages = [Passage(prompts[name], np.array(ids, dtype=np.int32)) for name, ids in keys]
    logprob = np.zeros((len(keys), len(MODELS)))
    for s, model in enumerate(MODELS):
        scorer = TransformersScorer(SamplerOptions(model=str(checkpoint_path(model)), engine_args={"threads": 1}))
        for i, score in scorer.score_law(passages, NEUTRAL):
            logprob[i, s] = score.logprob
    counts = [{(name, ids): n for name, rows in pool.items() for ids, n in rows} for pool in pools]
    known = []
    for name in problems:
        rows = [i for i, (problem, _) in enumerate(keys) if problem == name]
        table = np.array([[count.get(keys[i], 0) for count in counts] for i in rows], dtype=np.int64).reshape(
            -1, len(MODELS)
        )
        everything = np.array(list(POOLS.values()))
        known.append(Known(name, table, logprob[rows], rate_from(table, logprob[rows], everything)))
    return known


def rate_from(
    counts: npt.NDArray[np.int64], logprob: npt.NDArray[np.float64], n: npt.NDArray[np.int64]
) -> BorrowedRate:
    """The rate from these counts (D, S) of correct responses in ``n`` (S,) rollouts."""
    response, sample = (np.repeat(axis, counts.ravel()) for axis in np.indices(counts.shape).reshape(2, -1))
    weights = balance_weights(logprob[:, 0], logprob, n)[response]
    of_others = counts[:, 1:].any(axis=1)
    part = KnownPart(
        certain=certain_bound(logprob[counts.any(axis=1), 0]),
        others=certain_bound(logprob[of_others, 0]),
        drawn=int(n[0]),
        rest=int(counts[~of_others, 0].sum()),
    )
    return borrowed_rate(weights, sample, n, part)


def write_truth(known: list[Known]) -> None:
    with RESULTS.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["problem", "n", "c", "rate", "relative_error"])
        for x in known:
            writer.writerow(
                [x.name, POOLS["base"], x.counts[:, 0].sum(), f"{x.truth.rate:.4g}", f"{x.truth.error:.2g}"]
            )


def row(rng: np.random.Generator, known: list[Known], own: int, other: int, lenders: list[str], repeats: int) -> str:
    n = np.array([own if model == "base" else other * (model in lenders) for model in MODELS])
    rows = [trial(rng, x, n) for x in known for _ in range(repeats)]
    holds, low, high, error, alone, violated, normal = (np.array(column) for column in zip(*rows, strict=True))
    cells = [
        f"{holds.mean():.1%}",
        f"{np.median(low):.2f}",
        f"{np.median(high):.1f}",
        f"{np.sqrt(np.mean(error**2)):.2f}",
        f"{np.sqrt(np.mean(alone**2)):.2f}" if own else "-",
        str(int(violated.sum())),
        "-" if np.isnan(normal).all() else f"{np.nanmean(normal):.1%} of {np.mean(~np.isnan(normal)):.0%}",
    ]
    return f"| {own} | {other} | {', '.join(lenders)} | {' | '.join(cells)} |"


def trial(rng: np.random.Generator, x: Known, n: npt.NDArray[np.int64]) -> tuple[float, ...]:
    """One set of small runs of one problem; the last value is NaN where the estimate is not sound, or none of base."""
    counts = np.stack([drawn(rng, x.counts[:, s], size, n[s]) for s, size in enumerate(POOLS.values())], axis=1)
    result, p = rate_from(counts, x.logprob, n), x.truth.rate
    spread = np.exp(2.2 * result.error) * ROUNDED if result.is_sound and n[0] else np.nan
    return (
        result.low <= p * ROUNDED and p <= result.high * ROUNDED,
        result.low / p,
        result.high / p,
        result.rate / p - 1,
        counts[:, 0].sum() / max(n[0], 1) / p - 1,
        certain_bound(x.logprob[counts.any(axis=1), 0]) > p * ROUNDED,
        np.nan if np.isnan(spread) else float(p / spread <= result.rate <= p * spread),
    )


def drawn(rng: np.random.Generator, counts: npt.NDArray[np.int64], size: int, n: int) -> npt.NDArray[np.int64]:
    """How often each correct response is among ``n`` of the ``size`` rollouts of a large sample."""
    return rng.multivariate_hypergeometric(np.append(counts, size - counts.sum()), n, method="marginals")[:-1]


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
