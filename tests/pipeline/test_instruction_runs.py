"""Instruction tasks from task file to scorecard."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rlvr_bench import pipeline
from rlvr_bench.options import GradeOptions, SampleOptions
from rlvr_bench.samplers.fake import FakeSampler
from rlvr_bench.task import load_task
from rlvr_bench.verifiers.sandbox import sandbox_problem
from tests.conftest import require

require("if_verifiable", "instructions")
if without := sandbox_problem():
    pytest.skip(without, allow_module_level=True)

TASK = """
import dataclasses
from rlvr_bench.datasets import HubDataset
from rlvr_bench.families.instructions import instruction_task, read_prompt
SOURCE = HubDataset(path="x/y", split="train", to_problem=lambda row: read_prompt(row, "mine"), rows=2, sha256=None)
TASK = dataclasses.replace(instruction_task("ifeval", "s", SOURCE, licence="MIT"), name="mine")
"""
ROWS = [
    {
        "key": 7,
        "prompt": "Without commas, and with the word nebula. ",
        "instruction_id_list": ["punctuation:no_comma", "keywords:existence"],
        "kwargs": [{"keywords": None, "num_words": None}, {"keywords": ["nebula"], "num_words": None}],
    },
    {
        "key": 8,
        "prompt": "At least three words.",
        "instruction_id_list": ["length_constraints:number_words"],
        "kwargs": [{"num_words": 3.0, "relation": "at least"}],
    },
]
RIGHT = {"mine-7": "A nebula is far away.", "mine-8": "one two three"}


def test_a_run_has_instructions_followed_by_mode(tmp_path: Path) -> None:
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    (tmp_path / "mine.py").write_text(TASK)
    task = str(tmp_path / "mine.py")
    first, second = load_task(task, tmp_path).problems
    assert first.question.endswith("nebula. ")
    assert second.data["arguments"] == [{"num_words": 3, "relation": "at least"}]
    # A wrong response follows the second prompt, and of the first prompt only what its first line breaks.
    sampler = FakeSampler({"mine-7": 0.0, "mine-8": 1.0}, RIGHT, wrong=lambda rng: "Well, here:\nA nebula is far away.")
    options = SampleOptions(n=4, out=tmp_path / "runs", data_dir=tmp_path)
    run, card = pipeline.evaluate(sampler, task, options, GradeOptions(workers=1))
    values = {(e.name, e.group): e.value for e in card.estimates if e.name.endswith("s_followed")}
    assert values == {
        ("instructions_followed", "strict"): pytest.approx(2 / 3),
        ("instructions_followed", "loose"): 1.0,
        ("prompts_followed", "strict"): 0.5,
        ("prompts_followed", "loose"): 1.0,
    }
    assert card.pass_at(1).value == 0.5
    (tmp_path / "mine.py").write_text(
        TASK + 'TASK = dataclasses.replace(TASK, options={"checks": "ifeval", "mode": "loose"})'
    )
    grading, _ = pipeline.grade(run, GradeOptions(workers=1), task=task, data_dir=tmp_path)
    assert grading.statuses["correct"] == 8
    again = pipeline.score(run)
    assert again.pass_at(1).value == 1.0
    assert again["instructions_followed", "strict"].value == pytest.approx(2 / 3)
