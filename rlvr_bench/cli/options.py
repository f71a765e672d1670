"""The options of the verbs; those of sampling are written once and shared by every verb that draws."""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from rlvr_bench.errors import BadArgument

if TYPE_CHECKING:
    from rlvr_bench.pipeline import SampleOptions

__all__ = [
    "AsJson",
    "Budgets",
    "DataDir",
    "DryRun",
    "Extrapolate",
    "Model",
    "Models",
    "Out",
    "OwnTask",
    "RunPath",
    "TaskName",
    "TaskNames",
    "Timeout",
    "Unsafe",
    "Workers",
    "draws",
    "engine_arguments",
    "read_budgets",
    "read_place",
]


def read_place(text: str | Path) -> Path:
    """A path, or an address of object storage. Raises StorageError where that cannot be reached."""
    if "://" not in str(text):
        return Path(text)
    from rlvr_bench.store.paths import place

    return place(text)


MODEL_HELP = "Folder, hub id (owner/name), zoo:NAME, URL of an OpenAI-compatible server, or fake[:RATE]."
TASK_HELP = "Task name, or path of your own: ./my_task.py."
Model = Annotated[str, typer.Option("--model", "-m", help=MODEL_HELP)]
TaskName = Annotated[str, typer.Option("--task", "-t", help=TASK_HELP)]
OwnTask = Annotated[
    str | None, typer.Option("--task", "-t", help="File of the run's task, where it is not a shipped one.")
]
Models = Annotated[list[str], typer.Option("--model", "-m", help=MODEL_HELP + " Globs and repeats give a series.")]
TaskNames = Annotated[list[str], typer.Option("--task", "-t", help=TASK_HELP + " Any number of times.")]
Budgets = Annotated[str | None, typer.Option("--k", help="Budgets, such as 1,16,256. Default: powers of two, and n.")]
Extrapolate = Annotated[
    int | None, typer.Option(metavar="K", help="Estimate pass@K beyond n by a fitted curve, marked.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print what would be drawn, load and write nothing.")]
