"""How far runs are, from their folders alone: footers of shards, their times, and the lock. Works while others write."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from rlvr_bench.errors import RlvrBenchError
from rlvr_bench.importers.counted_runs import holds_counts, read_counts
from rlvr_bench.pipeline.several import Done
from rlvr_bench.storage import as_path, is_remote, reason
from rlvr_bench.store import open_run
from rlvr_bench.store.locks import is_held
from rlvr_bench.store.paths import Listed, inside, listed_in, read_if_there
from rlvr_bench.store.run import Run
from rlvr_bench.store.shard_summaries import Summary, read_summaries
from rlvr_bench.store.shards import writer_of
from rlvr_bench.store.verdicts import Grading, current_grading

__all__ = ["RunState", "State", "States", "status"]

WINDOW_S = 300.0  # speeds are of this long before the newest shard
_NESTED = ("*/manifest.json", "*/*/manifest.json")
State = Literal["drawing", "verifying", "finished", "drawn", "stopped", "imported"]


class RunState(msgspec.Struct, frozen=True, kw_only=True):
    """How far a run is.

    ``asked``: rollouts asked for, at most so many under a stopping rule; None for an imported run. ``verified``:
    rollouts with a verdict of the verifier that is at work or, else, in force. ``solved`` of ``problems``: those with a
    correct rollout. Speeds are of the last minutes before the newest shard, by the clock of its storage; they and the
    expected end are None unless a process works on the run. ``last_written``: the time of the newest file.
    ``state``: "drawing" and "verifying" while a process holds the run; "finished": every rollout is drawn and verified;
    "drawn": all are drawn, and no verification began; "stopped": it ended before that.
    ``growing``: rollouts of open draw batches with tokens on disk, ``growing_tokens`` in all; they are not in ``drawn``.
    """

    run: str
    task: str
    model: str
    state: State
    drawn: int
    asked: int | None
    verified: int
    solved: int
    problems: int
    rollouts_per_second: float | None = None
    tokens_per_second: float | None = None
    seconds_left: float | None = None
    expected_end: str | None = None
    last_written: str | None = None
    growing: int = 0
    growing_tokens: int = 0

    @property
    def is_live(self) -> bool:
        """Whether a process works on the run."""
        return self.state in ("drawing", "verifying")


def status(runs: str | Path | Sequence[str | Path]) -> list[Done[RunState]]:
    """The state of each run: ``runs`` are run folders, folders of runs, globs, or addresses of object storage.

    Only reads, and only footers of shards. An RlvrBenchError of a run becomes its result.
    """
    return States().read([runs] if isinstance(runs, str | Path) else runs)


class States:
    """Reads states again and again. A shard never changes, so each is opened once."""

    def __init__(self) -> None:
        self._known: dict[Path, Summary] = {}

    def read(self, runs: Sequence[str | Path]) -> list[Done[RunState]]:
        """As ``status``."""
        folders: dict[Path, str | None] = {}
        for name in runs:
            try:
                folders |= dict.fromkeys(_folders(name))
            except (RlvrBenchError, OSError) as error:
                folders[Path(name)] = _message(error)
        return [
            self._attempt(folder) if error is None else Done(folder, None, error) for folder, error in folders.items()
        ]

    def _attempt(self, folder: Path) -> Done[RunState]:
        try:
            return Done(folder, self._state(open_run(folder)))
        except (RlvrBenchError, OSError) as error:
            return Done(folder, None, _message(error))

    def _state(self, run: Run) -> RunState:
        if holds_counts(run):
            return _of_counts(run)
        held = is_held(run.path)
        rollouts = self._shards(run.rollouts.path)
        grading = current_grading(run)
        verdicts = self._verdicts(run, grading, newest=held or grading is None)
        problems = _problems(run)
        asked = None if run.manifest.imported else run.manifest.n * problems
        drawn = sum(shard.summary.rows for shard in rollouts)
        verified = min(drawn, sum(shard.summary.rows for shard in verdicts))
        complete = _is_complete(run, rollouts, verdicts, problems)
        began = _written(run.path, "manifest.json")
        state = _named(run, held=held, complete=complete, is_verified=verified >= drawn, began=bool(verdicts))
        speed = _speed(rollouts if state == "drawing" else verdicts, began) if held else None
        left = _left(speed, (asked or drawn) - drawn if state == "drawing" else drawn - verified)
        growing = self._growing(run)
        newest = max((shard.written for shard in (*rollouts, *verdicts, *growing)), default=None)
        return RunState(
            run=str(run.path),
            task=run.manifest.task,
            model=run.manifest.model,
            state=state,
            drawn=drawn,
            asked=asked,
            verified=verified,
            solved=len({name for shard in verdicts for name in shard.summary.counts}),
            problems=problems,
            rollouts_per_second=None if speed is None else speed.rollouts,
            tokens_per_second=None if speed is None else speed.tokens,
            seconds_left=left,
            expected_end=None if left is None or newest is None else _iso(newest + left),
            last_written=None if newest is None else _iso(newest),
            growing=sum(shard.summary.rows for shard in growing),
            growing_tokens=sum(shard.summary.tokens or 0 for shard in growing),
        )

    def _verdicts(self, run: Run, grading: Grading | None, *, newest: bool) -> list[_Shard]:
        """The verdicts in force or, with ``newest``, those written last: a verifier is at work on them."""
        if grading is not None and not newest:
            return self._shards(inside(run.path, "verdicts", grading.folder))
        parent = inside(run.path, "verdicts")
        names = [child.name for child in parent.iterdir() if child.is_dir()] if parent.is_dir() else []
        listings = [listed_in(inside(parent, name), ".parquet") for name in names]
        return self._read(
            max(listings, key=lambda files: max((file.written for file in files), default=0.0), default=[])
        )

    def _growing(self, run: Run) -> list[_Shard]:
        """The newest state of every replica, or that of a single process.

        With replicas, the driver has one of what they continue; it is not counted twice.
        """
        newest = {writer_of(file.path): file for file in listed_in(inside(run.path, "growing"), ".parquet")}
        if len(newest) > 1:
            newest.pop("", None)
        return self._read(list(newest.values()))

    def _shards(self, folder: Path) -> list[_Shard]:
        return self._read(listed_in(folder, ".parquet"))

    def _read(self, files: Sequence[Listed]) -> list[_Shard]:
        new = [file for file in files if file.path not in self._known]
        self._known |= {file.path: summary for file, summary in read_summaries(new)}
        return [_Shard(file.written, self._known[file.path]) for file in files if file.path in self._known]


class _Shard(NamedTuple):
    written: float
    summary: Summary


class _Speed(NamedTuple):
    """Per second."""

    rollouts: float
    tokens: float | None


def _folders(name: str | Path) -> list[Path]:
    """The runs that a name means: the folder itself, or the runs in it. A name without any is returned as it is."""
    sign = re.search(r"[*?\[]", str(name))
    if sign is None or as_path(name).exists():
        path = as_path(name)
        return _runs_in(path) or [path]
    text = str(name)
    cut = text.rfind("/", 0, sign.start()) + 1
    matches = sorted(as_path(text[:cut] or ".").glob(text[cut:]))
    return [run for match in matches for run in _runs_in(match)] or [as_path(name)]


def _runs_in(path: Path) -> list[Path]:
    if (path / "manifest.json").is_file():
        return [path]
    return sorted(file.parent for pattern in _NESTED for file in path.glob(pattern)) if path.is_dir() else []


def _message(error: Exception) -> str:
    return str(error) if isinstance(error, RlvrBenchError) else reason(error)


def _of_counts(run: Run) -> RunState:
    counts = read_counts(run)
    drawn = sum(n for _, n, _ in counts)
    return RunState(
        run=str(run.path),
        task=run.manifest.task,
        model=run.manifest.model,
        state="imported",
        drawn=drawn,
        asked=None,
        verified=drawn,
        solved=sum(correct > 0 for _, _, correct in counts),
        problems=len(counts),
    )


def _problems(run: Run) -> int:
    """Problems stored in the run, else those of the task."""
    content = read_if_there(run.path / "problems.jsonl")
    return run.manifest.n_problems if content is None else sum(bool(line.strip()) for line in content.splitlines())


def _is_complete(run: Run, rollouts: Sequence[_Shard], verdicts: Sequence[_Shard], problems: int) -> bool:
    """Whether every rollout is drawn that the run asks for. An imported run has all that there are."""
    manifest = run.manifest
    if manifest.imported:
        return True
    if manifest.stopping is None:
        return sum(shard.summary.rows for shard in rollouts) >= manifest.n * problems
    drawn, correct = _by_problem(rollouts), _by_problem(verdicts)
    ended = (n >= manifest.n or correct[name] >= manifest.stopping.stop_after for name, n in drawn.items())
    return len(drawn) >= problems and all(ended)


def _by_problem(shards: Sequence[_Shard]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for shard in shards:
        counts.update(shard.summary.counts)
    return counts


def _named(run: Run, *, held: bool, complete: bool, is_verified: bool, began: bool) -> State:
    if held:
        return "drawing" if not complete and _draws(run) else "verifying"
    if run.manifest.imported:
        return "imported"
    if complete and (is_verified or not began):
        return "finished" if is_verified else "drawn"
    return "stopped"


def _draws(run: Run) -> bool:
    """Whether the process that holds the run draws: it takes the lock, then writes the manifest, which ``grade`` does not.

    A lease is written again and again, so on object storage any process is taken to draw.
    """
    if is_remote(run.path):
        return True
    manifest, lock = (_written(run.path, name) for name in ("manifest.json", "lock"))
    return manifest is None or lock is None or manifest >= lock


def _written(folder: Path, name: str) -> float | None:
    return next((file.written for file in listed_in(folder, name) if file.path.name == name), None)


def _speed(shards: Sequence[_Shard], began: float | None) -> _Speed | None:
    """Over the last minutes of this session, which ``began`` when it wrote the manifest; None before a second shard.

    A shard's rollouts were made since the shard before it.
    """
    times = [shard.written for shard in shards]
    if began is not None:
        times.append(began)
    newest = max((shard.written for shard in shards), default=None)
    if newest is None or (began is not None and began >= newest):
        return None
    earlier = [time for time in times if time <= newest - WINDOW_S]
    first = max(earlier) if earlier else min(times)
    first = first if began is None else max(first, began)
    counted = [shard.summary for shard in shards if shard.written > first]
    seconds = newest - first
    if seconds <= 0:
        return None
    tokens = [summary.tokens for summary in counted if summary.tokens is not None]
    total = sum(tokens) / seconds if len(tokens) == len(counted) else None
    return _Speed(sum(summary.rows for summary in counted) / seconds, total)


def _left(speed: _Speed | None, rollouts: int) -> float | None:
    return None if speed is None or speed.rollouts <= 0 else max(0, rollouts) / speed.rollouts


def _iso(seconds: float) -> str | None:
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
    except (OverflowError, ValueError, OSError):  # a time that no clock shows
        return None
