"""The options of the verbs that draw, grade, rescore, judge, intervene and import.

Every default is defined here only.
"""

from __future__ import annotations

import itertools
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from rlvr_bench.errors import BadArgument
from rlvr_bench.records import LARGEST_INDEX, SamplingParameters, Tools

__all__ = [
    "LEVELS",
    "MAP_FIELDS",
    "RULES",
    "SWAPS",
    "CapOptions",
    "GradeOptions",
    "ImportOptions",
    "InterveneOptions",
    "JudgeOptions",
    "ReachOptions",
    "RescoreOptions",
    "Rule",
    "SampleOptions",
    "Swap",
    "check",
    "check_sampling",
    "levels_of",
]

Rule = Literal["any", "all", "majority"]
RULES: tuple[Rule, ...] = ("any", "all", "majority")
Swap = Literal["second", "nucleus", "same"]
_JUDGE_SAMPLING = SamplingParameters(temperature=0.6, top_p=0.95, max_tokens=4096)
SWAPS: tuple[Swap, ...] = ("second", "nucleus", "same")
LEVELS: dict[str, tuple[str, ...]] = {
    "entropy": ("high", "low"),
    "perplexity": ("high", "low"),
    "position": ("early", "middle", "late"),
}
# What a mapping can say about a table of rollouts.
MAP_FIELDS = {
    "problem": "id of the problem, a text or a whole number; without it the question identifies the problem",
    "question": "text of the problem",
    "gold": "gold answer; a list of one is that one, any other list or object is kept as JSON",
    "text": "response of the model; without it only counts are imported",
    "answer": "answer that the other program read from the response; null or empty where there is none",
    "verdict": "whether the response is right",
    "reward": "like verdict, for a reward of any scale: needs --correct",
    "n": "rollouts of the problem, for a table of counts",
    "c": "correct rollouts of the problem",
    "index": "number or name of the rollout within its problem: orders the rollouts, and recognises copies",
    "tokens": "tokens of the response: a number, or a list that is counted",
    "truncated": "whether the response was cut: true or false, or a finish reason such as length or stop",
    "prompt": "what the model was sent: a text or messages, without the response at their end; select uses it",
    "cluster": "group of problems that are not independent: one source, one template",
    "tier": "difficulty of the problem",
}


def check(ok: bool, name: str, value: object, allowed: str) -> None:
    """Raise BadArgument unless ``ok``."""
    if not ok:
        raise BadArgument(name, value, allowed)


# Each sampling parameter: whether a value is allowed, and which values are. A comparison with NaN is False.
_ALLOWED: dict[str, tuple[Callable[[Any], bool], str]] = {
    "temperature": (lambda value: 0 <= value < math.inf, "must be 0 or more"),
    "top_p": (lambda value: 0 < value <= 1, "must be in (0, 1]"),
    "top_k": (lambda value: value >= 0, "must be 0 (no limit) or more"),
    "min_p": (lambda value: 0 <= value <= 1, "must be in [0, 1]"),
    "repetition_penalty": (lambda value: 0 < value < math.inf, "must be above 0 (1: no penalty)"),
    "presence_penalty": (lambda value: -2 <= value <= 2, "must be in [-2, 2]"),
    "stop": (
        lambda value: not isinstance(value, str) and all(map(_is_text, value)),
        "must be texts, none of them empty",
    ),
}


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value)


def _is_json(value: object) -> bool:
    try:
        return bool(json.loads(json.dumps(value, allow_nan=False)) == value)
    except (TypeError, ValueError, RecursionError):
        return False


def check_adapter_name(adapter: object) -> None:
    """Raise BadArgument for an adapter that is neither None nor a text."""
    allowed = "must be a folder, or a hub id (owner/name, owner/name@revision)"
    check(adapter is None or (isinstance(adapter, str) and bool(adapter.strip())), "--adapter", adapter, allowed)


def check_sampling(parameters: Mapping[str, object]) -> None:
    """Raise BadArgument for a sampling parameter with a value that is not allowed; names as in SamplingParameters."""
    for name, (is_allowed, allowed) in _ALLOWED.items():
        if name in parameters:
            check(is_allowed(parameters[name]), f"--{name.replace('_', '-')}", parameters[name], allowed)


