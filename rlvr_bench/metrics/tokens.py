"""The metrics of token statistics, which are rows of the table of metrics."""

from __future__ import annotations

from rlvr_bench.metrics.row import OVER_ROLLOUTS, Metric, first_column

__all__ = ["BRANCHING_FACTOR", "PROFILE_AND_BOUNDS", "TOKEN_ENTROPY", "TOKEN_METRICS"]

_TOKENS = "over a response's tokens, then its problem's rollouts, then problems"

TOKEN_ENTROPY = Metric(
    name="token_entropy",
    meaning="mean entropy of the next token at temperature 1",
    unit="nats",
    averaged=_TOKENS,
    column="entropy_mean",
    of_first_batch=True,
    board=(first_column(name="token_entropy", short="entropy", tables=("markdown", "terminal")),),
    gate="problems",
    compared=True,
    followed=True,
    stages=(None, "correct", "wrong"),
    series_titles=(
        (None, "entropy"),
        ("correct, length-matched", "correct*"),
        ("wrong, length-matched", "wrong*"),
    ),
    summary="nats; 0: the policy never varies",
    chart="entropy",
)
BRANCHING_FACTOR = Metric(
    name="branching_factor",
    meaning="mean number of next tokens that hold 95 % of the probability",
    unit="tokens",
    low=1.0,
    averaged=_TOKENS,
    column="branching_mean",
    of_first_batch=True,
    board=(first_column(name="branching_factor"),),
    gate="problems",
    compared=True,
    followed=True,
    stages=(None,),
    series_titles=((None, "branching"),),
    summary="tokens holding 95 %; 1: no choice",
    chart="branching",
)

TOKEN_METRICS: tuple[Metric, ...] = (
    TOKEN_ENTROPY,
    BRANCHING_FACTOR,
    Metric(
        name="perplexity",
        meaning="exp of minus the mean log-probability of the sampled tokens",
        unit="perplexity",
        low=1.0,
        averaged=OVER_ROLLOUTS,
        followed=True,
    ),
    Metric(
        name="high_entropy_share",
        meaning="share of tokens whose entropy is above the threshold of high entropy",
        unit="fraction",
        averaged=OVER_ROLLOUTS,
        followed=True,
    ),
)

PROFILE_AND_BOUNDS: tuple[Metric, ...] = (
    Metric(
        name="entropy_profile",
        meaning="token entropy by relative position in the response",
        unit="nats",
        averaged=_TOKENS,
        chart="profile",
    ),
    *(
        Metric(
            name=f"{metric.name}_{side}",
            meaning=f"{word} bound of {metric.name} where a server gives truncated log-probabilities",
            unit=metric.unit,
            low=metric.low,
            averaged=metric.averaged,
            no_gate="a bound is no estimate",
        )
        for metric in (TOKEN_ENTROPY, BRANCHING_FACTOR)
        for side, word in (("low", "lower"), ("high", "upper"))
    ),
)
