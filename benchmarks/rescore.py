r"""Speed of teacher-forced scoring beside a plain forward pass in transformers at its best batch size.

    python benchmarks/rescore.py runs/zoo-base/double_countdown --model zoo:base
    python benchmarks/rescore.py runs/smollm2/gsm8k --model DIR --rollouts 64 --threads 2

The run must have been drawn with ``--token-stats full``. ``plain`` is what one would write: prompt and response in one row,
padded, ``model(...).logits``, log-softmax, gather; its rollouts are sorted by length, and every batch size is tried in every
round. It gives the log-probability alone; ours gives log-probability, entropy and nucleus size. Arms run in shuffled order
within a round; the ratio is taken within a round, against the plain arm that was fastest in it.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from rlvr_bench.pipeline.models import resolve_model
from rlvr_bench.pipeline.rescoring import prompts_of
from rlvr_bench.samplers.logprobs import Passage
from rlvr_bench.samplers.logprobs_transformers import TransformersScorer
from rlvr_bench.samplers.protocol import SamplerOptions
from rlvr_bench.store import open_run

BATCHES = (8, 32, 128, 512)


def read_passages(folder: Path, scorer: TransformersScorer, count: int) -> list[Passage]:
    run = open_run(folder)
    prompts = prompts_of(run, scorer).ids
    rows = [
        (name, ids)
        for table in run.rollouts.read(["problem_id", "token_ids"])
        for name, ids in zip(table["problem_id"].to_pylist(), table["token_ids"].to_pylist(), strict=True)
    ]
    return [Passage(prompts[name], np.array(ids, dtype=np.int32)) for name, ids in rows[:count]]


@torch.inference_mode()
def plain(scorer: TransformersScorer, passages: list[Passage], batch: int) -> list[torch.Tensor]:
    model, scored = scorer._model, []
    ordered = sorted(passages, key=lambda passage: len(passage.prompt) + len(passage.response))
    for start in range(0, len(ordered), batch):
        part = ordered[start : start + batch]
        rows = [torch.tensor([*passage.prompt, *passage.response.tolist()]) for passage in part]
        ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True).to(model.device)
        mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(row) for row in rows], batch_first=True)
        logits = model(input_ids=ids, attention_mask=mask.to(model.device), use_cache=False).logits[:, :-1]
        logprobs = logits.float().log_softmax(-1).gather(2, ids[:, 1:, None])[..., 0].cpu()
        scored += [
            row[len(passage.prompt) - 1 : len(passage.prompt) + len(passage.response) - 1]
            for row, passage in zip(logprobs, part, strict=True)
        ]
    return scored


def speed(work: Callable[[], object], tokens: int) -> float:
    started = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return tokens / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--model", required=True)
    parser.add_argument("--rollouts", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    options = SamplerOptions(model=resolve_model(args.model), engine_args={"threads": args.threads})
    scorer = TransformersScorer(options)
    passages = read_passages(args.run, scorer, args.rollouts)
    tokens = sum(len(passage.response) for passage in passages)
    torch.set_num_threads(args.threads)
    todo: dict[str, Callable[[], object]] = {"ours": lambda: list(scorer.score(passages))}
    todo |= {f"plain, batch {size}": lambda size=size: plain(scorer, passages, size) for size in BATCHES}
    rates: dict[str, list[float]] = {name: [] for name in todo}
    for round_ in range(-1, args.rounds):  # the first round warms up
        for name in random.Random(round_).sample(list(todo), len(todo)):
            rate = speed(todo[name], tokens)
            if round_ >= 0:
                rates[name].append(rate)
    print(f"{args.model} on {scorer.info.device}: {len(passages):,} rollouts, {tokens:,} response tokens")
    for name, values in rates.items():
        print(f"{name:18} {statistics.median(values):9,.0f} tokens/s")
    best = [max(rates[name][i] for name in todo if name != "ours") for i in range(args.rounds)]
    ratios = sorted(ours / plain_best for ours, plain_best in zip(rates["ours"], best, strict=True))
    print(f"ours / fastest plain: {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})")
    plain_logprobs = {id(p): row for p, row in zip(_ordered(passages), plain(scorer, passages, 32), strict=True)}
    gaps = [np.abs(s.logprob - plain_logprobs[id(passages[i])].numpy()).max() for i, s in scorer.score(passages)]
    print(f"largest difference in a log-probability: {max(gaps):.1e}")


def _ordered(passages: list[Passage]) -> list[Passage]:
    return sorted(passages, key=lambda passage: len(passage.prompt) + len(passage.response))


if __name__ == "__main__":
    main()
