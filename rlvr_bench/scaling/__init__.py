"""One run on many engines: replicas draw the batches and report them in any order; each batch is counted once.

Only ``cluster`` imports Ray, and only a run that asks for it imports ``cluster``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rlvr_bench.errors import EngineError
from rlvr_bench.scaling.dispatch import Dispatcher, Slots
from rlvr_bench.scaling.messages import Pool, Tally

if TYPE_CHECKING:
    from rlvr_bench.scaling.cluster import RayCluster

__all__ = ["Dispatcher", "Pool", "Slots", "Tally", "open_cluster"]


def open_cluster(address: str | None, replicas: int | None, gpus: int) -> RayCluster:
    """Connect to a Ray cluster. Raises the errors of ``RayCluster``, and EngineError where Ray is not installed."""
    try:
        from rlvr_bench.scaling.cluster import RayCluster
    except ImportError as error:
        raise EngineError("--replicas and --ray need Ray: pip install 'rlvr-bench[ray]'") from error
    return RayCluster(address, replicas, gpus)
