"""Rebuilds results/: every zoo checkpoint on the held-out problems, the leaderboard, the plots and the table of claims.

    make results                        evaluate what ships, train and evaluate the extra seeds (about two hours)
    make results RESULTS_FLAGS=--retrain   train everything but base anew first and put it into the package

Work that was done is kept under build/results and not done again. Needs torch and matplotlib.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import pyarrow.dataset as ds
from results_page import write_page
from results_plots import write_plots

from rlvr_bench import stats
from rlvr_bench.scorecard import Scorecard, decode_scorecard
from rlvr_bench.zoo.checkpoints import Interval, Measured, list_steps
from rlvr_bench.zoo.publish import publish, write_measured
from rlvr_bench.zoo.recipes import RECIPES

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "results"
TASK = "double_countdown"
N, N_EXTRA = 1024, 256
# results/ was drawn with seeds that leave the model out; with these it comes out the same to the count.
SCHEME = ("--seed-scheme", "1")
SEEDS = (1, 2)
_MAIN = (
    *("base", "sft", "grpo", "rft", "clip-higher", "pass-at-k", "position-shaping", "rft-rbf", "grpo-entropy"),
    *("kl-cov", "ppl-shaping", "kl", "rft-noise", "rft-entropy", "rft-noise-rbf", "guess"),
)
_SEEDED = (
    ("grpo", "clip-higher", "pass-at-k", "position-shaping"),
    ("grpo-entropy", "kl-cov", "ppl-shaping", "kl"),
)


class Job(NamedTuple):
    """One run: its name in results/, what ``--model`` is, rollouts per problem, and the seed of the rollouts.

    Every run has a seed of its own: with one for all, checkpoints that are much alike would draw much the same.
    """

    label: str
    model: str
    n: int
    seed: int


def jobs() -> list[Job]:
    main = [Job(name, f"zoo:{name}", N, seed) for seed, name in enumerate(_MAIN, 1)]
    series = [Job(f"grpo@{s}", f"zoo:grpo@{s}", N_EXTRA, seed) for seed, s in enumerate(list_steps("grpo"), 31)]
    names = [f"{name}-s{seed}" for group in _SEEDED for seed in SEEDS for name in group]
    seeds = [Job(name, f"seeds/{name}", N_EXTRA, seed) for seed, name in enumerate(names, 41)]
    return main + series + seeds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "results", help="Where runs and seeds are kept.")
    parser.add_argument("--retrain", action="store_true", help="Train the shipped checkpoints anew, base excepted.")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    asked = parser.parse_args()
    work: Path = asked.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(asked.processes) as pool:
        if asked.retrain:
            names = [name for name in RECIPES if name != "base"]
            for folder in pool.map(lambda name: train(work, name, 0), names):
                publish(folder)
        runs = dict(pool.map(lambda job: (job.label, evaluate(work, job)), jobs()))
    write_scorecards(runs)
    write_analyses(work)
    guess = measured(runs["guess"])
    for name in _MAIN[:-1]:
        write_measured(name, measured(runs[name]), guess)
    write_leaderboard()
    write_page(RESULTS)
    write_plots(RESULTS)


def train(work: Path, name: str, seed: int) -> Path:
    """The folder of a trained checkpoint; trained where it is missing."""
    folder = work / "seeds" / f"{name}-s{seed}"
    if not folder.exists():
        _rlvr_bench(work, "zoo", "train", name, "--seed", str(seed), "--out", str(folder))
    return folder


def evaluate(work: Path, job: Job) -> Path:
    """The run folder of a job; drawn, graded and scored where that was not done."""
    if job.model.startswith("seeds/"):
        name, _, seed = job.label.rpartition("-s")
        train(work, name, int(seed))
    engine = "auto" if job.label == "guess" else "transformers"
    arguments = ("--model", job.model, "--task", TASK, "-n", str(job.n), "--seed", str(job.seed), *SCHEME)
    _rlvr_bench(work, "evaluate", *arguments, "--engine", engine, "--out", "runs", "--workers", "1")
    slug = job.model.replace("zoo:", "zoo-").replace("/", "--")
    return work / "runs" / slug / TASK


def write_analyses(work: Path) -> None:
    """results/rescore.json (where probability moved from base to grpo), interventions.json (which tokens decide) and
    reach.json (what base could solve of the problems that grpo solves).
    """
    drawn = ("--task", TASK, "-n", "32", "--seed", "71", *SCHEME, "--token-stats", "full", "--engine", "transformers")
    _rlvr_bench(work, "evaluate", "--model", "zoo:base", "--model", "zoo:grpo", *drawn, "--out", "traces")
    run = Path("traces") / "zoo-grpo" / TASK
    _rlvr_bench(work, "rescore", str(run), "--model", "zoo:base", "--exact-kl")
    _rlvr_bench(work, "intervene", str(run))
    drawn = ("--task", TASK, "-n", "64", *SCHEME, "--token-stats", "full", "--engine", "transformers", "--out", "reach")
    for name, seed in (("base", "81"), ("grpo", "82")):
        _rlvr_bench(work, "evaluate", "--model", f"zoo:{name}", *drawn, "--seed", seed)
    paths = [str(Path("reach") / f"zoo-{name}" / TASK) for name in ("base", "grpo")]
    _rlvr_bench(work, "reach", paths[0], "--from", paths[1], "--engine", "transformers")
    (RESULTS / "reach.json").write_bytes((work / paths[0] / "reach" / "zoo-grpo.json").read_bytes())
    (rescored,) = (work / run / "rescored").glob("*/rescore.json")
    (swapped,) = (work / run / "interventions").glob("*/result.json")
    (RESULTS / "rescore.json").write_bytes(rescored.read_bytes())
    (RESULTS / "interventions.json").write_bytes(swapped.read_bytes())


def _rlvr_bench(work: Path, *arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "rlvr_bench", *arguments], cwd=work, check=True, stdout=subprocess.DEVNULL)


def write_scorecards(runs: dict[str, Path]) -> None:
    folder = RESULTS / "scorecards"
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.json"):
        old.unlink()
    for label, run in runs.items():
        (folder / f"{label}.json").write_bytes((run / "scorecard.json").read_bytes())


def write_leaderboard() -> None:
    """results/leaderboard.csv, from the scorecards alone."""
    (RESULTS / "leaderboard.csv").unlink(missing_ok=True)
    _rlvr_bench(ROOT, "leaderboard", "results/scorecards", "--base", "zoo:base", "--csv", "results/leaderboard.csv")


def reasons(run: Path) -> dict[str, float]:
    """The checker's words as shares of all rollouts; ``ok`` for a correct one."""
    folder = msgspec.json.decode((run / "scorecard.json").read_bytes())["run"]["grading"]["folder"]
    table = ds.dataset(run / "verdicts" / folder).to_table(columns=["status", "kind"]).unify_dictionaries()
    counted = table.group_by(["status", "kind"]).aggregate([([], "count_all")]).to_pylist()
    words: dict[str, int] = {}
    for row in counted:
        word = "ok" if row["status"] == "correct" else row["kind"] or row["status"]
        words[word] = words.get(word, 0) + row["count_all"]
    return {word: round(count / table.num_rows, 4) for word, count in sorted(words.items(), key=lambda item: -item[1])}


