"""Every value of every program's files replaced by something else: one line that names the file, or a reading."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rlvr_bench.errors import DataError, RlvrBenchError
from rlvr_bench.importers import FORMATS
from rlvr_bench.importers.files import choose_files
from tests.importers.made import Table, inspect_sample
from tests.importers.programs import EVERY_WRITER, verl_sessions
from tests.importers.test_layouts import inspect_json, old_evalplus

DEEP: Any = "x"
for _ in range(60):
    DEEP = {"content": [DEEP]}
ODD: tuple[Any, ...] = (None, 7, -1e400, True, "", "\ud800\u2028", [], [None], {}, {"content": 7}, [[[]]], DEEP)


def json_log(folder: Path, rows: Table) -> Path:
    samples = [inspect_sample(i, letter, k) for i, row in enumerate(rows) for k, letter in enumerate(row)]
    return inspect_json(folder / "log.json", samples).parent


def generations(folder: Path, rows: Table) -> Path:
    folder.mkdir(parents=True)
    (folder / "generations_mbpp.json").write_text(
        json.dumps([[f"Rollout {k}" for k in range(len(row))] for row in rows])
    )
    return folder


# Format, writer, and the verdict to choose.
JSON_FILES: dict[str, tuple[str, Callable[[Path, Table], Path], str | None]] = {
    **{name: (name, *made) for name, made in EVERY_WRITER.items() if name not in ("counts", "lighteval", "inspect")},
    "verl sessions": ("verl", verl_sessions, None),
    "json logs of inspect": ("inspect", json_log, "match"),
    "evalplus of 2023": ("evalplus", old_evalplus, "plus"),
    "bigcode": ("bigcode", generations, None),
}


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


def read_some(file: Path, name: str, verdict: str | None) -> None:
    """Like an import: raises DataError where there are no rollouts too."""
    if not read_all(file, name, verdict):
        raise DataError(f"{file}: no rollouts in these files")


def rollout_files(source: Path, name: str) -> list[Path]:
    chosen, files, _ = choose_files([source], FORMATS, name)
    return chosen.survey(files)[1]


def assert_one_line(error: RlvrBenchError, file: Path) -> None:
    assert str(file.parent) in str(error)
    assert "\n" not in str(error)
    assert len(str(error)) < 1000


@pytest.mark.parametrize("layout", JSON_FILES)
def test_no_value_ends_in_a_traceback(layout: str, tmp_path: Path) -> None:
    name, write, verdict = JSON_FILES[layout]
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


@pytest.mark.parametrize("layout", JSON_FILES)
@pytest.mark.parametrize("damage", ["half", "bytes", "deep", "number"])
def test_a_damaged_file_is_named(layout: str, damage: str, tmp_path: Path) -> None:
    name, write, verdict = JSON_FILES[layout]
    source = write(tmp_path / "files", ["cw", "wc"])
    file = rollout_files(source, name)[0]
    raw = file.read_bytes()
    cut = raw.rstrip().rfind(b"\n") + 1
    broken = {
        "half": raw[: cut + (len(raw) - cut) // 2],
        "bytes": raw.replace(b"Rollout", b"R\xe9").replace(b"return", b"r\xe9").replace(b"success", b"s\xe9"),
        "deep": raw[:cut] + b'{"more": ' + b"[" * 100_000,
        "number": raw[:cut] + b"17",
    }
    file.write_bytes(broken[damage])
    with pytest.raises(RlvrBenchError) as caught:
        read_some(file, name, verdict)
    assert_one_line(caught.value, file)
