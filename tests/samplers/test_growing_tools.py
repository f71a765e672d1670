"""Rollouts with tools that are interrupted at every step, stored, and continued by another session."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import msgspec
import numpy as np
import pytest

from rlvr_bench.records import (
    Draw,
    DrawRequest,
    EngineInfo,
    Rollout,
    SamplingParameters,
    SavedRollout,
    SavedTurns,
    TokenArrays,
    Tools,
)
from rlvr_bench.samplers.protocol import Growth, usable
from rlvr_bench.samplers.summary import TokenSummary, summarise
from rlvr_bench.samplers.tools import ToolSampler
from rlvr_bench.store.growing import GrowingFolder
from rlvr_bench.verifiers.sandbox import sandbox_problem
from tests.conftest import info_of
from tests.samplers.test_tools import Scripted, code, request

pytestmark = pytest.mark.skipif(sandbox_problem() is not None, reason="no sandbox here")


def speech(begun: str, index: int) -> str:
    """Rollouts with none, one, two and three calls; the last one loses its interpreter at the second."""
    turns = [
        ["It is plainly \\boxed{42} then."],
        ["Let us see." + code("x = 6\nprint('six', x)"), "More." + code("x * 7"), "So it is \\boxed{42}."],
        ["A long thought before the only call." + code("print(40 + 2)"), "Fine: \\boxed{42}"],
        [
            "One." + code("y = 1"),
            "Two." + code("import os\nos._exit(1)"),
            "Three." + code("z = 5\nz"),
            "Four." + code("print('y' in globals(), z)"),
            "\\boxed{5}",
        ],
    ][index % 4]
    return turns[min(begun.count("```output"), len(turns) - 1)]


def is_finished(open_: tuple[DrawRequest, list[Rollout], list[int]]) -> bool:
    _, rollouts, lengths = open_
    return all(length == rollout.n_tokens for rollout, length in zip(rollouts, lengths, strict=True))


class Typist(Scripted):
    """Draws a word per step for every open turn. A token depends on the text before it and on its rollout alone."""

    at_once = 4  # requests

    def __init__(self, *, with_statistics: bool = True) -> None:
        super().__init__(speech)
        self.with_statistics = with_statistics
        self.drawn = 0

    @property
    def info(self) -> EngineInfo:
        return info_of("typist", token_stats="exact" if self.with_statistics else "none")

    def draw(self, requests: Iterable[DrawRequest | None], sampling: SamplingParameters) -> Iterator[Draw]:
        return (item for item in self.draw_growing(requests, sampling) if isinstance(item, Draw))

    def draw_growing(
        self, requests: Iterable[DrawRequest | None], sampling: SamplingParameters
    ) -> Iterator[Draw | Growth]:
        waiting, window = iter(requests), list[tuple[DrawRequest, list[Rollout], list[int]]]()
        while True:
            while len(window) < self.at_once and (asked := next(waiting, None)) is not None:
                window.append(self._begin(asked, sampling))
            if not window:
                return
            for _, rollouts, lengths in window:
                for offset, rollout in enumerate(rollouts):
                    self.drawn += lengths[offset] < rollout.n_tokens
                    lengths[offset] = min(lengths[offset] + 1, rollout.n_tokens)
            for asked, rollouts, _ in filter(is_finished, window):
                yield Draw(request=asked, rollouts=tuple(map(self._given, rollouts)))
            window = list(itertools.filterfalse(is_finished, window))
            pairs = [pair for _, rollouts, lengths in window for pair in zip(rollouts, lengths, strict=True)]
            yield [self._saved(rollout, length) for rollout, length in pairs if length].copy

    def _begin(self, asked: DrawRequest, sampling: SamplingParameters) -> tuple[DrawRequest, list[Rollout], list[int]]:
        self.requests.append(asked)
        rollouts = [self._rollout(asked, offset, asked.limit(sampling)) for offset in range(asked.n)]
        saved = usable(asked, asked.limit(sampling), 100, with_columns=self.with_statistics)
        lengths = [len(saved[offset].ids) if offset in saved else 0 for offset in range(asked.n)]
        for rollout, length, offset in zip(rollouts, lengths, range(asked.n), strict=True):
            assert rollout.tokens is not None
            assert length == 0 or saved[offset].ids.tolist() == rollout.tokens.ids[:length].tolist(), "of another turn"
        return asked, rollouts, lengths

    def _rollout(self, request: DrawRequest, offset: int, limit: int) -> Rollout:
        rollout = super()._rollout(request, offset, limit)
        rng, n = np.random.default_rng([len(str(request.prompt.begun or "")), rollout.index]), rollout.n_tokens
        tokens = TokenArrays(
            ids=rng.integers(0, 99, n).astype(np.int32),
            logprob=-rng.random(n).astype(np.float32),
            entropy=rng.random(n).astype(np.float32),
            nucleus=rng.integers(1, 9, n).astype(np.int32),
        )
        summary = msgspec.structs.asdict(summarise(tokens.logprob, tokens.entropy, tokens.nucleus))
        return msgspec.structs.replace(rollout, tokens=tokens, **summary)

    def _given(self, rollout: Rollout) -> Rollout:
        nothing = dict.fromkeys(("tokens", *TokenSummary.__struct_fields__))
        return rollout if self.with_statistics else msgspec.structs.replace(rollout, **nothing)

    def _saved(self, rollout: Rollout, length: int) -> SavedRollout:
        assert rollout.tokens is not None
        tokens = rollout.tokens
        columns = tokens.logprob[:length], tokens.entropy[:length], tokens.nucleus[:length]
        return SavedRollout(
            problem_id=rollout.problem_id,
            index=rollout.index,
            ids=tokens.ids[:length],
            columns=columns if self.with_statistics else None,
            ended="string" if length == rollout.n_tokens else None,
        )


LIMITS = SamplingParameters(max_tokens=400)


def stored(path: Path, state: Sequence[SavedRollout]) -> tuple[SavedRollout, ...]:
    """The state as it comes back from disk."""
    folder = GrowingFolder(path)
    folder.write(state, None)
    return tuple(folder.read(()))


def session(
    typist: Typist, requests: Sequence[DrawRequest], steps: float = np.inf
) -> tuple[list[Draw], Sequence[SavedRollout]]:
    """What is drawn in so many steps, and what the open rollouts have then."""
    sampler, draws, taken = ToolSampler(typist, Tools(calls=6), keep_tokens=True, workers=2), list[Draw](), 0
    for item in sampler.draw_growing(requests, LIMITS):
        if isinstance(item, Draw):
            draws.append(item)
            continue
        taken += 1
        if taken >= steps:
            return draws, item()
    return draws, ()


def told(draws: Iterable[Draw]) -> list[tuple[object, ...]]:
    """Everything about the rollouts that must not depend on interruptions."""
    return [
        (r.index, r.text, r.n_tokens, r.finish_reason, r.tool_calls, r.tool_errors, r.logprob_sum, r.entropy_profile)
        + (() if r.tokens is None else tuple(map(tuple, (r.tokens.ids, r.tokens.logprob, r.tokens.nucleus))))
        for draw in draws
        for r in draw.rollouts
    ]


@pytest.mark.parametrize("with_statistics", [True, False])
def test_any_interruption_leaves_what_an_undisturbed_run_has(tmp_path: Path, with_statistics: bool) -> None:
    undisturbed = Typist(with_statistics=with_statistics)
    straight, _ = session(undisturbed, [request(4)])
    assert [rollout.tool_calls for rollout in straight[0].rollouts] == [0, 2, 1, 4]
    assert "False 5" in straight[0].rollouts[3].text
    asked, draws, drawn, sessions = request(4), list[Draw](), 0, 0
    while not draws and sessions < 40:
        typist = Typist(with_statistics=with_statistics)
        draws, state = session(typist, [asked], 5)
        drawn, sessions = drawn + typist.drawn, sessions + 1
        asked = msgspec.structs.replace(asked, saved=stored(tmp_path, state))
    assert sessions >= 4
    assert told(draws) == told(straight)
    assert drawn == undisturbed.drawn, "nothing is drawn twice"


def test_open_first_turns_stay_one_request_until_one_has_ended() -> None:
    _, state = session(Typist(), [request(4)], 2)
    again = Typist()
    session(again, [msgspec.structs.replace(request(4), saved=tuple(state))], 1)
    assert [(asked.n, asked.seed, len(asked.saved)) for asked in again.requests] == [(4, request(4).seed, 4)]


def test_what_waits_for_the_engine_stays_saved() -> None:
    """The engine takes one request at a time: the open turns that it has not begun are still in the state."""
    text, typist = "See.\n```python\n1\n```\n```output\n1\n```\n", Typist(with_statistics=False)
    typist.at_once = 1
    before = []
    for index in range(4):
        prompt = msgspec.structs.replace(request().prompt, begun=text)
        tokens = typist._rollout(msgspec.structs.replace(request(start=index), prompt=prompt), 0, 400).tokens
        assert tokens is not None
        turns = SavedTurns(text=text, turns=1, n_tokens=5, calls=1)
        before.append(SavedRollout(problem_id="p", index=index, ids=tokens.ids[:2], turns=turns))
    _, after = session(typist, [msgspec.structs.replace(request(4), saved=tuple(before))], 1)
    assert len(typist.requests) == 1
    assert sorted(len(one.ids) for one in after) == [2, 2, 2, 3]
    assert {one.turns for one in after} == {SavedTurns(text=text, turns=1, n_tokens=5, calls=1)}
