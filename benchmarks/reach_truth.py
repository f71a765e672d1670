"""Counts many rollouts of a zoo checkpoint on the problems that ``base`` seldom solves: the truth for ``benchmarks.reach``.

    python -m benchmarks.reach_truth base 100000 --out results/base_100k.csv

Rollouts are drawn as a tree: those that begin alike share their computation, and at each prefix a multinomial draw says how
many go on with each token. Their law is that of single rollouts. Columns: problem, rollouts drawn, correct.
"""

from __future__ import annotations

import argparse
import copy
import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import torch

from rlvr_bench.samplers.model_files import render
from rlvr_bench.samplers.protocol import SamplerOptions
from rlvr_bench.samplers.transformers import TransformersSampler
from rlvr_bench.task import LoadedTask, load_task
from rlvr_bench.zoo.checkpoints import checkpoint_path

TASK, HARDEST, ROWS = "double_countdown", 40, 2048
CARD = Path(__file__).parent.parent / "results" / "scorecards" / "base.json"
Ids = tuple[int, ...]


class Branch(NamedTuple):
    """Prefixes of one length, the number of rollouts that begin with each, and the logits (r, V) that follow."""

    prefixes: list[Ids]
    counts: npt.NDArray[np.int64]
    cache: Any
    logits: torch.Tensor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("n", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    with asked.out.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["problem", "n", "c"])
        for name, correct in correct_responses(asked.model, asked.n, asked.seed):
            writer.writerow([name, asked.n, sum(correct.values())])
            file.flush()


def correct_responses(
    model: str, n: int, seed: int, numbers: Sequence[int] = range(HARDEST)
) -> Iterator[tuple[str, Counter[Ids]]]:
    """For these of the hardest problems, how often ``n`` rollouts gave each correct response, by its token ids."""
    sampler = TransformersSampler(SamplerOptions(model=str(checkpoint_path(model)), token_stats="off"))
    task = load_task(TASK)
    verifier = task.open_verifier()
    for number in numbers:
        problem = hardest(task)[number]
        prompt = render(sampler.loaded.tokenizer, task.template.render(problem), "auto", {})
        rng = np.random.default_rng([seed, number])
        drawn = tree(sampler, prompt, n, task.task.sampling.max_tokens, rng)
        texts = sampler.loaded.tokenizer.batch_decode([list(ids) for ids in drawn], skip_special_tokens=True)
        is_correct = {}
        for text in set(texts):
            answer = verifier.extract(text).answer
            is_correct[text] = answer is not None and verifier.verify(answer, problem).status == "correct"
        yield (
            problem.id,
            Counter({ids: count for (ids, count), text in zip(drawn.items(), texts, strict=True) if is_correct[text]}),
        )


def hardest(task: LoadedTask) -> list[Any]:
    """The problems that base solved least often in results/scorecards."""
    solved = {entry["id"]: entry["c"] for entry in msgspec.json.decode(CARD.read_bytes())["problems"]}
    names = sorted(solved, key=lambda name: (solved[name], name))[:HARDEST]
    by_id = {problem.id: problem for problem in task.problems}
    return [by_id[name] for name in names]


@torch.inference_mode()
def tree(
    sampler: TransformersSampler, prompt: Sequence[int], n: int, most: int, rng: np.random.Generator
) -> Counter[Ids]:
    """How often ``n`` rollouts at temperature 1 gave each response of at most ``most`` tokens."""
    model, stop = sampler.loaded.model, set(sampler.loaded.stop.tolist())
    out = model(input_ids=torch.tensor([list(prompt)]), use_cache=True, logits_to_keep=1)
    ended: Counter[Ids] = Counter()
    waiting = [Branch([()], np.array([n]), out.past_key_values, out.logits[:, -1])]
    while waiting:
        branch = waiting.pop()
        chances = branch.logits.double().softmax(-1).numpy()
        drawn = rng.multinomial(branch.counts, chances / chances.sum(axis=1, keepdims=True))
        rows, tokens = np.nonzero(drawn)
        counts = drawn[rows, tokens]
        prefixes = [(*branch.prefixes[row], token) for row, token in zip(rows.tolist(), tokens.tolist(), strict=True)]
        is_ended = np.array([ids[-1] in stop or len(ids) == most for ids in prefixes])
        for at in np.flatnonzero(is_ended):
            ended[prefixes[at]] += int(counts[at])
        going = np.flatnonzero(~is_ended)
        for start in range(0, len(going), ROWS):
            chosen = going[start : start + ROWS]
            cache = branch.cache if len(going) <= ROWS else copy.deepcopy(branch.cache)
            cache.batch_select_indices(torch.from_numpy(rows[chosen]))
            position = torch.full((len(chosen), 1), len(prompt) + len(prefixes[0]) - 1)
            out = model(
                input_ids=torch.from_numpy(tokens[chosen])[:, None],
                position_ids=position,
                past_key_values=cache,
                use_cache=True,
            )
            waiting.append(
                Branch([prefixes[i] for i in chosen], counts[chosen], out.past_key_values, out.logits[:, -1])
            )
    return ended


if __name__ == "__main__":
    main()
