"""Statistics gathered in the scheduler: whole, in order, of the right request, and refused where they are not."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pytest

from rlvr_bench.errors import EngineError
from rlvr_bench.samplers import vllm_scheduler
from rlvr_bench.samplers.summary import TokenSummary, summarise
from rlvr_bench.samplers.vllm_packing import TokenColumns, marks, unpack
from rlvr_bench.samplers.vllm_scheduler import StatisticsScheduler, marked

RNG = np.random.default_rng(5)


class Logprobs(NamedTuple):
    """The shape of vLLM's log-probabilities of one step."""

    logprob_token_ids: np.ndarray[Any, Any]
    logprobs: np.ndarray[Any, Any]
    cu_num_generated_tokens: list[int] | None = None

    def slice_request(self, request: int, count: int) -> Logprobs:
        start = self.cu_num_generated_tokens[request] if self.cu_num_generated_tokens else request
        return Logprobs(self.logprob_token_ids[start : start + count], self.logprobs[start : start + count])


class Output(msgspec.Struct):
    """What vLLM's scheduler says of one request after a step, as far as the gathering looks at it."""

    request_id: str
    new_token_ids: list[int]
    new_logprobs: Logprobs | None = None
    finish_reason: str | None = None
    prefill_stats: str | None = None
    routed_experts: Any = None


class Plain:
    """A scheduler that gives out the outputs it was made with, step by step, with their rows of the step's table."""

    def __init__(self, config: Any, steps: Sequence[Sequence[Output]], **_: object) -> None:
        self.steps = list(steps)

    def add_request(self, request: Any) -> None:
        self.last = request

    def finish_requests(self, request_ids: Any, finished_status: Any) -> list[Any]:
        return []

    def update_from_output(self, scheduler_output: Any, model_runner_output: Any) -> dict[int, Any]:
        outputs, logprobs = self.steps.pop(0), model_runner_output.logprobs
        for index, output in enumerate(outputs):
            output.new_logprobs = logprobs and logprobs.slice_request(index, len(output.new_token_ids))
        return {0: SimpleNamespace(outputs=list(outputs))}


def drawn(outputs: Sequence[Output]) -> Any:
    """What the workers return of a step: one table for all requests, with a list of starts as in speculation."""
    tables = [output.new_logprobs for output in outputs]
    if not tables or None in tables:
        return SimpleNamespace(logprobs=None)
    names, values = (np.concatenate([part[column] for part in tables if part]) for column in (0, 1))
    starts = np.cumsum([0, *(len(part.logprobs) for part in tables if part)]).tolist()
    alone = all(len(output.new_token_ids) == 1 for output in outputs)
    return SimpleNamespace(logprobs=Logprobs(names, values, None if alone else starts))


def scheduler(steps: Sequence[Sequence[Output]], **requests: Any) -> Any:
    config = SimpleNamespace(scheduler_cls="ours")
    config.get_scheduler_cls = lambda: Plain if config.scheduler_cls is None else pytest.fail("asked for itself")
    made: Any = StatisticsScheduler(SimpleNamespace(scheduler_config=config), steps)
    assert config.scheduler_cls == "ours"
    for name, (kind, stop) in requests.items():
        extra = None if kind is None else marked(kind)["extra_args"]
        made.add_request(SimpleNamespace(request_id=name, sampling_params=SimpleNamespace(extra_args=extra, stop=stop)))
    return made


def statistics(n: int) -> TokenColumns:
    return TokenColumns(
        -RNG.random(n).astype(np.float32), RNG.random(n).astype(np.float32), RNG.integers(1, 90, n).astype(np.int32)
    )


def cut(columns: TokenColumns, part: slice) -> TokenColumns:
    return TokenColumns(columns.logprob[part], columns.entropy[part], columns.nucleus[part])


def table(ids: Sequence[int], columns: TokenColumns, extra: int = 0) -> Logprobs:
    tokens = np.array(ids)
    names = np.stack([tokens, *marks(tokens), *[tokens + 9] * extra], 1).astype(np.int32)
    values = np.stack([*columns, *[columns.logprob] * extra], 1).astype(np.float32)
    return Logprobs(names, values)


