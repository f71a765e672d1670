from __future__ import annotations

import pytest

from rlvr_bench.comparison.steps import Step, step_of


@pytest.mark.parametrize(
    ("model", "series", "step"),
    [
        ("zoo:grpo@20", "zoo:grpo", 20),
        ("ckpts/run/global_step_200", "ckpts/run", 200),
        ("ckpts/run/global_step_200/", "ckpts/run", 200),
        ("out/checkpoint-1500", "out", 1500),
        ("run_7/global_step_50/actor", "run_7", 50),
        ("iter_0000100", "", 100),
        ("model-step40", "model", 40),
    ],
)
def test_the_step_is_the_last_that_a_name_tells(model: str, series: str, step: int) -> None:
    assert step_of(model) == Step(series, step)


@pytest.mark.parametrize(
    "model", ["Qwen/Qwen3-8B", "zoo:base", "HuggingFaceTB/SmolLM2-135M", "misstep7", "fake:0.25", ""]
)
def test_numbers_that_are_no_steps_are_left_alone(model: str) -> None:
    assert step_of(model) is None
