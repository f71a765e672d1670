"""Draw batches that are open in a vLLM engine: what their rollouts have so far, and how saved rollouts continue.

A batch is one request of n responses. Where an earlier session has saved tokens of some, each response is a request: the
prompt of a saved one ends with its saved tokens, and its limit is lower by as many. The statistics of saved tokens are
computed again, as those of prompt tokens, so only the ids are saved.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from rlvr_bench.errors import EngineError
from rlvr_bench.records import DrawRequest, SavedRollout
from rlvr_bench.samplers.model_files import cut_at_stop, detokenise
from rlvr_bench.samplers.tokenizer import Tokenizer

if TYPE_CHECKING:
    from vllm.outputs import CompletionOutput, RequestOutput
    from vllm.v1.engine.llm_engine import LLMEngine
    from vllm.v1.engine.output_processor import RequestState

__all__ = ["End", "OpenDraw", "OpenDraws", "Response", "end_of", "redrawn"]

End = Literal["token", "string", "length"]


class Response(NamedTuple):
    """A finished response: token ids (T,), how it ended, and its three columns of statistics (T,), None without."""

    ids: npt.NDArray[np.int32]
    ended: End
    columns: tuple[npt.NDArray[Any], ...] | None

    def cut(self, tokenizer: Tokenizer, prompt_ids: Sequence[int], saved: int, stops: Sequence[str]) -> Response:
        """The response up to a stop string that begins in its first ``saved`` tokens and ends after them.

        The engine looks for stop strings in the new tokens only. ``stops`` are those of request and run.
        """
        longest = max((len(stop.encode()) for stop in stops), default=0)  # a token has at least one byte
        first = max(0, saved - longest)
        for length in range(saved + 1, min(saved + longest, len(self.ids)) + 1):
            (text,) = detokenise(tokenizer, prompt_ids, [self.ids[first:length].tolist()])
            if cut_at_stop(text, stops)[1]:
                columns = None if self.columns is None else tuple(column[:length] for column in self.columns)
                return Response(self.ids[:length], "string", columns)
        return self


@dataclass
class OpenDraw:
    """A draw batch in the engine: its request, and the token ids of its prompt.

    ``saved``: its saved rollouts by offset. ``is_split``: each response is a request, not all together. ``offsets``: the
    offsets of these requests by name, once they are sent. ``outputs``: the finished ones.
    """

    request: DrawRequest
    prompt_ids: list[int]
    saved: Mapping[int, SavedRollout] = field(default_factory=dict)
    is_split: bool = False
    offsets: dict[str, int] = field(default_factory=dict)
    outputs: dict[int, RequestOutput] = field(default_factory=dict)

    def take(self, output: RequestOutput) -> bool:
        """Note the output of a finished request; returns whether it was the last one."""
        self.outputs[self.offsets[output.request_id]] = output
        return len(self.outputs) == self.request.n

    def lengths(self, output: RequestOutput) -> list[int]:
        """Tokens of the responses in a finished output, saved ones included; none where these had ended before."""
        saved = self.saved.get(self.offsets.get(output.request_id, -1))
        if saved is not None and saved.ended is not None:
            return []
        return [(0 if saved is None else len(saved.ids)) + len(response.token_ids) for response in output.outputs]

    def responses(
        self, columns: Callable[[CompletionOutput], Any], saved_columns: Callable[..., Any]
    ) -> list[Response]:
        """The finished responses, saved tokens included.

        ``columns`` returns the statistics of an output's tokens, ``saved_columns`` those of saved tokens, from the
        prompt's log-probabilities and the ids; both return None without statistics.
        """
        return [self._response(offset, columns, saved_columns) for offset in range(self.request.n)]

    def _response(
        self, offset: int, columns: Callable[[CompletionOutput], Any], saved_columns: Callable[..., Any]
    ) -> Response:
        saved, output = self.saved.get(offset), self.outputs.get(offset)
        parts = []
        if saved is not None:
            logprobs = output and output.prompt_logprobs
            parts.append((saved.ids, saved_columns(logprobs and logprobs[len(self.prompt_ids) :], saved.ids.tolist())))
            if saved.ended is not None:
                return Response(saved.ids, saved.ended, parts[0][1])
        assert output is not None  # only a saved rollout that ended may have none
        drawn = output.outputs[0]
        parts.append((np.array(drawn.token_ids, np.int32), columns(drawn)))
        joined = None
        if parts[0][1] is not None:
            joined = tuple(np.concatenate(column) for column in zip(*(part for _, part in parts), strict=True))
        return Response(np.concatenate([ids for ids, _ in parts]), end_of(drawn), joined)

    def rollouts(self, states: Mapping[str, Sequence[RequestState]]) -> Iterator[SavedRollout]:
        """What the rollouts have so far. ``states``: those of the engine's unfinished responses, by name of request."""
        if self.is_split:
            yield from self._one_by_one(states)
            return
        for live in states.values():
            parent = live[0].parent_req
            for output in [] if parent is None else parent.output_aggregator:
                if output is not None:
                    yield self._rollout(output.index, output.token_ids, end_of(output))
            for state in live:
                yield self._rollout(state.request_index, _ids(state), None)

    def _one_by_one(self, states: Mapping[str, Sequence[RequestState]]) -> Iterator[SavedRollout]:
        by_offset = {self.offsets[name]: live[0] for name, live in states.items()}
        for offset in range(self.request.n):
            saved, output = self.saved.get(offset), self.outputs.get(offset)
            if saved is not None and saved.ended is not None:
                yield saved
                continue
            drawn, ended = _ids(by_offset[offset]) if offset in by_offset else [], None
            if output is not None:
                drawn, ended = list(output.outputs[0].token_ids), end_of(output.outputs[0])
            yield self._rollout(offset, [*([] if saved is None else saved.ids.tolist()), *drawn], ended)

    def _rollout(self, offset: int, ids: Sequence[int], ended: End | None) -> SavedRollout:
        return SavedRollout(
            problem_id=self.request.prompt.problem_id,
            index=self.request.start + offset,
            ids=np.array(ids, np.int32),
            ended=ended,
        )


