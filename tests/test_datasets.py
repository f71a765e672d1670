from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rlvr_bench.datasets import (
    DATA_DIR_VARIABLE,
    Generated,
    HubDataset,
    LocalFile,
    Row,
    check_problems,
    content_digest,
    read_rows,
)
from rlvr_bench.errors import DataError
from rlvr_bench.records import Problem


def to_problem(row: Row) -> Problem:
    return Problem(id=row.text("id"), question=row.text("question", "problem"), answer=row.text("answer"))


def problem(name: str = "a", question: str = "q", answer: str = "1") -> Problem:
    return Problem(id=name, question=question, answer=answer)


def load(tmp_path: Path, content: str) -> list[Problem]:
    (tmp_path / "x.jsonl").write_text(content)
    return LocalFile(file=tmp_path / "x.jsonl", to_problem=to_problem).load("x", None)


def test_reads_the_same_problems_from_jsonl_csv_and_parquet(tmp_path: Path) -> None:
    rows = [{"id": "a", "question": "1 + 1?", "answer": "2"}, {"id": "b", "question": "é, \n?", "answer": "3"}]
    (tmp_path / "x.jsonl").write_text(
        '{"id":"a","question":"1 + 1?","answer":2.0}\n\n{"id":"b","problem":"é, \\n?","answer":"3"}\n'
    )
    (tmp_path / "x.csv").write_text('id,question,answer\na,1 + 1?,2\nb,"é, \n?",3\n')
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "x.parquet")
    problems = [
        LocalFile(file=tmp_path / f"x.{e}", to_problem=to_problem).load("x", None) for e in ("jsonl", "csv", "parquet")
    ]
    assert problems[0] == [problem("a", "1 + 1?", "2"), problem("b", "é, \n?", "3")]
    assert problems[1] == problems[2]
    assert problems[1][0] == problems[0][0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "no rows"),
        ('{"id": "a"', "x.jsonl, line 1: not JSON"),
        ('{"id":"a","question":"q","answer":"1"}\n[1]\n', "x.jsonl, line 2: expected a JSON object, got list"),
        (
            '\n{"id":"a","question":"q"}\n',
            "x.jsonl, line 2: field 'answer' is missing or empty; fields here: id, question",
        ),
        ('{"id":"a","question":"","answer":"1"}', "field 'question' or 'problem' is missing or empty"),
        ('{"id":"a","question":["q"],"answer":"1"}', "field 'question' is list, expected text"),
        ('{"id":true,"question":"q","answer":"1"}', "field 'id' is bool, expected text"),
    ],
)
def test_malformed_files_name_file_line_and_field(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(DataError, match="x.jsonl") as error:
        load(tmp_path, content)
    assert message in str(error.value)


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    (tmp_path / "latin.jsonl").write_bytes(b'{"id":"\xe9"}')
    (tmp_path / "bad.parquet").write_bytes(b"nothing")
    for name, message in [
        ("gone.jsonl", "No such file"),
        ("latin.jsonl", "not UTF-8"),
        ("bad.parquet", "not a parquet file"),
        ("x.xlsx", "cannot read .xlsx"),
    ]:
        with pytest.raises(DataError, match=message) as error:
            list(read_rows(tmp_path / name))
        assert name in str(error.value)


@pytest.mark.parametrize(
    ("problems", "message"),
    [
        ([], "no problems"),
        ([problem("a"), problem("b"), problem("a")], "duplicate problem id 'a'"),
        ([problem("a"), problem("b", answer=" ")], "problem 'b' has no answer"),
        ([problem("a", question="\n")], "problem 'a' has no question"),
    ],
)
def test_unusable_problems_are_refused_by_id(problems: list[Problem], message: str) -> None:
    with pytest.raises(DataError, match=message):
        check_problems("x", Generated(generate=lambda: problems, rows=None, sha256=None), problems)


def test_content_is_pinned_by_count_and_digest() -> None:
    pinned = [problem("a"), problem("b")]
    digest = content_digest(pinned)

    def source(problems: list[Problem]) -> Generated:
        return Generated(generate=lambda: problems, rows=2, sha256=digest)

    assert check_problems("x", source(pinned), pinned) == digest
    with pytest.raises(DataError, match="1 problems in .*, expected 2"):
        check_problems("x", source(pinned), pinned[:1])
    for changed in (problem("b", "q2"), problem("b", answer="2"), problem("c")):
        with pytest.raises(DataError, match="has changed"):
            check_problems("x", source(pinned), [problem("a"), changed])


def test_a_mirror_stands_in_for_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = HubDataset(path="nobody/nothing", split="test", to_problem=to_problem, rows=1, sha256=None)
    (tmp_path / "x.jsonl").write_text('{"id":"a","question":"q","answer":"1"}')
    assert hub.load("x", tmp_path) == [problem()]
    monkeypatch.setenv(DATA_DIR_VARIABLE, str(tmp_path))
    assert hub.load("x", None) == [problem()]
    with pytest.raises(DataError, match=r"no y.jsonl"):
        hub.load("y", None)


def test_a_hub_that_cannot_be_reached_says_how_to_mirror(monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")

    def refuse(*_: object, **__: object) -> None:
        raise ConnectionError("no route\nlong trace")

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    monkeypatch.delenv(DATA_DIR_VARIABLE, raising=False)
    hub = HubDataset(path="nobody/nothing", split="test", to_problem=to_problem, rows=1, sha256=None)
    with pytest.raises(DataError, match=r"cannot load nobody/nothing, test .*\(no route\).*--data-dir") as error:
        hub.load("x", None)
    assert "\n" not in str(error.value)


def test_the_hub_path_maps_rows_and_drops_those_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    rows = [{"id": "a", "question": "q", "answer": "1"}, {"id": "skip", "question": "q", "answer": "1"}]
    asked: list[object] = []

    def load_dataset(path: str, config: str | None, *, split: str, revision: str | None) -> object:
        asked.extend((path, config, split, revision))
        return datasets.Dataset.from_list(rows)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.delenv(DATA_DIR_VARIABLE, raising=False)
    hub = HubDataset(
        path="owner/set",
        config="main",
        split="test",
        revision="abc",
        to_problem=lambda row: None if row.text("id") == "skip" else to_problem(row),
        rows=1,
        sha256=None,
    )
    assert [p.id for p in hub.load("x", None)] == ["a"]
    assert asked == ["owner/set", "main", "test", "abc"]
