"""Responses that are cut before they close their thought, apart from other responses that are cut."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec
import pyarrow.parquet as pq
import pytest

from rlvr_bench import FakeSampler, Prompt, SampleOptions
from rlvr_bench.pipeline import GradeOptions, evaluate, score
from rlvr_bench.pipeline.resolve import opens_thought
from rlvr_bench.records import Draw, DrawRequest, SamplingParameters
from rlvr_bench.samplers import SamplerOptions, open_sampler
from rlvr_bench.scorecard import Scorecard
from rlvr_bench.store import open_run
from rlvr_bench.store.outcomes import read_outcomes
from rlvr_bench.task import load_task
from rlvr_bench.verifiers.extraction import ends_in_thought, thought_of
from rlvr_bench.zoo.checkpoints import checkpoint_path

TASK = "double_countdown"


@pytest.mark.parametrize(
    ("response", "thought"),
    [
        ("the answer is 4", "none"),
        ("", "none"),
        ("<think>\nso far", "open"),
        ("<think>\nso\n</think>\nthe answer is 4", "closed"),
        ("so it is\n</think>\nthe answer is 4", "closed only"),
        ("so it is\n</think>\n<think>\nor", "open"),
        ("<think>a</think><think>\nb", "open"),
        ("[THINK]\nso far", "open"),
        ("◁think▷ so far", "open"),
        ("<|channel|>analysis<|message|>so far", "open"),
        ("<|channel|>analysis<|message|>so<|channel|>final<|message|>4", "closed"),
        ("write `<think>` before your thoughts", "none"),
    ],
)
def test_what_a_response_does_with_its_thought(response: str, thought: str) -> None:
    assert thought_of(response) == thought


@pytest.mark.parametrize(
    ("prompt", "opens"),
    [
        ("<|im_start|>assistant\n<think>\n", True),
        ("<|im_start|>assistant\n<think>\n\n</think>\n\n", False),
        ("<|im_start|>assistant\n", False),
    ],
)
def test_a_prompt_can_end_in_a_thought(prompt: str, opens: bool) -> None:
    assert ends_in_thought(prompt) is opens


class Thinker(FakeSampler):
    """Gives these responses in turn, each as (text, whether it was cut)."""

    def __init__(self, responses: list[tuple[str, bool]], end: str | None = None) -> None:
        names = [problem.id for problem in load_task(TASK).problems]
        super().__init__(dict.fromkeys(names, 0.0), {}, lambda rng: "")
        self._responses, self.end = responses, end

    def draw(self, requests: Iterable[DrawRequest | None], sampling: SamplingParameters) -> Iterator[Draw]:
        for draw in super().draw(requests, sampling):
            given = [self._responses[rollout.index % len(self._responses)] for rollout in draw.rollouts]
            rollouts = tuple(
                msgspec.structs.replace(rollout, text=text, finish_reason="length" if cut else "stop")
                for rollout, (text, cut) in zip(draw.rollouts, given, strict=True)
            )
            yield Draw(request=draw.request, rollouts=rollouts)


def scored(out: Path, responses: list[tuple[str, bool]]) -> tuple[Path, Scorecard]:
    options = SampleOptions(n=len(responses), limit=3, draw_batch=1, out=out)
    return evaluate(Thinker(responses), TASK, options, GradeOptions(workers=1))


def rate(card: Scorecard) -> float | None:
    (estimate,) = [e for e in card.estimates if e.name == "unclosed_thought_rate"]
    assert estimate.value == card.quality["unclosed_thought_rate"]
    return estimate.value


OWN = [("<think>\nso", True), ("<think>\nso", False), ("<think>\na\n</think>\nlong", True), ("no thought", True)]


def test_only_a_cut_and_open_thought_counts(tmp_path: Path) -> None:
    _, card = scored(tmp_path, OWN)
    assert rate(card) == pytest.approx(1 / 4)
    assert card.quality["truncation_rate"] == pytest.approx(3 / 4)


def test_a_template_that_opens_the_thought_is_recorded_or_seen_in_the_responses(tmp_path: Path) -> None:
    cut = [("so far", True), ("no thought", False)]
    run, card = scored(tmp_path / "unseen", cut)
    assert rate(card) == 0.0, "a prompt of plain text, which opens nothing"
    file = run / "manifest.json"
    manifest = msgspec.json.decode(file.read_bytes())
    assert manifest["opens_thought"] is False
    file.write_bytes(msgspec.json.encode({**manifest, "opens_thought": True}))
    assert rate(score(run)) == pytest.approx(1 / 2)
    run, _ = scored(tmp_path / "seen", [*cut, ("so\n</think>\n4", False), ("so\n</think>\nlong", True)])
    file = run / "manifest.json"
    file.write_bytes(msgspec.json.encode({**msgspec.json.decode(file.read_bytes()), "opens_thought": None}))
    assert rate(score(run)) == pytest.approx(1 / 4)


def test_verdicts_of_older_versions_leave_it_unknown(tmp_path: Path) -> None:
    run, _ = scored(tmp_path, OWN)
    (folder,) = (run / "verdicts").iterdir()
    for file in folder.glob("*.parquet"):
        table = pq.read_table(file).drop_columns(["thought"])
        file.unlink()
        pq.write_table(table, file)
        file.rename(folder / f"000000-{hashlib.sha256(file.read_bytes()).hexdigest()[:16]}.parquet")
    assert rate(score(run)) is None
    assert "unclosed_thought" in read_outcomes(open_run(run)).flags


def test_an_engine_shows_the_end_of_a_prompt_as_the_model_sees_it() -> None:
    sampler = open_sampler("transformers", SamplerOptions(model=str(checkpoint_path("base"))))
    problem = load_task(TASK).problems[0]
    prompts = {problem.id: Prompt(problem_id=problem.id, text=problem.question)}
    assert opens_thought(sampler, prompts) is False
    sampler.close()


class Reader(FakeSampler):
    def prompt_end(self, prompt: Prompt) -> str:
        return "<|im_start|>assistant\n<think>\n"


def test_who_knows_whether_the_prompt_opens_the_thought() -> None:
    message = ({"role": "user", "content": "?"},)
    chat = {"p": Prompt(problem_id="p", text="?", messages=message)}
    raw = {"p": Prompt(problem_id="p", text="? <think>\n")}
    fake = FakeSampler({}, {}, lambda rng: str(random.random()))
    assert opens_thought(fake, raw) is True
    assert opens_thought(fake, chat) is None, "the server's template is not known"
    assert opens_thought(Reader({}, {}), chat) is True
