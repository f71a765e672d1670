"""A sampler of one's own through the public functions: named by itself, checked, resumed and left open."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

import rlvr_bench
from rlvr_bench import Draw, DrawRequest, EngineInfo, GradeOptions, Prompt, Rollout, SampleOptions, Sampler
from rlvr_bench.errors import BadArgument, EngineError, RunMismatch
from rlvr_bench.pipeline.forecast import forecast
from rlvr_bench.pipeline.options import Silent
from rlvr_bench.records import SamplingParameters
from rlvr_bench.store import open_run

TASK = "double_countdown"
INFO = EngineInfo(
    engine="mine",
    version="1",
    model="lab/mine",
    weights="first",
    context_tokens=None,
    chat_template=None,
    token_stats="none",
    dtype="none",
    device="none",
)


class Mine:
    """Draws a window of three at a time and gives them back in the reverse order."""

    def __init__(
        self, info: EngineInfo = INFO, spoil: Callable[[list[Draw]], list[Draw]] = lambda draws: draws
    ) -> None:
        self.info, self._spoil = info, spoil
        self.n_drawn, self.is_closed = 0, False

    def prompt_tokens(self, prompt: Prompt) -> int:
        return len(prompt.text)

    def draw(self, requests: Iterable[DrawRequest | None], sampling: SamplingParameters) -> Iterator[Draw]:
        waiting: list[Draw] = []
        for request in requests:
            if request is not None:
                waiting.append(self._answer(request))
            if request is None or len(waiting) == 3:
                yield from self._spoil(waiting[::-1])
                waiting = []
        yield from self._spoil(waiting[::-1])

    def close(self) -> None:
        self.is_closed = True

    def _answer(self, request: DrawRequest) -> Draw:
        rng = random.Random(request.seed)
        self.n_drawn += request.n
        rollouts = tuple(
            Rollout(
                problem_id=request.prompt.problem_id,
                index=request.start + i,
                text=str(rng.randrange(100)),
                n_tokens=1,
                finish_reason="stop",
            )
            for i in range(request.n)
        )
        return Draw(request=request, rollouts=rollouts)


def options(out: Path, **fields: Any) -> SampleOptions:
    return SampleOptions(**{"n": 8, "limit": 5, "draw_batch": 4, "out": out, **fields})


def texts(run: Path) -> dict[tuple[str, int], str]:
    rows = (row for table in open_run(run).rollouts.read(["problem_id", "index", "text"]) for row in table.to_pylist())
    return {(row["problem_id"], row["index"]): row["text"] for row in rows}


def test_it_is_named_by_its_info_and_left_open(tmp_path: Path) -> None:
    sampler = Mine()
    run, card = rlvr_bench.evaluate(sampler, TASK, options(tmp_path), GradeOptions(workers=1))
    manifest = open_run(run).manifest
    assert (manifest.model, manifest.engine, manifest.weights) == ("lab/mine", "mine", "first")
    assert run.parent.parent == tmp_path
    assert "mine" in run.parent.name
    assert [problem.n for problem in card.problems] == [8] * 5
    assert sampler.n_drawn == 40
    assert not sampler.is_closed


def test_a_run_is_topped_up_and_a_finished_one_is_not_drawn_again(tmp_path: Path) -> None:
    sampler = Mine()
    rlvr_bench.sample(sampler, TASK, options(tmp_path / "a", n=4))
    run = rlvr_bench.sample(sampler, TASK, options(tmp_path / "a"))
    assert sampler.n_drawn == 40, "only what was missing"
    rlvr_bench.sample(sampler, TASK, options(tmp_path / "a"))
    assert sampler.n_drawn == 40
    assert texts(run) == texts(rlvr_bench.sample(Mine(), TASK, options(tmp_path / "b")))


def test_another_sampler_of_that_name_does_not_go_on(tmp_path: Path) -> None:
    rlvr_bench.sample(Mine(), TASK, options(tmp_path))
    with pytest.raises(RunMismatch, match="weights"):
        rlvr_bench.sample(Mine(msgspec.structs.replace(INFO, weights="second")), TASK, options(tmp_path))


def test_a_stopping_rule_waits_for_verdicts(tmp_path: Path) -> None:
    sampler = Mine()
    run = rlvr_bench.sample(sampler, TASK, options(tmp_path, stop_after=1), GradeOptions(workers=1))
    assert len(texts(run)) == sampler.n_drawn == 40, "nothing was right, so every batch was asked for"


def other_index(draws: list[Draw]) -> list[Draw]:
    first, *more = draws
    moved = tuple(msgspec.structs.replace(rollout, index=rollout.index + 1) for rollout in first.rollouts)
    return [msgspec.structs.replace(first, rollouts=moved), *more]


def too_few(draws: list[Draw]) -> list[Draw]:
    return [msgspec.structs.replace(draw, rollouts=draw.rollouts[:-1]) for draw in draws]


def other_seed(draws: list[Draw]) -> list[Draw]:
    return [msgspec.structs.replace(draw, request=msgspec.structs.replace(draw.request, seed=1)) for draw in draws]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (other_index, "other rollouts than the 4 of"),
        (too_few, "other rollouts than the 4 of"),
        (other_seed, "not asked for"),
        (lambda draws: [*draws, *draws], "not asked for"),
        (lambda draws: draws[1:], "ended without"),
    ],
)
def test_what_was_not_asked_for_is_one_line(
    tmp_path: Path, spoil: Callable[[list[Draw]], list[Draw]], said: str
) -> None:
    with pytest.raises(EngineError, match=f"the sampler 'mine'.*{said}") as caught:
        rlvr_bench.sample(Mine(spoil=spoil), TASK, options(tmp_path))
    assert "\n" not in str(caught.value)
    run = rlvr_bench.sample(Mine(), TASK, options(tmp_path))
    assert texts(run) == texts(rlvr_bench.sample(Mine(), TASK, options(tmp_path / "straight")))


@pytest.mark.parametrize(
    "chosen",
    [
        {"engine": "vllm"},
        {"engine_args": {"dtype": "float32"}},
        {"chat_template": "none"},
        {"replicas": 2},
        {"ray": "auto"},
    ],
)
def test_options_that_open_an_engine_are_refused(tmp_path: Path, chosen: dict[str, Any]) -> None:
    with pytest.raises(BadArgument, match=f"--{next(iter(chosen)).partition('_')[0]}"):
        rlvr_bench.sample(Mine(), TASK, options(tmp_path, **chosen))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("model", [Path("a/model"), Mine, None, msgspec])
def test_what_is_neither_a_name_nor_a_sampler_is_refused(tmp_path: Path, model: Any) -> None:
    with pytest.raises(BadArgument, match="a model's name, or a Sampler"):
        rlvr_bench.evaluate(model, TASK, options(tmp_path))


def test_a_forecast_draws_nothing(tmp_path: Path) -> None:
    sampler: Sampler = Mine()
    rlvr_bench.sample(sampler, TASK, options(tmp_path, n=4))
    expected = forecast(sampler, TASK, options(tmp_path))
    assert (expected.rollouts, expected.drawn) == (40, 20)
    assert expected.run.is_dir()


# ------------------------------------------------------------------------------------------------ order of parameters
VERBS = ("evaluate", "sample", "grade", "score", "rescore", "judge", "intervene", "import_run")
ORDER = ("options", "grading", "progress", "engines")


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_one_order_of_parameters(verb: str) -> None:
    import inspect

    names = [name for name in inspect.signature(getattr(rlvr_bench, verb)).parameters if name in ORDER]
    assert names == [name for name in ORDER if name in names]


class Heard(Silent):
    """Remembers that it was given."""

    def __init__(self) -> None:
        self.stages: list[str] = []

    def start(self, stage: str, total: int, done: int, unit: str = "rollouts") -> None:
        self.stages.append(stage)


def test_the_old_order_of_sample_works_with_a_warning(tmp_path: Path) -> None:
    heard, grading = Heard(), GradeOptions(workers=1)
    for number, given in enumerate([(heard,), (heard, grading), (heard, None), (None, grading)]):
        asked = options(tmp_path / str(number))
        with pytest.warns(DeprecationWarning, match=r"options, grading, progress, engines"):
            run = rlvr_bench.sample("fake:0.5", TASK, asked, *given)  # type: ignore[arg-type]
        assert (run / "verdicts").exists() == (grading in given)
    assert heard.stages == ["sample"] * 3


def test_the_order_that_holds_now_says_nothing(tmp_path: Path) -> None:
    heard = Heard()
    rlvr_bench.sample("fake:0.5", TASK, options(tmp_path), GradeOptions(workers=1), heard)
    rlvr_bench.sample("fake:0.5", TASK, options(tmp_path), None, heard)
    assert heard.stages == ["sample"] * 2
