"""Hand-made runs on disk, with texts, verdicts, token statistics, a scorecard and results of analyses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from rlvr_bench.analysis.intervention_results import Effect, InterventionDesign, Interventions
from rlvr_bench.analysis.reach_results import Drawer, ProblemRate, Reach, SolvedByOthers
from rlvr_bench.analysis.shift_results import Checkpoint, Perplexities, Rescoring, Stratum
from rlvr_bench.records import (
    STATUSES,
    Draw,
    DrawRequest,
    Estimate,
    Problem,
    Prompt,
    Rollout,
    TokenArrays,
    Verdict,
)
from rlvr_bench.scorecard import Judging, decode_scorecard, encode_scorecard
from rlvr_bench.scorers.scorecard import make_scorecard
from rlvr_bench.store import RunWriter, open_run
from rlvr_bench.store.outcomes import read_outcomes
from rlvr_bench.store.run import stored_text, text_hash
from rlvr_bench.store.verdicts import VerdictRow, Verdicts
from rlvr_bench.text_rules import text_flags
from tests.conftest import manifest_with

__all__ = ["estimate", "interventions", "judge", "put", "reach", "rescoring", "write_run"]

LETTERS = {name[0]: name for name in STATUSES}


def write_run(
    path: Path,
    model: str,
    problems: Sequence[Problem],
    statuses: Sequence[str],
    text: Callable[[int, int], str],
    *,
    token_ids: Callable[[str], list[int]] | None = None,
    task: str = "t",
    **changed: Any,
) -> Path:
    """A graded and scored run: per problem one letter per rollout (c, w, n, e), texts by problem and rollout number.

    ``token_ids``: per-token arrays are stored for these ids of a text and an end token. ``changed``: fields of the
    manifest; with ``tools``, rollout j called them j times and failed once where it was wrong.
    """
    n = max(map(len, statuses))
    fields = {
        "task": task,
        "model": model,
        "weights": model,
        "n": n,
        "n_problems": len(problems),
        "token_stats": "exact",
    }
    manifest = manifest_with(**(fields | changed))
    rng = np.random.default_rng(len(model))
    rows = []
    with RunWriter(path, manifest, problems) as writer:
        for i, (problem, letters) in enumerate(zip(problems, statuses, strict=True)):
            rollouts = []
            for j, letter in enumerate(letters):
                response = text(i, j)
                ids = None if token_ids is None else [*token_ids(response), 1]
                called = {"tool_calls": j, "tool_errors": int(letter == "w")} if "tools" in changed else {}
                rollouts.append(msgspec.structs.replace(_rollout(problem.id, j, response, ids, rng), **called))
                verdict = Verdict(status=LETTERS[letter], answer=None if letter == "n" else response[:40])
                hashed = text_hash(stored_text(response))
                rows.append(VerdictRow(problem.id, j, hashed, verdict, 1, text_flags(response[:1000])))
            request = DrawRequest(prompt=Prompt(problem_id=problem.id, text="?"), start=0, n=len(letters), seed=i)
            writer.add(Draw(request=request, rollouts=tuple(rollouts)))
    run = open_run(path)
    verdicts = Verdicts(run, "exact", "1", {})
    verdicts.append(rows)
    grading = verdicts.publish(len(rows), 0.1)
    outcomes = read_outcomes(run)
    card = make_scorecard(run.manifest, grading, outcomes, answer_space=50, flags=outcomes.flags)
    (path / "scorecard.json").write_bytes(msgspec.json.encode(card))
    return path


def _rollout(problem_id: str, index: int, text: str, ids: list[int] | None, rng: np.random.Generator) -> Rollout:
    size = len(ids) if ids else 12
    entropy = rng.gamma(2.0, 0.3, size).astype(np.float32)
    tokens = None
    if ids is not None:
        tokens = TokenArrays(
            ids=np.array(ids, np.int32), logprob=-entropy, entropy=entropy, nucleus=np.ones(size, np.int32)
        )
    return Rollout(
        problem_id=problem_id,
        index=index,
        text=text,
        n_tokens=size,
        finish_reason="stop",
        logprob_sum=-float(entropy.sum()),
        entropy_mean=float(entropy.mean()),
        branching_mean=1.0 + float(entropy.mean()),
        entropy_profile=tuple(np.linspace(1.0, 0.2, 20).tolist()),
        high_entropy_share=0.2,
        tokens=tokens,
    )


def estimate(name: str, value: float | None, group: str | None = None, k: int | None = None) -> Estimate:
    """An estimate of four problems with an interval around it."""
    limits = (None, None) if value is None else (value - 0.01, value + 0.02)
    return Estimate(
        name=name, value=value, low=limits[0], high=limits[1], n_problems=4, group=group, k=k, method="made"
    )


def rescoring(other: str = "base", **changed: Any) -> Rescoring:
    """A run under ``other`` that is made up; correct and wrong rollouts move by other amounts."""
    numbers = {None: 0.3, "correct": 0.2, "wrong": 0.4}
    names = ("kl_k1", "kl_k3", *(("kl",) if changed.get("divergence", "exact") == "exact" else ()), "moved_share")
    categories = changed.pop("categories", ("formal reasoning", "semantic support"))
    fields: dict[str, Any] = {
        "schema": 1,
        "run": "runs/x",
        "task": "t",
        "own": Checkpoint(model="m", weights="m"),
        "other": Checkpoint(model=other, weights=other),
        "engine": "transformers",
        "dtype": "float32",
        "divergence": "exact",
        "threshold": 0.1,
        "category_rules": "1",
        "n_problems": 4,
        "n_rollouts": 32,
        "n_tokens": 400,
        "perplexities": Perplexities(own_on_own=estimate("ppl", 1.5), other_on_own=estimate("ppl", 2.5)),
        "estimates": tuple(
            estimate(name, size + i / 100, group) for i, name in enumerate(names) for group, size in numbers.items()
        ),
        "strata": tuple(
            _stratum(by, label, group, i)
            for by, labels in (("entropy", ("1 of 2", "2 of 2")), ("category", categories))
            for group in ("all", "correct", "wrong")
            for i, label in enumerate(labels)
        ),
        "notes": ("other_on_reference: task t has no reference solutions",),
    }
    return Rescoring(**(fields | changed))


def _stratum(by: str, label: str, group: str, number: int) -> Stratum:
    shares = {name: estimate(name, 0.2 + 0.1 * number) for name in ("share", "share_of_moves", "moved")}
    means = ("log_ratio", "own_entropy", "other_entropy", "own_branching", "other_branching")
    return Stratum(
        by=by,
        bin=label,
        group=group,
        low=None if by == "category" else float(number),
        high=None if by == "category" else number + 1.0,
        n_tokens=200,
        n_moved=20,
        **shares,
        **{name: estimate(name, 1.0 + 0.3 * number) for name in means},
    )


def interventions(**changed: Any) -> Interventions:
    """Swapped tokens that are made up: early ones matter, of late ones there was none."""
    design: dict[str, Any] = {
        "schema": 1,
        "protocol": "1",
        "strata": ("position",),
        "swap": "second",
        "sites": 5,
        "repeats": 4,
        "rollouts": 8,
        "seed": 0,
        "task": "t",
        "task_version": "1",
        "weights": "m",
        "sampling": {},
        "responses_sha256": "0",
        "engine": "transformers",
        "dtype": "float32",
        "verifier": "exact",
        "verifier_version": "1",
        "verifier_options": {},
    }
    known: dict[str, Any] = {"kept": 0.5, "swapped": 0.2, "effect": -0.3, "low": -0.4, "high": -0.2, "p_value": 0.001}
    effects = (
        Effect(levels={}, n_sites=10, n_problems=4, **known),
        Effect(levels={"position": changed.pop("level", "early")}, n_sites=10, n_problems=4, **known, p_holm=0.002),
        Effect(levels={"position": "late"}, n_sites=0, n_problems=0),
    )
    fields: dict[str, Any] = {
        "model": "m",
        "n_sites": 10,
        "no_alternative": 1,
        "draws": 80,
        "undecided": 2,
        "effects": effects,
    }
    return Interventions(design=InterventionDesign(**(design | changed.pop("design", {}))), **(fields | changed))


_PLACES = {Rescoring: "rescored/{}/rescore.json", Interventions: "interventions/{}/result.json", Reach: "reach/{}.json"}


def reach(by: str = "other", note: str = "made up") -> Reach:
    """Solve rates of two problems, the second unsolved."""
    known: dict[str, Any] = {
        "n": (8, 8),
        "impossible": 0,
        "error": 0.3,
        "effective": 9.0,
        "largest": 0.2,
        "is_sound": True,
    }
    problems = (
        ProblemRate(id="0", c=(1, 6), distinct=3, bound=0.05, rate=0.1, low=0.05, high=0.5, **known),
        ProblemRate(id="1", c=(0, 0), distinct=0, bound=0.0, rate=0.0, low=0.0, high=0.4, **known),
    )
    drawers = tuple(
        Drawer(run=name, model=name, weights=name, law="T=1", rollouts=16, correct=6, is_own=name == "m")
        for name in ("m", by)
    )
    split = SolvedByOthers(by=by, k=1000, problems=1, within=1, probably=0, unlikely=0, beyond=0, expected=1.0)
    return Reach(
        schema=1,
        run="a",
        task="t",
        law="T=1",
        level=0.95,
        responses=3,
        scored=3,
        target=Checkpoint(model="m", weights="m"),
        drawers=drawers,
        problems=problems,
        pass_at_k=(estimate("pass@k", 0.5, k=1000),),
        solved_by_others=(split,),
        scoring_s=1.0,
        seconds=1.2,
        notes=(note,),
    )


def put(run: Path, name: str, result: Rescoring | Interventions | Reach) -> Path:
    """Store a result in a run, as its verb would; returns the file."""
    file = run / _PLACES[type(result)].format(name)
    file.parent.mkdir(parents=True, exist_ok=isinstance(result, Reach))
    file.write_bytes(msgspec.json.encode(result))
    return file


def judge(run: Path, name: str = "judge.py:sound") -> None:
    """Add a judge's findings to the run's scorecard, made up."""
    file = run / "scorecard.json"
    card = decode_scorecard(file.read_bytes(), str(file))
    judged_estimates = [estimate("cot_pass@k", 0.1 * k, k=k) for k in (1, 2, 4)] + [estimate("valid_reasoning", 0.75)]
    judging = Judging(
        judge=name, version="1", options={}, folder="f", rule="majority", rollouts=8, valid=6, invalid=2, error=0
    )
    run_judged = msgspec.structs.replace(card.run, judging=judging)
    judged = msgspec.structs.replace(card, run=run_judged, estimates=[*card.estimates, *judged_estimates])
    file.write_bytes(encode_scorecard(judged))
