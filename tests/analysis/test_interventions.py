"""Interventions on a planted model whose late tokens alone decide the answer, and on bad input."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from rlvr_bench.analysis.interventions import Effect, Site, Source, alternative, choose_sites, levels_of
from rlvr_bench.errors import BadArgument, EngineError, ModelError, RunError
from rlvr_bench.pipeline import SampleOptions, intervening, sample
from rlvr_bench.pipeline.continuing import CONTINUATIONS
from rlvr_bench.pipeline.intervening import InterveneOptions, Interventions, intervene_with
from rlvr_bench.pipeline.options import GradeOptions, Silent
from rlvr_bench.prompts import open_prompt
from rlvr_bench.records import (
    Draw,
    DrawRequest,
    EngineInfo,
    Problem,
    Prompt,
    Rollout,
    SamplingParameters,
    TokenArrays,
)
from rlvr_bench.samplers.protocol import NextTokens
from rlvr_bench.samplers.seeds import draw_seed
from rlvr_bench.store import Run, RunWriter, Session, open_run
from rlvr_bench.store.shards import ShardFolder
from rlvr_bench.verifiers import open_verifier
from tests.conftest import info_of, manifest_with, run_verb

LENGTH = 12  # digits of a response; an end token follows
LATE = range(9, LENGTH)  # with the end token 13 tokens: the last third begins at 9
ONE, ZERO, END = 1, 0, 2
P_ONE = 0.8
PROBLEMS = 60


class Planted:
    """Writes twelve digits, each 1 with probability 0.8; right is who ends in 111, so nothing before matters."""

    def __init__(self, weights: str = "planted", dies_after: int | None = None) -> None:
        self.weights, self.dies_after, self.drawn = weights, dies_after, 0

    @property
    def info(self) -> EngineInfo:
        return info_of("planted", model="planted", weights=self.weights, token_stats="exact")

    def prompt_tokens(self, prompt: Prompt) -> int:
        return len(prompt.begun) + 1

    def draw(self, requests: Iterable[DrawRequest | None], sampling: SamplingParameters) -> Iterator[Draw]:
        for request in requests:
            assert request is not None
            if self.drawn == self.dies_after:
                raise EngineError("the engine died")
            self.drawn += 1
            rng = np.random.default_rng(request.seed)
            yield Draw(request=request, rollouts=tuple(self._rollout(request, i, rng) for i in range(request.n)))

    def next_tokens(self, prompts: Sequence[Prompt], most: int) -> list[NextTokens]:
        return [NextTokens((ONE, ZERO), (float(np.log(P_ONE)), float(np.log(1 - P_ONE)))) for _ in prompts]

    def close(self) -> None:
        """Nothing to free."""

    def _rollout(self, request: DrawRequest, offset: int, rng: np.random.Generator) -> Rollout:
        begun = [int(token) for token in request.prompt.begun]
        left = LENGTH - len(begun)
        assert request.limit(SamplingParameters(max_tokens=16)) == 16 - len(begun)
        new = (rng.random(left) < P_ONE).astype(int).tolist()
        ids = np.array([*new, END], dtype=np.int32)
        return Rollout(
            problem_id=request.prompt.problem_id,
            index=request.start + offset,
            text="".join(map(str, [*begun, *new])),
            n_tokens=len(ids),
            finish_reason="stop",
            tokens=TokenArrays(
                ids=ids,
                logprob=np.log(np.where(ids == ZERO, 1 - P_ONE, P_ONE)).astype(np.float32),
                entropy=rng.random(len(ids)).astype(np.float32),
                nucleus=np.full(len(ids), 2, dtype=np.int32),
            ),
        )


def make_run(folder: Path, **changed: Any) -> Run:
    problems = [Problem(id=f"p{i}", question="?", answer="111") for i in range(PROBLEMS)]
    fields = {
        "weights": "planted",
        "token_stats": "full",
        "sampling": SamplingParameters(temperature=1.0, top_p=1.0, max_tokens=16),
        "prompt_sha256": open_prompt("raw").digest,
        "sessions": (Session.now(16, Planted().info),),
        **changed,
    }
    with RunWriter(folder, manifest_with(**fields), problems) as writer:
        requests = [
            DrawRequest(prompt=Prompt(problem_id=p.id, text="?"), start=0, n=4, seed=draw_seed(0, "t", p.id, 0))
            for p in problems
        ]
        for draw in Planted().draw(requests, SamplingParameters()):
            writer.add(draw)
    return open_run(folder)


VERIFIER = open_verifier("exact", policy=r"regex:(\d{3})$")


def run_planted(run: Run, sampler: Any = None, **options: Any) -> Interventions:
    grading = GradeOptions(workers=1)
    return intervene_with(sampler or Planted(), run, VERIFIER, InterveneOptions(**options), grading, Silent())


@pytest.fixture(scope="module")
def planted_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make_run(tmp_path_factory.mktemp("planted"))


def expected_late() -> tuple[float, float]:
    """Accuracy with and without the token, by enumeration of the last three digits and the position of the swap."""
    kept = swapped = 0.0
    for digits in itertools.product((0, 1), repeat=len(LATE)):
        weight = float(np.prod([P_ONE if digit else 1 - P_ONE for digit in digits]))
        for token in range(len(LATE)):
            rest = P_ONE ** (len(LATE) - 1 - token)
            before = float(all(digits[:token]))
            kept += weight / len(LATE) * before * digits[token] * rest
            swapped += weight / len(LATE) * before * (1 - digits[token]) * rest
    return kept, swapped


def effect_of(result: Interventions, **levels: str) -> Effect:
    return next(effect for effect in result.effects if effect.levels == levels)


def interval(effect: Effect) -> tuple[float, float]:
    assert effect.low is not None
    assert effect.high is not None
    return effect.low, effect.high


def stored_draws(run: Run, name: str) -> list[tuple[Any, ...]]:
    folder = run.path / "interventions" / name / "draws"
    tables = ShardFolder(folder, CONTINUATIONS).read()
    return sorted(tuple(row.values()) for table in tables for row in table.to_pylist())


def test_late_tokens_alone_decide_and_are_found_with_the_right_size(planted_run: Run) -> None:
    result = run_planted(planted_run, strata=("position",), sites=180, repeats=4)
    late = effect_of(result, position="late")
    kept, swapped = expected_late()
    low, high = interval(late)
    assert low <= swapped - kept <= high < 0
    assert late.p_holm is not None
    assert late.p_holm < 0.01
    assert late.kept == pytest.approx(kept, abs=0.1)
    assert late.n_problems == PROBLEMS
    for level in ("early", "middle"):
        effect = effect_of(result, position=level)
        low, high = interval(effect)
        assert low <= 0 <= high
        assert effect.kept == pytest.approx(P_ONE**3, abs=0.1)
    assert result.draws == result.n_sites * 2 * 4


class Thinking(Planted):
    """Never ends the thought that it begins in a continuation."""

    def _rollout(self, request: DrawRequest, offset: int, rng: np.random.Generator) -> Rollout:
        rollout = super()._rollout(request, offset, rng)
        return msgspec.structs.replace(rollout, text=f"<think>{rollout.text}")


def test_a_thought_that_a_continuation_leaves_open_is_named(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    run_planted(run, Thinking(), strata=("position",), sites=6, repeats=2, name="open")
    folder = run.path / "interventions" / "open" / "draws"
    rows = [row for table in ShardFolder(folder, CONTINUATIONS).read() for row in table.to_pylist()]
    assert {(row["status"], row["kind"]) for row in rows} == {("no_answer", "unfinished_thought")}


def test_a_token_swapped_for_itself_changes_nothing_at_all(planted_run: Run) -> None:
    result = run_planted(planted_run, swap="same", sites=10, repeats=2)
    assert len(result.effects) == 1 + 7 + 12
    for effect in result.effects:
        assert effect.effect == 0
        low, high = interval(effect)
        assert low < 0 < high


def test_what_was_lost_is_drawn_again_and_is_the_same(planted_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rlvr_bench.store.shards.SHARD_ROLLOUTS", 20)
    options: dict[str, Any] = {"strata": ("position",), "sites": 15, "repeats": 2}
    whole = run_planted(planted_run, name="whole", **options)
    with pytest.raises(EngineError, match="died"):
        run_planted(planted_run, Planted(dies_after=30), name="stopped", **options)
    folder = planted_run.path / "interventions" / "stopped"
    assert not (folder / "result.json").exists()
    shards = sorted((folder / "draws").glob("*.parquet"))
    shards[-1].unlink()  # what a kill in the middle of a shard takes
    shards[0].write_bytes(shards[0].read_bytes()[:100])  # and what a bad disk does
    again = Planted()
    resumed = run_planted(planted_run, again, name="stopped", **options)
    assert 0 < again.drawn < 90
    assert stored_draws(planted_run, "stopped") == stored_draws(planted_run, "whole")
    assert msgspec.structs.replace(resumed) == whole
    third = Planted()
    run_planted(planted_run, third, name="stopped", **options)
    assert third.drawn == 0


def test_other_interventions_are_not_mixed(planted_run: Run) -> None:
    run_planted(planted_run, strata=("position",), sites=3, repeats=1, name="one")
    with pytest.raises(RunError, match=r"repeats: was 1, is 2.*--name"):
        run_planted(planted_run, strata=("position",), sites=3, repeats=2, name="one")


def source(entropy: list[float], logprob: float = -1.0, name: str = "p", ended: bool = True) -> Source:
    n = len(entropy)
    return Source(
        problem_id=name,
        index=0,
        ended=ended,
        ids=np.arange(n, dtype=np.int32),
        logprob=np.full(n, logprob),
        entropy=np.array(entropy),
        nucleus=np.ones(n, dtype=np.int32),
    )


def test_sites_lie_in_their_strata_and_spread_over_problems() -> None:
    entropy = [0.9 if t in (0, 4, 7) else 0.1 for t in range(9)]
    sources = [source(entropy, -0.5 if i % 2 else -1.5, f"p{i}") for i in range(10)]
    sites = choose_sites(sources, ("entropy", "perplexity", "position"), 5, max_tokens=99, swap="second")
    assert len(sites) == 5 * 12
    for site in sites:
        assert site.levels["entropy"] == ("high" if site.token in (0, 4, 7) else "low")
        assert site.levels["perplexity"] == ("low" if int(site.problem_id[1:]) % 2 else "high")
        assert site.levels["position"] == ("early", "middle", "late")[site.token // 3]
        assert site.token != 8, "the end token"
        assert site.prefix == tuple(range(site.token))
    for levels in levels_of(("entropy", "perplexity", "position")):
        assert len({site.problem_id for site in sites if site.levels == levels}) == 5
    assert not choose_sites(sources, ("position",), 5, max_tokens=99, swap="nucleus"), "no nucleus holds another token"
    short = choose_sites(sources, ("position",), 50, max_tokens=4, swap="second")
    assert max(site.token for site in short) == 2, "a continuation needs room for a token"
    assert sites == choose_sites(sources, ("entropy", "perplexity", "position"), 5, max_tokens=99, swap="second")


def test_a_certain_token_is_never_of_high_entropy() -> None:
    sites = choose_sites([source([0.0] * 9 + [0.5])], ("entropy",), 50, max_tokens=99, swap="second")
    assert {site.levels["entropy"] for site in sites} == {"low"}


def test_alternatives_follow_their_rule() -> None:
    (site,) = choose_sites([source([0.5, 0.5], ended=False)], ("position",), 1, max_tokens=99, swap="second")[:1]
    likely = NextTokens((7, site.kept, 9, 5), tuple(np.log([0.6, 0.3, 0.06, 0.04])))
    assert alternative(site, likely, "second").swapped == 7, "the likeliest other one"
    assert alternative(site, likely, "same").swapped == site.kept
    drawn = [alternative(site, likely, "nucleus", seed).swapped for seed in range(400)]
    assert set(drawn) == {7, 9}, "5 is outside the nucleus"
    assert drawn.count(9) / 400 == pytest.approx(0.06 / 0.66, abs=0.05)
    alone = NextTokens((site.kept,), (0.0,))
    assert alternative(site, alone, "nucleus").swapped is None
    assert alternative(site, alone, "second").swapped is None


def test_a_site_without_an_alternative_is_left_out_and_counted(planted_run: Run) -> None:
    class Certain(Planted):
        def next_tokens(self, prompts: Sequence[Prompt], most: int) -> list[NextTokens]:
            return [NextTokens((ONE,), (0.0,)) for _ in prompts]

    result = run_planted(planted_run, Certain(), strata=("position",), sites=20, repeats=1, name="certain")
    assert result.no_alternative > 0
    assert result.draws == 2 * result.n_sites
    assert result.n_sites + result.no_alternative == 60


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strata": ("mood",)}, "--strata is 'mood': one or more of entropy, perplexity, position"),
        ({"strata": ()}, "--strata"),
        ({"strata": ("entropy", "entropy")}, "each once"),
        ({"swap": "third"}, "--swap is 'third'"),
        ({"sites": 0}, "--sites is 0"),
        ({"repeats": 0}, "--repeats is 0"),
        ({"name": "../x"}, "--name"),
    ],
)
def test_bad_options_are_one_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(BadArgument, match=message):
        InterveneOptions(**options)


def test_runs_that_cannot_be_intervened_in_say_why(planted_run: Run, tmp_path: Path) -> None:
    class Plain:
        info = Planted().info

        def prompt_tokens(self, prompt: Prompt) -> int: ...  # type: ignore[empty-body]
        def draw(self, requests: Any, sampling: Any) -> Any: ...
        def close(self) -> None: ...

    with pytest.raises(EngineError, match="cannot continue a prefix of tokens"):
        run_planted(planted_run, Plain())
    with pytest.raises(ModelError, match="is not the model of this run"):
        run_planted(planted_run, Planted(weights="others"))
    greedy = make_run(tmp_path / "greedy", sampling=SamplingParameters(temperature=0.0, max_tokens=16))
    with pytest.raises(BadArgument, match="greedy"):
        run_planted(greedy)
    with pytest.raises(RunError, match="template 'raw' has changed"):
        run_planted(make_run(tmp_path / "prompt", prompt_sha256="x"))
    with pytest.raises(RunError, match="imported"):
        run_planted(make_run(tmp_path / "imported", sampling=None))


def test_the_command_line_says_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(tmp_path, token_stats="summary")
    for arguments, message in (
        (
            [str(run.path)],
            "holds no token ids, and interventions change single tokens. Sample it with --token-stats full",
        ),
        ([str(tmp_path / "no")], "not a run"),
        ([str(run.path), "--strata", "mood"], "--strata is 'mood'"),
    ):
        assert run_verb("intervene", *arguments) == 2
        shown = capsys.readouterr().err.strip()
        assert message in shown
        assert "\n" not in shown


def test_a_real_checkpoint_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The zoo's base through the embedded engine: same tokens, same seeds, so the very same continuations."""
    options = SampleOptions(n=2, limit=8, token_stats="full", out=tmp_path, engine="transformers")
    run = sample("zoo:base", "double_countdown", options)
    common = ["intervene", str(run), "--strata", "position", "--sites", "8", "--repeats", "2", "--workers", "1"]
    assert run_verb(*common, "--swap", "same", "--json") == 0
    result = msgspec.json.decode(capsys.readouterr().out, type=Interventions)
    assert result.n_sites == 24
    texts: dict[tuple[int, int], set[str]] = {}
    for site, _, repeat, _, text, *_ in stored_draws(open_run(run), "same-position"):
        texts.setdefault((site, repeat), set()).add(text)
    assert all(len(both) == 1 for both in texts.values())
    assert run_verb(*common) == 0
    shown = capsys.readouterr().out
    assert "tokens swapped (second)" in shown
    assert "late" in shown


def test_a_site_survives_the_disk(tmp_path: Path) -> None:
    site = Site(
        problem_id="ü",
        index=3,
        token=1,
        n_tokens=9,
        levels={"position": "early"},
        entropy=0.5,
        perplexity=1.5,
        prefix=(1, 2),
        kept=4,
        kept_logprob=-0.1,
    )
    stored = intervening._Sites(tmp_path / "sites.parquet")
    stored.write([site])
    assert stored.read() == [site]
