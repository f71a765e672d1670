"""Kills while responses grow: what is stored has the law of an undisturbed run, and a state and its shard go together."""

from __future__ import annotations

import itertools
import random
import shutil
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy import stats

from rlvr_bench import pipeline
from rlvr_bench.errors import BadArgument, RunMismatch
from rlvr_bench.pipeline import GradeOptions, SampleOptions
from rlvr_bench.records import (
    Draw,
    DrawRequest,
    EngineInfo,
    Prompt,
    Rollout,
    SamplingParameters,
    SavedRollout,
)
from rlvr_bench.samplers.protocol import Growth, usable
from rlvr_bench.scaling import Dispatcher, Slots
from rlvr_bench.store import open_run
from rlvr_bench.store.growing import SavePace
from rlvr_bench.task import gold_response, golds_of, load_task
from tests.conftest import info_of
from tests.scaling.local_pool import LocalPool

TASK, HAZARD, LONGEST = "double_countdown", 0.06, 60


class Killed(Exception):
    """The session ends here; the test restores the folder as it was on disk at this moment."""


class Growing:
    """An engine that is not deterministic: seeds mean nothing to it. Longer responses are right more often.

    A response ends after each token with the probability HAZARD, or at LONGEST tokens. Its last token decides whether it
    is right. ``steps``: the number of steps after which it calls ``kill``.
    """

    info: EngineInfo = info_of()
    right: Mapping[str, str] = defaultdict(lambda: "right")  # responses by problem id

    def __init__(self, rng: random.Random, steps: float = np.inf, kill: Iterator[object] | None = None) -> None:
        self._rng, self._steps, self._kill = rng, steps, kill
        self.continued = 0

    def prompt_tokens(self, prompt: Prompt) -> int:
        return 1

    def draw(self, requests: Iterable[DrawRequest | None], sampling: SamplingParameters) -> Iterator[Draw]:
        return (item for item in self.draw_growing(requests, sampling) if isinstance(item, Draw))

    def draw_growing(
        self, requests: Iterable[DrawRequest | None], sampling: SamplingParameters
    ) -> Iterator[Draw | Growth]:
        waiting, window = iter(requests), list[tuple[DrawRequest, list[SavedRollout]]]()
        for step in itertools.count():
            while len(window) < 60 and (request := next(waiting, None)) is not None:
                window.append((request, self._begin(request)))
            if not window:
                return
            if step == self._steps:
                next(self._kill or iter((None,)))
                raise Killed
            window = [(request, [self._longer(rollout) for rollout in rollouts]) for request, rollouts in window]
            for request, rollouts in window:
                if all(rollout.ended for rollout in rollouts):
                    yield Draw(request=request, rollouts=tuple(map(self._finished, rollouts)))
            window = [(request, rollouts) for request, rollouts in window if not all(r.ended for r in rollouts)]
            state = [rollout for _, rollouts in window for rollout in rollouts]
            yield state.copy

    def close(self) -> None:
        """Nothing to free."""

    def _begin(self, request: DrawRequest) -> list[SavedRollout]:
        known = usable(request, LONGEST, 10, with_columns=False)
        self.continued += len(known)
        return [known.get(i) or grown(request, request.start + i, []) for i in range(request.n)]

    def _longer(self, rollout: SavedRollout) -> SavedRollout:
        if rollout.ended:
            return rollout
        ids = [*rollout.ids.tolist(), self._rng.randrange(10)]
        ended: Literal["token", "length"] | None
        ended = "token" if self._rng.random() < HAZARD else "length" if len(ids) == LONGEST else None
        return SavedRollout(
            problem_id=rollout.problem_id, index=rollout.index, ids=np.array(ids, np.int32), ended=ended
        )

    def _finished(self, rollout: SavedRollout) -> Rollout:
        length = len(rollout.ids)
        return Rollout(
            problem_id=rollout.problem_id,
            index=rollout.index,
            text=self.right[rollout.problem_id] if rollout.ids[-1] < min(9, length // 4) else "wrong",
            n_tokens=length,
            finish_reason="length" if rollout.ended == "length" else "stop",
        )


class Seeded(Growing):
    """The same engine made deterministic: a token depends on its rollout and its position alone."""

    def _longer(self, rollout: SavedRollout) -> SavedRollout:
        self._rng = random.Random(f"{rollout.problem_id} {rollout.index} {len(rollout.ids)}")
        return super()._longer(rollout)


def grown(request: DrawRequest, index: int, ids: list[int]) -> SavedRollout:
    return SavedRollout(problem_id=request.prompt.problem_id, index=index, ids=np.array(ids, np.int32))


def law() -> dict[tuple[int, bool], float]:
    """The probability of (length / 6, right), by the definition of the engine."""
    probabilities: defaultdict[tuple[int, bool], float] = defaultdict(float)
    alive = 1.0
    for length in range(1, LONGEST + 1):
        ends = alive if length == LONGEST else alive * HAZARD
        right = min(9, length // 4) / 10
        probabilities[length // 6, True] += ends * right
        probabilities[length // 6, False] += ends * (1 - right)
        alive -= ends
    return {key: value for key, value in probabilities.items() if value}


def p_value(run: Path) -> float:
    """Chi-square of the stored lengths and verdicts against the law."""
    counts: Counter[tuple[int, bool]] = Counter()
    for table in open_run(run).rollouts.read(["text", "n_tokens"]):
        texts, lengths = table["text"].to_pylist(), table["n_tokens"].to_pylist()
        counts.update((length // 6, text == "right") for text, length in zip(texts, lengths, strict=True))
    expected = {key: value * counts.total() for key, value in law().items()}
    many = [key for key, value in expected.items() if value >= 5]
    observed = [counts[key] for key in many]
    total = sum(expected[key] for key in many)
    return float(stats.chisquare(observed, [expected[key] * sum(observed) / total for key in many]).pvalue)


def killed_run(out: Path, seed: int, *, saves: bool) -> tuple[Path, int]:
    """A run with ten kills at random steps; returns it, and how many rollouts were continued."""
    rng, continued = random.Random(seed), 0
    options = SampleOptions(n=24, limit=50, out=out / "runs", draw_batch=2)
    for _ in range(10):

        def kill() -> Iterator[object]:
            shutil.copytree(out / "runs", out / "as-killed")
            yield None

        engine = Growing(rng, rng.randrange(4, 16), kill())
        with pytest.raises(Killed):
            pipeline.sample(engine, TASK, options)
        shutil.rmtree(out / "runs")
        (out / "as-killed").rename(out / "runs")
        if not saves:
            for folder in (out / "runs").glob("*/*/growing"):
                shutil.rmtree(folder)
        continued += engine.continued
    last = Growing(rng)
    run = pipeline.sample(last, TASK, options)
    return run, continued + last.continued


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """The state is due at every fourth step."""
    steps = itertools.count()
    monkeypatch.setattr(SavePace, "is_due", property(lambda _: next(steps) % 4 == 3))


@pytest.mark.usefixtures("often")
def test_ten_kills_leave_lengths_and_verdicts_with_their_law(tmp_path: Path) -> None:
    run, continued = killed_run(tmp_path / "saved", 1, saves=True)
    assert sum(drawn.count() for drawn in open_run(run).drawn().values()) == 50 * 24
    assert continued > 200
    assert p_value(run) > 0.01
    assert not list((run / "growing").glob("*.parquet")), "a finished run keeps no state of open batches"
    # The same kills without what was saved: short responses are preferred, and the same test sees it.
    assert p_value(killed_run(tmp_path / "lost", 1, saves=False)[0]) < 1e-5


def test_an_error_loses_nothing_and_the_next_session_goes_on(tmp_path: Path) -> None:
    options = SampleOptions(n=24, limit=8, out=tmp_path, draw_batch=4)
    with pytest.raises(Killed):
        pipeline.sample(Growing(random.Random(0), 30), TASK, options)
    (state,) = tmp_path.glob("*/*/growing/*.parquet")
    tokens = sum(pq.read_table(state)["n_tokens"].to_pylist())
    assert tokens > 500
    engine = Growing(random.Random(1))
    run = pipeline.sample(engine, TASK, options)
    assert engine.continued > 30
    assert sum(drawn.count() for drawn in open_run(run).drawn().values()) == 8 * 24


def test_what_an_engine_has_not_begun_again_stays_saved(tmp_path: Path) -> None:
    """The engine fails at the third of the requests that it is given: what is saved of it is not lost."""

    class Failing(Growing):
        def _begin(self, request: DrawRequest) -> list[SavedRollout]:
            if request.prompt.problem_id == failing:
                raise Killed
            return super()._begin(request)

        def draw_growing(
            self, requests: Iterable[DrawRequest | None], sampling: SamplingParameters
        ) -> Iterator[Draw | Growth]:
            yield list  # a step without any response
            yield from super().draw_growing(requests, sampling)

    options = SampleOptions(n=4, limit=4, out=tmp_path, draw_batch=4)
    with pytest.raises(Killed):
        pipeline.sample(Growing(random.Random(3), 3), TASK, options)
    (state,) = tmp_path.glob("*/*/growing/*.parquet")
    before = pq.read_table(state, columns=["problem_id", "index", "n_tokens"]).to_pylist()
    failing = sorted({row["problem_id"] for row in before})[2]
    with pytest.raises(Killed):
        pipeline.sample(Failing(random.Random(4)), TASK, options)
    (state,) = tmp_path.glob("*/*/growing/*.parquet")
    after = pq.read_table(state, columns=["problem_id", "index", "n_tokens"]).to_pylist()
    assert sorted(after, key=str) == sorted(before, key=str)


@pytest.mark.usefixtures("often")
def test_an_adaptive_run_with_kills_ends_like_one_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A half-stored batch is no decision: what its first rollouts show stops nothing before it is complete."""
    loaded = load_task(TASK)
    right = {name: gold_response(loaded.task, problem) for name, problem in golds_of(loaded).items()}
    monkeypatch.setattr(Growing, "right", right)

    def evaluate(out: str, steps: float = np.inf) -> list[tuple[str, int, int]]:
        options = SampleOptions(n=24, limit=10, out=tmp_path / out, draw_batch=4, stop_after=3)
        engine = Seeded(random.Random(0), steps)
        _, card = pipeline.evaluate(engine, TASK, options, GradeOptions(workers=1))
        return [(problem.id, problem.n, problem.c) for problem in card.problems]

    straight = evaluate("straight")
    for steps in (10, 25, 45):
        with pytest.raises(Killed):
            evaluate("killed", steps)
    assert evaluate("killed") == straight
    assert len({n for _, n, _ in straight}) > 2


def test_replicas_continue_what_a_single_process_has_saved() -> None:
    request = DrawRequest(prompt=Prompt(problem_id="p0", text="?"), start=4, n=4, seed=1)
    saved = tuple(grown(request, 4 + i, [7] * 50) for i in range(3))
    sampler = Dispatcher(LocalPool(lambda: Growing(random.Random(0))), Slots(1))
    (draw,) = sampler.draw([msgspec.structs.replace(request, saved=saved)], SamplingParameters())
    sampler.close()
    assert [rollout.n_tokens > 50 for rollout in draw.rollouts] == [True, True, True, False]


def test_deterministic_is_recorded_and_compared(tmp_path: Path) -> None:
    def sample(*, deterministic: bool) -> Path:
        options = SampleOptions(n=4, limit=2, out=tmp_path, deterministic=deterministic)
        return pipeline.sample("fake", TASK, options)

    assert open_run(sample(deterministic=True)).manifest.deterministic
    with pytest.raises(RunMismatch, match="deterministic"):
        sample(deterministic=False)


def test_a_server_cannot_be_made_deterministic(tmp_path: Path) -> None:
    pytest.importorskip("httpx", reason="needs the endpoint extra")
    with pytest.raises(BadArgument, match="a server decides itself"):
        pipeline.sample("http://127.0.0.1:9/v1", TASK, SampleOptions(n=4, out=tmp_path, deterministic=True))
