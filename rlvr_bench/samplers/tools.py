"""Tool-integrated reasoning: any sampler, with a Python interpreter that its model may use while it answers.

A rollout is drawn turn by turn. The model stops after a closed ```` ```python ```` block. The block runs in the sandbox
of the rollout. Its output is appended in an ```` ```output ```` block, and the model continues from there. The
transcript is the rollout's text. Token counts and token statistics include only the tokens that the model drew.

Transcripts are continued as text, because every engine can do this. So the tokens of an earlier turn, when they are
read again, may be split differently than the model drew them.

What a rollout has so far is its finished turns, with the output of their code, and the tokens of the open one. When another
session continues it, its code runs again before its next call, so that its variables exist.
"""

from __future__ import annotations

import functools
import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from types import TracebackType
from typing import Literal, Self

import msgspec

from rlvr_bench.errors import BadArgument, EngineError
from rlvr_bench.records import (
    Draw,
    DrawRequest,
    EngineInfo,
    Problem,
    Prompt,
    Rollout,
    SamplingParameters,
    SavedRollout,
    Tools,
)
from rlvr_bench.samplers.conversation import Conversation, joined
from rlvr_bench.samplers.protocol import (
    AdaptedSampler,
    Growth,
    LimitedSampler,
    PreparedSampler,
    Sampler,
    growing_draws,
)
from rlvr_bench.samplers.seeds import draw_seed
from rlvr_bench.verifiers.interpreter import Interpreter, Printed
from rlvr_bench.verifiers.sandbox import sandbox_problem
from rlvr_bench.verifiers.transcript import STOP, Turn, output_block, read_turn

__all__ = ["INSTRUCTION", "ToolSampler", "with_instruction"]

INSTRUCTION = (
    "You can run Python code while you think. Write it between a line ```python and a line ```. It is run there and then, "
    "and what it prints is shown to you in a block that begins with ```output. Variables are kept from block to block. "
    "Then go on, and state the final answer yourself, outside of any block."
)
_LIVE = 256  # rollouts with an interpreter at once: an interpreter has two processes and two open files


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
        return (item for item in self.draw_growing(requests, sampling) if isinstance(item, Draw))

    def draw_growing(
        self, requests: Iterable[DrawRequest | None], sampling: SamplingParameters
    ) -> Iterator[Draw | Growth]:
        """As ``draw``, with what the draws have so far where the inner sampler is a ``GrowingSampler``.

        A saved rollout continues after its finished turns and the tokens of its open one.
        """
        with _Conversations(self._inner, self._tools, sampling, self._workers) as conversations:
            for item in conversations.run(iter(requests)):
                yield item if self._keep_tokens or not isinstance(item, Draw) else _without_tokens(item)

    def close(self) -> None:
        """Close the inner sampler."""
        self._inner.close()


