"""The loop of ``follow``: look, evaluate the next checkpoint, publish, wait.

Nothing of its progress is in memory alone: a follower that was killed finds the finished runs on disk and goes on. Several
followers share the work: each takes a checkpoint under a lock, and reads what the others have finished.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from rlvr_bench.analysis.training_series import series
from rlvr_bench.comparison.folders import read_cards
from rlvr_bench.errors import BadArgument, ModelError, RlvrBenchError, RunError, RunLocked, StorageError
from rlvr_bench.following.actions import act, check_action
from rlvr_bench.following.alarms import ALARM_LEVEL, Alarm, Fired, Look, sound_alarm
from rlvr_bench.following.checkpoints import Checkpoint, Signature, Watch, check_pattern
from rlvr_bench.following.stored import Pins, StoredWatch
from rlvr_bench.following.trackers import Trackers
from rlvr_bench.json_format import format_json
from rlvr_bench.options import GradeOptions, SampleOptions, check
from rlvr_bench.pipeline import evaluate
from rlvr_bench.pipeline.batch import Result
from rlvr_bench.pipeline.engines import Job
from rlvr_bench.pipeline.gpus import with_replicas
from rlvr_bench.pipeline.layouts import checkpoint_folder
from rlvr_bench.pipeline.options import Progress, Silent
from rlvr_bench.received import decode
from rlvr_bench.reporting import report
from rlvr_bench.scorecard import Scorecard
from rlvr_bench.storage import as_path, is_remote
from rlvr_bench.store.locks import lock_folder
from rlvr_bench.store.names import hashed, model_name, task_name
from rlvr_bench.store.paths import make_folder, read_if_there, write_atomically
from rlvr_bench.task import read_task
from rlvr_bench.task_groups import expand_tasks

__all__ = ["FollowOptions", "Followed", "follow"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class FollowOptions:
    """How to follow. ``every``: only steps that are multiples of it. ``last_first``: the newest checkpoint before older ones.

    ``settle_s``: a checkpoint whose files did not change for so long is whole. ``poll_s``: time between two looks.
    ``idle_s``: end after so long without a new checkpoint (None: never); ``once``: end as soon as no whole one is left.

    ``alarms`` (``alarms.read_alarms``) compare every checkpoint with ``against``, a run folder or scorecard, or else a model,
    which is evaluated first. ``on_alarm`` is a command or the URL of a webhook, both get the alarm as JSON;
    ``stop_on_alarm`` ends the following. ``trackers``: experiment trackers (``Trackers``) that get every checkpoint's metrics.
    """

    every: int = 1
    last_first: bool = False
    settle_s: float = 10.0
    poll_s: float = 30.0
    idle_s: float | None = None
    once: bool = False
    alarms: tuple[Alarm, ...] = ()
    against: str | None = None
    on_alarm: str | None = None
    stop_on_alarm: bool = False
    trackers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raises BadArgument naming the option."""
        check(self.every >= 1, "--every", self.every, "must be at least 1")
        check(self.settle_s >= 0, "--settle", self.settle_s, "must be 0 seconds or more")
        check(self.poll_s > 0, "--poll", self.poll_s, "must be above 0 seconds")
        base = "must name the base that an --alarm compares with, and belongs to one"
        check((self.against is None) == (not self.alarms), "--against", self.against, base)
        in_order = "cannot be used with --alarm, which needs the checkpoints in the order of their steps"
        check(not (self.last_first and self.alarms), "--last-first", self.last_first, in_order)
        if self.on_alarm is not None:
            check_action(self.on_alarm)
        check(self.idle_s is None or self.idle_s > 0, "--idle", self.idle_s, "must be above 0 seconds")


class Followed(msgspec.Struct, frozen=True, kw_only=True):
    """The result of one checkpoint on one task: its run and scorecard, or the error."""

    checkpoint: str
    step: int
    task: str
    run: str | None = None
    scorecard: Scorecard | None = None
    error: str | None = None


def follow(
    pattern: str,
    tasks: Sequence[str],
    options: SampleOptions | None = None,
    grading: GradeOptions | None = None,
    following: FollowOptions | None = None,
    *,
    progress: Progress | None = None,
    on_result: Callable[[Followed], None] = lambda result: None,
    on_fired: Callable[[Fired], None] = lambda fired: None,
) -> list[Followed]:
    """Evaluate every checkpoint that ``pattern`` matches, now and later, on ``tasks``; returns the last result of each.

    ``pattern``: a glob of folders with steps in their names, here or on object storage (``s3://``, ``gs://``). Each task
    has ``series.json`` and ``report.html`` in the folder ``followed/TASK`` of ``options.out``, written again after each
    checkpoint. ``on_result`` gets each result when it is ready, and ``on_fired`` each alarm, once;
    ``followed/TASK/alarms.json`` lists the alarms so far. A checkpoint that cannot be evaluated is a result with an error,
    and does not stop the others; one that was overwritten after or while it was evaluated is such an error, and is left out
    of the series.

    Raises BadArgument for a pattern without steps and for ``out`` on object storage, the errors of reading a task,
    StorageError.
    """
    options, following = options or SampleOptions(), following or FollowOptions()
    check_pattern(pattern)
    if not tasks:
        raise BadArgument("--task", None, "name at least one task")
    tasks = expand_tasks(tasks)
    for task in tasks:
        read_task(task)  # a wrong name is an error now, not at the first checkpoint
    if "://" in str(options.out):
        raise BadArgument(
            "--out", str(options.out), "must be on this machine or a shared disk: followers lock files there"
        )
    follower = _Follower(
        pattern, tasks, options, grading or GradeOptions(), following, progress or Silent(), on_result, on_fired
    )
    try:
        follower.run()
    finally:
        follower.close()
    if not follower.results():
        logger.warning("no whole checkpoint matches %s", pattern)
    return follower.results()


