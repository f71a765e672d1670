"""``select`` on imported runs: the prompts are those of the files, or of a template that the user names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rlvr_bench import SampleOptions, evaluate
from rlvr_bench.errors import RunError, UnknownName
from rlvr_bench.pipeline.importing import ImportOptions, import_run
from rlvr_bench.pipeline.selecting import select
from rlvr_bench.prompts import open_prompt
from rlvr_bench.records import Problem
from tests.importers.made import jsonl

MAPPING = "problem=id,question=q,text=t,verdict=ok,prompt=p"
MESSAGES = [{"role": "system", "content": "Think."}, {"role": "user", "content": "What is 1?"}]


def imported(tmp_path: Path, prompts: list[Any], mapping: str = MAPPING) -> tuple[Path, tuple[str, ...]]:
    rows = [
        {"id": f"p{i % 2}", "q": f"What is {i % 2}?", "t": f"It is {i}", "ok": i < 4, "p": prompt}
        for i, prompt in enumerate(prompts)
    ]
    file = jsonl(tmp_path / "x.jsonl", rows)
    result = import_run([file], ImportOptions(map=mapping, model="m", task="t", out=tmp_path / "runs"))
    return result.run, result.notes


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_a_text_is_kept_as_it_was_sent(tmp_path: Path) -> None:
    run, _ = imported(tmp_path, ["User: 0?\nA:", "User: 1?\nA:"] * 3)
    summary = select(run, out=tmp_path / "sft.jsonl")
    assert (summary.format, summary.rollouts) == ("text", 4)
    assert {(line["prompt"], line["completion"]) for line in lines(tmp_path / "sft.jsonl")} == {
        (f"User: {i % 2}?\nA:", f"It is {i}") for i in range(4)
    }


def test_messages_stay_messages(tmp_path: Path) -> None:
    run, _ = imported(tmp_path, [[{**message, "id": 7} for message in MESSAGES]] * 6)
    assert select(run, out=tmp_path / "sft.jsonl").format == "conversational"
    first = lines(tmp_path / "sft.jsonl")[0]
    assert first["prompt"] == MESSAGES
    assert first["completion"] == [{"role": "assistant", "content": "It is 0"}]


def test_prompts_that_differ_within_a_problem_are_not_kept(tmp_path: Path) -> None:
    run, notes = imported(tmp_path, [f"shot {i}" for i in range(6)])
    assert "the prompts of 2 problems differ between their rollouts: prompts are not kept" in notes
    with pytest.raises(RunError, match="imported without prompts. Import it with a mapping that has prompt=, or name"):
        select(run, out=tmp_path / "sft.jsonl")
    assert not (tmp_path / "sft.jsonl").exists()


def test_a_named_template_is_used_in_place_of_the_files(tmp_path: Path) -> None:
    run, _ = imported(tmp_path, ["unused"] * 6, MAPPING.replace(",prompt=p", ""))
    with pytest.raises(RunError, match="--prompt"):
        select(run, out=tmp_path / "sft.jsonl")
    with pytest.raises(UnknownName, match="unknown prompt"):
        select(run, out=tmp_path / "sft.jsonl", prompt="qwen")
    select(run, out=tmp_path / "sft.jsonl", prompt="raw")
    assert {line["prompt"] for line in lines(tmp_path / "sft.jsonl")} == {"What is 0?", "What is 1?"}
    select(run, out=tmp_path / "chat.jsonl", prompt="qwen-boxed")
    rendered = open_prompt("qwen-boxed").render(Problem(id="p0", question="What is 0?", answer=""))
    assert lines(tmp_path / "chat.jsonl")[0]["prompt"] == list(rendered.messages)


def test_prompts_of_two_kinds_and_damaged_ones_are_one_line(tmp_path: Path) -> None:
    run, _ = imported(tmp_path, ["a text", MESSAGES] * 3)
    with pytest.raises(RunError, match="no prompt of the same kind as the others is stored for problem 'p1'"):
        select(run, out=tmp_path / "sft.jsonl")
    (run / "prompts.jsonl").write_text('{"problem": "p0", "prompt": 7}\n')
    with pytest.raises(RunError, match=r"prompts\.jsonl: damaged"):
        select(run, out=tmp_path / "sft.jsonl")
    assert not (tmp_path / "sft.jsonl").exists()


def test_a_run_of_ours_keeps_its_prompt(tmp_path: Path) -> None:
    run, _ = evaluate("fake:0.5", "double_countdown", SampleOptions(n=4, limit=3, out=tmp_path / "runs"))
    with pytest.raises(RunError, match="--prompt is for imported runs"):
        select(run, out=tmp_path / "sft.jsonl", prompt="raw")
