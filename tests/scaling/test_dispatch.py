"""Handing out, taking in, deaths: with replicas in threads, where a death falls exactly where the test wants it."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

import msgspec
import pytest

from rlvr_bench.errors import BadArgument, EngineError, ModelError
from rlvr_bench.records import Draw, DrawRequest, Prompt, SamplingParameters
from rlvr_bench.samplers.fake import FakeSampler
from rlvr_bench.samplers.seeds import draw_seed
from rlvr_bench.scaling import Dispatcher, Slots
from rlvr_bench.scaling.messages import Failure, Opened, Report, Tally
from tests.scaling.local_pool import LocalPool

RATES = {f"p{i}": i / 10 for i in range(10)}
RIGHT = dict.fromkeys(RATES, "\\boxed{1}")
SAMPLING = SamplingParameters()


def requests(count: int = 100, n: int = 4) -> list[DrawRequest]:
    names = list(RATES)
    return [
        DrawRequest(prompt=Prompt(problem_id=name, text="?"), start=start, n=n, seed=draw_seed(0, "t", name, start))
        for i in range(count)
        for name, start in [(names[i % 10], i // 10 * n)]
    ]


def keep(draws: Iterable[Draw], result: list[Draw]) -> None:
    """What comes before an error is kept."""
    for draw in draws:
        result.append(draw)


def texts(draws: Iterable[Draw]) -> dict[tuple[str, int], str]:
    result: dict[tuple[str, int], str] = {}
    for draw in draws:
        for rollout in draw.rollouts:
            key = rollout.problem_id, rollout.index
            assert key not in result, f"{key} came twice"
            result[key] = rollout.text
    return result


def fake() -> FakeSampler:
    return FakeSampler(RATES, RIGHT)


ALONE = texts(fake().draw(requests(), SAMPLING))


class Engine(FakeSampler):
    """Takes ``window`` requests at once, each window ``seconds`` long; ``bad`` is called with every request it takes."""

    def __init__(
        self, window: int = 4, seconds: float = 0.0, bad: Callable[[DrawRequest], None] = lambda request: None
    ) -> None:
        super().__init__(RATES, RIGHT)
        self._window, self._seconds, self._bad = window, seconds, bad

    def draw(self, requests: Iterable[DrawRequest | None], sampling: SamplingParameters) -> Iterator[Draw]:
        waiting = iter(requests)
        for first in waiting:
            if first is None:
                continue
            window = [first]
            while len(window) < self._window and (request := next(waiting, None)) is not None:
                window.append(request)
            for request in window:
                self._bad(request)
            time.sleep(self._seconds)
            yield from super().draw(random.sample(window, len(window)), sampling)


def dispatcher(pool: LocalPool, replicas: int = 3) -> Dispatcher:
    return Dispatcher(pool, Slots(replicas))


@pytest.mark.parametrize("replicas", [1, 2, 7])
@pytest.mark.parametrize("window", [1, 8])
def test_where_a_batch_is_drawn_changes_nothing(replicas: int, window: int) -> None:
    sampler = dispatcher(LocalPool(lambda: Engine(window, 0.001)), replicas)
    assert texts(sampler.draw(requests(), SAMPLING)) == ALONE
    assert texts(sampler.draw(requests(30), SAMPLING)) == texts(fake().draw(requests(30), SAMPLING))
    sampler.close()
    assert (sampler.tally.rollouts, sampler.tally.failures, sampler.tally.retries) == (520, 0, 0)


def test_random_deaths_lose_nothing_and_repeat_nothing() -> None:
    pool = LocalPool(lambda: Engine(4, 0.002))
    sampler = dispatcher(pool)
    rng, result = random.Random(3), []
    for number, draw in enumerate(sampler.draw(requests(), SAMPLING)):
        result.append(draw)
        if number % 17 == 3:
            live = [i for i, replica in enumerate(pool.replicas) if replica is not None]
            pool.kill(rng.choice(live), with_node=rng.random() < 0.5)
    assert texts(result) == ALONE
    assert sampler.tally.failures >= 5
    assert sampler.tally.retries > 0
    sampler.close()


def test_what_comes_a_second_time_is_dropped() -> None:
    class Twice(LocalPool):
        def event(self, timeout_s: float) -> object:  # type: ignore[override]
            event = super().event(timeout_s)
            if event is not None and isinstance(event[1], Report):
                return event[0], msgspec.structs.replace(event[1], finished=event[1].finished * 2)
            return event

    sampler = dispatcher(Twice(Engine))
    assert texts(sampler.draw(requests(), SAMPLING)) == ALONE
    sampler.close()


def test_a_batch_that_kills_three_times_is_set_aside_and_only_that() -> None:
    deaths: Counter[tuple[str, int]] = Counter()

    def bad(request: DrawRequest) -> None:
        if (request.prompt.problem_id, request.start) in {("p3", 8), ("p7", 0)}:
            deaths[request.prompt.problem_id, request.start] += 1
            raise RuntimeError("illegal instruction")

    sampler = dispatcher(LocalPool(lambda: Engine(8, 0.001, bad)))
    result: list[Draw] = []
    with pytest.raises(EngineError) as error:
        keep(sampler.draw(requests(), SAMPLING), result)
    assert "2 draw batches ended their engine three times" in str(error.value)
    assert "p3 from rollout 8" in str(error.value)
    assert "p7 from rollout 0" in str(error.value)
    assert texts(result) == {
        key: text
        for key, text in ALONE.items()
        if key not in {*(("p3", i) for i in range(8, 12)), *(("p7", i) for i in range(4))}
    }
    assert {draw.request.prompt.problem_id for draw in result if not draw.rollouts} == {"p3", "p7"}
    # Three losses of each batch; the first two may be due to the other one, while this one waits at the same replica.
    assert 1 <= min(deaths.values()) <= max(deaths.values()) <= 3
    sampler.close()


def test_a_lost_node_is_no_draw_batchs_fault() -> None:
    pool = LocalPool(lambda: Engine(4, 0.01))
    sampler = dispatcher(pool, replicas=1)
    result = []
    for number, draw in enumerate(sampler.draw(requests(20), SAMPLING)):
        result.append(draw)
        if number < 6:
            pool.kill(len(pool.replicas) - 1, with_node=True)
    assert texts(result) == texts(fake().draw(requests(20), SAMPLING))
    sampler.close()


def test_a_slow_replica_does_not_hold_back_the_rest() -> None:
    """One of three is 100 times slower: what waits there moves on, so that the run ends with its slow window."""
    slow, quick = lambda: Engine(2, 1.0), lambda: Engine(2, 0.01)
    pool = LocalPool(slow, quick, quick)
    sampler = dispatcher(pool)
    while len(sampler._workers) < 3:
        sampler._handle(pool.event(1), None)
    began = time.monotonic()
    assert texts(sampler.draw(requests(), SAMPLING)) == ALONE
    assert time.monotonic() - began < 5  # all of its share would take 17 s
    assert sampler.tally.retries == 0
    sampler.close()


def test_requests_decided_late_are_drawn() -> None:
    """The next request of a problem is made when its last draw is back; None says that there is none yet."""
    waiting: dict[str, list[DrawRequest]] = {}
    for request in requests():
        waiting.setdefault(request.prompt.problem_id, []).append(request)
    ready = [batches.pop(0) for batches in waiting.values()]

    def late() -> Iterator[DrawRequest | None]:
        while ready or any(waiting.values()):
            yield ready.pop(0) if ready else None

    sampler = dispatcher(LocalPool(lambda: Engine(4, 0.002)))
    result = []
    for draw in sampler.draw(late(), SAMPLING):
        result.append(draw)
        if rest := waiting[draw.request.prompt.problem_id]:
            ready.append(rest.pop(0))
    assert texts(result) == ALONE
    sampler.close()


def test_suspects_are_cleared_although_requests_are_still_to_come() -> None:
    """Under a stopping rule the iterator does not end before the verdicts of the suspect exist."""
    deaths: list[int] = []

    def bad(request: DrawRequest) -> None:
        if request.prompt.problem_id == "p5" and len(deaths) < 2:
            deaths.append(1)
            raise RuntimeError("bad luck")

    missing = {request.prompt.problem_id for request in requests(10)}
    first = requests(10)

    def late() -> Iterator[DrawRequest | None]:
        while missing:
            yield first.pop() if first else None

    sampler = dispatcher(LocalPool(lambda: Engine(4, 0.002, bad)))
    for draw in sampler.draw(late(), SAMPLING):
        missing.remove(draw.request.prompt.problem_id)
    assert len(deaths) == 2
    sampler.close()


@pytest.mark.parametrize(("window", "batches"), [(64, 640), (4, 200)])
def test_an_engine_that_takes_many_is_fed_many_and_one_that_takes_few_holds_few(window: int, batches: int) -> None:
    taken: list[float] = []
    pool = LocalPool(lambda: Engine(window, 0.05, lambda _: taken.append(time.monotonic())))
    sampler = dispatcher(pool, replicas=1)
    held = [
        max(worker.queued for worker in sampler._workers.values()) for _ in sampler.draw(requests(batches), SAMPLING)
    ]
    sampler.close()
    ends = [i for i, (a, b) in enumerate(itertools.pairwise(taken)) if b - a > 0.04]
    windows = sorted(b - a for a, b in itertools.pairwise(ends))
    assert 0.6 * window <= windows[len(windows) // 2] <= window
    assert max(held) <= 4 * window


def test_engines_that_cannot_start_end_in_one_line() -> None:
    def broken() -> FakeSampler:
        raise RuntimeError("out of memory")

    with pytest.raises(EngineError, match="3 engines failed one after the other, the last with: out of memory"):
        dispatcher(LocalPool(broken))

    def missing() -> FakeSampler:
        raise ModelError("x: no such folder")

    with pytest.raises(ModelError, match="x: no such folder"):
        dispatcher(LocalPool(missing))


def test_one_engine_that_cannot_start_does_not_stop_the_others() -> None:
    tries: list[int] = []

    def sometimes() -> FakeSampler:
        tries.append(1)
        if len(tries) in (2, 3):
            raise RuntimeError("out of memory")
        return Engine(4, 0.002)

    sampler = dispatcher(LocalPool(sometimes))
    assert texts(sampler.draw(requests(), SAMPLING)) == ALONE
    sampler.close()


def test_an_engine_with_other_weights_is_refused() -> None:
    other = lambda: FakeSampler({**RATES, "p1": 0.5}, RIGHT)  # noqa: E731
    with pytest.raises(EngineError, match="differs from the first one \\(weights: "):  # noqa: PT012
        sampler = dispatcher(LocalPool(lambda: Engine(2, 0.01), other), replicas=2)
        list(sampler.draw(requests(), SAMPLING))


def test_engines_that_all_die_end_the_run_and_keep_what_was_drawn() -> None:
    drawn: list[int] = []

    def bad(request: DrawRequest) -> None:
        if len(drawn) >= 12:
            raise RuntimeError("device lost")
        drawn.append(1)

    sampler = dispatcher(LocalPool(lambda: Engine(2, 0.001, bad)))
    result: list[Draw] = []
    with pytest.raises(EngineError, match="10 engines failed one after the other, the last with: device lost"):
        keep(sampler.draw(requests(), SAMPLING), result)
    assert len(result) >= 8
    sampler.close()


def test_what_the_user_must_mend_comes_through_as_it_was_said() -> None:
    def bad(_: DrawRequest) -> None:
        raise BadArgument("--max-tokens", 9, "too many")

    sampler = dispatcher(LocalPool(lambda: Engine(2, 0.001, bad)))
    with pytest.raises(BadArgument, match="^--max-tokens is 9: too many$"):
        list(sampler.draw(requests(), SAMPLING))
    sampler.close()


def test_an_abandoned_session_leaves_the_engines_fit_for_the_next() -> None:
    sampler = dispatcher(LocalPool(lambda: Engine(4, 0.002)))
    for _, draw in zip(range(3), sampler.draw(requests(), SAMPLING), strict=False):
        assert draw.rollouts
    assert texts(sampler.draw(requests(), SAMPLING)) == ALONE
    sampler.close()


def test_failures_travel_as_they_are() -> None:
    for error in (ModelError("a"), BadArgument("-n", 0, "must be at least 1"), RuntimeError("boom"), EngineError("e")):
        result = msgspec.msgpack.decode(msgspec.msgpack.encode(Failure.of(error)), type=Failure).error()
        assert str(result) == str(error)
        assert type(result) is (EngineError if isinstance(error, RuntimeError) else type(error))


def test_slots_are_shared_fairly() -> None:
    slots = Slots(8, checkpoints=2)
    slots.first()
    held = 1
    while slots.more(held):
        held += 1
    assert held == 4
    slots.first()
    assert slots.more(1)
    assert not slots.more(4)
    slots.release(4)
    slots.leave()
    assert slots.more(2)
    assert [slots.more(held) for held in range(3, 9)] == [True] * 5 + [False]
    many = Slots(2, checkpoints=5)
    many.first()
    assert not many.more(1)
    many.first()
    waiter = threading.Thread(target=many.first, daemon=True)
    waiter.start()
    waiter.join(0.05)
    assert waiter.is_alive()
    many.release(1)
    many.leave()
    waiter.join(5)
    assert not waiter.is_alive()
    many.stop()
    with pytest.raises(EngineError, match="stopped"):
        many.first()


def test_the_final_line() -> None:
    tally = Tally(rollouts=1000, tokens=2_000_000, engine_s=60, gpus=2, failures=1, retries=3)
    assert str(tally) == "1,000 rollouts, 2,000,000 tokens, 120 GPU-seconds, 1 failures, 3 draw batches drawn again"
    assert isinstance(Opened(info=fake().info, node="n", pid=1, seconds=0.0).pid, int)