def outputs(name: str, ids: Sequence[int], columns: TokenColumns, step: int = 1, extra: int = 0) -> list[Output]:
    """A response in steps of ``step`` tokens; the first has what vLLM adds to the first token of every request."""
    made = []
    for start in range(0, len(ids), step):
        part = slice(start, start + step)
        rows = table(ids[part], cut(columns, part), extra)
        made.append(Output(name, list(ids[part]), rows))
    made[0].prefill_stats = "cached"
    made[-1].finish_reason = "stop"
    return made


class Driver:
    """Adds up what is sent, as vLLM's driver does."""

    def __init__(self, engine: Any, steps: int) -> None:
        self.ids: dict[str, list[int]] = {}
        self.parts: dict[str, list[Any]] = {}
        self.messages: list[Output] = []
        for _ in range(steps):
            for output in engine.update_from_output(None, drawn(engine.steps[0]))[0].outputs:
                self.messages.append(output)
                self.ids.setdefault(output.request_id, []).extend(output.new_token_ids)
                if output.routed_experts is not None:
                    self.parts.setdefault(output.request_id, []).append(output.routed_experts)

    def statistics(self, name: str) -> TokenColumns | TokenSummary:
        parts = self.parts.get(name)
        return unpack(np.concatenate(parts) if parts else None, self.ids[name])


def drivers_of(monkeypatch: pytest.MonkeyPatch, trims: bool) -> None:
    """vLLM with a driver that drops the tokens after a stop string, or with an earlier one."""
    driver = SimpleNamespace(_trim_surplus_tokens=None) if trims else SimpleNamespace()
    monkeypatch.setitem(sys.modules, "vllm.v1.engine.output_processor", SimpleNamespace(OutputProcessor=driver))
    monkeypatch.setitem(sys.modules, "vllm.v1.engine", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "vllm.v1", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "vllm", SimpleNamespace())
    monkeypatch.setattr(vllm_scheduler, "_held_with_stops", vllm_scheduler._held_with_stops.__wrapped__)


