"""Drawing n rollouts per problem with rlvr-bench and with lm-evaluation-harness: same vLLM, checkpoint and prompts.

    python benchmarks/peers.py --peer-python PEERS/bin/python          # -n 64 --problems 10 --rounds 2

``--peer-python`` is a Python that imports the same vLLM, and the peers: best a venv of their own, so that what they pin
does not touch yours (a ``.pth`` line there may lend it the vLLM of this one). A peer that cannot be imported, or that
refuses this vLLM, is left out, and its reason is printed.

Every arm is the tool's own command in a fresh process, in float32, eager, at temperature 1 and top-p 1; the order is
shuffled in every round. Hooks in vLLM's ``LLMEngine``, the same for all, take the times:

    start      process start to the first request: imports, loading, the engine's start, our start-up test, a warm-up
    sampling   first request to last finished rollout: tokens/s are those the engine returned in this time
    rest       to the end of the command: scoring, intervals, files

By default rlvr-bench keeps token statistics, and verifies while it samples; peers keep none, and score afterwards: "token
stats off" is the arm that does the same work as theirs in the engine.

Rollouts and distinct ones are counted in the files that the tool wrote; distinct ones within each problem, so that
tools which draw the same number from the same law should agree up to chance. ``prompts`` says whether the token ids
that reached the engine were those of the first arm.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import importlib.metadata
import json
import os
import random
import runpy
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

MAX_TOKENS = 32
TASK = "double_countdown"
ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_LOGGING_STREAM": "ext://sys.stderr",
    "VLLM_NO_USAGE_STATS": "1",
}
# What each peer needs to run at all; run in its Python, with the name of the distribution settled (``name_vllm``).
PROBES = {
    "lm_eval": "import lm_eval.models.vllm_causallms",
    "lighteval": """
from importlib.metadata import requires, version
from lighteval.utils.imports import is_package_available
wanted = next(line for line in requires("lighteval") if line.startswith("vllm")).split(";")[0]
if not is_package_available("vllm"):
    raise SystemExit(f"lighteval {version('lighteval')} asks for {wanted} and takes no other: here is {version('vllm')}")
raise SystemExit("it accepts this vLLM, but this script has no arm for it")
""",
}
LM_EVAL_TASK = """
task: {task}
dataset_path: json
dataset_kwargs:
  data_files:
    test: {prompts}
test_split: test
output_type: generate_until
doc_to_text: "{{{{prompt}}}}"
doc_to_target: "{{{{answer}}}}"
repeats: {n}
generation_kwargs:
  until: []
  do_sample: true
  temperature: 1.0
  top_p: 1.0
  max_gen_toks: {max_tokens}
metric_list:
  - metric: exact_match
"""


class Clock:
    """In the process of a tool: when the engine was first asked and last answered, and what it returned."""

    def __init__(self) -> None:
        self.settings = ""
        self.clear()

    def clear(self) -> None:
        self.first = self.last = 0.0
        self.requests = self.tokens = self.rollouts = 0
        self.prompts: set[tuple[int, ...]] = set()

    def asked(self, prompt: Any) -> None:
        self.first = self.first or time.monotonic()
        self.requests += 1
        ids = prompt["prompt_token_ids"] if isinstance(prompt, dict) else prompt.prompt_token_ids
        self.prompts.add(tuple(ids))

    def answered(self, outputs: list[Any]) -> None:
        done = [completion for output in outputs if output.finished for completion in output.outputs]
        if done:
            self.last = time.monotonic()
        self.rollouts += len(done)
        self.tokens += sum(len(completion.token_ids) for completion in done)

    def write(self, file: Path) -> None:
        digest = hashlib.sha256(json.dumps(sorted(self.prompts)).encode()).hexdigest()
        fields = {**vars(self), "prompts": digest, "n_prompts": len(self.prompts)}
        file.write_text(json.dumps(fields))


def name_vllm() -> None:
    """A build that is called vllm-cpu answers to "vllm" too, as "0.32.0+cpu": the name that peers ask for."""
    version_of = importlib.metadata.version

    def version(name: str) -> str:
        try:
            return version_of(name)
        except importlib.metadata.PackageNotFoundError:
            if name != "vllm":
                raise
            return version_of("vllm-cpu") + "+cpu"

    importlib.metadata.version = version


def watch_engine(clock: Clock) -> None:
    from vllm.v1.engine.llm_engine import LLMEngine

    add_request, step = LLMEngine.add_request, LLMEngine.step

    def asked(engine: Any, request_id: str, prompt: Any, *args: Any, **kwargs: Any) -> Any:
        clock.asked(prompt)
        return add_request(engine, request_id, prompt, *args, **kwargs)

    def answered(engine: Any) -> Any:
        outputs = step(engine)
        clock.answered(outputs)
        return outputs

    LLMEngine.add_request, LLMEngine.step = asked, answered


def watch_start(clock: Clock, tool: str) -> None:
    """What is drawn before a tool's own requests belongs to the start: a warm-up in all, a start-up test in ours."""
    from vllm import LLM, SamplingParams

    start = LLM.__init__

    @functools.wraps(start)
    def started(llm: Any, *args: Any, **kwargs: Any) -> None:
        start(llm, *args, **kwargs)
        clock.settings = settings(llm)
        llm.generate(
            [{"prompt_token_ids": [1, 2, 3]}], SamplingParams(n=64, max_tokens=8, ignore_eos=True), use_tqdm=False
        )
        clock.clear()

    LLM.__init__ = started
    if tool == "rlvr_bench":
        from rlvr_bench.samplers import vllm_check

        check = vllm_check.check_hook

        def checked(llm: Any) -> None:
            check(llm)
            clock.clear()

        vllm_check.check_hook = checked


