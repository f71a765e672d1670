"""How often the verifier errs, by labels of a sample: by kind of verdict, and the rates of false positives and negatives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from scipy import special

from rlvr_bench import stats
from rlvr_bench.labelling.cells import CELLS, CLASSES, cell_of_rollouts
from rlvr_bench.measured_error import AuditCell
from rlvr_bench.records import Estimate, Outcomes
from rlvr_bench.stats.true_counts import Cell, ErrorRates, Side, draw_rates, point_rates

__all__ = ["TAIL", "audit_cells", "drawn_rates", "given_rate", "rate_estimates"]

TAIL = 0.5 - stats.LEVEL / 2
_DRAWS = 4000


def audit_cells(outcomes: Outcomes, known: Mapping[int, bool], chances: Mapping[int, float]) -> tuple[AuditCell, ...]:
    """The cells of ``CELLS`` that have rollouts, with the labels of sampled rollouts; the verdicts are the current ones."""
    cell, correct = cell_of_rollouts(outcomes), outcomes.is_correct
    rows = np.array(sorted(row for row in known if row in chances), dtype=np.int64)
    wrong = np.array([known[row] != correct[row] for row in rows.tolist()], dtype=bool)
    weights = 1 / np.array([chances[row] for row in rows.tolist()], dtype=np.float64)
    cells = []
    for number, kind in enumerate(CELLS):
        size, here = int((cell == number).sum()), cell[rows] == number
        if size:
            cells.append(_audit_cell(kind.name, size, weights[here], wrong[here]))
    return tuple(cells)


def _audit_cell(name: str, size: int, weights: npt.NDArray[np.float64], wrong: npt.NDArray[np.bool_]) -> AuditCell:
    labelled, misjudged = len(weights), int(wrong.sum())
    if not labelled:
        return AuditCell(name=name, rollouts=size, labelled=0, misjudged=0, effective=0.0, share=0.0, low=0.0, high=1.0)
    effective = float(weights.sum() ** 2 / (weights**2).sum())
    share = float(weights[wrong].sum() / weights.sum())
    hits = share * effective
    return AuditCell(
        name=name,
        rollouts=size,
        labelled=labelled,
        misjudged=misjudged,
        effective=effective,
        share=share,
        low=float(special.betaincinv(hits, effective - hits + 1, TAIL)) if hits > 0 else 0.0,
        high=float(special.betaincinv(hits + 1, effective - hits, 1 - TAIL)) if hits < effective else 1.0,
    )


def drawn_rates(cells: Sequence[AuditCell], side: Side | None, draws: int, rng: np.random.Generator) -> ErrorRates:
    """Draws of the rates on one side (``stats.true_counts.draw_rates``); for None the estimated rates in every draw."""
    kinds = {kind.name: kind for kind in CELLS}
    counted = [
        Cell(
            rollout_class=kinds[cell.name].rollout_class,
            is_correct=kinds[cell.name].is_correct,
            size=cell.rollouts,
            labelled=cell.labelled,
            misjudged=cell.misjudged,
            effective=cell.effective,
            share=cell.share,
        )
        for cell in cells
    ]
    if side is None:
        return point_rates(counted, len(CLASSES), draws)
    return draw_rates(counted, len(CLASSES), side, draws, rng)


def rate_estimates(cells: Sequence[AuditCell]) -> tuple[Estimate, ...]:
    """``false_positive_rate`` over all rollouts and by rarity of the answer, then ``false_negative_rate`` likewise."""
    rng = stats.fresh_rng(1)
    point, most, least = (drawn_rates(cells, side, _DRAWS, rng) for side in (None, "most", "least"))
    labels = sum(cell.labelled for cell in cells)
    sides = {"false_positive_rate": ("phi", least, most), "false_negative_rate": ("psi", most, least)}
    estimates = []
    for name, (short, lower, upper) in sides.items():
        value, low, high = (
            np.column_stack([getattr(rates, f"{short}_all"), getattr(rates, short)]) for rates in (point, lower, upper)
        )
        for i, group in enumerate((None, *CLASSES)):
            estimate = Estimate(
                name=name,
                value=float(value[0, i]),
                low=min(float(value[0, i]), float(np.quantile(low[:, i], TAIL))),
                high=max(float(value[0, i]), float(np.quantile(high[:, i], 1 - TAIL))),
                group=group,
                n_samples=labels,
                method="labels of a stratified sample, weighted; Clopper-Pearson by kind of verdict",
            )
            estimates.append(estimate)
    return tuple(estimates)


def given_rate(name: str, value: float) -> Estimate:
    """A rate that is taken as known."""
    return Estimate(name=name, value=value, low=value, high=value, method="given")
