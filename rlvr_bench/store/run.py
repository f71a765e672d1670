"""One run folder: reading it, and writing rollouts to it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rlvr_bench.errors import RunError, RunMismatch, StorageError
from rlvr_bench.records import CacheUse, Draw, Problem, Rollout, SavedRollout
from rlvr_bench.storage import as_path, is_remote
from rlvr_bench.store.growing import GrowingFolder, SavePace
from rlvr_bench.store.locks import lock_folder
from rlvr_bench.store.manifest import Manifest, read_manifest
from rlvr_bench.store.marks import Drawn
from rlvr_bench.store.paths import inside, read_if_there, read_whole, write_atomically
from rlvr_bench.store.problem_files import check_problems_file, check_same_problems, encode_problems, file_digest
from rlvr_bench.store.record_files import damaged, write_record
from rlvr_bench.store.shard_checks import LARGEST_INDEX
from rlvr_bench.store.shards import Schedule, ShardFolder

__all__ = [
    "ROLLOUT_SCHEMA",
    "TOKEN_COLUMNS",
    "Run",
    "RunWriter",
    "Span",
    "open_run",
    "rollout_table",
    "spans_missing",
    "stored_text",
    "text_hash",
]

ROLLOUT_SCHEMA = pa.schema(
    [
        ("problem_id", pa.dictionary(pa.int32(), pa.string())),
        ("index", pa.int32()),
        ("text", pa.large_string()),
        ("text_hash", pa.int64()),
        ("n_tokens", pa.int32()),
        ("finish_reason", pa.dictionary(pa.int32(), pa.string())),
        ("logprob_sum", pa.float64()),
        ("entropy_mean", pa.float32()),
        ("branching_mean", pa.float32()),
        ("entropy_profile", pa.list_(pa.float32())),
        ("high_entropy_share", pa.float32()),
        ("entropy_low", pa.float32()),
        ("entropy_high", pa.float32()),
        ("branching_low", pa.float32()),
        ("branching_high", pa.float32()),
        ("draw_start", pa.int32()),
        ("draw_seed", pa.int64()),
        ("token_ids", pa.list_(pa.int32())),
        ("token_logprob", pa.list_(pa.float32())),
        ("token_entropy", pa.list_(pa.float16())),
        ("token_nucleus", pa.list_(pa.int32())),
        ("tool_calls", pa.int32()),
        ("tool_errors", pa.int32()),
    ]
)
TOKEN_COLUMNS = ("token_ids", "token_logprob", "token_entropy", "token_nucleus")  # null, or one value per token


_INDICES = 2**16
_BARE = ["problem_id", "index", "n_tokens", "finish_reason", "draw_start"]


class Span(msgspec.Struct, frozen=True):
    """Rollouts ``start`` to ``start + n - 1`` of one problem, within one draw batch."""

    problem_id: str
    start: int
    n: int


def stored_text(text: str) -> str:
    """A response as stored. A lone surrogate, which UTF-8 cannot encode, is stored as its escape."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def text_hash(text: str) -> int:
    """64-bit hash of a response, to count exact duplicates without keeping texts."""
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


