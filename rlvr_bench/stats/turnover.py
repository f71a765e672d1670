"""Turnover over training: which problems S checkpoints solve first, forget, or never solve. P problems, one budget k."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from rlvr_bench.errors import BadArgument
from rlvr_bench.stats.posterior import fit_beta_prior, log_failure_moment
from rlvr_bench.stats.solve_rate import failure_at_k, pass_at_k
from rlvr_bench.stats.validation import check_budgets, check_count, check_counts

if TYPE_CHECKING:
    import numpy.typing as npt
    from jaxtyping import Bool, Float64, Int64

__all__ = ["FreshBest", "Turnover", "fresh_best", "turnover"]


@dataclasses.dataclass(frozen=True)
class Turnover:
    """Probabilities that k rollouts of each checkpoint, in order of training, show this of a problem.

    ``solved``: this checkpoint solves it. ``first``: this one and none before. ``forgotten``: not this one, but one
    before. ``never``: neither this one nor one before. The first checkpoint has ``first`` = ``solved``. ``lost``: the
    checkpoint before solves it and this one does not. ``regained``: the one before has forgotten it and this one solves it.

    ``first_by_chance`` and ``forgotten_by_chance``: the same if every earlier checkpoint had the solve rate of this one,
    so that only luck differs. ``modelled``: where they come from a fitted Beta model, because (t + 1) k is above n.
    """

    solved: Float64[np.ndarray, "S P"]
    first: Float64[np.ndarray, "S P"]
    forgotten: Float64[np.ndarray, "S P"]
    never: Float64[np.ndarray, "S P"]
    lost: Float64[np.ndarray, "S P"]
    regained: Float64[np.ndarray, "S P"]
    first_by_chance: Float64[np.ndarray, "S P"]
    forgotten_by_chance: Float64[np.ndarray, "S P"]
    modelled: Bool[np.ndarray, " S"]


@dataclasses.dataclass(frozen=True)
class FreshBest:
    """The checkpoint with the highest pass@k at each budget, and what it reaches on rollouts that did not choose it.

    ``best`` (K,): its number, by all rollouts. ``fresh`` (P, K): pass@k of each problem on the half that did not choose.
    ``chosen`` (S, K): how often a half chooses each checkpoint.
    """

    best: Int64[np.ndarray, " K"]
    fresh: Float64[np.ndarray, "P K"]
    chosen: Float64[np.ndarray, "S K"]


def turnover(n_correct: npt.ArrayLike, n_samples: npt.ArrayLike, k: int) -> Turnover:
    """Problems solved first, forgotten and never solved within ``k`` rollouts of each checkpoint, without redrawing noise.

    ``n_correct`` and ``n_samples`` (S, P): the checkpoints' counts on the same problems, in order of training. With
    q_t = C(n-c, k) / C(n, k), the unbiased failure probability, and Q_t = q_0 ... q_(t-1): first = (1 - q_t) Q_t,
    forgotten = q_t (1 - Q_t), never = q_t Q_t. The checkpoints' rollouts are independent, so the products are unbiased.

    By chance: t + 1 disjoint sets of k rollouts of checkpoint t itself take the place of the t + 1 checkpoints. With
    f(j), the probability that j rollouts all fail, it is f(tk) - f((t+1)k) for ``first`` and f(k) - f((t+1)k) for
    ``forgotten``. f(j) = C(n-c, j) / C(n, j) is unbiased for (1-p)^j while j <= n. Where (t+1)k is above n, f is the
    posterior mean under a Beta prior fitted to the checkpoint, NaN where none can be fitted (all rollouts alike).

    Raises ``BadArgument``: as ``pass_at_k``, the tables are not (S, P), or k is above a problem's n.
    """
    c, n = _check_tables(n_correct, n_samples, k)
    fails = np.stack([failure_at_k(row, size, [k])[:, 0] for row, size in zip(c, n, strict=True)])
    before = np.cumprod(np.vstack([np.ones_like(fails[:1]), fails[:-1]]), axis=0)
    forgotten = fails * (1 - before)
    none = np.zeros_like(fails[:1])
    first_by_chance, forgotten_by_chance, modelled = _by_chance(c, n, k)
    return Turnover(
        solved=1 - fails,
        first=(1 - fails) * before,
        forgotten=forgotten,
        never=fails * before,
        lost=np.vstack([none, (1 - fails[:-1]) * fails[1:]]),
        regained=np.vstack([none, forgotten[:-1] * (1 - fails[1:])]),
        first_by_chance=first_by_chance,
        forgotten_by_chance=forgotten_by_chance,
        modelled=modelled,
    )


def fresh_best(
    n_correct: npt.ArrayLike,
    n_samples: npt.ArrayLike,
    ks: npt.ArrayLike,
    *,
    rng: np.random.Generator,
    splits: int = 200,
) -> FreshBest:
    """Choose the best checkpoint on one half of every problem's rollouts, and take its pass@k on the other half.

    The best of S checkpoints was lucky on the rollouts that made it the best. Each random split is used both ways and
    all are averaged. The half that chooses has half of the rollouts, so it errs a little more often than all of them:
    ``fresh`` is a little low where the checkpoints differ by little. It is for these same problems: that a checkpoint
    suits them by luck is not corrected.

    Counts as in ``turnover``, ``ks`` (K,) budgets. Raises ``BadArgument``: as ``turnover``, or a budget is above half of
    a problem's n.
    """
    budgets = check_budgets(ks)
    c, n = _check_tables(n_correct, n_samples, int(budgets.max()))
    half = n // 2
    if budgets.max() > half.min():
        raise BadArgument("k", int(budgets.max()), f"must be at most half of every problem's rollouts, {half.min()}")
    best = _pass_table(c, n, budgets).mean(axis=1).argmax(axis=0)
    total, chosen = np.zeros((c.shape[1], budgets.size)), np.zeros((len(c), budgets.size))
    columns = np.arange(budgets.size)
    for _ in range(check_count("splits", splits)):
        part = rng.hypergeometric(c, n - c, half)
        halves = _pass_table(part, half, budgets), _pass_table(c - part, n - half, budgets)
        for choosing, judging in (halves, halves[::-1]):
            winners = choosing.mean(axis=1).argmax(axis=0)
            chosen[winners, columns] += 1
            total += judging[winners, :, columns].T
    return FreshBest(best, total / (2 * splits), chosen / (2 * splits))


def _check_tables(
    n_correct: npt.ArrayLike, n_samples: npt.ArrayLike, k: int
) -> tuple[Int64[np.ndarray, "S P"], Int64[np.ndarray, "S P"]]:
    given = np.asarray(n_correct)
    if given.ndim != 2 or given.shape != np.shape(n_samples):
        raise BadArgument("n_correct", given.shape, f"must be (S, P), as n_samples {np.shape(n_samples)}")
    c, n = check_counts(given.ravel(), np.ravel(n_samples))
    if check_count("k", k) > n.min():
        raise BadArgument("k", k, f"must be at most the rollouts of every problem, {int(n.min())}")
    return c.reshape(given.shape), n.reshape(given.shape)


def _pass_table(
    c: Int64[np.ndarray, "S P"], n: Int64[np.ndarray, "S P"], ks: Int64[np.ndarray, " K"]
) -> Float64[np.ndarray, "S P K"]:
    return np.asarray(pass_at_k(c.ravel(), n.ravel(), ks)).reshape(*c.shape, ks.size)


def _by_chance(
    c: Int64[np.ndarray, "S P"], n: Int64[np.ndarray, "S P"], k: int
) -> tuple[Float64[np.ndarray, "S P"], Float64[np.ndarray, "S P"], Bool[np.ndarray, " S"]]:
    first, forgotten = np.empty(c.shape), np.empty(c.shape)
    modelled = np.array([(t + 1) * k > size.min() for t, size in enumerate(n)])
    for t, (row, size) in enumerate(zip(c, n, strict=True)):
        all_fail = _all_fail(row, size, [k, t * k, (t + 1) * k], modelled=bool(modelled[t]))
        first[t], forgotten[t] = all_fail[1] - all_fail[2], all_fail[0] - all_fail[2]
    return first, forgotten, modelled


def _all_fail(
    c: Int64[np.ndarray, " P"], n: Int64[np.ndarray, " P"], sizes: list[int], *, modelled: bool
) -> Float64[np.ndarray, "K P"]:
    """Probability that so many rollouts all fail, for each of K sizes; 1 for none."""
    table = np.ones((len(sizes), c.size))
    drawn = [i for i, size in enumerate(sizes) if size]
    ks = [sizes[i] for i in drawn]
    if not modelled:
        table[drawn] = failure_at_k(c, n, ks).T
    elif 0 < c.sum() < n.sum():
        alpha, beta = fit_beta_prior(c, n)
        table[drawn] = np.exp(log_failure_moment(alpha + c, beta + n - c, np.array(ks)[:, None]))
    else:
        table[drawn] = np.nan
    return table
