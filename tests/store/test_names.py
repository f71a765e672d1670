from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from rlvr_bench.store import run_folder


@pytest.mark.parametrize(
    ("model", "slug"),
    [
        ("zoo:base", "zoo-base"),
        ("Qwen/Qwen2.5-7B", "Qwen--Qwen2.5-7B"),
        ("/data/ckpts/run1/global_step_100/", "run1--global_step_100"),
        ("../m", "m"),
        ("http://localhost:8000/v1", "localhost-8000--v1"),
        ("..", "model"),
        ("runs/expA/global_step_100/actor", "expA--global_step_100--actor"),
        ("/ckpt/expB/global_step_100/actor/huggingface", "expB--global_step_100--actor--huggingface"),
        ("checkpoints/grpo-s1", "checkpoints--grpo-s1"),
        ("checkpoints/step_10", "checkpoints--step_10"),
    ],
)
def test_run_folders_are_plain_names(model: str, slug: str) -> None:
    assert run_folder(Path("runs"), model, "t") == Path("runs") / slug / "t"


def test_what_a_plain_name_leaves_out_is_in_a_hash() -> None:
    models = ["a b", "a-b", "a+b", "模型一", "模型二", "модель", "expA/global_step_1/actor", "expB/global_step_1/actor"]
    models += ["x" * 400, "x" * 401, "lr=1", "lr-1"]
    names = [run_folder(Path("runs"), model, "t").parent.name for model in models]
    assert len(set(names)) == len(names)
    assert all(name.isascii() and len(name) < 130 for name in names)
    assert names[0].startswith("a-b-")
    assert names[1] == "a-b"


def test_tasks_are_told_apart() -> None:
    tasks = [
        "t",
        "reasoning_gym:chain_sum,size=5",
        'g:d,signs=["+"]',
        'g:d,signs=["-"]',
        "my task",
        "my-task",
        "задача",
    ]
    names = [run_folder(Path("runs"), "m", task).name for task in tasks]
    assert names[1] == "reasoning_gym-chain_sum-size-5"
    assert all(one != other for one, other in itertools.combinations(names, 2))
