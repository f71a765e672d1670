"""Adaptive budgets: rollouts drawn and error of pass@k under --stop-after R, against drawing all of them.

    python benchmarks/adaptive.py --counts pythia_math_pass_at_k.parquet --scorecard RUN/scorecard.json

``--counts`` holds real counts of 10,000 rollouts per problem (columns Model, Problem Idx, Num. Samples Total, Num.
Samples Correct: the Large Language Monkeys data of Schaeffer et al. 2025); rollouts are drawn from them without
replacement, and the truth is pass@k of all 10,000. ``--scorecard`` is a run of ours: its solve rates, smoothed, are
taken as the truth and rollouts drawn from them. Each replicate draws every problem in batches, in order, and stops it
by the rule; the same draws, not stopped, are the full sample it is set against. Error: root mean square over replicates
of mean pass@k minus the truth.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

from rlvr_bench import stats

KS = (1, 16, 256, 1024)
RULES = (4, 8, 16, 32)
N_MAX, BATCH = 1024, 16
Counts = npt.NDArray[np.int64]


@dataclass
class Source:
    """A set of problems: how to draw the correct rollouts of each batch (problems, batches), and the true pass@k."""

    name: str
    truth: npt.NDArray[np.float64]
    c: Counts
    n: Counts | None
    p: npt.NDArray[np.float64]

    def draw(self, rng: np.random.Generator) -> Counts:
        batches = N_MAX // BATCH
        if self.n is None:
            return rng.binomial(BATCH, self.p[:, None], size=(len(self.p), batches))
        n_correct = rng.hypergeometric(self.c, self.n - self.c, N_MAX)
        return np.stack([rng.multivariate_hypergeometric([BATCH] * batches, int(count)) for count in n_correct])


def pythia(file: Path) -> list[Source]:
    import pyarrow.parquet as pq

    columns = ["Model", "Problem Idx", "Num. Samples Total", "Num. Samples Correct"]
    rows = {tuple(row.values()) for row in pq.read_table(file, columns=columns).to_pylist()}
    sources = []
    for model in sorted({row[0] for row in rows}, key=lambda name: sum(row[3] for row in rows if row[0] == name)):
        mine = sorted(row[1:] for row in rows if row[0] == model)
        n, c = (np.array(column, dtype=np.int64) for column in list(zip(*mine, strict=True))[1:])
        sources.append(Source(model, stats.pass_at_k(c, n, KS).mean(axis=0), c, n, c / n))
    return sources


def scorecard(file: Path) -> Source:
    card = json.loads(file.read_text())
    c = np.array([problem["c"] for problem in card["problems"]])
    n = np.array([problem["n"] for problem in card["problems"]])
    p = (c + 0.5) / (n + 1)
    truth = (1 - (1 - p[:, None]) ** np.array(KS)).mean(axis=0)
    return Source(card["run"]["model"], truth, c, None, p)


def stopped(draws: Counts, rule: int) -> tuple[Counts, Counts]:
    """Correct rollouts and rollouts drawn per problem when each stops at the first batch end with ``rule`` correct."""
    total = draws.cumsum(axis=1)
    last = np.where((total >= rule).any(axis=1), (total >= rule).argmax(axis=1), draws.shape[1] - 1)
    return total[np.arange(len(draws)), last], (last + 1) * BATCH


def measure(source: Source, replicates: int, rng: np.random.Generator) -> list[list[str]]:
    errors: dict[int, list[npt.NDArray[np.float64]]] = {rule: [] for rule in (0, *RULES)}
    drawn: dict[int, list[float]] = {rule: [] for rule in RULES}
    for _ in range(replicates):
        draws = source.draw(rng)
        full = stats.pass_at_k(draws.sum(axis=1), np.full(len(draws), N_MAX), KS)
        errors[0].append(full.mean(axis=0) - source.truth)
        for rule in RULES:
            c, n = stopped(draws, rule)
            estimate = stats.pass_at_k_stopped(c, n, KS, rule, N_MAX, BATCH).mean(axis=0)
            errors[rule].append(estimate - source.truth)
            drawn[rule].append(float(n.mean()) / N_MAX)
    rows = []
    for rule, of_rule in errors.items():
        rmse, bias = np.sqrt(np.mean(np.square(of_rule), axis=0)), np.mean(of_rule, axis=0)
        share = 1.0 if rule == 0 else float(np.mean(drawn[rule]))
        cells = [f"{100 * e:.2f} ({100 * b:+.2f})" for e, b in zip(rmse, bias, strict=True)]
        rows.append([source.name, "all" if rule == 0 else f"R = {rule}", f"{share:.1%}", *cells])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", type=Path)
    parser.add_argument("--scorecard", type=Path)
    parser.add_argument("--replicates", type=int, default=200)
    args = parser.parse_args()
    sources = (pythia(args.counts) if args.counts else []) + ([scorecard(args.scorecard)] if args.scorecard else [])
    table = Table(title=f"n_max {N_MAX}, batches of {BATCH}, {args.replicates} replicates; error (bias) in points")
    for column in ("problems", "rule", "drawn", *(f"pass@{k}" for k in KS)):
        table.add_column(column, justify="right")
    for source in sources:
        for row in measure(source, args.replicates, np.random.default_rng(0)):
            table.add_row(*row)
        table.add_section()
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
