"""Imports rollouts or counts of other programs as a run with a scorecard, like a run drawn here."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from rlvr_bench import pipeline
from rlvr_bench.errors import BadArgument, DataError, RunError
from rlvr_bench.importers import FORMATS, Format, Origin
from rlvr_bench.importers.collecting import Collected, Collector
from rlvr_bench.importers.correct_rules import CorrectRule
from rlvr_bench.importers.counted_runs import write_counts
from rlvr_bench.importers.files import choose_files, mapped_files
from rlvr_bench.importers.mapped import mapped_format
from rlvr_bench.importers.mapping import FieldMapping
from rlvr_bench.importers.mapping_files import check_new_mapping, resolved, save_mapping
from rlvr_bench.importers.reading import Reading
from rlvr_bench.importers.regrading import check_gradable, check_responses, named_task
from rlvr_bench.options import GradeOptions, ImportOptions
from rlvr_bench.pipeline.folders import find_run
from rlvr_bench.pipeline.options import Progress, Silent
from rlvr_bench.pipeline.printed_numbers import printed_notes
from rlvr_bench.pipeline.progress import with_progress
from rlvr_bench.pipeline.run_tasks import facts_of, grading_task
from rlvr_bench.scorecard import Scorecard
from rlvr_bench.store import SCHEMA, Manifest
from rlvr_bench.store.paths import staged, write_atomically
from rlvr_bench.store.problem_files import encode_problems, file_digest
from rlvr_bench.store.prompt_files import write_prompts
from rlvr_bench.store.record_files import write_record
from rlvr_bench.store.run import Run
from rlvr_bench.store.verdicts import Grading
from rlvr_bench.task import LoadedTask

__all__ = ["Chosen", "ImportOptions", "Imported", "chosen_reading", "import_run"]

logger = logging.getLogger(__name__)

UNKNOWN = "unknown"


class Imported(msgspec.Struct, frozen=True, kw_only=True):
    """The run that an import made, its scorecard, and notes for the user about the data."""

    run: Path
    scorecard: Scorecard
    notes: tuple[str, ...]


@with_progress
def import_run(
    paths: Sequence[str | Path],
    options: ImportOptions | None = None,
    grading: GradeOptions | None = None,
    progress: Progress | None = None,
) -> Imported:
    """Read files, globs or folders of one evaluation by another program into ``out/<model>/<task>``, and score it.

    What the files do not contain (sampling parameters, seeds, engine, entropy) is unknown in the run. Raises DataError
    for files that are not valid in their format, RunError where the run exists or cannot be regraded, BadArgument where
    model or task is not known, StorageError. If it fails before the run is complete, no run folder is left.
    """
    chosen = chosen_reading(paths, options or ImportOptions())
    options, files, reading = chosen.options, chosen.files, chosen.reading
    manifest = _manifest(chosen.format, chosen.origin, files, options)
    target = find_run(options.out, manifest.model, manifest.task)
    if target.exists():
        raise RunError(f"{target}: there is a run already. Name another --model or --out, or remove it.")
    progress = progress or Silent()
    progress.start("import", len(files), 0, "files")
    with staged(target) as staging:
        verifier = None if options.regrade else f"imported:{chosen.format.name}"
        collector = Collector(Run(staging, manifest), verifier, chosen.origin.version or UNKNOWN, reading.rule)
        reading.prepare(files)
        for file in files:
            collector.take(reading.entries(file))
            progress.advance(1)
        remarks = tuple(reading.remarks())
        collected = collector.finish()
        if chosen.mapping is not None and max(collected.n) == 1:
            logger.warning("%s: %s", files[0], _single(chosen.mapping, len(collected.n)))
        _write(collector, collected, options, chosen.format)
    if options.regrade:
        pipeline.grade(target, grading, progress, options.task)
    if chosen.mapping is not None and options.save_map is not None:
        save_mapping(Path(options.save_map), chosen.mapping, options)
    card = pipeline.score(target, progress=progress)
    numbers = () if options.regrade else chosen.format.printed(files, collector.verdict)
    every_note = (
        *chosen.notes,
        *remarks,
        *_notes(collected, counts=collector.counts_only),
        *printed_notes(numbers, card),
    )
    return Imported(run=target, scorecard=card, notes=every_note)


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """The files of an import and how they are read; ``options`` as completed by a mapping's file."""

    options: ImportOptions
    mapping: FieldMapping | None
    format: Format
    files: list[Path]
    origin: Origin
    reading: Reading
    notes: tuple[str, ...]


