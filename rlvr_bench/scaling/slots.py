"""The number of engines that may be open at once, shared fairly by the checkpoints of a job."""

from __future__ import annotations

import math
import threading

from rlvr_bench.errors import EngineError

__all__ = ["Slots"]


class Slots:
    """Every checkpoint gets one engine before any gets two. A checkpoint that ends frees its engines for the others."""

    def __init__(self, total: int, checkpoints: int = 1) -> None:
        """``total`` engines for ``checkpoints``, which call ``leave`` when they end."""
        self.total = total
        self._free = total
        self._left = self._unserved = checkpoints
        self._stopped = False
        self._change = threading.Condition()

    def first(self) -> None:
        """Wait for a checkpoint's first engine. Raises EngineError where the job is stopped before."""
        with self._change:
            self._change.wait_for(lambda: self._free > 0 or self._stopped)
            self.check()
            self._free -= 1
            self._unserved -= 1

    def more(self, held: int) -> bool:
        """Take one more engine if ``held`` is below the fair share and no checkpoint waits for its first one."""
        with self._change:
            share = math.ceil(self.total / max(1, min(self._left, self.total)))
            if held >= share or self._free <= self._unserved:
                return False
            self._free -= 1
            return True

    def release(self, held: int) -> None:
        """Return the engines of a checkpoint."""
        with self._change:
            self._free += held
            self._unserved += 1
            self._change.notify_all()

    def leave(self) -> None:
        """Record that a checkpoint without engines has ended: the others get its share."""
        with self._change:
            self._left -= 1
            self._unserved -= 1
            self._change.notify_all()

    def stop(self) -> None:
        """Stop the job: all that draw or wait raise EngineError."""
        with self._change:
            self._stopped = True
            self._change.notify_all()

    def check(self) -> None:
        """Raises EngineError where the job was stopped."""
        if self._stopped:
            raise EngineError("stopped")