def measured(run: Path) -> Measured:
    """A run as the numbers of a checkpoint's card."""
    card = decode_scorecard((run / "scorecard.json").read_bytes(), str(run))
    estimates = {(e.name, e.k, e.group): e for e in card.estimates}
    n = card.run.n

    def interval(name: str, k: int | None) -> Interval:
        e = estimates[name, k, None]
        return Interval(value=round(e.value, 4), low=round(e.low, 4), high=round(e.high, 4))

    entropy, branching = (estimates.get((name, None, None)) for name in ("token_entropy", "branching_factor"))
    rollouts = sum(entry.n for entry in card.problems)
    tiers = list(dict.fromkeys(entry.tier for entry in card.problems))
    return Measured(
        n_problems=len(card.problems),
        n_samples=n,
        pass_at_k={str(k): interval("pass@k", k) for k in (1, 4, 16, 64, 256, 1024) if k <= n},
        tiers={tier: {str(k): _tier(card, tier, k) for k in (1, n)} for tier in tiers},
        unsolved=sum(entry.c == 0 for entry in card.problems),
        reasons=reasons(run),
        distinct=round(1 - sum(entry.duplicates for entry in card.problems) / rollouts, 4),
        tokens_mean=round(estimates["tokens_per_response", None, None].value, 2),
        entropy_mean=None if entropy is None or entropy.value is None else round(entropy.value, 4),
        branching_mean=None if branching is None or branching.value is None else round(branching.value, 4),
    )


def _tier(card: Scorecard, tier: str, k: int) -> Interval:
    """Mean pass@k of one tier with its interval over problems."""
    entries = [entry for entry in card.problems if entry.tier == tier]
    counts = [entry.c for entry in entries], [entry.n for entry in entries]
    interval = stats.bootstrap(*counts, [k], rng=np.random.default_rng(0))
    value, low, high = (round(float(limit[0]), 4) for limit in (interval.value, interval.low, interval.high))
    return Interval(value=value, low=low, high=high)


if __name__ == "__main__":
    main()
