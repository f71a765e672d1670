"""Imports rollouts or counts of other programs as a run with a scorecard, like a run drawn here."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from rlvr_bench import pipeline
from rlvr_bench.disagreements import Disagreements, read_disagreements
from rlvr_bench.errors import BadArgument, DataError, RunError, in_one_line
from rlvr_bench.importers import FORMATS, Format, Origin
from rlvr_bench.importers.collecting import Collected, Collector
from rlvr_bench.importers.counted_runs import write_counts
from rlvr_bench.importers.files import choose_files
from rlvr_bench.importers.golds import differing_golds
from rlvr_bench.importers.matching import Matching
from rlvr_bench.importers.regrading import UNKNOWN, check_gradable, check_responses, named_task
from rlvr_bench.options import GradeOptions, ImportOptions
from rlvr_bench.pipeline.folders import find_run
from rlvr_bench.pipeline.options import Progress, Silent
from rlvr_bench.pipeline.progress import with_progress
from rlvr_bench.pipeline.run_tasks import facts_of, grading_task
from rlvr_bench.scorecard import THEIRS, Scorecard
from rlvr_bench.store import SCHEMA, Manifest, open_run
from rlvr_bench.store.paths import staged, write_atomically
from rlvr_bench.store.problem_files import encode_problems, file_digest
from rlvr_bench.store.record_files import write_record
from rlvr_bench.store.run import Run
from rlvr_bench.store.verdicts import Grading
from rlvr_bench.task import LoadedTask, Task, load_task

__all__ = ["ImportOptions", "Imported", "import_run"]

_EXAMPLES = 3


class Imported(msgspec.Struct, frozen=True, kw_only=True):
    """The run that an import made, its scorecard, and notes for the user about the data.

    ``disagreements``: where our verifier and the other program differ; None where only one of them judged.
    """

    run: Path
    scorecard: Scorecard
    notes: tuple[str, ...]
    disagreements: Disagreements | None = None


@with_progress
def import_run(
    paths: Sequence[str | Path],
    options: ImportOptions | None = None,
    grading: GradeOptions | None = None,
    progress: Progress | None = None,
) -> Imported:
    """Read files, globs or folders of one evaluation by another program into ``out/<model>/<task>``, and score it.

    With a task of ours the problems are matched to the task's (``importers.matching``), and the run has the task's ids,
    questions, gold answers and tests. What the files do not contain (sampling parameters, seeds, engine, entropy) is
    unknown in the run. Raises DataError for files that are not valid in their format, or hold problems that the task does
    not have; RunError where the run exists or cannot be regraded; BadArgument where model or task is not known;
    StorageError. If it fails before the run is complete, no run folder is left.
    """
    options = options or ImportOptions()
    chosen, files, notes = choose_files(paths, FORMATS, options.format)
    origin, files = chosen.survey(files)
    source = _Source(chosen, origin, files)
    known = named_task(options.task) if options.task else None
    manifest = _manifest(source, known, options)
    target = find_run(options.out, manifest.model, manifest.task)
    if target.exists():
        raise RunError(f"{target}: there is a run already. Name another --model or --out, or remove it.")
    loaded = None if known is None else _loaded(source, options)
    progress = progress or Silent()
    with staged(target) as staging:
        run = Run(staging, manifest if loaded is None else _of_task(manifest, loaded))
        collector, lost = _read_all(run, source, loaded, options, progress)
        collected = collector.finish()
        matched_notes = _matched_notes(collector.matching, collected)
        _write(collector, collected, options)
    if options.regrade:
        pipeline.grade(target, grading, progress, options.task, options.data_dir)
    card = pipeline.score(target, progress=progress)
    every_note = (*notes, *origin.notes, *matched_notes, *_notes(collected, counts=collector.counts_only), *lost)
    return Imported(run=target, scorecard=card, notes=every_note, disagreements=read_disagreements(open_run(target)))


@dataclass(frozen=True)
class _Source:
    """The files to import, their format and where they come from."""

    format: Format
    origin: Origin
    files: Sequence[Path]


def _manifest(source: _Source, known: tuple[Task, Path] | None, options: ImportOptions) -> Manifest:
    """The manifest before the responses are read; problems and n are set later."""
    if options.regrade and known is None:
        raise BadArgument("--task", options.task, "must be a task whose verifier grades these responses, for --regrade")
    model, name = options.model or source.origin.model, options.task or source.origin.task
    for what, value in (("model", model), ("task", name)):
        if not value:
            raise BadArgument(f"--{what}", None, f"must name the {what}: {source.format.name} files do not say it")
    more = f" and {len(source.files) - 1} more" if len(source.files) > 1 else ""
    return Manifest(
        schema=SCHEMA,
        task=known[0].name if known else name,
        task_version=UNKNOWN,
        task_file=LoadedTask(task=known[0], file=known[1], problems=(), digest="").reference if known else "",
        source=f"{source.format.name}: {source.files[0].name}{more}",
        problems_sha256="",
        n_problems=0,
        prompt=UNKNOWN,
        prompt_sha256=UNKNOWN,
        chat_template=None,
        model=model,
        weights=UNKNOWN,
        engine=UNKNOWN,
        dtype=UNKNOWN,
        token_stats="none",
        sampling=None,
        asked={},
        seed=None,
        draw_batch=None,
        stopping=None,
        n=0,
        sessions=(),
        imported=source.format.name,
        facts=facts_of(known[0]) if known else None,
    )


def _of_task(manifest: Manifest, loaded: LoadedTask) -> Manifest:
    """The manifest of an import whose problems are the task's."""
    return msgspec.structs.replace(
        manifest,
        task_version=loaded.task.version,
        problems_sha256=loaded.digest,
        n_problems=len(loaded.problems),
    )