class OpenDraws(dict[str, OpenDraw]):
    """Open draws by the names of their requests in the engine; a call returns what their rollouts have so far."""

    def __init__(self, engine: LLMEngine) -> None:
        super().__init__()
        self._engine = engine
        self._last: list[SavedRollout] | None = None
        self.unsent: deque[tuple[OpenDraw, int]] = deque()  # draws and offsets for which there was no room yet

    def __call__(self) -> list[SavedRollout]:
        return self._rollouts() if self._last is None else self._last

    def freeze(self) -> None:
        """Keep what the rollouts have now for all later calls: the requests are about to be cancelled."""
        self._last = self._rollouts()

    def lengths(self) -> list[int]:
        """Tokens so far of the responses in the engine, saved ones included."""
        return [
            state.prompt_len - len(self[state.external_req_id].prompt_ids) + len(_ids(state))
            for state in self._states()
            if state.external_req_id in self
        ]

    def _states(self) -> Collection[RequestState]:
        states: dict[str, RequestState] = self._engine.output_processor.request_states
        return states.values()

    def _rollouts(self) -> list[SavedRollout]:
        states: dict[str, list[RequestState]] = defaultdict(list)
        for state in self._states():
            states[state.external_req_id].append(state)
        names: dict[int, list[str]] = defaultdict(list)
        for name, draw in self.items():
            names[id(draw)].append(name)
        draws = {id(draw): draw for draw in (*self.values(), *(draw for draw, _ in self.unsent))}
        return [
            rollout
            for number, draw in draws.items()
            for rollout in draw.rollouts({name: states[name] for name in names[number] if states[name]})
            if len(rollout.ids)
        ]


def end_of(output: CompletionOutput) -> End:
    """How a finished response ended. Raises EngineError where it was neither finished by the model nor cut."""
    if output.finish_reason == "stop":
        return "string" if isinstance(output.stop_reason, str) else "token"
    if output.finish_reason == "length":
        return "length"
    raise EngineError(
        f"vLLM ended a rollout with {output.finish_reason!r}: it was neither finished by the model nor cut at max_tokens"
    )


def redrawn(saved: SavedRollout, limit: int) -> SavedRollout:
    """The rollout without its last token where it has ``limit`` tokens: whatever that token was, it is drawn again.

    Its statistics could not be computed: a prompt of that length leaves no room in the context.
    """
    return saved if len(saved.ids) < limit else msgspec.structs.replace(saved, ids=saved.ids[:-1], ended=None)


def _ids(state: RequestState) -> Sequence[int]:
    assert state.detokenizer is not None  # only requests that pool have none
    ids: Sequence[int] = state.detokenizer.output_token_ids
    return ids
