"""Writing shards of a run and states of its open draw batches from a replica, while its driver holds the run's lock."""

from __future__ import annotations

import socket
import uuid
from collections.abc import Sequence

import msgspec

from rlvr_bench.errors import StorageError
from rlvr_bench.records import Draw, Rollout, SavedRollout
from rlvr_bench.scaling.messages import Target
from rlvr_bench.store.growing import GrowingFolder, SavePace
from rlvr_bench.store.locks import owner_of
from rlvr_bench.store.paths import make_folder, write_atomically
from rlvr_bench.store.run import ROLLOUT_SCHEMA, rollout_table
from rlvr_bench.store.shards import Schedule, ShardFolder

__all__ = ["Recorder", "Unwritten"]


class Recorder:
    """Writes shards of one run, and states of its open draw batches, from this process."""

    def __init__(self, target: Target) -> None:
        """Check that the driver holds the run, and that this process can write to it. Raises StorageError."""
        self.schedule, self.pace = Schedule(sparing=True), SavePace(sparing=True)
        self._target = target
        self._growing = GrowingFolder(target.path, writer=target.writer)
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

    def write(
        self, draws: Sequence[Draw], state: Sequence[SavedRollout] | None = None
    ) -> tuple[str | None, list[Draw]]:
        """Write one shard; returns its name (None without draws), and the draws without texts and tokens.

        ``state``: what the open draws had when these were finished; both or neither survive a kill. Raises StorageError,
        also where another driver has taken over the run. That driver draws these batches again.
        """
        owner = owner_of(self._target.path)
        if owner is not None and owner.token != self._target.token:
            raise StorageError(f"{self._target.path}: another process draws this run now")
        began = self.pace.now()
        shard = self._shards.prepared(rollout_table(draws)) if draws else None
        if state is not None:
            self._growing.write(state, shard)
            self.pace.saved(began)
        elif shard is not None:
            write_atomically(*shard)
        bare = [msgspec.structs.replace(draw, rollouts=tuple(map(_bare, draw.rollouts))) for draw in draws]
        return (None if shard is None else shard[0].name), bare


class Unwritten:
    """What a replica has drawn and not written: its finished draws, and what the open ones had at one moment.

    Where the engine returns what its open draws have, finished draws wait for such a moment: a shard and the state of the
    open draws belong together (``store.growing``).
    """

    def __init__(self) -> None:
        self.is_growing = False  # whether the engine returns what its open draws have
        self._draws: list[Draw] = []
        self._moment: tuple[int, Sequence[SavedRollout]] | None = None  # draws finished until then, and the open ones

    def add(self, draw: Draw) -> None:
        """Add a finished draw."""
        self._draws.append(draw)

    def mark(self, state: Sequence[SavedRollout]) -> None:
        """Set the moment to now: ``state`` is what the open draws have."""
        self._moment = len(self._draws), state

    @property
    def is_marked(self) -> bool:
        """Whether there is a moment that is not written."""
        return self._moment is not None

    @property
    def rollouts(self) -> int:
        """Number of rollouts that are not written."""
        return sum(len(draw.rollouts) for draw in self._draws)

    def take(self, *, is_idle: bool) -> tuple[list[Draw], Sequence[SavedRollout] | None]:
        """The draws that may be written now, and the state that goes with them; None where the engine has none.

        ``is_idle``: no draw is open.
        """
        if is_idle or not self.is_growing:
            self.mark(())
        if self._moment is None:
            return [], None
        (count, state), self._moment = self._moment, None
        draws, self._draws = self._draws[:count], self._draws[count:]
        return draws, state if self.is_growing else None


def _bare(rollout: Rollout) -> Rollout:
    return Rollout(
        problem_id=rollout.problem_id,
        index=rollout.index,
        text="",
        n_tokens=rollout.n_tokens,
        finish_reason=rollout.finish_reason,
    )
