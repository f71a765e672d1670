"""Which files to import: turns names, globs and folders into a list of files without copies."""

from __future__ import annotations

import glob
import hashlib
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from rlvr_bench.errors import DataError, UnknownName, in_one_line, visible
from rlvr_bench.importers.entries import Format, Glimpse
from rlvr_bench.importers.guessing import first_fields, propose
from rlvr_bench.importers.lines import json_lines
from rlvr_bench.importers.streams import open_parquet, open_stream, plain_name, refuse_archive
from rlvr_bench.importers.tables import delimiter, read_rows

__all__ = ["choose_files", "glimpse", "listed", "mapped_files", "table_name", "without_copies"]

ENDINGS = (".jsonl", ".ndjson", ".json", ".eval", ".parquet", ".csv", ".tsv")
_ZIP, _PARQUET = b"PK\x03\x04", b"PAR1"
_HEAD_BYTES = 4096
_MOST_NAMES = 12
_MOST_TRIED = 20  # files of a folder for which a mapping is sought


def mapped_files(paths: Sequence[str | Path]) -> tuple[list[Path], list[str]]:
    """Every file of these names, globs and folders, without copies, and a note on each copy. Raises DataError."""
    files = [file for file, _ in _expanded(paths)]
    if not files:
        raise DataError(
            f"{listed(paths)}: no file in it ends with {', '.join(ENDINGS)}, or with .gz or .zst after that"
        )
    return without_copies(files)


def choose_files(
    paths: Sequence[str | Path], formats: Sequence[Format], asked: str | None
) -> tuple[Format, list[Path], list[str]]:
    """The format of these files, the files in that format, and notes on what was left out.

    From a folder it takes the files whose content fits a format; a file given by name must fit. Raises DataError where a
    file is damaged, or the files fit no format or several; UnknownName for an ``asked`` format that does not exist.
    """
    by_name = {known_format.name: known_format for known_format in formats}
    if asked is not None and asked not in by_name:
        raise UnknownName("format", asked, by_name)
    by_format: dict[str, list[Path]] = defaultdict(list)
    left_out: list[Path] = []
    summaries: list[Path] = []
    for file, named in _expanded(paths):
        if name := asked if asked and named else _format_of(file, formats, asked, strict=named):
            by_format[name].append(file)
        else:  # every program writes some .json summaries
            (summaries if Path(plain_name(file)).suffix == ".json" else left_out).append(file)
    if not by_format:
        raise _nothing_known(paths, [*left_out, *summaries], formats)
    if len(by_format) > 1:
        held = "; ".join(f"{name}: {listed(files)}" for name, files in by_format.items())
        raise DataError(f"{listed(paths)}: files of several formats ({held}). Choose one with --format.")
    ((name, files),) = by_format.items()
    kept, notes = without_copies(files)
    if left_out:
        notes.append(f"not of this format, left out: {listed(left_out)}")
    return by_name[name], kept, notes


def glimpse(file: Path) -> Glimpse:
    """The beginning of a file. Raises DataError where it cannot be read."""
    with open_stream(file) as stream:
        head = stream.read(_HEAD_BYTES)
    if head.startswith(_ZIP):
        return Glimpse(file=file, kind="zip")
    if head.startswith(_PARQUET):
        with open_parquet(file) as source:
            return Glimpse(file=file, kind="parquet", names=frozenset(source.schema_arrow.names))
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
    if start == b"{":
        return Glimpse(file=file, kind="lines", names=_first_fields(file), head=head)
    if start == b"[":
        return Glimpse(file=file, kind="text", names=frozenset(first_fields(file)), head=head)
    first = head.partition(b"\n")[0].decode("utf-8", "replace").lstrip("\ufeff").strip("\r")
    names = frozenset(name.strip().strip('"') for name in first.split(delimiter(first)))
    return Glimpse(file=file, kind="text", names=names, head=head)


