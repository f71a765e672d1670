"""What a run has of the draw batches that are open: the tokens of every rollout so far, in ``growing/``.

A shard of rollouts and the state of the open batches at that moment belong together. If finished rollouts were stored and
the others drawn again from an earlier point, long responses would get a second chance to end early, and what is stored
would prefer short ones. So the state is written first and names the shard, the shard is written next, and the older state
is removed last. A reader takes the newest state whose shard exists: a kill at any moment leaves a shard and a state of the
same moment.

Where replicas draw, each writes shards and states of its own draw batches; its states have its name. The driver has a
state of what the replicas continue: the rollouts of earlier sessions and of lost replicas. A rollout may be in the driver's
state and in that of a replica, which got it from the driver, so that the replica has the later one. When a session begins,
all states become one of the driver. So no state of a replica is older than the session.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rlvr_bench.errors import RunError
from rlvr_bench.received import decode
from rlvr_bench.records import SavedRollout, SavedTurns, TokenArrays
from rlvr_bench.store.paths import inside, listed_in, remove, write_atomically
from rlvr_bench.store.shard_checks import LARGEST_INDEX
from rlvr_bench.store.shards import SHARD_SECONDS, ShardFolder, sparing_patience, writer_of

__all__ = ["GROWING_SCHEMA", "GrowingFolder", "SavePace"]

GROWING_SCHEMA = pa.schema(
    [
        ("problem_id", pa.dictionary(pa.int32(), pa.string())),
        ("index", pa.int32()),
        ("n_tokens", pa.int32()),
        ("ended", pa.dictionary(pa.int32(), pa.string())),
        ("token_ids", pa.list_(pa.int32())),
        ("token_logprob", pa.list_(pa.float32())),
        ("token_entropy", pa.list_(pa.float32())),
        ("token_nucleus", pa.list_(pa.int32())),
        ("with_shard", pa.dictionary(pa.int32(), pa.string())),
        ("turns", pa.large_string()),
        ("turn_ids", pa.list_(pa.int32())),
        ("turn_logprob", pa.list_(pa.float32())),
        ("turn_entropy", pa.list_(pa.float32())),
        ("turn_nucleus", pa.list_(pa.int32())),
    ]
)
_COLUMNS = ("token_logprob", "token_entropy", "token_nucleus")
_TURN_COLUMNS = ("turn_ids", "turn_logprob", "turn_entropy", "turn_nucleus")
_ENDS: dict[str | None, Literal["token", "string", "length"] | None] = {
    "token": "token",
    "string": "string",
    "length": "length",
    None: None,
}
_LARGEST_FILE = 2**32  # bytes: 1,024 rollouts of 128k tokens have half of this
_MOST_SECONDS = 60.0
_SHARE = 0.02  # of the session at most, for saving
_IS_CHOSEN = "RLVR_BENCH_SHARD_SECONDS" in os.environ  # then the interval is that of the user


class GrowingFolder:
    """The states of the open draw batches of one run, for the driver or, with ``writer``, for a replica."""

    def __init__(self, run: Path, largest: int = LARGEST_INDEX, writer: str = "") -> None:
        """``largest``: the largest allowed rollout index. Raises RunError where the folder is a link."""
        self._folder = ShardFolder(inside(run, "growing"), GROWING_SCHEMA, largest, writer)
        self._writer = writer
        self._written: list[Path] = []  # by this replica

    def read(self, shards: Collection[str]) -> list[SavedRollout]:
        """The rollouts of every writer's newest state whose shard is one of ``shards``; states of replicas become a part of
        the driver's.

        A damaged state is moved aside. Raises RunError where one has content that is not ours, StorageError.
        """
        files = self._folder.files()
        newest = self._newest(files, shards)
        rollouts = _each_once([newest.pop("", []), *newest.values()])
        if any(map(writer_of, files)):
            self.write(rollouts, None)
        return rollouts

    def take_over(self, writer: str, shards: Collection[str]) -> list[SavedRollout]:
        """The rollouts in the newest state of a lost replica, which becomes a part of the driver's. Raises as ``read``."""
        files = [file for file in self._folder.files() if writer_of(file) in ("", writer)]
        newest = self._newest(files, shards)
        rollouts = newest.get(writer, [])
        if rollouts:
            self._folder.append(_table(_each_once([newest.get("", []), rollouts]), ""))
        for file in files:
            if rollouts or writer_of(file):
                remove(file, missing_ok=True)
        return rollouts

    @property
    def is_empty(self) -> bool:
        """Whether there is no state. Raises StorageError."""
        return not self._folder.files()

    def write(self, rollouts: Sequence[SavedRollout], shard: tuple[Path, bytes] | None) -> None:
        """Write a shard (path and content) together with what the open batches have at the same moment.

        A replica replaces its states, the driver those of all. Raises StorageError; then the states and the shards from
        before are as they were.
        """
        older = self._written if self._writer else self._folder.files()
        self._written = [*older]
        if rollouts:
            self._written.append(self._folder.append(_table(rollouts, "" if shard is None else shard[0].name)))
        if shard is not None:
            write_atomically(*shard)
        for file in older:
            remove(file, missing_ok=True)  # when a session ends, the driver and its replicas remove the same states
            self._written.remove(file)

    def _newest(self, files: Sequence[Path], shards: Collection[str]) -> dict[str, list[SavedRollout]]:
        """The rollouts of every writer's newest state whose shard is one of ``shards``."""
        for listed in listed_in(self._folder.path, ".parquet"):
            if listed.size > _LARGEST_FILE:
                raise RunError(f"{listed.path}: {listed.size:,} bytes, more than a session writes. Remove it.")
        newest: dict[str, list[SavedRollout]] = {}
        for file, table in self._folder.sound(GROWING_SCHEMA.names, files):
            rollouts = [_saved(file, table, row) for row in range(table.num_rows)]
            if set(table["with_shard"].cast(pa.string()).to_pylist()) <= {"", *shards}:
                newest[writer_of(file)] = rollouts
        return newest


