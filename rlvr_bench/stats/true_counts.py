"""The true numbers of correct rollouts, where the verifier errs: P problems, A classes of rollouts, S cells, D draws.

A verifier calls a truly wrong rollout correct with probability phi (false positive), and a truly right one not correct
with probability psi (false negative). Both are estimated from rollouts whose truth somebody has labelled, and the true
counts are then imputed (Rubin 1987): an estimator of true counts is computed on each imputation.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
from scipy.special import ndtri

from rlvr_bench.errors import BadArgument

if TYPE_CHECKING:
    import numpy.typing as npt
    from jaxtyping import Float64, Int64

__all__ = ["Cell", "ErrorRates", "Side", "draw_rates", "draw_true_counts", "mixture_quantile", "point_rates"]

Side = Literal["least", "most"]

_ITERATIONS = 60
_GRID = (40, 160)  # fewest and most solve rates of the mixture
_IMPOSSIBLE = -1e5  # log-probability of what a rate of 0 or 1 excludes
_MARKS = ndtri((np.arange(999) + 0.5) / 999)


@dataclasses.dataclass(frozen=True)
class Cell:
    """A cell of the audit: ``size`` rollouts of one class, all called correct or all not, of which some are labelled.

    ``labelled`` and ``misjudged`` count labelled rollouts, the second those whose verdict is wrong. ``effective`` is the
    number of equally likely labels that the sample is worth (Kish 1965), and ``share`` the estimated share of misjudged
    rollouts among those without a label.
    """

    rollout_class: int
    is_correct: bool
    size: int
    labelled: int
    misjudged: int
    effective: float
    share: float


@dataclasses.dataclass(frozen=True)
class ErrorRates:
    """Rates of false positives ``phi`` and false negatives ``psi`` for each draw and class, (D, A), and over all classes,
    ``phi_all`` and ``psi_all`` (D,).
    """

    phi: Float64[np.ndarray, "D A"]
    psi: Float64[np.ndarray, "D A"]
    phi_all: Float64[np.ndarray, " D"]
    psi_all: Float64[np.ndarray, " D"]

    @classmethod
    def fixed(cls, phi: float, psi: float, classes: int, draws: int) -> ErrorRates:
        """Rates that are known, the same in every draw. Raises ``BadArgument`` unless phi + psi < 1, both at least 0."""
        if not (phi >= 0 and psi >= 0 and phi + psi < 1):
            raise BadArgument("verifier error", [phi, psi], "must be two rates of at least 0 with a sum below 1")
        per_class = np.ones((draws, classes))
        return cls(phi * per_class, psi * per_class, np.full(draws, phi), np.full(draws, psi))


def point_rates(cells: Sequence[Cell], classes: int, draws: int) -> ErrorRates:
    """The estimated rates, the same in every draw: 0 where no label contradicts a verdict."""
    misjudged = np.array([[cell.misjudged + (cell.size - cell.labelled) * cell.share for cell in cells]])
    return _rates(cells, classes, np.repeat(misjudged, draws, axis=0))


def draw_rates(
    cells: Sequence[Cell], classes: int, false_positives: Side, draws: int, rng: np.random.Generator
) -> ErrorRates:
    """Draws of the rates from confidence distributions: with the ``most`` false positives and the fewest false
    negatives that the labels allow, or with the ``least`` and the most.

    A cell's share of misjudged rollouts is drawn from Beta(x + 1, m - x) for the most, Beta(x, m - x + 1) for the least:
    the quantiles of these two are the Clopper-Pearson limits. The rates are then drawn likewise around the shares, as the
    rollouts are a sample too.
    """
    misjudged = np.empty((draws, len(cells)))
    for column, cell in enumerate(cells):
        wants_most = (false_positives == "most") == cell.is_correct
        share = _beta(cell.share * cell.effective, (1 - cell.share) * cell.effective, wants_most, draws, rng)
        misjudged[:, column] = cell.misjudged + (cell.size - cell.labelled) * share
    return _rates(cells, classes, misjudged, false_positives, rng)


def _beta(
    hits: npt.ArrayLike, misses: npt.ArrayLike, wants_most: bool, draws: int, rng: np.random.Generator
) -> Float64[np.ndarray, " D"]:
    """Draws of a rate whose upper (``wants_most``) or lower quantiles are the Clopper-Pearson limits."""
    tiny = 1e-9  # Beta(0, 1) is 0
    first, second = np.asarray(hits, float), np.asarray(misses, float)
    return rng.beta(np.maximum(first + wants_most, tiny), np.maximum(second + (not wants_most), tiny), size=(draws,))


def _rates(
    cells: Sequence[Cell],
    classes: int,
    misjudged: Float64[np.ndarray, "D S"],
    false_positives: Side | None = None,
    rng: np.random.Generator | None = None,
) -> ErrorRates:
    """Rates from the numbers of misjudged rollouts of each cell; with ``rng``, drawn around these."""
    counts = np.zeros((2, 2, len(misjudged), classes))  # truly right or not, by called correct or not
    for column, cell in enumerate(cells):
        verdict, wrong = int(cell.is_correct), misjudged[:, column]
        counts[verdict, verdict, :, cell.rollout_class] += cell.size - wrong
        counts[1 - verdict, verdict, :, cell.rollout_class] += wrong
    phi, psi = (_rate(counts[truth, 1 - truth], counts[truth, truth]) for truth in (0, 1))
    whole = counts.sum(axis=3)
    phi_all, psi_all = (_rate(whole[truth, 1 - truth], whole[truth, truth]) for truth in (0, 1))
    if rng is not None:
        most = false_positives == "most"
        phi, psi = (
            np.column_stack(
                [_beta(counts[t, 1 - t, :, a], counts[t, t, :, a], up, len(misjudged), rng) for a in range(classes)]
            )
            for t, up in ((0, most), (1, not most))
        )
        phi_all, psi_all = (
            _beta(whole[t, 1 - t], whole[t, t], up, len(misjudged), rng) for t, up in ((0, most), (1, not most))
        )
    return ErrorRates(phi, psi, phi_all, psi_all)


def _rate(errors: npt.NDArray[np.float64], others: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.divide(errors, errors + others, out=np.zeros_like(errors), where=errors > 0)


def draw_true_counts(
    seen: Int64[np.ndarray, "P A 6"], rates: ErrorRates, rng: np.random.Generator
) -> Int64[np.ndarray, "D P"]:
    """True numbers of correct rollouts of each problem, one imputation for each draw of the rates.

    ``seen`` counts the rollouts of each problem and class: without a label called correct, and not; labelled right and
    called correct, labelled wrong and called correct, labelled right and called not correct, labelled wrong and called
    not correct. Of a class, a problem's true rate p is unknown; its law over problems is a mixture on a fixed grid,
    fitted to all problems by EM (Laird 1978), with random weights of the problems (Rubin 1981) for the error of the fit.
    A rollout called correct is then truly right with probability p (1 - psi) / (p (1 - psi) + (1 - p) phi), one called
    not correct with p psi / (p psi + (1 - p) (1 - phi)), p drawn from the problem's posterior. With phi = psi = 0 every
    imputation is the number called correct. Labels are kept as they are. Rollouts must err independently, given their
    truth, problem and class.
    """
    totals = np.zeros((len(rates.phi), len(seen)), dtype=np.int64)
    for number in range(seen.shape[1]):
        counts = seen[:, number]
        rows, row = np.unique(counts, axis=0, return_inverse=True)
        grid = _grid(int(counts.sum(axis=1).max(initial=1)))
        weights = rng.exponential(size=(len(rates.phi), len(seen)))
        for draw, (phi, psi) in enumerate(zip(rates.phi[:, number], rates.psi[:, number], strict=True)):
            logs = _log_chances(grid, phi, psi)
            multiplicity = np.bincount(row.ravel(), weights=weights[draw], minlength=len(rows))
            posterior = _posterior(rows @ logs.T, multiplicity)[row.ravel()]
            totals[draw] += counts[:, 2] + counts[:, 4] + _imputed(counts, _pick(posterior, rng), logs, rng)
    return totals


def _grid(n: int) -> Float64[np.ndarray, " G"]:
    """Solve rates from 0 to 1 that are at most one standard error of n rollouts apart."""
    points = int(np.clip(np.pi * np.sqrt(n), *_GRID))
    return np.asarray(np.sin(np.linspace(0, np.pi / 2, points)) ** 2)


def _log_chances(grid: Float64[np.ndarray, " G"], phi: float, psi: float) -> Float64[np.ndarray, "G 6"]:
    """Log-probability of each kind of rollout at each solve rate, in the order of ``seen``."""
    right, missed, accepted, wrong = grid * (1 - psi), grid * psi, (1 - grid) * phi, (1 - grid) * (1 - phi)
    chances = np.stack([right + accepted, missed + wrong, right, accepted, missed, wrong], axis=1)
    return np.log(chances, out=np.full_like(chances, _IMPOSSIBLE), where=chances > 0)


def _posterior(
    log_likelihood: Float64[np.ndarray, "R G"], multiplicity: Float64[np.ndarray, " R"]
) -> Float64[np.ndarray, "R G"]:
    likelihood = np.exp(log_likelihood - log_likelihood.max(axis=1, keepdims=True))
    mixture = np.full(likelihood.shape[1], 1 / likelihood.shape[1])
    share = multiplicity / multiplicity.sum()
    for _ in range(_ITERATIONS):
        mixture = mixture * ((share / (likelihood @ mixture)) @ likelihood)
    posterior = likelihood * mixture
    return np.asarray(posterior / posterior.sum(axis=1, keepdims=True))


def _pick(posterior: Float64[np.ndarray, "P G"], rng: np.random.Generator) -> Int64[np.ndarray, " P"]:
    """The number of one solve rate for each problem, drawn from its posterior."""
    below = posterior.cumsum(axis=1) < rng.random((len(posterior), 1))
    return np.asarray(np.minimum(below.sum(axis=1), posterior.shape[1] - 1))


def _imputed(
    counts: Int64[np.ndarray, "P 6"],
    picked: Int64[np.ndarray, " P"],
    logs: Float64[np.ndarray, "G 6"],
    rng: np.random.Generator,
) -> Int64[np.ndarray, " P"]:
    """Truly right rollouts among those without a label."""
    chance = np.exp(np.minimum(logs[:, [2, 4]] - logs[:, [0, 1]], 0.0))
    return np.asarray(rng.binomial(counts[:, :2], chance[picked]).sum(axis=1))


def mixture_quantile(
    value: Float64[np.ndarray, "D K"],
    low: Float64[np.ndarray, "D K"],
    high: Float64[np.ndarray, "D K"],
    quantile: float,
    level: float,
) -> Float64[np.ndarray, " K"]:
    """Quantile of D estimates with intervals at ``level``, each taken as two half normal laws that meet at its value."""
    steps = _MARKS / ndtri(0.5 + level / 2)
    reach = np.where(steps[:, None, None] < 0, value - low, high - value)
    spread = value + steps[:, None, None] * reach
    return np.asarray(np.quantile(spread.reshape(-1, value.shape[1]), quantile, axis=0))