@dataclass(frozen=True, kw_only=True)
class SampleOptions:
    """How to draw. A sampling parameter that is None has the task's value, else the usual one (T = 0.6, top-p = 0.95).

    ``SamplingParameters`` says what the parameters mean. With ``sampling`` "generation-config" they have the values that
    the model recommends in its file of that name; those that it does not name then change nothing.
    ``max_tokens`` "auto": as many as the model's context leaves after the longest prompt.

    ``stop_after`` R ends a problem after the draw batch with its R-th correct rollout; pass@k is then estimated with
    the unbiased estimator for that rule. ``replicas`` engines draw on the Ray cluster at ``ray`` (auto or HOST:PORT),
    or on this machine if ``ray`` is None ("auto": as many as its GPUs hold); the rollouts do not depend on which engine
    draws them. ``tools`` lets the model run code in at most ``tool_calls`` blocks, with ``tool_seconds`` of CPU time for
    each block; such a run has a separate folder. ``prompt`` is the name of a template or a file with one; ``system``
    replaces its system message, and ``chat_template_args`` are passed to the model's chat template. ``seed_scheme`` 2 (the
    default of a new run) includes the model in every seed, 1 does not; a run keeps the scheme that it began with.
    ``adapter``: the folder or hub id (owner/name, owner/name@revision) of a LoRA adapter of the model. The checkpoint is then
    the model with the adapter, and has the adapter's name. ``adapter_rank``: a rank that the engine has room for, where it
    will get other adapters later.
    ``deterministic``: the texts do not depend on what else the engine draws at the same time, nor on kills.
    """

    n: int = 64
    engine: str = "auto"
    out: str | Path = Path("runs")
    limit: int | None = None
    seed: int = 0
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    presence_penalty: float | None = None
    stop: Sequence[str] | None = None
    max_tokens: int | Literal["auto"] | None = None
    sampling: Literal["task", "generation-config"] = "task"
    prompt: str | None = None
    system: str | None = None
    chat_template: Literal["auto", "none"] = "auto"
    chat_template_args: Mapping[str, Any] = field(default_factory=dict)
    token_stats: Literal["off", "summary", "full"] = "summary"
    draw_batch: int = 16
    stop_after: int | None = None
    data_dir: Path | None = None
    engine_args: Mapping[str, Any] = field(default_factory=dict)
    tools: Literal["python"] | None = None
    tool_calls: int = Tools().calls
    tool_seconds: float = Tools().seconds
    replicas: int | Literal["auto"] | None = None
    ray: str | None = None
    seed_scheme: Literal[1, 2] | None = None
    adapter: str | None = None
    adapter_rank: int = 0
    deterministic: bool = False

    def __post_init__(self) -> None:
        """Raises BadArgument naming the option."""
        check_adapter_name(self.adapter)
        check(1 <= self.n <= LARGEST_INDEX, "-n", self.n, f"must be at least 1 and at most {LARGEST_INDEX:,}")
        check(self.limit is None or self.limit >= 1, "--limit", self.limit, "must be at least 1")
        check_sampling(self.asked())
        known = ("task", "generation-config")
        check(self.sampling in known, "--sampling", self.sampling, f"one of {', '.join(known)}")
        check(self.system is None or bool(self.system), "--system", self.system, "must not be empty")
        for name in self.chat_template_args:
            check(name.isidentifier(), "--chat-template-arg", name, "must be a name that a template can use")
        arguments = dict(self.chat_template_args)
        check(_is_json(arguments), "--chat-template-arg", arguments, "values must be such as JSON has")
        is_number = isinstance(self.max_tokens, int) and self.max_tokens >= 1
        allowed = "must be at least 1, or auto"
        check(is_number or self.max_tokens in (None, "auto"), "--max-tokens", self.max_tokens, allowed)
        check(self.draw_batch >= 1, "--draw-batch", self.draw_batch, "must be at least 1")
        check(self.stop_after is None or self.stop_after >= 1, "--stop-after", self.stop_after, "must be at least 1")
        check(
            self.stop_after is None or self.n % self.draw_batch == 0,
            "-n",
            self.n,
            f"with --stop-after it must be a multiple of the draw batch ({self.draw_batch})",
        )
        check(self.tools in (None, "python"), "--tools", self.tools, "must be python")
        check(self.tool_calls >= 1, "--tool-calls", self.tool_calls, "must be at least 1")
        check(self.tool_seconds > 0, "--tool-seconds", self.tool_seconds, "must be above 0")
        check(self.seed_scheme in (None, 1, 2), "--seed-scheme", self.seed_scheme, "must be 1 or 2")
        is_number = isinstance(self.replicas, int) and self.replicas >= 1
        allowed = "must be at least 1, or auto"
        check(is_number or self.replicas in (None, "auto"), "--replicas", self.replicas, allowed)

    def checkpoint(self, model: str) -> str:
        """The name of the checkpoint: that of the adapter if there is one, else of the model."""
        return model if self.adapter is None else self.adapter

    @property
    def is_scaled(self) -> bool:
        """Whether more than one engine may draw, which needs Ray."""
        return self.ray is not None or self.replicas not in (None, 1)

    @property
    def tool_limits(self) -> Tools | None:
        """The tool as the manifest records it; None without a tool."""
        if self.tools is None:
            return None
        return Tools(language=self.tools, calls=self.tool_calls, seconds=self.tool_seconds)

    def run_name(self, task: str) -> str:
        """The task's name, with the tool's name added if there is one, so that the two runs have different folders."""
        return task if self.tools is None else f"{task}@{self.tools}"

    def asked(self) -> dict[str, object]:
        """The sampling parameters the user passed, without a max_tokens of "auto", which only the engine knows."""
        names = SamplingParameters.__struct_fields__
        asked = {name: value for name in names if (value := getattr(self, name)) not in (None, "auto")}
        return asked | ({"stop": tuple(self.stop)} if self.stop is not None and not isinstance(self.stop, str) else {})


