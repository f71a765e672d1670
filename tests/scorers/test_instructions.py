"""Instructions followed, per instruction and per prompt."""

from __future__ import annotations

import numpy as np
import pytest

from rlvr_bench.scorers.instructions import instructions
from tests.scorers.made import outcomes

# Three prompts with 1, 2 and 3 instructions, two responses each: how many are followed strictly and loosely.
FOLLOWED = np.array([[1, 1], [0, 0], [2, 2], [1, 2], [0, 0], [3, 3]], dtype=np.float64)
SIZES = (1, 2, 3)


def by_name(followed: np.ndarray) -> dict[tuple[str, str | None], float | None]:
    run = outcomes(["cw", "cw", "wc"], followed=followed, instructions=SIZES)
    return {(e.name, e.group): e.value for e in instructions(run)}


def test_shares_are_those_counted_by_hand() -> None:
    values = by_name(FOLLOWED)
    assert values["instructions_followed", "strict"] == pytest.approx((1 + 0 + 2 + 1 + 0 + 3) / (2 * (1 + 2 + 3)))
    assert values["instructions_followed", "loose"] == pytest.approx(8 / 12)
    assert values["prompts_followed", "strict"] == pytest.approx(3 / 6)
    assert values["prompts_followed", "loose"] == pytest.approx(4 / 6)


def test_a_response_without_a_verdict_is_left_out() -> None:
    followed = FOLLOWED.copy()
    followed[5] = np.nan
    values = by_name(followed)
    assert values["instructions_followed", "strict"] == pytest.approx((0.5 + 1.5 + 0) / 6)
    assert values["prompts_followed", "strict"] == pytest.approx((0.5 + 0.5 + 0) / 3)


def test_the_interval_of_the_ratio_covers_as_it_says() -> None:
    """Prompts drawn from a population in which those with more instructions are followed less often."""
    rng, inside = np.random.default_rng(4), 0
    truth = (1 * 0.8 + 2 * 0.6 + 3 * 0.4) / 6
    for _ in range(100):
        sizes = rng.integers(1, 4, 60)
        followed = rng.binomial(np.repeat(sizes, 2), np.repeat(1 - 0.2 * sizes, 2)).astype(np.float64)
        run = outcomes(["ww"] * 60, followed=np.stack([followed, followed], axis=1), instructions=tuple(sizes.tolist()))
        e = instructions(run)[0]
        assert e.low is not None
        assert e.high is not None
        inside += e.low <= truth <= e.high
    assert inside >= 87  # of 100 at 95 %: fewer hold once in a thousand tries


def test_other_runs_have_none() -> None:
    assert instructions(outcomes(["cw"])) == []
    assert instructions(outcomes(["cw"], followed=np.full((2, 2), np.nan), instructions=(2,))) == []
