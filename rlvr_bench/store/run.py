"""One run folder: who may write to it, what has been drawn and graded, and how a stage reads it."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rlvr_bench.errors import RunError, RunLocked, RunMismatch, StorageError
from rlvr_bench.records import Draw, Problem, Rollout
from rlvr_bench.store.manifest import Manifest, read_manifest, write_atomically
from rlvr_bench.store.shards import ShardFolder

__all__ = [
    "ROLLOUT_SCHEMA",
    "Run",
    "RunWriter",
    "Span",
    "lock_folder",
    "locked",
    "open_run",
    "run_folder",
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

# A shard is written when this many rollouts wait, or the oldest has waited this long: what kill -9 can cost at most.
SHARD_ROLLOUTS = 4096
SHARD_SECONDS = float(os.environ.get("RLVR_BENCH_SHARD_SECONDS", "5"))


class Span(msgspec.Struct, frozen=True):
    """Rollouts ``start`` to ``start + n - 1`` of one problem, within one draw batch."""

    problem_id: str
    start: int
    n: int


def stored_text(text: str) -> str:
    """A response as it goes to disk: a lone surrogate is not UTF-8, and is kept readable as its escape."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def text_hash(text: str) -> int:
    """64-bit hash of a response, to count exact duplicates without keeping texts."""
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


def run_folder(out: Path, model: str, task: str) -> Path:
    """``out/<model>/<task>``: a hub id keeps its owner, a path its last two parts, anything else its name."""
    parts = [part for part in re.split(r"[/\\]+", model.rstrip("/")) if part not in ("", ".", "..")]
    return out / (_slug("--".join(parts[-2:])) or "model") / _slug(task)


def _slug(name: str) -> str:
    """A name as one plain folder name: ``reasoning_gym:chain_sum,size=5`` becomes ``reasoning_gym-chain_sum-size-5``."""
    return re.sub(r"[^A-Za-z0-9._@-]+", "-", name).strip("-.")


class Run:
    """A run on disk, for reading."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self.manifest = manifest
        self.rollouts = ShardFolder(path / "rollouts", ROLLOUT_SCHEMA)

    def problems(self) -> list[Problem]:
        """The problems this run was asked to draw, in task order."""
        file = self.path / "problems.jsonl"
        try:
            return msgspec.json.Decoder(Problem).decode_lines(file.read_bytes())
        except OSError as error:
            raise RunError(f"{file}: {error.strerror or error}") from error
        except msgspec.DecodeError as error:
            raise RunError(f"{file}: damaged ({error})") from error

    def drawn(self) -> dict[str, npt.NDArray[np.bool_]]:
        """Which rollout indices of each problem are on disk, as one boolean array per problem."""
        found: dict[str, npt.NDArray[np.bool_]] = {}
        for table in self.rollouts.read(["problem_id", "index"]):
            names = table["problem_id"].combine_chunks().dictionary_decode().to_numpy(zero_copy_only=False)
            indices = table["index"].to_numpy()
            for name in np.unique(names):
                _mark(found, str(name), indices[names == name])
        return found


class RunWriter:
    """A run on disk, for drawing: at most one writer at a time, everything it was given is on disk when it closes."""

    def __init__(self, path: Path, wanted: Manifest, problems: Sequence[Problem]) -> None:
        """Open or create the run.

        Raises RunLocked where another process writes to it, RunMismatch where it was drawn differently, StorageError.
        """
        self.path = path
        self._lock = lock_folder(path)
        try:
            manifest = _agreed(path, wanted)
            self.run = Run(path, manifest)
            _write_problems(self.run, problems)
            write_atomically(path / "manifest.json", msgspec.json.format(msgspec.json.encode(manifest), indent=2))
            self.set_aside = self.run.rollouts.set_aside_damaged()
            self._drawn = self.run.drawn()
        except BaseException:
            self._release()
            raise
        self._waiting: list[Draw] = []
        self._waiting_rollouts = 0
        self._oldest = 0.0

    def missing(self, problem_ids: Iterable[str], n: int, batch: int) -> Iterator[Span]:
        """Spans still to be drawn for n rollouts of each problem, problem after problem within each draw batch.

        The first batch of every problem comes before the second of any, so an interrupted run is even over problems.
        """
        ids = list(problem_ids)
        for block in range(0, n, batch):
            for problem_id in ids:
                yield from self._gaps(problem_id, block, min(block + batch, n))

    def n_drawn(self, problem_ids: Iterable[str], n: int) -> int:
        """Rollouts on disk or waiting to be written, of these problems, with an index below n."""
        return sum(int(self._drawn[name][:n].sum()) for name in problem_ids if name in self._drawn)

    @property
    def drawn(self) -> dict[str, npt.NDArray[np.bool_]]:
        """Rollout indices on disk or waiting to be written, one boolean array per problem."""
        return self._drawn

    def add(self, draw: Draw) -> None:
        """Take a finished draw; it is on disk within seconds, at the latest when the writer closes."""
        if not self._waiting:
            self._oldest = time.monotonic()
        self._waiting.append(draw)
        self._waiting_rollouts += len(draw.rollouts)
        _mark(self._drawn, draw.request.prompt.problem_id, np.array([rollout.index for rollout in draw.rollouts]))
        if self._waiting_rollouts >= SHARD_ROLLOUTS or time.monotonic() - self._oldest > SHARD_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write what waits as one shard."""
        if self._waiting:
            self.run.rollouts.append(rollout_table(self._waiting))
            self._waiting, self._waiting_rollouts = [], 0

    def __enter__(self) -> RunWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        try:
            if not isinstance(error, StorageError):
                self.flush()
        finally:
            self._release()

    def _gaps(self, problem_id: str, start: int, stop: int) -> Iterator[Span]:
        have = self._drawn.get(problem_id)
        done = np.zeros(stop - start, dtype=bool)
        if have is not None:
            known = have[start:stop]
            done[: len(known)] = known
        edges = np.flatnonzero(np.diff(np.concatenate(([True], done, [True]))))
        for low, high in edges.reshape(-1, 2):
            yield Span(problem_id, start + int(low), int(high - low))

    def _release(self) -> None:
        os.close(self._lock)


