"""Tool-integrated reasoning: any sampler, with a Python interpreter that its model may use while it answers.

A rollout is drawn turn by turn. The model stops after a closed ```` ```python ```` block. The block runs in the sandbox
of the rollout. Its output is appended in an ```` ```output ```` block, and the model continues from there. The
transcript is the rollout's text. Token counts and token statistics include only the tokens that the model drew.

Transcripts are continued as text, because every engine can do this. So the tokens of an earlier turn, when they are
read again, may be split differently than the model drew them.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal, Self

import msgspec
import numpy as np

from rlvr_bench.errors import BadArgument, EngineError
from rlvr_bench.records import (
    Draw,
    DrawRequest,
    EngineInfo,
    Problem,
    Prompt,
    Rollout,
    SamplingParameters,
    TokenArrays,
    Tools,
)
from rlvr_bench.samplers.protocol import AdaptedSampler, LimitedSampler, PreparedSampler, Sampler
from rlvr_bench.samplers.seeds import draw_seed
from rlvr_bench.samplers.summary import summarise
from rlvr_bench.verifiers.interpreter import Interpreter, Printed
from rlvr_bench.verifiers.sandbox import sandbox_problem
from rlvr_bench.verifiers.transcript import STOP, output_block, read_turn

__all__ = ["INSTRUCTION", "ToolSampler", "with_instruction"]

INSTRUCTION = (
    "You can run Python code while you think. Write it between a line ```python and a line ```. It is run there and then, "
    "and what it prints is shown to you in a block that begins with ```output. Variables are kept from block to block. "
    "Then go on, and state the final answer yourself, outside of any block."
)
_LIVE = 256  # rollouts with an interpreter at once: an interpreter has two processes and two open files
_MEANS = ("entropy_mean", "branching_mean", "high_entropy_share")
_BOUNDS = ("entropy_low", "entropy_high", "branching_low", "branching_high")


def with_instruction(problem: Problem) -> Problem:
    """The problem with the instruction on how to run code before its question."""
    return msgspec.structs.replace(problem, question=f"{INSTRUCTION}\n\n{problem.question}")


class ToolSampler:
    """Implements ``Sampler`` with another sampler. At most ``workers`` blocks of code run at a time."""

    def __init__(self, inner: Sampler, tools: Tools, *, keep_tokens: bool = False, workers: int | None = None) -> None:
        """``keep_tokens``: keep per-token arrays in the rollouts. Raises BadArgument where there is no sandbox here."""
        if problem := sandbox_problem():
            raise BadArgument("--tools", tools.language, f"cannot run model code: {problem}")
        self._inner, self._tools, self._keep_tokens = inner, tools, keep_tokens
        self._workers = workers or max(1, (os.cpu_count() or 2) // 2)

    @property
    def info(self) -> EngineInfo:
        return self._inner.info

    def prepare(self, prompts: Sequence[Prompt]) -> None:
        """Prepare the inner sampler where it is a ``PreparedSampler``."""
        if isinstance(self._inner, PreparedSampler):
            self._inner.prepare(prompts)

    def check_sampling(self, sampling: SamplingParameters) -> None:
        """Ask the inner sampler where it is a ``LimitedSampler``."""
        if isinstance(self._inner, LimitedSampler):
            self._inner.check_sampling(sampling)

    def use_adapter(self, folder: str | None) -> None:
        """Change the adapter of the inner sampler. Raises EngineError where it is not an ``AdaptedSampler``."""
        if not isinstance(self._inner, AdaptedSampler):
            raise EngineError(f"engine {self.info.engine!r} takes no adapters")
        self._inner.use_adapter(folder)

    def prompt_tokens(self, prompt: Prompt) -> int:
        return self._inner.prompt_tokens(prompt)

    def draw(self, requests: Iterable[DrawRequest | None], sampling: SamplingParameters) -> Iterator[Draw]:
        """Yields a draw when its last rollout ends. Raises the sampler's errors, VerifierError without a sandbox."""
        with _Conversations(self._inner, self._tools, sampling, self._workers) as conversations:
            for draw in conversations.run(iter(requests)):
                yield draw if self._keep_tokens else _without_tokens(draw)

    def close(self) -> None:
        """Close the inner sampler."""
        self._inner.close()


