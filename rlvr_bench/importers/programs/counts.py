"""A CSV file with the columns ``problem_id``, ``n`` (rollouts of the problem) and ``c`` (correct ones).

A column ``cluster`` groups problems that are not independent: of one paper, one subject, one template.
"""

from __future__ import annotations

from rlvr_bench.importers.entries import Glimpse
from rlvr_bench.importers.mapped import mapped_format
from rlvr_bench.importers.mapping import FieldMapping

__all__ = ["CLUSTER", "COLUMNS", "FORMAT"]

COLUMNS = ("problem_id", "n", "c")
CLUSTER = "cluster"


def _fits(seen: Glimpse) -> bool:
    return seen.kind == "text" and seen.names.issuperset(COLUMNS)


FORMAT = mapped_format(FieldMapping.parse("problem=problem_id,n=n,c=c,cluster?=cluster"), name="counts", fits=_fits)
