"""The distance of a checkpoint from its base, from the rescorings next to its scorecard."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from rlvr_bench.analysis.shift_results import Rescoring
from rlvr_bench.analysis.stored_results import read_rescorings
from rlvr_bench.leaderboards.columns import Cell, Row
from rlvr_bench.leaderboards.entries import cells_of
from rlvr_bench.scorecard import Scorecard

__all__ = ["shift_cells"]

THRESHOLD = 0.1  # a column has one meaning: shares with another threshold are left out


def shift_cells(file: Path, card: Scorecard, base: Cell) -> Row:
    """The cells ``kl_to``, ``kl`` and ``moved_share`` of a scorecard; none if it is not in a run folder.

    If there are several rescorings, the one under ``base`` is used, else the only one under another checkpoint. The
    divergence is the exact one or, if the tokens were sampled from the model's unmodified distribution (temperature 1,
    no cut, no penalty), the mean log ratio; otherwise there is none. Raises RunError where a rescoring's file is
    damaged.
    """
    rescoring = _chosen(read_rescorings(file.parent).values(), base) if file.name == "scorecard.json" else None
    if rescoring is None:
        return {}
    estimates = {item.name: item for item in rescoring.estimates if item.group is None}
    drawn = card.run.sampling
    own_law = drawn is not None and drawn.is_own_law
    divergence = estimates.get("kl") or (estimates.get("kl_k1") if own_law else None)
    moved = estimates.get("moved_share") if rescoring.threshold == THRESHOLD else None
    return {"kl_to": rescoring.other.model, **cells_of("kl", divergence), **cells_of("moved_share", moved)}


def _chosen(rescorings: Collection[Rescoring], base: Cell) -> Rescoring | None:
    others = [rescoring for rescoring in rescorings if rescoring.other.weights != rescoring.own.weights]
    under_base = [rescoring for rescoring in others if rescoring.other.model == base]
    candidates = under_base or others
    if len({rescoring.other.weights for rescoring in candidates}) != 1:
        return None
    return max(candidates, key=lambda rescoring: (rescoring.divergence == "exact", rescoring.n_tokens))
