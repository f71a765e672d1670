"""``select`` on runs on disk: what is written is correct, whole, readable by trainers, and refused with one clear line."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from rlvr_bench import pipeline
from rlvr_bench.cli.main import main
from rlvr_bench.errors import BadArgument, RunError, StorageError
from rlvr_bench.pipeline import SampleOptions, selecting
from rlvr_bench.pipeline.selecting import select
from rlvr_bench.prompts import open_prompt
from rlvr_bench.records import STATUSES, Draw, DrawRequest, Outcomes, Prompt, Rollout
from rlvr_bench.store import Run, RunWriter, open_run
from rlvr_bench.store.outcomes import read_outcomes
from rlvr_bench.task import load_task

TASK = "double_countdown"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    options = SampleOptions(n=32, limit=5, out=tmp_path_factory.mktemp("runs"))
    return pipeline.evaluate("fake:0.4", TASK, options)[0]


def rewritten(run: Path, target: Path, prompt: str, **fields: Any) -> Path:
    """The run again, graded, with statistics by index, every fourth rollout cut, and another prompt."""
    opened = open_run(run)
    template = open_prompt(prompt)
    manifest = msgspec.structs.replace(opened.manifest, prompt=prompt, prompt_sha256=template.digest, **fields)
    with RunWriter(target, manifest, opened.problems()) as writer:
        for table in opened.rollouts.read(["problem_id", "index", "text", "n_tokens", "draw_start"]):
            for row in table.to_pylist():
                index = row["index"]
                rollout = Rollout(
                    problem_id=row["problem_id"],
                    index=index,
                    text=row["text"] + " " * index,  # no two alike: the puzzle's verifier does not mind
                    n_tokens=row["n_tokens"],
                    finish_reason="length" if index % 4 == 0 else "stop",
                    entropy_mean=index / 100,
                    branching_mean=100.0 - index,
                )
                request = DrawRequest(
                    prompt=Prompt(problem_id=row["problem_id"], text=""), start=row["draw_start"], n=1, seed=0
                )
                writer.add(Draw(request=request, rollouts=(rollout,)))
    pipeline.grade(target)
    return target


@pytest.fixture(scope="module")
def measured(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("measured") / "run"
    return rewritten(run, target, "simple-boxed", chat_template="sha", token_stats="summary")


def solves(text: str, numbers: list[int], targets: list[int]) -> bool:
    """The rules of the puzzle once more: each step takes two numbers and gives one; the targets are left at the end."""
    have = sorted(numbers)
    for step in text.split(";"):
        match = re.fullmatch(r"(\d+)([-+*/])(\d+)=(\d+)", step.strip())
        if match is None:
            return False
        a, sign, b, result = int(match[1]), match[2], int(match[3]), int(match[4])
        if {"+": a + b, "-": a - b, "*": a * b, "/": a / b if b else None}[sign] != result:
            return False
        for used in (a, b):
            if used not in have:
                return False
            have.remove(used)
        have.append(result)
    return sorted(have) == sorted(targets)


def read(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_lines_hold_the_prompts_sent_and_verified_completions(run: Path, tmp_path: Path) -> None:
    made = select(run, "noise", out=tmp_path / "set.jsonl", per_problem=3, wrong_share=0.3, seed=1)
    lines = read(tmp_path / "set.jsonl")
    loaded = load_task(TASK)
    problems = {problem.id: problem for problem in loaded.problems}
    for line in lines:
        problem = problems[line["problem"]]
        assert line["prompt"] == problem.question
        assert solves(line["completion"], problem.data["numbers"], problem.data["targets"]) is line["correct"]
    assert made.rollouts == len(lines) == len({(line["problem"], line["rollout"]) for line in lines})
    assert made.wrong == sum(not line["correct"] for line in lines) == round(0.3 / 0.7 * (len(lines) - made.wrong))
    assert made.wrong_share == made.wrong / made.rollouts
    assert made.problems == len({line["problem"] for line in lines})
    assert max(Counter(line["problem"] for line in lines if line["correct"]).values()) <= 3
    assert made.format == "text"
    assert [file.name for file in tmp_path.iterdir()] == ["set.jsonl"]


def test_the_same_seed_writes_the_same_file_and_another_another(run: Path, measured: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        select(measured, out=tmp_path / name, per_problem=2, seed=seed)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert (tmp_path / "a").read_bytes() != (tmp_path / "c").read_bytes()


@pytest.mark.parametrize(("strategy", "highest_last"), [("entropy", True), ("rbf", False)])
def test_ranked_sets_take_the_extreme_rollouts_that_were_not_cut(
    measured: Path, tmp_path: Path, strategy: Any, highest_last: bool
) -> None:
    """Entropy rises with the index and branching falls; every fourth rollout was cut."""
    every = select(measured, out=tmp_path / "every", per_problem=1000)
    made = select(measured, strategy, out=tmp_path / "best", per_problem=2)
    for problem in {line["problem"] for line in read(tmp_path / "every")}:
        usable = sorted(line["rollout"] for line in read(tmp_path / "every") if line["problem"] == problem)
        chosen = sorted(line["rollout"] for line in read(tmp_path / "best") if line["problem"] == problem)
        assert chosen == (usable[-2:] if highest_last else usable[:2])
        assert all(index % 4 for index in usable)
    assert made.truncated > 0
    assert every.rollouts + every.truncated + every.duplicates == sum(open_grading(measured).values())


def open_grading(run: Path) -> dict[str, int]:
    return {"correct": json.loads((run / "grading.json").read_text())["statuses"]["correct"]}


def test_a_run_with_a_chat_template_gives_message_lists(measured: Path, tmp_path: Path) -> None:
    made = select(measured, out=tmp_path / "set.jsonl")
    assert made.format == "conversational"
    for line in read(tmp_path / "set.jsonl"):
        assert [message["role"] for message in line["prompt"]] == ["user"]
        assert [message["role"] for message in line["completion"]] == ["assistant"]
        assert isinstance(line["completion"][0]["content"], str)


def test_neither_errors_nor_missing_answers_count_as_wrong(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A verdict of ``error`` or ``no_answer`` does not show wrong reasoning: such rollouts are never mixed in."""

    def mostly_undecided(opened: Run) -> Outcomes:
        outcomes = read_outcomes(opened)
        status = outcomes.status.copy()
        for row in np.flatnonzero(status == STATUSES.index("wrong")):
            status[row] = STATUSES.index(("wrong", "no_answer", "error")[outcomes.index[row] % 3])
        return msgspec.structs.replace(outcomes, status=status)

    monkeypatch.setattr(selecting, "read_outcomes", mostly_undecided)
    made = select(run, out=tmp_path / "set", wrong_share=0.99)
    wrong = [line for line in read(tmp_path / "set") if not line["correct"]]
    assert made.wrong == len(wrong) > 0
    assert all(line["rollout"] % 3 == 0 for line in wrong)


