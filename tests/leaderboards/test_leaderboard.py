"""Leaderboards of hand-made scorecards: cells, ranks, updating a CSV, refusing one, the other formats, the verb."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow.parquet as pq
import pytest
import typer
from typer.testing import CliRunner

from rlvr_bench import leaderboard
from rlvr_bench.cli.leaderboard import register
from rlvr_bench.errors import BadArgument, DataError, RunError, UnknownName
from rlvr_bench.leaderboards import columns, csv_text, json_text, markdown_text, parquet_bytes
from rlvr_bench.leaderboards.ranks import rank
from rlvr_bench.records import Estimate, SamplingParameters
from tests.comparison.made import card

ROOT = Path(__file__).parent.parent.parent
KS = (1, 4, 16)
RATES = np.random.default_rng(3).beta(0.4, 0.8, 50)
HOSTILE = '=cmd|"/c x"!A1,\n| <b>a</b>\r@x'


def write(folder: Path, model: str, c: list[int], n: int, **changed: Any) -> Path:
    estimates = changed.pop("estimates", [])
    made = msgspec.structs.replace(card(model, c, n, **changed)[1], estimates=estimates)
    file = folder / f"{len(list(folder.glob('*.json'))) if folder.exists() else 0:02}.json"
    folder.mkdir(exist_ok=True)
    file.write_bytes(msgspec.json.encode(made))
    return file


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Three checkpoints: the last solves what the others do not."""
    folder = tmp_path / "cards"
    write(folder, "base", [0, 1, 2, 8, 0, 3], 8)
    write(folder, "ckpts/global_step_200", [0, 4, 0, 8, 1, 3], 8)
    write(folder, "zoo:grpo", [8] * 6, 8)
    return folder


def test_cells_by_hand(runs: Path) -> None:
    rows = {row["model"]: row for row in leaderboard([runs], ks=KS, base="base").rows}
    base, step, zoo = rows["base"], rows["ckpts/global_step_200"], rows["zoo:grpo"]
    assert list(base) == [column.name for column in columns(KS)]
    assert base["pass@1"] == pytest.approx(14 / 48, abs=1e-6)
    assert base["pass@16"] is None
    assert base["rank@16"] is None
    assert (base["n"], base["problems"], base["temperature"]) == (8, 6, 0.6)
    assert (step["step"], step["gained"], step["lost"], step["compared_k"]) == (200, 1, 1, 8)
    assert (zoo["method"], zoo["gained"], zoo["lost"]) == ("grpo", 2, 0)
    assert base["gained"] is None
    assert [row["rank@1"] for row in (base, step, zoo)] == [3, 2, 1]


def test_rows_of_one_checkpoint_that_differ_in_sampling_say_how(tmp_path: Path) -> None:
    folder = tmp_path / "cards"
    for temperature, min_p in ((0.6, 0.0), (1.0, 0.0), (1.0, 0.05)):
        write(folder, "base", [0, 4, 1], 8, sampling=SamplingParameters(temperature=temperature, min_p=min_p))
    write(folder, "other", [1, 2, 3], 8, sampling=SamplingParameters(temperature=0.6))
    board = leaderboard([folder], ks=KS)
    names = {cells.split("|")[1].strip() for cells in markdown_text(board.rows, board.ks).splitlines() if "| " in cells}
    assert {"base (T=0.6)", "base (T=1)", "base (T=1, min-p=0.05)", "other"} <= names


def test_estimates_are_those_of_the_scorecard(tmp_path: Path) -> None:
    estimates = [
        Estimate(name="pass@k", k=4, value=0.123456789, low=0.1, high=0.2),
        Estimate(name="unsolved", k=8, value=3.0, low=1.5, high=4.5),
        Estimate(name="cover", group="tau=0.5", value=0.5, low=0.4, high=0.6),
        Estimate(name="cover", group="tau=0.1", value=0.7),
        Estimate(name="token_entropy", value=0.4, low=0.3, high=0.5),
        Estimate(name="token_entropy", group="correct", value=9.0),
        Estimate(name="distinct_answers@k", k=16, value=7.0, low=6.0, high=8.0),
    ]
    sessions = [{"started": "2026-01-02T03:04:05+00:00", "engine_version": "0.1"}]
    write(tmp_path / "c", "m", [1, 2], 8, estimates=estimates, engine="vllm", sessions=sessions)
    (row,) = leaderboard([tmp_path / "c"], ks=KS).rows
    assert (row["pass@4"], row["pass@4_low"], row["pass@4_high"]) == (0.123457, 0.1, 0.2)
    assert (row["boundary_k"], row["unsolved"], row["unsolved_high"]) == (8, 3.0, 4.5)
    assert (row["cover@0.5"], row["cover@0.1"], row["cover@0.1_low"]) == (0.5, 0.7, None)
    assert (row["token_entropy"], row["distinct_answers@16_high"]) == (0.4, 8.0)
    assert (row["engine"], row["date"]) == ("vllm 0.1", "2026-01-02")


