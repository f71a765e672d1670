"""Solve rates from borrowed rollouts on runs of the zoo: probabilities, what is stored, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the torch extra")
pytest.importorskip("transformers", reason="needs the torch extra")

from rlvr_bench import pipeline
from rlvr_bench.analysis.reach_results import Reach
from rlvr_bench.errors import BadArgument, ModelError, RlvrBenchError, RunError
from rlvr_bench.options import ReachOptions, SampleOptions
from rlvr_bench.pipeline.reaching import reach
from rlvr_bench.samplers.logprobs import Passage
from rlvr_bench.samplers.logprobs_transformers import TransformersScorer
from rlvr_bench.samplers.protocol import SamplerOptions
from rlvr_bench.store import open_run
from rlvr_bench.store.outcomes import read_outcomes
from rlvr_bench.zoo.checkpoints import checkpoint_path
from rlvr_bench.zoo.tokenizer import BOS, encode
from tests.conftest import run_verb

PROBLEMS, N = 5, 24
TRANSFORMERS = ReachOptions(engine="transformers")


def draw(model: str, out: Path, **changed: Any) -> Path:
    options: dict[str, Any] = {"n": N, "limit": PROBLEMS, "engine": "transformers", "token_stats": "full", "out": out}
    return pipeline.evaluate(model, "double_countdown", SampleOptions(**(options | changed)))[0]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of base and sft, and of base at a narrow top-p."""
    out = tmp_path_factory.mktemp("runs")
    draw("zoo:base", out / "a")
    draw("zoo:sft", out / "a", n=16)
    draw("zoo:base", out / "narrow", top_p=0.5, seed=3)
    return out


@pytest.fixture
def base(runs: Path, tmp_path: Path) -> Path:
    return shutil.copytree(runs / "a" / "zoo-base", tmp_path / "zoo-base") / "double_countdown"


@pytest.fixture
def sft(runs: Path, tmp_path: Path) -> Path:
    return shutil.copytree(runs / "a" / "zoo-sft", tmp_path / "zoo-sft") / "double_countdown"


@pytest.fixture
def narrow(runs: Path, tmp_path: Path) -> Path:
    return shutil.copytree(runs / "narrow" / "zoo-base", tmp_path / "narrow") / "double_countdown"


def correct_of(run: Path) -> list[tuple[str, tuple[int, ...]]]:
    """Problem and tokens of each correct rollout."""
    opened = open_run(run)
    outcomes = read_outcomes(opened)
    correct = {
        (outcomes.problem_ids[p], int(i))
        for p, i, s in zip(outcomes.problem, outcomes.index, outcomes.status, strict=True)
        if s == 0
    }
    rows = [row for table in opened.rollouts.read(["problem_id", "index", "token_ids"]) for row in table.to_pylist()]
    return [
        (row["problem_id"], tuple(row["token_ids"])) for row in rows if (row["problem_id"], row["index"]) in correct
    ]


def logprobs(model: str, run: Path, responses: list[tuple[str, tuple[int, ...]]]) -> list[float]:
    """Sums of token log-probabilities at T = 1, by the scorer of ``rescore``."""
    prompts = {problem.id: (BOS, *encode(problem.question)) for problem in open_run(run).problems()}
    passages = [Passage(prompts[name], np.array(ids, dtype=np.int32)) for name, ids in responses]
    scored = dict(TransformersScorer(SamplerOptions(model=str(checkpoint_path(model)))).score(passages))
    return [float(scored[i].logprob.sum(dtype=np.float64)) for i in range(len(responses))]


