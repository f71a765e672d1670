"""Scoring at caps: what is refused, what is kept, and the combinations with stopping, top-up, tools and comparisons."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest

from rlvr_bench import pipeline
from rlvr_bench.capping import score_caps
from rlvr_bench.comparison import Incomparable, compare
from rlvr_bench.comparison.folders import read_scorecard, scorecard_files
from rlvr_bench.errors import RunError
from rlvr_bench.options import CapOptions, GradeOptions, SampleOptions
from rlvr_bench.records import Tools
from rlvr_bench.reporting import report
from rlvr_bench.store import open_run
from rlvr_bench.store.outcomes import read_outcomes
from rlvr_bench.store.record_files import write_record
from rlvr_bench.verifiers.deciding import Decider
from rlvr_bench.verifiers.sandbox import sandbox_problem
from tests.conftest import require, run_verb
from tests.reporting.test_report import data
from tests.samplers.test_tools import Scripted, code, in_turns

require("torch", "torch")

TASK = "double_countdown"
ONE = GradeOptions(workers=1)
CAP = 17
KS = [1, 4]


def drawn(folder: Path, model: str = "zoo:base", **changed: Any) -> Path:
    values = {"n": 8, "limit": 12, "draw_batch": 4, "engine": "transformers", "temperature": 1.0, "top_p": 1.0}
    path = pipeline.sample(model, TASK, SampleOptions(out=folder, **{**values, **changed}), ONE)
    pipeline.grade(path, ONE)
    return path


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two graded runs, the first of them scored at two caps."""
    folder = tmp_path_factory.mktemp("runs")
    first, second = drawn(folder), drawn(folder, "zoo:grpo")
    score_caps(first, CapOptions(token_caps=[CAP, 12]), KS, ONE)
    pipeline.score(second, KS)
    return first, second


