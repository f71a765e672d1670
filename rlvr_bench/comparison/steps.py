"""The training step in a checkpoint's name; only this module has the formats of trainers."""

from __future__ import annotations

import re
from typing import NamedTuple

__all__ = ["Step", "step_of"]

# zoo:grpo@20, run/global_step_200/actor, out/checkpoint-1500, iter_0000100, model-step40
_STEP = re.compile(
    r"(?:@|(?<![a-z])(?:global[_-]?step|checkpoint|ckpt|step|iter(?:ation)?)[_-]?)(\d{1,12})(?![A-Za-z0-9])",
    re.IGNORECASE,
)


class Step(NamedTuple):
    """A checkpoint of a training series: the name of the series, and the step."""

    series: str
    step: int


def step_of(model: str) -> Step | None:
    """The last step in a checkpoint's name, None if there is none."""
    matches = list(_STEP.finditer(model))
    return Step(model[: matches[-1].start()].rstrip("/-_@ "), int(matches[-1][1])) if matches else None
