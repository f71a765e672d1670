"""Boundary sets of two or more runs, and their null distribution for two runs of one policy."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt
from scipy.special import betaln, ndtri

from rlvr_bench import stats
from rlvr_bench.comparison.cards import RunCounts, clusters
from rlvr_bench.comparison.results import BoundaryChange, NullSize, Overlap
from rlvr_bench.stats.sequential import ONE_LOOK, Looks
from rlvr_bench.stats.significance import sign_flip_test
from rlvr_bench.stats.sums import DiscreteSum, upper_deviate

__all__ = ["boundary_change", "null_sizes", "overlaps"]

SETTLED = 1e-7  # if k pooled rollouts are all wrong with a lower probability, a problem is in no set
ROUNDING = 1e-9


def boundary_change(
    ids: Sequence[str],
    first: RunCounts,
    second: RunCounts,
    k: int,
    replicates: int = stats.REPLICATES,
    looks: Looks = ONE_LOOK,
) -> BoundaryChange:
    """The problems that k rollouts of one run solve and k of the other do not, with their numbers expected by chance.

    The p-values are valid at ``looks``.
    """
    chance = [run.pass_table([k])[:, 0] for run in (first, second)]
    solved = [share > 0.5 for share in chance]
    sets = {
        "gained": ~solved[0] & solved[1],
        "lost": solved[0] & ~solved[1],
        "both": solved[0] & solved[1],
        "neither": ~solved[0] & ~solved[1],
    }
    gains = losses = None
    if first.stopping is None and second.stopping is None:
        rng = stats.fresh_rng()
        gains, losses = null_sizes((first.c, first.n), (second.c, second.n), k, rng, replicates, looks)
    net = sign_flip_test(chance[1] - chance[0], stats.fresh_rng(), clusters(first), stats.REPLICATES)
    dynamics = stats.SupportDynamics(*(np.atleast_1d(size) for size in _dynamics(*chance)))
    return BoundaryChange(
        k=k,
        n_gained=float(dynamics.expanded[0]),
        n_lost=float(dynamics.shrunk[0]),
        n_both=float(dynamics.preserved[0]),
        n_neither=float(dynamics.out_of_support[0]),
        **{name: _named(ids, mask) for name, mask in sets.items()},
        gains=gains,
        losses=losses,
        p_net=looks.renewed(net.p_value, net.z, two_sided=True),
        retention=_number(dynamics.retention),
        discovery=_number(dynamics.discovery),
    )


def null_sizes(
    first: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]],
    second: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]],
    k: int,
    rng: np.random.Generator,
    replicates: int = stats.REPLICATES,
    looks: Looks = ONE_LOOK,
) -> tuple[NullSize, NullSize]:
    """Sizes of the gained and of the lost set, with tests of the null hypothesis that both runs are of one policy.

    ``first`` and ``second`` are (n_correct, n_samples), each (P,), with k <= n everywhere. The observed sizes are
    expectations over k-subsets of each run's rollouts: sum of q_first (1 - q_second) with q = C(n-c, k) / C(n, k),
    plain counts where n = k. Null hypothesis: every problem has the same solve rate in both runs, of any value. Then,
    given the pooled number correct, the number in the first run is hypergeometric, and no model of solve rates is
    needed. It is redrawn, and the p-value (1 + #{redrawn >= observed}) / (1 + replicates) is exact: for a policy
    compared with itself it is at most a with probability at most a. The expected size is sum of C(N-C, k)/C(N, k) -
    C(N-C, 2k)/C(N, 2k) over the pooled counts.

    That p-value is for one look. For any number of ``looks`` it is translated by its normal deviate. A size beyond all
    redrawn ones has the deviate of its exact tail (``stats.sums.upper_deviate``) if that is larger: the p-value is then
    not limited by the number of replicates.

    The test can detect a policy that solves a few more hard problems. But a gained set larger than under the null can
    be due to a higher solve rate as well as to new abilities. And the sets depend on few rollouts per problem at the
    margin, so a p-value that is not small is only weak evidence of no change. Rollouts must be independent given the
    problem.
    """
    (c1, n1), (c2, n2) = first, second
    pooled, total = c1 + c2, n1 + n2
    once = stats.failure_at_k(pooled, total, [k])[:, 0]
    neither = stats.failure_at_k(pooled, total, [2 * k])[:, 0]
    expected = float((once - neither).sum())
    open_ = (once > SETTLED) & (pooled > 0)
    observed = _sizes(c1, n1, c2, n2, k)
    c1, n1, n2, pooled = c1[open_], n1[open_], n2[open_], pooled[open_]
    redrawn = rng.hypergeometric(pooled, n1 + n2 - pooled, n1, size=(replicates, len(c1)))
    sizes = _sizes(redrawn, np.broadcast_to(n1, redrawn.shape), pooled - redrawn, np.broadcast_to(n2, redrawn.shape), k)
    tests = [_against(float(seen), chance, expected) for seen, chance in zip(observed, sizes, strict=True)]
    if looks.information is None:
        return tests[0], tests[1]
    p_values = [
        looks.renewed(test.p_value, _deviate(test, chance, terms))
        for test, chance, terms in zip(tests, sizes, _terms(pooled, n1, n2, k), strict=True)
    ]
    gains, losses = (msgspec.structs.replace(test, p_value=p) for test, p in zip(tests, p_values, strict=True))
    return gains, losses


def overlaps(ids: Sequence[str], runs: Sequence[RunCounts], k: int) -> list[Overlap]:
    """The problems grouped by the runs that solve them at budget k, largest group first; only groups with ids."""
    chance = np.stack([run.pass_table([k])[:, 0] for run in runs], axis=1)
    patterns, which = np.unique(chance > 0.5, axis=0, return_inverse=True)
    groups = [
        Overlap(
            solved_by=tuple(run.label for run, flag in zip(runs, pattern, strict=True) if flag),
            size=float(np.where(pattern, chance, 1 - chance).prod(axis=1).sum()),
            ids=_named(ids, which.ravel() == i),
        )
        for i, pattern in enumerate(patterns)
    ]
    return sorted(groups, key=lambda group: (-group.size, group.solved_by))


def _dynamics(first: npt.NDArray[np.float64], second: npt.NDArray[np.float64]) -> tuple[float, float, float, float]:
    """Expected numbers of problems solved by both, only the second, only the first, and neither run.

    ``first`` and ``second`` are the probabilities that each problem is solved, (P,).
    """
    sizes = (first * second, (1 - first) * second, first * (1 - second), (1 - first) * (1 - second))
    return tuple(float(size.sum()) for size in sizes)  # type: ignore[return-value]


def _sizes(
    c1: npt.NDArray[np.int64], n1: npt.NDArray[np.int64], c2: npt.NDArray[np.int64], n2: npt.NDArray[np.int64], k: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Expected numbers of gained and lost problems, summed over the last axis."""
    if not c1.size:
        empty = np.zeros(c1.shape[:-1])
        return empty, empty
    q1, q2 = (stats.failure_at_k(c.ravel(), n.ravel(), [k])[:, 0].reshape(c.shape) for c, n in ((c1, n1), (c2, n2)))
    return np.sum(q1 * (1 - q2), axis=-1), np.sum(q2 * (1 - q1), axis=-1)


def _against(observed: float, chance: npt.NDArray[np.float64], expected: float) -> NullSize:
    low, high = np.quantile(chance, [0.5 - stats.LEVEL / 2, 0.5 + stats.LEVEL / 2])
    p_value = (1 + int(np.sum(chance >= observed - ROUNDING))) / (1 + len(chance))
    return NullSize(observed=observed, expected=expected, low=float(low), high=float(high), p_value=p_value)


def _deviate(test: NullSize, chance: npt.NDArray[np.float64], terms: DiscreteSum) -> float:
    """The normal deviate of the test's p-value, or beyond all replicates that of the exact tail if it is larger."""
    deviate = -float(ndtri(test.p_value))
    beyond = bool((chance < test.observed - ROUNDING).all())
    return max(deviate, upper_deviate(terms, test.observed - ROUNDING)) if beyond else deviate


def _terms(
    pooled: npt.NDArray[np.int64], n1: npt.NDArray[np.int64], n2: npt.NDArray[np.int64], k: int
) -> tuple[DiscreteSum, DiscreteSum]:
    """Size of the gained and of the lost set under the null, as sums over problems: all ways to share out ``pooled``."""
    least, most = np.maximum(0, pooled - n2), np.minimum(pooled, n1)
    row = np.repeat(np.arange(pooled.size), most - least + 1)
    c1 = np.arange(row.size) - np.searchsorted(row, row) + least[row]
    n1, n2, pooled = n1[row], n2[row], pooled[row]
    c2 = pooled - c1
    log_weights = _log_choose(n1, c1) + _log_choose(n2, c2) - _log_choose(n1 + n2, pooled)
    gained, lost = _sizes(c1[:, None], n1[:, None], c2[:, None], n2[:, None], k)
    return DiscreteSum(row, gained, log_weights), DiscreteSum(row, lost, log_weights)


def _log_choose(n: npt.NDArray[np.int64], c: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    return np.asarray(-betaln(c + 1, n - c + 1) - np.log(n + 1))


def _named(ids: Sequence[str], mask: npt.NDArray[np.bool_]) -> tuple[str, ...]:
    return tuple(ids[i] for i in np.flatnonzero(mask))


def _number(value: npt.NDArray[np.float64]) -> float | None:
    return None if np.isnan(value[0]) else float(value[0])