def _loaded(source: _Source, options: ImportOptions) -> LoadedTask | None:
    """The task with the problems to match; None for a task of the user's that has none of the files' problems.

    Its verifier then reads the files' own problems. Raises DataError where the task's problems cannot be read.
    """
    try:
        loaded = load_task(str(options.task), options.data_dir)
    except DataError as error:
        raise DataError(f"{error} To import without matching the problems, name another --task.") from error
    if loaded.is_shipped:
        return loaded
    trial = Matching(loaded)
    for file in source.files:
        for entry in source.format.read(file, options.verdict, True):
            trial.resolve(entry)
    return None if trial.is_empty else loaded


def _read_all(
    run: Run, source: _Source, loaded: LoadedTask | None, options: ImportOptions, progress: Progress
) -> tuple[Collector, list[str]]:
    """Store all entries; returns the collector, and a note where the other program's verdicts cannot be kept.

    To grade responses again their verdicts are not needed: several verdicts to choose from, or a mean over several
    responses, are no reason to refuse the import.
    """
    try:
        return _collected(run, source, loaded, options, progress, responses_only=False), []
    except DataError as error:
        if not options.regrade:
            raise
        lost = f"the verdicts of {source.format.name} are not kept beside ours: {error}"
    for name in ("rollouts", "verdicts"):
        shutil.rmtree(run.path / name, ignore_errors=True)
    return _collected(run, source, loaded, options, progress, responses_only=True), [lost]


def _collected(
    run: Run,
    source: _Source,
    loaded: LoadedTask | None,
    options: ImportOptions,
    progress: Progress,
    *,
    responses_only: bool,
) -> Collector:
    matching = None if loaded is None else Matching(loaded)
    collector = Collector(run, f"{THEIRS}{source.format.name}", source.origin.version or UNKNOWN, matching)
    progress.start("import", len(source.files), 0, "files")
    for file in source.files:
        collector.take(source.format.read(file, options.verdict, responses_only))
        if options.regrade and collector.counts_only and not responses_only:
            raise DataError(f"{file}: one verdict for several responses")
        progress.advance(1)
    return collector


