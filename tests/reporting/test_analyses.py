"""Stored results of runs on the page: the numbers of the files, every result by its name, and damage in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from rlvr_bench import report
from rlvr_bench.analysis.training_series import series
from rlvr_bench.comparison import compare
from rlvr_bench.errors import RunError
from rlvr_bench.records import Problem, Tools
from tests.conftest import run_verb
from tests.reporting.made import interventions, judge, put, reach, rescoring, write_run
from tests.reporting.test_report import data

PROBLEMS = [Problem(id=f"p{i}", question="?", answer="1") for i in range(6)]
STEPS = (0, 10, 20, 30, 40, 50, 60)


def letters(seed: int, rate: float) -> list[str]:
    drawn = np.random.default_rng(seed).random((len(PROBLEMS), 8)) < rate
    return ["".join("c" if entry else "w" for entry in line) for line in drawn]


def write(path: Path, model: str, rate: float = 0.4, **changed: Any) -> Path:
    return write_run(path, model, PROBLEMS, letters(len(str(path)), rate), lambda i, j: f"{i} {j}", **changed)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A run of everything, and a page on it, a run with tools of the same model, and one of nothing."""
    folder = tmp_path_factory.mktemp("made")
    runs = [write(folder / "a", "m"), write(folder / "a@python", "m", 0.7, tools=Tools()), write(folder / "b", "other")]
    put(runs[0], "base", rescoring("base", divergence="sampled"))
    put(runs[0], "base-exact", rescoring("base"))
    put(runs[1], "x", rescoring("x"))
    put(runs[0], "second-position", interventions())
    put(runs[0], "again", interventions(design={"seed": 1}))
    put(runs[0], "other", reach())
    judge(runs[0])
    report(runs, folder / "report.html")
    (task,) = data(folder / "report.html")
    return folder, task


def test_results_on_the_page_are_those_in_their_files(made: tuple[Path, Any]) -> None:
    folder, task = made
    shown = {(entry["run"], entry["name"]): entry["result"] for entry in task["rescorings"]}
    assert set(shown) == {(0, "base"), (0, "base-exact"), (1, "x")}
    for (run, name), result in shown.items():
        file = folder / ("a", "a@python")[run] / "rescored" / name / "rescore.json"
        assert result == json.loads(file.read_bytes())
    assert [(entry["run"], entry["name"]) for entry in task["interventions"]] == [(0, "again"), (0, "second-position")]
    for entry in task["interventions"]:
        file = folder / "a" / "interventions" / entry["name"] / "result.json"
        assert entry["result"] == json.loads(file.read_bytes())
    assert task["rescorings"][0]["result"]["perplexities"]["other_on_other"] is None
    (rates,) = task["reaches"]
    assert (rates["run"], rates["name"]) == (0, "other")
    assert rates["result"] == json.loads((folder / "a" / "reach" / "other.json").read_bytes())


def test_judges_and_tools_are_those_of_the_scorecards(made: tuple[Path, Any]) -> None:
    folder, task = made
    judged, able, plain = task["runs"]
    assert (judged["judge"]["judge"], judged["judge"]["valid"], judged["tools"]) == ("judge.py:sound", 6, None)
    assert {entry["k"] for entry in judged["estimates"] if entry["name"] == "cot_pass@k"} == {1, 2, 4}
    wrong = sum(line.count("w") for line in letters(len(str(folder / "a@python")), 0.7)) / 48
    assert able["tools"] == {"language": "python", "version": "1", "calls": 3.5, "errors": pytest.approx(wrong)}
    assert (plain["judge"], plain["tools"]) == (None, None)
    assert [run["short"] for run in task["runs"]] == ["m", "m + python", "other"]


def test_text_and_tool_boundary_are_compared_as_compare_does(made: tuple[Path, Any]) -> None:
    folder, task = made
    assert task["text_and_tools"] == [[0, 1]]
    (pair,) = [entry for entry in task["pairs"] if (entry["first"], entry["second"]) == (0, 1)]
    (expected,) = compare([folder / "a", folder / "a@python"]).pairs
    assert (pair["gained"], pair["lost"]) == (list(expected.boundary.gained), list(expected.boundary.lost))


