"""Token-level statistics of a policy: entropy, nucleus size (rollout branching factor), perplexity, profiles.

T tokens, V vocabulary entries, L reported log-probabilities per token, R rollouts, B position bins. All logs are
natural: entropies are in nats.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from rlvr_bench.errors import BadArgument
from rlvr_bench.stats.validation import check_count, check_counts, check_fractions, check_values

if TYPE_CHECKING:
    import numpy.typing as npt
    from jaxtyping import Float64, Int64

MASS_TOLERANCE = 1e-9  # rounding of sums of probabilities: cumulative mass within this of top_p has reached it


@dataclasses.dataclass(frozen=True)
class EntropyFit:
    """R = -``a`` exp(H) + ``b``; ``rmse`` in the units of R; ``ceiling`` is R at H = 0, ``b - a``."""

    a: float
    b: float
    rmse: float

    @property
    def ceiling(self) -> float:
        """Predicted performance of a policy with entropy 0."""
        return self.b - self.a


def token_entropy(logits: npt.ArrayLike, temperature: float = 1.0) -> Float64[np.ndarray, " T"]:
    """Shannon entropy of each next-token distribution in nats, (T,), from logits or log-probabilities (T, V).

    H = logsumexp(z/T) - sum softmax(z/T) z/T; -inf masks an entry. arXiv 2507.14843, sec. 5.1; the average over the
    tokens of a response, then over responses, is that paper's token entropy (others average over all tokens).

    Raises ``BadArgument``: not (T, V), a row holds NaN or +inf or only -inf, or temperature is not positive.
    """
    log_p = _log_probabilities(logits, temperature)
    return _plogp_sum(log_p)


def nucleus_size(logits: npt.ArrayLike, top_p: float = 0.95, temperature: float = 1.0) -> Int64[np.ndarray, " T"]:
    """Size of the smallest set of tokens whose probabilities reach ``top_p``, the crossing token included, (T,).

    Its mean over the tokens of a response is the rollout branching factor, RBF (arXiv 2508.07534, sec. 2).
    ``logits`` (T, V) may be logits or log-probabilities.

    Raises ``BadArgument``: as ``token_entropy``, or top_p is outside (0, 1].
    """
    mass = check_fractions("top_p", top_p)[0]
    p = np.exp(_log_probabilities(logits, temperature))
    cumulative = np.cumsum(-np.sort(-p, axis=1), axis=1)
    size = 1 + np.sum(cumulative < mass - MASS_TOLERANCE, axis=1)
    return np.asarray(np.minimum(size, np.count_nonzero(p, axis=1)))


def perplexity(logprob_sum: npt.ArrayLike, n_tokens: npt.ArrayLike) -> Float64[np.ndarray, " R"]:
    """exp(-(1/|o|) sum_t log pi(o_t)) of each response, (R,); NaN for a response without tokens.

    ``logprob_sum`` (R,) in nats, ``n_tokens`` (R,). arXiv 2504.13837, sec. 4.1.

    Raises ``BadArgument``: shapes disagree or a count is negative.
    """
    _, tokens = check_counts(np.zeros_like(np.atleast_1d(n_tokens)), np.atleast_1d(n_tokens))
    total = check_values("logprob_sum", logprob_sum, tokens.shape)
    mean = np.divide(total, tokens, out=np.full_like(total, np.nan), where=tokens > 0)
    return np.asarray(np.exp(-mean))


def positional_profile(values: npt.ArrayLike, n_tokens: npt.ArrayLike, bins: int = 20) -> Float64[np.ndarray, "R B"]:
    """Mean of a token statistic in equal bins of relative position (t-1)/|o|, one row per response, (R, B).

    ``values`` (sum of n_tokens,) holds the responses one after the other; ``n_tokens`` (R,). A bin that holds no token
    of a short response is NaN; the mean over responses is ``np.nanmean(profile, axis=0)``. arXiv 2508.02260 reports
    the shape for entropy; the number of bins there is unknown.

    Raises ``BadArgument``: the lengths do not add up to the values, or bins is below 1.
    """
    _, tokens = check_counts(np.zeros_like(np.atleast_1d(n_tokens)), np.atleast_1d(n_tokens))
    flat = check_values("values", values, (int(tokens.sum()),))
    bins = check_count("bins", bins)
    start = np.repeat(np.cumsum(tokens) - tokens, tokens)
    position = (np.arange(flat.size) - start) * bins // np.repeat(tokens, tokens)
    cell = np.repeat(np.arange(tokens.size), tokens) * bins + position
    known = ~np.isnan(flat)
    count = np.bincount(cell[known], minlength=tokens.size * bins)
    total = np.bincount(cell[known], weights=flat[known], minlength=tokens.size * bins)
    mean = np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
    return np.asarray(mean.reshape(tokens.size, bins))


def high_entropy_threshold(entropy: npt.ArrayLike, share: float = 0.2) -> float:
    """The (1 - ``share``) quantile of entropy over all tokens, tau.

    Wang et al. 2025 (80/20, arXiv 2506.01939): forking tokens are those with H >= tau, share = 0.2. ``entropy`` (T,)
    over all response tokens; NaN tokens are left out; NaN if none is left.

    Raises ``BadArgument``: share is outside (0, 1].
    """
    upper = check_fractions("share", share)[0]
    known = check_values("entropy", entropy)
    known = known[~np.isnan(known)]
    return float(np.quantile(known, 1 - upper)) if known.size else float("nan")


def entropy_performance_fit(entropy: npt.ArrayLike, performance: npt.ArrayLike) -> EntropyFit:
    """Least-squares fit of R = -a exp(H) + b over training steps, Cui et al. 2025 (arXiv 2505.22617), eq. 1.

    ``entropy`` (S,) in nats and ``performance`` (S,) as fractions; the model is linear in (a, b) given exp(H). Steps
    where either is NaN are left out.

    Raises ``BadArgument``: shapes disagree, or fewer than two distinct entropies remain.
    """
    h = check_values("entropy", entropy)
    r = check_values("performance", performance, h.shape)
    known = ~(np.isnan(h) | np.isnan(r))
    x, y = np.exp(h[known]), r[known]
    if np.unique(x).size < 2:
        raise BadArgument("entropy", h.tolist(), "must hold at least two distinct values where performance is known")
    slope = np.sum((x - x.mean()) * (y - y.mean())) / np.sum((x - x.mean()) ** 2)
    intercept = y.mean() - slope * x.mean()
    residual = y - slope * x - intercept
    return EntropyFit(a=float(-slope), b=float(intercept), rmse=float(np.sqrt(np.mean(residual**2))))


def _log_probabilities(logits: npt.ArrayLike, temperature: float) -> Float64[np.ndarray, "T V"]:
    if not temperature > 0:
        raise BadArgument("temperature", temperature, "must be positive")
    z = _rows("logits", logits) / temperature
    z = z - z.max(axis=1, keepdims=True)
    return np.asarray(z - np.log(np.sum(np.exp(z), axis=1, keepdims=True)))


def _rows(name: str, values: npt.ArrayLike) -> Float64[np.ndarray, "T V"]:
    table = np.asarray(values, dtype=np.float64)
    if table.ndim != 2 or 0 in table.shape:
        raise BadArgument(name, table.shape, "must have shape (tokens, entries), neither of them 0")
    if not np.isfinite(table.max(axis=1)).all():
        raise BadArgument(name, float(table.max()), "must hold a finite value in every row, no NaN and no +inf")
    return table


def _plogp_sum(log_p: Float64[np.ndarray, "T V"]) -> Float64[np.ndarray, " T"]:
    finite = np.where(np.isneginf(log_p), 0.0, log_p)  # p log p -> 0
    return np.asarray(np.abs(np.sum(np.exp(log_p) * finite, axis=1)))
