"""The outcomes of a run, compared with the rows of its shards."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from rlvr_bench.records import STATUSES, Draw, DrawRequest, Problem, Prompt, Rollout, StoppingRule, Verdict
from rlvr_bench.scorers.scorecard import make_scorecard
from rlvr_bench.store import Run, RunWriter, open_run
from rlvr_bench.store.outcomes import read_outcomes
from rlvr_bench.store.verdicts import VerdictRow, Verdicts, current_grading
from rlvr_bench.text_rules import FLAGS
from tests.conftest import draw_of, manifest_with

BATCH = 4


def draws(problems: list[Problem], rng: np.random.Generator) -> list[Draw]:
    """Two batches a problem: profiles with empty bins, and rollouts without any; the last problem has one batch."""
    result = []
    for start in (0, BATCH):
        for problem in problems if start == 0 else problems[:-1]:
            rollouts = []
            for index in range(start, start + BATCH):
                bins = [None if rng.random() < 0.2 else float(rng.random()) for _ in range(20)]
                profile = None if rng.random() < 0.3 else tuple(bins)
                rollout = Rollout(problem_id=problem.id, index=index, text=str(index), n_tokens=9, finish_reason="stop")
                rollouts.append(msgspec.structs.replace(rollout, entropy_profile=profile))
            request = DrawRequest(prompt=Prompt(problem_id=problem.id, text="?"), start=start, n=BATCH, seed=start)
            result.append(Draw(request=request, rollouts=tuple(rollouts)))
    return result


def graded(path: Path, problems: list[Problem], made: list[Draw], rng: np.random.Generator) -> Run:
    """The run of these draws, one shard per draw, with random verdicts."""
    for draw in made:
        with RunWriter(path, manifest_with(n=2 * BATCH, draw_batch=BATCH), problems) as writer:
            writer.add(draw)
    run = open_run(path)
    assert len(run.rollouts.files()) == len(made)
    verdicts = Verdicts(run, "exact", "1", {})
    for table in run.rollouts.read(["problem_id", "index", "text_hash"]):
        given = [Verdict(status=STATUSES[rng.integers(4)], answer="1") for _ in range(len(table))]
        rows = zip(table.to_pylist(), given, strict=True)
        verdicts.append([VerdictRow(**key, verdict=verdict, candidates=1) for key, verdict in rows])
    verdicts.publish(len(made) * BATCH, 0.0)
    return run


@pytest.mark.parametrize("stopping", [None, StoppingRule(stop_after=1, batch=BATCH)])
def test_profiles_are_summed_by_problem_status_and_bin(
    tmp_path: Path, problems: list[Problem], stopping: StoppingRule | None
) -> None:
    rng = np.random.default_rng(0)
    made = draws(problems, rng)
    run = graded(tmp_path, problems, made, rng)
    run.manifest = msgspec.structs.replace(run.manifest, stopping=stopping)
    outcomes = read_outcomes(run)
    total, count = np.zeros((4, 4, 20)), np.zeros((4, 4, 20), dtype=np.int64)
    status = {(p, i): s for p, i, s in zip(outcomes.problem, outcomes.index, outcomes.status, strict=True)}
    for rollout in (rollout for draw in made for rollout in draw.rollouts):
        problem = int(rollout.problem_id[1:])
        if rollout.entropy_profile is None or (stopping and rollout.index >= BATCH):
            continue
        for i, value in enumerate(rollout.entropy_profile):
            if value is not None:
                total[problem, status[problem, rollout.index], i] += value
                count[problem, status[problem, rollout.index], i] += 1
    assert outcomes.entropy_profile is not None
    assert (outcomes.entropy_profile.count == count).all()
    assert outcomes.entropy_profile.total == pytest.approx(total, rel=1e-6)  # stored in single precision
    assert 0 < count.sum() < 20 * len(status)


def test_a_run_without_profiles_has_none(tmp_path: Path, problems: list[Problem]) -> None:
    run = graded(tmp_path, problems, [draw_of(p.id, 0, BATCH) for p in problems], np.random.default_rng(0))
    assert read_outcomes(run).entropy_profile is None


def test_flags_that_are_not_known_are_scored_as_absent(tmp_path: Path, problems: list[Problem]) -> None:
    rng = np.random.default_rng(0)
    run = graded(tmp_path, problems, draws(problems, rng), rng)
    grading = current_grading(run)
    assert grading is not None
    outcomes = read_outcomes(run)
    card = make_scorecard(run.manifest, grading, outcomes, flags=outcomes.flags)
    assert {name: card.quality.get(f"{name}_rate") for name in FLAGS} == dict.fromkeys(FLAGS)