def test_a_pair_of_text_and_tools_is_compared_among_many_runs_too(tmp_path: Path) -> None:
    runs = [write(tmp_path / f"{i}", f"m{i}") for i in range(7)]
    runs.insert(4, write(tmp_path / "tool", "m3", 0.6, tools=Tools()))
    report(runs, tmp_path / "r.html", rollouts=0)
    (task,) = data(tmp_path / "r.html")
    assert task["baselines"] == [0, 7]
    assert task["text_and_tools"] == [[3, 4]]
    couples = [(pair["first"], pair["second"]) for pair in task["pairs"]]
    assert len(couples) == len(set(couples)) == 15
    assert (3, 4) in couples


def test_a_series_says_what_the_verb_says(tmp_path: Path) -> None:
    runs = [write(tmp_path / f"{step:02}", f"r@{step}", 0.2 + 0.01 * step) for step in STEPS]
    other = [write(tmp_path / f"t{step}", f"r@{step}", tools=Tools()) for step in STEPS[:2]]
    again = write(tmp_path / "again", "r@10", 0.9)
    report([*reversed(runs), *other, again], tmp_path / "r.html", rollouts=0)
    (task,) = data(tmp_path / "r.html")
    first, second = task["series"]
    expected = msgspec.to_builtins(msgspec.structs.replace(series(runs), metrics=()))
    assert first["result"] == json.loads(msgspec.json.encode(expected))
    assert [task["runs"][i]["step"] for i in first["runs"]] == list(STEPS)
    assert first["result"]["law"]["forecast"]["n_fitted"] == 3
    assert (second["series"], len(second["runs"])) == ("r + python", 2)


def test_a_page_without_any_of_it_holds_none_of_it(tmp_path: Path) -> None:
    report([write(tmp_path / "a", "m@1"), write(tmp_path / "b", "n@2")], tmp_path / "r.html")
    (task,) = data(tmp_path / "r.html")
    assert [task[name] for name in ("series", "rescorings", "reaches", "interventions", "text_and_tools")] == [[]] * 5


def spoil(change: Callable[[Any], Any]) -> Callable[[bytes], bytes]:
    return lambda content: json.dumps(change(json.loads(content))).encode()


DAMAGE: list[tuple[Callable[[bytes], bytes], str]] = [
    (lambda content: content[:100], "damaged"),
    (lambda content: b"", "damaged"),
    (lambda content: b"\xff\xfe{", "damaged"),
    (lambda content: b"[]", "damaged"),
    (spoil(lambda content: {**content, "estimates": 1, "effects": "x", "problems": 1}), "damaged"),
    (spoil(lambda content: {**content, "schema": 9, "design": {**content.get("design", {}), "schema": 9}}), "schema 9"),
]


@pytest.mark.parametrize(("change", "message"), DAMAGE)
@pytest.mark.parametrize("result", [rescoring(), interventions(), reach()], ids=["rescoring", "interventions", "reach"])
def test_a_damaged_result_is_one_clear_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], result: Any, change: Callable[[bytes], bytes], message: str
) -> None:
    run = write(tmp_path / "a", "m")
    file = put(run, "name", result)
    file.write_bytes(change(file.read_bytes()))
    assert run_verb("report", str(run), "--html", str(tmp_path / "r.html")) == 2
    said = capsys.readouterr().err
    assert str(file) in said
    assert message in said
    assert "Traceback" not in said
    assert not (tmp_path / "r.html").exists()


@pytest.mark.parametrize("field", ["tools", "judging"])
def test_a_scorecard_damaged_there_is_one_clear_line(tmp_path: Path, field: str) -> None:
    run = write(tmp_path / "a", "m")
    card = json.loads((run / "scorecard.json").read_bytes())
    card["run"][field] = "python"
    (run / "scorecard.json").write_text(json.dumps(card))
    with pytest.raises(RunError, match=rf"scorecard.json: damaged at run.{field}"):
        report([run], tmp_path / "r.html")
