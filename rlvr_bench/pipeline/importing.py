"""Imports rollouts or counts of other programs as a run with a scorecard, like a run drawn here."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from pathlib import Path

import msgspec

from rlvr_bench import pipeline
from rlvr_bench.disagreements import Disagreements, read_disagreements
from rlvr_bench.errors import BadArgument, DataError, RunError
from rlvr_bench.importers.collecting import Collected, Collector
from rlvr_bench.importers.counted_runs import write_counts
from rlvr_bench.importers.files import listed
from rlvr_bench.importers.mapping_files import save_mapping
from rlvr_bench.importers.matching import Matching
from rlvr_bench.importers.regrading import UNKNOWN, check_gradable, check_responses, named_task
from rlvr_bench.options import GradeOptions, ImportOptions
from rlvr_bench.pipeline.folders import find_run
from rlvr_bench.pipeline.import_notes import data_notes, matched_notes, single_rollouts
from rlvr_bench.pipeline.import_sources import ImportSource, choose_source
from rlvr_bench.pipeline.options import Progress, Silent
from rlvr_bench.pipeline.printed_numbers import printed_notes
from rlvr_bench.pipeline.progress import with_progress
from rlvr_bench.pipeline.run_tasks import facts_of, grading_task
from rlvr_bench.scorecard import THEIRS, Scorecard
from rlvr_bench.store import SCHEMA, Manifest, open_run
from rlvr_bench.store.paths import staged, write_atomically
from rlvr_bench.store.problem_files import encode_problems, file_digest
from rlvr_bench.store.prompt_files import write_prompts
from rlvr_bench.store.record_files import write_record
from rlvr_bench.store.run import Run
from rlvr_bench.store.verdicts import Grading
from rlvr_bench.task import LoadedTask, Task, load_task

__all__ = ["ImportOptions", "Imported", "import_run"]

logger = logging.getLogger(__name__)


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
    source = choose_source(paths, options or ImportOptions())
    options = source.options
    known = named_task(options.task) if options.task else None
    manifest = _manifest(source, known)
    target = find_run(options.out, manifest.model, manifest.task)
    if target.exists():
        raise RunError(f"{target}: there is a run already. Name another --model or --out, or remove it.")
    loaded, unmatched = (None, []) if known is None else _loaded(source)
    progress = progress or Silent()
    with staged(target) as staging:
        run = Run(staging, manifest if loaded is None else _of_task(manifest, loaded))
        collector, remarks = _read_all(run, source, loaded, progress)
        if collector.is_empty:
            raise DataError(f"{listed(source.files)}: no rollouts in these files")
        collected = collector.finish()
        remarks = [*unmatched, *matched_notes(collector.matching, collected), *remarks]
        if source.mapping is not None and max(collected.n) == 1:
            logger.warning("%s: %s", source.files[0], single_rollouts(source.mapping, len(collected.n)))
        _write(collector, collected, source)
    if options.regrade:
        pipeline.grade(target, grading, progress, options.task, options.data_dir)
    if source.mapping is not None and options.save_map is not None:
        save_mapping(Path(options.save_map), source.mapping, options)
    card = pipeline.score(target, progress=progress)
    numbers = () if options.regrade else source.format.printed(source.files, collector.verdict)
    notes = (
        *source.notes,
        *remarks,
        *data_notes(collected, counts=collector.counts_only),
        *printed_notes(numbers, card),
    )
    return Imported(run=target, scorecard=card, notes=notes, disagreements=read_disagreements(open_run(target)))


def _manifest(source: ImportSource, known: tuple[Task, Path] | None) -> Manifest:
    """The manifest before the responses are read; problems and n are set later."""
    options, chosen, files = source.options, source.format, source.files
    if options.regrade and known is None:
        raise BadArgument("--task", options.task, "must be a task whose verifier grades these responses, for --regrade")
    model, name = options.model or source.origin.model, options.task or source.origin.task
    missing = [what for what, value in (("model", model), ("task", name)) if not value]
    if missing:
        raise BadArgument(
            " and ".join(f"--{what}" for what in missing),
            None,
            f"must name the {' and the '.join(missing)}: {'a mapping does' if source.mapping else f'{chosen.name} files do'} "
            f"not say {'it' if len(missing) == 1 else 'them'}",
        )
    more = f" and {len(files) - 1} more" if len(files) > 1 else ""
    return Manifest(
        schema=SCHEMA,
        task=known[0].name if known else name,
        task_version=UNKNOWN,
        task_file=LoadedTask(task=known[0], file=known[1], problems=(), digest="").reference if known else "",
        source=f"{chosen.name}: {files[0].name}{more}",
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
        asked={} if source.mapping is None else source.mapping.options(),
        seed=None,
        draw_batch=None,
        stopping=None,
        n=0,
        sessions=(),
        imported=chosen.name,
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


def _loaded(source: ImportSource) -> tuple[LoadedTask | None, list[str]]:
    """The task with the problems to match. The task is None, and its verifier reads the files' own problems, for a task of
    the user's that has none of the files' problems, and where the task's cannot be read, which a note says.
    """
    options = source.options
    try:
        loaded = load_task(str(options.task), options.data_dir)
    except DataError as error:
        return None, [
            f"the problems are not matched to those of {options.task}, so it compares with no run of them: {error}"
        ]
    if loaded.is_shipped:
        return loaded, []
    trial = Matching(loaded)
    for file in source.files:
        for entry in source.format.read(file, options.verdict, True):
            trial.resolve(entry)
    return (None if trial.is_empty else loaded), []


def _read_all(
    run: Run, source: ImportSource, loaded: LoadedTask | None, progress: Progress
) -> tuple[Collector, list[str]]:
    """Store all entries; returns the collector, and notes on what was read.

    To grade responses again their verdicts are not needed: several verdicts to choose from, or a mean over several
    responses, are no reason to refuse the import, but the other program's verdicts are then not kept.
    """
    try:
        return _collected(run, source, loaded, progress, responses_only=False)
    except DataError as error:
        if not source.options.regrade:
            raise
        lost = f"the verdicts of {source.format.name} are not kept beside ours: {error}"
    for name in ("rollouts", "verdicts"):
        shutil.rmtree(run.path / name, ignore_errors=True)
    collector, remarks = _collected(run, source, loaded, progress, responses_only=True)
    return collector, [*remarks, lost]


def _collected(
    run: Run, source: ImportSource, loaded: LoadedTask | None, progress: Progress, *, responses_only: bool
) -> tuple[Collector, list[str]]:
    progress.start("import", len(source.files), 0, "files")
    reading = source.open(responses_only=responses_only)
    matching = None if loaded is None else Matching(loaded)
    version = source.origin.version or UNKNOWN
    collector = Collector(run, f"{THEIRS}{source.format.name}", version, reading.rule, matching)
    for file in source.files:
        collector.take(reading.entries(file))
        if source.options.regrade and collector.counts_only and not responses_only:
            raise DataError(f"{file}: one verdict for several responses")
        progress.advance(1)
    return collector, list(reading.remarks())


def _write(collector: Collector, collected: Collected, source: ImportSource) -> None:
    """Write problems, manifest, and which verdicts are current; the shards are written already."""
    run, total, options = collector.run, sum(collected.n), source.options
    content = encode_problems(collected.problems)
    manifest = msgspec.structs.replace(run.manifest, n=max(collected.n), problems_file_sha256=file_digest(content))
    if collector.matching is None:
        manifest = msgspec.structs.replace(
            manifest, n_problems=len(collected.problems), problems_sha256=collected.digest
        )
    write_atomically(run.path / "problems.jsonl", content)
    if collected.prompts and not collected.prompts_differ:
        write_prompts(run, collected.prompts)
    if collector.counts_only:
        if options.regrade:
            raise RunError(f"{run.manifest.source}: counts without responses; there is nothing to grade")
        names = (problem.id for problem in collected.problems)
        counts = zip(names, collected.n, collected.c, strict=True)
        clusters = {problem.id: problem.cluster for problem in collected.problems}
        write_counts(run, counts, _counted_grading(collector, collected), clusters)
    elif collected.unjudged < total:
        collector.verdicts.publish(0, 0.0, says_no_answer=source.format.says_no_answer)
    elif options.regrade:
        shutil.rmtree(run.path / "verdicts")  # they say of every response that there was no verdict
    else:
        first = "Map verdict= or reward=" if source.mapping else f"Evaluate them with {run.manifest.imported} first"
        advice = f"Its {collected.advice}" if collected.rewards else first
        raise DataError(
            f"{run.manifest.source}: no response has a verdict of its own. {advice}, or grade them here: "
            "--task NAME --regrade"
        )
    if options.regrade:
        staged_run = Run(run.path, manifest)
        check_responses(staged_run, manifest.source)
        check_gradable(staged_run, grading_task(staged_run, options.task, options.data_dir), manifest.source)
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