class _Follower:
    """What one process knows: results by checkpoint and task, and the files that each of them was made from."""

    def __init__(
        self,
        pattern: str,
        tasks: Sequence[str],
        options: SampleOptions,
        grading: GradeOptions,
        following: FollowOptions,
        progress: Progress,
        on_result: Callable[[Followed], None],
        on_fired: Callable[[Fired], None],
    ) -> None:
        followed = as_path(options.out) / "followed"
        self._pins = Pins(followed / "pins", (options, grading)) if "://" in pattern else None
        self._watch = (
            Watch(pattern, following.every, following.settle_s)
            if self._pins is None
            else StoredWatch(pattern, followed / "copies", following.every, following.settle_s)
        )
        self._tasks, self._options, self._grading, self._following = tasks, options, grading, following
        self._progress, self._on_result, self._on_fired = progress, on_result, on_fired
        self._bases: dict[str, tuple[Path, Scorecard]] = {}
        self._pending: set[int] = set()
        self._trackers = Trackers(following.trackers, _series_name(pattern), followed / "trackers")
        self._is_stopped = False
        self._done: dict[Path, Signature] = {}
        self._results: dict[tuple[int, str], Followed] = {}
        self._reported: dict[Path, str] = {}

    def results(self) -> list[Followed]:
        """The last result of each checkpoint and task, by step."""
        return [self._results[key] for key in sorted(self._results)]

    def close(self) -> None:
        """End the trackers' runs."""
        self._trackers.close()

    def run(self) -> None:
        """Work until ``once`` or ``idle_s`` ends it."""
        self._read_bases()
        last_work = time.monotonic()
        while not self._is_stopped:
            if self._work():
                last_work = time.monotonic()
                continue
            self._report_incomplete()
            idle_s = self._following.idle_s
            if self._following.once or (idle_s is not None and time.monotonic() - last_work >= idle_s):
                return
            time.sleep(self._following.poll_s)

    def _work(self) -> bool:
        """Evaluate the next checkpoint that no other follower works on; whether there was one."""
        waiting = [point for point in self._watch.look() if self._done.get(point.folder) != point.signature]
        self._pending = {point.step for point in waiting}
        for point in reversed(waiting) if self._following.last_first else waiting:
            claim = as_path(self._options.out) / "followed" / "claims" / _short_name(point.folder)
            try:
                lock = lock_folder(claim)
            except RunLocked:
                continue
            with lock:
                if self._take(point):
                    return True
        return False

    def _take(self, point: Checkpoint) -> bool:
        """Evaluate a checkpoint; False where another process writes to its run, so that it has to wait."""
        before = self._done.get(point.folder)
        try:
            results = self._evaluate(point)
        except (RunLocked, StorageError) as reason:
            self._watch.incomplete[point.folder] = str(reason)
            return False
        changed = self._watch.changed(point)
        self._pending.discard(point.step)
        self._done[point.folder] = point.signature
        for result in results:
            error = result.error
            if error is not None and before is not None:
                error = f"overwritten since it was evaluated, so it is left out: {error}"
            elif error is None and changed:
                error = "overwritten while it was evaluated, so it is left out: its weights may be mixed"
            self._record(point, result, error)
        return True

    def _evaluate(self, point: Checkpoint) -> list[Result]:
        """The results of a checkpoint. Raises RunLocked, or StorageError where it cannot be copied to this machine."""
        name = _short_name(point.folder)
        pinned = None if self._pins is None else self._pins.read(name, point, self._tasks)
        if pinned is not None:
            return pinned
        with self._watch.here(point) as folder:
            results = list(_evaluated(str(folder), self._tasks, self._options, self._grading, self._progress))
        if self._pins is not None:
            self._pins.write(name, point, results)
        return results

    def _record(self, point: Checkpoint, result: Result, error: str | None) -> None:
        followed = Followed(
            checkpoint=str(point.folder),
            step=point.step,
            task=result.task,
            run=None if result.run is None else str(result.run),
            scorecard=None if error is not None else result.scorecard,
            error=error,
        )
        self._results[point.step, result.task] = followed
        self._on_result(followed)
        if followed.scorecard is not None:
            self._trackers.log(result.task, point.step, followed.scorecard)
        try:
            self._publish(result.task)
        except RlvrBenchError as problem:
            logger.warning("series and report of %s are not up to date: %s", result.task, problem)
        for alarm in self._following.alarms:
            try:
                self._listen(alarm, result.task)
            except RlvrBenchError as problem:
                logger.warning("no alarm on %s: %s", alarm.metric, problem)

    def _good(self, task: str) -> list[Followed]:
        """The results that are in the series of a task."""
        results = [entry for entry in self.results() if entry.task == task]
        return [entry for entry in results if entry.error is None and entry.run is not None]

    def _folder(self, task: str) -> Path:
        return as_path(self._options.out) / "followed" / task_name(task)

    def _read_bases(self) -> None:
        """The base's scorecard of every task; a model is evaluated. Raises RunError where the base lacks a task."""
        against = self._following.against
        if against is None:
            return
        if as_path(against).exists() and not _is_model(as_path(against)):
            self._bases = {card.run.task: (file, card) for file, card in read_cards([against])}
            return
        for result in _evaluated(against, self._tasks, self._options, self._grading, self._progress):
            if result.run is None or result.scorecard is None:
                raise RunError(f"--against {against}: {result.error}")
            self._bases[result.scorecard.run.task] = (result.run / "scorecard.json", result.scorecard)

    def _listen(self, alarm: Alarm, task: str) -> None:
        """Sound an alarm that has not sounded before, on the checkpoints before the first one that is still to come."""
        file = self._folder(task) / "alarms.json"
        earlier = _earlier(file)
        if any((entry.alarm, entry.tolerance) == (alarm.metric, alarm.tolerance) for entry in earlier):
            return
        before = min(self._pending, default=None)
        looks = [
            Look(step=entry.step, file=Path(str(entry.run)) / "scorecard.json", card=entry.scorecard)
            for entry in self._good(task)
            if entry.scorecard is not None and (before is None or entry.step < before)
        ]
        if not looks:
            return
        base = self._bases.get(looks[0].card.run.task)
        if base is None:
            raise RunError(f"--against {self._following.against} has no scorecard of {task}")
        level = ALARM_LEVEL / (len(self._following.alarms) * len(self._tasks))
        fired = sound_alarm(alarm, task, base, looks, level)
        if fired is None:
            return
        write_atomically(file, format_json([*earlier, fired]))
        self._is_stopped = self._is_stopped or self._following.stop_on_alarm
        self._on_fired(fired)
        if self._following.on_alarm is not None:
            act(self._following.on_alarm, fired)

    def _publish(self, task: str) -> None:
        good, folder = self._good(task), self._folder(task)
        make_folder(folder)
        runs = [str(entry.run) for entry in good]
        if len(good) >= 2:
            training = series(runs, [entry.step for entry in good])
            write_atomically(folder / "series.json", format_json(training, enc_hook=str))
        if good:
            report(runs, folder / "report.html")

    def _report_incomplete(self) -> None:
        """A line for each checkpoint that is not whole, once for each reason."""
        for folder, reason in self._watch.incomplete.items():
            if self._reported.get(folder) != reason:
                self._reported[folder] = reason
                logger.info("waiting: %s", reason)


