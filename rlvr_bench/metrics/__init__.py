"""The table of metrics: their meaning and unit, and where they are compared, gated and shown.

Leaderboards, ``check``, ``compare``, ``series``, the tables of the terminal, the report and the docs read it. A new metric
is a scorer in ``scorers/`` with a line in ``scorers/table.py``, and a row in ``metrics/table.py``; a chart is optional.
"""

from __future__ import annotations

from rlvr_bench.metrics.row import BoardColumn, Metric
from rlvr_bench.metrics.table import METRICS
from rlvr_bench.metrics.tokens import BRANCHING_FACTOR, TOKEN_ENTROPY

__all__ = ["BRANCHING_FACTOR", "METRICS", "TOKEN_ENTROPY", "BoardColumn", "Metric", "find_metric"]

_BY_NAME = {metric.name: metric for metric in METRICS}
_FORMER = {"effective_n": "distinct_texts"}  # names in scorecards of earlier versions


def find_metric(name: str) -> Metric | None:
    """The row of a metric by the name of its estimates, also a former name; None for an unknown metric.

    A metric of a later version is unknown.
    """
    return _BY_NAME.get(_FORMER.get(name, name))
