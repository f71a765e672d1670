"""Advantages of RLVR methods: P prompts with G rollouts each, R rollouts of at most T tokens.

Every function takes NumPy arrays or torch tensors and returns the kind, floating dtype and device of its first
argument (float64 or torch's default where that one holds integers). The arithmetic is float64 on the CPU: an advantage
is a constant of the loss, no gradient passes through it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

import numpy as np

from rlvr_bench.errors import BadArgument
from rlvr_bench.stats.validation import check_count, check_fractions

if TYPE_CHECKING:
    import numpy.typing as npt
    from torch import Tensor

__all__ = [
    "clip_covariance_mask",
    "covariance_mask",
    "group_normalised",
    "pass_at_k",
    "perplexity_shaped",
    "perplexity_weights",
    "pkpo",
    "position_shaped",
]

Array = TypeVar("Array", "npt.NDArray[Any]", "Tensor")


def group_normalised(rewards: Array, eps: float = 1e-6) -> Array:
    """GRPO advantages (P, G): (r - mean) / (std + eps) within each prompt's group of rewards (P, G).

    Shao et al. 2024 (arXiv 2402.03300), in verl's form: the unbiased standard deviation (n - 1), and a
    group of one has mean 0 and standard deviation 1. Equal rewards give exactly 0.

    Raises ``BadArgument``: not two axes, an empty one, a reward that is not finite, eps not positive.
    """
    r = _grid("rewards", rewards)
    if not 0 < eps < math.inf:
        raise BadArgument("eps", eps, "must be positive and finite")
    if r.shape[1] == 1:
        return _like(rewards, r / (1 + eps))
    centred = np.where(np.ptp(r, axis=1, keepdims=True) == 0, 0.0, r - r.mean(axis=1, keepdims=True))
    return _like(rewards, centred / (r.std(axis=1, ddof=1, keepdims=True) + eps))


def pass_at_k(correct: Array, k: int) -> Array:
    """Pass@k Training's advantages (P, G) of binary outcomes ``correct`` (P, G), for the reward "any of k is correct".

    Chen et al. 2025 (arXiv 2508.10751), the analytic form. With R the unbiased pass@k of the group and
    s = sqrt(R (1 - R)): a correct rollout gets (1 - R) / s, a wrong one (1 - R - C(w-1, k-1) / C(n-1, k-1)) / s, w the
    number of wrong ones. Where s is 0 (none correct, or fewer than k wrong) all are 0; the authors' code adds 1e-6 to s.

    Raises ``BadArgument``: not two axes, a value other than 0 and 1, k outside 1..G.
    """
    right, k = _outcomes(correct, k)
    n, c = right.shape[1], right.sum(axis=1, keepdims=True)
    failure = _failure(n, k)[c]
    spread = np.sqrt(failure * (1 - failure))
    value = np.where(right, failure, failure - _failure(n - 1, k - 1)[np.minimum(c, n - 1)])
    return _like(correct, np.divide(value, spread, out=np.zeros(right.shape), where=spread > 0))


def pkpo(correct: Array, k: int) -> Array:
    """PKPO's transformed rewards (P, G) of binary outcomes: sum_i r_i grad log pi(y_i) is unbiased for grad pass@k.

    Walder and Karkhanis 2025 (arXiv 2505.15201): with n rollouts of which c are correct, a correct one gets k / n, a
    wrong one (k / n) pass@(k-1) of the other n - 1. Sum over the group, do not average; without a baseline.

    Raises ``BadArgument``: as ``pass_at_k``.
    """
    right, k = _outcomes(correct, k)
    n, c = right.shape[1], right.sum(axis=1, keepdims=True)
    others = 1 - _failure(n - 1, k - 1)[np.minimum(c, n - 1)]
    return _like(correct, k / n * np.where(right, 1.0, others))


def perplexity_weights(mean_logprob: Array, alpha: float = 0.01, low: float = 0.8, high: float = 1.2) -> Array:
    """Weights (P, G) around 1 that rise as a rollout's perplexity falls against its group's; alpha < 0 reverses it.

    Deng et al. 2025 (arXiv 2508.07534): 1 - alpha * w, w the log-perplexity (minus the mean log-probability of
    the tokens, ``mean_logprob`` (P, G), nats) standardised within the group, clamped to [low, high]. As in the authors'
    code, mean and population standard deviation are those of the rollouts inside [Q1 - 1.5 IQR, Q3 + 1.5 IQR], and a
    deviation below 1e-6 counts as 1.

    Raises ``BadArgument``: not two axes, a value or alpha not finite, or not 0 <= low <= 1 <= high.
    """
    log_perplexity = -_grid("mean_logprob", mean_logprob)
    if not math.isfinite(alpha):
        raise BadArgument("alpha", alpha, "must be finite")
    if not 0 <= low <= 1 <= high:
        raise BadArgument("(low, high)", (low, high), "must satisfy 0 <= low <= 1 <= high")
    first, third = np.quantile(log_perplexity, (0.25, 0.75), axis=1, keepdims=True)
    reach = 1.5 * (third - first)
    inside = (log_perplexity >= first - reach) & (log_perplexity <= third + reach)
    mean = log_perplexity.mean(axis=1, keepdims=True, where=inside)
    std = log_perplexity.std(axis=1, keepdims=True, where=inside)
    standardised = (log_perplexity - mean) / np.where(std < 1e-6, 1.0, std)
    return _like(mean_logprob, np.clip(1 - alpha * standardised, low, high))


def perplexity_shaped(
    advantages: Array, mean_logprob: Array, alpha: float = 0.01, favour: Literal["low", "high"] = "low"
) -> Array:
    """Advantages (P, G) times the perplexity weights: rollouts of ``favour`` perplexity count more, with either sign.

    Deng et al. 2025 (arXiv 2508.07534): A (1 - alpha w) favours low perplexity. The script released with the
    paper computes and prints that weight but never multiplies it in (only its high-perplexity branch does), so it
    trains plain GRPO; here it is applied. Arguments as in ``perplexity_weights``.

    Raises ``BadArgument``: as ``perplexity_weights``, the shapes differ, alpha is negative, favour is another word.
    """
    a = _grid("advantages", advantages)
    if favour not in ("low", "high"):
        raise BadArgument("favour", favour, "must be 'low' or 'high'")
    if not alpha >= 0:
        raise BadArgument("alpha", alpha, "must not be negative; favour='high' reverses the direction")
    weights = perplexity_weights(_grid("mean_logprob", mean_logprob, a.shape), alpha if favour == "low" else -alpha)
    return _like(advantages, a * weights)


def position_shaped(
    advantages: Array, lengths: Array, max_tokens: int, alpha: float = 0.1, slope: float = 15.0
) -> Array:
    """Token advantages (R, T) that grow in size towards each rollout's end, T = ``max_tokens``; 0 after the end.

    Deng et al. 2025 (arXiv 2508.07534), as in the authors' code: token t of a rollout of L tokens, both from 1,
    has the relative position r = (t - 1) / L and gets A + sign(A) min(alpha sigmoid(slope (r - 0.5)), |A| / 2). The sign
    never changes, and A = 0 stays 0. ``advantages`` (R,), ``lengths`` (R,) response tokens. The authors apply it between
    steps 200 and 300 of 600 only; the caller decides when to apply it.

    Raises ``BadArgument``: not one axis, shapes differ, a length outside 0..max_tokens, alpha or slope negative.
    """
    a, length = _numbers("advantages", advantages, 1)[:, None], _numbers("lengths", lengths, 1)[:, None]
    if length.shape != a.shape:
        raise BadArgument("lengths", length.shape[:1], f"must have the shape of advantages, {a.shape[:1]}")
    check_count("max_tokens", max_tokens)
    wrong = length[(length < 0) | (length > max_tokens) | (length != np.floor(length))]
    if wrong.size:
        raise BadArgument("lengths", float(wrong[0]), f"must be whole numbers from 0 to max_tokens, {max_tokens}")
    for name, value in (("alpha", alpha), ("slope", slope)):
        if not 0 <= value < math.inf:
            raise BadArgument(name, value, "must be finite and not negative")
    index = np.arange(max_tokens)
    relative = index / np.maximum(length, 1)
    sigmoid = (1 + np.tanh(slope * (relative - 0.5) / 2)) / 2
    bonus = np.minimum(alpha * sigmoid, np.abs(a) / 2)
    return _like(advantages, np.where(index < length, a + np.sign(a) * bonus, 0.0))


def covariance_mask(logprob: Array, advantages: Array, mask: Array, fraction: float) -> Array:
    """KL-Cov's tokens, boolean (R, T): the ``fraction`` of valid tokens with the largest covariance term.

    Cui et al. 2025 (arXiv 2505.22617): the term is (log pi - mean)(A - mean), means over the valid tokens of
    the batch; a KL penalty on these tokens keeps entropy from collapsing (the paper: 2e-3 for 7B, 2e-4 for 32B).
    ``logprob`` nats, ``advantages`` and ``mask`` (true for response tokens) all (R, T). As in verl, at least one token;
    none where none is valid. Ties go to the earlier token.

    Raises ``BadArgument``: shapes differ, a valid token's value is not finite, mask not 0/1, fraction outside (0, 1].
    """
    term, valid = _covariance(logprob, advantages, mask)
    chosen = np.argsort(-term, kind="stable")[: _share(fraction, term.size)]
    return _spread(mask, valid, chosen)


def clip_covariance_mask(
    logprob: Array,
    advantages: Array,
    mask: Array,
    *,
    fraction: float,
    rng: np.random.Generator,
    low: float = 1.0,
    high: float = 5.0,
) -> Array:
    """Clip-Cov's tokens, boolean (R, T): drawn among those whose covariance term is in [low, high].

    Cui et al. 2025 (arXiv 2505.22617): their gradient is cut. The number is ``fraction`` (paper: 2e-4) of all valid
    tokens, at least one, and at most the tokens in the band. verl also leaves out tokens that PPO's clip holds already:
    remove those from the result with ``&``. Arguments as in ``covariance_mask``.

    Raises ``BadArgument``: as ``covariance_mask``, or low is not below high.
    """
    term, valid = _covariance(logprob, advantages, mask)
    if not low < high:
        raise BadArgument("(low, high)", (low, high), "low must be below high")
    count = _share(fraction, term.size)
    return _spread(mask, valid, rng.permutation(np.flatnonzero((term >= low) & (term <= high)))[:count])


def _numbers(name: str, values: object, axes: int) -> npt.NDArray[np.float64]:
    """A NumPy array, a tensor on any device, or nested lists, as finite float64 with ``axes`` axes, none empty."""
    if hasattr(values, "detach"):
        values = values.detach().cpu().double().numpy()
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != axes or not array.size:
        raise BadArgument(name, array.shape, f"must have {axes} {'axis' if axes == 1 else 'axes'}, none of them empty")
    if not np.isfinite(array).all():
        raise BadArgument(name, float(array[~np.isfinite(array)][0]), "must be finite")
    return array


def _grid(name: str, values: object, shape: tuple[int, ...] | None = None) -> npt.NDArray[np.float64]:
    array = _numbers(name, values, 2)
    if shape is not None and array.shape != shape:
        raise BadArgument(name, array.shape, f"must have the shape of the other argument, {shape}")
    return array


def _flags(name: str, values: object) -> npt.NDArray[np.bool_]:
    array = _grid(name, values)
    if not np.isin(array, (0, 1)).all():
        raise BadArgument(name, float(array[~np.isin(array, (0, 1))][0]), "must hold only 0 and 1, or False and True")
    return array.astype(bool)


def _outcomes(correct: object, k: int) -> tuple[npt.NDArray[np.bool_], int]:
    right = _flags("correct", correct)
    check_count("k", k)
    if k > right.shape[1]:
        raise BadArgument("k", k, f"must be at most the {right.shape[1]} rollouts of a group")
    return right, int(k)


def _failure(n: int, k: int) -> npt.NDArray[np.float64]:
    """C(n-c, k) / C(n, k) for c = 0..n, (n + 1,): the chance that k of n rollouts are all wrong, correctly rounded."""
    return np.array([math.comb(n - c, k) / math.comb(n, k) for c in range(n + 1)])


def _covariance(
    logprob: object, advantages: object, mask: object
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """The centred product of each valid token, in row-major order, and the mask (R, T)."""
    valid = _flags("mask", mask)
    columns = []
    for name, values in (("logprob", logprob), ("advantages", advantages)):
        array = np.asarray(values.detach().cpu().double().numpy() if hasattr(values, "detach") else values)
        if array.shape != valid.shape:
            raise BadArgument(name, array.shape, f"must have the shape of mask, {valid.shape}")
        taken = array[valid].astype(np.float64)
        if not np.isfinite(taken).all():
            raise BadArgument(name, float(taken[~np.isfinite(taken)][0]), "must be finite where mask is true")
        columns.append(taken - taken.mean() if taken.size else taken)
    return columns[0] * columns[1], valid


def _share(fraction: float, count: int) -> int:
    return max(1, int(count * float(check_fractions("fraction", fraction)[0])))


def _spread(mask: Array, valid: npt.NDArray[np.bool_], chosen: npt.NDArray[np.int64]) -> Array:
    """A boolean (R, T) of the kind of ``mask``, true at the valid tokens numbered ``chosen``."""
    result = np.zeros(valid.size, dtype=bool)
    result[np.flatnonzero(valid)[chosen]] = True
    kind: Any = mask
    shaped = result.reshape(valid.shape)
    return cast("Array", kind.bool().new_tensor(shaped) if hasattr(kind, "new_tensor") else shaped)


def _like(like: Array, result: npt.NDArray[np.float64]) -> Array:
    """``result`` as the kind, floating dtype and device of ``like``."""
    kind: Any = like
    if hasattr(kind, "new_tensor"):
        made = (kind if kind.is_floating_point() else kind.float()).new_tensor(result)
    else:
        dtype = np.asarray(kind).dtype
        made = result.astype(dtype if dtype.kind == "f" else np.float64)
    return cast("Array", made)