class SavePace:
    """When the state of the open draw batches is due to be written: every few seconds, at most 2 % of the time.

    The interval grows with the time that writing takes, and for storages with the session, but not above a minute.
    """

    def __init__(self, *, sparing: bool, clock: Callable[[], float] = time.monotonic) -> None:
        """``sparing``: each file is a request to a storage."""
        self._sparing, self._clock = sparing, clock
        self._began = self._last = clock()
        self._cost = 0.0

    @property
    def is_due(self) -> bool:
        return self.is_due_after(math.inf)

    def is_due_after(self, patience_s: float) -> bool:
        """Whether the state is due where something waits for it, for ``patience_s`` unless it costs too much."""
        now = self._clock()
        least = sparing_patience(now - self._began) if self._sparing else SHARD_SECONDS
        by_cost = 0.0 if _IS_CHOSEN else min(self._cost / _SHARE, _MOST_SECONDS)
        return now - self._last >= max(min(patience_s, least), by_cost)

    def saved(self, began: float) -> None:
        """Note that a state is written, which began at ``began`` by the clock."""
        self._last = self._clock()
        self._cost = self._last - began

    def now(self) -> float:
        """The time by the clock."""
        return self._clock()


def _each_once(states: Iterable[Sequence[SavedRollout]]) -> list[SavedRollout]:
    """The rollouts of several states; one that is in two of them is taken from the later one."""
    return list({(one.problem_id, one.index): one for state in states for one in state}.values())


def _table(rollouts: Sequence[SavedRollout], shard: str) -> pa.Table:
    rows = []
    for saved in rollouts:
        columns = dict(zip(_COLUMNS, saved.columns or (None, None, None), strict=True))
        turns = saved.turns
        rows.append(
            {
                "problem_id": saved.problem_id,
                "index": saved.index,
                "n_tokens": len(saved.ids) + (0 if turns is None else turns.n_tokens),
                "ended": saved.ended,
                "token_ids": saved.ids,
                "with_shard": shard,
                "turns": None if turns is None else _json(turns),
                **columns,
                **_turn_columns(saved.turn_tokens),
            }
        )
    return pa.Table.from_pylist(rows, schema=GROWING_SCHEMA)