class Run:
    """A run on disk, for reading."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self.manifest = manifest
        self.rollouts = ShardFolder(inside(path, "rollouts"), ROLLOUT_SCHEMA, self.largest_index)

    @property
    def largest_index(self) -> int:
        """The largest index that a rollout of this run may have; at least 65,536, since an older manifest may lack n."""
        return min(LARGEST_INDEX, max(self.manifest.n, _INDICES))

    def problems(self) -> list[Problem]:
        """The problems of this run, in task order. Raises RunError where they are not those of the manifest."""
        file = self.path / "problems.jsonl"
        try:
            content = read_whole(file)
            problems = msgspec.json.Decoder(Problem).decode_lines(content)
        except StorageError as error:
            raise RunError(str(error)) from error
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise damaged(file, error) from error
        check_problems_file(file, content, problems, self.manifest, self._drawn_ids)
        return problems

    def _drawn_ids(self) -> set[str]:
        """Ids of the problems that have rollouts."""
        ids: set[str] = set()
        for table in self.rollouts.read(["problem_id"]):
            ids.update(table["problem_id"].unique().to_pylist())
        return ids

    def drawn(self) -> dict[str, Drawn]:
        """The rollout indices on disk, by problem."""
        drawn: dict[str, Drawn] = {}
        for table in self.rollouts.read(["problem_id", "index"]):
            for name, indices in _by_problem(table):
                drawn.setdefault(name, Drawn()).mark(indices)
        return drawn


class RunWriter:
    """A run on disk, for drawing. There is one writer at a time; when it closes, all its rollouts are on disk."""

    def __init__(self, path: Path, wanted: Manifest, problems: Sequence[Problem]) -> None:
        """Open or create the run.

        Raises RunLocked where another process writes to it, RunMismatch where it was drawn differently, StorageError.
        """
        self.path = path
        self.lock = lock_folder(path)
        try:
            manifest = _agreed(path, wanted)
            digest = _write_problems(Run(path, manifest), problems)
            manifest = msgspec.structs.replace(manifest, problems_file_sha256=digest)
            self.run = Run(path, manifest)
            write_record(path / "manifest.json", manifest)
            self._known: set[str] = set()  # names of the shards whose rollouts are in _drawn
            self._drawn = self._scan()
            self._growing = GrowingFolder(path, self.run.largest_index)
            self._saved = self._unfinished()
        except BaseException:
            self.lock.release()
            raise
        self._waiting: list[Draw] = []
        self._schedule = Schedule(sparing=is_remote(path))
        self._pace = SavePace(sparing=is_remote(path))

    def missing(self, problem_ids: Iterable[str], n: int, batch: int) -> Iterator[Span]:
        """Spans to be drawn until each problem has n rollouts.

        The first batch of every problem comes before the second batch of any, so an interrupted run covers all problems.
        """
        return spans_missing(self._drawn, problem_ids, n, batch)

    def n_drawn(self, problem_ids: Iterable[str], n: int) -> int:
        """Rollouts on disk or waiting to be written, of these problems, with an index below n."""
        return sum(self._drawn[name].count(n) for name in problem_ids if name in self._drawn)

    @property
    def drawn(self) -> dict[str, Drawn]:
        """Rollout indices on disk or waiting to be written, by problem."""
        return self._drawn

    def add(self, draw: Draw, *, hold: bool = False) -> None:
        """Add a finished draw. It is on disk within seconds, at the latest when the writer closes.

        A draw that a replica has already stored is only counted. With ``hold`` it is written by the next ``save``.
        """
        indices = np.array([rollout.index for rollout in draw.rollouts], dtype=np.int64)
        self._drawn.setdefault(draw.request.prompt.problem_id, Drawn()).mark(indices)
        if draw.shard is not None:
            self._known.add(draw.shard)
            return
        self._waiting.append(draw)
        self._schedule.add(len(draw.rollouts))
        if self._schedule.due_in() == 0 and not hold:
            self.flush()

    def flush(self) -> None:
        """Write the waiting draws as one shard."""
        if self._waiting:
            self.lock.check()
            self._known.add(self.run.rollouts.append(rollout_table(self._waiting)).name)
            self._waiting = []
            self._schedule.written()

    def take_saved(self, span: Span) -> tuple[SavedRollout, ...]:
        """What earlier sessions have of the rollouts of a span, for the engine that draws it; later calls lack them."""
        keys = [(span.problem_id, index) for index in range(span.start, span.start + span.n)]
        return tuple(self._saved.pop(key) for key in keys if key in self._saved)

    def take_over(self, replica: str) -> dict[tuple[str, int], SavedRollout]:
        """What a lost replica, which has this name, saved of rollouts that are not drawn; it stays saved for later sessions."""
        self.lock.check()
        shards = {file.name for file in self.run.rollouts.files()}
        return self._not_drawn(self._growing.take_over(replica, shards))

    @property
    def is_save_due(self) -> bool:
        """Whether ``save`` should be called now."""
        return self._pace.is_due or self._schedule.is_full

    def save(self, open_rollouts: Sequence[SavedRollout]) -> None:
        """Write the waiting draws, and what the open draws have at this moment; both or neither survive a kill."""
        began, rollouts = self._pace.now(), [*open_rollouts, *self._saved.values()]
        if not rollouts and not self._waiting and self._growing.is_empty:
            return
        self.lock.check()
        shard = self.run.rollouts.prepared(rollout_table(self._waiting)) if self._waiting else None
        self._growing.write(rollouts, shard)
        if shard is not None:
            self._known.add(shard[0].name)
        self._waiting = []
        self._schedule.written()
        self._pace.saved(began)

    def note_cache(self, use: CacheUse) -> None:
        """Record in the manifest how this session used the engine's KV cache."""
        self.lock.check()
        *earlier, last = self.run.manifest.sessions
        sessions = (*earlier, msgspec.structs.replace(last, cache=use))
        self.run = Run(self.path, msgspec.structs.replace(self.run.manifest, sessions=sessions))
        write_record(self.path / "manifest.json", self.run.manifest)

    def __enter__(self) -> RunWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        try:
            if not isinstance(error, StorageError):
                self.flush()
            if error is None:
                self._take_in_unreported()
                self.save(())
        finally:
            self.lock.release()

    def _scan(self) -> dict[str, Drawn]:
        """The rollout indices on disk, by problem. Moves damaged shards aside, and those that repeat another's rollouts:
        a replica whose driver had died may have written one while the next driver drew the same rollouts again.
        """
        drawn: dict[str, Drawn] = {}
        for file, table in self.run.rollouts.sound(["problem_id", "index"]):
            self._take_in(file, table, drawn)
        return drawn

    def _unfinished(self) -> dict[tuple[str, int], SavedRollout]:
        """What earlier sessions have of rollouts that are not drawn, by problem and index."""
        return self._not_drawn(self._growing.read(self._known))

    def _not_drawn(self, saved: Sequence[SavedRollout]) -> dict[tuple[str, int], SavedRollout]:
        drawn = self._drawn
        return {
            (one.problem_id, one.index): one
            for one in saved
            if one.problem_id not in drawn or not drawn[one.problem_id].at(one.index)
        }

    def _take_in(self, file: Path, table: pa.Table, drawn: dict[str, Drawn]) -> None:
        """Add a shard's rollouts to ``drawn``; move it aside where it repeats one of them."""
        parts = list(_by_problem(table))
        if any(name in drawn and drawn[name].has_any(indices) for name, indices in parts):
            self.run.rollouts.set_aside(file, "repeats rollouts of another shard")
            return
        for name, indices in parts:
            drawn.setdefault(name, Drawn()).mark(indices)
        self._known.add(file.name)

    def unreported_shards(self) -> Iterator[tuple[str, dict[tuple[str, int], tuple[Rollout, ...]]]]:
        """Shards on disk that no replica has reported: name, and rollouts (without texts) by problem and draw start."""
        for file in self._unreported_files():
            (table,) = self.run.rollouts.read(_BARE, [file])
            batches: dict[tuple[str, int], list[Rollout]] = {}
            for row in table.to_pylist():
                batches.setdefault((row["problem_id"], row.pop("draw_start")), []).append(Rollout(text="", **row))
            yield file.name, {key: tuple(rollouts) for key, rollouts in batches.items()}

    def _take_in_unreported(self) -> None:
        """Take in shards on disk that no replica has reported, once every requested draw is done.

        A shard that repeats rollouts is moved aside. Another one, of requests of an earlier session, is kept.
        """
        for file in self._unreported_files():
            self.lock.check()
            (table,) = self.run.rollouts.read(["problem_id", "index"], [file])
            self._take_in(file, table, self._drawn)

    def _unreported_files(self) -> list[Path]:
        return [file for file in self.run.rollouts.files() if file.name not in self._known]


