"""The command-line options of the verbs. All verbs that draw share the same sampling options."""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from rlvr_bench.errors import BadArgument
from rlvr_bench.options import GradeOptions, SampleOptions
from rlvr_bench.storage import as_path

__all__ = [
    "MODEL_HELP",
    "TASK_HELP",
    "Adapter",
    "Adapters",
    "AsJson",
    "Budgets",
    "CallCaps",
    "CapTokenizer",
    "ChatTemplate",
    "ChatTemplateArg",
    "DataDir",
    "DryRun",
    "Extrapolate",
    "Model",
    "Models",
    "Out",
    "OwnTask",
    "RunPath",
    "RunPaths",
    "System",
    "TaskName",
    "TaskNames",
    "Timeout",
    "TokenCaps",
    "Unsafe",
    "VerifierErrorOption",
    "Workers",
    "draws",
    "engine_arguments",
    "grade_options",
    "read_budgets",
    "read_caps",
    "read_verifier_error",
    "template_arguments",
]


def _number_or_auto(text: str) -> int | Literal["auto"]:
    try:
        return "auto" if text == "auto" else int(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is neither a whole number nor auto") from None


MODEL_HELP = "Folder, hub id (owner/name), zoo:NAME, URL of an OpenAI-compatible server, or fake[:RATE]."
TASK_HELP = "Task name, or path of your own: ./my_task.py."
Model = Annotated[str, typer.Option("--model", "-m", help=MODEL_HELP)]
TaskName = Annotated[str, typer.Option("--task", "-t", help=TASK_HELP)]
OwnTask = Annotated[
    str | None, typer.Option("--task", "-t", help="File of the run's task, where it is not a shipped one.")
]
ADAPTER_HELP = "LoRA adapter of the model: a folder, or a hub id (owner/name@revision)."
Adapter = Annotated[str | None, typer.Option(help=ADAPTER_HELP)]
Adapters = Annotated[
    list[str] | None, typer.Option("--adapter", help=ADAPTER_HELP + " Globs and repeats give a series.")
]
Models = Annotated[list[str], typer.Option("--model", "-m", help=MODEL_HELP + " Globs and repeats give a series.")]
TaskNames = Annotated[list[str], typer.Option("--task", "-t", help=TASK_HELP + " Or group:NAME. Any number of times.")]
Budgets = Annotated[str | None, typer.Option("--k", help="Budgets, such as 1,16,256. Default: powers of two, and n.")]
Extrapolate = Annotated[
    int | None, typer.Option(metavar="K", help="Estimate pass@K beyond n by a fitted curve, marked.")
]
TokenCaps = Annotated[
    list[str] | None,
    typer.Option(
        "--token-cap",
        metavar="TOKENS",
        help="Score responses cut to so many tokens, such as 512,2048. May be repeated. Draws nothing.",
    ),
]
CallCaps = Annotated[
    list[str] | None,
    typer.Option("--call-cap", metavar="CALLS", help="For a run with tools: score responses cut to so many calls."),
]
CapTokenizer = Annotated[
    str | None,
    typer.Option("--tokenizer", help="With --token-cap: the run's checkpoint (folder or hub id), if it was moved."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print what would be drawn, load and write nothing.")]
N = Annotated[int, typer.Option("-n", help="Rollouts per problem, those on disk included.")]
Engine = Annotated[
    str, typer.Option(help="auto (vllm where installed, else transformers), vllm, transformers, endpoint, fake.")
]
Limit = Annotated[int | None, typer.Option(help="Only the first so many problems.")]
OUT_HELP = "Folder of runs, or an address such as s3://bucket/runs; this one goes to OUT/<model>/<task>."
Out = Annotated[Path, typer.Option(help=OUT_HELP, parser=as_path, metavar="<path>")]
Seed = Annotated[int, typer.Option(help="Seed of the run; every draw batch gets its own, hashed from it.")]
SeedScheme = Annotated[
    int | None, typer.Option(help="2: seeds cover the model (new runs); 1: they do not, as in runs of older versions.")
]
Temperature = Annotated[float | None, typer.Option(help="Default: what the task recommends, else 0.6.")]
TopP = Annotated[float | None, typer.Option(help="Default: what the task recommends, else 0.95.")]
TopK = Annotated[int | None, typer.Option(help="0 for no limit (default).")]
MinP = Annotated[
    float | None, typer.Option(help="Cut tokens less likely than this share of the likeliest. Default: 0.")
]
RepetitionPenalty = Annotated[
    float | None, typer.Option(help="Above 1, tokens of prompt and response become less likely. Default: 1.")
]
PresencePenalty = Annotated[float | None, typer.Option(help="Lowers the logits of tokens in the response. Default: 0.")]
Stop = Annotated[
    list[str] | None, typer.Option(help="End a response before this text, which is cut off. Any number of times.")
]
MaxTokens = Annotated[
    int | None,
    typer.Option(
        help="Tokens per response; auto: all that the context leaves. Default: the task's, cut to the context.",
        parser=_number_or_auto,
        metavar="INTEGER|auto",
    ),
]
Recommended = Annotated[
    Literal["task", "generation-config"],
    typer.Option(
        "--sampling", "--prompt-format", help="Parameters not passed: the task's, or those the model recommends."
    ),
]
PromptName = Annotated[
    str | None,
    typer.Option("--prompt", help="Prompt template instead of the task's own: a name, or a file (TOML, or text)."),
]
System = Annotated[str | None, typer.Option(help="System message instead of the prompt's.")]
ChatTemplateArg = Annotated[
    list[str] | None,
    typer.Option(help="NAME=VALUE for the model's chat template (enable_thinking=false), any number of times."),
]
ChatTemplate = Annotated[Literal["auto", "none"], typer.Option(help="auto: the model's own where it has one.")]
TokenStats = Annotated[
    Literal["off", "summary", "full"], typer.Option(help="Entropy and branching per rollout, or per token.")
]
DrawBatch = Annotated[int, typer.Option(help="Rollouts of one problem drawn as one request.")]
StopAfter = Annotated[int | None, typer.Option(help="End a problem after the draw batch of its R-th correct rollout.")]
DataDir = Annotated[Path | None, typer.Option(help="Folder with <task>.jsonl instead of the hub.")]
Replicas = Annotated[
    int | None,
    typer.Option(
        help="Engines that draw side by side; auto: all that the GPUs hold. Default: 1; with --ray, all that fit.",
        parser=_number_or_auto,
        metavar="INTEGER|auto",
    ),
]
RayAddress = Annotated[str | None, typer.Option("--ray", help="Draw on this Ray cluster: auto, or HOST:PORT.")]
EngineArg = Annotated[list[str] | None, typer.Option(help="NAME=VALUE for the engine, any number of times.")]
Deterministic = Annotated[
    bool, typer.Option("--deterministic", help="Texts do not depend on what else is drawn at the same time; slower.")
]
ToolName = Annotated[Literal["python"] | None, typer.Option("--tools", help="Let the model run code: python.")]
ToolCalls = Annotated[int, typer.Option(help="With --tools: blocks of code a response may run.")]
ToolSeconds = Annotated[float, typer.Option(help="With --tools: CPU seconds one block may take.")]
Workers = Annotated[int | None, typer.Option(help="Verifier processes. Default: half the cores.")]
Timeout = Annotated[float, typer.Option(help="CPU seconds one verification may take.")]
Unsafe = Annotated[bool, typer.Option("--allow-unsafe-code", help="Run model-written code without a sandbox.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]
VerifierErrorOption = Annotated[
    str | None,
    typer.Option(
        "--verifier-error",
        metavar="labels|PHI,PSI",
        help="pass@k with the verifier's error: from the labels that `audit` stored, or these rates of false positives "
        "and false negatives.",
    ),
]
RunPath = Annotated[
    Path, typer.Argument(metavar="RUN", parser=as_path, help="Run folder: runs/<model>/<task>, or its address.")
]
RunPaths = Annotated[
    list[Path],
    typer.Argument(metavar="RUN...", parser=as_path, help="Run folders: runs/<model>/<task>, or their addresses."),
]


# The sampling options in the order of the help page; their defaults are those of SampleOptions.
_DRAWING = {
    "n": N,
    "engine": Engine,
    "limit": Limit,
    "out": Out,
    "seed": Seed,
    "seed_scheme": SeedScheme,
    "temperature": Temperature,
    "top_p": TopP,
    "top_k": TopK,
    "min_p": MinP,
    "repetition_penalty": RepetitionPenalty,
    "presence_penalty": PresencePenalty,
    "stop": Stop,
    "max_tokens": MaxTokens,
    "sampling": Recommended,
    "prompt": PromptName,
    "system": System,
    "chat_template": ChatTemplate,
    "chat_template_arg": ChatTemplateArg,
    "token_stats": TokenStats,
    "draw_batch": DrawBatch,
    "stop_after": StopAfter,
    "data_dir": DataDir,
    "engine_arg": EngineArg,
    "deterministic": Deterministic,
    "tools": ToolName,
    "tool_calls": ToolCalls,
    "tool_seconds": ToolSeconds,
    "replicas": Replicas,
    "ray": RayAddress,
}


def read_budgets(text: str) -> list[int]:
    """Read budgets such as ``1,16,256``; returns them sorted, without duplicates. Raises BadArgument."""
    try:
        budgets = [int(part) for part in text.split(",")]
    except ValueError:
        raise BadArgument("--k", text, "must be whole numbers separated by commas, such as 1,16,256") from None
    if min(budgets) < 1:
        raise BadArgument("--k", text, "every budget must be at least 1")
    return sorted(set(budgets))


def read_caps(option: str, texts: list[str] | None) -> tuple[int, ...]:
    """Read caps such as ``512,2048`` of a repeated option. Raises BadArgument."""
    parts = [part for text in texts or () for part in text.split(",")]
    try:
        return tuple(int(part) for part in parts)
    except ValueError:
        raise BadArgument(option, ",".join(parts), "must be whole numbers, such as 512,2048") from None


def draws(verb: Callable[..., None]) -> Callable[..., None]:
    """Add the sampling options to a verb, which receives them as one ``options: SampleOptions``."""
    parameters = dict(inspect.signature(verb, eval_str=True).parameters)
    del parameters["options"]

    @functools.wraps(verb)
    def wrapped(**given: Any) -> None:
        chosen = {name: given.pop(name) for name in _DRAWING}
        arguments = engine_arguments(chosen.pop("engine_arg"))
        chosen["chat_template_args"] = template_arguments(chosen.pop("chat_template_arg"))
        chosen["stop"] = chosen["stop"] or None  # typer gives an empty list where the option is left out
        verb(options=SampleOptions(**chosen, engine_args=arguments), **given)

    required = {
        name: parameter for name, parameter in parameters.items() if parameter.default is inspect.Parameter.empty
    }
    drawing = {name: _keyword(name, annotation) for name, annotation in _DRAWING.items()}
    ordered = {**required, **drawing, **parameters}
    signature = inspect.Signature(
        [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in ordered.values()]
    )
    vars(wrapped)["__signature__"] = signature
    wrapped.__annotations__ = {name: parameter.annotation for name, parameter in ordered.items()}
    return wrapped


def _keyword(name: str, annotation: object) -> inspect.Parameter:
    default = getattr(
        SampleOptions, name, None
    )  # chat_template_arg and engine_arg are called so on the command line only
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def read_verifier_error(text: str | None) -> Literal["labels"] | tuple[float, float] | None:
    """``labels``, or two rates as fractions. Raises BadArgument."""
    if text is None:
        return None
    if text == "labels":
        return "labels"
    try:
        phi, psi = map(float, text.split(","))
    except ValueError:
        raise BadArgument("--verifier-error", text, "must be `labels` or two rates such as 0.01,0.02") from None
    return phi, psi


def grade_options(workers: int | None, timeout: float, unsafe: bool = GradeOptions.allow_unsafe_code) -> GradeOptions:
    """GradeOptions from the command line. Raises BadArgument."""
    chosen = GradeOptions.workers if workers is None else workers
    return GradeOptions(workers=chosen, timeout_s=timeout, allow_unsafe_code=unsafe)


def template_arguments(pairs: list[str] | None) -> dict[str, object]:
    """Read NAME=VALUE pairs for a chat template, as ``engine_arguments``.

    Raises BadArgument, also for True, False and None: to a template they would be texts, which count as true.
    """
    option = "--chat-template-arg"
    arguments = engine_arguments(pairs, option)
    for name, value in arguments.items():
        if value in ("True", "False", "None"):
            right = {"True": "true", "False": "false", "None": "null"}[str(value)]
            raise BadArgument(option, f"{name}={value}", f"values are JSON: write {name}={right}")
    return arguments


def engine_arguments(pairs: list[str] | None, option: str = "--engine-arg") -> dict[str, object]:
    """Read NAME=VALUE pairs; a value that is not JSON is kept as text. Raises BadArgument."""
    arguments: dict[str, object] = {}
    for pair in pairs or ():
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise BadArgument(option, pair, "must read NAME=VALUE")
        try:
            arguments[name.replace("-", "_")] = json.loads(value)
        except ValueError:
            arguments[name.replace("-", "_")] = value
    return arguments
