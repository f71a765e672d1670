"""Verdicts beside their rollouts: one folder per verifier version and options, so that a regrade never mixes with the old."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rlvr_bench.errors import RunError
from rlvr_bench.records import STATUSES, Verdict
from rlvr_bench.store.places import read_if_there, write_atomically
from rlvr_bench.store.run import Run
from rlvr_bench.store.shards import ShardFolder
from rlvr_bench.text_rules import RULES_VERSION, TextFlags

__all__ = ["VERDICT_SCHEMA", "Grading", "VerdictRow", "Verdicts", "check_folder_name", "current_grading"]

VERDICT_SCHEMA = pa.schema(
    [
        ("problem_id", pa.dictionary(pa.int32(), pa.string())),
        ("index", pa.int32()),
        ("text_hash", pa.int64()),
        ("status", pa.dictionary(pa.int32(), pa.string())),
        ("answer", pa.large_string()),
        ("kind", pa.dictionary(pa.int32(), pa.string())),
        ("candidates", pa.int32()),
        ("format_violation", pa.bool_()),
        ("repetition", pa.bool_()),
        ("language_mixing", pa.bool_()),
        ("verifier", pa.dictionary(pa.int32(), pa.string())),
        ("version", pa.dictionary(pa.int32(), pa.string())),
    ]
)


class VerdictRow(msgspec.Struct, frozen=True):
    """One rollout's verdict as stored; ``text_hash`` ties it to the very response it was given for.

    ``candidates`` is None where another program gave the verdict. ``flags``: signs of low-quality text; not read back by
    ``Verdicts.rows``.
    """

    problem_id: str
    index: int
    text_hash: int
    verdict: Verdict
    candidates: int | None
    flags: TextFlags | None = None


class Grading(msgspec.Struct, frozen=True, kw_only=True):
    """Which verdicts are in force: of how many ``distinct`` answers, put in force by a pass of so many ``seconds``.

    What was verified while rollouts were still being drawn is not in the seconds.
    """

    verifier: str
    version: str
    options: dict[str, Any]
    folder: str
    rollouts: int
    distinct: int
    seconds: float
    statuses: dict[str, int]
    text_rules: str = RULES_VERSION


class Verdicts:
    """The verdicts of one verifier version on one run."""

    def __init__(self, run: Run, name: str, version: str, options: Mapping[str, Any]) -> None:
        identity = json.dumps([name, version, dict(options)], sort_keys=True)
        self.run = run
        self.name, self.version, self.options = name, version, dict(options)
        self.folder = f"{name}-{hashlib.sha256(identity.encode()).hexdigest()[:8]}"
        self.shards = ShardFolder(run.path / "verdicts" / self.folder, VERDICT_SCHEMA, run.largest_index)

    def append(self, rows: Sequence[VerdictRow]) -> None:
        """Write one shard of verdicts."""
        if rows:
            self.shards.append(pa.Table.from_pylist([self._row(row) for row in rows], schema=VERDICT_SCHEMA))

    def rows(self) -> Iterator[VerdictRow]:
        """Every stored verdict, in the order written."""
        for table in self.shards.read(["problem_id", "index", "text_hash", "status", "answer", "kind", "candidates"]):
            for problem_id, index, text_hash, status, answer, kind, candidates in zip(
                *(column.to_pylist() for column in table.columns), strict=True
            ):
                verdict = Verdict(status=status, answer=answer, kind=kind)
                yield VerdictRow(problem_id, index, text_hash, verdict, candidates)

    def publish(self, distinct: int, seconds: float) -> Grading:
        """Put these verdicts in force: what ``score`` reads from now on."""
        counts = np.zeros(len(STATUSES), dtype=np.int64)
        for _, _, _, status in status_columns(self.shards):
            counts += np.bincount(status, minlength=len(STATUSES))
        grading = Grading(
            verifier=self.name,
            version=self.version,
            options=self.options,
            folder=self.folder,
            rollouts=int(counts.sum()),
            distinct=distinct,
            seconds=round(seconds, 3),
            statuses=dict(zip(STATUSES, counts.tolist(), strict=True)),
        )
        content = msgspec.json.format(msgspec.json.encode(grading), indent=2)
        write_atomically(self.run.path / "grading.json", content)
        return grading

    def _row(self, row: VerdictRow) -> dict[str, object]:
        answer = row.verdict.answer
        return {
            "problem_id": row.problem_id,
            "index": row.index,
            "text_hash": row.text_hash,
            "status": row.verdict.status,
            "answer": None if answer is None else answer.encode("utf-8", "backslashreplace").decode("utf-8"),
            "kind": row.verdict.kind,
            "candidates": row.candidates,
            **({} if row.flags is None else msgspec.structs.asdict(row.flags)),
            "verifier": self.name,
            "version": self.version,
        }


def current_grading(run: Run) -> Grading | None:
    """The verdicts in force, None before the first grading. Raises RunError where the file is damaged."""
    file = run.path / "grading.json"
    content = read_if_there(file)
    if content is None:
        return None
    try:
        grading = msgspec.json.decode(content, type=Grading)
        for name in (grading.folder, grading.verifier):
            check_folder_name(name)
    except (msgspec.DecodeError, ValueError) as error:
        raise RunError(f"{file}: damaged ({error}). Run `rlvr-bench grade {run.path}` again.") from error
    return grading


def check_folder_name(name: str) -> None:
    """Raises ValueError for a name that leads out of its folder: a run's files may come from anybody."""
    if "/" in name or "\\" in name or name in (".", ".."):
        raise ValueError(f"{name!r} is no plain folder name")


def status_columns(
    shards: ShardFolder,
) -> Iterator[tuple[npt.NDArray[np.object_], npt.NDArray[np.int32], npt.NDArray[np.int64], npt.NDArray[np.int8]]]:
    """(problem_id, index, text_hash, status code) arrays, a shard at a time."""
    codes = {status: code for code, status in enumerate(STATUSES)}
    for table in shards.read(["problem_id", "index", "text_hash", "status"]):
        status = table["status"].combine_chunks()
        lookup = np.array([codes[name] for name in status.dictionary.to_pylist()], dtype=np.int8)
        yield (
            table["problem_id"].combine_chunks().dictionary_decode().to_numpy(zero_copy_only=False),
            table["index"].to_numpy(),
            table["text_hash"].to_numpy(),
            lookup[status.indices.to_numpy()],
        )
