"""Every value of every program's files replaced by something else: one line that names the file, or a reading."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rlvr_bench.errors import DataError, RlvrBenchError
from rlvr_bench.importers import FORMATS
from rlvr_bench.importers.files import choose_files
from tests.importers.programs import EVERY_WRITER

DEEP: Any = "x"
for _ in range(60):
    DEEP = {"content": [DEEP]}
ODD: tuple[Any, ...] = (None, 7, -1e400, True, "", "\ud800\u2028", [], [None], {}, {"content": 7}, [[[]]], DEEP)
JSON_FORMATS = [name for name in EVERY_WRITER if name not in ("counts", "lighteval", "inspect")]


def paths(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The address of every value in a JSON value, but only the first of a list."""
    if at:
        yield at
    items = value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else ()
    for name, inner in items:
        yield from paths(inner, (*at, name))


def changed(value: Any, at: tuple[Any, ...], odd: Any) -> Any:
    result = copy.deepcopy(value)
    inner = result
    for name in at[:-1]:
        inner = inner[name]
    inner[at[-1]] = odd
    return result


def read_all(source: Path, name: str, verdict: str | None) -> int:
    chosen, files, _ = choose_files([source], FORMATS, name)
    _, files = chosen.survey(files)
    return sum(1 for file in files for _ in chosen.read(file, verdict, False))


def rollout_files(source: Path, name: str) -> list[Path]:
    chosen, files, _ = choose_files([source], FORMATS, name)
    return chosen.survey(files)[1]


def assert_one_line(error: RlvrBenchError, file: Path) -> None:
    assert str(file.parent) in str(error)
    assert "\n" not in str(error)
    assert len(str(error)) < 1000


@pytest.mark.parametrize("name", JSON_FORMATS)
def test_no_value_ends_in_a_traceback(name: str, tmp_path: Path) -> None:
    write, verdict = EVERY_WRITER[name]
    source = write(tmp_path / "files", ["cw", "wc"])
    file = rollout_files(source, name)[0]
    text = file.read_text()
    whole = file.suffix == ".json"
    records = [json.loads(text)] if whole else [json.loads(line) for line in text.splitlines()]
    for at in paths(records[0]):
        for odd in ODD:
            lines = [changed(records[0], at, odd), *records[1:]]
            file.write_text("\n".join(map(json.dumps, lines)))
            try:
                read_all(source, name, verdict)
            except DataError as error:
                assert_one_line(error, file)


@pytest.mark.parametrize("name", JSON_FORMATS)
@pytest.mark.parametrize("damage", ["half", "bytes", "deep", "number"])
def test_a_damaged_file_is_named(name: str, damage: str, tmp_path: Path) -> None:
    write, verdict = EVERY_WRITER[name]
    source = write(tmp_path / "files", ["cw", "wc"])
    file = rollout_files(source, name)[0]
    raw = file.read_bytes()
    cut = raw.rstrip().rfind(b"\n") + 1
    broken = {
        "half": raw[: cut + (len(raw) - cut) // 2],
        "bytes": raw.replace(b"Rollout", b"R\xe9").replace(b"return", b"r\xe9"),
        "deep": raw[:cut] + b'{"more": ' + b"[" * 100_000,
        "number": raw[:cut] + b"17",
    }
    file.write_bytes(broken[damage])
    with pytest.raises(RlvrBenchError) as caught:
        read_all(file, name, verdict)
    assert_one_line(caught.value, file)