def spans_missing(drawn: Mapping[str, Drawn], problem_ids: Iterable[str], n: int, batch: int) -> Iterator[Span]:
    """As ``RunWriter.missing``, from the indices ``drawn`` of each problem."""
    ids = list(problem_ids)
    for block in range(0, n, batch):
        for problem_id in ids:
            yield from _gaps(drawn.get(problem_id), problem_id, block, min(block + batch, n))


def _gaps(have: Drawn | None, problem_id: str, start: int, stop: int) -> Iterator[Span]:
    done = np.zeros(stop - start, dtype=np.bool_) if have is None else have.between(start, stop)
    edges = np.flatnonzero(np.diff(np.concatenate(([True], done, [True]))))
    for low, high in edges.reshape(-1, 2):
        yield Span(problem_id, start + int(low), int(high - low))


def open_run(path: str | Path) -> Run:
    """Open a run for reading, from a path or an address (``s3://``). Raises RunError where the folder is not a run."""
    path = as_path(path)
    manifest = read_manifest(path / "manifest.json")
    if manifest is None:
        runs = sorted(str(file.parent) for file in path.glob("*/*/manifest.json")) if path.is_dir() else []
        near = f" Runs below it: {', '.join(runs[:5])}." if runs else ""
        raise RunError(f"{path}: not a run (no manifest.json). A run is runs/<model>/<task>.{near}")
    return Run(path, manifest)


