"""A whole small training run on a CPU: TRL's GRPO on zoo:base, with our reward, advantages and evaluations.

    pip install 'rlvr-bench[torch]' trl
    python examples/train_with_trl.py OUT [STEPS] [EVERY] [N] [PROBLEMS]

The defaults take about ten minutes on two cores. pass@1 rises; pass@N falls, because the policy narrows.
"""

import random
import sys
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import GRPOConfig, GRPOTrainer

from rlvr_bench import SampleOptions, countdown, series
from rlvr_bench.following.trl import EvaluationCallback
from rlvr_bench.training import advantages
from rlvr_bench.training.rewards import task_reward
from rlvr_bench.zoo.checkpoints import shipped_folder

TASK = "double_countdown"
GROUP = 8
DEFAULTS = [200, 50, 256, 60]  # steps, every, n, problems


class PositionShapedTrainer(GRPOTrainer):
    """GRPO whose late tokens count more (arXiv 2508.07534)."""

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        batch = super()._generate_and_score_completions(inputs)
        mask = batch["completion_mask"]
        batch["advantages"] = advantages.position_shaped(batch["advantages"], mask.sum(1), mask.shape[1])
        return batch


def puzzles(count: int) -> Dataset:
    """Fresh puzzles; none of them is among the problems of the evaluation."""
    rng = random.Random(1)
    held_out = {problem.puzzle.numbers for problem in countdown.held_out()}
    sizes = [size for tier in countdown.TIERS.values() for size in tier]
    rows = []
    while len(rows) < count:
        puzzle, _ = countdown.generate(rng, sizes[len(rows) % len(sizes)])
        if tuple(puzzle.numbers) not in held_out:
            gold = {"numbers": list(puzzle.numbers), "targets": list(puzzle.targets)}
            rows.append({"prompt": countdown.prompt_text(puzzle), "answer": gold})
    return Dataset.from_list(rows)


def train(out: Path, steps: int, every: int, n: int, problems: int) -> None:
    """Train for so many steps of 128 rollouts; evaluate every so many steps with n rollouts of each problem."""
    folder = shipped_folder("base")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    config = GRPOConfig(
        output_dir=str(out / "training"),
        max_steps=steps,
        per_device_train_batch_size=128,
        num_generations=GROUP,
        max_completion_length=64,
        learning_rate=1e-3,
        lr_scheduler_type="constant",
        temperature=1.0,
        beta=0.0,
        logging_steps=max(1, steps // 10),
        save_strategy="no",
        report_to="none",
        use_cpu=True,
        seed=1,
    )
    with task_reward(TASK) as reward:
        trainer = PositionShapedTrainer(
            model=AutoModelForCausalLM.from_pretrained(folder, dtype="float32"),
            reward_funcs=reward,
            args=config,
            train_dataset=puzzles(16 * steps),
            processing_class=tokenizer,
        )
        options = SampleOptions(n=n, limit=problems, temperature=1.0, top_p=1.0, out=out / "runs")
        trainer.add_callback(EvaluationCallback(trainer, TASK, every=every, options=options, name="grpo"))
        trainer.train()


def main() -> None:
    """Train, and print the series."""
    out = Path(sys.argv[1])
    given = [int(value) for value in sys.argv[2:]]
    steps, every, n, problems = given + DEFAULTS[len(given) :]
    torch.set_num_threads(1)  # the model is so small that a second thread only costs time
    train(out, steps, every, n, problems)
    result = series([str(out / "runs" / "grpo*" / TASK)])
    for metric in result.metrics:
        if metric.name == "pass@k" and metric.k in (1, n):
            values = ", ".join(
                f"{value:.1%} at {point.step}" for value, point in zip(metric.values, result.checkpoints, strict=True)
            )
            print(f"pass@{metric.k}: {values}")


if __name__ == "__main__":
    main()