@dataclass
class _Conversation:
    """One unfinished rollout: its transcript so far, its turns, and its interpreter."""

    request: DrawRequest
    index: int
    text: str = ""
    parts: list[Rollout] = field(default_factory=list)
    calls: int = 0
    errors: int = 0
    interpreter: Interpreter | None = None
    rollout: Rollout | None = None


class _Conversations:
    """Requests the turns of many rollouts from one sampler, and runs the code between the turns."""

    def __init__(self, inner: Sampler, tools: Tools, sampling: SamplingParameters, workers: int) -> None:
        self._inner, self._tools, self._sampling = inner, tools, sampling
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="tool")
        self._running: dict[Future[Printed], tuple[_Conversation, str]] = {}
        self._ready: deque[DrawRequest] = deque()
        self._asked: dict[tuple[str, int], list[_Conversation]] = {}  # turns that the sampler is drawing
        self._open: dict[tuple[str, int], list[_Conversation]] = {}  # by draw request: problem and start
        self._finished: deque[Draw] = deque()
        self._exhausted = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)
        for conversations in self._open.values():
            for conversation in conversations:
                self._end_interpreter(conversation)

    def run(self, outer: Iterator[DrawRequest | None]) -> Iterator[Draw]:
        while self._open or not self._exhausted:
            for draw in self._inner.draw(self._requests(outer), self._sampling):
                asked = self._asked.pop((draw.request.prompt.problem_id, draw.request.start))
                for conversation, rollout in zip(asked, draw.rollouts, strict=True):
                    self._hear(conversation, rollout)
                yield from self._done()
            self._collect(patient=not self._ready)
            yield from self._done()

    def _requests(self, outer: Iterator[DrawRequest | None]) -> Iterator[DrawRequest | None]:
        """Requests for the next turns; None where none is ready while others are drawn. Ends where none is drawn."""
        while True:
            self._collect(patient=False)
            request = self._next(outer)
            if request is not None:
                yield request
            elif self._asked:
                yield None
            else:
                return

    def _next(self, outer: Iterator[DrawRequest | None]) -> DrawRequest | None:
        """The next request, first of rollouts in progress, then of new ones; None where there is none now."""
        if self._ready:
            return self._ready.popleft()
        under_way = sum(map(len, self._open.values()))
        if self._exhausted or (self._open and under_way >= _LIVE):
            return None
        try:
            request = next(outer)
        except StopIteration:
            self._exhausted = True
            return None
        if request is None:
            return None
        conversations = [_Conversation(request, request.start + i) for i in range(request.n)]
        key = request.prompt.problem_id, request.start
        self._open[key] = self._asked[key] = conversations
        return msgspec.structs.replace(request, stop=(STOP,))

    def _done(self) -> Iterator[Draw]:
        while self._finished:
            yield self._finished.popleft()

    def _hear(self, conversation: _Conversation, rollout: Rollout) -> None:
        """Add a finished turn, and do what it asks for: run its code, continue, or end."""
        silent = rollout.text == conversation.text
        conversation.parts.append(rollout)
        conversation.text = rollout.text
        if rollout.finish_reason == "length":
            self._end(conversation, "length")
            return
        turn = read_turn(rollout.text)
        if turn.kind == "done" or silent:
            self._end(conversation, "stop")
        elif turn.kind == "go_on":
            conversation.text = turn.text
            self._go_on(conversation)
        elif conversation.calls == self._tools.calls:
            self._end(conversation, "length")
        else:
            self._running[self._pool.submit(self._call, conversation, turn.code)] = conversation, turn.text

    def _call(self, conversation: _Conversation, code: str) -> Printed:
        """Run a block of code. Called in a thread of the pool."""
        if conversation.interpreter is None:
            seed = draw_seed(conversation.request.seed, "random", "", conversation.index) % 2**32
            conversation.interpreter = Interpreter(
                seconds=self._tools.seconds, calls=self._tools.calls, most=self._tools.output_chars, seed=seed
            )
        return conversation.interpreter.run(code)

    def _collect(self, *, patient: bool) -> None:
        """Append the output of finished blocks to their rollouts. ``patient``: wait for one, if any is running."""
        if not self._running:
            return
        ended = wait(self._running, timeout=None if patient else 0, return_when=FIRST_COMPLETED).done
        for future in ended:
            conversation, text = self._running.pop(future)
            printed = future.result()
            conversation.calls += 1
            conversation.errors += printed.failed
            conversation.text = text + output_block(printed.text)
            self._go_on(conversation)

    def _go_on(self, conversation: _Conversation) -> None:
        """Request the next turn, or end the rollout where the response has no room for one."""
        request = conversation.request
        prompt = msgspec.structs.replace(request.prompt, begun=conversation.text)
        room = request.limit(self._sampling) - self._used(prompt, conversation)
        if room < 1:
            self._end(conversation, "length")
            return
        name = f"turn {len(conversation.parts)}"
        self._asked[request.prompt.problem_id, conversation.index] = [conversation]
        self._ready.append(
            DrawRequest(
                prompt=prompt,
                start=conversation.index,
                n=1,
                seed=draw_seed(request.seed, name, request.prompt.problem_id, conversation.index),
                max_tokens=room,
                stop=(STOP,),
            )
        )

    def _used(self, prompt: Prompt, conversation: _Conversation) -> int:
        """Tokens of the response so far. The output of code is included where the engine counts tokens of text."""
        try:
            return self._inner.prompt_tokens(prompt) - self._inner.prompt_tokens(conversation.request.prompt)
        except EngineError:  # a server that does not count: it cuts the response itself at the end of its context
            return sum(part.n_tokens for part in conversation.parts)

    def _end(self, conversation: _Conversation, reason: Literal["stop", "length"]) -> None:
        self._end_interpreter(conversation)
        conversation.rollout = _joined(conversation, reason)
        request = conversation.request
        key = request.prompt.problem_id, request.start
        rollouts = [other.rollout for other in self._open[key] if other.rollout is not None]
        if len(rollouts) == request.n:
            del self._open[key]
            self._finished.append(Draw(request=request, rollouts=tuple(rollouts)))

    def _end_interpreter(self, conversation: _Conversation) -> None:
        if conversation.interpreter is not None:
            conversation.interpreter.close()
            conversation.interpreter = None


