"""Which files an import reads, in which format, and by which rules of the user."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rlvr_bench.errors import BadArgument
from rlvr_bench.importers import FORMATS, Format, Origin
from rlvr_bench.importers.correct_rules import CorrectRule
from rlvr_bench.importers.files import choose_files, mapped_files, table_name
from rlvr_bench.importers.mapped import mapped_format
from rlvr_bench.importers.mapping import FieldMapping
from rlvr_bench.importers.mapping_files import check_new_mapping, resolved
from rlvr_bench.importers.reading import Reading
from rlvr_bench.importers.regrading import named_task
from rlvr_bench.options import ImportOptions

__all__ = ["ImportSource", "choose_source"]


@dataclass(frozen=True, kw_only=True)
class ImportSource:
    """The files of an import, their format and where they come from; ``options`` as completed by a mapping's file."""

    options: ImportOptions
    mapping: FieldMapping | None
    format: Format
    files: list[Path]
    origin: Origin
    correct: CorrectRule | None
    notes: tuple[str, ...]

    def open(self, *, responses_only: bool = False, in_order: bool = True) -> Reading:
        """Begin to read the files, from the first one. Raises DataError.

        ``in_order``: put the rollouts in the order of the files' own numbers, for which all files are read once before.
        """
        self.format.restart()
        reading = Reading(
            self.format,
            verdict=self.options.verdict,
            responses_only=responses_only,
            correct=self.correct,
            no_answer=self.options.no_answer,
        )
        if in_order:
            reading.prepare(self.files)
        return reading


def choose_source(paths: Sequence[str | Path], options: ImportOptions, *, preview: bool = False) -> ImportSource:
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
    if mapping is not None and options.model and not options.task:
        name = table_name(files)
        origin = Origin(task=name, notes=(f"the task has the name of the files, {name}: --task gives it another",))
    return ImportSource(
        options=options,
        mapping=mapping,
        format=chosen,
        files=files,
        origin=origin,
        correct=rule,
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
