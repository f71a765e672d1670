"""What a job shares, without a cluster: engines kept from task to task, results in order, threads that end."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rlvr_bench import pipeline
from rlvr_bench.errors import BadArgument, EngineError
from rlvr_bench.pipeline import GradeOptions, SampleOptions, models
from rlvr_bench.pipeline.batch import Result, _side_by_side, evaluate_all
from rlvr_bench.pipeline.options import Silent
from rlvr_bench.samplers.protocol import Sampler

TASK = "double_countdown"


def second_task(tmp_path: Path) -> str:
    other = tmp_path / "again.py"
    other.write_text((Path("tasks") / f"{TASK}.py").read_text().replace(f'"{TASK}"', '"again"'))
    return str(other)


def test_an_engine_is_opened_once_for_all_tasks_of_its_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    closed: list[str] = []

    def open_engine(model: str, options: SampleOptions) -> Sampler:
        from rlvr_bench.task import load_task

        opened.append(model)
        if model == "a/broken":
            raise EngineError("it does not start")
        sampler = models.open_fake("fake:0.5", load_task(TASK))
        real = type(sampler).info.fget(sampler)  # type: ignore[attr-defined]

        class Engine(type(sampler)):  # type: ignore[misc]
            @property
            def info(self) -> Any:
                import msgspec

                return msgspec.structs.replace(real, engine="transformers")

            def close(self) -> None:
                closed.append(model)

        sampler.__class__ = Engine
        return sampler

    def sample_only(model: str, task: str, options: SampleOptions, _: Any, progress: Any, engines: Any) -> Any:
        return pipeline.sample(model, task, options, None, progress, engines), None

    monkeypatch.setattr(models, "open_engine", open_engine)
    monkeypatch.setattr(pipeline, "evaluate", sample_only)
    asked = SampleOptions(n=4, limit=3, out=tmp_path / "runs")
    tasks = [TASK, second_task(tmp_path)]
    results = evaluate_all(["a/x", "a/broken", "a/y"], tasks, asked, GradeOptions(workers=1), Silent(), lambda _: None)
    assert opened == ["a/x", "a/broken", "a/broken", "a/y"]
    assert closed == ["a/x", "a/y"]
    assert [result.error for result in results] == [None, None, "it does not start", "it does not start", None, None]


def results_of(name: str, count: int, wait: threading.Event | None = None) -> Iterator[Result]:
    for i in range(count):
        if wait is not None:
            wait.wait(10)
        yield Result(model=name, task=str(i))


def test_checkpoints_run_side_by_side_and_all_results_come() -> None:
    gate = threading.Event()
    job: Any = SimpleNamespace(at_once=2, stop=lambda: None)
    results = _side_by_side({"a": results_of("a", 2, gate), "b": results_of("b", 3), "c": results_of("c", 1)}, job)
    first = [next(results) for _ in range(4)]
    assert {result.model for result in first} == {"b", "c"}  # a waits, the others go on
    gate.set()
    assert [result.model for result in results] == ["a", "a"]


def test_a_fault_in_one_thread_stops_the_job() -> None:
    def faulty() -> Iterator[Result]:
        yield Result(model="a", task="0")
        raise AssertionError("a bug")

    stopped = threading.Event()
    job: Any = SimpleNamespace(at_once=2, stop=stopped.set)
    with pytest.raises(AssertionError, match="a bug"):
        list(_side_by_side({"a": faulty(), "b": results_of("b", 1, stopped)}, job))
    assert stopped.is_set()


def test_the_options_are_checked(tmp_path: Path) -> None:
    with pytest.raises(BadArgument, match="--replicas is 0: must be at least 1"):
        SampleOptions(replicas=0)
    assert not SampleOptions(replicas=1).is_scaled
    assert SampleOptions(replicas=2).is_scaled
    assert SampleOptions(ray="auto").is_scaled


def test_every_checkpoint_has_its_own_bar(capsys: pytest.CaptureFixture[str]) -> None:
    from rlvr_bench.cli.progress import Bars

    with Bars() as bars:
        lanes = [bars.lane(name) for name in ("step-20", "step-100")]
        for lane in lanes:
            lane.start("sample", 100, 10)
            lane.advance(40, 4000)
            lane.note("2 replicas, 900 to 1,000 tok/s each")
        bars.pause()
        lanes[0].start("verify", 100, 0)
        lanes[0].advance(100)
        shown = [(task.description, task.completed, task.fields["rate"]) for task in bars._progress.tasks]
    assert shown == [("step-100 sample", 50, "2 replicas, 900 to 1,000 tok/s each"), ("step-20 verify", 100, "")]
