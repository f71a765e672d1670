"""The page as a file: what is in it, what is refused, and that its numbers are those of the scorecards."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from scipy import stats as scipy_stats
from typer.testing import CliRunner

from rlvr_bench import report
from rlvr_bench.cli.main import app
from rlvr_bench.comparison import compare
from rlvr_bench.errors import BadArgument, RunError, StorageError
from rlvr_bench.records import Problem
from rlvr_bench.reporting import browser
from rlvr_bench.reporting.browser import CHARACTERS
from rlvr_bench.reporting.content import QUESTION_CHARACTERS
from rlvr_bench.reporting.render import script_json
from tests.comparison.made import card
from tests.reporting.made import write_run

PROBLEMS = [Problem(id=f"p{i}", question=f"What is {i} + 1?", answer=str(i), tier=f"tier {i % 2}") for i in range(6)]
FIRST = ["ccwwwwww", "cwwwwwww", "wwwwwwww", "wwwwwwne", "ccccwwww", "wwwwwwww"]
SECOND = ["ccccccww", "wwwwwwww", "wwwwwwww", "cwwwwwww", "cccccccc", "wwwwwwwn"]


def text(problem: int, rollout: int) -> str:
    return f"{problem} and {rollout}: " + "word " * 10


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("runs")
    return [
        write_run(folder / "a", "zoo:m@0", PROBLEMS, FIRST, text),
        write_run(folder / "b", "zoo:m@100", PROBLEMS, SECOND, text),
    ]


def data(page: Path) -> Any:
    result = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page.read_text(), re.DOTALL)
    assert len(result) == 1
    return json.loads(result[0])


@pytest.fixture(scope="module")
def page(runs: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Any:
    html = tmp_path_factory.mktemp("page") / "report.html"
    report(runs, html)
    (task,) = data(html)
    return task


def test_differences_crossovers_and_sets_are_those_of_compare(runs: list[Path], page: Any) -> None:
    for first, second in ((0, 1), (1, 0)):
        (expected,) = compare([runs[first], runs[second]], allow_errors=True).pairs
        (pair,) = [entry for entry in page["pairs"] if (entry["first"], entry["second"]) == (first, second)]
        shown = {(name, k): row for name, k, *row in pair["differences"]}
        for item in (*expected.pass_at_k, *expected.policy):
            if (item.name, item.k) in shown:
                assert shown[item.name, item.k][0] == pytest.approx(item.value)
                assert shown[item.name, item.k][1] == pytest.approx(item.low, abs=0.02)  # fewer replicates here
                assert shown[item.name, item.k][4] == item.n_problems
        assert {k for name, k in shown if name == "pass@k"} == {1, 2, 4, 8}
        assert pair["crossover"]["k"] == expected.crossover.k
        assert pair["gained"] == list(expected.boundary.gained)
        assert expected.problems is not None
        assert pair["more_often"] == [change.id for change in expected.problems.gained]
        assert pair["less_often"] == [change.id for change in expected.problems.lost]
        assert pair["lost"] == list(expected.boundary.lost)
        assert expected.boundary.gains is not None
        assert pair["gains"]["expected"] == pytest.approx(expected.boundary.gains.expected)


def test_counts_and_estimates_are_those_of_the_scorecards(runs: list[Path], page: Any) -> None:
    for run, folder, letters in zip(page["runs"], runs, (FIRST, SECOND), strict=True):
        estimates = json.loads((folder / "scorecard.json").read_text())["estimates"]
        assert run["estimates"][: len(estimates)] == estimates
        assert run["c"] == [entry.count("c") for entry in letters]
        for c, n, low, high in zip(run["c"], run["n"], run["low"], run["high"], strict=True):
            exact = scipy_stats.binomtest(c, n).proportion_ci(method="exact")
            assert (low, high) == pytest.approx((exact.low, exact.high), abs=1e-4)
    assert page["questions"] == [problem.question for problem in PROBLEMS]
    assert [(run["series"], run["step"]) for run in page["runs"]] == [("zoo:m", 0), ("zoo:m", 100)]


def test_tiers_hold_the_mean_of_their_own_problems(page: Any) -> None:
    for run in page["runs"]:
        result = {
            (item["group"], item["k"]): item["value"] for item in run["estimates"] if item["name"] == "tier_pass@k"
        }
        rates = np.array(run["c"]) / np.array(run["n"])
        assert result["tier 0", 1] == pytest.approx(rates[::2].mean())
        assert result["tier 1", 1] == pytest.approx(rates[1::2].mean())
        assert result["tier 0", 8] == pytest.approx((rates[::2] > 0).mean())


def test_the_first_rollouts_of_every_verdict_are_shown(page: Any) -> None:
    result = {
        (item["run"], item["problem"], item["index"], item["status"]): item["text"]
        for item in page["browser"]["rollouts"]
    }
    assert {key for key in result if key[:2] == (0, 0)} == {
        (0, 0, 0, "correct"),
        (0, 0, 1, "correct"),
        (0, 0, 2, "wrong"),
        (0, 0, 3, "wrong"),
    }
    assert {key[2:] for key in result if key[:2] == (0, 3)} == {
        (0, "wrong"),
        (1, "wrong"),
        (6, "no_answer"),
        (7, "error"),
    }
    assert all(shown == text(problem, index) for (_, problem, index, _), shown in result.items())


def test_the_same_runs_give_the_same_page(runs: list[Path], tmp_path: Path) -> None:
    report(runs, tmp_path / "1.html")
    report(runs, tmp_path / "2.html")
    assert (tmp_path / "1.html").read_bytes() == (tmp_path / "2.html").read_bytes()


def test_long_responses_lose_their_middle_and_the_page_stays_small(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def long(problem: int, rollout: int) -> str:
        return f"begin {problem}-{rollout} " + "x" * 20_000 + " the end"

    monkeypatch.setattr(browser, "ALL_CHARACTERS", 60_000)
    problems = [Problem(id=f"q{i}", question="?" * 50_000, answer="1") for i in range(40)]
    run = write_run(tmp_path / "a", "m", problems, ["cw"] * 40, long)
    report([run], tmp_path / "report.html", rollouts=20)
    (task,) = data(tmp_path / "report.html")
    shown = task["browser"]["rollouts"]
    assert len(shown) == 20  # ten problems with two responses each
    assert all(len(item["text"]) == CHARACTERS and item["text"].endswith(" the end") for item in shown)
    assert all(item["cut"] == len(long(item["problem"], item["index"])) - CHARACTERS for item in shown)
    assert sum(map(len, task["questions"])) <= QUESTION_CHARACTERS


def test_a_lone_scorecard_and_a_run_without_rollouts_are_enough(tmp_path: Path) -> None:
    html = tmp_path / "report.html"
    for number, c in enumerate(([1, 0, 2], [0, 0, 0])):
        _, result = card(f"m{number}", c, 4)
        (tmp_path / f"{number}.json").write_bytes(msgspec.json.encode(result))
    written = report([tmp_path / "0.json"], html)
    assert (written.runs, written.tasks) == (1, ("t",))
    (task,) = data(html)
    assert (task["pairs"], task["browser"]["rollouts"], task["questions"]) == ([], [], ["", "", ""])
    assert report([tmp_path / "0.json", tmp_path / "1.json"], html).runs == 2


def test_tasks_stand_apart_and_a_run_named_twice_counts_once(runs: list[Path], tmp_path: Path) -> None:
    other = write_run(tmp_path / "c", "m", PROBLEMS, FIRST, text, task="u")
    html = tmp_path / "report.html"
    written = report([runs[0], other, runs[0] / "scorecard.json"], html, rollouts=0)
    assert (written.tasks, written.runs, written.size_bytes) == (("t", "u"), 2, html.stat().st_size)
    assert all(not task["browser"]["rollouts"] for task in data(html))


def test_a_series_stands_in_the_order_of_its_steps_and_the_first_named_is_the_baseline(tmp_path: Path) -> None:
    files = []
    for name in ("r@100", "other", "r@20", "r@3"):
        _, result = card(name, [1, 2, 0], 4)
        files.append(tmp_path / f"{name}.json")
        files[-1].write_bytes(msgspec.json.encode(result))
    report(files, tmp_path / "report.html")
    (task,) = data(tmp_path / "report.html")
    assert [run["label"] for run in task["runs"]] == ["r@3", "r@20", "r@100", "other"]
    assert task["baselines"] == [2, 0, 1, 3]
    assert [pair["second"] for pair in task["pairs"] if pair["first"] == 2] == [0, 1, 3]


def test_many_runs_are_compared_with_the_first_and_the_last(tmp_path: Path) -> None:
    files = []
    for number in range(8):
        _, result = card(f"m{number}", [number % 3, 1, 0, 2], 4)
        files.append(tmp_path / f"{number}.json")
        files[-1].write_bytes(msgspec.json.encode(result))
    report(files, tmp_path / "report.html")
    (task,) = data(tmp_path / "report.html")
    assert task["baselines"] == [0, 7]
    assert len(task["pairs"]) == 14


def test_what_cannot_be_compared_is_refused_with_what_differs(tmp_path: Path) -> None:
    files = []
    for number, version in enumerate(("1", "2")):
        _, result = card(f"m{number}", [1, 2], 4, grading={"version": version})
        files.append(tmp_path / f"{number}.json")
        files[-1].write_bytes(msgspec.json.encode(result))
    with pytest.raises(RunError, match=r"verifier_version: m0 has 1, m1 has 2.*--allow verifier_version"):
        report(files, tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()
    report(files, tmp_path / "report.html", allow=["verifier_version"])
    (task,) = data(tmp_path / "report.html")
    assert any("verifier_version differs, as allowed" in note for note in task["notes"])


def test_bad_input_is_one_clear_line(runs: list[Path], tmp_path: Path) -> None:
    with pytest.raises(BadArgument, match="--rollouts is 99"):
        report(runs, tmp_path / "r.html", rollouts=99)
    with pytest.raises(BadArgument, match="name at least one run"):
        report([], tmp_path / "r.html")
    with pytest.raises(RunError, match="no scorecard"):
        report([tmp_path], tmp_path / "r.html")
    with pytest.raises(StorageError, match="cannot write"):
        report(runs, tmp_path / "nowhere" / "r.html")


def test_the_policy_allows_nothing_but_the_two_scripts(runs: list[Path], tmp_path: Path) -> None:
    report(runs, tmp_path / "r.html")
    page = (tmp_path / "r.html").read_text()
    policy = re.findall(r'Content-Security-Policy" content="([^"]*)"', page)
    assert len(policy) == 1
    assert "default-src &#39;none&#39;" in policy[0]
    assert policy[0].count("sha256-") == 2
    assert "unsafe-eval" not in policy[0]
    assert not re.findall(r"<(?:script|link|img)[^>]+(?:src|href)=", page)


@pytest.mark.parametrize(
    "hostile",
    ["</script><script>alert(1)</script>", "<!--", "]]>", "a\u2028b\u2029c", "&lt;", "\x00\x1f\x7f", "\\u003c"],
)
def test_json_in_the_page_survives_any_text(hostile: str) -> None:
    written = script_json({"x": hostile})
    assert not set(written) & set("<>&\u2028\u2029")
    assert json.loads(written) == {"x": hostile}


def test_the_verb_writes_the_page_and_says_so(runs: list[Path], tmp_path: Path) -> None:
    html = tmp_path / "r.html"
    result = CliRunner().invoke(app, ["report", *map(str, runs), "--html", str(html)])
    assert result.exit_code == 0
    assert "2 runs on t" in result.stdout
    result = CliRunner().invoke(app, ["report", str(runs[0]), "--html", str(html), "--json"])
    assert json.loads(result.stdout) == {
        "html": str(html),
        "size_bytes": html.stat().st_size,
        "tasks": ["t"],
        "runs": 1,
    }