def _write(collector: Collector, collected: Collected, options: ImportOptions) -> None:
    """Write problems, manifest, and which verdicts are current; the shards are written already."""
    run, total = collector.run, sum(collected.n)
    content = encode_problems(collected.problems)
    manifest = msgspec.structs.replace(run.manifest, n=max(collected.n), problems_file_sha256=file_digest(content))
    if collector.matching is None:
        manifest = msgspec.structs.replace(
            manifest, n_problems=len(collected.problems), problems_sha256=collected.digest
        )
    write_atomically(run.path / "problems.jsonl", content)
    if collector.counts_only:
        if options.regrade:
            raise RunError(f"{run.manifest.source}: counts without responses; there is nothing to grade")
        names = (problem.id for problem in collected.problems)
        counts = zip(names, collected.n, collected.c, strict=True)
        clusters = {problem.id: problem.cluster for problem in collected.problems}
        write_counts(run, counts, _counted_grading(collector, collected), clusters)
    elif collected.unjudged < total:
        collector.verdicts.publish(0, 0.0)
    elif options.regrade:
        shutil.rmtree(run.path / "verdicts")  # they say of every response that there was no verdict
    else:
        raise DataError(
            f"{run.manifest.source}: no response has a verdict of its own. Evaluate them with {run.manifest.imported} "
            "first, or grade them here: --task NAME --regrade"
        )
    if options.regrade:
        staged_run = Run(run.path, manifest)
        check_responses(staged_run)
        check_gradable(staged_run, grading_task(staged_run, options.task, options.data_dir))
    write_record(run.path / "manifest.json", manifest)


def _counted_grading(collector: Collector, collected: Collected) -> Grading:
    """The grading that the counts come from. Why a rollout was not correct is unknown."""
    verdicts = collector.verdicts
    return Grading(
        verifier=verdicts.name,
        version=verdicts.version,
        options=verdicts.options,
        folder="",
        rollouts=sum(collected.n),
        distinct=0,
        seconds=0.0,
        statuses={"correct": sum(collected.c)},
        text_rules=UNKNOWN,
    )


def _matched_notes(matching: Matching | None, collected: Collected) -> list[str]:
    """How the files' problems and gold answers differ from the task's. Raises VerifierError."""
    if matching is None:
        return []
    loaded, notes = matching.task, []
    name, total = loaded.task.name, len(collected.problems)
    if total < len(loaded.problems):
        notes.append(f"{total} of the {len(loaded.problems)} problems of {name}")
    if matching.other_texts:
        notes.append(
            f"{len(matching.other_texts)} of {total} problems are matched by their ids, though their texts differ from "
            f"those of {name} ({_listed(matching.other_texts)})"
        )
    if differing := differing_golds(loaded, matching.golds):
        answers = {problem.id: problem.answer for problem in loaded.problems}
        shown = [f"{i}: {_cut(matching.golds[i])} in the files, {_cut(answers[i])} in the task" for i in differing]
        notes.append(
            f"gold answers of the files that are not those of {name}, by its verifier: {len(differing)} of {total} "
            f"({_listed(shown, '; ')}). The task's are used here"
        )
    return notes


def _listed(items: Sequence[str], separator: str = ", ") -> str:
    return separator.join(items[:_EXAMPLES]) + (f"{separator}..." if len(items) > _EXAMPLES else "")


def _cut(text: str) -> str:
    return repr(in_one_line(text, 40))


def _notes(collected: Collected, *, counts: bool) -> Iterator[str]:
    fewest, most, total = min(collected.n), max(collected.n), sum(collected.n)
    if fewest != most:
        names = [problem.id for problem, n in zip(collected.problems, collected.n, strict=True) if n < most]
        yield (
            f"rollouts per problem differ: {fewest} to {most}; {len(names)} of {len(collected.n)} problems have fewer "
            f"than {most} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
        )
    if collected.copies:
        yield f"{collected.copies} responses are copies of others, by their identifiers: left out"
    if collected.unjudged and collected.unjudged < total:
        yield f"{collected.unjudged} of {total} responses have no verdict: counted as errors, which are not correct"
    if counts:
        yield "counts only: what needs responses or single verdicts is absent"
