"""Evaluates several checkpoints on several tasks. A failure does not stop the others."""

from __future__ import annotations

import glob
import itertools
import queue
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rlvr_bench import pipeline
from rlvr_bench.errors import ModelError, RlvrBenchError
from rlvr_bench.pipeline.engines import Job
from rlvr_bench.pipeline.gpus import with_replicas
from rlvr_bench.pipeline.options import GradeOptions, Progress, SampleOptions
from rlvr_bench.scorecard import Scorecard

__all__ = ["Result", "evaluate_all", "expand_models"]

_STOP_S = 30.0  # seconds that the other threads get to write what they have, once the job is stopped


@dataclass(frozen=True, kw_only=True)
class Result:
    """The result of one checkpoint on one task: its run and scorecard, or the error."""

    model: str
    task: str
    run: Path | None = None
    scorecard: Scorecard | None = None
    error: str | None = None


def expand_models(models: Sequence[str]) -> list[str]:
    """Replace globs by the folders they match, in natural order (step 20 before step 100); keep other names.

    Raises ModelError for a glob that matches no folder.
    """
    names: list[str] = []
    for model in models:
        if not re.search(r"[*?\[]", model):
            names.append(model)
            continue
        matches = sorted((path for path in glob.glob(model) if Path(path).is_dir()), key=_natural)
        if not matches:
            raise ModelError(f"no checkpoint folder matches {model!r}")
        names += matches
    return list(dict.fromkeys(names))


def evaluate_all(
    models: Sequence[str],
    tasks: Sequence[str],
    options: SampleOptions,
    grading: GradeOptions,
    progress: Progress,
    report: Callable[[Result], None],
) -> list[Result]:
    """Evaluate each checkpoint on each task; calls ``report`` with each result when it is ready.

    An RlvrBenchError becomes a result. An engine stays open for all tasks of its checkpoint. On a cluster several
    checkpoints are drawn at once. Returns the results ordered by checkpoint, then task.
    """
    names = expand_models(models)
    options = with_replicas(options, names)
    with Job(options, len(names)) as job:

        def evaluate(model: str, progress: Progress) -> Iterator[Result]:
            with job.checkpoint(progress) as engines:
                for task in tasks:
                    try:
                        run, scorecard = pipeline.evaluate(model, task, options, grading, progress, engines)
                        yield Result(model=model, task=task, run=run, scorecard=scorecard)
                    except RlvrBenchError as error:
                        yield Result(model=model, task=task, error=str(error))

        ready: Iterator[Result]
        if job.at_once == 1:
            ready = itertools.chain.from_iterable(evaluate(model, progress) for model in names)
        else:
            ready = _side_by_side({name: evaluate(name, progress.lane(name)) for name in names}, job)
        results = []
        for result in ready:
            results.append(result)
            report(result)
    order = {(model, task): number for number, (model, task) in enumerate(itertools.product(names, tasks))}
    return sorted(results, key=lambda result: order[result.model, result.task])


def _side_by_side(checkpoints: Mapping[str, Iterator[Result]], job: Job) -> Iterator[Result]:
    """Yields results as they are ready; checkpoints start in order, ``job.at_once`` at a time, in threads."""
    done: queue.SimpleQueue[Result | BaseException | None] = queue.SimpleQueue()
    waiting = queue.SimpleQueue[Iterator[Result]]()
    for results in checkpoints.values():
        waiting.put(results)

    def work() -> None:
        try:
            while not waiting.empty():
                for result in waiting.get(block=False):
                    done.put(result)
        except queue.Empty:
            pass
        except BaseException as error:  # noqa: BLE001  raised in the thread that asked
            done.put(error)
        finally:
            done.put(None)

    threads = [threading.Thread(target=work, name=f"checkpoint-{i}", daemon=True) for i in range(job.at_once)]
    for thread in threads:
        thread.start()
    try:
        yield from _until_all_end(done, len(threads))
    except BaseException:
        job.stop()
        for thread in threads:
            thread.join(_STOP_S)
        raise


def _until_all_end(done: queue.SimpleQueue[Result | BaseException | None], running: int) -> Iterator[Result]:
    while running:
        item = done.get()
        if isinstance(item, BaseException):
            raise item
        if item is None:
            running -= 1
        else:
            yield item


def _natural(text: str) -> list[tuple[int, int, str]]:
    """Digit runs compare as numbers."""
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"([0-9]+)", text)]
