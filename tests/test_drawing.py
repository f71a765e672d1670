"""Adaptive budgets: which draws are asked for, and that the rule keeps exactly what it says."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest

from rlvr_bench import pipeline
from rlvr_bench.errors import BadArgument, RunError, RunMismatch, VerifierError
from rlvr_bench.pipeline import SampleOptions, models
from rlvr_bench.pipeline.drawing import Graded, Plan
from rlvr_bench.records import Draw, DrawRequest, EngineInfo, Prompt, SamplingParameters
from rlvr_bench.samplers.fake import FakeSampler
from rlvr_bench.samplers.protocol import Sampler
from rlvr_bench.store import open_run
from rlvr_bench.store.marks import Drawn
from rlvr_bench.store.outcomes import read_outcomes
from rlvr_bench.store.run import Span

TASK = "double_countdown"


def options(out: Path, **changed: object) -> SampleOptions:
    return SampleOptions(**{"n": 64, "limit": 60, "out": out, "draw_batch": 8, **changed})  # type: ignore[arg-type]


def spans(*ends: tuple[str, int]) -> list[Span]:
    return [Span(name, start, 4) for name, start in ends]


def test_without_a_rule_everything_is_asked_for_in_order() -> None:
    wanted = spans(("a", 0), ("b", 0), ("a", 4))
    plan = Plan(wanted)
    assert [plan.next() for _ in range(4)] == [*wanted, None]
    assert not plan.waiting


def test_with_a_rule_a_problem_waits_for_its_verdicts() -> None:
    plan = Plan(spans(("a", 0), ("b", 0), ("a", 4), ("b", 4), ("a", 8)), stop_after=2)

    def asked() -> list[Span]:
        return list(iter(plan.next, None))

    assert asked() == spans(("a", 0), ("b", 0))
    assert plan.waiting
    assert plan.verified(Graded("a", 4, 1)) == 0
    assert asked() == spans(("a", 4))
    assert plan.verified(Graded("b", 4, 3)) == 4  # b is done: its other batch is spared
    assert plan.verified(Graded("a", 4, 1)) == 4
    assert asked() == []
    assert (plan.waiting, plan.solved) == (False, 2)


def test_a_lost_batch_is_filled_even_where_the_rule_would_have_stopped() -> None:
    drawn = {"a": Drawn()}
    drawn["a"].mark(np.arange(4, 8))
    plan = Plan(spans(("a", 0), ("a", 8)), stop_after=1, correct={"a": 3}, drawn=drawn)
    assert plan.next() == Span("a", 0, 4)
    assert plan.verified(Graded("a", 4, 0)) == 4
    assert plan.next() is None


@pytest.mark.parametrize("stop_after", [1, 3, 8])
def test_an_adaptive_run_is_the_full_run_cut_by_the_rule(tmp_path: Path, stop_after: int) -> None:
    """The same seeds draw the same rollouts: each problem must end at the first batch end with R correct ones."""
    full = pipeline.evaluate("fake", TASK, options(tmp_path / "full"))[0]
    run, card = pipeline.evaluate("fake", TASK, options(tmp_path / "cut", stop_after=stop_after))
    whole, cut = read_outcomes(open_run(full)), read_outcomes(open_run(run))
    saved = 0
    for i in range(60):
        correct = np.cumsum(whole.status[whole.problem == i] == 0)[7::8]
        ends = np.flatnonzero(correct >= stop_after)
        expected = 8 * (int(ends[0]) + 1) if len(ends) else 64
        assert cut.n_samples[i] == expected
        assert cut.index[cut.problem == i].tolist() == list(range(expected))
        assert (cut.status[cut.problem == i] == whole.status[whole.problem == i][:expected]).all()
        saved += 64 - expected
    assert saved > 0
    assert "stop-after" in next(e.method for e in card.estimates if e.name == "pass@k")


def test_interrupted_and_topped_up_adaptive_runs_end_like_straight_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight = pipeline.evaluate("fake", TASK, options(tmp_path / "a", stop_after=3))[1]
    honest = models.open_fake
    for after in (3, 40, 90):
        monkeypatch.setattr(models, "open_fake", lambda model, loaded, k=after: Dying(honest(model, loaded), k))
        with pytest.raises(RuntimeError, match="died"):
            pipeline.sample("fake", TASK, options(tmp_path / "b", stop_after=3))
    monkeypatch.undo()
    pipeline.sample("fake", TASK, options(tmp_path / "b", stop_after=3, limit=30))
    assert pipeline.evaluate("fake", TASK, options(tmp_path / "b", stop_after=3))[1].problems == straight.problems
    more = pipeline.evaluate("fake", TASK, options(tmp_path / "b", stop_after=3, n=128))[1]
    assert more.problems == pipeline.evaluate("fake", TASK, options(tmp_path / "c", stop_after=3, n=128))[1].problems


class Wrapped(FakeSampler):
    def __init__(self, inner: Sampler) -> None:
        self._inner = inner

    @property
    def info(self) -> EngineInfo:
        return self._inner.info

    def prompt_tokens(self, prompt: Prompt) -> int:
        return self._inner.prompt_tokens(prompt)


class Dying(Wrapped):
    def __init__(self, inner: Sampler, after: int) -> None:
        super().__init__(inner)
        self._after = after

    def draw(self, requests: Iterable[DrawRequest | None], sampling: SamplingParameters) -> Iterator[Draw]:
        for number, draw in enumerate(self._inner.draw(requests, sampling)):
            if number == self._after:
                raise RuntimeError("the machine died")
            yield draw


class Windowed(Wrapped):
    """Keeps up to 16 requests in flight and finishes them in another order, as a real engine does."""

    def draw(self, requests: Iterable[DrawRequest | None], sampling: SamplingParameters) -> Iterator[Draw]:
        waiting = iter(requests)
        open_draws: list[DrawRequest] = []
        while True:
            while len(open_draws) < 16 and (request := next(waiting, None)) is not None:
                open_draws.append(request)
            if not open_draws:
                return
            yield from self._inner.draw([open_draws.pop(len(open_draws) // 2)], sampling)


def test_completion_order_does_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    straight = pipeline.evaluate("fake", TASK, options(tmp_path / "a", stop_after=2))[1]
    honest = models.open_fake
    monkeypatch.setattr(models, "open_fake", lambda model, loaded: Windowed(honest(model, loaded)))
    assert pipeline.evaluate("fake", TASK, options(tmp_path / "b", stop_after=2))[1].problems == straight.problems


def test_verification_runs_while_sampling_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    class Watch(pipeline.options.Silent):
        def verified(self, rollouts: int, solved: int) -> None:
            seen.append(rollouts)

    class Slow(Wrapped):
        def draw(self, requests: Iterable[DrawRequest | None], sampling: SamplingParameters) -> Iterator[Draw]:
            for draw in self._inner.draw(requests, sampling):
                time.sleep(0.02)
                yield draw

    honest = models.open_fake
    monkeypatch.setattr(models, "open_fake", lambda model, loaded: Slow(honest(model, loaded)))
    pipeline.evaluate("fake", TASK, options(tmp_path, n=32), progress=Watch())
    assert 0 < seen[len(seen) // 2] < 32 * 60 == seen[-1]
    assert "verify" not in {thread.name for thread in threading.enumerate()}


def test_a_verifier_that_cannot_start_stops_the_run_and_keeps_what_was_drawn(tmp_path: Path) -> None:
    task = tmp_path / "mine.py"
    task.write_text(
        "from rlvr_bench import Generated, Problem, Task, Verdict\n"
        "import os\n"
        "if os.environ.get('RLVR_BENCH_TEST_BROKEN') == 'x': raise RuntimeError('boom')\n"
        "def judge(response, problem):\n    return Verdict(status='correct')\n"
        "TASK = Task(name='mine', version='1', summary='s', prompt='raw', verifier=judge, gold='{answer}',\n"
        "    source=Generated(generate=lambda: [Problem(id='a', question='?', answer='yes')], rows=1, sha256=None))\n"
    )
    monkeypatch = pytest.MonkeyPatch()
    honest = models.open_fake

    def breaking(model: str, loaded: object) -> Sampler:
        monkeypatch.setenv("RLVR_BENCH_TEST_BROKEN", "x")  # the workers start later than the task is loaded here
        return honest(model, loaded)  # type: ignore[arg-type]

    monkeypatch.setattr(models, "open_fake", breaking)
    with pytest.raises(VerifierError):
        pipeline.evaluate("fake:1", str(task), options(tmp_path / "runs", n=16, limit=None))
    monkeypatch.undo()
    assert (
        pipeline.evaluate("fake:1", str(task), options(tmp_path / "runs", n=16, limit=None))[1].problems[0]["c"] == 16
    )


def test_the_rule_is_part_of_the_run(tmp_path: Path) -> None:
    pipeline.evaluate("fake", TASK, options(tmp_path, stop_after=2))
    with pytest.raises(RunMismatch, match=r"stopping.stop_after: run has 2, asked 3"):
        pipeline.evaluate("fake", TASK, options(tmp_path, stop_after=3))
    with pytest.raises(RunMismatch, match="stopping"):
        pipeline.evaluate("fake", TASK, options(tmp_path))


def test_a_budget_that_ends_within_a_batch_is_refused() -> None:
    with pytest.raises(
        BadArgument, match=r"-n is 20: with --stop-after it must be a multiple of the draw batch \(16\)"
    ):
        SampleOptions(n=20, stop_after=1)


def test_an_unfinished_adaptive_run_is_not_scored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    honest: Callable[..., Sampler] = models.open_fake
    monkeypatch.setattr(models, "open_fake", lambda model, loaded: Dying(honest(model, loaded), 70))
    with pytest.raises(RuntimeError, match="died"):
        pipeline.sample("fake", TASK, options(tmp_path, stop_after=3))
    run = tmp_path / "fake" / TASK
    pipeline.grade(run)
    with pytest.raises(RunError, match="not drawn to the end of the stopping rule"):
        pipeline.score(run)
