"""One run on many engines: replicas draw the batches and report them in any order; each batch is counted once.

Only ``cluster`` imports Ray, and only a run that asks for it imports ``cluster``.
"""

from rlvr_bench.scaling.dispatch import Dispatcher, Slots
from rlvr_bench.scaling.messages import Pool, Tally

__all__ = ["Dispatcher", "Pool", "Slots", "Tally"]