def _is_model(path: Path) -> bool:
    try:
        return path.is_dir() and bool(checkpoint_folder(path))
    except ModelError:
        return False


def _earlier(file: Path) -> list[Fired]:
    """The alarms that have sounded. Raises RunError where the file cannot be read."""
    try:
        return decode(read_if_there(file) or b"[]", list[Fired])
    except msgspec.DecodeError as error:
        raise RunError(f"{file} cannot be read: {error}. Remove it; then alarms may sound again") from error


def _evaluated(
    model: str, tasks: Sequence[str], options: SampleOptions, grading: GradeOptions, progress: Progress
) -> Iterator[Result]:
    """The checkpoint on every task, with one engine. Raises RunLocked where another process writes to a run."""
    options = with_replicas(options, [model])
    with Job(options, 1) as job, job.checkpoint(progress) as engines:
        for task in tasks:
            try:
                run, scorecard = evaluate(model, task, options, grading, progress, engines)
                yield Result(model=model, task=task, run=run, scorecard=scorecard)
            except RunLocked:
                raise
            except RlvrBenchError as error:
                yield Result(model=model, task=task, error=str(error))


def _series_name(pattern: str) -> str:
    """The training run that the checkpoints are of: the folder that they are in."""
    return model_name(pattern.rpartition("/")[0] if "://" in pattern else str(Path(pattern).parent.resolve()))


def _short_name(folder: Path) -> str:
    return hashed(model_name(str(folder)), str(folder if is_remote(folder) else folder.resolve()))
