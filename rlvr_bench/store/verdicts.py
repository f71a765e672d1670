"""Stored verdicts: one folder per verifier, version and options, so that a new grading does not mix with an old one."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from rlvr_bench.records import STATUSES, Verdict
from rlvr_bench.scorecard import ErrorCount, Grading
from rlvr_bench.store.paths import inside
from rlvr_bench.store.record_files import damaged, record_if_there, write_record
from rlvr_bench.store.run import Run
from rlvr_bench.store.shards import ShardFolder
from rlvr_bench.text_rules import TextFlags

__all__ = [
    "MOST_ERRORS",
    "VERDICT_SCHEMA",
    "ErrorCount",
    "Grading",
    "VerdictRow",
    "Verdicts",
    "check_folder_name",
    "current_grading",
    "keyed_hashes",
]

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
        ("thought", pa.dictionary(pa.int32(), pa.string())),
        ("verifier", pa.dictionary(pa.int32(), pa.string())),
        ("version", pa.dictionary(pa.int32(), pa.string())),
        ("message", pa.dictionary(pa.int32(), pa.string())),
    ]
)
MOST_ERRORS = 0.01  # share of errors among verdicts from which a warning is given
_MOST_ERRORS = 10  # kinds and messages that are listed
_LONGEST_NAME = 255  # bytes
_MOST_MESSAGES = 1000  # that are counted separately


class VerdictRow(msgspec.Struct, frozen=True):
    """One rollout's stored verdict. ``text_hash`` identifies the response that it was given for.

    ``candidates`` is None where another program gave the verdict. ``flags``: signs of low-quality text; ``thought``: what
    the response does with its thought (``thought_of``). ``Verdicts.rows`` does not read these two.
    """

    problem_id: str
    index: int
    text_hash: int
    verdict: Verdict
    candidates: int | None
    flags: TextFlags | None = None
    thought: str | None = None


class Verdicts:
    """The verdicts of one verifier version on one run."""

    def __init__(self, run: Run, name: str, version: str, options: Mapping[str, object]) -> None:
        identity = json.dumps([name, version, dict(options)], sort_keys=True)
        self.run = run
        self.name, self.version, self.options = name, version, dict(options)
        self.folder = f"{name}-{hashlib.sha256(identity.encode()).hexdigest()[:8]}"
        self.shards = ShardFolder(inside(run.path, "verdicts", self.folder), VERDICT_SCHEMA, run.largest_index)

    def append(self, rows: Sequence[VerdictRow]) -> None:
        """Write one shard of verdicts."""
        if rows:
            self.shards.append(pa.Table.from_pylist([self._row(row) for row in rows], schema=VERDICT_SCHEMA))

    def rows(self) -> Iterator[VerdictRow]:
        """All stored verdicts, in the order written."""
        columns = ["problem_id", "index", "text_hash", "status", "answer", "kind", "message", "candidates"]
        for table in self.shards.read(columns):
            for problem_id, index, text_hash, status, answer, kind, message, candidates in zip(
                *(table[name].to_pylist() for name in columns), strict=True
            ):
                verdict = Verdict(status=status, answer=answer, kind=kind, message=message)
                yield VerdictRow(problem_id, index, text_hash, verdict, candidates)

    def publish(self, distinct: int, seconds: float, *, says_no_answer: bool = True) -> Grading:
        """Make these the current verdicts, which ``score`` reads. ``says_no_answer``: they distinguish ``no_answer``."""
        statuses, errors, undecided = self._tally()
        total, failed = sum(statuses.values()), statuses["error"]
        listed = sorted(errors.values(), key=lambda count: -count.verdicts)[:_MOST_ERRORS]
        grading = Grading(
            verifier=self.name,
            version=self.version,
            options=self.options,
            folder=self.folder,
            rollouts=total,
            distinct=distinct,
            seconds=round(seconds, 3),
            statuses=statuses,
            unsaid=() if says_no_answer or statuses["no_answer"] else ("no_answer",),
            errors=tuple(listed),
            warnings=tuple(_warnings(total, failed, undecided)),
        )
        write_record(self.run.path / "grading.json", grading)
        return grading

    def _tally(self) -> tuple[dict[str, int], dict[tuple[str | None, str | None], ErrorCount], list[str]]:
        """Verdicts by status; errors by kind and message; problems whose every verdict is an error."""
        statuses: Counter[str] = Counter(dict.fromkeys(STATUSES, 0))
        errors: dict[tuple[str | None, str | None], ErrorCount] = {}
        decided: set[str] = set()
        failed: dict[str, None] = {}
        for table in self._in_force():
            status = table["status"].cast(pa.string())
            statuses.update({pair["values"]: pair["counts"] for pair in pc.value_counts(status).to_pylist()})
            is_error = pc.equal(status, "error")
            decided.update(table["problem_id"].filter(pc.invert(is_error)).unique().to_pylist())
            rows = zip(
                *(table[name].filter(is_error).to_pylist() for name in ("kind", "message", "problem_id")), strict=True
            )
            for (kind, message, name), count in Counter(rows).items():
                failed[name] = None
                if len(errors) >= _MOST_MESSAGES and (kind, message) not in errors:
                    message = "other messages"
                before = errors.get((kind, message))
                errors[kind, message] = ErrorCount(
                    kind=kind,
                    message=message,
                    verdicts=count + (before.verdicts if before else 0),
                    problem_id=before.problem_id if before else name,
                )
        return dict(statuses), errors, [name for name in failed if name not in decided]

    def _in_force(self) -> Iterator[pa.Table]:
        """The last verdict of each stored rollout for its stored text; none for rollouts that are no longer stored."""
        ids: dict[str, int] = {}
        stored = [keyed_hashes(table, ids) for table in self.run.rollouts.read(["problem_id", "index", "text_hash"])]
        if not any(len(keys) for keys, _ in stored):
            return
        keys, hashes = (np.concatenate(parts) for parts in zip(*stored, strict=True))
        order = np.argsort(keys)
        keys, hashes = keys[order], hashes[order]
        is_left = np.ones(len(keys), dtype=bool)
        columns = ["problem_id", "index", "text_hash", "status", "kind", "message"]
        for table in self.shards.read(columns, self.shards.files()[::-1]):
            graded, text_hash = keyed_hashes(table, ids)
            at = np.minimum(np.searchsorted(keys, graded), len(keys) - 1)
            chosen = (keys[at] == graded) & (hashes[at] == text_hash) & is_left[at]
            is_left[at[chosen]] = False
            yield table.filter(pa.array(chosen))

    def _row(self, row: VerdictRow) -> dict[str, object]:
        return {
            "problem_id": row.problem_id,
            "index": row.index,
            "text_hash": row.text_hash,
            "status": row.verdict.status,
            "answer": _storable(row.verdict.answer),
            "kind": row.verdict.kind,
            "message": _storable(row.verdict.message),
            "candidates": row.candidates,
            **({} if row.flags is None else msgspec.structs.asdict(row.flags)),
            "thought": row.thought,
            "verifier": self.name,
            "version": self.version,
        }


def keyed_hashes(table: pa.Table, ids: dict[str, int]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """A number for each rollout, and its text hash, both (m,); ``ids`` numbers the problems and gets new ones."""
    names = table["problem_id"].combine_chunks()
    numbers = np.array([ids.setdefault(name, len(ids)) for name in names.dictionary.to_pylist()], dtype=np.int64)
    return (numbers[names.indices.to_numpy()] << 32) | table["index"].to_numpy(), table["text_hash"].to_numpy()


def _storable(text: str | None) -> str | None:
    return None if text is None else text.encode("utf-8", "backslashreplace").decode("utf-8")


def _warnings(total: int, failed: int, undecided: Sequence[str]) -> Iterator[str]:
    if failed and failed >= MOST_ERRORS * total:
        yield f"{failed:,} of {total:,} verdicts ({failed / total:.1%}) are errors, which count as not correct"
    if undecided:
        others = f" and {len(undecided) - 1:,} more problems" if len(undecided) > 1 else ""
        yield f"every verdict on {undecided[0]}{others} is an error: what the model can do there is not known"


def current_grading(run: Run) -> Grading | None:
    """The current grading, None before the first one. Raises RunError where the file is damaged."""
    file = run.path / "grading.json"
    remedy = f"Run `rlvr-bench grade {run.path}` again."
    grading = record_if_there(file, Grading, remedy)
    if grading is None:
        return None
    try:
        for name in (grading.folder, grading.verifier):
            check_folder_name(name)
    except ValueError as error:
        raise damaged(file, error, remedy) from error
    return grading


def check_folder_name(name: str) -> None:
    """Raises ValueError unless the name is a plain folder name; a path could lead out of the run folder."""
    plain = name.isprintable() and len(name.encode("utf-8", "surrogatepass")) <= _LONGEST_NAME
    if not plain or "/" in name or "\\" in name or name in (".", ".."):
        raise ValueError(f"{name[:100]!r} is no plain folder name")


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
