"""Evaluates several checkpoints on several tasks. A failure does not stop the others."""

from __future__ import annotations

import dataclasses
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
from rlvr_bench.pipeline.adapters import largest_rank
from rlvr_bench.pipeline.engines import Job
from rlvr_bench.pipeline.forecast import Forecast, forecast
from rlvr_bench.pipeline.gpus import with_replicas
from rlvr_bench.pipeline.options import GradeOptions, Progress, SampleOptions, check
from rlvr_bench.scorecard import Scorecard
from rlvr_bench.task_groups import expand_tasks

__all__ = ["Result", "evaluate_all", "expand_checkpoints", "expand_models", "forecast_all"]

_STOP_S = 30.0  # seconds that the other threads get to write what they have, once the job is stopped


@dataclass(frozen=True, kw_only=True)
class Result:
    """The result of one checkpoint on one task: its run and scorecard, or the error. ``model``: the checkpoint's name."""

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


def expand_checkpoints(
    models: Sequence[str], adapters: Sequence[str], options: SampleOptions
) -> list[tuple[str, SampleOptions]]:
    """The checkpoints that the user named, as pairs of a model and its options: one for each model or adapter.

    Globs are replaced as in ``expand_models``. Raises its errors; BadArgument for adapters of several models.
    """
    names = expand_models(models)
    adapters = [*adapters, *filter(None, [options.adapter])]
    if not adapters:
        return [(name, options) for name in names]
    check(len(names) == 1, "--model", names, "with --adapter, name the one model that the adapters belong to")
    chosen = expand_models(adapters)
    rank = largest_rank(chosen)
    return [(names[0], dataclasses.replace(options, adapter=name, adapter_rank=rank)) for name in chosen]


def forecast_all(
    models: Sequence[str], tasks: Sequence[str], options: SampleOptions, adapters: Sequence[str] = ()
) -> list[Forecast]:
    """What ``evaluate_all`` would draw, by checkpoint and task. Raises the errors of ``forecast`` and ``expand_tasks``."""
    checkpoints, tasks = expand_checkpoints(models, adapters, options), expand_tasks(tasks)
    return [forecast(model, task, chosen) for (model, chosen), task in itertools.product(checkpoints, tasks)]


def evaluate_all(
    models: Sequence[str],
    tasks: Sequence[str],
    options: SampleOptions,
    grading: GradeOptions,
    progress: Progress,
    report: Callable[[Result], None],
    adapters: Sequence[str] = (),
) -> list[Result]:
    """Evaluate each checkpoint on each task; calls ``report`` with each result when it is ready.

    With ``adapters``, the checkpoints are the one model with each of them. An RlvrBenchError becomes a result. An engine
    stays open for all tasks of its checkpoint, and for all adapters of its model. On a cluster several checkpoints are
    drawn at once, each in engines of its own. Returns the results ordered by checkpoint, then task. Raises UnknownName for
    a group of tasks that is not there.
    """
    tasks = expand_tasks(tasks)
    options = with_replicas(options, expand_models(models))
    checkpoints = expand_checkpoints(models, adapters, options)
    names = [chosen.checkpoint(model) for model, chosen in checkpoints]
    with Job(options, len(names)) as job:

        def evaluate(checkpoints: Sequence[tuple[str, SampleOptions]], progress: Progress) -> Iterator[Result]:
            with job.checkpoint(progress) as engines:
                for (model, chosen), task in itertools.product(checkpoints, tasks):
                    name = chosen.checkpoint(model)
                    try:
                        run, scorecard = pipeline.evaluate(model, task, chosen, grading, progress, engines)
                        yield Result(model=name, task=task, run=run, scorecard=scorecard)
                    except RlvrBenchError as error:
                        yield Result(model=name, task=task, error=str(error))

        ready: Iterator[Result]
        if any(chosen.adapter for _, chosen in checkpoints) and not options.is_scaled:
            ready = evaluate(checkpoints, progress)
        elif job.at_once == 1:
            ready = itertools.chain.from_iterable(evaluate([checkpoint], progress) for checkpoint in checkpoints)
        else:
            lanes = zip(names, checkpoints, strict=True)
            ready = _side_by_side({name: evaluate([one], progress.lane(name)) for name, one in lanes}, job)
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
