"""Broken, hostile and careless input: one line that names file and line, no files left, nothing made up."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from rlvr_bench.errors import DataError, RlvrBenchError
from rlvr_bench.importers import Count, Response, archive, collecting
from rlvr_bench.importers.lines import MAX_LINE_BYTES
from rlvr_bench.pipeline.importing import Imported, ImportOptions, import_run
from tests.importers.made import WRITERS, eval_log, inspect_sample, jsonl, nemo_line, table, zstd_zip

GOOD = json.dumps(nemo_line(1, "c", 0)).encode()


def imported(*paths: Path, out: Path, **options: str | None) -> Imported:
    return import_run(paths, ImportOptions(model="m", task="t", out=out / "runs", **options))  # type: ignore[arg-type]


def refused(path: Path, out: Path, match: str, **options: str | None) -> None:
    with pytest.raises(RlvrBenchError, match=match) as caught:
        imported(path, out=out, **options)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000
    assert not list(out.glob("runs/**/*")), "a failed import leaves nothing"


@pytest.mark.parametrize(
    ("bad", "match"),
    [
        (GOOD[: len(GOOD) // 2], r"output-rs0\.jsonl, line 2: broken JSON"),
        (b'{"generation": "x", "symbolic_correct": tru}', "line 2: broken JSON"),
        (GOOD.replace(b"Rollout", b"R\xe9sum"), r"line 2: not UTF-8 text \(byte"),
        (GOOD.replace(b'"What is 1?"', b"7"), r"line 2: Expected `str \| null`, got `int`"),
        (b"[" * 100_000, "line 2: Expected `object`, got `array`"),
        (b'{"generation": "x", "more": ' + b"[" * 100_000, "line 2: (nested too deeply|broken JSON)"),
        (b'{"generation": "no problem named"}', "line 2: neither an id nor a question"),
        (b'"just text"', r"line 2: Expected `object`, got `str`"),
    ],
)
def test_a_bad_line_is_named(bad: bytes, match: str, tmp_path: Path) -> None:
    file = tmp_path / "output-rs0.jsonl"
    file.write_bytes(GOOD + b"\n" + bad + b"\n")
    refused(file, tmp_path, match)


def test_an_endless_line_is_refused_before_it_is_in_memory(tmp_path: Path) -> None:
    file = tmp_path / "output-rs0.jsonl"
    with file.open("wb") as out:
        out.write(GOOD + b'\n{"generation": "')
        out.truncate(MAX_LINE_BYTES * 40)  # 2.5 GB, sparse
    refused(file, tmp_path, "line 2: longer than 64 MB")


def test_other_encodings_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "output-rs0.jsonl"
    file.write_text(GOOD.decode(), encoding="utf-16")
    refused(file, tmp_path, "none of the known formats")
    refused(file, tmp_path, "line 1: not UTF-8", format="nemo-skills")


def test_a_byte_order_mark_blank_lines_nan_and_lone_surrogates_are_read(tmp_path: Path) -> None:
    line = nemo_line(1, "c", 0, generation="\ud800 odd")
    text = json.dumps({**line, "generation_time": float("nan")})
    assert "NaN" in text
    (tmp_path / "output-rs0.jsonl").write_bytes(b"\xef\xbb\xbf\n\n" + text.encode() + b"\r\n\n" + GOOD)
    assert [(problem["n"], problem["c"]) for problem in imported(tmp_path, out=tmp_path).scorecard.problems] == [(2, 2)]


def test_a_verdict_that_is_nan_is_no_verdict(tmp_path: Path) -> None:
    lines = [nemo_line(1, "c", 0, symbolic_correct=value) for value in (True, float("nan"), 0.5)]
    result = imported(jsonl(tmp_path / "output-rs0.jsonl", lines), out=tmp_path)
    (entry,) = result.scorecard.problems
    assert (entry["n"], entry["c"], entry["error"]) == (3, 1, 2)


def test_two_texts_under_one_id_are_refused(tmp_path: Path) -> None:
    for seed, question in enumerate(("What is 1?", "What is 2?")):
        jsonl(tmp_path / f"output-rs{seed}.jsonl", [nemo_line(1, "c", 0, id="p1", problem=question)])
    refused(tmp_path, tmp_path, r"problem 'p1' has two questions: 'What is 1\?' in .*rs0.*; 'What is 2\?' in .*rs1")


def test_unequal_n_is_reported(tmp_path: Path) -> None:
    rows = ["cwcw", "cw", "wwww"]
    result = imported(WRITERS["nemo-skills"][0](tmp_path / "files", rows), out=tmp_path)
    assert sorted(problem["n"] for problem in result.scorecard.problems) == [2, 4, 4]
    assert "rollouts per problem differ: 2 to 4; 1 of 3 problems have fewer than 4" in result.notes[0]


def test_a_copied_file_does_not_count_twice(tmp_path: Path) -> None:
    source = WRITERS["nemo-skills"][0](tmp_path / "files", table())
    first = next(source.rglob("output-rs0.jsonl"))
    (first.parent / "output-rs99.jsonl").write_bytes(first.read_bytes())
    result = imported(source, first, out=tmp_path)
    assert {problem["n"] for problem in result.scorecard.problems} == {8}
    assert any("output-rs99.jsonl is a copy of" in note for note in result.notes)


def test_a_retried_log_that_copied_samples_does_not_count_them_twice(tmp_path: Path) -> None:
    samples: dict[str, object] = {f"{i}_epoch_1": inspect_sample(i, "c", 1) for i in range(3)}
    eval_log(tmp_path / "a.eval", {"0_epoch_1": samples["0_epoch_1"]})
    eval_log(tmp_path / "b.eval", samples)
    result = imported(tmp_path, out=tmp_path, verdict="match")
    assert [problem["n"] for problem in result.scorecard.problems] == [1, 1, 1]
    assert "1 responses are copies of others" in " ".join(result.notes)


def test_the_greedy_response_is_no_rollout(tmp_path: Path) -> None:
    source = WRITERS["nemo-skills"][0](tmp_path / "files", table())
    folder = next(source.rglob("output-rs0.jsonl")).parent
    jsonl(folder / "output.jsonl", [nemo_line(i, "c", 0) for i in range(12)])
    result = imported(source, out=tmp_path)
    assert {problem["n"] for problem in result.scorecard.problems} == {8}
    assert any("greedy" in note for note in result.notes)


def test_files_of_several_tasks_steps_or_formats_are_distinguished(tmp_path: Path) -> None:
    for name in ("lm-eval", "verl"):
        WRITERS[name][0](tmp_path / name, table())
    refused(tmp_path, tmp_path, "files of several formats .*Choose one with --format")
    samples = next((tmp_path / "lm-eval").rglob("samples_*"))
    samples.with_name("samples_other_2025-11-22T02-29-35.05.jsonl").write_bytes(samples.read_bytes() + b"\n")
    refused(tmp_path / "lm-eval", tmp_path, r"samples of several tasks \(arithmetic, other\)")
    text = (tmp_path / "verl" / "40.jsonl").read_text()
    (tmp_path / "verl" / "50.jsonl").write_text(text.replace('"step": 40', '"step": 50'))
    refused(tmp_path / "verl", tmp_path, r"rollouts of several steps \(40, 50\)")


def test_nothing_in_a_folder_is_passed_over_in_silence(tmp_path: Path) -> None:
    source = WRITERS["nemo-skills"][0](tmp_path / "files", table())
    (source / "notes.csv").write_text("a,b\n1,2\n")
    (source / "metrics.json").write_text("{\n}")
    result = imported(source, out=tmp_path)
    assert result.notes == (f"not of this format, left out: {source}/notes.csv",)
    cut = next(source.rglob("output-rs3.jsonl"))
    cut.write_bytes(cut.read_bytes()[:50])
    with pytest.raises(DataError, match=r"output-rs3\.jsonl, line 1: broken JSON"):
        import_run([source], ImportOptions(model="other", task="t", out=tmp_path / "runs"))


def test_what_is_no_evaluation_is_refused(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    refused(empty, tmp_path, "nothing to import. Formats: nemo-skills, lm-eval")
    refused(tmp_path / "gone.jsonl", tmp_path, "no such file or folder")
    refused(jsonl(tmp_path / "x.jsonl", [{"a": 1}]), tmp_path, "none of the known formats .* its first fields: a")
    refused(tmp_path / "x.jsonl", tmp_path, "unknown format 'lm_eval'. Did you mean 'lm-eval'", format="lm_eval")
    (tmp_path / "x.parquet").write_bytes(b"PAR1 and no more")
    refused(tmp_path / "x.parquet", tmp_path, "not a whole parquet file")
    (tmp_path / "x.eval").write_bytes(b"PK\x03\x04 and no more")
    refused(tmp_path / "x.eval", tmp_path, "not a whole archive")
    (tmp_path / "empty.jsonl").touch()
    refused(tmp_path / "empty.jsonl", tmp_path, "no rollouts in these files", format="nemo-skills")


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("problem_id,n,c\na,4,5\n", "line 2: c is 5, more than n, 4"),
        ("problem_id,n,c\na,4,1\na,4,2\n", r"line 3: problem 'a' again, first in .* line 2"),
        ("problem_id,n,c\na,-4,1\n", "line 2: n is '-4', must be a whole number"),
        ("problem_id,n,c\na,nan,1\n", "line 2: n is 'nan'"),
        ("problem_id,n,c\na,4\n", "line 2: c is ''"),
        ("problem_id,n,c\n,4,1\n", "line 2: problem_id is empty"),
        ("problem_id,n,c\na,999999999,1\n", "more than 50,000,000 rollouts"),
        ("problem_id,n\na,4\n", "none of the known formats"),
        ("problem_id,n,c\n", "no rollouts in these files"),
    ],
)
def test_bad_counts(text: str, match: str, tmp_path: Path) -> None:
    (tmp_path / "counts.csv").write_text(text)
    refused(tmp_path / "counts.csv", tmp_path, match)


def test_problems_without_rollouts_are_kept_apart(tmp_path: Path) -> None:
    (tmp_path / "some.csv").write_text("problem_id,n,c\na,0,0\nb,4,1\n")
    (tmp_path / "none.csv").write_text("problem_id,n,c\na,0,0\n")
    run = imported(tmp_path / "some.csv", out=tmp_path).scorecard.run
    assert (run["n_problems_drawn"], run["n_min"], run["n_max"]) == (1, 4, 4)
    refused(tmp_path / "none.csv", tmp_path / "other", "no rollouts in these files")


def test_responses_and_counts_do_not_mix(tmp_path: Path) -> None:
    text = "problem_id,n,c\na,4,1\n"
    (tmp_path / "a.csv").write_text(text)
    (tmp_path / "b.csv").write_text(text.replace("a,4", "b,4"))
    assert len(imported(tmp_path, out=tmp_path).scorecard.problems) == 2
    taken = collecting.Collector(None, None, "")  # type: ignore[arg-type]
    count = Count(where="a", problem="a", n=4, c=1)
    with pytest.raises(DataError, match="responses and bare counts in one import"):
        taken.take([count, Response(where="b", problem="b", question="", gold="", text="")])


def deflated(members: dict[str, bytes]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, data in members.items():
            packed.writestr(name, data)
    return content.getvalue()


@pytest.mark.parametrize("pack", [deflated, zstd_zip])
def test_a_zip_bomb_is_unpacked_to_the_limit_only(
    pack: Callable[[dict[str, bytes]], bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "MAX_MEMBER_BYTES", 8 * 2**20)
    head = b'{"eval": {"task": "t", "model": "m"}, "status": "success"}'
    bomb = b'{"id": 1, "input": "' + b" " * (64 * 2**20)
    raw = pack({"header.json": head, "samples/1_epoch_1.json": bomb})
    # The directory claims a false size: one byte.
    honest, lie = len(bomb).to_bytes(4, "little"), (1).to_bytes(4, "little")
    (tmp_path / "honest.eval").write_bytes(raw)
    (tmp_path / "lie.eval").write_bytes(raw.replace(honest, lie))
    refused(tmp_path / "honest.eval", tmp_path, "samples/1_epoch_1.json': more than 8 MB when unpacked")
    refused(tmp_path / "lie.eval", tmp_path, "more than 8 MB when unpacked|damaged")


@pytest.mark.parametrize("name", ["../../../evil", "/etc/evil", "..\\evil", "c:evil", "a\nb"])
def test_names_in_an_archive_are_labels(name: str, tmp_path: Path) -> None:
    sample = inspect_sample(1, "c", 1)
    file = eval_log(
        tmp_path / "in" / "a.eval", {f"{name}_epoch_1": sample, "2_epoch_1": {**sample, "id": name, "uuid": "2"}}
    )
    before = {path for path in tmp_path.rglob("*") if "runs" not in path.parts}
    result = imported(file, out=tmp_path, verdict="match")
    assert sum(problem["n"] for problem in result.scorecard.problems) >= 1
    assert {path for path in tmp_path.rglob("*") if "runs" not in path.parts} == before
    assert not Path("/etc/evil_epoch_1.json").exists()


def test_a_damaged_member_is_named(tmp_path: Path) -> None:
    file = eval_log(tmp_path / "a.eval", {"1_epoch_1": inspect_sample(1, "c", 1)})
    raw = bytearray(file.read_bytes())
    raw[100] ^= 0xFF
    file.write_bytes(raw)
    refused(file, tmp_path, r"a\.eval, member 'samples/1_epoch_1.json': damaged", verdict="match")


def test_hostile_names_stay_inside_the_folder_of_runs(tmp_path: Path) -> None:
    source = WRITERS["counts"][0](tmp_path / "files", table())
    options = ImportOptions(model="../../up", task="../../../etc/passwd", out=tmp_path / "runs")
    assert (tmp_path / "runs").resolve() in import_run([source], options).run.resolve().parents


def test_memory_holds_one_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collecting, "_SHARD_CHARACTERS", 1000)
    source = WRITERS["nemo-skills"][0](tmp_path / "files", table(problems=30))
    run = imported(source, out=tmp_path).run
    assert len(list((run / "rollouts").glob("*.parquet"))) > 3
    assert len(list(run.glob("verdicts/*/*.parquet"))) > 3


def import_in_shell(source: Path, out: Path, columns: str, *more: str) -> subprocess.CompletedProcess[str]:
    arguments = ("import", str(source), "-m", "x", "-t", "y", "--out", str(out), *more)
    command = [sys.executable, "-m", "rlvr_bench", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, "COLUMNS": columns})


def test_the_command_says_one_line_and_exits_2(tmp_path: Path) -> None:
    (tmp_path / "output-rs0.jsonl").write_bytes(GOOD + b'\n{"generation": "half')
    shown = import_in_shell(tmp_path, tmp_path / "r", "120")
    assert (shown.returncode, shown.stdout) == (2, "")
    assert shown.stderr.count("\n") == 1
    assert shown.stderr.startswith(f"rlvr-bench: {tmp_path}/output-rs0.jsonl, line 2: broken JSON")


def test_the_command_prints_notes_and_the_scorecard(tmp_path: Path) -> None:
    source = WRITERS["counts"][0](tmp_path / "files", ["cw", "www"])
    shown = import_in_shell(source, tmp_path / "r", "200")
    assert shown.returncode == 0, shown.stderr
    assert "note: rollouts per problem differ: 2 to 3" in shown.stderr
    assert "imported from counts, sampling parameters unknown" in shown.stdout
    assert "files: " in shown.stdout
    assert "counts.csv" in shown.stdout
    again = import_in_shell(source, tmp_path / "r", "200", "--json")
    assert (again.returncode, again.stdout) == (2, "")
    assert "there is a run already" in again.stderr
