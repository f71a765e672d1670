"""``--preview``: what would be read, for tables and for known formats, and nothing on disk."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rlvr_bench import ImportOptions, preview_import
from rlvr_bench.cli import main
from rlvr_bench.errors import DataError
from tests.importers.made import WRITERS, counts_of, jsonl, table
from tests.importers.made_tables import LAYOUTS

ROWS = table(seed=5, problems=6, n=4, letters="cwn")


def shown(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as ended:
        main(["import", *arguments, "--preview"])
    assert ended.value.code in (None, 0)
    return capsys.readouterr().out


def test_three_rollouts_and_the_counts_are_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines, mapping = LAYOUTS["parallel lists"](ROWS)
    file = jsonl(tmp_path / "x.jsonl", lines)
    printed = shown([str(file), "--map", mapping], capsys)
    assert printed.count('  question  What is 0, "exactly"?\\nSay it.') == 3
    assert printed.count(f"{file}, line 1") == 3
    assert "  text      Rollout 2 of 0:\\n" in printed
    correct = sum(c for _, c in counts_of(ROWS))
    assert f"table: all rows (6) give 24 rollouts of 6 problems, 4 a problem; {correct} correct" in printed
    assert printed.rstrip().endswith("preview: nothing written")
    assert [path.name for path in tmp_path.iterdir()] == ["x.jsonl"]


def test_only_the_first_rows_of_a_long_file_are_read(tmp_path: Path) -> None:
    file = tmp_path / "x.jsonl"
    rows = [{"id": i // 4, "t": "x", "ok": i % 4 == 0} for i in range(1200)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows) + "{broken")
    preview = preview_import([file], ImportOptions(map="problem=id,text=t,verdict=ok"))
    assert (preview.complete, preview.rows, preview.rollouts, preview.problems, preview.correct) == (
        False,
        1000,
        1000,
        250,
        250,
    )
    assert (preview.fewest, preview.most) == (4, 4)


@pytest.mark.parametrize("name", WRITERS)
def test_known_formats_are_previewed_too(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write, verdict = WRITERS[name]
    rows = table(problems=6, n=4)
    source = write(tmp_path / "files", rows)
    printed = shown([str(source), *(["--verdict", verdict] if verdict else [])], capsys)
    correct = sum(c for _, c in counts_of(rows))
    assert f"give 24 rollouts of 6 problems, 4 a problem; {correct} correct" in printed
    assert not (tmp_path / "runs").exists()


def test_one_rollout_a_problem_is_said_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = jsonl(tmp_path / "x.jsonl", [{"uid": i, "t": "x", "ok": 1} for i in range(3)])
    printed = shown([str(file), "--map", "problem=uid,text=t,verdict=ok"], capsys)
    assert "one rollout a problem: is the problem's id different in every rollout?" in printed


def test_a_preview_as_json_has_every_field(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = jsonl(tmp_path / "x.jsonl", [{"id": 1, "t": "x", "ok": 0}])
    content = json.loads(shown([str(file), "--map", "problem=id,text=t,verdict=ok", "--json"], capsys))
    assert (content["rollouts"], content["first"][0]["status"]) == (1, "wrong")


def test_a_preview_without_a_verdict_needs_no_task(tmp_path: Path) -> None:
    file = jsonl(tmp_path / "x.jsonl", [{"id": 1, "t": "x"}])
    assert preview_import([file], ImportOptions(map="problem=id,text=t")).unjudged == 1
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(DataError, match="no rollouts in it"):
        preview_import([tmp_path / "empty.jsonl"], ImportOptions(map="problem=id,text=t"))