def test_a_new_run_changes_its_own_line_only(runs: Path, tmp_path: Path) -> None:
    file = tmp_path / "board.csv"
    given = {("ckpts/*", "method"): "GRPO", ("ckpts/*", "base_model"): "base"}
    file.write_text(csv_text(leaderboard([runs], ks=KS, about=given).rows, KS))
    before = file.read_text().splitlines()
    assert csv_text(leaderboard([runs], existing=file, ks=KS).rows, KS).splitlines() == before  # given once, kept
    other = write(tmp_path / "other", "base", [0, 1, 2, 8, 0, 3], 8, task="another")
    more = csv_text(leaderboard([other], existing=file, ks=KS).rows, KS).splitlines()
    assert [line for line in more if line in before] == before
    assert len(more) == len(before) + 1
    (runs / "02.json").unlink()
    write(runs, "zoo:grpo", [8, 8, 8, 8, 8, 7], 8, seed=5)
    after = csv_text(leaderboard([runs], existing=file, ks=KS).rows, KS).splitlines()
    assert [old.split(",")[3] for old, new in zip(before, after, strict=True) if old != new] == ["zoo:grpo"]


def test_names_cannot_break_the_csv_nor_start_a_formula(tmp_path: Path) -> None:
    names = (HOSTILE, "-2+3", "'quoted", "plain", "@x", "\tq")
    for name in names:
        write(tmp_path / "c", name, [1, 2, 3], 8)
    rows = leaderboard([tmp_path / "c"], ks=KS).rows
    text = csv_text(rows, KS)
    cells = list(csv.reader(io.StringIO(text, newline="")))
    assert len(cells) == 1 + len(names)
    assert not [cell for line in cells for cell in line if cell[:1] in ("=", "+", "-", "@", "\t", "\r")]
    file = tmp_path / "board.csv"
    file.write_bytes(text.encode())
    kept = leaderboard([tmp_path / "c"], existing=file, ks=KS).rows
    assert {row["model"] for row in kept} == set(names)
    assert csv_text(kept, KS) == text
    assert {line.count(" | ") for line in markdown_text(rows, KS).splitlines() if line.startswith("|")} == {9}
    assert "<b>" not in markdown_text(rows, KS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace(",method,", ",", 1), "missing: method"),
        (lambda text: text.replace(",method,", ",how,", 1), "missing: method; not known: how"),
        (lambda text: text.replace("model,method", "method,model", 1), "another order"),
        (lambda text: "", "missing: task"),
        (lambda text: text.replace(",8,", ",eight,", 1), "line 2: n is 'eight', expected a whole number"),
        (lambda text: text.replace("0.6", "nan", 1), "line 2: temperature is 'nan', expected a number"),
        (lambda text: text + text.splitlines()[1] + "\n", "line 5: a second row with the same task"),
        (lambda text: text + "a,b\n", "line 5: 2 cells"),
        (lambda text: text.replace("\nt,", '\n"t,', 1), "not a CSV file"),
    ],
)
def test_a_csv_edited_by_hand_is_refused_and_left_alone(runs: Path, tmp_path: Path, change: Any, message: str) -> None:
    file = tmp_path / "board.csv"
    file.write_text(change(csv_text(leaderboard([runs], ks=KS).rows, KS)))
    before = file.read_bytes()
    with pytest.raises(DataError, match=message):
        run(str(runs), "--csv", str(file), "--k", "1,4,16")
    assert file.read_bytes() == before


def test_another_grid_is_another_leaderboard(runs: Path, tmp_path: Path) -> None:
    file = tmp_path / "board.csv"
    file.write_text(csv_text(leaderboard([runs], ks=KS).rows, KS))
    with pytest.raises(DataError, match="missing: pass@64.*Give the --k it was made with"):
        leaderboard([runs], existing=file)