def rollout_table(draws: Sequence[Draw]) -> pa.Table:
    """The rollouts of finished draws as one table with ROLLOUT_SCHEMA."""
    rows = [_row(draw, rollout) for draw in draws for rollout in draw.rollouts]
    return pa.Table.from_pylist(rows, schema=ROLLOUT_SCHEMA)


def _row(draw: Draw, rollout: Rollout) -> dict[str, object]:
    text = stored_text(rollout.text)
    tokens = rollout.tokens
    return {
        "problem_id": rollout.problem_id,
        "index": rollout.index,
        "text": text,
        "text_hash": text_hash(text),
        "n_tokens": rollout.n_tokens,
        "finish_reason": rollout.finish_reason,
        "logprob_sum": rollout.logprob_sum,
        "entropy_mean": rollout.entropy_mean,
        "branching_mean": rollout.branching_mean,
        "entropy_profile": rollout.entropy_profile,
        "high_entropy_share": rollout.high_entropy_share,
        "entropy_low": rollout.entropy_low,
        "entropy_high": rollout.entropy_high,
        "branching_low": rollout.branching_low,
        "branching_high": rollout.branching_high,
        "draw_start": draw.request.start,
        "draw_seed": draw.request.seed,
        "token_ids": None if tokens is None else tokens.ids,
        "token_logprob": None if tokens is None else tokens.logprob,
        "token_entropy": None if tokens is None else tokens.entropy.astype(np.float16),
        "token_nucleus": None if tokens is None else tokens.nucleus,
        "tool_calls": rollout.tool_calls,
        "tool_errors": rollout.tool_errors,
    }


def _by_problem(table: pa.Table) -> Iterator[tuple[str, npt.NDArray[np.int64]]]:
    """The rollout indices of each problem in a shard."""
    names = table["problem_id"].combine_chunks().dictionary_decode().to_numpy(zero_copy_only=False)
    indices = table["index"].to_numpy()
    for name in np.unique(names):
        yield str(name), indices[names == name]


def _agreed(path: Path, wanted: Manifest) -> Manifest:
    old = read_manifest(path / "manifest.json")
    if old is None:
        return wanted
    if differing := old.differing(wanted):
        raise RunMismatch(str(path), differing)
    return msgspec.structs.replace(old, n=max(old.n, wanted.n), sessions=(*old.sessions, *wanted.sessions))


def _write_problems(run: Run, problems: Sequence[Problem]) -> str | None:
    """Store the problems in the run, so that grading needs no data set; a larger --limit adds problems.

    Returns the digest of the file. A file without a manifest is what a killed process left, and is written again.
    Raises RunError where the file has other problems than these.
    """
    file = run.path / "problems.jsonl"
    wanted, old = encode_problems(problems), read_if_there(file)
    began = old is not None and (run.path / "manifest.json").exists()
    if began and old and old != wanted:
        stored = run.problems()
        check_same_problems(file, stored, problems)
        if len(stored) >= len(problems):
            return file_digest(old)
    if problems and old != wanted:
        write_atomically(file, wanted)
    return file_digest(wanted) if problems else None
