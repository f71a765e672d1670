"""Writing shards of a run from a replica, as long as its driver holds the run's lock."""

from __future__ import annotations

import socket
import uuid
from collections.abc import Sequence

import msgspec

from rlvr_bench.errors import StorageError
from rlvr_bench.records import Draw, Rollout
from rlvr_bench.scaling.messages import Target
from rlvr_bench.store.locks import owner_of
from rlvr_bench.store.paths import make_folder, write_atomically
from rlvr_bench.store.run import ROLLOUT_SCHEMA, rollout_table
from rlvr_bench.store.shards import Schedule, ShardFolder

__all__ = ["Recorder"]


class Recorder:
    """Writes shards of one run from this process."""

    def __init__(self, target: Target) -> None:
        """Check that the driver holds the run, and that this process can write to it. Raises StorageError."""
        self.schedule = Schedule(sparing=True)
        self._target = target
        self._shards = ShardFolder(target.path / "rollouts", ROLLOUT_SCHEMA)
        owner = owner_of(target.path)
        if owner is None or owner.token != target.token:
            raise StorageError(
                f"{socket.gethostname()} does not see the run in {target.path} that is drawn now: --out must be on a "
                "file system that all nodes share, or on object storage (s3://, gs://)"
            )
        make_folder(self._shards.path)
        probe = self._shards.path / f".probe-{uuid.uuid4().hex}"
        write_atomically(probe, b"")
        probe.unlink()

    def write(self, draws: Sequence[Draw]) -> tuple[str, list[Draw]]:
        """Write one shard; returns its name, and the draws without texts and tokens.

        Raises StorageError, also where another driver has taken over the run. That driver draws these batches again.
        """
        owner = owner_of(self._target.path)
        if owner is not None and owner.token != self._target.token:
            raise StorageError(f"{self._target.path}: another process draws this run now")
        shard = self._shards.append(rollout_table(draws)).name
        return shard, [msgspec.structs.replace(draw, rollouts=tuple(map(_bare, draw.rollouts))) for draw in draws]


def _bare(rollout: Rollout) -> Rollout:
    return Rollout(
        problem_id=rollout.problem_id,
        index=rollout.index,
        text="",
        n_tokens=rollout.n_tokens,
        finish_reason=rollout.finish_reason,
    )