def chosen_reading(paths: Sequence[str | Path], options: ImportOptions, *, preview: bool = False) -> Chosen:
    """The files and their format: the user's mapping reads every file, else the content decides. Raises as ``import_run``.

    For a ``preview``, responses without verdicts need no task.
    """
    options, mapping = resolved(options)
    if options.save_map is not None:
        check_new_mapping(options.save_map, mapping)
    rule = None if options.correct is None else CorrectRule.parse(options.correct)
    if mapping is None:
        chosen, files, notes = choose_files(paths, FORMATS, options.format)
    else:
        chosen, (files, notes) = mapped_format(mapping), mapped_files(paths)
    if not (preview or options.regrade):
        options = _grading_here(options, chosen)
    origin, files = chosen.survey(files)
    reading = Reading(
        chosen,
        verdict=options.verdict,
        responses_only=options.regrade,
        correct=rule,
        no_answer=options.no_answer,
    )
    return Chosen(
        options=options,
        mapping=mapping,
        format=chosen,
        files=files,
        origin=origin,
        reading=reading,
        notes=(*notes, *origin.notes),
    )


def _grading_here(options: ImportOptions, chosen: Format) -> ImportOptions:
    """The options with ``regrade`` where the files hold no verdicts. Raises BadArgument where no task of ours is named."""
    mapping = chosen.mapping
    if chosen.holds_verdicts if mapping is None else mapping.judged:
        return options
    if not options.task or named_task(options.task) is None:
        names = "--task" if options.model else "--model and --task"
        lacks = "the mapping has no verdict=, no reward=, no n= and c="
        reason = f"{chosen.name} files hold no verdicts" if mapping is None else lacks
        raise BadArgument(names, options.task, f"must name a task whose verifier grades these responses: {reason}")
    return dataclasses.replace(options, regrade=True)


def _single(mapping: FieldMapping, problems: int) -> str:
    """What to say where a mapping gives every problem one rollout."""
    path = mapping.paths.get("problem") or mapping.paths["question"]
    return (
        f"every problem has one rollout ({problems} problems), so that pass@k above k = 1 is unknown. Is {path.text} "
        "different in every rollout? Map problem= to what the rollouts of a problem share"
    )


def _manifest(chosen: Format, origin: Origin, files: Sequence[Path], options: ImportOptions) -> Manifest:
    """The manifest before the responses are read; problems and n are set later."""
    known = named_task(options.task) if options.task else None
    if options.regrade and known is None:
        raise BadArgument("--task", options.task, "must be a task whose verifier grades these responses, for --regrade")
    model, name = options.model or origin.model, options.task or origin.task
    missing = [what for what, value in (("model", model), ("task", name)) if not value]
    if missing:
        raise BadArgument(
            " and ".join(f"--{what}" for what in missing),
            None,
            f"must name the {' and the '.join(missing)}: {'a mapping does' if chosen.mapping else f'{chosen.name} files do'} "
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
        asked={} if chosen.mapping is None else chosen.mapping.options(),
        seed=None,
        draw_batch=None,
        stopping=None,
        n=0,
        sessions=(),
        imported=chosen.name,
        facts=facts_of(known[0]) if known else None,
    )


def _write(collector: Collector, collected: Collected, options: ImportOptions, chosen: Format) -> None:
    """Write problems, manifest, and which verdicts are current; the shards are written already."""
    run, total = collector.run, sum(collected.n)
    content = encode_problems(collected.problems)
    manifest = msgspec.structs.replace(
        run.manifest,
        n=max(collected.n),
        n_problems=len(collected.problems),
        problems_sha256=collected.digest,
        problems_file_sha256=file_digest(content),
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
    elif options.regrade:
        staged_run = Run(run.path, manifest)
        check_responses(staged_run)
        check_gradable(staged_run, grading_task(staged_run, options.task))
    elif collected.unjudged == total:
        advice = f"Its {collected.advice}" if collected.rewards else f"Evaluate them with {run.manifest.imported} first"
        raise DataError(
            f"{run.manifest.source}: no response has a verdict of its own. {advice}, or grade them here: "
            "--task NAME --regrade"
        )
    else:
        collector.verdicts.publish(0, 0.0, says_no_answer=chosen.says_no_answer)
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
        advice = f" ({collected.advice})" if collected.rewards else ""
        yield (
            f"{collected.unjudged} of {total} responses have no verdict: counted as errors, which are not correct{advice}"
        )
    if collected.prompts_differ:
        yield f"the prompts of {collected.prompts_differ} problems differ between their rollouts: prompts are not kept"
    if counts:
        yield "counts only: what needs responses or single verdicts is absent"