def test_rate_and_bound_are_those_of_the_formulas(base: Path, sft: Path) -> None:
    result = reach(base, [sft], TRANSFORMERS)
    drawn = [correct_of(run) for run in (base, sft)]
    distinct = sorted({*drawn[0], *drawn[1]})
    b, q = (dict(zip(distinct, np.exp(logprobs(name, base, distinct)), strict=True)) for name in ("base", "sft"))
    assert result.responses == len(distinct) > 10
    for x in result.problems:
        mine = [[y for y in part if y[0] == x.id] for part in drawn]
        weights = [b[y] / (N * b[y] + 16 * q[y]) for part in mine for y in part]
        assert (x.n, x.c) == ((N, 16), (len(mine[0]), len(mine[1])))
        assert x.bound == pytest.approx(sum(b[y] for y in {*mine[0], *mine[1]}), rel=1e-4)
        assert x.rate == pytest.approx(min(max(x.low, sum(weights)), x.high), rel=1e-4)
        assert x.bound <= x.low <= (x.rate or 0) <= x.high
        assert x.impossible == 0
    only = [x for x in result.problems if x.c[0] == 0 and x.c[1] > 0]
    for row in result.solved_by_others:
        assert row.problems == len(only)
        assert row.within == sum(1 - (1 - x.low) ** row.k >= 0.5 for x in only)
    for e in result.pass_at_k:
        assert e.low is not None
        assert e.value is not None
        assert e.high is not None
        assert e.low <= e.value <= e.high


def test_a_second_call_scores_nothing_and_one_more_run_only_what_is_new(base: Path, sft: Path, narrow: Path) -> None:
    first = reach(base, [sft], TRANSFORMERS)
    again = reach(base, [sft], TRANSFORMERS)
    assert first.scored > 0
    assert again.scored == 0
    assert again.problems == first.problems
    wider = reach(base, [sft, narrow], TRANSFORMERS)
    new = len({*correct_of(narrow)} - {*correct_of(base)} - {*correct_of(sft)})
    # All under the narrow law; the new ones under the two others too.
    assert wider.scored == wider.responses + 2 * new
    assert [x.rate for x in wider.problems] != [x.rate for x in first.problems]
    stored = sorted(file.name for file in (base / "reach").glob("*.json"))
    assert len(stored) == 2
    assert msgspec.json.decode((base / "reach" / "zoo-sft.json").read_bytes(), type=Reach).problems == again.problems


def test_responses_outside_the_kept_tokens_have_probability_zero(narrow: Path, sft: Path) -> None:
    """Drawn at top-p 0.5, base cannot give most of what sft gave; what it drew itself it can give."""
    result = reach(narrow, [sft], TRANSFORMERS)
    assert sum(x.impossible for x in result.problems) > 5
    assert any("probability 0, exactly" in note for note in result.notes)
    own = {name for name, _ in correct_of(narrow)}
    for x in result.problems:
        assert (x.bound > 0) >= (x.id in own)
        if x.impossible == x.distinct:
            assert (x.bound, x.rate) == (0, 0)
    alone = reach(narrow, [], TRANSFORMERS)
    assert all(x.impossible == 0 for x in alone.problems)
    for x in alone.problems:  # without other runs it is the share of correct rollouts
        assert x.rate == pytest.approx(max(x.low, x.c[0] / N))


def test_without_the_targets_rollouts_only_a_lower_limit_is_stated(base: Path, sft: Path) -> None:
    result = reach(base, [sft], ReachOptions(engine="transformers", own=False))
    assert all(x.n[0] == 0 and x.high == 1 and x.bound <= x.low for x in result.problems)
    everything = reach(base, [sft], TRANSFORMERS)
    assert all(x.bound <= y.bound for x, y in zip(result.problems, everything.problems, strict=True))


def test_a_stopped_run_counts_with_the_rollouts_that_are_always_drawn(base: Path, tmp_path: Path) -> None:
    stopped = draw("zoo:sft", tmp_path / "stopped", n=32, draw_batch=8, stop_after=1)
    result = reach(base, [stopped], TRANSFORMERS)
    assert {x.n[1] for x in result.problems} == {8}
    assert any("stopping rule" in note for note in result.notes)
    distinct = {*correct_of(base), *correct_of(stopped)}
    assert sum(x.distinct for x in result.problems) == len(distinct)  # the bound has all of them