@dataclass(frozen=True, kw_only=True)
class GradeOptions:
    """How to grade: the number of verifier processes, the CPU seconds allowed for one decision, and whether code
    written by the model may run without a sandbox if there is none (recorded in ``grading.json``).
    """

    workers: int = max(1, (os.cpu_count() or 2) // 2)
    timeout_s: float = 5.0
    allow_unsafe_code: bool = False

    def __post_init__(self) -> None:
        """Raises BadArgument naming the option."""
        check(self.workers >= 1, "--workers", self.workers, "must be at least 1")
        check(self.timeout_s > 0, "--timeout", self.timeout_s, "must be above 0 seconds")


@dataclass(frozen=True, kw_only=True)
class CapOptions:
    """At which smaller budgets to score a run: ``token_caps`` per response, or ``call_caps`` of its tool.

    ``tokenizer``: folder or hub id of the checkpoint that drew the run, if it was moved. ``task``: the file of a task that
    is not shipped. ``data_dir``: the folder of the task's data.
    """

    token_caps: Sequence[int] = ()
    call_caps: Sequence[int] = ()
    tokenizer: str | None = None
    task: str | None = None
    data_dir: Path | None = None

    def __post_init__(self) -> None:
        """Raises BadArgument naming the option."""
        for name, caps in (("--token-cap", self.token_caps), ("--call-cap", self.call_caps)):
            for cap in caps:
                check(isinstance(cap, int) and cap >= 1, name, cap, "must be at least 1")
        both = f"{self.token_caps} and {self.call_caps}"
        check(bool(self.token_caps) != bool(self.call_caps), "--token-cap", both, "name token caps or call caps")


@dataclass(frozen=True, kw_only=True)
class RescoreOptions:
    """How to rescore. ``n``: use only the first n rollouts of each problem. ``exact_kl``: also load the checkpoint that
    drew the run (transformers only). ``threshold``: the change of a token's probability from which the token counts as
    moved. ``adapter``: as in ``SampleOptions``.
    """

    engine: str = "auto"
    n: int | None = None
    exact_kl: bool = False
    threshold: float = 0.1
    engine_args: Mapping[str, Any] = field(default_factory=dict)
    adapter: str | None = None

    def __post_init__(self) -> None:
        """Raises BadArgument naming the option."""
        check_adapter_name(self.adapter)
        check(self.n is None or self.n >= 1, "-n", self.n, "must be at least 1")
        check(0 < self.threshold < 1, "--threshold", self.threshold, "a change of probability, must be in (0, 1)")


@dataclass(frozen=True, kw_only=True)
class ReachOptions:
    """How to estimate solve rates from several runs. ``ks``: budgets. ``own``: whether the target's rollouts count too.

    ``engine`` and ``engine_args`` are those that score responses.
    """

    engine: str = "auto"
    ks: tuple[int, ...] = (1, 10, 100, 1_000, 10_000, 100_000)
    own: bool = True
    engine_args: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raises BadArgument naming the option."""
        check(len(self.ks) > 0 and min(self.ks) >= 1, "--k", self.ks, "budgets of at least 1")


@dataclass(frozen=True, kw_only=True)
class JudgeOptions:
    """Who judges and how: ``judge`` is the URL of an OpenAI-compatible server, which votes ``votes`` times, or
    ``file.py:function`` (or ``package.module:function``), called once as ``function(response, problem) -> bool``.

    ``rule`` combines votes; changing it needs no new votes.
    """

    judge: str
    votes: int = 3
    rule: Rule = "majority"
    seed: int = 0
    sampling: SamplingParameters = _JUDGE_SAMPLING
    engine_args: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raises BadArgument naming the option."""
        check(self.votes >= 1, "--votes", self.votes, "must be at least 1")
        check(self.rule in RULES, "--rule", self.rule, f"one of {', '.join(RULES)}")
        check(
            self.sampling.temperature > 0 or self.votes == 1, "--votes", self.votes, "a greedy judge always votes alike"
        )


def levels_of(strata: Sequence[str]) -> list[dict[str, str]]:
    """All combinations of the levels of these factors.

    Raises BadArgument for none, an unknown one, or one named twice.
    """
    if not strata or len(set(strata)) < len(strata) or any(name not in LEVELS for name in strata):
        raise BadArgument("--strata", ",".join(strata), f"one or more of {', '.join(LEVELS)}, each once")
    combined = itertools.product(*(LEVELS[name] for name in strata))
    return [dict(zip(strata, levels, strict=True)) for levels in combined]


@dataclass(frozen=True, kw_only=True)
class InterveneOptions:
    """What to swap and how often to continue: ``sites`` tokens of each stratum, from the first ``rollouts`` responses
    of each problem. Every response is continued ``repeats`` times after the kept token, and as often after the swapped
    one.

    ``model``: the path of the run's checkpoint, if it was moved; ``adapter``: that of its adapter, if it has one.
    ``model`` None and ``engine`` ``auto``: those of the run. ``task``: the file of a task that is not shipped.
    ``data_dir``: the folder of the task's data.
    """

    strata: tuple[str, ...] = tuple(LEVELS)
    swap: Swap = "second"
    sites: int = 50
    repeats: int = 8
    rollouts: int = 8
    seed: int = 0
    name: str | None = None
    model: str | None = None
    task: str | None = None
    data_dir: Path | None = None
    engine: str = "auto"
    engine_args: Mapping[str, Any] = field(default_factory=dict)
    adapter: str | None = None

    def __post_init__(self) -> None:
        """Raises BadArgument naming the option."""
        check_adapter_name(self.adapter)
        check(self.adapter is None or self.model is not None, "--adapter", self.adapter, "needs its base: --model")
        levels_of(self.strata)
        check(self.swap in SWAPS, "--swap", self.swap, f"one of {', '.join(SWAPS)}")
        for name in ("sites", "repeats", "rollouts"):
            check(getattr(self, name) >= 1, f"--{name}", getattr(self, name), "must be at least 1")
        plain = self.name is None or (Path(self.name).name == self.name and not self.name.startswith("."))
        check(plain, "--name", self.name, "must be a plain folder name")

    @property
    def folder(self) -> str:
        """Name of the folder in ``interventions``."""
        return self.name or f"{self.swap}-{'-'.join(self.strata)}"


@dataclass(frozen=True, kw_only=True)
class ImportOptions:
    """How to import. ``model`` and ``task``: names, needed if the files do not contain them.

    ``format`` and ``verdict``: needed if the content allows several formats or has several verdicts.

    ``regrade``: grade the responses with the verifier of ``task``; the program's verdicts are kept beside ours.
    ``data_dir``: the folder of the task's data, to match the problems of the files to those of ``task``.

    ``map``: which field of a table is what, as ``field=path`` pairs, a dict of them, or a TOML file; several are joined.
    ``where``: ``path=value`` conditions on the rollouts to keep. ``correct``: which verdicts or rewards are correct, such as
    ``>=0.9``. ``no_answer``: answers that mean that there is none. ``save_map``: a TOML file to write the mapping to.
    """

    model: str | None = None
    task: str | None = None
    format: str | None = None
    verdict: str | None = None
    regrade: bool = False
    map: str | Path | Mapping[str, str] | Sequence[str | Path] | None = None
    where: Sequence[str] = ()
    correct: str | None = None
    no_answer: Sequence[str] = ()
    save_map: str | Path | None = None
    data_dir: Path | None = None
    out: str | Path = Path("runs")