def test_what_cannot_be_a_row_is_refused(runs: Path) -> None:
    write(runs, "base", [1] * 6, 8, seed=9)
    with pytest.raises(RunError, match="00.json and .*03.json: two runs for one row"):
        leaderboard([runs])
    with pytest.raises(UnknownName, match=r"unknown base 'bsae'. Did you mean 'base'\?"):
        leaderboard([runs / "00.json"], base="bsae")
    with pytest.raises(UnknownName, match="unknown field 'author'"):
        leaderboard([runs / "00.json"], about={("base", "author"): "x"})
    with pytest.raises(BadArgument, match="a step is a whole number"):
        leaderboard([runs / "00.json"], about={("base", "step"): "x"})
    with pytest.raises(BadArgument, match="at least 1"):
        leaderboard([runs / "00.json"], ks=[0])


def test_equal_rows_share_a_rank_and_clear_ones_have_a_narrow_one() -> None:
    rng = np.random.default_rng(0)
    values = np.stack([np.full(200, 0.9), np.full(200, 0.5), np.full(200, 0.5), np.zeros(200)], axis=1)
    values[:, :3] += rng.uniform(-0.05, 0.05, (200, 1))
    weights = rng.multinomial(200, np.full(200, 1 / 200), 500) / 200
    ranks, low, high = rank(values.mean(axis=0), weights @ values, 200)
    assert ranks.tolist() == [1, 2, 2, 4]
    assert list(zip(low.tolist(), high.tolist(), strict=True)) == [(1, 1), (2, 3), (2, 3), (4, 4)]


def test_rank_intervals_hold_the_rank_in_the_population() -> None:
    """Six checkpoints of 80 problems, three of them equal in truth; 100 repetitions, 95 % stated, 88 % is 3 errors away."""
    rng = np.random.default_rng(1)
    shifts = np.array([0.0, 0.0, 0.0, 0.02, 0.05, 0.2])
    lowest, highest = np.array([4, 4, 4, 3, 2, 1]), np.array([6, 6, 6, 3, 2, 1])
    held = np.zeros((100, 6), dtype=bool)
    for repeat in range(100):
        problems = rng.beta(0.8, 1.2, 80)[:, None] * 0.7
        values = np.clip(problems + shifts + rng.normal(0, 0.1, (80, 6)), -1, 2)
        weights = rng.multinomial(80, np.full(80, 1 / 80), 400) / 80
        _, low, high = rank(values.mean(axis=0), weights @ values, 80)
        held[repeat] = (low <= highest) & (high >= lowest)
    assert held.mean(axis=0).min() >= 0.88


