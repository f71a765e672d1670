"""Mappings kept in a TOML file, with all that an import through them needs."""

from __future__ import annotations

import dataclasses
import json
import tomllib
from collections.abc import Mapping
from pathlib import Path

import msgspec

from rlvr_bench.errors import BadArgument, DataError
from rlvr_bench.importers.mapping import FieldMapping, split_pairs
from rlvr_bench.options import ImportOptions
from rlvr_bench.store.paths import write_atomically

__all__ = ["check_new_mapping", "resolved", "save_mapping"]

_LARGEST = 2**20


class _Saved(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The content of a mapping's file."""

    map: dict[str, str]
    where: list[str] = []
    correct: str | None = None
    no_answer: list[str] = []
    model: str | None = None
    task: str | None = None


def resolved(options: ImportOptions) -> tuple[ImportOptions, FieldMapping | None]:
    """The options with those of the mapping's file filled in, and the mapping; None without ``options.map``.

    What is given as an option replaces what the file says, field by field; conditions of both hold. Raises BadArgument,
    UnknownName, DataError.
    """
    given = [options.map] if isinstance(options.map, str | Path | Mapping) else list(options.map or ())
    pairs: dict[str, str] = {}
    for part in given:
        if isinstance(part, Mapping):
            pairs |= part
        elif str(part).strip().endswith(".toml"):
            saved = _read(Path(part))
            pairs |= saved.map
            options = _filled(options, saved)
        else:
            pairs |= _pairs(str(part))
    if not given:
        if options.where:
            raise BadArgument("--where", ", ".join(options.where), "goes with --map, which names the fields")
        return options, None
    mapping = FieldMapping.parse(
        *(f"{name}={path}" for name, path in pairs.items()),
        where=options.where,
        correct=options.correct,
        no_answer=options.no_answer,
    )
    if options.format is not None:
        raise BadArgument("--format", options.format, "does not go with --map: a mapping reads any table")
    return options, mapping


def check_new_mapping(file: str | Path, mapping: FieldMapping | None) -> None:
    """Raises BadArgument where there is no mapping to write, or no new TOML file to write it to."""
    if mapping is None:
        raise BadArgument("--save-map", str(file), "goes with --map, which it keeps")
    if Path(file).suffix != ".toml":
        raise BadArgument("--save-map", str(file), "must end with .toml")
    if Path(file).exists():
        raise BadArgument("--save-map", str(file), "exists already: choose another file, or delete it first")


def save_mapping(file: Path, mapping: FieldMapping, options: ImportOptions) -> None:
    """Write a mapping as TOML, for ``--map FILE.toml``. Raises StorageError."""
    lines = [
        f"{name} = {_quoted(value)}"
        for name, value in (("model", options.model), ("task", options.task), ("correct", options.correct))
        if value is not None
    ]
    for name, values in (("where", options.where), ("no_answer", options.no_answer)):
        if values:
            lines.append(f"{name} = [{', '.join(map(_quoted, values))}]")
    lines += ["", "[map]"]
    for name, path in mapping.paths.items():
        lines.append(f"{_quoted(name + '?') if name in mapping.optional else name} = {_quoted(path.text)}")
    write_atomically(file, ("\n".join(lines).lstrip() + "\n").encode())


def _pairs(text: str) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for name, optional, path in split_pairs("--map", text):
        key = f"{name}?" if optional else name
        if key in pairs:
            raise BadArgument("--map", text, f"maps {name} twice")
        pairs[key] = path
    return pairs


def _read(file: Path) -> _Saved:
    try:
        if file.stat().st_size > _LARGEST:
            raise DataError(f"{file}: too large for a mapping")
        return msgspec.convert(tomllib.loads(file.read_text(encoding="utf-8")), _Saved)
    except OSError as error:
        raise DataError(f"{file}: {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DataError(f"{file}: not a TOML file ({error})") from error
    except msgspec.ValidationError as error:
        raise DataError(
            f"{file}: {error}. A mapping's file holds [map], where, correct, no_answer, model, task."
        ) from error


def _filled(options: ImportOptions, saved: _Saved) -> ImportOptions:
    return dataclasses.replace(
        options,
        model=saved.model if options.model is None else options.model,
        task=saved.task if options.task is None else options.task,
        correct=saved.correct if options.correct is None else options.correct,
        where=(*saved.where, *options.where),
        no_answer=(*saved.no_answer, *options.no_answer),
    )


def _quoted(text: str) -> str:
    """A TOML string: JSON's escapes, and one for the character that JSON leaves as it is."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
