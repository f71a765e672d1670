"""How many responses an engine gets: a simulation of its KV cache, and the estimate by hand."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from rlvr_bench import pipeline
from rlvr_bench.pipeline import SampleOptions
from rlvr_bench.records import CacheUse
from rlvr_bench.samplers.fake import FakeSampler
from rlvr_bench.samplers.vllm_room import EngineWatch, Room, fitting, survival
from rlvr_bench.store import open_run

LIMIT, PROMPT, SEQUENCES = 400, 20, 128
Law = Callable[[np.random.Generator], int]
LAWS: dict[str, Law] = {
    "exponential": lambda rng: int(min(LIMIT, 1 + rng.exponential(60))),
    "all equal": lambda rng: 200,
    "two kinds": lambda rng: 400 if rng.random() < 0.3 else 40,
    "heavy tail": lambda rng: int(min(LIMIT, 1 + np.exp(rng.normal(3.5, 1)))),
}


def simulated(law: Law, capacity: int, total: int, *, chosen: bool) -> tuple[float, float]:
    """An engine that drops its newest response where the cache is full, as vLLM does.

    Returns the tokens computed again and the tokens drawn in a step, both as a share: of the tokens drawn, and of those
    that the cache holds.
    """
    rng, room = np.random.default_rng(0), Room(capacity, SEQUENCES, chosen=chosen)
    running, waiting = list[tuple[int, int]](), list[tuple[int, int]]()
    sent = ended = again = drawn = steps = 0
    room.renew(PROMPT, [], LIMIT)
    while ended < total:
        if room.is_outdated:
            room.renew(PROMPT, [length for length, _ in running + waiting], LIMIT)
        while sent < total and len(running) + len(waiting) < room.responses:
            waiting.append((0, law(rng)))
            sent += 1
        held = sum(PROMPT + length for length, _ in running)
        while waiting and len(running) < SEQUENCES and held + PROMPT + waiting[0][0] < capacity:
            running.append(waiting.pop(0))
            held += PROMPT + running[-1][0]
        while held + len(running) > capacity:
            waiting.insert(0, running.pop())
            held -= PROMPT + waiting[0][0]
            again += PROMPT + waiting[0][0]
        drawn, steps = drawn + len(running), steps + 1
        running = [(length + 1, end) for length, end in running]
        lengths = [length for length, end in running if length == end]
        running = [(length, end) for length, end in running if length < end]
        room.ended(lengths)
        ended += len(lengths)
    return again / drawn, drawn / steps / capacity


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
@pytest.mark.parametrize(("capacity", "total"), [(3_000, 250), (12_000, 700)])
def test_less_than_one_in_a_hundred_tokens_is_computed_again(law: Law, capacity: int, total: int) -> None:
    again, _ = simulated(law, capacity, total, chosen=False)
    assert again < 0.01


def test_without_a_limit_most_tokens_are_computed_again_and_the_cache_is_well_used_with_one() -> None:
    again, plain = simulated(LAWS["two kinds"], 12_000, 700, chosen=True)
    assert again > 0.3
    assert simulated(LAWS["two kinds"], 12_000, 700, chosen=False)[1] > 0.6 * plain


def test_before_any_response_has_ended_all_are_as_long_as_they_may_be() -> None:
    assert fitting(8_400, PROMPT, LIMIT, [], []) == pytest.approx(20, abs=0.2)


def test_responses_that_grow_count_as_longer_than_they_are() -> None:
    """By hand: of 4 responses one ended at 100, one grows at 200, one ended at 300, and one of 400 is added."""
    alive = survival([100, 300], [200], LIMIT)
    steps = np.arange(129) * LIMIT / 128
    expected = np.select([steps < 100, steps < 300, steps < 400], [1, 3 / 4, 3 / 4 * 1 / 2])
    np.testing.assert_allclose(alive, expected)


def test_a_chosen_number_an_unknown_cache_and_a_large_one_change_nothing() -> None:
    for capacity, chosen in ((1_000, True), (None, False), (SEQUENCES * (PROMPT + LIMIT), False)):
        room = Room(capacity, SEQUENCES, chosen=chosen)
        room.renew(PROMPT, [], LIMIT)
        assert (room.responses, room.is_tight) == (2 * SEQUENCES, False)


def test_a_response_that_fits_alone_is_sent_alone() -> None:
    room = Room(100, SEQUENCES, chosen=False)
    room.renew(PROMPT, [], LIMIT)
    assert (room.responses, room.is_tight) == (1, True)


def test_the_use_of_the_cache_is_recorded_with_its_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    watch = EngineWatch()
    for usage, dropped in ((0.5, 0), (0.93, 2), (0.7, 0)):
        prefix = SimpleNamespace(
            preempted_requests=dropped, preempted_queries=100 * dropped, preempted_hits=30 * dropped
        )
        watch.record(scheduler_stats=SimpleNamespace(kv_cache_usage=usage, prefix_cache_stats=prefix))
    monkeypatch.setattr(FakeSampler, "take_cache_use", lambda self: watch.take(), raising=False)
    options = SampleOptions(n=2, limit=2, out=tmp_path)
    with caplog.at_level(logging.INFO):
        run = pipeline.sample("fake", "double_countdown", options)
    use = CacheUse(peak=0.93, preempted=2, again=140)
    assert open_run(run).manifest.sessions[-1].cache == use
    assert (
        "KV cache: at most 93 % in use, 2 times a response had to leave it (140 tokens computed again)" in caplog.text
    )
    pipeline.sample("fake", "double_countdown", SampleOptions(n=4, limit=2, out=tmp_path))
    assert [session.cache for session in open_run(run).manifest.sessions] == [use, CacheUse()]
