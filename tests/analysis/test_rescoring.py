"""Teacher-forced scoring of stored rollouts: the stored numbers come back, interruptions cost nothing, misfits are refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

pytest.importorskip("torch", reason="needs the torch extra")
pytest.importorskip("transformers", reason="needs the torch extra")

import torch

from rlvr_bench import pipeline
from rlvr_bench.analysis.shift_results import Rescoring
from rlvr_bench.cli import main
from rlvr_bench.cli.main import app
from rlvr_bench.errors import BadArgument, ModelError, RunError, RunLocked
from rlvr_bench.pipeline import SampleOptions
from rlvr_bench.pipeline.rescoring import RescoreOptions, rescore
from rlvr_bench.samplers.logprobs import Passage, Scored
from rlvr_bench.samplers.logprobs_transformers import TransformersScorer, divergences
from rlvr_bench.samplers.protocol import SamplerOptions
from rlvr_bench.store.locks import lock_folder
from tests.samplers.tiny_llama import make_tiny_llama

# What float32 arithmetic in another order of operations does to a log-probability, in nats.
TOLERANCE = 2e-5
PROBLEMS, N = 6, 8
TRANSFORMERS = RescoreOptions(engine="transformers")


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    options = SampleOptions(
        n=N, limit=PROBLEMS, engine="transformers", token_stats="full", out=tmp_path_factory.mktemp("runs")
    )
    return pipeline.evaluate("zoo:base", "double_countdown", options)[0]


@pytest.fixture
def run(drawn: Path, tmp_path: Path) -> Path:
    return shutil.copytree(drawn, tmp_path / "zoo-base" / "double_countdown")


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The zoo's base checkpoint with its weights a little off."""
    from transformers import AutoModelForCausalLM

    from rlvr_bench.zoo.checkpoints import checkpoint_path

    folder = shutil.copytree(checkpoint_path("base"), tmp_path_factory.mktemp("models") / "step_20")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim == 2:
                weight.add_(0.1 * weight.std() * torch.randn_like(weight))
    model.save_pretrained(folder)
    return str(folder)


def rows_of(run: Path) -> list[dict[str, Any]]:
    result = [
        row for file in sorted(run.glob("rescored/*/scores/*.parquet")) for row in pq.read_table(file).to_pylist()
    ]
    return sorted(result, key=lambda row: (row["problem_id"], row["index"]))


def test_a_run_under_its_own_checkpoint_gives_its_stored_numbers_and_no_divergence(run: Path) -> None:
    result = rescore(run, "zoo:base", RescoreOptions(engine="transformers", exact_kl=True))
    rows = rows_of(run)
    assert len(rows) == PROBLEMS * N
    for row in rows:
        np.testing.assert_allclose(row["other_logprob"], row["own_logprob"], atol=TOLERANCE)
        np.testing.assert_allclose(row["other_entropy"], row["own_entropy"], atol=2e-3)  # stored in half precision
        np.testing.assert_array_less(np.abs(np.subtract(row["other_nucleus"], row["own_nucleus"])), 2)
        assert row["kl"] == row["kl_reverse"] == [0.0] * row["n_tokens"]
        assert row["own_perplexity"] == pytest.approx(row["other_perplexity"], rel=1e-5)
    values = {(e.name, e.group): e.value for e in result.estimates}
    assert values["kl", None] == values["kl_reverse", None] == values["moved_share", None] == 0.0
    assert values["kl_k1", None] == pytest.approx(0, abs=TOLERANCE)
    # The run of the checkpoint is this run.
    four = result.perplexities
    assert four.other_on_other is not None
    assert four.other_on_other.value == pytest.approx(four.own_on_own.value, rel=1e-5)


def test_logprobs_divergences_and_references_equal_a_plain_float64_pass(run: Path, other: str) -> None:
    from transformers import AutoModelForCausalLM

    from rlvr_bench.zoo.tokenizer import BOS, EOS, encode

    result = rescore(run, other, RescoreOptions(engine="transformers", exact_kl=True))
    same_model, changed = (
        AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64).eval() for folder in (_base(), other)
    )
    problems = {p["id"]: p for p in map(json.loads, (run / "problems.jsonl").read_text().splitlines())}
    k1: list[float] = []
    kl: list[float] = []
    for row in rows_of(run)[::5]:
        prompt = [BOS, *encode(problems[row["problem_id"]]["question"])]
        p, q = (_laws(model, prompt, row["token_ids"]) for model in (same_model, changed))
        at = np.arange(len(row["token_ids"])), np.array(row["token_ids"])
        np.testing.assert_allclose(row["own_logprob"], p[at], atol=TOLERANCE)
        np.testing.assert_allclose(row["other_logprob"], q[at], atol=TOLERANCE)
        exact = np.sum(np.exp(p) * (p - q), axis=1)
        np.testing.assert_allclose(row["kl"], exact, atol=TOLERANCE)
        np.testing.assert_allclose(row["kl_reverse"], np.sum(np.exp(q) * (q - p), axis=1), atol=TOLERANCE)
        k1, kl = [*k1, *(p[at] - q[at])], [*kl, *exact]
    assert np.mean(kl) > 0.01  # the two do differ, and the estimator agrees with the sum within its error
    assert abs(np.mean(k1) - np.mean(kl)) < 4 * np.std(k1) / np.sqrt(len(k1))
    perplexities = []
    for problem in problems.values():
        ids = [*encode(problem["answer"]), EOS]
        laws = _laws(changed, [BOS, *encode(problem["question"])], ids)
        perplexities.append(np.exp(-laws[np.arange(len(ids)), ids].mean()))
    assert result.perplexities.other_on_reference is not None
    assert result.perplexities.other_on_reference.value == pytest.approx(np.mean(perplexities), rel=1e-4)


