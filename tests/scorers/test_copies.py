"""Copies in a scorecard: found from stored log-probabilities, warned of, and left out with the reason."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from rlvr_bench.records import Outcomes, SamplingParameters, Tools
from rlvr_bench.scorecard import Scorecard
from rlvr_bench.scorers.copies import copied, unknown_law
from rlvr_bench.scorers.scorecard import make_scorecard
from rlvr_bench.scorers.warnings import warnings_of
from tests.conftest import manifest_with
from tests.scorers.made import outcomes
from tests.scorers.test_scorecard import GRADING

OWN_LAW = SamplingParameters(temperature=1.0, top_p=1.0)


def drawn(copies: int = 0, **columns: Any) -> Outcomes:
    """Eight problems of 32 rollouts, the last ``copies`` of each are its first: texts 0 to 9 are frequent, others new."""
    rng = np.random.default_rng(2)
    texts, logprobs = [], []
    for problem in range(8):
        common = rng.random(32) < 0.5
        text = np.where(common, rng.integers(0, 10, 32), 1000 * (problem + 1) + np.arange(32))
        logprob = np.where(common, np.log(0.05), -40.0 - np.arange(32))
        if copies:
            text[-copies:], logprob[-copies:] = text[:copies], logprob[:copies]
        texts.append(text)
        logprobs.append(logprob)
    made = {"text": np.concatenate(texts).astype(np.int32), "logprob_sum": np.concatenate(logprobs)}
    return outcomes(["cw" * 16] * 8, **{**made, **columns})


def scored(run: Outcomes, sampling: SamplingParameters = OWN_LAW) -> Scorecard:
    return make_scorecard(manifest_with(n=32, sampling=sampling), GRADING, run)


def test_repeats_of_a_peaked_policy_are_no_copies_and_repeated_seeds_are() -> None:
    plain, copied_ = scored(drawn()), scored(drawn(copies=2))
    assert plain.quality["duplicate_rate"] == pytest.approx(0.23, abs=0.05)
    assert plain["copied_rate"].low == 0
    assert not [text for text in warnings_of(plain.run, plain.quality, plain.estimates) if "independent" in text]
    rate = copied_["copied_rate"]
    assert rate.low is not None
    assert 0 < rate.low <= 2 / 32 <= (rate.high or 0)
    (warning,) = warnings_of(copied_.run, copied_.quality, copied_.estimates)
    assert warning.startswith("the rollouts are not independent draws: ")
    assert "expected of independent draws; p = " in warning


def test_one_text_can_be_two_sequences_of_tokens() -> None:
    """Equal texts of 10 tokens are one response only where their log-probabilities agree up to an engine's rounding."""
    text = np.zeros(4, np.int32)
    seen = []
    for second, tokens in ((-30.0, 10), (-30.1, 10), (-34.0, 10), (-30.0, 11)):
        run = outcomes(
            ["cccc"],
            text=np.array([0, 1, 2, 0], np.int32),
            logprob_sum=np.array([-30.0, -31.0, -32.0, second]),
            n_tokens=np.array([10, 10, 10, tokens], np.int32),
        )
        seen.append(str(copied(run)[0].note).split()[0])
    assert seen == ["1", "1", "0", "0"]
    assert copied(outcomes(["cccc"], text=text)) == []
    known = copied(outcomes(["cccc"], text=text, logprob_sum=np.array([-9.0, np.nan, -9.0, -9.0])))[0]
    assert (known.n_samples, str(known.note)[:9]) == (3, "2 repeats")


@pytest.mark.parametrize(
    ("sampling", "reason"),
    [
        (SamplingParameters(temperature=0.6, top_p=1.0), "sampled otherwise"),
        (SamplingParameters(temperature=1.0, top_p=0.95), "sampled otherwise"),
        (SamplingParameters(temperature=1.0, top_p=1.0, top_k=20), "sampled otherwise"),
    ],
)
def test_it_is_left_out_where_the_law_of_the_draws_is_not_on_record(sampling: SamplingParameters, reason: str) -> None:
    card = scored(drawn(copies=2), sampling)
    assert reason in card.left_out["copied_rate"]
    assert "copied_rate" not in card
    assert not [text for text in warnings_of(card.run, card.quality, card.estimates) if "independent" in text]


def test_the_reasons_in_words() -> None:
    assert "does not say" in str(unknown_law(None, None))
    assert "tool" in str(unknown_law(OWN_LAW, Tools()))
    assert unknown_law(OWN_LAW, None) is None
    card = scored(drawn(logprob_sum=np.full(256, np.nan)))
    assert card.left_out["copied_rate"] == "no log-probabilities were measured"
