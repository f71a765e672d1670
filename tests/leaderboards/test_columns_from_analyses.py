"""Columns for judges, tools and rescorings; and leaderboard files that are older than these columns."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import msgspec
import pytest

from rlvr_bench import leaderboard
from rlvr_bench.analysis.shift_results import Checkpoint, Rescoring
from rlvr_bench.errors import DataError, RunError
from rlvr_bench.leaderboards import Row, columns, csv_text, markdown_text
from rlvr_bench.leaderboards.columns import ADDED
from rlvr_bench.records import Estimate
from tests.comparison.made import card
from tests.conftest import run_verb
from tests.reporting.made import put, rescoring

KS = (1, 4)
PYTHON = {"language": "python", "version": "1"}


def write(folder: Path, model: str = "m", **changed: Any) -> Path:
    """A run folder that holds a scorecard only."""
    parts = {name: changed.pop(name) for name in ("estimates", "quality") if name in changed}
    made = msgspec.structs.replace(card(model, [0, 1, 4], 4, **changed)[1], **parts)
    folder.mkdir(parents=True)
    (folder / "scorecard.json").write_bytes(msgspec.json.encode(made))
    return folder


def row_of(run: Path, base: str | None = None) -> Row:
    about = {} if base is None else {("m", "base_model"): base}
    (row,) = leaderboard([run], ks=KS, about=about).rows
    return row


def shown(run: Path, base: str | None = None) -> tuple[Any, Any, Any]:
    row = row_of(run, base)
    return row["kl_to"], row["kl"], row["moved_share"]


def test_judges_are_those_of_the_scorecard(tmp_path: Path) -> None:
    estimates = [
        Estimate(name="cot_pass@k", k=1, value=0.2, low=0.1, high=0.3),
        Estimate(name="cot_pass@k", k=2, value=0.9),
        Estimate(name="cot_pass@k", k=16, value=0.6, low=0.5, high=0.7),
        Estimate(name="valid_reasoning", value=0.8, low=0.7, high=0.9),
    ]
    judged, other = row_of(write(tmp_path / "a", estimates=estimates)), row_of(write(tmp_path / "b"))
    assert [judged[f"cot_pass@1{end}"] for end in ("", "_low", "_high")] == [0.2, 0.1, 0.3]
    assert (judged["cot_pass@16"], judged["valid_reasoning"], judged["valid_reasoning_low"]) == (0.6, 0.8, 0.7)
    assert {other[name] for name in ADDED - {"caveats"}} == {None}  # its few problems are a caveat


def test_a_run_with_tools_is_a_row_of_its_own(tmp_path: Path) -> None:
    calls = {"tool_calls_per_response": 2.5, "tool_errors_per_response": 0.25}
    runs = [write(tmp_path / "t"), write(tmp_path / "t@python", tools=PYTHON, quality=calls)]
    text, tool = leaderboard(runs, ks=KS).rows
    assert (text["tools"], text["tool_calls"]) == (None, None)
    assert (tool["tools"], tool["tool_calls"], tool["tool_errors"]) == ("python", 2.5, 0.25)
    assert text["setting"] == tool["setting"], "they are ranked together"
    assert "| m + python |" in markdown_text([text, tool], KS)
    file = tmp_path / "board.csv"
    file.write_text(csv_text([text, tool], KS))
    assert list(leaderboard([runs[1]], existing=file, ks=KS).rows) == [text, tool]


def test_gained_and_lost_of_a_run_with_tools_refer_to_the_base_with_tools(tmp_path: Path) -> None:
    runs = [
        write(tmp_path / f"{model}{i}", model, tools=tools) for model in "mb" for i, tools in enumerate((None, PYTHON))
    ]
    rows = leaderboard(runs, ks=KS, base="b")
    assert rows.notes == ()
    assert [row["compared_to"] for row in rows.rows if row["model"] == "m"] == ["b", "b"]


def test_the_rescoring_under_the_base_counts(tmp_path: Path) -> None:
    run = write(tmp_path / "a")
    assert shown(run) == (None, None, None)
    put(run, "m", rescoring("m", own=Checkpoint(model="zoo:m", weights="m")))
    assert shown(run) == (None, None, None), "under itself says nothing"
    put(run, "base", rescoring("base"))
    assert shown(run)[0] == shown(run, "elsewhere")[0] == "base", "the only one"
    put(run, "other", rescoring("other"))
    assert shown(run) == shown(run, "elsewhere") == (None, None, None), "two, and none is the base"
    assert shown(run, "other")[0] == "other"
    (row,) = leaderboard([run, write(tmp_path / "b", "base")], ks=KS, base="base").rows[1:]
    assert row["kl_to"] == "base"


def test_its_numbers_are_those_of_the_file(tmp_path: Path) -> None:
    run = write(tmp_path / "a")
    file = put(run, "base", rescoring("base"))
    cells = {
        item.name: item for item in msgspec.json.decode(file.read_bytes(), type=Rescoring).estimates if not item.group
    }
    row = row_of(run)
    for column, name in (("kl", "kl"), ("moved_share", "moved_share")):
        expected = cells[name].value, cells[name].low, cells[name].high
        assert tuple(row[f"{column}{end}"] for end in ("", "_low", "_high")) == pytest.approx(expected)


def test_a_divergence_is_shown_only_where_it_is_one(tmp_path: Path) -> None:
    hot, cool = (
        write(tmp_path / name, sampling={"temperature": t, "top_p": 1.0}) for name, t in (("a", 1.0), ("b", 0.6))
    )
    for run in (hot, cool):
        put(run, "base", rescoring("base", divergence="sampled", threshold=0.2))
    assert shown(hot) == ("base", pytest.approx(0.3), None)
    assert shown(cool) == ("base", None, None)
    put(cool, "base-exact", rescoring("base"))
    assert shown(cool) == ("base", pytest.approx(0.32), pytest.approx(0.33))


def test_a_lone_scorecard_has_no_rescorings_and_a_damaged_one_is_one_clear_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write(tmp_path / "a")
    file = put(run, "base", rescoring("base"))
    (run / "copy.json").write_bytes((run / "scorecard.json").read_bytes())
    assert shown(run / "copy.json") == (None, None, None)
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(RunError, match=r"rescore.json: damaged"):
        row_of(run)
    assert run_verb("leaderboard", str(run), "--csv", str(tmp_path / "b.csv")) == 2
    assert "Traceback" not in capsys.readouterr().err
    assert not (tmp_path / "b.csv").exists()


def without(text: str, names: frozenset[str]) -> str:
    """The CSV without some columns, as a version wrote it that had none of them."""
    header, *lines = csv.reader(io.StringIO(text, newline=""))
    kept = [column for column, name in enumerate(header) if name not in names]
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator="\n").writerows([line[column] for column in kept] for line in (header, *lines))
    return out.getvalue()


@pytest.mark.parametrize("names", [ADDED, frozenset({"tools", "kl_to"})])
def test_a_file_older_than_these_columns_is_read_and_brought_up_to_date(tmp_path: Path, names: frozenset[str]) -> None:
    runs = [write(tmp_path / name, name) for name in ("a", "b")]
    file = tmp_path / "board.csv"
    now = csv_text(leaderboard(runs, ks=KS).rows, KS)
    file.write_text(without(now, names))
    kept = csv_text(leaderboard([], existing=file, ks=KS).rows, KS)
    lost = names & {"caveats"}  # as it depends on nothing else in the file
    assert without(kept, lost) == without(now, lost)
    put(runs[1], "base", rescoring("base"))
    a, b = leaderboard([runs[1]], existing=file, ks=KS).rows
    assert list(a) == list(b) == [column.name for column in columns(KS)]
    assert (a["model"], a["kl"], b["model"], b["kl_to"]) == ("a", None, "b", "base")
    file.write_text(without(now, names | {"method"}))
    with pytest.raises(DataError, match=r"not the columns of this leaderboard \(missing: method\)"):
        leaderboard(runs, existing=file, ks=KS)


def test_names_of_checkpoints_cannot_start_a_formula(tmp_path: Path) -> None:
    run = write(tmp_path / "a")
    put(run, "x", rescoring('=cmd|"/c x"!A1'))
    text = csv_text([row_of(run)], KS)
    (row,) = csv.DictReader(io.StringIO(text, newline=""))
    assert row["kl_to"] == '\'=cmd|"/c x"!A1'
    file = tmp_path / "board.csv"
    file.write_text(text)
    (kept,) = leaderboard([], existing=file, ks=KS).rows
    assert kept["kl_to"] == '=cmd|"/c x"!A1'