def test_long_responses_read_in_pieces_and_batches_equal_whole_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoModelForCausalLM

    folder = make_tiny_llama(tmp_path / "tiny")
    rng = np.random.default_rng(0)
    prompts = [tuple(rng.integers(3, 96, size).tolist()) for size in (3, 9, 1)]
    lengths = [1, 40, 7, 0, 33, 40, 2]
    passages = [
        Passage(prompts[i % 3], rng.integers(3, 96, length).astype(np.int32)) for i, length in enumerate(lengths)
    ]
    monkeypatch.setattr("rlvr_bench.samplers.logprobs_transformers._POSITIONS", 24)
    monkeypatch.setattr("rlvr_bench.samplers.logprobs_transformers._PIECE", 8)
    scorer = TransformersScorer(SamplerOptions(model=str(folder)))
    result = dict(scorer.score(passages))
    assert sorted(result) == list(range(len(passages)))
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64).eval()
    for i, passage in enumerate(passages):
        assert len(result[i].logprob) == len(passage.response)
        if len(passage.response):
            laws = _laws(model, list(passage.prompt), passage.response.tolist())
            at = np.arange(len(laws)), passage.response
            np.testing.assert_allclose(result[i].logprob, laws[at], atol=1e-4)  # steep laws: down to -20 nats
            np.testing.assert_allclose(result[i].entropy, -np.sum(np.exp(laws) * laws, axis=1), atol=1e-4)


def test_an_interrupted_rescoring_goes_on_where_it_stopped(
    run: Path, other: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = rescore(shutil.copytree(run, run.parent / "copy"), other, TRANSFORMERS)
    plain, asked = TransformersScorer.score, []

    def failing(self: TransformersScorer, passages: Sequence[Passage]) -> Iterator[tuple[int, Scored]]:
        for number, item in enumerate(plain(self, passages)):
            if number == 20:
                raise KeyboardInterrupt
            yield item

    def counting(self: TransformersScorer, passages: Sequence[Passage]) -> Iterator[tuple[int, Scored]]:
        asked.append(len(passages))
        return plain(self, passages)

    monkeypatch.setattr(TransformersScorer, "score", failing)
    with pytest.raises(KeyboardInterrupt):
        rescore(run, other, TRANSFORMERS)
    assert len(rows_of(run)) == 20
    monkeypatch.setattr(TransformersScorer, "score", counting)
    resumed = rescore(run, other, TRANSFORMERS)
    assert asked == [PROBLEMS * N - 20, PROBLEMS]  # what was missing, and the references
    assert len(rows_of(run)) == PROBLEMS * N
    for ours, theirs in zip(resumed.estimates, whole.estimates, strict=True):
        assert (ours.name, ours.group) == (theirs.name, theirs.group)
        assert ours.value == pytest.approx(theirs.value, abs=1e-6)
    torn = next(run.glob("rescored/*/scores/*.parquet"))
    torn.write_bytes(torn.read_bytes()[:-10])
    rescore(run, other, TRANSFORMERS)
    assert len(list(run.glob("rescored/*/scores/set-aside/*.parquet"))) == 1
    assert {(row["problem_id"], row["index"]) for row in rows_of(run)} == {
        (row["problem_id"], row["index"]) for row in rows_of(run.parent / "copy")
    }


def test_the_first_n_rollouts_alone(run: Path) -> None:
    result = rescore(run, "zoo:base", RescoreOptions(engine="transformers", n=2))
    assert result.n_rollouts == PROBLEMS * 2
    assert {row["index"] for row in rows_of(run)} == {0, 1}


def test_an_ungraded_run_is_rescored_without_the_split(run: Path) -> None:
    (run / "grading.json").unlink()
    result = rescore(run, "zoo:base", TRANSFORMERS)
    assert any("rlvr-bench grade" in note for note in result.notes)
    assert {row.group for row in result.strata} == {"all"}


def test_a_run_without_tokens_is_refused_and_the_option_named(tmp_path: Path) -> None:
    run = pipeline.sample("fake:0.5", "double_countdown", SampleOptions(n=2, limit=2, out=tmp_path))
    with pytest.raises(RunError, match="--token-stats full"):
        rescore(run, "zoo:base", TRANSFORMERS)


def test_a_model_with_another_tokenizer_is_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="another tokenizer"):
        rescore(run, str(make_tiny_llama(tmp_path / "tiny")), TRANSFORMERS)
    assert not (run / "rescored").exists()


