"""A whole small training run on a CPU: TRL's GRPO on zoo:base, with our reward and advantages, followed with an alarm.

    pip install 'rlvr-bench[torch]' trl
    python examples/train_with_trl.py OUT [STEPS] [EVERY] [N] [PROBLEMS]

While it trains, a callback evaluates the model in memory with a few rollouts. Then the saved checkpoints are followed with N
rollouts of each problem, as ``rlvr-bench follow`` does beside a training program: pass@1 rises, pass@N falls because the
policy narrows, and the alarm on pass@N sounds. docs/training.md says what the defaults showed.
"""

import random
import sys
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import GRPOConfig, GRPOTrainer

from rlvr_bench import FollowOptions, SampleOptions, countdown, evaluate, follow
from rlvr_bench.following.alarms import Fired, read_alarms
from rlvr_bench.following.trl import EvaluationCallback
from rlvr_bench.training import advantages
from rlvr_bench.training.rewards import task_reward
from rlvr_bench.zoo.checkpoints import shipped_folder

TASK = "double_countdown"
GROUP = 8
DEFAULTS = [200, 50, 256, 100]  # steps, every, n, problems
FEW = 8  # rollouts of an evaluation while training runs
BASE_FACTOR = 4  # the base gets so many times the rollouts: its error limits what an alarm can show


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


def drawn(out: Path, n: int, problems: int, engine: str = "transformers") -> SampleOptions:
    """Evaluations with n rollouts of each problem, from the policy as it is."""
    return SampleOptions(n=n, limit=problems, temperature=1.0, top_p=1.0, engine=engine, out=out / "runs")


def train(out: Path, steps: int, every: int, problems: int) -> None:
    """Train for so many steps of 128 rollouts; evaluate and save the model every so many steps."""
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
        save_strategy="steps",
        save_steps=every,
        save_only_model=True,
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
        few = drawn(out, FEW, problems, engine="auto")  # the trainer's own model draws
        trainer.add_callback(EvaluationCallback(trainer, TASK, every=every, options=few, name="grpo"))
        trainer.train()


def watch(out: Path, n: int, problems: int) -> None:
    """Follow the checkpoints with an alarm on pass@n against zoo:base, and say what it showed."""
    base, card = evaluate("zoo:base", TASK, drawn(out, BASE_FACTOR * n, problems))
    print(f"zoo:base: pass@1 {card.pass_at(1).value:.1%}, pass@{n} {card.pass_at(n).value:.1%}")
    fired: list[Fired] = []
    following = FollowOptions(once=True, settle_s=0, alarms=read_alarms([f"pass@{n}"]), against=str(base))
    results = follow(
        str(out / "training" / "checkpoint-*"),
        [TASK],
        drawn(out, n, problems),
        following=following,
        on_fired=fired.append,
    )
    for result in results:
        if result.scorecard is not None:
            few, many = (result.scorecard.pass_at(k).value for k in (1, n))
            print(f"step {result.step}: pass@1 {few:.1%}, pass@{n} {many:.1%}")
    print(f"curve and report: {out / 'runs' / 'followed' / TASK}")
    print(f"ALARM: {fired[0].message}" if fired else f"no alarm: no drop of pass@{n} was shown")


def main() -> None:
    """Train, then follow what was saved."""
    out = Path(sys.argv[1])
    given = [int(value) for value in sys.argv[2:]]
    steps, every, n, problems = given + DEFAULTS[len(given) :]
    torch.set_num_threads(1)  # the model is so small that a second thread only costs time
    train(out, steps, every, problems)
    watch(out, n, problems)


if __name__ == "__main__":
    main()