N = Annotated[int, typer.Option("-n", help="Rollouts per problem, those on disk included.")]
Engine = Annotated[
    str, typer.Option(help="auto (vllm where installed, else transformers), vllm, transformers, endpoint, fake.")
]
Limit = Annotated[int | None, typer.Option(help="Only the first so many problems.")]
OUT_HELP = "Folder of runs, or an address such as s3://bucket/runs; this one goes to OUT/<model>/<task>."
Out = Annotated[Path, typer.Option(help=OUT_HELP, parser=read_place, metavar="<path>")]
Seed = Annotated[int, typer.Option(help="Seed of the run; every draw batch gets its own, hashed from it.")]
SeedScheme = Annotated[
    int | None, typer.Option(help="2: seeds cover the model (new runs); 1: they do not, as in runs of older versions.")
]
Temperature = Annotated[float | None, typer.Option(help="Default: what the task recommends, else 0.6.")]
TopP = Annotated[float | None, typer.Option(help="Default: what the task recommends, else 0.95.")]
TopK = Annotated[int | None, typer.Option(help="0 for no limit (default).")]
MaxTokens = Annotated[int | None, typer.Option(help="Tokens per response. Default: the task's, cut to the context.")]
PromptName = Annotated[str | None, typer.Option("--prompt", help="Prompt template instead of the task's own.")]
ChatTemplate = Annotated[Literal["auto", "none"], typer.Option(help="auto: the model's own where it has one.")]
TokenStats = Annotated[
    Literal["off", "summary", "full"], typer.Option(help="Entropy and branching per rollout, or per token.")
]
DrawBatch = Annotated[int, typer.Option(help="Rollouts of one problem drawn as one request.")]
StopAfter = Annotated[int | None, typer.Option(help="End a problem after the draw batch of its R-th correct rollout.")]
DataDir = Annotated[Path | None, typer.Option(help="Folder with <task>.jsonl instead of the hub.")]
Replicas = Annotated[
    int | None, typer.Option(help="Engines that draw side by side. Default: 1; with --ray, all that fit.")
]
RayAddress = Annotated[str | None, typer.Option("--ray", help="Draw on this Ray cluster: auto, or HOST:PORT.")]
EngineArg = Annotated[list[str] | None, typer.Option(help="NAME=VALUE for the engine, any number of times.")]
ToolName = Annotated[Literal["python"] | None, typer.Option("--tools", help="Let the model run code: python.")]
ToolCalls = Annotated[int, typer.Option(help="With --tools: blocks of code a response may run.")]
ToolSeconds = Annotated[float, typer.Option(help="With --tools: CPU seconds one block may take.")]
Workers = Annotated[int | None, typer.Option(help="Verifier processes. Default: half the cores.")]
Timeout = Annotated[float, typer.Option(help="CPU seconds one verification may take.")]
Unsafe = Annotated[bool, typer.Option("--allow-unsafe-code", help="Run model-written code without a sandbox.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]
RunPath = Annotated[
    Path, typer.Argument(metavar="RUN", parser=read_place, help="Run folder: runs/<model>/<task>, or its address.")
]


def _sampling(
    n: N = 64,
    engine: Engine = "auto",
    limit: Limit = None,
    out: Out = Path("runs"),
    seed: Seed = 0,
    seed_scheme: SeedScheme = None,
    temperature: Temperature = None,
    top_p: TopP = None,
    top_k: TopK = None,
    max_tokens: MaxTokens = None,
    prompt: PromptName = None,
    chat_template: ChatTemplate = "auto",
    token_stats: TokenStats = "summary",
    draw_batch: DrawBatch = 16,
    stop_after: StopAfter = None,
    data_dir: DataDir = None,
    engine_arg: EngineArg = None,
    tools: ToolName = None,
    tool_calls: ToolCalls = 8,
    tool_seconds: ToolSeconds = 5.0,
    replicas: Replicas = None,
    ray: RayAddress = None,
) -> SampleOptions:
    """The options of drawing, as typer reads them."""
    given = locals()
    from rlvr_bench.pipeline import SampleOptions

    arguments = engine_arguments(given.pop("engine_arg") or [])
    return SampleOptions(**given, engine_args=arguments)


def read_budgets(text: str) -> list[int]:
    """Budgets from the command line. Raises BadArgument."""
    try:
        budgets = [int(part) for part in text.split(",")]
    except ValueError:
        raise BadArgument("--k", text, "must be whole numbers separated by commas, such as 1,16,256") from None
    if min(budgets) < 1:
        raise BadArgument("--k", text, "every budget must be at least 1")
    return sorted(set(budgets))


def draws(verb: Callable[..., None]) -> Callable[..., None]:
    """Give a verb the options of drawing; it gets them as one ``options: SampleOptions``."""
    shared = {name: _bare(parameter) for name, parameter in inspect.signature(_sampling).parameters.items()}
    own = {name: _bare(parameter) for name, parameter in inspect.signature(verb).parameters.items()}
    del own["options"]

    @functools.wraps(verb)
    def wrapped(**given: Any) -> None:
        chosen = {name: given.pop(name) for name in shared}
        verb(options=_sampling(**chosen), **given)

    names = list(own)
    required = [name for name in names if own[name].default is inspect.Parameter.empty]
    ordered = {**{name: own[name] for name in required}, **shared, **own}
    vars(wrapped)["__signature__"] = inspect.Signature(list(ordered.values()))
    wrapped.__annotations__ = {name: parameter.annotation for name, parameter in ordered.items()}
    return wrapped


def _bare(parameter: inspect.Parameter) -> inspect.Parameter:
    """Keyword only, with its annotation resolved: the two functions need not live in one file."""
    annotation = parameter.annotation
    if isinstance(annotation, str):
        annotation = globals()[annotation]
    return parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=annotation)


def engine_arguments(pairs: list[str]) -> dict[str, Any]:
    """NAME=VALUE pairs, values read as JSON where they are JSON. Raises BadArgument."""
    arguments: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise BadArgument("--engine-arg", pair, "must read NAME=VALUE")
        try:
            arguments[name.replace("-", "_")] = json.loads(value)
        except ValueError:
            arguments[name.replace("-", "_")] = value
    return arguments
