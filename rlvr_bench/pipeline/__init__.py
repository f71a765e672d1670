"""The only place where stages meet: sample, grade, score, and evaluate, which is the three in a row."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from rlvr_bench.auditing import Audit, audit_run, read_audit
from rlvr_bench.errors import RunError
from rlvr_bench.grading import Flip, Grader, flips, grade_run
from rlvr_bench.importers.counted_runs import holds_counts, read_counts
from rlvr_bench.importers.regrading import check_gradable, known_task
from rlvr_bench.pipeline.drawing import DrawGrader, Drawing, LiveGrader, Plan
from rlvr_bench.pipeline.judging import with_judgements
from rlvr_bench.pipeline.options import GradeOptions, Progress, SampleOptions, Silent
from rlvr_bench.pipeline.remote_grading import RemoteGrader
from rlvr_bench.pipeline.resolve import make_manifest, resolve_sampling
from rlvr_bench.pipeline.scaling import Engines, Job
from rlvr_bench.pipeline.tool_runs import reading_statements, render_prompts
from rlvr_bench.prompts import open_prompt
from rlvr_bench.records import Scorecard
from rlvr_bench.scorers.counted import make_counted_scorecard
from rlvr_bench.scorers.scorecard import make_scorecard
from rlvr_bench.store import RunWriter, open_run, run_folder
from rlvr_bench.store.outcomes import read_outcomes
from rlvr_bench.store.places import write_atomically
from rlvr_bench.store.run import Run
from rlvr_bench.store.verdicts import Grading, current_grading
from rlvr_bench.task import LoadedTask, load_task, read_task, task_verifier
from rlvr_bench.verifiers import Verifier
from rlvr_bench.verifiers.code import CodeVerifier
from rlvr_bench.verifiers.gym import ReasoningGymVerifier

__all__ = ["GradeOptions", "Progress", "SampleOptions", "audit", "evaluate", "grade", "sample", "score"]


def evaluate(
    model: str,
    task: str,
    options: SampleOptions | None = None,
    grading: GradeOptions | None = None,
    progress: Progress | None = None,
    engines: Engines | None = None,
) -> tuple[Path, Scorecard]:
    """Sample, grade and score one checkpoint on one task. Returns the run folder and its scorecard.

    ``engines``: as in ``sample``. Raises the errors of ``sample``, ``grade`` and ``score``.
    """
    run = sample(model, task, options, progress, grading or GradeOptions(), engines)
    grade(run, grading, progress)
    return run, score(run)


def sample(
    model: str,
    task: str,
    options: SampleOptions | None = None,
    progress: Progress | None = None,
    grading: GradeOptions | None = None,
    engines: Engines | None = None,
) -> Path:
    """Draw what is missing for n rollouts of each problem; returns the run folder.

    With ``grading``, and always under a stopping rule, rollouts are verified while others are still being drawn.
    ``engines`` holds the checkpoint's engine if it is to stay open for another task.

    Raises an RlvrBenchError before anything is written where the input is bad, RunMismatch and RunLocked where the run
    on disk does not agree or is in use, StorageError where the disk refuses (what was drawn before is kept).
    """
    options, progress = options or SampleOptions(), progress or Silent()
    if engines is None:
        with Job(options) as job, job.checkpoint(progress) as own:
            return sample(model, task, options, progress, grading, own)
    loaded = load_task(task, options.data_dir)
    template = open_prompt(options.prompt or loaded.task.prompt)
    prompts = render_prompts(template, loaded, options)
    sampler = engines.open(model, loaded, options)
    try:
        sampling = resolve_sampling(loaded.task, options, sampler, prompts)
        manifest = make_manifest(model, loaded, template, options, sampling, sampler.info)
        chosen = loaded.problems[: options.limit]
        with RunWriter(run_folder(options.out, model, options.run_name(loaded.task.name)), manifest, chosen) as writer:
            asked = {problem.id: prompts[problem.id] for problem in chosen}
            done = writer.n_drawn(asked, options.n)
            spans = list(writer.missing(asked, options.n, options.draw_batch))
            progress.start("sample", options.n * len(asked), done)
            if spans:
                engines.write_to(writer)
                with _graded_alongside(writer, loaded, options, grading, engines) as (live, correct):
                    plan = Plan(spans, stop_after=options.stop_after, correct=correct, drawn=writer.drawn)
                    Drawing(writer, asked, plan, live, progress).run(sampler)
    except BaseException:
        engines.close()  # it may be broken, or in the middle of something
        raise
    return writer.path


@contextlib.contextmanager
def _graded_alongside(
    writer: RunWriter, loaded: LoadedTask, options: SampleOptions, grading: GradeOptions | None, engines: Engines
) -> Iterator[tuple[DrawGrader | None, dict[str, int]]]:
    """A grader for what is drawn from now on, and the correct rollouts so far; nothing where none is wanted."""
    if grading is None and options.stop_after is None:
        yield None, {}
        return
    grading = grading or GradeOptions()
    verifier = reading_statements(_permitted(loaded.open_verifier(), grading), writer.run)
    grader = Grader(writer.run, verifier, workers=grading.workers, timeout_s=grading.timeout_s)
    if engines.cluster is None:
        with LiveGrader(grader) as live:
            yield live, grader.correct(writer.drawn)
        return
    with grader:
        grader.grade_missing()
    with RemoteGrader(engines.cluster, writer.run, verifier, grading) as remote:
        yield remote, grader.correct(writer.drawn)


def grade(
    run: str | Path, options: GradeOptions | None = None, progress: Progress | None = None
) -> tuple[Grading, list[Flip]]:
    """Verify every rollout of a run that has no verdict of the task's verifier as it is now.

    Returns the grading, and the rollouts whose status differs from the grading before it (after a verifier upgrade).
    Raises RunError where the folder is no run or the task is not the one the run was drawn for.
    """
    options, progress = options or GradeOptions(), progress or Silent()
    opened = open_run(run)
    check_gradable(opened)
    task, file = read_task(_task_name(opened))
    before = current_grading(opened)
    total = sum(int(drawn.sum()) for drawn in opened.drawn().values())
    progress.start("verify", total, 0)
    verifier = reading_statements(_permitted(task_verifier(task, file), options), opened)
    now = grade_run(
        opened, verifier, workers=options.workers, timeout_s=options.timeout_s, progress=lambda n: progress.advance(n)
    )
    changed = before is not None and before.folder != now.folder
    return now, list(flips(opened, before, now)) if changed and before else []


def audit(run: str | Path, sample: int = 200, options: GradeOptions | None = None) -> Audit:
    """Compare a random sample of a graded run's verdicts a second, independent time; writes ``audit.json``.

    Raises RunError where the run is not graded, VerifierError where its verifier has no second comparison, BadArgument.
    """
    return audit_run(open_run(run), sample, workers=(options or GradeOptions()).workers)


def score(run: str | Path, ks: Sequence[int] | None = None) -> Scorecard:
    """Turn a graded run into a scorecard, written to ``scorecard.json`` in the run folder.

    ``ks``: budgets of pass@k; default: powers of two up to n, and n. One above n has no value, and says why.

    Raises RunError where the folder is no run or is not graded to the end.
    """
    opened = open_run(run)
    grading = current_grading(opened)
    if grading is None:
        raise RunError(f"{run}: not graded yet. Run `rlvr-bench grade {run}` first.")
    scorecard = _with_audit(_scored(opened, grading, ks), read_audit(opened))
    content = msgspec.json.format(msgspec.json.encode(scorecard), indent=1)
    write_atomically(opened.path / "scorecard.json", content + b"\n")
    return scorecard


def _scored(run: Run, grading: Grading, ks: Sequence[int] | None) -> Scorecard:
    if holds_counts(run):
        return make_counted_scorecard(run.manifest, grading, read_counts(run), ks=ks)
    outcomes = read_outcomes(run)
    space = read_task(_task_name(run))[0].answer_space if known_task(run) else None
    scorecard = make_scorecard(run.manifest, grading, outcomes, ks=ks, answer_space=space, flags=outcomes.flags)
    return with_judgements(scorecard, run, outcomes, ks)


def _with_audit(scorecard: Scorecard, found: Audit | None) -> Scorecard:
    """The scorecard with the disagreement rate of the audit of these very verdicts, where there is one."""
    if found is None:
        return scorecard
    summary = {name: getattr(found, name) for name in ("sample", "agree", "disagree", "unknown", "rate", "low", "high")}
    return msgspec.structs.replace(
        scorecard,
        run={**scorecard.run, "audit": summary},
        quality={**scorecard.quality, "audit_disagreement_rate": found.rate},
    )


def _permitted(verifier: Verifier, options: GradeOptions) -> Verifier:
    """The verifier, allowed to run programs and third-party scorers without a sandbox if the user said so."""
    if not (options.allow_unsafe_code and isinstance(verifier, CodeVerifier | ReasoningGymVerifier)):
        return verifier
    return dataclasses.replace(verifier, allow_unsafe=True)


def _task_name(run: Run) -> str:
    """The task to grade a run with: the user's file the run was drawn from, or the shipped task of that name."""
    return run.manifest.task_file or run.manifest.task
