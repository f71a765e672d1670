"""bigcode-evaluation-harness: ``generations_TASK.json``, an array with an array of programs per problem.

Problems have no ids: they are in the order of the data set. The file has no verdicts, and the results beside it only give
pass@k of the whole: the verdicts come from the tests of a task.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from rlvr_bench.errors import DataError
from rlvr_bench.importers.entries import Format, Glimpse, Origin, Response
from rlvr_bench.importers.tables import read_rows

__all__ = ["FORMAT"]

_LISTS = re.compile(rb'[\xef\xbb\xbf\s]*\[\s*\[\s*"')
_ANY_FIELD: frozenset[str] = frozenset()
_HUMANEVAL = re.compile(r"humaneval(?![a-z])", re.IGNORECASE)  # not humanevalpack and the like


def _fits(seen: Glimpse) -> bool:
    return seen.kind == "text" and _LISTS.match(seen.head) is not None


def _survey(files: Sequence[Path]) -> tuple[Origin, list[Path]]:
    if len(files) > 1:
        raise DataError(f"{files[0]} and {len(files) - 1} more: generations of several tasks or models. Name one file.")
    return Origin(), list(files)


def _read(file: Path, verdict: str | None, responses_only: bool) -> Iterator[Response]:
    if verdict is not None:
        raise DataError(f"{file}: no verdict {verdict!r}: generations of the bigcode harness hold none")
    name = "HumanEval/" if _HUMANEVAL.search(file.stem) else ""
    for row in read_rows(file, _ANY_FIELD):
        if not isinstance(row.value, list) or not all(isinstance(text, str) for text in row.value):
            raise DataError(f"{row.where}: element {row.number + 1} must be a list of texts")
        for text in row.value:
            yield Response(where=row.where, problem=f"{name}{row.number}", question="", gold="", text=text)


FORMAT = Format(name="bigcode", fits=_fits, survey=_survey, read=_read, holds_verdicts=False)