def test_kept_rows_are_ranked_from_their_intervals(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name, factor in (("best", 1.0), ("worst", 0.1), ("middle", 0.5)):
        write(tmp_path / "c", name, rng.binomial(64, RATES * factor).tolist(), 64)
    file = tmp_path / "board.csv"
    whole = leaderboard([tmp_path / "c"], ks=(1,)).rows
    file.write_text(csv_text(leaderboard([tmp_path / "c" / "00.json", tmp_path / "c" / "01.json"], ks=(1,)).rows, (1,)))
    added = leaderboard([tmp_path / "c" / "02.json"], existing=file, ks=(1,)).rows
    assert [row["rank@1"] for row in added] == [row["rank@1"] for row in whole] == [1, 2, 3]
    for paired, alone in zip(whole, added, strict=True):
        assert int(alone["rank@1_low"] or 0) <= int(paired["rank@1_low"] or 0)
        assert int(alone["rank@1_high"] or 0) >= int(paired["rank@1_high"] or 0)


def test_an_interval_that_may_not_hold_as_said_is_marked(tmp_path: Path) -> None:
    """Six problems have an interval for any distribution; 40 have none of that. The file keeps it and the table says it."""
    few, many = tmp_path / "few", tmp_path / "many"
    write(few, "m", [0, 1, 2, 8, 0, 3], 8)
    write(many, "m", [0, 1, 2, 8] * 10, 8)
    board = leaderboard([few], ks=KS)
    caveat = str(board.rows[0]["caveats"])
    assert caveat.startswith("pass@1, pass@4")
    assert "fewer than 30 problems or clusters: the interval holds" in caveat
    assert "\nintervals: fewer than 30 problems" in markdown_text(board.rows, KS)
    file = tmp_path / "board.csv"
    file.write_text(csv_text(board.rows, KS))
    assert leaderboard([], existing=file, ks=KS).rows[0]["caveats"] == caveat
    board = leaderboard([many], ks=KS)
    assert board.rows[0]["caveats"] is None
    assert "intervals" not in markdown_text(board.rows, KS)


def test_all_formats_agree(runs: Path) -> None:
    rows = leaderboard([runs], ks=KS).rows
    assert json.loads(json_text(rows)) == [dict(row) for row in rows]
    assert pq.read_table(io.BytesIO(parquet_bytes(rows, KS))).to_pylist() == [dict(row) for row in rows]
    header, *lines = csv.reader(io.StringIO(csv_text(rows, KS)))
    for row, line in zip(rows, lines, strict=True):
        for name, cell in zip(header, line, strict=True):
            value = row[name]
            assert cell == "" if value is None else cell == value or float(cell) == value


def run(*args: str) -> str:
    app = typer.Typer()
    register(app)
    return CliRunner().invoke(app, list(args), catch_exceptions=False).output


def test_the_verb_prints_and_writes(runs: Path, tmp_path: Path) -> None:
    out = {name: str(tmp_path / "new" / f"board.{name}") for name in ("csv", "markdown", "json", "parquet")}
    flags = ("--set", "zoo:grpo:method=GRPO = group", "--base", "base", "--k", "1,4")
    shown = run(str(runs), *flags, *(part for name, file in out.items() for part in (f"--{name}", file)))
    assert "pass@4" in shown
    assert "GRPO = group" in shown
    assert all(Path(file).stat().st_size for file in out.values())
    assert "GRPO = group" in Path(out["csv"]).read_text()
    assert json.loads(run(str(runs), "--json", "-"))[0]["task"] == "t"
    with pytest.raises(BadArgument, match="MODEL:FIELD=VALUE"):
        run(str(runs), "--set", "method=x")


@pytest.mark.parametrize("form", ["table", "markdown", "latex", "plain"])
def test_gained_and_lost_have_a_column_where_a_base_is_known(runs: Path, form: str) -> None:
    for base, known in (((), False), (("--base", "base"), True)):
        shown = run(str(runs), "--format", form, "--k", "1,4", *base)
        assert ("+/-" in shown or "gained" in shown) is known


def test_formats_of_a_leaderboard(runs: Path) -> None:
    write(runs, HOSTILE, [1] * 6, 8, seed=9)
    rows = [line.split("\t") for line in run(str(runs), "--format", "tsv", "--k", "1,4").rstrip("\n").split("\n")]
    assert rows[0] == [column.name for column in columns((1, 4))]
    assert {len(row) for row in rows} == {len(rows[0])}
    assert len(rows) == 5
    shown = run(str(runs), "--format", "latex", "--k", "1,4")
    assert shown.count("\\\\") == 5
    assert "\\mathbf{100.0}" in shown
    assert run(str(runs), "--format", "markdown", "--k", "1,4") == run(str(runs), "--markdown", "-", "--k", "1,4")


def test_one_rollout_is_not_at_least_one_of_one() -> None:
    meanings = {column.name: column.meaning for column in columns((1, 4))}
    assert meanings["pass@1"] == "chance that a rollout is correct"
    assert meanings["pass@4"] == "chance that at least one of 4 rollouts is correct"


def test_every_column_is_documented() -> None:
    page = (ROOT / "docs" / "leaderboard.md").read_text()
    for column in columns((1,)):
        name = column.name.replace("@1", "@K") if column.name.startswith(("pass@1", "rank@1")) else column.name
        if not name.endswith(("_low", "_high")):
            assert f"`{name}`" in page, name


def test_what_depends_on_n_is_left_empty_where_rows_differ_in_n(tmp_path: Path) -> None:
    estimates = [Estimate(name="duplicate_rate", value=0.1), Estimate(name="distinct_texts@k", k=16, value=15.0)]
    for model, n in (("a", 16), ("b", 16), ("c", 64)):
        write(tmp_path / "cards", model, [1, 2], n, estimates=estimates)
    files = sorted((tmp_path / "cards").glob("*.json"))
    alike = leaderboard(files[:2], ks=KS)
    assert [row["duplicate_rate"] for row in alike.rows] == [0.1, 0.1]
    differ = leaderboard(files, ks=KS)
    assert [row["duplicate_rate"] for row in differ.rows] == [None, None, None]
    assert [row["distinct_texts@16"] for row in differ.rows] == [15.0] * 3
    assert any("rows differ in n" in note for note in differ.notes)
