"""Token statistics gathered where vLLM assigns them to requests: in the engine's scheduler, not in the driver.

vLLM sends every token of every request to the driver in an object of its own, and turns every log-probability into
Python numbers there. For a request marked by ``marked`` this scheduler gathers the hook's columns (``vllm_worker``)
after vLLM has assigned rows to requests and has cut them at the end of a response. So preemption, chunked prefill,
asynchronous scheduling, speculation and ``n`` need no care here. The driver gets the statistics as one packed array
(``vllm_packing``) in ``CompletionOutput.routed_experts``, the only field of an output that holds an array.
"""

from __future__ import annotations

import functools
import importlib
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from rlvr_bench.errors import EngineError
from rlvr_bench.samplers.vllm_packing import ROW, pack_rows, pack_summary
from rlvr_bench.samplers.vllm_worker import COLUMNS

if TYPE_CHECKING:
    from vllm.config import VllmConfig
    from vllm.v1.engine import EngineCoreOutput
    from vllm.v1.outputs import LogprobsLists

__all__ = ["StatisticsScheduler", "marked"]

Kind = Literal["summary", "arrays"]
_MARK, _HOLD = "rlvr_bench_statistics", "rlvr_bench_held"
# Tokens that are sent to the driver at once, and where it looks for stop strings, after which the engine goes on for so
# long.
HELD, _HELD_WITH_STOPS = 64, 4
_ROW_BYTES = 4 * ROW


def marked(kind: Kind) -> dict[str, object]:
    """Sampling parameters of a request whose statistics are gathered here.

    ``summary``: once per response, at its end. ``arrays``: with the tokens. A response that the driver ends, at a stop
    string, has only ``arrays``.
    """
    return {"logprobs": COLUMNS, "extra_args": {_MARK: kind, _HOLD: HELD}}


class StatisticsScheduler:
    """Creating it gives an instance of the scheduler class that vLLM would take, with statistics gathered in it."""

    def __new__(cls, vllm_config: VllmConfig, *args: object, **kwargs: object) -> Any:
        config = vllm_config.scheduler_config
        config.scheduler_cls, ours = None, config.scheduler_cls
        plain = config.get_scheduler_cls()
        config.scheduler_cls = ours
        return type(plain.__name__, (_Gatherer, plain), {})(vllm_config, *args, **kwargs)


@functools.cache
def _held_with_stops() -> int:
    """Before version 0.32, vLLM's driver does not drop the tokens that follow a stop string: it must see each alone."""
    driver: object = importlib.import_module("vllm.v1.engine.output_processor").OutputProcessor
    return _HELD_WITH_STOPS if hasattr(driver, "_trim_surplus_tokens") else 1


class _Gatherer:
    """Overrides of vLLM's ``SchedulerInterface``; the plain scheduler follows in the order of base classes."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        self._gatherings: dict[str, Gathering] = {}
        super().__init__(*args, **kwargs)

    def add_request(self, request: Any) -> None:
        super().add_request(request)  # type: ignore[misc]
        sampling = request.sampling_params
        given = (sampling and sampling.extra_args) or {}
        if _MARK in given:
            held = min(given[_HOLD], _held_with_stops()) if sampling.stop else given[_HOLD]
            self._gatherings[request.request_id] = Gathering(given[_MARK], held)

    def finish_requests(self, request_ids: Any, finished_status: Any) -> Any:
        finished = super().finish_requests(request_ids, finished_status)  # type: ignore[misc]
        names = [request_ids] if isinstance(request_ids, str) else request_ids
        for name in list(self._gatherings) if names is None else names:
            self._gatherings.pop(name, None)
        return finished

    def update_from_output(self, scheduler_output: Any, model_runner_output: Any) -> dict[int, Any]:
        if self._gatherings and model_runner_output.logprobs is not None:
            model_runner_output.logprobs = _Step(model_runner_output.logprobs)
        batches: dict[int, Any] = super().update_from_output(scheduler_output, model_runner_output)  # type: ignore[misc]
        for batch in batches.values():
            batch.outputs = [output for output in batch.outputs if self._is_sent(output)]
        return batches

    def _is_sent(self, output: EngineCoreOutput) -> bool:
        gathering = self._gatherings.get(output.request_id)
        if gathering is None:
            if isinstance(output.new_logprobs, _Slice):
                output.new_logprobs = output.new_logprobs.unpacked()
            return True
        if output.finish_reason is not None:
            del self._gatherings[output.request_id]
        return gathering.add(output)


class _Step:
    """In place of vLLM's ``LogprobsLists`` of one step: the rows of all requests are packed at once."""

    def __init__(self, lists: LogprobsLists) -> None:
        self.lists = lists
        self.rows = _packed_rows(lists)

    def slice_request(self, request: int, positions: int) -> _Slice:
        return _Slice(self, request, positions)


def _packed_rows(lists: LogprobsLists) -> bytes:
    """The rows of a step; nothing where they have another form, so that a response has too few and is refused."""
    try:
        rows = pack_rows(lists.logprob_token_ids, lists.logprobs)
    except (ValueError, IndexError):
        return b""
    return rows.tobytes() if rows.dtype == np.int32 and rows.shape[1] == ROW else b""


class _Slice(NamedTuple):
    """The rows of one request in a step."""

    step: _Step
    request: int
    positions: int

    def packed(self) -> bytes:
        starts = self.step.lists.cu_num_generated_tokens
        start = self.request if starts is None else starts[self.request]
        return self.step.rows[_ROW_BYTES * start : _ROW_BYTES * (start + self.positions)]

    def unpacked(self) -> LogprobsLists:
        return self.step.lists.slice_request(self.request, self.positions)


class Gathering:
    """Tokens and statistics of one unfinished request that the driver does not have yet."""

    def __init__(self, kind: Kind, held: int) -> None:
        """``held``: after how many tokens they are sent."""
        self._kind, self._held = kind, held
        self._unsent: list[int] = []
        self._ids: list[int] = []
        self._rows = bytearray()

    def add(self, output: EngineCoreOutput) -> bool:
        """Take the output's tokens and statistics. True if it must be sent: it then has everything gathered so far."""
        if output.new_logprobs is not None:
            self._rows += output.new_logprobs.packed()
            output.new_logprobs = None
        self._unsent += output.new_token_ids
        bare = output == type(output)(output.request_id, output.new_token_ids)
        if bare and len(self._unsent) < self._held:
            return False
        self._ids += self._unsent
        output.new_token_ids, self._unsent = self._unsent, []
        if self._kind == "arrays" or output.finish_reason is not None:
            output.routed_experts = self._packed()
        return True

    def _packed(self) -> npt.NDArray[np.number] | None:
        """The packed statistics; None or rows where they are not those of the hook, which the driver refuses."""
        ids, rows = self._ids, bytes(self._rows)
        self._ids, self._rows = [], bytearray()
        try:
            table = np.frombuffer(rows, np.int32).reshape(len(ids), ROW)
        except ValueError:
            return None
        try:
            return table if self._kind == "arrays" else pack_summary(table, ids)
        except EngineError:
            return table
