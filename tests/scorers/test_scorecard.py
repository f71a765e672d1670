"""The scorecard holds every scorer's estimates, and per problem what a comparison needs."""

from __future__ import annotations

import json
import time
import tracemalloc
from typing import Any

import msgspec
import numpy as np
import pytest

from rlvr_bench.metrics import find_metric
from rlvr_bench.records import Outcomes, ProfileSums
from rlvr_bench.scorecard import Scorecard
from rlvr_bench.scorers.scorecard import make_scorecard
from rlvr_bench.scorers.table import SCORERS, Given, Judged, estimates_of
from rlvr_bench.store.verdicts import Grading
from tests.conftest import manifest_with
from tests.scorers.made import outcomes, under_rule

GRADING = Grading(
    verifier="math", version="1", options={}, folder="v", rollouts=0, distinct=0, seconds=0.0, statuses={}
)


def scored(run: Outcomes, **options: Any) -> Scorecard:
    return make_scorecard(manifest_with(n=run.asked, stopping=run.stopping), GRADING, run, **options)


def test_every_scorer_is_in_the_card_and_the_card_survives_json() -> None:
    run = outcomes(["ccwwwwww", "wwwwwwww", "cwwwnnee"], answer=np.arange(24, dtype=np.int32) % 5)
    card = scored(run, answer_space=10)
    assert {e.name for e in card.estimates} >= {
        "pass@k",
        "guess@k",
        "unsolved",
        "unsolved@k",
        "cover",
        "cover_posterior",
        "accuracy_histogram",
        "g_pass@k",
        "mg_pass@k",
        "maj@k",
        "token_entropy",
        "distinct_answers@k",
        "answer_entropy",
        "no_answer_rate",
    }
    again = msgspec.json.decode(msgspec.json.encode(card), type=Scorecard)
    assert (again.estimates, again.problems, again.quality) == (card.estimates, card.problems, card.quality)
    keys = [(e.name, e.k, e.group) for e in card.estimates]
    assert len(keys) == len(set(keys))


def test_every_estimate_lies_in_its_interval_and_says_how_it_was_made() -> None:
    rng = np.random.default_rng(1)
    run = outcomes(
        ["".join(rng.choice(list("cwwne"), 20)) for _ in range(12)] + ["cc"],
        answer=rng.integers(0, 6, 242).astype(np.int32),
        entropy_mean=rng.random(242),
        n_tokens=rng.integers(5, 90, 242).astype(np.int32),
    )
    for estimate in scored(run, answer_space=6).estimates:
        assert estimate.method
        if estimate.value is not None:
            assert estimate.n_problems >= 1
            if estimate.group != "uniform":
                assert estimate.n_samples >= 1
            if estimate.low is not None and estimate.high is not None:
                assert estimate.low - 1e-9 <= estimate.value <= estimate.high + 1e-9


def test_per_problem_entries_hold_what_compare_needs() -> None:
    run = outcomes(["ccww", "wwwn"], answer=np.array([0, 0, 1, 2, 1, 2, 3, -1], dtype=np.int32))
    solved, unsolved = scored(run).problems
    assert (solved.n, solved.c, solved.cluster) == (4, 2, "")
    assert solved.distinct_answers == pytest.approx({1: 1.0, 4: 3.0})
    assert solved.solve_rate_high is None
    assert unsolved.solve_rate_high == pytest.approx(1 - 0.05**0.25)
    assert unsolved.distinct_answers == pytest.approx({1: 1.0})


def test_what_cannot_be_computed_is_left_out_with_the_reason() -> None:
    run = outcomes(["ccww", "wwwn"])
    unknown = msgspec.structs.replace(run, unknown=("answer",))
    measured = msgspec.structs.replace(run, entropy_mean=np.full(8, 0.5))
    plain, no_answers, with_entropy = (scored(item) for item in (run, unknown, measured))
    assert not {item.name for item in plain.estimates if item.value is not None} & plain.left_out.keys()
    assert "token statistics" in plain.left_out["token_entropy"]
    assert "judge" in plain.left_out["cot_pass@k"]
    assert no_answers.left_out.keys() - plain.left_out.keys() == {
        *("guess@k", "maj@k", "distinct_answers@k", "answer_entropy", "answer_entropy@k", "wrong_answer_entropy@k")
    }
    assert plain.left_out.keys() - with_entropy.left_out.keys() == {
        *("token_entropy", "branching_factor", "perplexity", "high_entropy_share", "entropy_profile")
    }


def test_every_scorer_gives_what_it_is_listed_for() -> None:
    """A judged run with every statistic: no name but those of the table, and all that has no condition of its own."""
    rng = np.random.default_rng(0)
    measured = {"entropy_mean": rng.random(8), "logprob_sum": -rng.random(8), "followed": np.ones((8, 2))}
    run = outcomes(["ccww", "wwwn"], options=(4, 4), instructions=(2, 1), **measured)
    judged = Judged(run.status == 0, np.zeros(8, dtype=bool))
    given = Given(outcomes=run, judged=judged, unknown_law=None)
    estimates, left_out = estimates_of(given)
    assert not left_out
    bounds = ("token_entropy_low", "token_entropy_high", "branching_factor_low", "branching_factor_high")
    assert {estimate.name for estimate in estimates} <= {name for scorer in SCORERS for name in scorer.names} | set(
        bounds
    )
    for scorer in SCORERS:
        assert {estimate.name for estimate in scorer.score(given)} & set(scorer.names)
        assert all(find_metric(name) for name in scorer.names)


def test_budgets_can_be_chosen() -> None:
    card = scored(outcomes(["ccww", "wwww"]), ks=[3])
    assert {e.k for e in card.estimates if e.name in ("pass@k", "unsolved@k", "guess@k")} == {3}


def test_under_a_stopping_rule_responses_are_judged_on_the_first_batch() -> None:
    run = under_rule(["wcwwwwww", "wwwwwwww"], asked=8, stop_after=1, batch=2)
    card = scored(run, flags={"repetition": run.index >= 2})
    by_name = {e.name: e for e in card.estimates if e.group is None and e.k in (None, 1)}
    assert by_name["repetition_rate"].value == 0.0
    assert by_name["maj@k"].value == pytest.approx(0.25)
    assert by_name["pass@k"].value == pytest.approx(0.25)
    assert {e.k for e in card.estimates if e.name == "maj@k"} == {1, 2}


def test_a_large_run_is_scored_in_seconds() -> None:
    """500 problems of 1,024 rollouts: about 2 s on one core, 60 bytes a rollout beside the outcomes themselves."""
    rng = np.random.default_rng(0)
    problems, n = 500, 1024
    size = problems * n
    status = (rng.random((problems, n)) > rng.beta(0.4, 0.7, (problems, 1))).astype(np.int8).ravel()
    numbers = {
        name: rng.random(size) for name in ("logprob_sum", "entropy_mean", "branching_mean", "high_entropy_share")
    }
    run = outcomes(
        ["c" * n] * problems,
        status=status,
        answer=rng.zipf(1.5, size).clip(max=999).astype(np.int32),
        n_tokens=rng.integers(100, 4000, size).astype(np.int32),
        **numbers,
        entropy_profile=ProfileSums(rng.random((problems, 4, 20)), rng.integers(1, n, (problems, 4, 20))),
    )
    tracemalloc.start()
    started = time.process_time()
    card = scored(run, answer_space=1000)
    assert time.process_time() - started < 10
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 75 * size
    assert len(json.dumps(msgspec.to_builtins(card))) < 1_000_000
