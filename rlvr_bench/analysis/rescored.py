"""A run's rollouts under another checkpoint, stored in the run: ``rescored/<model>/scores/*.parquet`` and a manifest.

A row has the values of one rollout under both checkpoints, so that it can be read without the run: ``own_*`` is the
checkpoint that drew it, ``other_*`` the one it was rescored under. Shards are append-only and checksummed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rlvr_bench.errors import RunError
from rlvr_bench.received import decode
from rlvr_bench.samplers.logprobs import Scored
from rlvr_bench.samplers.summary import summarise
from rlvr_bench.store import Run, Session, run_folder
from rlvr_bench.store.locks import lock_folder
from rlvr_bench.store.paths import inside, read_whole
from rlvr_bench.store.record_files import write_record
from rlvr_bench.store.run import TOKEN_COLUMNS
from rlvr_bench.store.shards import ShardFolder

__all__ = ["SCORE_SCHEMA", "Rescored", "ScoredTokens", "ScoringManifest", "StoredRollout", "stored_rollouts"]

SCHEMA = 1
SCORE_SCHEMA = pa.schema(
    [
        ("problem_id", pa.dictionary(pa.int32(), pa.string())),
        ("index", pa.int32()),
        ("text_hash", pa.int64()),
        ("n_tokens", pa.int32()),
        ("own_logprob_sum", pa.float64()),
        ("own_perplexity", pa.float64()),
        ("other_logprob_sum", pa.float64()),
        ("other_perplexity", pa.float64()),
        ("other_entropy_mean", pa.float32()),
        ("other_branching_mean", pa.float32()),
        ("token_ids", pa.list_(pa.int32())),
        ("own_logprob", pa.list_(pa.float32())),
        ("own_entropy", pa.list_(pa.float16())),
        ("own_nucleus", pa.list_(pa.int32())),
        ("other_logprob", pa.list_(pa.float32())),
        ("other_entropy", pa.list_(pa.float16())),
        ("other_nucleus", pa.list_(pa.int32())),
        ("kl", pa.list_(pa.float32())),
        ("kl_reverse", pa.list_(pa.float32())),
    ]
)
_ROLLOUT_COLUMNS = ("problem_id", "index", "text_hash", *TOKEN_COLUMNS)
_TOKEN_COLUMNS = ("own_logprob", "own_entropy", "own_nucleus", "other_logprob", "other_entropy", "other_nucleus")


class ScoringManifest(msgspec.Struct, frozen=True, kw_only=True):
    """How a run was rescored. Everything but ``model`` and ``sessions`` must agree before rows are added.

    ``drawn_by``: weights of the checkpoint that drew the run; ``divergence``: ``exact`` where both models scored the tokens
    together, ``sampled`` where the divergence is estimated from the drawn tokens.
    """

    schema: int
    model: str
    weights: str
    engine: str
    dtype: str
    divergence: str
    drawn_by: str
    sessions: tuple[Session, ...]

    def differing(self, other: ScoringManifest) -> dict[str, tuple[object, object]]:
        """The fields that must agree and differ in ``other``, as (mine, theirs)."""
        names = [name for name in self.__struct_fields__ if name not in ("model", "sessions")]
        pairs = {name: (getattr(self, name), getattr(other, name)) for name in names}
        return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


class StoredRollout(msgspec.Struct, frozen=True):
    """One rollout as drawn: its tokens, and their statistics under the checkpoint that drew it, each (T,)."""

    problem_id: str
    index: int
    text_hash: int
    ids: npt.NDArray[np.int32]
    logprob: npt.NDArray[np.float32]
    entropy: npt.NDArray[np.float16]
    nucleus: npt.NDArray[np.int32]


class ScoredTokens(msgspec.Struct, frozen=True, kw_only=True):
    """A shard of rescored rollouts as flat arrays over R rollouts and their T tokens, rollout by rollout.

    ``kl`` and ``kl_reverse`` (T,) are None where the divergence was not computed exactly.
    """

    problem: npt.NDArray[np.int32]
    index: npt.NDArray[np.int32]
    text_hash: npt.NDArray[np.int64]
    n_tokens: npt.NDArray[np.int32]
    ids: npt.NDArray[np.int32]
    own_logprob: npt.NDArray[np.float32]
    own_entropy: npt.NDArray[np.float16]
    own_nucleus: npt.NDArray[np.int32]
    other_logprob: npt.NDArray[np.float32]
    other_entropy: npt.NDArray[np.float16]
    other_nucleus: npt.NDArray[np.int32]
    kl: npt.NDArray[np.float32] | None = None
    kl_reverse: npt.NDArray[np.float32] | None = None

    def kept(self, rows: npt.NDArray[np.bool_]) -> ScoredTokens:
        """The marked rollouts, ``rows`` (R,), with their tokens."""
        tokens = np.repeat(rows, self.n_tokens)
        fields: dict[str, Any] = {}
        for name, value in msgspec.structs.asdict(self).items():
            of_rollout = name in ("problem", "index", "text_hash", "n_tokens")
            fields[name] = None if value is None else value[rows if of_rollout else tokens]
        return ScoredTokens(**fields)


class Rescored:
    """The folder of one rescoring. Inside ``with`` it is locked for writing."""

    def __init__(self, run: Run, model: str, divergence: str) -> None:
        name = run_folder(Path(), model, "task").parent.name  # the name of the folder of this model's runs
        self.run = run
        self.path = inside(run.path, "rescored", name if divergence == "sampled" else f"{name}-exact")
        self.shards = ShardFolder(inside(self.path, "scores"), SCORE_SCHEMA)
        self._problems = {problem.id: number for number, problem in enumerate(run.problems())}

    def agree(self, wanted: ScoringManifest) -> ScoringManifest:
        """Write and return the manifest with the new session. Raises RunError where the folder was scored differently."""
        file = self.path / "manifest.json"
        manifest = wanted
        if file.is_file():
            try:
                old = decode(read_whole(file), ScoringManifest)
            except (msgspec.DecodeError, msgspec.ValidationError) as error:
                raise RunError(f"{file}: not a manifest of a rescoring ({error}). Remove {self.path}.") from error
            if differing := old.differing(wanted):
                shown = "; ".join(f"{name}: has {old!r}, asked {new!r}" for name, (old, new) in differing.items())
                raise RunError(
                    f"{self.path} was scored differently ({shown}). Ask for the same, or remove that folder."
                )
            manifest = msgspec.structs.replace(old, sessions=(*old.sessions, *wanted.sessions))
        write_record(file, manifest)
        return manifest

    def __enter__(self) -> Self:
        """Raises RunLocked where another process rescores under the same checkpoint, StorageError."""
        self._lock = lock_folder(self.path)
        self.shards.set_aside_damaged()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._lock.release()

    def append(self, rows: Sequence[tuple[StoredRollout, Scored]]) -> None:
        """Write one shard."""
        if rows:
            self.shards.append(pa.Table.from_pylist([_row(*row) for row in rows], schema=SCORE_SCHEMA))

    def keys(self) -> npt.NDArray[np.int64]:
        """Keys of the rollouts scored so far, sorted; see ``keys_of``."""
        parts = [self.keys_of(table) for table in self.shards.read(["problem_id", "index", "text_hash"])]
        return np.unique(np.concatenate(parts)) if parts else np.zeros(0, dtype=np.int64)

    def keys_of(self, table: pa.Table) -> npt.NDArray[np.int64]:
        """A 64-bit key of problem, index and text for each row, (R,); -1 where the problem is unknown."""
        problem = self._numbers(table)
        with np.errstate(over="ignore"):  # multiplication by odd constants, modulo 2**64
            mixed = problem * np.int64(0x2545F4914F6CDD1D) + table["index"].to_numpy() * np.int64(0x5851F42D4C957F2D)
            keys = table["text_hash"].to_numpy() ^ mixed
        return np.where(problem < 0, np.int64(-1), keys)

    def tokens(self) -> Iterator[ScoredTokens]:
        """The stored values of each shard, without rollouts that the run no longer has with the same text."""
        live = [self.keys_of(table) for table in self.run.rollouts.read(["problem_id", "index", "text_hash"])]
        present = np.unique(np.concatenate(live)) if live else np.zeros(0, dtype=np.int64)
        for table in self.shards.read():
            yield _flat(table, self._numbers(table)).kept(np.isin(self.keys_of(table), present))

    def _numbers(self, table: pa.Table) -> npt.NDArray[np.int64]:
        names = table["problem_id"].combine_chunks()
        lookup = np.array([self._problems.get(name, -1) for name in names.dictionary.to_pylist()], dtype=np.int64)
        return lookup[names.indices.to_numpy()] if len(lookup) else np.zeros(0, dtype=np.int64)


def stored_rollouts(table: pa.Table) -> list[StoredRollout | None]:
    """Rows of a rollout shard (the columns of ``rollout_columns``); None for one without token ids."""
    names = table["problem_id"].to_pylist()
    plain = [table[name].to_numpy() for name in ("index", "text_hash")]
    lists = [_lists(table[name]) for name in TOKEN_COLUMNS]
    return [
        None if ids is None else StoredRollout(name, int(index), int(digest), ids, logprob, entropy, nucleus)
        for name, index, digest, ids, logprob, entropy, nucleus in zip(names, *plain, *lists, strict=True)
    ]


def rollout_columns() -> list[str]:
    """Columns of a rollout shard that ``stored_rollouts`` needs."""
    return list(_ROLLOUT_COLUMNS)


def _lists(column: pa.ChunkedArray) -> list[Any]:
    """The arrays of a list column, None for null."""
    array = column.combine_chunks()
    offsets, values = array.offsets.to_numpy(), array.values.to_numpy(zero_copy_only=False)
    valid = array.is_valid().to_numpy(zero_copy_only=False)
    return [values[a:b] if ok else None for a, b, ok in zip(offsets[:-1], offsets[1:], valid, strict=True)]


def _row(rollout: StoredRollout, scored: Scored) -> Mapping[str, object]:
    drawn, other = (summarise(side.logprob, side.entropy, side.nucleus) for side in (rollout, scored))
    n = len(rollout.ids)
    return {
        "problem_id": rollout.problem_id,
        "index": rollout.index,
        "text_hash": rollout.text_hash,
        "n_tokens": n,
        "own_logprob_sum": drawn.logprob_sum,
        "own_perplexity": np.exp(-drawn.logprob_sum / n) if n else None,
        "other_logprob_sum": other.logprob_sum,
        "other_perplexity": np.exp(-other.logprob_sum / n) if n else None,
        "other_entropy_mean": other.entropy_mean,
        "other_branching_mean": other.branching_mean,
        "token_ids": rollout.ids,
        "own_logprob": rollout.logprob,
        "own_entropy": rollout.entropy,
        "own_nucleus": rollout.nucleus,
        "other_logprob": scored.logprob,
        "other_entropy": scored.entropy.astype(np.float16),
        "other_nucleus": scored.nucleus,
        "kl": scored.kl,
        "kl_reverse": scored.kl_reverse,
    }


def _flat(table: pa.Table, problem: npt.NDArray[np.int64]) -> ScoredTokens:
    def values(name: str) -> Any:
        return table[name].combine_chunks().flatten().to_numpy(zero_copy_only=False)

    exact = table["kl"].null_count == 0
    return ScoredTokens(
        problem=problem.astype(np.int32),
        index=table["index"].to_numpy(),
        text_hash=table["text_hash"].to_numpy(),
        n_tokens=table["n_tokens"].to_numpy(),
        ids=values("token_ids"),
        **{name: values(name) for name in _TOKEN_COLUMNS},
        kl=values("kl") if exact else None,
        kl_reverse=values("kl_reverse") if exact else None,
    )
