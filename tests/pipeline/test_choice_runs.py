"""Choice tasks and instruction tasks from task file to scorecard."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from rlvr_bench import pipeline
from rlvr_bench.cli.show import show_scorecard
from rlvr_bench.cli.terminal import Terminal
from rlvr_bench.families.choices import LETTERS
from rlvr_bench.options import GradeOptions, SampleOptions
from rlvr_bench.records import DrawRequest, Rollout
from rlvr_bench.samplers.fake import FakeSampler
from rlvr_bench.task import load_task

TASK = """
from rlvr_bench.families.choices import Choice, choice_task
TASK = choice_task("mine", "x/y", "s", lambda row: Choice(id=row.text("id"), question=row.text("question"),
    options=row.get("options"), right=int(row.text("right"))), rows=60, split="test", licence="MIT")
"""


class Guesser(FakeSampler):
    """Picks one of a problem's options at random."""

    def __init__(self, options: dict[str, int]) -> None:
        super().__init__({}, {})
        self._options = options

    def _rollout(self, request: DrawRequest, index: int, rng: random.Random) -> Rollout:
        name = request.prompt.problem_id
        text = f"\\boxed{{{LETTERS[rng.randrange(self._options[name])]}}}"
        return Rollout(problem_id=name, index=index, text=text, n_tokens=3, finish_reason="stop")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A choice task of sixty problems with three to ten options."""
    folder = tmp_path_factory.mktemp("choices")
    rng = random.Random(1)
    rows = []
    for number in range(60):
        size = rng.randrange(3, 11)
        options = [f"option {number}-{index}" for index in range(size)]
        rows.append({"id": f"q{number}", "question": "Which?", "options": options, "right": rng.randrange(size)})
    (folder / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "mine.py").write_text(TASK)
    return folder


def test_a_guesser_is_corrected_to_zero_at_every_k(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task = str(folder / "mine.py")
    problems = load_task(task, folder).problems
    guesser = Guesser({problem.id: len(problem.data["order"]) for problem in problems})
    options = SampleOptions(n=16, out=tmp_path, data_dir=folder)
    run, card = pipeline.evaluate(guesser, task, options, GradeOptions(workers=1))
    moved = {e.k: e for e in card.estimates if e.name == "corrected_pass@k"}
    lucky = {e.k: e.value for e in card.estimates if e.name == "guess@k" and e.group == "uniform"}
    assert set(moved) == {1, 2, 4, 8, 16}
    for k, e in moved.items():
        if (lucky[k] or 0) < 0.9:
            assert e.low is not None
            assert e.high is not None
            assert e.low <= 0 <= e.high
        else:
            assert e.value is None
    assert moved[16].value is None
    assert any("guessing alone reaches" in text and "k = 16" in text for text in card.run.warnings)
    assert "options shuffled with seed 0" in json.loads((run / "manifest.json").read_text())["source"]
    show_scorecard(Terminal(), card, run)
    shown = capsys.readouterr().out
    assert "corrected for it" in shown
    assert "says nothing about the model" in shown.replace("\n", " ")
    again, _ = pipeline.grade(run, GradeOptions(workers=1), task=task, data_dir=folder)
    assert again.statuses["correct"] == sum(problem.c for problem in card.problems)
