"""reasoning-gym: over a hundred generators of puzzles and exercises, each with its scorer (arXiv 2505.24760).

``reasoning_gym:chain_sum,size=200,seed=7,threshold=1.0,min_terms=4`` names the data set, the number of problems, the seed,
the score from which an answer counts as right, and any settings of the data set, such as its difficulty. Without parameters
the task is ``chain_sum``. The installed version of reasoning-gym decides what a seed generates and how it is scored: the
version is part of the source, and every run keeps the digest of its problems, but no digest can be pinned here.
``tasks validate`` also scores a nonsense answer: ``game_of_life_halting`` calls it right and ``prime_factorization`` fails
on it, so validate a data set before you trust it.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from rlvr_bench.errors import TaskError
from rlvr_bench.families.puzzles import GymDataset, gym_task
from rlvr_bench.task import Case, Task, join_parameters, split_parameters

DEFAULTS: dict[str, Any] = {"seed": 0, "size": 200, "threshold": 1.0}


def make_task(parameters: str) -> Task:
    """The task of one data set: ``DATASET[,size=][,seed=][,threshold=][,SETTING=...]``. Raises TaskError."""
    words, values = split_parameters(parameters)
    if len(words) > 1:
        raise TaskError(f"task reasoning_gym: one data set at a time, not {', '.join(words)}")
    dataset = words[0] if words else "chain_sum"
    asked = DEFAULTS | values
    for key, kind in (("size", int), ("seed", int), ("threshold", (int, float))):
        if not isinstance(asked[key], kind) or isinstance(asked[key], bool) or (key == "size" and asked[key] < 1):
            raise TaskError(f"task reasoning_gym: {key}={asked[key]!r} is not a {'positive ' * (key == 'size')}number")
    changed = {key: value for key, value in values.items() if DEFAULTS.get(key) != value}
    source = GymDataset(
        dataset=dataset,
        rows=asked["size"],
        seed=asked["seed"],
        settings={key: value for key, value in values.items() if key not in DEFAULTS},
    )
    return gym_task(
        f"reasoning_gym:{join_parameters([dataset], changed)}",
        f"reasoning-gym's {dataset}: {asked['size']} generated problems, scored by the data set.",
        source,
        threshold=float(asked["threshold"]),
    )


_DEFAULT = make_task("chain_sum")
TASK = dataclasses.replace(
    _DEFAULT,
    name="reasoning_gym",
    summary="reasoning-gym: 200 generated sums (chain_sum); reasoning_gym:DATASET,KEY=VALUE for its other data sets.",
    cases=(
        *_DEFAULT.cases,
        Case("So the result is \\boxed{-14282}.", "correct", "chain_sum-0"),
        Case("\\boxed{14282}", "wrong", "chain_sum-0"),
        Case("\\boxed{-14282 or -14283}", "wrong", "chain_sum-0"),  # reasoning-gym gives this one partial credit
        Case("The answer is -14282.", "no_answer", "chain_sum-0"),
    ),
)
