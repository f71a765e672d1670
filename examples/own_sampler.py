"""A sampler of one's own: what any inference stack needs to have its rollouts verified and reported like an engine's."""

import random
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from rlvr_bench import (
    Draw,
    DrawRequest,
    EngineInfo,
    Prompt,
    Rollout,
    SampleOptions,
    SamplingParameters,
    evaluate,
)


class MySampler:
    """Answers every puzzle with a number; put a call to your own model in its place."""

    info = EngineInfo(
        engine="mine",
        version="1",
        model="my-model",
        weights="my-model, step 100",
        context_tokens=None,
        chat_template=None,
        token_stats="none",
        dtype="none",
        device="none",
    )

    def prompt_tokens(self, prompt: Prompt) -> int:
        return len(prompt.text.split())

    def draw(self, requests: Iterable[DrawRequest | None], sampling: SamplingParameters) -> Iterator[Draw]:
        for request in requests:
            if request is None:  # nothing is due before another draw is back
                continue
            rng = random.Random(request.seed)
            rollouts = []
            for i in range(request.n):
                text = f"The answer is \\boxed{{{rng.randrange(100)}}}."
                rollout = Rollout(
                    problem_id=request.prompt.problem_id,
                    index=request.start + i,
                    text=text,
                    n_tokens=len(text.split()),
                    finish_reason="stop",
                )
                rollouts.append(rollout)
            yield Draw(request=request, rollouts=tuple(rollouts))

    def close(self) -> None:
        """Free what the sampler holds: called by whoever opened it."""


def main(task: str = "examples/my_task.py", out: str = "runs") -> None:
    sampler = MySampler()
    run, scorecard = evaluate(sampler, task, SampleOptions(n=64, out=Path(out)))
    sampler.close()
    print(f"{len(scorecard.problems)} problems, {run}")


if __name__ == "__main__":
    main(*sys.argv[1:])
