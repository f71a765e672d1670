"""Any table of rollouts gives the n, c, texts and golds that it was made from, whatever the container, packing and layout."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from rlvr_bench.importers import Count, ImportedEntry, Response
from rlvr_bench.importers.mapped import mapped_format
from rlvr_bench.importers.mapping import FieldMapping
from rlvr_bench.importers.tables import read_rows
from rlvr_bench.pipeline.importing import ImportOptions, import_run
from rlvr_bench.pipeline.previewing import preview_import
from rlvr_bench.store.run import open_run
from tests.importers.made import counts_of, table
from tests.importers.made_tables import CONTAINERS, LAYOUTS, PACKINGS, pack, text_of, written

ROWS = table(seed=3, problems=7, n=5, letters="cwn")


def entries_of(file: Path, mapping: str, **more: Any) -> list[ImportedEntry]:
    made = mapped_format(FieldMapping.parse(mapping, **more))
    _, files = made.survey([file])
    return [entry for chosen in files for entry in made.read(chosen, None, False)]


@pytest.mark.parametrize(("container", "packing", "layout"), list(itertools.product(CONTAINERS, PACKINGS, LAYOUTS)))
def test_every_container_packing_and_layout_reads_the_same(
    container: str, packing: str, layout: str, tmp_path: Path
) -> None:
    file, mapping = written(tmp_path, container, packing, layout, ROWS)
    entries = entries_of(file, mapping)
    for i, row in enumerate(ROWS):
        of_problem = [entry for entry in entries if entry.problem == f"p{i}"]
        assert {entry.gold for entry in of_problem} == {str(i)}
        if layout == "counts":
            assert [(entry.n, entry.c) for entry in of_problem if isinstance(entry, Count)] == [
                (len(row), row.count("c"))
            ]
            continue
        responses = [entry for entry in of_problem if isinstance(entry, Response)]
        assert [entry.text for entry in responses] == [text_of(letter, i, k) for k, letter in enumerate(row)]
        statuses = {"c": "correct", "w": "wrong", "n": "no_answer"}
        assert [entry.status for entry in responses] == [statuses[letter] for letter in row]
        assert {entry.question for entry in responses} == {f'What is {i}, "exactly"?\nSay it.'}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_run_holds_what_the_table_held(layout: str, tmp_path: Path) -> None:
    file, mapping = written(tmp_path, "rows.jsonl", ".zst", layout, ROWS)
    result = import_run([file], ImportOptions(map=mapping, model="m", task="t", out=tmp_path / "runs"))
    assert [(problem["n"], problem["c"]) for problem in result.scorecard.problems] == counts_of(ROWS)
    run = open_run(result.run)
    assert [problem.answer for problem in run.problems()] == [str(i) for i in range(len(ROWS))]
    assert (run.manifest.imported, run.manifest.asked) == ("table", {"map": mapping})


def test_packed_files_of_a_folder_are_read(tmp_path: Path) -> None:
    for number, packing in enumerate(PACKINGS):
        rows = ROWS[2 * number : 2 * number + 2]
        lines, mapping = LAYOUTS["row per rollout"](rows)
        renamed = [{**line, "qid": f"{number}-{line['qid']}"} for line in lines]
        (tmp_path / "files").mkdir(exist_ok=True)
        content = CONTAINERS["rows.jsonl"](renamed)
        (tmp_path / "files" / f"part{number}.jsonl{packing}").write_bytes(pack(content, packing))
    seen = preview_import([tmp_path / "files"], ImportOptions(map=mapping))
    assert (len(seen.files), seen.problems, seen.rollouts) == (3, 6, sum(map(len, ROWS[:6])))


@pytest.mark.parametrize(
    ("content", "fields", "expected"),
    [
        ('{"id": 1, "rollouts": [{"t": 1}]}', {"id", "rollouts", "x"}, [("", {"id": 1, "rollouts": [{"t": 1}]})]),
        ('{"id": 1, "rollouts": [{"t": 1}, {"t": 2}]}', {"id", "t"}, [("", {"t": 1}), ("", {"t": 2})]),
        (
            '{"columns": ["t", "u"], "index": [0, 1], "data": [[1, 2], [3, 4]]}',
            {"t"},
            [("", {"t": 1, "u": 2}), ("", {"t": 3, "u": 4})],
        ),
        ('{\n"t": 1}\n{\n"t": 2}', {"t"}, [("", {"t": 1}), ("", {"t": 2})]),
        ('{"id": 1, "rollouts": [{"t": 1}, {"t": 2}]}', {"t"}, [("", {"t": 1}), ("", {"t": 2})]),
        ('{"p1": {"t": 1}}', {"t"}, [("p1", {"t": 1})]),
        ('{"p1": [1], "p2": [2, 3]}', {"x"}, [("p1", [1]), ("p2", [2, 3])]),
        ('{"a": {"b": {"p1": {"t": 1}, "p2": {"t": 2}}}}', {"t"}, [("p1", {"t": 1}), ("p2", {"t": 2})]),
        ('[["x", "y"], ["z"]]', set(), [("", ["x", "y"]), ("", ["z"])]),
        ("[]", set(), []),
        ("{}", set(), []),
        ('\ufeff [ {"t": "]}\\"{" } , {"t": "\\\\"}\n]\n', {"t"}, [("", {"t": ']}"{'}), ("", {"t": "\\"})]),
        ('{"t": NaN, "u": "\\ud800"}', {"t"}, [("", {"t": None, "u": "?"})]),
    ],
)
def test_what_the_rows_of_a_json_value_are(content: str, fields: set[str], expected: object, tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    file.write_text(content, encoding="utf-8")
    assert [(row.key, row.value) for row in read_rows(file, frozenset(fields))] == expected


def test_elements_are_split_wherever_a_chunk_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"t": '\\"' * i + "]{}[" + "\n", "more": [[], {}, {"a": [1.5e3, True, None]}], "n": i} for i in range(9)]
    file = tmp_path / "x.json"
    for text in (json.dumps(rows), json.dumps(rows, indent=1), json.dumps({"a": 1, "b": rows, "c": {"d": rows[0]}})):
        file.write_text(text)
        for size in (1, 2, 3, 7, 64):
            monkeypatch.setattr("rlvr_bench.importers.json_scanner._CHUNK", size)
            assert [row.value for row in read_rows(file, frozenset("t"))] == rows


def test_addresses_name_the_line(tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    file.write_text(json.dumps([{"t": i} for i in range(3)], indent=1))
    assert [row.where for row in read_rows(file, frozenset())] == [
        f"{file}, line {line}, element {number}" for number, line in ((1, 2), (2, 5), (3, 8))
    ]
    (tmp_path / "x.csv").write_text('a,b\n1,"two\nlines"\n\n3,4\n')
    rows = list(read_rows(tmp_path / "x.csv", frozenset()))
    assert [row.where.rpartition(" ")[2] for row in rows] == ["2", "5"]
    assert rows[0].value == {"a": "1", "b": "two\nlines"}
