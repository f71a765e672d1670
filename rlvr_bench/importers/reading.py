"""Reads the files of an import: entries of a format, with the user's rules for verdicts, answers and order applied."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import cast

import msgspec

from rlvr_bench.errors import DataError
from rlvr_bench.importers.correct_rules import CorrectRule
from rlvr_bench.importers.entries import Count, Format, ImportedEntry, Response
from rlvr_bench.importers.numbering import Numbering
from rlvr_bench.importers.values import shown

__all__ = ["Reading"]


class Reading:
    """Reads files of one format.

    ``verdict`` and ``responses_only`` as in ``Format.read``. ``correct`` decides what is correct in place of the program,
    and answers in ``no_answer`` mean none; a mapping has both in itself. ``rule`` is the text of what is correct.
    """

    def __init__(
        self,
        chosen: Format,
        *,
        verdict: str | None = None,
        responses_only: bool = False,
        correct: CorrectRule | None = None,
        no_answer: Sequence[str] = (),
    ) -> None:
        self._format = chosen
        self._verdict, self._responses_only = verdict, responses_only
        self.rule = "" if correct is None or responses_only else str(correct)
        is_mapped = chosen.mapping is not None
        self._correct = None if is_mapped else correct
        self._no_answer = frozenset() if is_mapped else chosen.no_answer | {mark.strip() for mark in no_answer}
        self._numbering: Numbering | None = None
        paths = () if chosen.mapping is None else chosen.mapping.paths
        self._has_index, self._counted = "index" in paths, bool(paths) and "text" not in paths and "n" not in paths

    def prepare(self, files: Sequence[Path]) -> None:
        """Read the numbers of all rollouts, where the files hold them: they decide the order. Raises DataError."""
        if self._has_index:
            self._numbering = Numbering()
            for file in files:
                self._numbering.note(cast(Iterable[Response], self._read(file)))
            self._numbering.sort()
            self._format.restart()

    def entries(self, file: Path) -> Iterator[ImportedEntry]:
        """The entries of a file. Raises DataError."""
        entries = self._read(file)
        if self._numbering is not None:
            entries = self._numbering.numbered(cast(Iterable[Response], entries))
        return map(_as_count, entries) if self._counted else entries

    def remarks(self) -> Iterator[str]:
        """Notes for the user, after all files were read. Raises DataError where conditions kept nothing."""
        yield from self._format.remarks()
        if self._numbering is not None and self._numbering.copies:
            yield f"{self._numbering.copies} rollouts are copies of others, by their index: left out"

    def _read(self, file: Path) -> Iterator[ImportedEntry]:
        for entry in self._format.read(file, self._verdict, self._responses_only):
            yield self._ruled(entry) if isinstance(entry, Response) else entry

    def _ruled(self, entry: Response) -> Response:
        if self._correct is not None and not self._responses_only:
            entry = msgspec.structs.replace(entry, status=self._status(entry, self._correct))
        if entry.answer is not None and entry.answer.strip() in self._no_answer:
            status = "no_answer" if entry.status == "wrong" else entry.status
            entry = msgspec.structs.replace(entry, answer=None, status=status)
        return entry

    def _status(self, entry: Response, rule: CorrectRule) -> str | None:
        if entry.reward is None:
            if entry.status in ("correct", "wrong"):
                raise DataError(
                    f"{entry.where}: --correct does not go with {self._format.name} files: their verdicts are no numbers"
                )
            return entry.status
        try:
            status = rule.status(entry.reward)
        except ValueError as error:
            raise DataError(
                f"{entry.where}: {entry.verdict or 'the verdict'} is {shown(entry.reward)}, which {error}"
            ) from None
        return "no_answer" if status == "wrong" and entry.status == "no_answer" else status


def _as_count(entry: ImportedEntry) -> ImportedEntry:
    """A rollout without its response, as a count of one."""
    if isinstance(entry, Count):
        return entry
    return Count(
        where=entry.where,
        problem=entry.problem,
        question=entry.question,
        gold=entry.gold,
        verdict=entry.verdict,
        cluster=entry.cluster,
        tier=entry.tier,
        prompt=entry.prompt,
        n=1,
        c=int(entry.status == "correct"),
        partial=True,
    )
