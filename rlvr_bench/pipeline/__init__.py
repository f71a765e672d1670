"""The stages of an evaluation: sample, grade and score; evaluate runs the three in a row.

Only this package joins them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np

from rlvr_bench.auditing import Audit, audit_run, read_audit
from rlvr_bench.comparison.cards import read_card
from rlvr_bench.disagreements import Disagreements, read_disagreements
from rlvr_bench.errors import RunError
from rlvr_bench.grading import Flip, Grader, flips, grade_run
from rlvr_bench.importers.counted_runs import holds_counts, read_clusters, read_counts
from rlvr_bench.importers.regrading import check_gradable, check_responses
from rlvr_bench.measured_error import MeasuredError
from rlvr_bench.pipeline.agreeing import is_finished, standing_scorecard
from rlvr_bench.pipeline.before_loading import check_before_loading, check_template_use
from rlvr_bench.pipeline.cautions import report_cache, report_cautions, report_recommended, report_unused
from rlvr_bench.pipeline.drawing import DrawGrader, Drawing, LiveGrader, Plan
from rlvr_bench.pipeline.engines import Engines, model_name, open_engines
from rlvr_bench.pipeline.folders import find_run
from rlvr_bench.pipeline.gpus import with_replicas
from rlvr_bench.pipeline.judging import judged_rollouts
from rlvr_bench.pipeline.labelling import labelled_error, rated_error
from rlvr_bench.pipeline.options import GradeOptions, Progress, SampleOptions, Silent, check
from rlvr_bench.pipeline.parameters import grading_before_progress
from rlvr_bench.pipeline.progress import with_progress
from rlvr_bench.pipeline.remote_grading import RemoteGrader
from rlvr_bench.pipeline.resolve import make_manifest, opens_thought, resolve_sampling
from rlvr_bench.pipeline.run_prompts import asked_template
from rlvr_bench.pipeline.run_tasks import grading_task, kept_facts
from rlvr_bench.pipeline.tool_runs import reading_statements, render_prompts
from rlvr_bench.records import Outcomes
from rlvr_bench.samplers.protocol import Sampler
from rlvr_bench.scorecard import AuditSummary, Grading, Scorecard, encode_scorecard
from rlvr_bench.scorers.counted import make_counted_scorecard
from rlvr_bench.scorers.extrapolation import extrapolated
from rlvr_bench.scorers.scorecard import make_scorecard
from rlvr_bench.scorers.stopping import settled
from rlvr_bench.scorers.warnings import warnings_of
from rlvr_bench.store import RunWriter, open_run
from rlvr_bench.store.locks import lock_folder
from rlvr_bench.store.outcomes import other_verdicts, read_outcomes, record_stopping, stopped_on
from rlvr_bench.store.paths import write_atomically
from rlvr_bench.store.run import Run
from rlvr_bench.store.verdicts import current_grading
from rlvr_bench.task import LoadedTask, Task, golds_of, load_task, read_task, task_verifier
from rlvr_bench.verifiers import Verifier
from rlvr_bench.verifiers.code import CodeVerifier
from rlvr_bench.verifiers.gym import ReasoningGymVerifier
from rlvr_bench.verifiers.instructions import InstructionVerifier

__all__ = [
    "GradeOptions",
    "Progress",
    "SampleOptions",
    "audit",
    "disagreements",
    "evaluate",
    "grade",
    "permitted",
    "sample",
    "score",
]

logger = logging.getLogger(__name__)


@with_progress
def evaluate(
    model: str | Sampler,
    task: str,
    options: SampleOptions | None = None,
    grading: GradeOptions | None = None,
    progress: Progress | None = None,
    engines: Engines | None = None,
) -> tuple[Path, Scorecard]:
    """Sample, grade and score one checkpoint on one task. Returns the run folder and its scorecard.

    ``model``, ``engines``: as in ``sample``. Raises the errors of ``sample``, ``grade`` and ``score``.
    """
    grading = grading or GradeOptions()
    run = sample(model, task, options, grading, progress, engines)
    opened, (known, file) = open_run(run), read_task(task)
    card = standing_scorecard(opened, reading_statements(permitted(task_verifier(known, file), grading), opened))
    if card is None:
        _grade(opened, known, file, grading, progress or Silent())
        card = score(run, progress=progress)
    return run, card


@grading_before_progress
@with_progress
def sample(
    model: str | Sampler,
    task: str,
    options: SampleOptions | None = None,
    grading: GradeOptions | None = None,
    progress: Progress | None = None,
    engines: Engines | None = None,
) -> Path:
    """Draw what is missing for n rollouts of each problem; returns the run folder.

    ``model`` is the name of a checkpoint, or a sampler that the caller made. Such a sampler has its ``info.model`` as
    its name in the manifest, and is not closed. With ``grading``, and always under a stopping rule, rollouts are
    verified while others are drawn. ``engines`` keeps the checkpoint's engine open for the next task.

    Raises an RlvrBenchError for bad input, before anything is written; RunMismatch where the run on disk differs from
    the one asked for; RunLocked where the run is in use; StorageError where the disk refuses (what was drawn is kept).
    """
    options, progress = options or SampleOptions(), progress or Silent()
    if isinstance(model, str):
        options = with_replicas(options, [model])
    if engines is not None:
        check(isinstance(model, str), "engines", model, "a sampler of your own is its own engine: leave engines out")
        return _sample(model, task, options, grading, progress, engines)
    with open_engines(model, options, progress) as opened:
        return _sample(model, task, options, grading, progress, opened)


def _sample(
    model: str | Sampler,
    task: str,
    options: SampleOptions,
    grading: GradeOptions | None,
    progress: Progress,
    engines: Engines,
) -> Path:
    """``sample``, given the engines."""
    name, loaded = model_name(model), load_task(task, options.data_dir)
    golds_of(loaded)  # raises where a verdict could not be right
    template = asked_template(loaded.task.prompt, options)
    prompts = render_prompts(template, loaded, options)
    folder = find_run(options.out, name, loaded.task.name, options.run_name(loaded.task.name), options.adapter)
    chosen = loaded.problems[: options.limit]
    if isinstance(model, str) and is_finished(folder, model, loaded, template, options):
        total = options.n * len(chosen)
        progress.start("sample", total, total)
        return folder
    reported = None
    if isinstance(model, str):
        check_before_loading(model, loaded, options, template)
        reported = report_unused(model, options, known=engines.is_open)
    sampler = engines.open(name, loaded, options)
    try:
        if sampler.info.engine != "fake" or options.chat_template_args:
            check_template_use(template, options, sampler.info.chat_template)
        sampling = resolve_sampling(loaded.task, options, template, sampler, prompts)
        manifest = make_manifest(name, loaded, template, options, sampling, sampler.info)
        manifest = msgspec.structs.replace(manifest, opens_thought=opens_thought(sampler, prompts))
        with RunWriter(folder, manifest, chosen) as writer:
            report_cautions(manifest, reported)
            report_recommended(sampling, options, sampler.info)
            asked = {problem.id: prompts[problem.id] for problem in chosen}
            done = writer.n_drawn(asked, options.n)
            spans = list(writer.missing(asked, options.n, options.draw_batch))
            progress.start("sample", options.n * len(asked), done)
            if spans:
                engines.write_to(writer)
                with _graded_alongside(writer, loaded, options, grading, engines) as (live, correct):
                    plan = Plan(spans, stop_after=options.stop_after, correct=correct, drawn=writer.drawn)
                    Drawing(writer, asked, plan, live, progress).run(sampler)
                report_cache(writer, sampler)
    except BaseException:
        engines.close()  # it may be broken or still busy
        raise
    return writer.path


@contextlib.contextmanager
def _graded_alongside(
    writer: RunWriter, loaded: LoadedTask, options: SampleOptions, grading: GradeOptions | None, engines: Engines
) -> Iterator[tuple[DrawGrader | None, dict[str, int]]]:
    """Yields a grader for new rollouts and the correct rollouts of each problem so far; None and {} if not wanted."""
    if grading is None and options.stop_after is None:
        yield None, {}
        return
    grading = grading or GradeOptions()
    verifier = reading_statements(permitted(loaded.open_verifier(), grading), writer.run)
    grader = Grader(writer.run, verifier, workers=grading.workers, timeout_s=grading.timeout_s)
    if options.stop_after is not None:
        record_stopping(writer.run, grader.verdicts.folder)
    if engines.cluster is None:
        with LiveGrader(grader) as live:
            yield live, grader.correct(writer.drawn)
        return
    with grader:
        grader.grade_missing()
    with RemoteGrader(engines.cluster, writer.run, verifier, grading) as remote:
        yield remote, grader.correct(writer.drawn)


@with_progress
def grade(
    run: str | Path,
    options: GradeOptions | None = None,
    progress: Progress | None = None,
    task: str | None = None,
    data_dir: Path | None = None,
) -> tuple[Grading, list[Flip]]:
    """Verify every rollout of a run that has no verdict from the current version of the task's verifier.

    ``task``: needed unless the run was drawn with a task that is shipped. Its problems must be those of the run.
    ``data_dir``: the folder of the task's data, for a run that holds only some of the problems.
    Returns the grading, and the rollouts whose status differs from the previous grading (after a verifier upgrade).
    ``disagreements`` compares the verdicts on an import with the other program's.
    Raises RunError where the folder is no run or was drawn for another task, RunLocked where another process draws or
    grades it.
    """
    opened = open_run(run)
    check_responses(opened)
    options = options or GradeOptions()
    loaded = grading_task(opened, task, data_dir, sandboxed=not options.allow_unsafe_code)
    check_gradable(opened, loaded)
    graded = _grade(opened, loaded.task, loaded.file, options, progress or Silent())
    with contextlib.suppress(RunError):  # not scored yet, or damaged: score writes a new one
        read_card(opened.path)
    return graded


def _grade(run: Run, task: Task, file: Path, options: GradeOptions, progress: Progress) -> tuple[Grading, list[Flip]]:
    """``grade``, given the task."""
    verifier = reading_statements(permitted(task_verifier(task, file), options), run)
    with lock_folder(run.path):
        before = current_grading(run)
        progress.start("verify", sum(drawn.count() for drawn in run.drawn().values()), 0)
        now = grade_run(
            run, verifier, workers=options.workers, timeout_s=options.timeout_s, progress=lambda n: progress.advance(n)
        )
        if before is None or before.folder == now.folder or before.is_theirs:
            return now, []
        return now, list(flips(run, before, now))


def disagreements(run: str | Path) -> Disagreements | None:
    """Where our verdicts on an imported run and the other program's differ; None where there are not both.

    Raises RunError where the folder is no run, or is damaged.
    """
    return read_disagreements(open_run(run))


def audit(run: str | Path, sample: int = 200, options: GradeOptions | None = None) -> Audit:
    """Check a random sample of a graded run's verdicts with a second, independent comparison; writes ``audit.json``.

    Raises RunError where the run is not graded, VerifierError where its verifier has no second comparison, BadArgument.
    """
    return audit_run(open_run(run), sample, workers=(options or GradeOptions()).workers)


@with_progress
def score(
    run: str | Path,
    ks: Sequence[int] | None = None,
    progress: Progress | None = None,
    extrapolate: int | None = None,
    verifier_error: Literal["labels"] | tuple[float, float] | None = None,
) -> Scorecard:
    """Turn a graded run into a scorecard, written to ``scorecard.json`` in the run folder.

    ``ks``: budgets of pass@k; by default powers of two up to n, and n. A budget above n gets no value but a reason.
    ``extrapolate``: a budget above n. A fitted curve predicts its pass@k, stored in ``Scorecard.extrapolated`` only.
    ``verifier_error``: also pass@k with the verifier's error in value and interval, stored in
    ``Scorecard.verifier_error``: from the labels of ``audit_labels``, or for given rates of false positives and negatives.

    Raises RunError where the folder is no run or is not graded completely, or labels are asked for and too few, BadArgument
    where the counts do not allow an extrapolation (``stats.pass_beyond`` lists the cases) or the rates are impossible.
    """
    opened = open_run(run)
    grading = current_grading(opened)
    if grading is None:
        raise RunError(f"{run}: not graded yet. Run `rlvr-bench grade {run}` first.")
    progress = progress or Silent()
    progress.start("score", grading.rollouts, 0)
    scorecard = _scored(opened, grading, ks)
    if extrapolate is not None:
        scorecard = msgspec.structs.replace(scorecard, extrapolated=[extrapolated(scorecard, extrapolate)])
    if verifier_error is not None:
        scorecard = msgspec.structs.replace(scorecard, verifier_error=_error(opened, scorecard, ks, verifier_error))
    scorecard = _with_warnings(_with_audit(scorecard, read_audit(opened)))
    progress.advance(grading.rollouts)
    write_atomically(opened.path / "scorecard.json", encode_scorecard(scorecard))
    return scorecard


def _scored(run: Run, grading: Grading, ks: Sequence[int] | None) -> Scorecard:
    if holds_counts(run):
        return make_counted_scorecard(run.manifest, grading, read_counts(run), ks=ks, clusters=read_clusters(run))
    outcomes = read_outcomes(run)
    if run.manifest.stopping is not None:
        outcomes = _settled(run, grading, outcomes)
    facts = kept_facts(run)
    space = None if facts is None else facts.answer_space
    judging, judged = judged_rollouts(run, outcomes) or (None, None)
    scorecard = make_scorecard(
        run.manifest, grading, outcomes, ks=ks, answer_space=space, flags=outcomes.flags, judged=judged
    )
    return msgspec.structs.replace(scorecard, run=msgspec.structs.replace(scorecard.run, judging=judging))


def _error(
    run: Run, scorecard: Scorecard, ks: Sequence[int] | None, verifier_error: Literal["labels"] | tuple[float, float]
) -> MeasuredError:
    if verifier_error != "labels":
        return rated_error(scorecard, verifier_error, ks)
    if holds_counts(run):
        raise RunError(f"{run.path}: it has counts alone, no rollouts with labels. Give two rates, such as 0.01,0.02.")
    outcomes = read_outcomes(run)
    if run.manifest.stopping is not None:
        outcomes = settled(outcomes)
    return labelled_error(run, outcomes, ks)


def _settled(run: Run, grading: Grading, outcomes: Outcomes) -> Outcomes:
    """The outcomes to score; the stopping rule may have used other verdicts than the current (``stopping.settled``)."""
    looked_at = stopped_on(run)
    if looked_at == grading.folder:
        return settled(outcomes)
    others = list(other_verdicts(run, outcomes, looked_at))
    if looked_at is not None and not others:  # those verdicts are gone: nothing explains when the rule stopped
        return settled(outcomes, [(looked_at, np.zeros(len(outcomes.status), dtype=bool))])
    return settled(outcomes, others, on_record=looked_at is not None)


def _with_audit(scorecard: Scorecard, measured: Audit | None) -> Scorecard:
    """The scorecard with the disagreement rate of the audit of its verdicts, if there is an audit."""
    if measured is None:
        return scorecard
    summary = msgspec.convert(measured, AuditSummary, from_attributes=True)
    return msgspec.structs.replace(
        scorecard,
        run=msgspec.structs.replace(scorecard.run, audit=summary),
        quality={**scorecard.quality, "audit_disagreement_rate": measured.rate},
    )


def _with_warnings(scorecard: Scorecard) -> Scorecard:
    """The scorecard with warnings about what changes the meaning of its numbers; they are logged too."""
    texts = warnings_of(scorecard.run, scorecard.quality, scorecard.estimates)
    for text in texts:
        logger.warning("%s", text)
    return msgspec.structs.replace(scorecard, run=msgspec.structs.replace(scorecard.run, warnings=tuple(texts)))


def permitted(verifier: Verifier, options: GradeOptions) -> Verifier:
    """The verifier, allowed to run programs and third-party scorers without a sandbox if the user allowed it."""
    if not (
        options.allow_unsafe_code and isinstance(verifier, CodeVerifier | InstructionVerifier | ReasoningGymVerifier)
    ):
        return verifier
    return dataclasses.replace(verifier, allow_unsafe=True)