# --------------------------------------------------------------------------------------- one rollout of many turns
def _joined(conversation: _Conversation, reason: Literal["stop", "length"]) -> Rollout:
    """The turns as one rollout: the whole transcript, and the statistics of the tokens that the model drew."""
    parts = conversation.parts
    whole = msgspec.structs.replace(
        parts[0],
        index=conversation.index,
        text=conversation.text,
        n_tokens=sum(part.n_tokens for part in parts),
        finish_reason=reason,
        tool_calls=conversation.calls,
        tool_errors=conversation.errors,
    )
    if len(parts) == 1:
        return whole
    arrays = [part.tokens for part in parts if part.tokens is not None]
    if len(arrays) == len(parts):
        tokens = TokenArrays(
            **{name: np.concatenate([getattr(part, name) for part in arrays]) for name in TokenArrays.__struct_fields__}
        )
        summary = summarise(tokens.logprob, tokens.entropy, tokens.nucleus)
        return msgspec.structs.replace(whole, tokens=tokens, **msgspec.structs.asdict(summary))
    means = {name: _mean(parts, name) for name in (*_MEANS, *_BOUNDS)}
    sums = [part.logprob_sum for part in parts if part.logprob_sum is not None]
    total = sum(sums) if len(sums) == len(parts) else None
    # The profile over relative positions cannot be computed from the profiles of the turns.
    return msgspec.structs.replace(whole, logprob_sum=total, entropy_profile=None, tokens=None, **means)


def _mean(parts: Sequence[Rollout], name: str) -> float | None:
    """Mean over all tokens, from the means of the turns; None where a turn has no mean, or without any token."""
    known = [(getattr(part, name), part.n_tokens) for part in parts]
    if any(value is None for value, _ in known) or not sum(n for _, n in known):
        return None
    return float(sum(value * n for value, n in known) / sum(n for _, n in known))


def _without_tokens(draw: Draw) -> Draw:
    rollouts = tuple(msgspec.structs.replace(rollout, tokens=None) for rollout in draw.rollouts)
    return msgspec.structs.replace(draw, rollouts=rollouts)
