"""The table of metrics: what each means, its unit, and where it may be compared, gated and shown.

Leaderboards, ``check``, ``compare``, ``series``, the tables of the terminal, the report and the docs read it. A new metric
is a scorer and a row in ``metrics/table.py`` (and a chart in the report where it wants one of its own).
"""

from __future__ import annotations

from rlvr_bench.metrics.row import BoardColumn, Metric
from rlvr_bench.metrics.table import METRICS

__all__ = ["METRICS", "BoardColumn", "Metric", "find_metric"]

_BY_NAME = {metric.name: metric for metric in METRICS}
_FORMER = {"effective_n": "distinct_texts"}  # names in scorecards of earlier versions


def find_metric(name: str) -> Metric | None:
    """The row of a metric by the name of its estimates, a former one too; None for one of a later version."""
    return _BY_NAME.get(_FORMER.get(name, name))