def test_a_longer_limit_makes_cut_responses_impossible(base: Path, tmp_path: Path) -> None:
    """Another max_tokens is another law: a response of more than 12 tokens cannot come from a law that cuts at 12."""
    short = draw("zoo:base", tmp_path / "short", max_tokens=12, seed=5)
    result = reach(short, [base], TRANSFORMERS)
    assert not result.drawers[1].is_own
    longer = sum(len(ids) > 12 for _, ids in {*correct_of(base)})
    assert sum(x.impossible for x in result.problems) == longer > 0


def test_verb_prints_and_gives_json(base: Path, sft: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("reach", str(base), "--from", str(sft), "--engine", "transformers")
    assert run_verb(*arguments) in (None, 0)
    text = capsys.readouterr().out
    assert "within reach" in text
    assert "zoo:sft" in text
    assert run_verb(*arguments, "--k", "10,1000", "--json") in (None, 0)
    result = json.loads(capsys.readouterr().out)
    assert [row["k"] for row in result["pass_at_k"]] == [10, 1000]


def _set(name: str, value: object) -> Callable[[Path], None]:
    def change(run: Path) -> None:
        file = run / "manifest.json"
        manifest = json.loads(file.read_bytes())
        manifest[name] = value
        file.write_text(json.dumps(manifest))

    return change


def _ungraded(run: Path) -> None:
    shutil.rmtree(run / "verdicts")
    (run / "grading.json").unlink()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_set("token_stats", "summary"), r"token_stats is 'summary'.*--token-stats full"),
        (_set("imported", "verl"), r"imported from verl"),
        (_set("sampling", None), r"sampling is unknown"),
        (_set("engine", "endpoint"), r"engine is 'endpoint'"),
        (_set("prompt_sha256", "0" * 64), r"prompt_sha256 is '000"),
        (_set("task_version", "9"), r"task_version is '9', but '1' in"),
        (_set("chat_template_args", {"thinking": True}), r"chat_template_args is"),
        (_ungraded, r"not graded yet"),
    ],
)
def test_runs_that_cannot_be_used_are_refused_by_field(
    base: Path, sft: Path, change: Callable[[Path], None], message: str
) -> None:
    change(sft)
    with pytest.raises(RunError, match=message) as refused:
        reach(base, [sft], TRANSFORMERS)
    assert str(sft) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_the_same_rollouts_twice_are_refused(base: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(base, tmp_path / "copy" / "double_countdown")
    with pytest.raises(RunError, match="not independent"):
        reach(base, [copy], TRANSFORMERS)


def test_a_checkpoint_that_changed_or_another_prompt_is_noticed(base: Path, sft: Path) -> None:
    _set("weights", "sha256:00")(sft)
    with pytest.raises(ModelError, match="no longer those that drew"):
        reach(base, [sft], TRANSFORMERS)


def test_a_law_that_vllm_cannot_score_is_refused_by_name(narrow: Path, sft: Path) -> None:
    with pytest.raises(BadArgument, match=r"--engine is 'vllm'.*top-p=0\.5"):
        reach(narrow, [sft], ReachOptions(engine="vllm"))


@pytest.mark.parametrize("content", [b"{}", b"\xff", b'{"schema": 1}'])
def test_damaged_scores_are_refused_in_one_line(base: Path, sft: Path, content: bytes) -> None:
    reach(base, [sft], TRANSFORMERS)
    for law in (base / "reach" / "scores").glob("*/law.json"):
        law.write_bytes(content)
    with pytest.raises(RlvrBenchError, match=r"law\.json: .*Remove"):
        reach(base, [sft], TRANSFORMERS)


def test_bad_budgets_are_refused() -> None:
    with pytest.raises(BadArgument, match="--k"):
        ReachOptions(ks=(0,))
