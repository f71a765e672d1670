"""The run folder with the cut responses of another run: ``<run>/caps/tokens-2048`` or ``<run>/caps/calls-4``.

It is a run like any other: its manifest has the smaller budget, so everything that reads runs reads it. It holds a shard
for each shard of the other run, and ``sources.json`` says which, so that a top-up adds shards and nothing is cut twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rlvr_bench.capping.cutting import Cutter, cut_table
from rlvr_bench.manifest import Manifest
from rlvr_bench.records import CutBy
from rlvr_bench.store.locks import lock_folder
from rlvr_bench.store.outcomes import record_stopping, stopped_on
from rlvr_bench.store.paths import inside, read_whole, remove, write_atomically
from rlvr_bench.store.record_files import record_if_there, write_record
from rlvr_bench.store.run import ROLLOUT_SCHEMA, Run
from rlvr_bench.store.shards import ShardFolder
from rlvr_bench.store.verdicts import VERDICT_SCHEMA, Grading, VerdictRow, Verdicts, keyed_hashes
from rlvr_bench.verifiers import Verifier

__all__ = ["CAPS", "capped_path", "cut_run", "known_verdicts"]

CAPS = "caps"
UNCUT = "uncut-"  # begins the name of the folder with the verdicts that a stopping rule looked at
_REMEDY = "Delete this folder and run the same command again."


class Sources(msgspec.Struct, frozen=True, kw_only=True):
    """Which shard was made from which shard of the run. ``doubtful`` and ``by``: those of the shards so far."""

    shards: dict[str, str] = {}
    doubtful: int = 0
    by: tuple[str, ...] = ()
    keeps_statistics: bool = False


def capped_path(run: Run, name: str) -> Path:
    """The folder of the cut responses. Raises RunError where a link is in the way."""
    return inside(run.path, CAPS, name)


def cut_run(
    run: Run, name: str, manifest: Manifest, cutter: Cutter, grading: Grading, *, keeps_statistics: bool
) -> Run:
    """Cut the rollouts of ``run`` that were not cut before, into ``caps/<name>``; returns the run of the cut rollouts.

    ``manifest``: that of ``run`` with the smaller budget. Verdicts on responses that were not cut are taken over from
    ``grading``. Raises RunLocked, StorageError, RunError where a rollout cannot be cut.
    """
    path = capped_path(run, name)
    with lock_folder(path):
        capped = Run(path, manifest)
        write_atomically(path / "problems.jsonl", read_whole(run.path / "problems.jsonl"))
        done = _sound_sources(run, capped, keeps_statistics=keeps_statistics)
        cutter.doubtful, cutter.by = done.doubtful, set(done.by)
        shards, fresh = dict(done.shards), []
        for file, table in run.rollouts.read_named(ROLLOUT_SCHEMA.names, _left(run, shards)):
            made = capped.rollouts.append(cut_table(table, cutter, keeps_statistics=keeps_statistics))
            shards[file.name] = made.name
            fresh.append(made)
        _take_verdicts(run, capped, grading, fresh)
        assert manifest.cap is not None
        counted = msgspec.structs.replace(manifest.cap, doubtful=cutter.doubtful, by=_way(cutter.by))
        capped = Run(path, msgspec.structs.replace(manifest, cap=counted))
        write_record(path / "manifest.json", capped.manifest)
        ways = tuple(sorted(cutter.by))
        record = Sources(shards=shards, doubtful=cutter.doubtful, by=ways, keeps_statistics=keeps_statistics)
        write_record(path / "sources.json", record)  # last: without it, what a killed session wrote is made again
    return capped


def _way(by: set[str]) -> CutBy:
    if len(by) == 2:
        return "token ids and tokenizer"
    way: CutBy = msgspec.convert(next(iter(by), "nothing"), CutBy)
    return way


def _left(run: Run, done: Mapping[str, str]) -> list[Path]:
    return [file for file in run.rollouts.files() if file.name not in done]


def _sound_sources(run: Run, capped: Run, *, keeps_statistics: bool) -> Sources:
    """What was cut before; nothing, and the shards are deleted, where the run no longer has a shard, or it was cut
    differently.
    """
    done = record_if_there(capped.path / "sources.json", Sources, _REMEDY) or Sources()
    theirs, ours = ({file.name: file for file in shards.files()} for shards in (run.rollouts, capped.rollouts))
    is_sound = set(done.shards) <= set(theirs) and set(done.shards.values()) <= set(ours)
    if not is_sound or done.keeps_statistics != keeps_statistics:
        done = Sources()
    for name, file in ours.items():
        if name not in done.shards.values():  # a killed session wrote it, or it is out of date
            remove(file)
    return done


def _take_verdicts(run: Run, capped: Run, grading: Grading, fresh: Sequence[Path]) -> None:
    """Take over the verdicts on responses that are unchanged, for the shards ``fresh``.

    Under a stopping rule also those that it looked at, on the uncut responses, as verdicts that are not in force.
    """
    ids: dict[str, int] = {}
    after = _hashes(capped, ids, fresh)
    unchanged = ShardFolder(inside(capped.path, "verdicts", grading.folder), VERDICT_SCHEMA, capped.largest_index)
    for table, verdict_hash, at, is_known in _matched(run, grading.folder, ids, after):
        _append(unchanged, table, is_known & (after.hashes[at] == verdict_hash), verdict_hash)
    if run.manifest.stopping is None:
        return
    looked_at = stopped_on(run) or grading.folder
    record_stopping(capped, UNCUT + looked_at)
    before = _hashes(run, ids)
    uncut = ShardFolder(inside(capped.path, "verdicts", UNCUT + looked_at), VERDICT_SCHEMA, capped.largest_index)
    for table, verdict_hash, at, is_known in _matched(run, looked_at, ids, after):
        drawn = before.hashes[np.minimum(np.searchsorted(before.keys, after.keys[at]), len(before.keys) - 1)]
        _append(uncut, table, is_known & (drawn == verdict_hash), after.hashes[at])


class _Hashes(NamedTuple):
    """Rollouts, as sorted numbers of problem and index, and the hashes of their texts, both (R,)."""

    keys: npt.NDArray[np.int64]
    hashes: npt.NDArray[np.int64]


def _hashes(run: Run, ids: dict[str, int], files: Sequence[Path] | None = None) -> _Hashes:
    empty = np.empty(0, np.int64)
    parts = [keyed_hashes(table, ids) for table in run.rollouts.read(["problem_id", "index", "text_hash"], files)]
    keys, hashes = map(np.concatenate, zip((empty, empty), *parts, strict=True))
    order = np.argsort(keys)
    return _Hashes(keys[order], hashes[order])


def _matched(
    run: Run, folder: str, ids: dict[str, int], known: _Hashes
) -> Iterator[tuple[pa.Table, npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.bool_]]]:
    """The verdicts in a folder of the run, by shard: the hash of their text, their places in ``known``, if they are there."""
    shards = ShardFolder(inside(run.path, "verdicts", folder), VERDICT_SCHEMA, run.largest_index)
    for table in shards.read(VERDICT_SCHEMA.names) if len(known.keys) else ():
        keys, verdict_hash = keyed_hashes(table, ids)
        at = np.minimum(np.searchsorted(known.keys, keys), len(known.keys) - 1)
        yield table, verdict_hash, at, known.keys[at] == keys


def _append(
    shards: ShardFolder, table: pa.Table, chosen: npt.NDArray[np.bool_], text_hash: npt.NDArray[np.int64]
) -> None:
    if chosen.any():
        column = table.column_names.index("text_hash")
        shards.append(table.set_column(column, "text_hash", pa.array(text_hash)).filter(pa.array(chosen)))


def known_verdicts(run: Run, verifier: Verifier) -> Iterator[VerdictRow]:
    """The verdicts of this verifier on the responses of a run, uncut and at all caps."""
    caps = inside(run.path, CAPS)
    names = [child.name for child in caps.iterdir() if (child / "manifest.json").is_file()] if caps.is_dir() else []
    for path in (run.path, *(inside(caps, name) for name in sorted(names))):
        yield from Verdicts(Run(path, run.manifest), verifier.name, verifier.version, verifier.options).rows()
