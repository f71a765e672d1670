"""The page "Bring your own rollouts": every command and example on it runs, and its tables are those of the code."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from rlvr_bench.cli import main
from rlvr_bench.comparison.folders import read_scorecard
from rlvr_bench.importers.mapping_files import resolved
from rlvr_bench.options import MAP_FIELDS, ImportOptions
from rlvr_bench.scorecard import Scorecard
from tests.importers.made import WRITERS, jsonl, table

PAGE = Path(__file__).parents[2] / "docs" / "rollouts.md"
TEXT = PAGE.read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


TASK = """
from rlvr_bench import Case, Generated, Problem, Task

PROBLEMS = [Problem(id="a", question="What is 1 + 1?", answer="2"), Problem(id="b", question="What is 2 + 1?", answer="3")]
TASK = Task(name="my_task", version="1", summary="Sums.", gold="\\\\boxed{{answer}}", verifier="math",
    source=Generated(generate=lambda: PROBLEMS, rows=2, sha256=None), cases=(Case("\\\\boxed{2}", "correct"),))
"""
COMMANDS = [line for block in blocks("sh") for line in block.splitlines()]


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files that the page names, in the layouts of their programs."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rollouts.jsonl").write_text(blocks("json")[0])
    rows = table(problems=4, n=4, letters="cwn")
    jsonl(tmp_path / "samples.jsonl", [sample(i, k) for i in range(4) for k in range(4)])
    jsonl(tmp_path / "test_qwen25-math-cot_-1_seed0_t1.0.jsonl", [qwen(i, row) for i, row in enumerate(rows)])
    plain = table(problems=4, n=4)
    WRITERS["verl"][0](tmp_path, plain)
    WRITERS["lm-eval"][0](tmp_path / "lm", [row[:1] for row in plain])
    (sampled,) = (tmp_path / "lm").rglob("samples_*.jsonl")
    sampled.rename(tmp_path / "samples_arithmetic_2025-11-22T02-00-35.jsonl")
    WRITERS["nemo-skills"][0](tmp_path, plain)
    (tmp_path / "my_task.py").write_text(TASK)
    (tmp_path / "my_math.py").write_text(next(block for block in blocks("python") if "# my_math.py" in block))
    return tmp_path


def sample(problem: int, rollout: int) -> dict[str, Any]:
    return {
        "problem_id": f"p{problem}",
        "prompt": f"What is {problem}?",
        "canonical_answer": problem,
        "completion_text": f"Rollout {rollout}: {problem}",
        "score": rollout / 3,
        "candidate_index": rollout,
        "finish_reason": "length" if rollout == 3 else "stop",
    }


def qwen(problem: int, row: str) -> dict[str, Any]:
    return {
        "idx": problem,
        "question": f"What is {problem}?",
        "gt_cot": "It is so.",
        "gt": str(problem),
        "level": 5,
        "code": [f"Rollout {k}" for k in range(len(row))],
        "pred": [{"c": str(problem), "w": "-1"}.get(letter, "") for letter in row],
        "report": [None] * len(row),
        "score": [letter == "c" for letter in row],
    }


def test_every_command_runs(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert len(COMMANDS) >= 12
    for command in COMMANDS:
        words = shlex.split(command)
        assert words[0] == "rlvr-bench", command
        with pytest.raises(SystemExit) as ended:
            main(words[1:])
        assert ended.value.code in (None, 0), f"{command}\n{capsys.readouterr().err}"
    assert (files / "mine.toml").read_text() == blocks("toml")[0]
    for block in blocks("python"):
        exec(block, {})
    assert len(list((files / "runs").glob("*/*/scorecard.json"))) == 13


def test_mapped_files_give_what_the_known_format_gives(files: Path) -> None:
    with pytest.raises(SystemExit):
        main(shlex.split(next(line for line in COMMANDS if "--model nemo-model" in line))[1:])
    with pytest.raises(SystemExit):
        main(shlex.split(next(line for line in COMMANDS if "--model nemo-mapped" in line))[1:])

    def counts(card: Scorecard) -> list[tuple[int, int, int]]:
        return [(problem.n, problem.c, problem.no_answer or 0) for problem in card.problems]

    known, mapped = (read_scorecard(files / "runs" / name / "arithmetic") for name in ("nemo-model", "nemo-mapped"))
    assert counts(known) == counts(mapped)


def test_the_proposal_on_the_page_is_the_one_that_is_printed(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["import", "rollouts.jsonl"])
    assert ended.value.code == 2
    printed = capsys.readouterr().err
    shown = blocks("text")[0].splitlines()[1]
    assert printed.strip().endswith(shown.removeprefix("... "))


def test_the_table_of_fields_is_that_of_the_code() -> None:
    rows = re.findall(
        r"^\| `(\w+)` \| (.*) \|$", TEXT.partition("## The fields")[2].partition("## Paths")[0], re.MULTILINE
    )
    assert dict(rows) == MAP_FIELDS


def test_the_file_on_the_page_holds_the_mapping_of_its_command(files: Path) -> None:
    (files / "mine.toml").write_text(blocks("toml")[0])
    options, mapping = resolved(ImportOptions(map="mine.toml"))
    command = shlex.split(next(line for line in COMMANDS if "--save-map" in line))
    assert str(mapping) == command[command.index("--map") + 1]
    assert (options.model, options.task, options.correct) == ("my-model-2", "arithmetic", ">=1")