@pytest.mark.parametrize("strategy", ["entropy", "rbf"])
def test_a_ranking_without_token_statistics_is_refused(run: Path, tmp_path: Path, strategy: Any) -> None:
    with pytest.raises(RunError, match="has no exact token statistics .* --token-stats summary"):
        select(run, strategy, out=tmp_path / "set")


def test_what_cannot_be_selected_from_says_why_and_writes_nothing(run: Path, tmp_path: Path) -> None:
    (tmp_path / "there").write_text("mine")
    none = pipeline.evaluate("fake:0", TASK, SampleOptions(n=2, limit=2, out=tmp_path / "none"))[0]
    ungraded = pipeline.sample("fake", TASK, SampleOptions(n=2, limit=2, out=tmp_path / "ungraded"))
    before = sorted(tmp_path.iterdir())
    with pytest.raises(BadArgument, match="--out is .*there.*: exists already"):
        select(run, out=tmp_path / "there")
    with pytest.raises(RunError, match="no correct rollout"):
        select(none, out=tmp_path / "set")
    with pytest.raises(RunError, match="not graded yet. Run `rlvr-bench grade"):
        select(ungraded, out=tmp_path / "set")
    with pytest.raises(RunError, match="not a run"):
        select(tmp_path, out=tmp_path / "set")
    with pytest.raises(StorageError, match="cannot write"):
        select(run, out=tmp_path / "there" / "set")
    assert (tmp_path / "there").read_text() == "mine"
    assert sorted(tmp_path.iterdir()) == before


def test_prompts_that_cannot_be_rebuilt_are_refused(run: Path, tmp_path: Path) -> None:
    for name, words in (("prompt", "does not have"), ("prompt_sha256", "another wording")):
        target = tmp_path / name
        target.mkdir()
        manifest = json.loads((run / "manifest.json").read_text())
        (target / "manifest.json").write_text(json.dumps({**manifest, "template": None, name: "other"}))
        with pytest.raises(RunError, match=words):
            select(target, out=tmp_path / "set")


def test_an_interrupted_write_leaves_nothing(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> Any:
        yield b"{}\n"
        raise KeyboardInterrupt

    monkeypatch.setattr(selecting, "_lines", broken)
    with pytest.raises(KeyboardInterrupt):
        select(run, out=tmp_path / "set")
    assert list(tmp_path.iterdir()) == []


def test_the_verb(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["select", str(run), "--strategy", "noise", "--out", str(tmp_path / "a.jsonl"), "--json"])
    assert ended.value.code == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["rollouts"] == len(read(tmp_path / "a.jsonl"))
    with pytest.raises(SystemExit) as ended:
        main(["select", str(run), "--strategy", "rbf", "--out", str(tmp_path / "b.jsonl")])
    assert ended.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1
    with pytest.raises(SystemExit):
        main(["select", str(run), "--out", str(tmp_path / "c.jsonl")])
    assert "rollouts of 5 problems, 0 of them wrong (0.0%), as text" in capsys.readouterr().out