@pytest.fixture
def run(runs: tuple[Path, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(runs[0], tmp_path / "zoo-base" / TASK))


def decided(monkeypatch: pytest.MonkeyPatch, run: Path, caps: list[int]) -> int:
    """How many responses are looked at when the run is scored at these caps."""
    rows: list[object] = []
    decide = Decider.decide

    def counted(self: Decider, asked: Any, *more: Any) -> Any:
        asked = list(asked)
        rows.extend(asked)
        return decide(self, asked, *more)

    with monkeypatch.context() as patched:
        patched.setattr(Decider, "decide", counted)
        score_caps(run, CapOptions(token_caps=caps), KS, ONE)
    return len(rows)


def test_a_second_call_does_nothing_and_a_top_up_only_what_is_new(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (run / "caps" / "scores.json").read_bytes()
    capped = run / "caps" / "tokens-12"
    shards = {file.name for file in (capped / "rollouts").iterdir()}
    assert decided(monkeypatch, run, [12, CAP]) == 0
    assert (run / "caps" / "scores.json").read_bytes() == before
    drawn(run.parent.parent, n=12)
    assert 0 < decided(monkeypatch, run, [12]) < 12 * 4
    assert shards < {file.name for file in (capped / "rollouts").iterdir()}
    assert open_run(capped).manifest.n == 12
    assert set(read_outcomes(open_run(capped)).n_samples) == {12}


def test_what_a_killed_session_wrote_is_made_again(run: Path) -> None:
    capped = run / "caps" / "tokens-12"
    before, rollouts = read_scorecard(capped), open_run(capped).drawn().keys()
    (capped / "sources.json").unlink()
    score_caps(run, CapOptions(token_caps=[12]), KS, ONE)
    after = read_scorecard(capped)
    assert (after.problems, after.estimates) == (before.problems, before.estimates)
    assert open_run(capped).drawn().keys() == rollouts


def test_statistics_that_are_not_known_of_cut_responses_are_absent(runs: tuple[Path, Path]) -> None:
    card = pipeline.score(runs[0] / "caps" / "tokens-12", KS)
    assert card["token_entropy"].value is None if "token_entropy" in card else "token_entropy" in card.left_out
    assert all(entry.entropy_mean is None for entry in card.problems)
    assert card["tokens_per_response"].value == pytest.approx(
        read_outcomes(open_run(runs[0])).n_tokens.clip(max=12).mean()
    )
    assert card.run.warnings == ()  # it is cut on purpose


def test_runs_of_different_caps_are_not_compared_and_folders_stand_for_their_uncut_runs(
    runs: tuple[Path, Path],
) -> None:
    first, second = runs
    cut = first / "caps" / f"tokens-{CAP}"
    with pytest.raises(Incomparable, match=rf"max_tokens: .* has {CAP}, .* has 32.*--allow max_tokens"):
        compare([cut, second])
    with pytest.raises(Incomparable, match="max_tokens"):
        compare([cut, first / "caps" / "tokens-12"])
    notes = compare([first, cut], KS, ["max_tokens"]).notes
    assert any("cut from the rollouts of the other" in note for note in notes)
    assert not any("cut from the rollouts" in note for note in compare([second, cut], KS, ["max_tokens"]).notes)
    assert scorecard_files(first.parent.parent) == [folder / "scorecard.json" for folder in (first, second)]


def test_equal_tokens_have_differences_a_crossover_and_the_stored_splits(
    runs: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    equal = compare(runs, KS, at_equal_tokens=True).pairs[0].equal_tokens
    assert equal is not None
    first = read_outcomes(open_run(runs[0]))
    assert equal.first_tokens == pytest.approx(first.n_tokens.mean())
    start = equal.differences[0]
    assert start.k == pytest.approx(max(equal.first_tokens, equal.second_tokens), abs=1)
    more = (start.k or 0) / equal.first_tokens  # pass@1, or a little of pass@2
    assert start.first == pytest.approx(first.is_correct.mean(), abs=0.3 * (more - 1) + 1e-9)
    assert start.low is not None
    assert start.low < (start.value or 0) < (start.high or 0)
    assert {split.uncut_k for split in equal.splits["zoo:base"]} == {1, 2, 4}
    assert "zoo:grpo" not in equal.splits
    assert compare(runs, KS).pairs[0].equal_tokens is None
    run_verb("compare", *map(str, runs), "--equal-tokens")
    shown = capsys.readouterr().out
    assert "at equal tokens: A uses" in shown
    assert "tokens per problem" in shown


def test_the_report_has_the_caps_of_the_run_as_it_is_and_none_of_an_earlier_one(run: Path, tmp_path: Path) -> None:
    report([run], tmp_path / "page.html", rollouts=0)
    (page,) = data(tmp_path / "page.html")
    assert [(entry["run"], entry["result"]) for entry in page["caps"]] == [
        (0, json.loads((run / "caps" / "scores.json").read_bytes()))
    ]
    scores = json.loads((run / "caps" / "scores.json").read_bytes())
    (run / "caps" / "scores.json").write_text(json.dumps({**scores, "n": 4}))
    report([run], tmp_path / "page.html", rollouts=0)
    (page,) = data(tmp_path / "page.html")
    assert page["caps"] == []
    assert any("caps are of other rollouts" in note for note in page["notes"])
    (run / "caps" / "scores.json").write_text("{")
    with pytest.raises(RunError, match=r"caps/scores.json: damaged"):
        report([run], tmp_path / "page.html", rollouts=0)


def test_a_stopping_rule_is_corrected_for_as_after_a_regrade(tmp_path: Path) -> None:
    """It looked at the verdicts on whole responses, which are kept beside those on the cut ones."""
    run = drawn(tmp_path, stop_after=1, n=16)
    scores = score_caps(run, CapOptions(token_caps=[12]), [1, 16], ONE)
    card = pipeline.score(run / "caps" / "tokens-12", [1, 16])
    whole, cut = read_outcomes(open_run(run)), read_outcomes(open_run(run / "caps" / "tokens-12"))
    assert card.run.restopped is not None
    assert card.run.restopped.used == "all rollouts"
    for i, name in enumerate(whole.problem_ids):
        mine = whole.problem == i
        counts = card.stopped_on[name]
        assert counts.correct == whole.is_correct[mine].sum()
        assert counts.both == (whole.is_correct & cut.is_correct)[mine].sum()
    assert card.pass_at(16).at_least is not None
    assert scores.splits == ()
    assert "stopped early" in scores.notes[0]


@pytest.mark.skipif(sandbox_problem() is not None, reason="no sandbox here")
def test_calls_are_cut_where_a_run_with_fewer_calls_ends(tmp_path: Path) -> None:
    speech = in_turns(code("1"), f"So {code('2')}", code("3"), "the end")

    def run_with(calls: int, folder: str) -> Path:
        options = SampleOptions(
            n=2, limit=2, tools="python", tool_calls=calls, out=tmp_path / folder, max_tokens=400, draw_batch=2
        )
        path = pipeline.sample(Scripted(speech), TASK, options)
        pipeline.grade(path, ONE)
        return path

    whole, few = run_with(4, "whole"), run_with(1, "few")
    scores = score_caps(whole, CapOptions(call_caps=[1, 3]), grading=ONE)
    columns = ["problem_id", "index", "text", "finish_reason", "tool_calls"]
    rows = [
        sorted(map(str, next(iter(open_run(path).rollouts.read(columns))).to_pylist()))
        for path in (whole / "caps" / "calls-1", few)
    ]
    assert rows[0] == rows[1]
    assert [score.cost for score in scores.caps] == [1, 3, 3]
    assert [score.cap and score.cap.cut for score in scores.caps] == [4, 0, None]
    assert pipeline.score(whole / "caps" / "calls-1").quality["tokens_per_response"] is None


REFUSED: dict[str, tuple[dict[str, object], list[int], str]] = {
    "above": ({}, [33], r"--token-cap.*33.*below 32, the max_tokens"),
    "equal": ({}, [32], r"must be below 32"),
    "zero": ({}, [0], r"--token-cap.*at least 1"),
    "server": ({"weights": "endpoint:http://x/v1:m"}, [8], r"weights are 'endpoint:http://x/v1:m', a server's"),
    "imported": ({"imported": "lm-eval"}, [8], r"imported from lm-eval: .*cannot be cut"),
    "tools": ({"tools": Tools()}, [8], r"drawn with tools.*--call-cap"),
    "no sampling": ({"sampling": None}, [8], r"max_tokens among them"),
    "no tokenizer": ({"model": "fake"}, [8], r"names the model 'fake', which is not opened"),
    "changed tokenizer": (
        {"model_files": {"tokenizer.json": "0"}},
        [8],
        r"tokenizer.json is not the file.*model_files",
    ),
    "template": ({"chat_template": "0" * 64}, [8], r"another chat_template"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_cut_is_one_line_that_names_the_field(
    run: Path, case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    changed, caps, message = REFUSED[case]
    manifest = msgspec.structs.replace(open_run(run).manifest, **changed)
    write_record(run / "manifest.json", manifest)
    assert run_verb("score", str(run), "--token-cap", ",".join(map(str, caps))) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("rlvr-bench: ")]
    assert re.search(message, line), line


def test_a_cut_run_an_ungraded_one_and_calls_without_tools_are_refused(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_verb("score", str(run / "caps" / "tokens-12"), "--token-cap", "8") == 2
    assert run_verb("score", str(run), "--call-cap", "2") == 2
    assert run_verb("score", str(run), "--token-cap", "a") == 2
    grading = json.loads((run / "grading.json").read_text())
    (run / "grading.json").write_text(json.dumps({**grading, "folder": "countdown-0", "version": "0"}))
    assert run_verb("score", str(run), "--token-cap", "8") == 2
    (run / "grading.json").unlink()
    assert run_verb("score", str(run), "--token-cap", "8") == 2
    lines = capsys.readouterr().err.splitlines()
    for part in (
        "is cut already (cap)",
        "without tools",
        "whole numbers",
        "not by the present verifier",
        "not graded yet",
    ):
        assert any(part in line for line in lines), part


def test_several_runs_and_json(runs: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_verb("score", str(runs[0]), str(tmp_path), "--token-cap", "12", "--k", "1,4", "--json") == 2
    first, failed = json.loads(capsys.readouterr().out)
    assert [score["cap"] and score["cap"]["tokens"] for score in first["caps"]] == [12, None]
    assert "not a run" in failed["error"]
    assert [estimate["k"] for estimate in first["caps"][0]["pass_at_k"]] == KS
