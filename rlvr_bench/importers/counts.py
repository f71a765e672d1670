"""A CSV file with the columns ``problem_id``, ``n`` (rollouts of the problem) and ``c`` (correct ones).

A column ``cluster`` groups problems that are not independent: of one paper, one subject, one template.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

from rlvr_bench.errors import DataError
from rlvr_bench.importers.entries import Count, Format, Glimpse, Origin

__all__ = ["CLUSTER", "COLUMNS", "FORMAT"]

COLUMNS = ("problem_id", "n", "c")
CLUSTER = "cluster"


def _fits(seen: Glimpse) -> bool:
    return seen.kind == "text" and seen.names.issuperset(COLUMNS)


def _survey(files: Sequence[Path]) -> tuple[Origin, list[Path]]:
    return Origin(), list(files)


def _read(file: Path, verdict: str | None, responses_only: bool) -> Iterator[Count]:
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            reader = csv.DictReader(lines, strict=True)
            if missing := [name for name in COLUMNS if name not in (reader.fieldnames or ())]:
                raise DataError(f"{file}: no column {', '.join(missing)}; expected {', '.join(COLUMNS)}")
            for row in reader:
                yield _count(f"{file}, line {reader.line_num}", row)
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: not UTF-8 text (byte {error.start})") from error
    except csv.Error as error:
        raise DataError(f"{file}: not a CSV file ({error})") from error
    except OSError as error:
        raise DataError(f"{file}: {error.strerror or error}") from error


def _count(where: str, row: dict[str, str | None]) -> Count:
    name = (row["problem_id"] or "").strip()
    if not name:
        raise DataError(f"{where}: problem_id is empty")
    n, c = (_whole(where, column, row[column]) for column in ("n", "c"))
    if c > n:
        raise DataError(f"{where}: c is {c}, more than n, {n}")
    return Count(where=where, problem=name, n=n, c=c, cluster=(row.get(CLUSTER) or "").strip())


def _whole(where: str, column: str, text: str | None) -> int:
    value = (text or "").strip()
    if not (value.isascii() and value.isdecimal() and len(value) < 10):
        raise DataError(f"{where}: {column} is {value[:40]!r}, must be a whole number from 0")
    return int(value)


FORMAT = Format(name="counts", fits=_fits, survey=_survey, read=_read)
