"""The verb ``reach``: the solve rate of a run's checkpoint, from rollouts of any checkpoints.

Scores of the correct responses are stored in ``<run>/reach/scores``, the result in ``<run>/reach/<other models>.json``.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rlvr_bench.analysis.reach_rates import Laws, mean_pass_at_k, problem_rates, solved_by_others
from rlvr_bench.analysis.reach_results import REACH_SCHEMA, Drawer, Reach, result_file
from rlvr_bench.analysis.reach_runs import CorrectRollouts, check_runs, correct_rollouts, sampling_of
from rlvr_bench.analysis.shift_results import Checkpoint
from rlvr_bench.options import ReachOptions
from rlvr_bench.pipeline.options import Progress, Silent
from rlvr_bench.pipeline.progress import with_progress
from rlvr_bench.pipeline.reach_scoring import LawScoring
from rlvr_bench.scorers.common import cluster_labels
from rlvr_bench.store import Run, open_run
from rlvr_bench.store.record_files import write_record

__all__ = ["ReachOptions", "reach"]

LEVEL = 0.95


@with_progress
def reach(
    run: str | Path,
    others: Sequence[str | Path] = (),
    options: ReachOptions | None = None,
    progress: Progress | None = None,
) -> Reach:
    """Estimate the solve rate of the checkpoint of ``run`` on each problem, from its rollouts and those of ``others``.

    Every distinct correct response is scored under the law of each run; scores of earlier calls are read from the run
    folder. Raises RunError where a run has no tokens, no law that can be computed, or another task, prompt or verifier;
    ModelError where a checkpoint is not on this machine, has changed or has another tokenizer; RunLocked, StorageError,
    EngineError, BadArgument.
    """
    options, progress = options or ReachOptions(), progress or Silent()
    began = time.perf_counter()
    runs = [open_run(path) for path in (run, *others)]
    check_runs(runs)
    rollouts = correct_rollouts(runs)
    scoring = LawScoring(runs, rollouts, options, progress)
    laws = scoring.laws()
    problems = runs[0].problems()
    ids, names = [problem.id for problem in problems], _names(runs)
    used = rollouts if options.own else rollouts.without(laws.is_own)
    rates = problem_rates(used, laws, ids, LEVEL)
    result = Reach(
        schema=REACH_SCHEMA,
        run=str(runs[0].path),
        task=runs[0].manifest.task,
        target=Checkpoint(model=runs[0].manifest.model, weights=runs[0].manifest.weights),
        law=sampling_of(runs[0]).in_words(),
        level=LEVEL,
        drawers=_drawers(runs, names, used, laws),
        problems=tuple(rates),
        pass_at_k=tuple(
            mean_pass_at_k(rates, options.ks, cluster_labels([problem.cluster for problem in problems], ids), LEVEL)
        ),
        solved_by_others=tuple(solved_by_others(rollouts, rates, laws, names, options.ks)),
        responses=len(rollouts.responses),
        scored=scoring.scored,
        scoring_s=scoring.seconds,
        seconds=time.perf_counter() - began,
        notes=(*scoring.notes, *_notes(runs, used, laws)),
    )
    write_record(result_file(runs[0].path, names[1:]), result, indent=1)
    return result


def _names(runs: Sequence[Run]) -> list[str]:
    """The models of the runs; with the folder where two runs have the same one."""
    models = Counter(run.manifest.model for run in runs)
    return [
        run.manifest.model if models[run.manifest.model] == 1 else f"{run.manifest.model} ({run.path})" for run in runs
    ]


def _drawers(runs: Sequence[Run], names: Sequence[str], used: CorrectRollouts, laws: Laws) -> tuple[Drawer, ...]:
    return tuple(
        Drawer(
            run=str(run.path),
            model=names[s],
            weights=run.manifest.weights,
            law=sampling_of(run).in_words(),
            rollouts=int(used.n[:, s].sum()),
            correct=int(used.c[:, s].sum()),
            is_own=bool(laws.is_own[s]),
        )
        for s, run in enumerate(runs)
    )


def _notes(runs: Sequence[Run], used: CorrectRollouts, laws: Laws) -> list[str]:
    notes = [
        f"{run.path}: a stopping rule looks at verdicts: estimates use the first {run.manifest.stopping.batch} rollouts of "
        "each problem, the certain bound uses all"
        for run in runs
        if run.manifest.stopping is not None
    ]
    if errors := int(used.errors.sum()):
        notes.append(
            f"{errors} rollouts have no verdict: estimates count them as wrong, high ends those of the target as correct"
        )
    in_hand = np.unique(used.response)
    if impossible := int(np.isneginf(laws.logprob[in_hand, 0]).sum()):
        notes.append(
            f"{impossible} of {len(in_hand)} distinct correct responses have probability 0, exactly, under the law of "
            f"{runs[0].manifest.model} ({sampling_of(runs[0]).in_words()})"
        )
    return notes
