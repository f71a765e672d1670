"""Rewards and validation numbers in verl's own classes. It runs where verl is installed: it is not part of the test extra."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

from rlvr_bench.training.validation import verl_validation_metrics

reward_module = pytest.importorskip(
    "verl.trainer.ppo.reward", reason="verl is not installed (with tensordict, omegaconf)"
)

RESPONSES = ["so \\boxed{1/2}", "\\boxed{3}", "The answer is 18.", "no answer"]
GOLDS = ["0.5", "4", "18", "1"]
SOURCES = ["math", "math", "openai/gsm8k", "math"]
REWARDS = [1.0, 0.0, 1.0, 0.0]


class Characters:
    """A tokenizer whose tokens are characters."""

    def decode(self, ids: Any, skip_special_tokens: bool = True) -> str:
        return "".join(chr(int(token)) for token in ids if int(token))


def loaded(name: str, **settings: object) -> Any:
    """A function of ours as verl loads it from its configuration."""
    from omegaconf import OmegaConf

    path = "pkg://rlvr_bench.training.rewards"
    function = {"path": path, "name": name, "reward_kwargs": settings}
    return reward_module.get_custom_reward_fn(OmegaConf.create({"reward": {"custom_reward_function": function}}))


def batch() -> Any:
    import torch
    from tensordict import TensorDict
    from verl import DataProto

    width = max(map(len, RESPONSES))
    responses = torch.zeros(len(RESPONSES), width, dtype=torch.long)
    for row, text in enumerate(RESPONSES):
        responses[row, : len(text)] = torch.tensor([ord(sign) for sign in text])
    prompts = torch.full((len(RESPONSES), 2), ord("?"))
    mask = torch.cat([torch.ones_like(prompts), (responses > 0).long()], dim=1)
    tensors = {"prompts": prompts, "responses": responses, "attention_mask": mask}
    columns = {
        "reward_model": [{"ground_truth": gold} for gold in GOLDS],
        "data_source": SOURCES,
        "extra_info": [{} for _ in GOLDS],
    }
    arrays = {name: np.array(values, dtype=object) for name, values in columns.items()}
    return DataProto(batch=TensorDict(tensors, batch_size=len(RESPONSES)), non_tensor_batch=arrays)


def test_its_reward_managers_get_our_rewards() -> None:
    from verl.workers.reward_manager.batch import BatchRewardManager
    from verl.workers.reward_manager.naive import NaiveRewardManager

    single = NaiveRewardManager(Characters(), 0, loaded("compute_score"), compute_score_timeout=60)
    batched = BatchRewardManager(Characters(), 0, loaded("compute_score_batched"))
    for manager in (single, batched):
        assert manager(batch(), return_dict=True)["reward_tensor"].sum(1).tolist() == REWARDS


def test_its_reward_loop_gets_our_rewards_from_many_calls_at_once() -> None:
    loops = pytest.importorskip("verl.experimental.reward_loop.reward_manager.naive")
    from omegaconf import OmegaConf

    async def score() -> list[float]:
        manager = loops.NaiveRewardManager(OmegaConf.create({}), Characters(), loaded("compute_score"))
        data = batch()
        results = await asyncio.gather(*(manager.run_single(data[row : row + 1]) for row in [0, 1, 2, 3] * 8))
        return [result["reward_score"] for result in results]

    assert asyncio.run(score()) == REWARDS * 8


def test_its_validation_has_our_mean_and_a_best_that_is_too_low() -> None:
    from verl.trainer.ppo.metric_utils import process_validation_metrics

    rng = np.random.default_rng(0)
    sources, uids = ["a"] * 64, [f"problem {row // 4}" for row in range(64)]
    infos = {"acc": (rng.random(64) < 0.4).astype(float).tolist()}
    theirs = process_validation_metrics(sources, uids, infos)["a"]["acc"]
    ours = verl_validation_metrics(sources, uids, infos, ks=(1, 4))
    assert ours["val/a/pass@1"] == pytest.approx(theirs["mean@4"])
    assert theirs["best@4/mean"] < ours["val/a/pass@4"] - 0.02