def same(ours: TokenColumns | TokenSummary, theirs: TokenColumns) -> None:
    assert isinstance(ours, TokenColumns)
    for a, b in zip(ours, theirs, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("step", [1, 3])
@pytest.mark.parametrize("length", [1, 2, 63, 200])
def test_a_summary_comes_once_with_the_numbers_of_the_arrays(length: int, step: int) -> None:
    ids, columns = RNG.integers(0, 500, length).tolist(), statistics(length)
    steps = [[output] for output in outputs("a", ids, columns, step, extra=step)]
    driver = Driver(scheduler(steps, a=("summary", None)), len(steps))
    assert driver.ids["a"] == ids
    assert len(driver.parts["a"]) == 1
    assert driver.statistics("a") == summarise(*columns)
    assert all(message.new_logprobs is None for message in driver.messages)
    assert len(driver.messages) <= 2 + length // 64
    assert driver.messages[0].prefill_stats == "cached"


@pytest.mark.parametrize(
    ("stop", "trims", "messages"), [(["x"], False, 150), (["x"], True, 39), (None, False, 4), (None, True, 4)]
)
def test_arrays_come_with_the_tokens_and_sooner_where_stop_strings_are_looked_for(
    stop: list[str] | None, trims: bool, messages: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One token at a time where vLLM's driver cannot drop those after a stop string."""
    drivers_of(monkeypatch, trims)
    ids, columns = RNG.integers(0, 500, 150).tolist(), statistics(150)
    steps = [[output] for output in outputs("a", ids, columns)]
    driver = Driver(scheduler(steps, a=("arrays", stop)), 150)
    assert len(driver.messages) == messages
    same(driver.statistics("a"), columns)


def test_a_response_that_the_driver_ends_has_the_statistics_of_its_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    drivers_of(monkeypatch, trims=False)
    ids, columns = list(range(10)), statistics(10)
    steps = [[output] for output in outputs("a", ids, columns)]
    driver = Driver(scheduler(steps, a=("arrays", ["x"])), 4)
    assert driver.ids["a"] == [0, 1, 2, 3]
    same(driver.statistics("a"), cut(columns, slice(4)))


def test_requests_of_one_step_are_kept_apart() -> None:
    """Three run together, of other lengths and kinds, and join and leave at other steps; one is not ours."""
    lengths = {"a": 90, "b": 130, "c": 70, "other": 40}
    ids = {name: RNG.integers(0, 99, n).tolist() for name, n in lengths.items()}
    columns = {name: statistics(n) for name, n in lengths.items()}
    streams = {name: outputs(name, ids[name], columns[name]) for name in lengths}
    steps: list[list[Output]] = [[] for _ in range(150)]
    for offset, stream in enumerate(streams.values()):
        for t, output in enumerate(stream):
            steps[t + 5 * offset].append(output)
    engine = scheduler(steps, a=("summary", None), b=("arrays", None), c=("summary", None), other=(None, None))
    driver = Driver(engine, 150)
    assert driver.ids == ids
    assert driver.statistics("a") == summarise(*columns["a"])
    assert driver.statistics("c") == summarise(*columns["c"])
    same(driver.statistics("b"), columns["b"])
    for message, t in zip((m for m in driver.messages if m.request_id == "other"), range(40), strict=True):
        assert isinstance(message.new_logprobs, Logprobs)  # as vLLM made them
        assert message.new_logprobs.logprobs[:, 1] == columns["other"].entropy[t]


def test_a_cancelled_request_is_forgotten_and_its_name_may_come_back() -> None:
    ids, columns = list(range(8)), statistics(8)
    first, second = outputs("a", ids, columns), outputs("a", ids, columns)
    engine = scheduler([[output] for output in [*first[:5], *second]], a=("summary", None))
    Driver(engine, 5)
    engine.finish_requests(["a", "never seen"], "aborted")
    assert not engine._gatherings
    engine.add_request(engine.last)
    assert Driver(engine, 8).statistics("a") == summarise(*columns)
    engine.add_request(engine.last)
    engine.finish_requests(None, "aborted")
    assert not engine._gatherings


def _ordinary(logprobs: Logprobs) -> Logprobs:
    return Logprobs(np.tile(logprobs.logprob_token_ids[:, :1], 3).astype(np.int64), logprobs.logprobs)


@pytest.mark.parametrize("kind", ["summary", "arrays"])
@pytest.mark.parametrize(
    "spoil",
    [
        lambda logprobs: None,
        _ordinary,
        lambda logprobs: Logprobs(logprobs.logprob_token_ids + 1, logprobs.logprobs),
        lambda logprobs: Logprobs(logprobs.logprob_token_ids, -logprobs.logprobs),
        lambda logprobs: Logprobs(logprobs.logprob_token_ids[:, :2], logprobs.logprobs[:, :2]),
        lambda logprobs: Logprobs(np.zeros(0, np.int32), logprobs.logprobs),
    ],
    ids=["missing", "ordinary", "of other tokens", "values that are none", "too few columns", "the whole vocabulary"],
)
def test_one_step_without_the_hook_spoils_a_response(kind: str, spoil: Any) -> None:
    stream = outputs("a", list(range(6)), statistics(6))
    stream[3].new_logprobs = spoil(stream[3].new_logprobs)
    driver = Driver(scheduler([[output] for output in stream], a=(kind, None)), 6)
    with pytest.raises(EngineError, match="hook is not active"):
        driver.statistics("a")


def test_statistics_of_other_tokens_are_refused() -> None:
    ids, columns = list(range(6)), statistics(6)
    steps = [[output] for output in outputs("a", ids, columns)]
    driver = Driver(scheduler(steps, a=("summary", None)), 6)
    driver.ids["a"] = [0, 1, 2, 3, 5, 4]
    with pytest.raises(EngineError, match="hook is not active"):
        driver.statistics("a")