def _json(turns: SavedTurns) -> str:
    """As JSON; a lone surrogate, which UTF-8 cannot encode, as its escape."""
    text, *blocks = (part.encode("utf-8", "backslashreplace").decode("utf-8") for part in (turns.text, *turns.blocks))
    return msgspec.json.encode(msgspec.structs.replace(turns, text=text, blocks=tuple(blocks))).decode()


def _turn_columns(tokens: TokenArrays | None) -> dict[str, npt.NDArray[Any]]:
    if tokens is None:
        return {}
    return dict(zip(_TURN_COLUMNS, (tokens.ids, tokens.logprob, tokens.entropy, tokens.nucleus), strict=True))


def _saved(file: Path, table: pa.Table, row: int) -> SavedRollout:
    """One row. Raises RunError where it is no rollout that an engine could have drawn so far."""
    ids, *columns = (_values(table[name][row]) for name in ("token_ids", *_COLUMNS))
    ended, n_tokens = table["ended"][row].as_py(), table["n_tokens"][row].as_py()
    wrong, turns, turn_tokens = _turns(table, row)
    earlier = 0 if turns is None else turns.n_tokens
    if wrong is None and ended not in _ENDS:
        wrong = f"unknown end {ended[:40]!r}"
    elif ids is None or not (len(ids) or turns) or len(ids) != n_tokens - earlier or not _are_ids(ids):
        wrong = wrong or "a rollout has no valid token ids"
    elif not (_are_statistics(columns, len(ids)) or all(values is None for values in columns)):
        wrong = wrong or "token statistics that these tokens cannot have"
    if wrong or ids is None:
        raise RunError(f"{file}: not a file of ours ({wrong}). Remove it: its rollouts are then drawn again.")
    logprob, entropy, nucleus = columns
    return SavedRollout(
        problem_id=str(table["problem_id"][row].as_py()),
        index=int(table["index"][row].as_py()),
        ids=ids,
        columns=None if logprob is None or entropy is None or nucleus is None else (logprob, entropy, nucleus),
        ended=_ENDS[ended],
        turns=turns,
        turn_tokens=turn_tokens,
    )


def _turns(table: pa.Table, row: int) -> tuple[str | None, SavedTurns | None, TokenArrays | None]:
    """What is wrong with the finished turns of a row, or None; the turns; and their tokens."""
    content = table["turns"][row].as_py()
    if content is None:
        return None, None, None
    try:
        turns = decode(content, SavedTurns)
    except (msgspec.DecodeError, RecursionError):
        return "turns that cannot be read", None, None
    values = [_values(table[name][row]) for name in _TURN_COLUMNS]
    ids, logprob, entropy, nucleus = values
    if ids is None or logprob is None or entropy is None or nucleus is None:
        return None, turns, None
    if len(ids) != turns.n_tokens or not _are_ids(ids) or not _are_statistics([logprob, entropy, nucleus], len(ids)):
        return "turns with tokens that they cannot have", None, None
    return None, turns, TokenArrays(ids=ids, logprob=logprob, entropy=entropy, nucleus=nucleus)


def _are_ids(values: npt.NDArray[Any]) -> bool:
    return not len(values) or (values.dtype.kind == "i" and int(values.min()) >= 0)


def _values(cell: pa.ListScalar) -> npt.NDArray[Any] | None:
    """The values of a list; one with an empty value has another dtype. None without a list."""
    return cell.values.to_numpy(zero_copy_only=False) if cell.is_valid else None


def _are_statistics(columns: Sequence[npt.NDArray[Any] | None], n: int) -> bool:
    """Whether these are log-probabilities, entropies and nucleus sizes of n tokens."""
    if any(values is None or len(values) != n or not np.isfinite(values).all() for values in columns):
        return False
    logprob, _, nucleus = columns
    return logprob is not None and nucleus is not None and bool((logprob <= 1e-3).all() and (nucleus >= 1).all())