def without_copies(files: Sequence[Path]) -> tuple[list[Path], list[str]]:
    """The files, sorted by the numbers in their names, without copies; and a note on each copy left out."""
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
    """Every file once, and whether it was given by name (not by its folder)."""
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
    return [
        (file, False)
        for file in sorted(folder.rglob("*"))
        if Path(plain_name(file)).suffix in ENDINGS and file.is_file()
    ]


def _format_of(file: Path, formats: Sequence[Format], asked: str | None, *, strict: bool) -> str | None:
    seen = glimpse(file)
    name = next(
        (
            known_format.name
            for known_format in formats
            if asked in (None, known_format.name) and known_format.fits(seen)
        ),
        None,
    )
    if name is None and strict:
        refuse_archive(file, _ZIP if seen.kind == "zip" else seen.head)
        if not seen.head.strip(b"\xef\xbb\xbf \t\r\n") and seen.kind == "text":
            raise DataError(f"{file}: empty")
        raise _unknown_file(seen, formats)
    return name


def _nothing_known(paths: Sequence[str | Path], files: Sequence[Path], formats: Sequence[Format]) -> DataError:
    """The error for folders without a file of a known format: a file in them for which a mapping can be proposed."""
    known = ", ".join(known_format.name for known_format in formats)
    for file in files[:_MOST_TRIED]:
        if (proposal := propose(file)) is not None:
            advice = f"{file} looks like: {in_one_line(str(proposal), 400)} ; try it with --preview"
            return DataError(f"{listed(paths)}: no file in it fits one of the known formats ({known}). {advice}")
    return DataError(f"{listed(paths)}: nothing to import. Formats: {known}.")


def _unknown_file(seen: Glimpse, formats: Sequence[Format]) -> DataError:
    """The error for a file that no format knows: its fields and the mapping that they suggest, or why it cannot be read."""
    known = ", ".join(known_format.name for known_format in formats)
    try:
        next(read_rows(seen.file, frozenset()), None)
    except DataError as error:
        return DataError(f"{error}; it fits none of the known formats ({known})")
    names = first_fields(seen.file) or sorted(seen.names)
    fields = in_one_line(", ".join(visible(name) for name in names[:_MOST_NAMES]), 300)
    proposal = propose(seen.file)
    if not names:
        return DataError(f"{seen.file}: fits none of the known formats ({known}), and is no table with named fields")
    advice = "Say which field is what: --map problem=FIELD,gold=FIELD,text=FIELD,verdict=FIELD"
    if proposal is not None:
        advice = f"Looks like: {in_one_line(str(proposal), 400)} ; try it with --preview"
    return DataError(f"{seen.file}: fits none of the known formats ({known}); its first fields: {fields}. {advice}")


def _first_fields(file: Path) -> frozenset[str]:
    """The fields of the first line; none where it is not a JSON object. Raises DataError for such a .jsonl file."""
    try:
        return frozenset(next((fields for _, fields in json_lines(file, dict[str, msgspec.Raw])), ()))
    except DataError:
        if Path(plain_name(file)).suffix == ".jsonl":
            raise
        return frozenset()


def _digest(file: Path) -> bytes:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").digest()


def _natural(file: Path) -> list[tuple[int, str]]:
    """Sort key that puts ``output-rs2`` before ``output-rs10``."""
    parts = re.split(r"(\d{1,18})", str(file))
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


def table_name(files: Sequence[Path]) -> str:
    """The name of a table without its endings; of several files, that of the folder that holds them all. Printable."""
    whole = [file.resolve() for file in files]
    common = Path(plain_name(whole[0])) if len(whole) == 1 else Path(os.path.commonpath(whole))
    return visible(common.stem if len(whole) == 1 else common.name).strip()


def listed(paths: Sequence[str | Path]) -> str:
    """The first three of these paths, and how many more there are."""
    return ", ".join(map(str, paths[:3])) + (f" and {len(paths) - 3} more" if len(paths) > 3 else "")
