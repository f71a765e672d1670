"""The same run on many engines: draw batches go out to replicas and come back in any order, each counted once.

Only ``cluster`` imports Ray, and only a run that asks for it imports ``cluster``.
"""

from rlvr_bench.scaling.dispatch import Dispatcher, Slots
from rlvr_bench.scaling.messages import Pool, Tally

__all__ = ["Dispatcher", "Pool", "Slots", "Tally"]
