"""The capability boundary: which problems k rollouts do not solve, and how two checkpoints' solved sets differ."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from rlvr_bench.errors import BadArgument
from rlvr_bench.stats.solve_rate import failure_at_k
from rlvr_bench.stats.validation import check_budgets, check_counts, check_mask, check_probability

if TYPE_CHECKING:
    import numpy.typing as npt
    from jaxtyping import Float64

__all__ = [
    "SupportDynamics",
    "Unsolved",
    "expected_support_dynamics",
    "expected_unsolved",
    "null_support_dynamics",
    "support_dynamics",
    "unsolved_upper_bound",
]


@dataclasses.dataclass(frozen=True)
class Unsolved:
    """Expected number of problems unsolved by k rollouts, ``expected`` (K,), of ``n_problems`` (K,) with n >= k."""

    expected: Float64[np.ndarray, " K"]
    n_problems: npt.NDArray[np.int64]

    @property
    def fraction(self) -> Float64[np.ndarray, " K"]:
        """Expected share of problems that k rollouts leave unsolved, (K,); NaN where no problem has n >= k."""
        return _ratio(self.expected, self.n_problems.astype(np.float64))


@dataclasses.dataclass(frozen=True)
class SupportDynamics:
    """Problems by who solves them, (K,) counts or expected counts, and the four rates of the empirical support.

    Wu et al. 2025 (The Invisible Leash, arXiv 2507.14843), sec. 3: ``preserved`` P (both), ``expanded`` E (only the
    later checkpoint), ``shrunk`` S (only the earlier one), ``out_of_support`` O (neither). The counting unit is the
    problem, as in every table of that paper. A rate with an empty denominator is NaN (the paper prints 0).
    """

    preserved: Float64[np.ndarray, " K"]
    expanded: Float64[np.ndarray, " K"]
    shrunk: Float64[np.ndarray, " K"]
    out_of_support: Float64[np.ndarray, " K"]

    @property
    def n_problems(self) -> Float64[np.ndarray, " K"]:
        """Problems compared, P + E + S + O, (K,)."""
        return np.asarray(self.preserved + self.expanded + self.shrunk + self.out_of_support)

    @property
    def retention(self) -> Float64[np.ndarray, " K"]:
        """Support retention rate SRR = P / (P + S): the share of the problems solved before that are solved now."""
        return _ratio(self.preserved, self.preserved + self.shrunk)

    @property
    def discovery(self) -> Float64[np.ndarray, " K"]:
        """Net discovery rate NDR = E / (P + E): the share of the problems solved now that were not solved before."""
        return _ratio(self.expanded, self.preserved + self.expanded)

    @property
    def dynamic_score(self) -> Float64[np.ndarray, " K"]:
        """Support dynamic score SDS, the harmonic mean of SRR and NDR; 0 where both are 0."""
        srr, ndr = self.retention, self.discovery
        return np.where(srr + ndr == 0, 0.0, _ratio(2 * srr * ndr, srr + ndr))

    @property
    def net_change(self) -> Float64[np.ndarray, " K"]:
        """Net support change rate NSCR = (E - S) / (P + E + S)."""
        return _ratio(self.expanded - self.shrunk, self.preserved + self.expanded + self.shrunk)


def unsolved_upper_bound(n_samples: npt.ArrayLike, confidence: float = 0.95) -> Float64[np.ndarray, " P"]:
    """Largest solve probability that 0 correct of n rollouts leaves possible at this confidence, (P,); 1 for n = 0.

    Solves (1 - p)^n = 1 - confidence, i.e. p = 1 - (1 - confidence)^(1/n), the exact (Clopper-Pearson) one-sided
    bound. Arxiv 2507.14843, appendix C.4, rounds it up to -log(1 - confidence) / n.

    Raises ``BadArgument``: n is negative or not whole, or confidence is outside (0, 1).
    """
    _, n = check_counts(np.zeros_like(np.atleast_1d(n_samples)), np.atleast_1d(n_samples))
    log_error = np.log1p(-check_probability("confidence", confidence))
    return np.where(n == 0, 1.0, 0.0 - np.expm1(log_error / np.maximum(n, 1)))


def expected_unsolved(n_correct: npt.ArrayLike, n_samples: npt.ArrayLike, ks: npt.ArrayLike) -> Unsolved:
    """Expected size of the set of problems that k fresh rollouts leave unsolved, without redrawing noise.

    E|U_k| = sum_i C(n_i - c_i, k) / C(n_i, k), each problem with its fractional membership (``failure_at_k``). Problems
    with n < k are left out, and ``n_problems`` does not count them; ``expected`` is NaN where none is left.

    Raises ``BadArgument``: as ``pass_at_k``.
    """
    membership = failure_at_k(n_correct, n_samples, ks)
    n_problems = np.sum(~np.isnan(membership), axis=0)
    return Unsolved(np.where(n_problems > 0, np.nansum(membership, axis=0), np.nan), n_problems)


def support_dynamics(solved_before: npt.ArrayLike, solved_after: npt.ArrayLike) -> SupportDynamics:
    """Support dynamics of two runs from one solved / unsolved flag per problem, both (P,), K = 1.

    The flags of both runs must be for equal budgets. Two runs of the *same* model give E, S > 0 too: compare with
    ``null_support_dynamics``.

    Raises ``BadArgument``: the flags are not both (P,) truth values.
    """
    shape = (np.size(solved_before),)
    before = check_mask("solved_before", solved_before, shape).astype(np.float64)
    after = check_mask("solved_after", solved_after, shape).astype(np.float64)
    return _dynamics((1 - before)[:, None], (1 - after)[:, None])


def expected_support_dynamics(
    before: tuple[npt.ArrayLike, npt.ArrayLike], after: tuple[npt.ArrayLike, npt.ArrayLike], ks: npt.ArrayLike
) -> SupportDynamics:
    """Expected support dynamics of two checkpoints at budgets ``ks``, without redrawing noise; (K,) expected counts.

    ``before`` and ``after`` are (n_correct, n_samples) of the same P problems. The runs are independent, so products
    of their unbiased per-problem failure probabilities are unbiased. Problems with n < k in either run are left out.

    Raises ``BadArgument``: as ``pass_at_k``, or the runs differ in their number of problems.
    """
    first, second = failure_at_k(*before, ks), failure_at_k(*after, ks)
    if first.shape != second.shape:
        raise BadArgument("after", second.shape[0], f"must have as many problems as before, {first.shape[0]}")
    return _dynamics(first, second)


def null_support_dynamics(n_correct: npt.ArrayLike, n_samples: npt.ArrayLike, ks: npt.ArrayLike) -> SupportDynamics:
    """What ``support_dynamics`` of two independent k-rollout runs of the *same* model would show, (K,) expected counts.

    Unbiased from n >= 2k rollouts of one model: O = sum C(n-c, 2k)/C(n, 2k) (2k rollouts all fail) and
    E = S = sum C(n-c, k)/C(n, k) - O. Problems with 2k > n are left out: all counts are NaN where none is left.

    Raises ``BadArgument``: as ``pass_at_k``.
    """
    budgets = check_budgets(ks)
    neither = failure_at_k(n_correct, n_samples, 2 * budgets)
    once = np.where(np.isnan(neither), np.nan, failure_at_k(n_correct, n_samples, budgets))
    only_one = _total(once - neither)
    return SupportDynamics(_total(1 - 2 * once + neither), only_one, only_one, _total(neither))


def _dynamics(fail_before: Float64[np.ndarray, "P K"], fail_after: Float64[np.ndarray, "P K"]) -> SupportDynamics:
    return SupportDynamics(
        preserved=_total((1 - fail_before) * (1 - fail_after)),
        expanded=_total(fail_before * (1 - fail_after)),
        shrunk=_total((1 - fail_before) * fail_after),
        out_of_support=_total(fail_before * fail_after),
    )


def _total(values: Float64[np.ndarray, "P K"]) -> Float64[np.ndarray, " K"]:
    return np.where(np.isnan(values).all(axis=0), np.nan, np.nansum(values, axis=0))


def _ratio(top: Float64[np.ndarray, " K"], bottom: Float64[np.ndarray, " K"]) -> Float64[np.ndarray, " K"]:
    return np.asarray(np.divide(top, bottom, out=np.full_like(top, np.nan), where=bottom > 0))
