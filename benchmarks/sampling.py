r"""Speed and memory of the vLLM sampler beside plain ``LLM.generate``: same engine, prompts, n and parameters.

    python benchmarks/sampling.py --model DIR --data-dir DATA          # DATA/gsm8k.jsonl with a field "question"
    python benchmarks/sampling.py --model rlvr_bench/zoo/checkpoints/base --dtype float32 --eager --max-model-len 128 \
        --max-tokens 32 --temperature 1 --top-p 1 --prompts 40 -n 64

Every round runs all arms in a shuffled order in one engine; ratios are taken within a round and their median printed,
so that a machine that slows down slows every arm. ``plain`` runs twice a round: its own ratio is the noise. The last column
is the CPU time of the driver's process per token, which limits how fast an engine on a GPU can be. ``ours, stops`` is how a
turn with ``--tools`` is drawn: with per-token statistics, and a stop string that ends no response here.
Works on a GPU as on a CPU. ``--eager`` skips compilation, which takes minutes on a CPU the first time.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from rlvr_bench.countdown import held_out, prompt_text
from rlvr_bench.records import DrawRequest, Prompt, SamplingParameters
from rlvr_bench.samplers.protocol import SamplerOptions
from rlvr_bench.samplers.seeds import draw_seed
from rlvr_bench.samplers.vllm import VllmSampler
from rlvr_bench.verifiers.transcript import STOP

BATCH = 16


def read_prompts(data_dir: Path | None, count: int) -> list[Prompt]:
    if data_dir is None:
        return [Prompt(problem_id=item.id, text=prompt_text(item.puzzle)) for item in held_out(count)]
    with (data_dir / "gsm8k.jsonl").open() as lines:
        questions = [json.loads(line)["question"] for line, _ in zip(lines, range(count), strict=False)]
    return [
        Prompt(problem_id=f"gsm8k/{i}", text=f"Question: {q}\nAnswer:", messages=({"role": "user", "content": q},))
        for i, q in enumerate(questions)
    ]


class Arms:
    """The same work done in different ways; each returns the number of tokens it drew."""

    def __init__(self, sampler: VllmSampler, prompts: list[Prompt], sampling: SamplingParameters) -> None:
        self.sampler, self.prompts, self.sampling = sampler, prompts, sampling
        self._seed = 0

    def plain(self, n: int) -> int:
        from vllm import SamplingParams

        s = self.sampling
        params = SamplingParams(n=n, temperature=s.temperature, top_p=s.top_p, top_k=s.top_k, max_tokens=s.max_tokens)
        prompts = [{"prompt_token_ids": self.sampler._encode(prompt)} for prompt in self.prompts]
        outputs = self.sampler.loaded.llm.generate(prompts, params, use_tqdm=False)
        return sum(len(completion.token_ids) for output in outputs for completion in output.outputs)

    def ours(self, n: int, token_stats: str, stop: tuple[str, ...] = ()) -> int:
        # One engine serves all arms: what is kept of a rollout is decided request by request.
        self.sampler._options = msgspec.structs.replace(self.sampler._options, token_stats=token_stats)
        self._seed += 1
        requests = (
            DrawRequest(
                prompt=prompt,
                start=start,
                n=min(BATCH, n - start),
                seed=draw_seed(self._seed, "bench", prompt.problem_id, start),
                stop=stop,
            )
            for prompt in self.prompts
            for start in range(0, n, BATCH)
        )
        return sum(rollout.n_tokens for draw in self.sampler.draw(requests, self.sampling) for rollout in draw.rollouts)


def speed(arm: Callable[[], int]) -> tuple[float, float]:
    """Tokens a second, and microseconds of this process's CPU time per token."""
    started, used = time.perf_counter(), time.process_time()
    tokens = arm()
    return tokens / (time.perf_counter() - started), (time.process_time() - used) / tokens * 1e6


def compare(arms: Arms, n: int, rounds: int) -> None:
    todo: dict[str, Callable[[], int]] = {
        "plain": lambda: arms.plain(n),
        "plain again": lambda: arms.plain(n),
        "ours, off": lambda: arms.ours(n, "off"),
        "ours, summary": lambda: arms.ours(n, "summary"),
        "ours, full": lambda: arms.ours(n, "full"),
        "ours, stops": lambda: arms.ours(n, "full", (STOP,)),
    }
    rates: dict[str, list[float]] = {name: [] for name in todo}
    costs: dict[str, list[float]] = {name: [] for name in todo}
    for round_ in range(-1, rounds):  # the first round warms up
        for name in random.Random(round_).sample(list(todo), len(todo)):
            rate, cost = speed(todo[name])
            if round_ >= 0:
                rates[name].append(rate)
                costs[name].append(cost)
    base = [(a + b) / 2 for a, b in zip(rates["plain"], rates["plain again"], strict=True)]
    print(f"{'arm':15} {'tok/s':>8} {'ratio':>6}  {f'range over {rounds} rounds':22} driver us/token")
    for name, values in rates.items():
        against = rates["plain"] if name == "plain again" else base
        ratios = sorted(v / b for v, b in zip(values, against, strict=True))
        spread, cost = f"{ratios[0]:.2f} to {ratios[-1]:.2f}", statistics.median(costs[name])
        print(f"{name:15} {statistics.median(values):8.0f} {statistics.median(ratios):6.3f}  {spread:22} {cost:15.1f}")


def peak_bytes(work: Callable[[], Any]) -> int:
    """Highest resident size of this process while ``work`` ran (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")
    work()
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--data-dir", type=Path, help="folder with gsm8k.jsonl; without it, countdown puzzles")
    parser.add_argument("--prompts", type=int, default=4)
    parser.add_argument("-n", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--max-model-len", type=int, default=1024)
    parser.add_argument("--temperature", type=float, default=0.6)
    parser.add_argument("--top-p", type=float, default=0.95)
    parser.add_argument("--eager", action="store_true")
    parser.add_argument("--memory", action="store_true", help="also peak memory of the driver at n=16 and n=1024")
    args = parser.parse_args()
    engine_args = {"dtype": args.dtype, "max_model_len": args.max_model_len, "enforce_eager": args.eager}
    sampler = VllmSampler(SamplerOptions(model=args.model, engine_args=engine_args))
    sampling = SamplingParameters(temperature=args.temperature, top_p=args.top_p, max_tokens=args.max_tokens)
    print(
        f"{sampler.info.model} {sampler.info.dtype} on {sampler.info.device}, vLLM {sampler.info.version}, {sampling}"
    )
    arms = Arms(sampler, read_prompts(args.data_dir, args.prompts), sampling)
    compare(arms, args.n, args.rounds)
    if args.memory:
        arms.prompts = arms.prompts[:1]
        for n in (16, 1024):
            for name, work in (("ours", lambda n=n: arms.ours(n, "summary")), ("plain", lambda n=n: arms.plain(n))):
                print(f"peak driver memory, n={n:4}, {name:5}: {peak_bytes(work) / 2**20:7.1f} MiB")
    sampler.close()


if __name__ == "__main__":
    main()
