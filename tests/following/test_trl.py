"""The callback in a real run of TRL's GRPOTrainer."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from rlvr_bench import SampleOptions, countdown
from rlvr_bench.errors import BadArgument, RlvrBenchError
from rlvr_bench.records import DrawRequest, Prompt, SamplingParameters
from rlvr_bench.samplers.protocol import SamplerOptions
from rlvr_bench.scorecard import Scorecard, decode_scorecard
from rlvr_bench.zoo.checkpoints import shipped_folder
from tests.conftest import require

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    # TRL and what it imports warn about each other's versions.
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
TASK = "double_countdown"
OPTIONS = {"n": 4, "limit": 6, "temperature": 1.0, "top_p": 1.0}


class Trained:
    """Two steps of GRPO with an evaluation before, after each, and the trainer afterwards."""

    def __init__(self, folder: Path) -> None:
        import torch
        from datasets import Dataset
        from transformers import AutoModelForCausalLM, AutoTokenizer
        from trl import GRPOConfig, GRPOTrainer

        from rlvr_bench.following.trl import EvaluationCallback
        from rlvr_bench.training.rewards import task_reward

        torch.set_num_threads(1)
        puzzles = [problem.puzzle for problem in countdown.development(8)]
        rows = [
            {
                "prompt": countdown.prompt_text(puzzle),
                "answer": {"numbers": list(puzzle.numbers), "targets": list(puzzle.targets)},
            }
            for puzzle in puzzles
        ]
        config = GRPOConfig(
            output_dir=str(folder / "grpo"),
            max_steps=2,
            per_device_train_batch_size=8,
            num_generations=4,
            max_completion_length=32,
            learning_rate=1e-2,
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            use_cpu=True,
            disable_tqdm=True,
        )
        self.out = folder / "runs"
        base = shipped_folder("base")
        with task_reward(TASK) as reward:
            self.trainer = GRPOTrainer(
                model=AutoModelForCausalLM.from_pretrained(base),
                reward_funcs=reward,
                args=config,
                train_dataset=Dataset.from_list(rows),
                processing_class=AutoTokenizer.from_pretrained(base),
            )
            options = SampleOptions(out=self.out, **OPTIONS)  # type: ignore[arg-type]
            self.callback = EvaluationCallback(self.trainer, TASK, every=1, options=options)
            self.trainer.add_callback(self.callback)
            self.trainer.train()

    def card(self, step: int) -> Scorecard:
        file = self.out / f"grpo@{step}" / TASK / "scorecard.json"
        return decode_scorecard(file.read_bytes(), str(file))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    require("trl", "test")
    return Trained(tmp_path_factory.mktemp("trl"))


def test_every_step_is_a_checkpoint_of_a_series(trained: Trained) -> None:
    from rlvr_bench import series

    assert sorted(path.name for path in trained.out.iterdir()) == ["grpo@0", "grpo@1", "grpo@2"]
    result = series([str(trained.out / "*" / TASK)])
    assert [point.step for point in result.checkpoints] == [0, 1, 2]
    weights = {trained.card(step).run.weights for step in range(3)}
    assert len(weights) == 3
    assert all(str(digest).startswith("in memory: ") for digest in weights)


def test_the_trainer_logs_the_numbers_of_the_scorecards(trained: Trained) -> None:
    logged = [entry for entry in trained.trainer.state.log_history if "val/pass@4" in entry]
    assert [entry["step"] for entry in logged] == [0, 1, 2]
    for entry in logged:
        card = trained.card(entry["step"])
        for k in (1, 4):
            estimate = next(e for e in card.estimates if (e.name, e.k) == ("pass@k", k))
            assert (entry[f"val/pass@{k}"], entry[f"val/pass@{k}/low"]) == (estimate.value, estimate.low)
        assert entry["val/token_entropy"] > 0


def test_a_model_in_memory_draws_what_its_checkpoint_draws() -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from rlvr_bench.samplers.live_transformers import live_sampler
    from rlvr_bench.samplers.transformers import TransformersSampler

    base = str(shipped_folder("base"))
    model = AutoModelForCausalLM.from_pretrained(base, dtype="float32").eval()
    live = live_sampler(model, AutoTokenizer.from_pretrained(base), "m@0")
    stored = TransformersSampler(SamplerOptions(model=base))
    prompt = Prompt(problem_id="p", text=countdown.prompt_text(countdown.development(1)[0].puzzle))
    requests = [DrawRequest(prompt=prompt, start=16 * i, n=16, seed=i) for i in range(2)]
    sampling = SamplingParameters(temperature=1.0, top_p=1.0, max_tokens=48)
    first, second = (list(sampler.draw(requests, sampling)) for sampler in (live, stored))
    assert first == second
    assert live.info.context_tokens == stored.info.context_tokens
    live.close()
    assert stored.info.token_stats == live.info.token_stats == "exact"


def test_the_model_is_left_as_it_was(trained: Trained) -> None:
    import torch

    model: Any = trained.trainer.model
    model.train()
    before = torch.random.get_rng_state(), [weights.clone() for weights in model.parameters()]
    state = SimpleNamespace(global_step=7)
    trained.callback.on_step_end(trained.trainer.args, state, trained.trainer.control)
    assert model.training
    assert np.array_equal(before[0], torch.random.get_rng_state())
    assert all(map(torch.equal, before[1], model.parameters()))
    assert (trained.out / "grpo@7").exists()


def test_a_failure_is_a_line_in_the_log_unless_training_shall_stop(
    trained: Trained, caplog: pytest.LogCaptureFixture
) -> None:
    from rlvr_bench.following.trl import EvaluationCallback

    state = SimpleNamespace(global_step=9)
    wrong = EvaluationCallback(trained.trainer, "no_such_task", every=3)
    with caplog.at_level(logging.WARNING):
        wrong.on_step_end(trained.trainer.args, state, trained.trainer.control)
    assert "step 9 was not evaluated: " in caplog.text
    strict = EvaluationCallback(trained.trainer, "no_such_task", every=3, stop_on_error=True)
    with pytest.raises(RlvrBenchError, match="no_such_task"):
        strict.on_step_end(trained.trainer.args, state, trained.trainer.control)


def test_what_cannot_be_evaluated_is_refused_at_once(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    from rlvr_bench.following.trl import EvaluationCallback

    with pytest.raises(BadArgument, match="1 or more"):
        EvaluationCallback(trained.trainer, TASK, every=0)
    monkeypatch.setattr(trained.trainer, "is_fsdp_enabled", True)
    with pytest.raises(BadArgument, match="saved checkpoints"):
        EvaluationCallback(trained.trainer, TASK, every=1)