def settings(llm: Any) -> str:
    """What the tools leave to vLLM, or choose for themselves."""
    config = llm.llm_engine.vllm_config
    cache, scheduler = config.cache_config, config.scheduler_config
    return (
        f"prefix caching {cache.enable_prefix_caching}, chunked prefill {scheduler.enable_chunked_prefill}, "
        f"{scheduler.max_num_seqs} sequences, {scheduler.max_num_batched_tokens} tokens a step, "
        f"{str(config.model_config.dtype).removeprefix('torch.')}, eager {config.model_config.enforce_eager}"
    )


def run_tool(report: Path, tool: str, arguments: list[str]) -> None:
    """The tool's own command line, in this process, under the clock."""
    clock = Clock()
    name_vllm()
    watch_engine(clock)
    watch_start(clock, tool)
    sys.argv = [tool, *arguments]
    try:
        runpy.run_module(tool, run_name="__main__", alter_sys=True)
    finally:
        clock.write(report)


@dataclass(frozen=True)
class Work:
    """What every arm is asked to do."""

    model: Path
    n: int
    problems: int
    seed: int = 0

    def prompts(self) -> list[dict[str, str]]:
        from rlvr_bench.countdown import held_out, prompt_text, response_text

        items = held_out(300)[: self.problems]
        return [{"prompt": prompt_text(item.puzzle), "answer": response_text(item.solution)} for item in items]


@dataclass(frozen=True)
class Arm:
    """A tool: its arguments for some work in a folder, and the texts that it left there, a list per problem."""

    name: str
    python: str
    tool: str
    arguments: Callable[[Work, Path], list[str]]
    texts: Callable[[Path], Iterator[list[str]]]


def our_arguments(token_stats: str) -> Callable[[Work, Path], list[str]]:
    def arguments(work: Work, folder: Path) -> list[str]:
        options = {
            "--model": work.model,
            "--task": TASK,
            "-n": work.n,
            "--limit": work.problems,
            "--engine": "vllm",
            "--temperature": 1,
            "--top-p": 1,
            "--max-tokens": MAX_TOKENS,
            "--token-stats": token_stats,
            "--seed": work.seed,
            "--out": folder / "runs",
        }
        engine = ["--engine-arg", "dtype=float32", "--engine-arg", "enforce_eager=true"]
        return ["evaluate", *(str(part) for option in options.items() for part in option), *engine]

    return arguments


def our_texts(folder: Path) -> Iterator[list[str]]:
    from rlvr_bench.store.run import open_run

    (run,) = (folder / "runs").glob(f"*/{TASK}")
    by_problem: dict[str, list[str]] = {}
    for table in open_run(run).rollouts.read(["problem_id", "text"]):
        for row in table.to_pylist():
            by_problem.setdefault(row["problem_id"], []).append(row["text"])
    yield from by_problem.values()


def lm_eval_arguments(work: Work, folder: Path) -> list[str]:
    prompts, task = folder / "prompts.json", f"{TASK}_n"
    prompts.write_text(json.dumps(work.prompts()))
    tasks = folder / "tasks"
    tasks.mkdir()
    text = LM_EVAL_TASK.format(task=task, prompts=prompts, n=work.n, max_tokens=MAX_TOKENS)
    (tasks / f"{task}.yaml").write_text(text)
    options = {
        "--model": "vllm",
        "--model_args": f"pretrained={work.model},dtype=float32,enforce_eager=True,seed={work.seed}",
        "--tasks": task,
        "--include_path": tasks,
        "--batch_size": "auto",
        "--output_path": folder / "results",
    }
    return ["run", *(str(part) for option in options.items() for part in option), "--log_samples"]


def lm_eval_texts(folder: Path) -> Iterator[list[str]]:
    (file,) = (folder / "results").rglob("samples_*.jsonl")
    for line in file.read_text().splitlines():
        yield [text for texts in json.loads(line)["resps"] for text in ([texts] if isinstance(texts, str) else texts)]