def open_run(path: Path) -> Run:
    """A run for reading. Raises RunError where the folder is not one."""
    if not (path / "manifest.json").is_file():
        runs = sorted(str(file.parent) for file in path.glob("*/*/manifest.json")) if path.is_dir() else []
        near = f" Runs below it: {', '.join(runs[:5])}." if runs else ""
        raise RunError(f"{path}: not a run (no manifest.json). A run is runs/<model>/<task>.{near}")
    return Run(path, read_manifest(path / "manifest.json"))


def rollout_table(draws: Sequence[Draw]) -> pa.Table:
    """Finished draws as one table with ROLLOUT_SCHEMA."""
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


def _mark(found: dict[str, npt.NDArray[np.bool_]], name: str, indices: npt.NDArray[np.int64]) -> None:
    have = found.get(name)
    top = int(indices.max()) + 1
    if have is None or len(have) < top:
        grown = np.zeros(max(top, 2 * len(have) if have is not None else 0), dtype=bool)
        if have is not None:
            grown[: len(have)] = have
        have = found[name] = grown
    have[indices] = True


def lock_folder(path: Path) -> int:
    """An exclusive lock held by the open file: it falls with the process, however the process ends."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        handle = os.open(path / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise StorageError(f"cannot write to {path}: {error.strerror or error}") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pid = os.read(handle, 32).decode(errors="replace").strip()
        os.close(handle)
        raise RunLocked(str(path), int(pid) if pid.isdigit() else 0) from None
    os.ftruncate(handle, 0)
    os.write(handle, str(os.getpid()).encode())
    return handle


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """The folder's lock for as long as the block runs. Raises RunLocked, StorageError."""
    handle = lock_folder(path)
    try:
        yield
    finally:
        os.close(handle)


def _agreed(path: Path, wanted: Manifest) -> Manifest:
    file = path / "manifest.json"
    if not file.exists():
        return wanted
    old = read_manifest(file)
    if differing := old.differing(wanted):
        raise RunMismatch(str(path), differing)
    return msgspec.structs.replace(old, n=max(old.n, wanted.n), sessions=(*old.sessions, *wanted.sessions))


def _write_problems(run: Run, problems: Sequence[Problem]) -> None:
    """Keep the problems with the run, so that grading needs no data set; a larger --limit adds to them."""
    file = run.path / "problems.jsonl"
    known = run.problems() if file.exists() else []
    if len(problems) > len(known):
        write_atomically(file, msgspec.json.Encoder().encode_lines(problems))