class _Conversations:
    """Requests the turns of many rollouts from one sampler, and runs the code between the turns."""

    def __init__(self, inner: Sampler, tools: Tools, sampling: SamplingParameters, workers: int) -> None:
        self._inner, self._tools, self._sampling = inner, tools, sampling
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="tool")
        self._running: dict[Future[Printed], tuple[Conversation, Turn]] = {}
        self._ready: deque[DrawRequest] = deque()
        self._asked: dict[tuple[str, int], list[Conversation]] = {}  # turns that the sampler is drawing
        self._open: dict[tuple[str, int], list[Conversation]] = {}  # by draw request: problem and start
        self._finished: deque[Draw] = deque()
        self._exhausted = False
        self._heard = set[tuple[str, int]]()  # rollouts whose turn has ended since the sampler returned the open turns
        self._is_kept = True  # whether the tokens of finished turns are known, or no statistics of them are wanted

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)
        for conversations in self._open.values():
            for conversation in conversations:
                self._end_interpreter(conversation)

    def run(self, outer: Iterator[DrawRequest | None]) -> Iterator[Draw | Growth]:
        while self._open or not self._exhausted:
            for item in growing_draws(self._inner, self._requests(outer), self._sampling):
                if isinstance(item, Draw):
                    asked = self._asked.pop((item.request.prompt.problem_id, item.request.start))
                    for conversation, rollout in zip(asked, item.rollouts, strict=True):
                        self._hear(conversation, rollout)
                else:
                    self._heard.clear()
                yield from self._done()
                if self._is_kept and not isinstance(item, Draw):
                    yield functools.partial(self._state, item)
            self._collect(patient=not self._ready)
            yield from self._done()

    def _state(self, growth: Growth) -> list[SavedRollout]:
        """What the open rollouts have. ``growth`` returns the open turns."""
        turns = {(turn.problem_id, turn.index): turn for turn in growth()}
        states = [
            conversation.state(None if conversation.key in self._heard else turns.get(conversation.key))
            for conversations in self._open.values()
            for conversation in conversations
        ]
        return [state for state in states if state is not None]

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
        conversations = [Conversation(request, request.start + i) for i in range(request.n)]
        key = request.prompt.problem_id, request.start
        self._open[key] = conversations
        saved = {rollout.index: rollout for rollout in request.saved}
        if all(rollout.turns is None for rollout in request.saved):
            for conversation in conversations:
                conversation.saved = saved.get(conversation.index)
            self._asked[key] = conversations
            return msgspec.structs.replace(request, stop=(STOP,))
        for conversation in conversations:
            self._resume(conversation, saved.get(conversation.index))
        return self._ready.popleft() if self._ready else None

    def _resume(self, conversation: Conversation, saved: SavedRollout | None) -> None:
        """Go on with a rollout of an earlier session, or with one of its batch of which nothing is saved."""
        if saved is not None and saved.turns is not None and saved.turn_tokens is None:
            saved = saved if self._inner.info.token_stats == "none" else None  # its statistics cannot be completed
        if saved is None or saved.turns is None:
            self._request(conversation, conversation.request.prompt, conversation.request.limit(self._sampling), saved)
            return
        conversation.restore(saved, saved.turns)
        turn = read_turn(conversation.text)
        if saved.turns.finish_reason is not None:
            self._end(conversation, saved.turns.finish_reason)
        elif turn.kind == "call":
            self._run(conversation, turn)
        else:
            self._go_on(conversation, msgspec.structs.replace(saved, turns=None, turn_tokens=None))

    def _done(self) -> Iterator[Draw]:
        while self._finished:
            yield self._finished.popleft()

    def _hear(self, conversation: Conversation, rollout: Rollout) -> None:
        """Add a finished turn, and do what it asks for: run its code, continue, or end."""
        silent = rollout.text == conversation.text
        self._is_kept &= rollout.tokens is not None or rollout.logprob_sum is None
        self._heard.add(conversation.key)
        conversation.saved = None
        conversation.parts.append(rollout)
        conversation.turns += 1
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
            self._run(conversation, turn)

    def _run(self, conversation: Conversation, turn: Turn) -> None:
        self._running[self._pool.submit(self._call, conversation, turn.code)] = conversation, turn

    def _call(self, conversation: Conversation, code: str) -> Printed:
        """Run a block of code. Called in a thread of the pool."""
        if conversation.interpreter is None:
            seed = draw_seed(conversation.request.seed, "random", "", conversation.index) % 2**32
            conversation.interpreter = Interpreter(
                seconds=self._tools.seconds, calls=self._tools.calls, most=self._tools.output_chars, seed=seed
            )
            for earlier in conversation.blocks:  # of another session: what they printed is in the transcript
                conversation.interpreter.run(earlier)
        return conversation.interpreter.run(code)

    def _collect(self, *, patient: bool) -> None:
        """Append the output of finished blocks to their rollouts. ``patient``: wait for one, if any is running."""
        if not self._running:
            return
        ended = wait(self._running, timeout=None if patient else 0, return_when=FIRST_COMPLETED).done
        for future in ended:
            conversation, turn = self._running.pop(future)
            printed = future.result()
            conversation.calls += 1
            conversation.errors += printed.failed
            conversation.blocks = [] if printed.lost else [*conversation.blocks, turn.code]
            conversation.text = turn.text + output_block(printed.text)
            self._go_on(conversation)

    def _go_on(self, conversation: Conversation, saved: SavedRollout | None = None) -> None:
        """Request the next turn, or end the rollout where the response has no room for one. ``saved``: what it has of it."""
        request = conversation.request
        prompt = msgspec.structs.replace(request.prompt, begun=conversation.text)
        room = request.limit(self._sampling) - self._used(prompt, conversation)
        if room < 1:
            self._end(conversation, "length")
            return
        self._request(conversation, prompt, room, saved)

    def _request(self, conversation: Conversation, prompt: Prompt, room: int, saved: SavedRollout | None) -> None:
        """Request a turn of one rollout."""
        request, name = conversation.request, f"turn {conversation.turns}"
        conversation.saved = saved if saved is not None and len(saved.ids) else None
        self._asked[prompt.problem_id, conversation.index] = [conversation]
        self._ready.append(
            DrawRequest(
                prompt=prompt,
                start=conversation.index,
                n=1,
                seed=draw_seed(request.seed, name, prompt.problem_id, conversation.index),
                max_tokens=room,
                stop=(STOP,),
                saved=() if conversation.saved is None else (conversation.saved,),
            )
        )

    def _used(self, prompt: Prompt, conversation: Conversation) -> int:
        """Tokens of the response so far. The output of code is included where the engine counts tokens of text."""
        try:
            return self._inner.prompt_tokens(prompt) - self._inner.prompt_tokens(conversation.request.prompt)
        except EngineError:  # a server that does not count: it cuts the response itself at the end of its context
            return sum(part.n_tokens for part in conversation.parts)

    def _end(self, conversation: Conversation, reason: Literal["stop", "length"]) -> None:
        self._end_interpreter(conversation)
        conversation.rollout = joined(conversation, reason)
        request = conversation.request
        key = request.prompt.problem_id, request.start
        rollouts = [other.rollout for other in self._open[key] if other.rollout is not None]
        if len(rollouts) == request.n:
            del self._open[key]
            self._finished.append(Draw(request=request, rollouts=tuple(rollouts)))

    def _end_interpreter(self, conversation: Conversation) -> None:
        if conversation.interpreter is not None:
            conversation.interpreter.close()
            conversation.interpreter = None


def _without_tokens(draw: Draw) -> Draw:
    rollouts = tuple(msgspec.structs.replace(rollout, tokens=None) for rollout in draw.rollouts)
    return msgspec.structs.replace(draw, rollouts=rollouts)