def missing(python: str, peer: str) -> str:
    """Why a peer does not run here, in one line; empty where it does."""
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\nimport peers\npeers.name_vllm()\n"
    probe = subprocess.run(
        [python, "-c", code + PROBES[peer]], capture_output=True, text=True, env={**os.environ, **ENVIRONMENT}
    )
    if probe.returncode == 0:
        return ""
    return probe.stderr.strip().splitlines()[-1] if probe.stderr.strip() else f"status {probe.returncode}"


def measure(arm: Arm, work: Work) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="peers-") as name:
        folder = Path(name)
        report = folder / "clock.json"
        command = [arm.python, __file__, "--run", str(report), arm.tool, *arm.arguments(work, folder)]
        environment = {**os.environ, **ENVIRONMENT, "HF_DATASETS_CACHE": str(folder / "cache")}
        started = time.monotonic()
        process = subprocess.run(command, capture_output=True, text=True, env=environment)
        ended = time.monotonic()
        if process.returncode != 0:
            raise SystemExit(f"{arm.name} ended with status {process.returncode}:\n{process.stderr[-3000:]}")
        clock = json.loads(report.read_text())
        texts = list(arm.texts(folder))
    return {
        **clock,
        "start": clock["first"] - started,
        "sampling": clock["last"] - clock["first"],
        "rest": ended - clock["last"],
        "rate": clock["tokens"] / (clock["last"] - clock["first"]),
        "returned": sum(map(len, texts)),
        "distinct": sum(len(set(problem)) for problem in texts),
    }


def show(results: dict[str, list[dict[str, Any]]], left_out: dict[str, str], title: str) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title)
    columns = ("tokens/s", "rounds", "start s", "sampling s", "rest s", "requests", "rollouts", "distinct", "prompts")
    for column in ("arm", *columns):
        table.add_column(column, justify="left" if column == "arm" else "right")
    prompts = next(iter(results.values()))[0]["prompts"]
    for name, rounds in results.items():
        seconds = [f"{statistics.median(r[key] for r in rounds):.1f}" for key in ("start", "sampling", "rest")]
        counts = ["/".join(dict.fromkeys(str(r[key]) for r in rounds)) for key in ("requests", "returned", "distinct")]
        same = "same" if all(r["prompts"] == prompts for r in rounds) else "other"
        rates = [r["rate"] for r in rounds]
        all_rates = " ".join(f"{rate:,.0f}" for rate in rates)
        table.add_row(name, f"{statistics.median(rates):,.0f}", all_rates, *seconds, *counts, same)
    console = Console(width=128)
    console.print(table)
    for name, rounds in results.items():
        console.print(f"{name}: {rounds[0]['settings']}", markup=False, highlight=False, soft_wrap=True)
    for peer, reason in left_out.items():
        console.print(f"{peer}: left out, {reason}", markup=False, highlight=False, soft_wrap=True)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", help="a Python that imports the same vLLM, lm_eval and lighteval")
    parser.add_argument("--model", type=Path, help="default: zoo:base")
    parser.add_argument("-n", type=int, default=64)
    parser.add_argument("--problems", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=2)
    return parser.parse_args()


def main() -> None:
    import vllm

    import rlvr_bench

    args = parse()
    zoo = Path(rlvr_bench.__file__).parent / "zoo" / "checkpoints" / "base"
    work = Work(args.model or zoo, args.n, args.problems)
    arms = [
        Arm("rlvr-bench", sys.executable, "rlvr_bench", our_arguments("summary"), our_texts),
        Arm("same, token stats off", sys.executable, "rlvr_bench", our_arguments("off"), our_texts),
    ]
    left_out = {
        peer: missing(args.peer_python, peer) if args.peer_python else "no --peer-python was given" for peer in PROBES
    }
    if not left_out["lm_eval"]:
        arms.append(Arm("lm_eval, vllm backend", args.peer_python, "lm_eval", lm_eval_arguments, lm_eval_texts))
    results: dict[str, list[dict[str, Any]]] = {arm.name: [] for arm in arms}
    for round_ in range(args.rounds):
        for arm in random.Random(round_).sample(arms, len(arms)):
            results[arm.name].append(measure(arm, replace(work, seed=round_)))
            print(arm.name, json.dumps(results[arm.name][-1]), file=sys.stderr, flush=True)
    title = f"{args.problems} problems, n = {args.n}, vLLM {vllm.__version__}, {os.cpu_count()} CPU cores, medians"
    show(results, {peer: reason for peer, reason in left_out.items() if reason}, title)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--run"]:
        run_tool(Path(sys.argv[2]), sys.argv[3], sys.argv[4:])
    else:
        main()
