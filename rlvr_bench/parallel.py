"""Does the same work on many items, in this process or in several processes of this machine, with the same results.

The processes are joblib's (loky): new interpreters, not forks, so the caller's threads and locks cannot cause
deadlocks.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from logging.handlers import QueueHandler
from typing import TypeVar

from rlvr_bench.errors import BadArgument, RlvrBenchError

__all__ = ["check_jobs", "counted", "map_in_order"]

T = TypeVar("T")
R = TypeVar("R")
_OURS = logging.getLogger("rlvr_bench")
_BLAS_VARIABLES = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


def check_jobs(jobs: int) -> None:
    """Raises BadArgument unless ``jobs`` is at least 1."""
    if jobs < 1:
        raise BadArgument("-j", jobs, "must be at least 1")


def map_in_order(function: Callable[[T], R], items: Sequence[T], *, jobs: int = 1) -> Iterator[R]:
    """Yields ``function(item)`` for every item, in order, as soon as it is ready; uses ``jobs`` processes.

    Function, items and results are pickled. An error of ``function`` is raised here, in the order of the items, and its
    log records are logged here. Stopping the iteration ends the processes. Raises BadArgument; RlvrBenchError where a
    process was killed.
    """
    check_jobs(jobs)
    if min(jobs, len(items)) <= 1:
        yield from map(function, items)
        return
    from joblib import Parallel, delayed, parallel_config
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    level = _OURS.getEffectiveLevel()
    with parallel_config(backend="loky", inner_max_num_threads=_blas_threads()), _interrupts_waiting():
        workers = Parallel(n_jobs=min(jobs, len(items)), return_as="generator")
        outcomes = workers(delayed(_in_worker)(function, item, level) for item in items)
    try:
        for records, result, error in outcomes:
            for record in records:
                logging.getLogger(record.name).handle(record)
            if error is not None:
                raise error
            yield result
    except TerminatedWorkerError as error:
        raise RlvrBenchError("a worker process was killed, perhaps for memory: use a smaller -j") from error
    finally:
        outcomes.close()


def counted(items: Iterable[T], total: int, on_progress: Callable[[int, int], object]) -> Iterator[T]:
    """Yields the items; calls ``on_progress(done, total)`` at the start, with 0 done, and at every item."""
    on_progress(0, total)
    for done, item in enumerate(items, 1):
        on_progress(done, total)
        yield item


@contextlib.contextmanager
def _interrupts_waiting() -> Iterator[None]:
    """Block Ctrl-C, also in processes that are started meanwhile, until they have installed a handler."""
    from multiprocessing import resource_tracker

    from joblib.externals.loky.backend import resource_tracker as of_loky

    for tracker in (resource_tracker, of_loky):
        tracker.ensure_running()  # a tracker that starts later would unblock Ctrl-C again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _blas_threads() -> int:
    """The number of BLAS threads of this process, for the workers too: the last digit of a sum may depend on it."""
    given = next((value for name in _BLAS_VARIABLES if (value := os.environ.get(name, "")).isdecimal()), None)
    return int(given) if given else len(os.sched_getaffinity(0))


class _Kept(QueueHandler):
    """Keeps log records in a form that can be pickled."""

    def __init__(self) -> None:
        super().__init__(None)  # type: ignore[arg-type]
        self.records: list[logging.LogRecord] = []

    def enqueue(self, record: logging.LogRecord) -> None:
        self.records.append(record)


def _in_worker(
    function: Callable[[T], R], item: T, level: int
) -> tuple[list[logging.LogRecord], R | None, Exception | None]:
    """The log records of an item, and its result or its error.

    Ctrl-C has no effect here: only the caller handles it.
    """
    with contextlib.suppress(ValueError):  # not in the main thread
        signal.signal(signal.SIGINT, lambda *_: None)  # unlike SIG_IGN, not inherited by programs started here
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    kept = _Kept()
    _OURS.handlers[:], _OURS.propagate = [kept], False
    _OURS.setLevel(level)
    try:
        return kept.records, function(item), None
    except Exception as error:  # noqa: BLE001  raised where the result is due
        return kept.records, None, _travelling(error)


def _travelling(error: Exception) -> Exception:
    error.__cause__ = error.__context__ = None
    return error
