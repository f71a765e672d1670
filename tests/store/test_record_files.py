"""Records as JSON on disk: written and read in one way, and one line where a file does not hold one."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from rlvr_bench.errors import RunError, StorageError
from rlvr_bench.store.record_files import read_record, record_if_there, write_record


class Record(msgspec.Struct):
    n: int
    name: str = ""


def test_what_was_written_is_read(tmp_path: Path) -> None:
    file = tmp_path / "record.json"
    write_record(file, Record(3, "ü"))
    assert file.read_text().splitlines() == ["{", '  "n": 3,', '  "name": "ü"', "}"]
    assert read_record(file, Record, "") == record_if_there(file, Record, "") == Record(3, "ü")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"n": "x"}', b'{"n": 1', b"\xff", b'{"n": ' + b"[" * 100_000])
def test_what_holds_no_record_is_one_line_with_the_remedy(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "record.json"
    file.write_bytes(content)
    for read in (read_record, record_if_there):
        with pytest.raises(RunError, match=r"record\.json: damaged \(.*\)\. Draw it again\.") as caught:
            read(file, Record, "Draw it again.")
        assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_none_or_an_error(tmp_path: Path) -> None:
    assert record_if_there(tmp_path / "none.json", Record, "") is None
    with pytest.raises(StorageError, match="no such file"):
        read_record(tmp_path / "none.json", Record, "")
