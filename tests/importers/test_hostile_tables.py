"""Broken, hostile and careless tables and mappings: one line that names file and line, and nothing left on disk."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rlvr_bench.errors import RlvrBenchError
from rlvr_bench.importers.lines import MAX_LINE_BYTES
from rlvr_bench.pipeline.importing import ImportOptions, import_run
from tests.importers.made import jsonl, nemo_line
from tests.importers.made_tables import pack

MAPPING = "problem=id,gold=g,text=out[].t,answer=out[].a,verdict=out[].ok"
GOOD = {"id": 1, "g": "4", "out": [{"t": "x", "a": "4", "ok": True}, {"t": "y", "a": "5", "ok": False}]}


def refused(file: Path, out: Path, match: str, mapping: str | None = MAPPING, **options: Any) -> str:
    with pytest.raises(RlvrBenchError, match=match) as caught:
        import_run([file], ImportOptions(**{"map": mapping, "model": "m", "task": "t", "out": out / "runs", **options}))
    message = str(caught.value)
    assert "\n" not in message
    assert message.isprintable()
    assert len(message) < 1500
    assert not list((out / "runs").rglob("*")), "a failed import leaves nothing"
    return message


@pytest.mark.parametrize(
    ("bad", "match"),
    [
        ('{"id": 1, "g": "4", "out": [{"t":', "line 2: broken JSON"),
        (json.dumps({**GOOD, "out": {"t": "x"}}), r"line 2: out\[\] is a text, and the path"),
        (json.dumps({**GOOD, "out": "x"}), r"line 2: out is a text, and the path"),
        (json.dumps({**GOOD, "out": 7}), r"line 2: out is a single value, not a list, as 'out\[\]\.t' needs"),
        (json.dumps({**GOOD, "out": [7]}), r"line 2: out\[\] is a single value, not an object"),
        (json.dumps({**GOOD, "out": [{"t": 7, "ok": 1}]}), r"line 2: out\[\]\.t is 7, not a text"),
        (
            json.dumps({**GOOD, "out": [{"t": ["x"], "ok": 1}]}),
            r"line 2: out\[\]\.t is a list of 1, not a text \(unfold it",
        ),
        (json.dumps({**GOOD, "out": [{"ok": 1}]}), r"line 2: out\[\]\.t is absent"),
        (json.dumps({**GOOD, "id": True}), "line 2: id is True, not a text or a whole number"),
        (json.dumps({**GOOD, "id": ["a", "b"]}), r"line 2: id is a list of 2, not a text or a whole number"),
        (json.dumps({**GOOD, "id": None}), "line 2: id is empty"),
        (json.dumps({**GOOD, "g": "5"}), "problem '1' has two gold answers: '4' in .*line 1; '5' in .*line 2"),
        ('{"id": 1, "g": ' + "[" * 100_000, "line 2: (nested too deeply|broken JSON)"),
        ('{"id": 1' + "0" * 5000 + ', "g": "4", "out": [{"t": "x", "ok": 1}]}', "line 2: Integer value out of range"),
        ("[1, 2]", "line 2: the row is a list, not an object"),
        ('"\\u001b[31mred"', "line 2: the row is a text|line 2: .*is a text"),
    ],
)
def test_a_bad_row_is_named(bad: str, match: str, tmp_path: Path) -> None:
    file = tmp_path / "x.jsonl"
    file.write_text(json.dumps(GOOD) + "\n" + bad + "\n")
    refused(file, tmp_path, match)


def test_lists_of_unequal_length_are_named_with_their_lengths(tmp_path: Path) -> None:
    rows = [
        {"id": 1, "code": ["a", "b"], "pred": ["1", "2"], "ok": [1, 0]},
        {"id": 2, "code": ["a"], "pred": [], "ok": [1]},
    ]
    refused(
        jsonl(tmp_path / "x.jsonl", rows),
        tmp_path,
        r"x\.jsonl, line 2: lists of unequal length: code\[\] has 1, pred\[\] has 0, ok\[\] has 1",
        "problem=id,text=code[],answer=pred[],verdict=ok[]",
    )


@pytest.mark.parametrize(
    ("mapping", "match"),
    [
        (
            "problem=idd,text=out[].t,verdict=out[].ok",
            r"problem=idd: unknown field 'idd'. Did you mean 'id'\? Known: g, id, out",
        ),
        (
            "problem=id,text=out[].txt,verdict=out[].ok",
            r"in out\[\]: text=out\[\]\.txt: unknown field 'txt'. Did you mean 't'\? Known: a, ok, t",
        ),
        ("problem=id,text=out.t,verdict=out[].ok", "text=out.t leads to nothing|is a list, not an object"),
        ("problem=id,text=out[5].t,verdict=out[].ok", r"line 1: out\[5\]\.t is absent"),
    ],
)
def test_an_unknown_field_lists_those_of_the_file_and_the_nearest(mapping: str, match: str, tmp_path: Path) -> None:
    refused(jsonl(tmp_path / "x.jsonl", [GOOD]), tmp_path, match, mapping)


def test_control_characters_never_reach_the_terminal(tmp_path: Path) -> None:
    red = "\x1b[31mred\x07\u202e"
    file = jsonl(tmp_path / "x.jsonl", [{red: 1, "t": red, "ok": red, "id": red}])
    assert r"\x1b" in refused(file, tmp_path, "unknown field 'nothing'", "problem=nothing,text=t,verdict=ok")
    refused(file, tmp_path, "is neither yes nor no", "problem=id,text=t,verdict=ok")
    refused(file, tmp_path, "fits none of the known formats", None)
    command = [sys.executable, "-m", "rlvr_bench", "import", str(file), "--preview"]
    command += ["--map", "problem=id,text=t,verdict=ok", "--correct", "x"]
    shown = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "COLUMNS": "200"})
    assert shown.returncode == 0, shown.stderr
    assert "preview: nothing written" in shown.stdout
    assert all(character.isprintable() or character == "\n" for character in shown.stdout + shown.stderr)


@pytest.mark.parametrize("packing", [".gz", ".zst"])
def test_a_damaged_packed_file_is_named(packing: str, tmp_path: Path) -> None:
    content = pack(b"".join(json.dumps({**GOOD, "id": i}).encode() + b"\n" for i in range(2000)), packing)
    cut = tmp_path / f"cut.jsonl{packing}"
    cut.write_bytes(content[: len(content) // 2])
    refused(
        cut, tmp_path, rf"cut\.jsonl{packing}: damaged: it cannot be unpacked to its end|cut.*: damaged|broken JSON"
    )
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 0xFF
    (tmp_path / f"flipped.jsonl{packing}").write_bytes(flipped)
    refused(tmp_path / f"flipped.jsonl{packing}", tmp_path, rf"flipped\.jsonl{packing}")
    refused(tmp_path / f"flipped.jsonl{packing}", tmp_path, rf"flipped\.jsonl{packing}", None)


@pytest.mark.parametrize("packing", [".gz", ".zst"])
def test_a_packed_bomb_ends_at_the_longest_line(packing: str, tmp_path: Path) -> None:
    bomb = pack(json.dumps(GOOD).encode() + b'\n{"id": "' + b" " * (2 * MAX_LINE_BYTES), packing)
    (tmp_path / f"x.jsonl{packing}").write_bytes(bomb)
    refused(tmp_path / f"x.jsonl{packing}", tmp_path, "line 2: longer than 64 MB")
    (tmp_path / f"x.json{packing}").write_bytes(pack(b'[{"id": "' + b" " * (2 * MAX_LINE_BYTES), packing))
    refused(tmp_path / f"x.json{packing}", tmp_path, "line 1, element 1|line 1: one value of more than 64 MB")


@pytest.mark.parametrize("packing", [".gz", ".zst"])
def test_a_packed_bomb_of_blank_lines_ends(packing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rlvr_bench.importers.streams._FREE_BYTES", 2**20)
    (tmp_path / f"x.jsonl{packing}").write_bytes(pack(json.dumps(GOOD).encode() + b"\n" * 2**25, packing))
    refused(tmp_path / f"x.jsonl{packing}", tmp_path, "unpacks to more than 500 times its size")


def test_archives_are_to_be_unpacked(tmp_path: Path) -> None:
    content = json.dumps(GOOD).encode()
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("x.jsonl", content)
    with tarfile.open(tmp_path / "x.tar.gz", "w:gz") as packed:
        info = tarfile.TarInfo("x.jsonl")
        info.size = len(content)
        packed.addfile(info, io.BytesIO(content))
    for name, kind in (("x.zip", "a zip archive"), ("x.tar.gz", "a tar archive")):
        for mapping in (MAPPING, None):
            refused(tmp_path / name, tmp_path, f"{name}: {kind}. Unpack it, and name the files in it", mapping)


def test_files_that_are_no_tables_are_refused(tmp_path: Path) -> None:
    (tmp_path / "binary.csv").write_bytes(bytes(range(256)) * 9)
    refused(tmp_path / "binary.csv", tmp_path, "not a table in UTF-8 text")
    (tmp_path / "latin.csv").write_bytes("id,t,ok\n1,caf\xe9,1\n".encode("latin-1"))
    refused(tmp_path / "latin.csv", tmp_path, "line 2: not UTF-8 text", "problem=id,text=t,verdict=ok")
    (tmp_path / "quote.csv").write_text('id,t,ok\n1,"never closed,1\n2,x,1\n')
    refused(tmp_path / "quote.csv", tmp_path, r"quote\.csv, line 2: not a CSV file", "problem=id,text=t,verdict=ok")
    (tmp_path / "wide.csv").write_text("id,t,ok\n1,x,1,2\n")
    refused(
        tmp_path / "wide.csv", tmp_path, "line 2: 4 cells, but the first line names 3", "problem=id,text=t,verdict=ok"
    )
    (tmp_path / "empty.csv").touch()
    refused(tmp_path / "empty.csv", tmp_path, "no rollouts in these files")
    (tmp_path / "half.parquet").write_bytes(b"PAR1 and no more")
    refused(tmp_path / "half.parquet", tmp_path, "not a whole parquet file")
    (tmp_path / "two.json").write_text('[{"id": 1}]\n[{"id": 2}]')
    refused(tmp_path / "two.json", tmp_path, "line 2: broken JSON .something comes after", "problem=id,verdict=id")
    (tmp_path / "cut.json").write_text('[{"id": 1},\n{"id": 2}')
    refused(tmp_path / "cut.json", tmp_path, "line 2: broken JSON", "problem=id,verdict=id")
    (tmp_path / "wandb.json").write_text('{"columns": ["id", "ok"], "data": [[1, 1], [1]]}')
    refused(tmp_path / "wandb.json", tmp_path, "element 2: not a list of 2 values", "problem=id,verdict=ok")
    (tmp_path / "words.json").write_text("[1, 2, three]")
    refused(
        tmp_path / "words.json", tmp_path, "line 1, element 3: broken JSON|leads to nothing", "problem=id,verdict=id"
    )


BINARY = {
    "random": b"\xf1\xef\x0f\xef\r\x18\xef<\x00I\xef\x1b",
    "utf-16": "id,t\n1,x\n".encode("utf-16"),
    "png": b"\x89PNG\r\n\x1a\nIDAT",
    "pdf": b"%PDF-1.4\nxref",
    "pickle": b"\x80\x04\x95\x11",
}


@pytest.mark.parametrize("name", BINARY)
def test_a_binary_file_is_no_table_with_a_mapping_or_without(name: str, tmp_path: Path) -> None:
    for ending in ("", ".csv", ".jsonl"):
        file = tmp_path / f"{name}{ending}"
        file.write_bytes(BINARY[name])
        for mapping in (MAPPING, None):
            refused(file, tmp_path, f"{name}{ending}: not a table in UTF-8 text, JSON or parquet", mapping)


def test_files_without_rows_are_named(tmp_path: Path) -> None:
    for name, content in {"none": "", "blank": "\n\n", "list": "[]", "object": "{}"}.items():
        file = tmp_path / f"{name}.json"
        file.write_text(content)
        refused(file, tmp_path, f"{name}.json: no rollouts in these files")
        without = refused(file, tmp_path, f"{name}.json: (empty|fits none of .* is no table with named fields)", None)
        assert "FIELD" not in without


def test_an_unknown_file_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    file = tmp_path / "x.jsonl"
    file.write_bytes(b'{"id": "caf\xe9", "t": "x"}\n')
    refused(file, tmp_path, "x.jsonl, line 1: not UTF-8 text", None)


def test_the_rows_before_a_broken_one_give_the_proposal(tmp_path: Path) -> None:
    file = jsonl(tmp_path / "x.jsonl", [{"id": 1, "response": "It is", "correct": True}])
    file.write_text(file.read_text() + '{"id": 2,\n')
    refused(file, tmp_path, "Looks like: --map 'problem=id,text=response,verdict=correct'", None)


def test_a_verdict_in_words_gets_a_proposal_that_can_be_previewed(tmp_path: Path) -> None:
    file = jsonl(tmp_path / "x.jsonl", [{"id": 1, "response": "It is", "correct": word} for word in ("maybe", "1")])
    refused(file, tmp_path, "Looks like: --map 'problem=id,text=response,verdict=correct' ;", None)


def test_a_folder_of_unknown_files_gets_a_proposal(tmp_path: Path) -> None:
    folder = tmp_path / "rollouts"
    folder.mkdir()
    (folder / "summary.json").write_text('{"acc": 0.5}')
    (folder / "notes.txt").write_text("my notes")
    jsonl(folder / "rollouts.jsonl", [{"id": 1, "response": "It is", "correct": True}])
    refused(folder, tmp_path, r"rollouts\.jsonl looks like: --map 'problem=id,text=response,verdict=correct'", None)


def test_parquet_with_odd_columns_is_one_line(tmp_path: Path) -> None:
    table = pa.table({"id": [1], "t": pa.array([b"\xff"], pa.binary()), "ok": pa.array([10**30], pa.decimal128(38))})
    pq.write_table(table, tmp_path / "x.parquet")
    refused(tmp_path / "x.parquet", tmp_path, "row 1: (t is|ok is)", "problem=id,text=t,verdict=ok")


def test_a_name_that_is_packed_and_a_content_that_is_not(tmp_path: Path) -> None:
    file = tmp_path / "x.jsonl.gz"
    file.write_text(json.dumps(GOOD) + "\n")
    result = import_run([file], ImportOptions(map=MAPPING, model="m", task="t", out=tmp_path / "runs"))
    assert [(problem["n"], problem["c"]) for problem in result.scorecard.problems] == [(2, 1)]


def test_packed_files_of_known_formats_are_read_too(tmp_path: Path) -> None:
    for seed, packing in enumerate(("", ".gz", ".zst")):
        content = "".join(json.dumps(nemo_line(i, "cw"[seed % 2], seed)) + "\n" for i in range(3)).encode()
        file = tmp_path / "files" / f"output-rs{seed}.jsonl{packing}"
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(pack(content, packing))
    result = import_run([tmp_path / "files"], ImportOptions(model="m", task="t", out=tmp_path / "runs"))
    assert [(problem["n"], problem["c"]) for problem in result.scorecard.problems] == [(3, 2)] * 3


def test_a_key_of_an_object_may_be_anything(tmp_path: Path) -> None:
    names = ["../../etc/passwd", "a\nb", "\x1b[31m", "", " "]
    (tmp_path / "x.json").write_text(json.dumps({name: {"ok": 1, "t": "x"} for name in names}))
    refused(tmp_path / "x.json", tmp_path, "entry ''.* #key is empty", "problem=#key,text=t,verdict=ok")
    (tmp_path / "x.json").write_text(json.dumps({name: {"ok": 1, "t": "x"} for name in names[:3]}))
    options = ImportOptions(map="problem=#key,text=t,verdict=ok", model="m", task="t", out=tmp_path / "runs")
    assert sorted(problem["id"] for problem in import_run([tmp_path / "x.json"], options).scorecard.problems) == sorted(
        names[:3]
    )
