"""Which files to import: names, globs and folders become a list in which nothing counts twice."""

from __future__ import annotations

import glob
import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from rlvr_bench.errors import DataError, UnknownName
from rlvr_bench.importers.entries import Format, Glimpse
from rlvr_bench.importers.lines import json_lines

__all__ = ["choose_files", "glimpse", "without_copies"]

ENDINGS = (".jsonl", ".json", ".eval", ".parquet", ".csv")
_ZIP, _PARQUET = b"PK\x03\x04", b"PAR1"
_HEAD_BYTES = 4096


def choose_files(
    paths: Sequence[str | Path], formats: Sequence[Format], asked: str | None
) -> tuple[Format, list[Path], list[str]]:
    """The format of these files, the files that hold it, and notes on what was left out.

    A folder gives those of its files that a format knows by their content; a file that is named must be one. Raises
    DataError where a file is damaged, where nothing fits, or several formats do; UnknownName for an ``asked`` format that
    does not exist.
    """
    by_name = {each.name: each for each in formats}
    if asked is not None and asked not in by_name:
        raise UnknownName("format", asked, by_name)
    found: dict[str, list[Path]] = defaultdict(list)
    passed: list[Path] = []
    for file, named in _expanded(paths):
        if name := asked if asked and named else _format_of(file, formats, asked, strict=named):
            found[name].append(file)
        elif file.suffix != ".json":  # summaries, of which every program writes some
            passed.append(file)
    if not found:
        raise DataError(f"{_listed(paths)}: nothing to import. Formats: {', '.join(by_name)}.")
    if len(found) > 1:
        held = "; ".join(f"{name}: {_listed(files)}" for name, files in found.items())
        raise DataError(f"{_listed(paths)}: files of several formats ({held}). Choose one with --format.")
    ((name, files),) = found.items()
    kept, notes = without_copies(files)
    if passed:
        notes.append(f"not of this format, left out: {_listed(passed)}")
    return by_name[name], kept, notes


def glimpse(file: Path) -> Glimpse:
    """What a file begins with. Raises DataError where it cannot be read."""
    try:
        with file.open("rb") as stream:
            head = stream.read(_HEAD_BYTES)
    except OSError as error:
        raise DataError(f"{file}: {error.strerror or error}") from error
    if head.startswith(_ZIP):
        return Glimpse(file=file, kind="zip")
    if head.startswith(_PARQUET):
        try:
            return Glimpse(file=file, kind="parquet", names=frozenset(pq.read_schema(file).names))
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{file}: not a whole parquet file ({str(error).splitlines()[0][:200]})") from error
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
        return Glimpse(file=file, kind="lines", names=_first_fields(file), head=head)
    first = head.partition(b"\n")[0].decode("utf-8", "replace")
    names = frozenset(name.strip().strip('"') for name in first.lstrip("\ufeff").split(","))
    return Glimpse(file=file, kind="text", names=names, head=head)


def without_copies(files: Sequence[Path]) -> tuple[list[Path], list[str]]:
    """The files in the order of the numbers in their names, each content once, and a note on each copy left out."""
    ordered = sorted(files, key=_natural)
    sizes = defaultdict(list)
    for file in ordered:
        sizes[file.stat().st_size].append(file)
    copies: dict[Path, Path] = {}
    for same in sizes.values():
        firsts: dict[bytes, Path] = {}
        for file in same if len(same) > 1 else ():
            first = firsts.setdefault(_digest(file), file)
            if first is not file:
                copies[file] = first
    notes = [f"{file} is a copy of {first}: left out" for file, first in copies.items()]
    return [file for file in ordered if file not in copies], notes


def _expanded(paths: Sequence[str | Path]) -> Iterable[tuple[Path, bool]]:
    """Every file once, and whether it was named itself rather than found in a folder."""
    seen: set[Path] = set()
    for given in paths:
        hits = [Path(given)] if Path(given).exists() else [Path(hit) for hit in glob.glob(str(given), recursive=True)]
        if not hits:
            raise DataError(f"{given}: no such file or folder")
        for hit in hits:
            for file, named in _below(hit) if hit.is_dir() else [(hit, True)]:
                if file.resolve() not in seen:
                    seen.add(file.resolve())
                    yield file, named


def _below(folder: Path) -> list[tuple[Path, bool]]:
    return [(file, False) for file in sorted(folder.rglob("*")) if file.suffix in ENDINGS and file.is_file()]


def _format_of(file: Path, formats: Sequence[Format], asked: str | None, *, strict: bool) -> str | None:
    seen = glimpse(file)
    name = next((each.name for each in formats if asked in (None, each.name) and each.fits(seen)), None)
    if name is None and strict:
        fields = ", ".join(sorted(seen.names)[:8]) or "none"
        known = ", ".join(each.name for each in formats)
        raise DataError(f"{file}: a file of none of the known formats ({known}); its first fields: {fields}")
    return name


def _first_fields(file: Path) -> frozenset[str]:
    """The fields of the first line; none where it is no whole JSON object, but in a file that should hold such lines."""
    try:
        return frozenset(next((fields for _, fields in json_lines(file, dict[str, msgspec.Raw])), ()))
    except DataError:
        if file.suffix == ".jsonl":
            raise
        return frozenset()


def _digest(file: Path) -> bytes:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").digest()


def _natural(file: Path) -> list[tuple[int, str]]:
    """``output-rs2`` before ``output-rs10``."""
    parts = re.split(r"(\d{1,18})", str(file))
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


def _listed(paths: Sequence[str | Path]) -> str:
    return ", ".join(map(str, paths[:3])) + (f" and {len(paths) - 3} more" if len(paths) > 3 else "")