def test_without_the_runs_own_tokenizer_another_one_is_seen_by_the_stored_text(run: Path, tmp_path: Path) -> None:
    manifest = json.loads((run / "manifest.json").read_text())
    (run / "manifest.json").write_text(json.dumps({**manifest, "model": str(tmp_path / "gone")}))
    with pytest.raises(ModelError, match="another tokenizer"):
        rescore(run, str(make_tiny_llama(tmp_path / "tiny")), TRANSFORMERS)
    result = rescore(run, "zoo:base", TRANSFORMERS)
    assert any("own tokenizer could not be loaded" in note for note in result.notes)


def test_other_weights_under_the_same_name_are_not_mixed_in(run: Path, other: str, tmp_path: Path) -> None:
    name = shutil.copytree(other, tmp_path / "here" / "model")
    rescore(run, str(name), TRANSFORMERS)
    shutil.copy(Path(_base()) / "model.safetensors", name / "model.safetensors")
    with pytest.raises(RunError, match="scored differently.*weights"):
        rescore(run, str(name), TRANSFORMERS)


def test_one_writer_at_a_time(run: Path) -> None:
    handle = lock_folder(run / "rescored" / "zoo-base")
    with pytest.raises(RunLocked):
        rescore(run, "zoo:base", TRANSFORMERS)
    handle.release()


@pytest.mark.parametrize("model", ["http://localhost:1/v1", "fake:0.5"])
def test_what_cannot_score_says_so(run: Path, model: str) -> None:
    with pytest.raises(BadArgument, match="--model"):
        rescore(run, model, TRANSFORMERS)


def test_divergences_of_peaked_and_masked_laws_are_finite() -> None:
    p = torch.tensor([[0.0, -torch.inf, 3.0], [200.0, 0.0, 0.0], [1.0, 2.0, 3.0]])
    forward, reverse = divergences(p, p.clone())
    assert forward.tolist() == reverse.tolist() == [0.0, 0.0, 0.0]
    forward, _ = divergences(p[2:], torch.zeros(1, 3))
    law = np.exp([1.0, 2.0, 3.0]) / np.exp([1.0, 2.0, 3.0]).sum()
    assert forward.item() == pytest.approx(np.sum(law * np.log(3 * law)))


def _base() -> str:
    from rlvr_bench.zoo.checkpoints import checkpoint_path

    return str(checkpoint_path("base"))


def _laws(model: Any, prompt: list[int], response: list[int]) -> Any:
    """Log-probabilities (T, V) of the next token at every position of a response."""
    with torch.inference_mode():
        logits = model(torch.tensor([[*prompt, *response]])).logits[0, len(prompt) - 1 : -1]
    return logits.log_softmax(-1).numpy()


def test_the_command_prints_tables_or_json_and_one_line_for_a_misfit(
    run: Path, other: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["rescore", str(run), "--model", other, "--engine", "transformers", "-n", "4"]
    shown = CliRunner().invoke(app, asked, catch_exceptions=False)
    assert shown.exit_code == 0
    assert "formal reasoning" in shown.stdout
    assert "ppl other on reference" in shown.stdout
    printed = CliRunner().invoke(app, [*asked, "--json"], catch_exceptions=False)
    result = msgspec.json.decode(printed.stdout, type=Rescoring)
    assert result.n_rollouts == PROBLEMS * 4
    stored = next(run.glob("rescored/*/rescore.json")).read_bytes()
    assert msgspec.json.decode(stored, type=Rescoring) == result
    with pytest.raises(SystemExit) as stopped:
        main(["rescore", str(run), "--model", str(make_tiny_llama(tmp_path / "tiny")), "--engine", "transformers"])
    assert stopped.value.code == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_a_run_with_stop_strings_is_rescored(tmp_path: Path) -> None:
    """Its texts end before the stop string, its tokens after it."""
    model = str(make_tiny_llama(tmp_path / "model"))
    options = SampleOptions(
        n=4, limit=2, engine="transformers", out=tmp_path / "runs", token_stats="full", stop=("w1", "w2", "w3")
    )
    run = pipeline.sample(model, "double_countdown", options)
    assert rescore(run, model, RescoreOptions(engine="transformers")).n_rollouts == 8
