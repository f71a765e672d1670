"""The commands of ``rlvr-bench``. Each one calls the public function of the same name.

Heavy modules are imported inside the commands, so that ``--help`` is fast.
"""

from __future__ import annotations

import logging
import signal
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from rlvr_bench.cli import (
    audit,
    check,
    compare,
    follow,
    import_,
    intervene,
    judge,
    leaderboard,
    plan,
    prompts,
    reach,
    report,
    rescore,
    score,
    select,
    series,
    serve_verifier,
    status,
)
from rlvr_bench.cli.messages import MessageHandler, print_json
from rlvr_bench.cli.options import (
    Adapter,
    Adapters,
    AsJson,
    DataDir,
    DryRun,
    Model,
    Models,
    OwnTask,
    RunPaths,
    TaskName,
    TaskNames,
    Timeout,
    Unsafe,
    Workers,
    draws,
    grade_options,
)
from rlvr_bench.cli.tables import AsFormat, Jobs
from rlvr_bench.cli.terminal import Terminal, say
from rlvr_bench.errors import BadArgument, RlvrBenchError, visible
from rlvr_bench.options import GradeOptions, SampleOptions
from rlvr_bench.parallel import check_jobs

if TYPE_CHECKING:
    from rlvr_bench.cli.progress import Bars
    from rlvr_bench.pipeline.batch import Result

__all__ = ["app", "main"]

app = typer.Typer(
    name="rlvr-bench",
    help="Measure what language-model checkpoints can reach at any sampling budget.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
)
tasks_app = typer.Typer(
    help="The problems a checkpoint can be evaluated on.", no_args_is_help=True, rich_markup_mode=None
)
zoo_app = typer.Typer(
    help="Tiny real checkpoints that ship with the package.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(tasks_app, name="tasks")
app.add_typer(zoo_app, name="zoo")


def _show_version(wanted: bool) -> None:
    if wanted:
        from rlvr_bench import __version__

        sys.stdout.write(f"rlvr-bench {__version__}\n")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Measure what language-model checkpoints can reach at any sampling budget."""


@app.command()
@draws
def evaluate(
    model: Models,
    task: TaskNames,
    options: SampleOptions,
    adapter: Adapters = None,
    workers: Workers = None,
    timeout: Timeout = GradeOptions.timeout_s,
    allow_unsafe_code: Unsafe = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Sample, grade and score checkpoints on tasks. Run the same command again to resume or to top up."""
    from rlvr_bench.cli.show import show_forecasts
    from rlvr_bench.pipeline.batch import evaluate_all, forecast_all

    if dry_run:
        forecasts = forecast_all(model, task, options, adapter or ())
        _result(as_json, forecasts, lambda console: show_forecasts(console, forecasts))
        return
    with _bars() as bars:
        report = _nothing if as_json else _reporter(bars)
        grading = grade_options(workers, timeout, allow_unsafe_code)
        results = evaluate_all(model, task, options, grading, bars, report, adapter or ())
    errors = [result.error for result in results if result.error is not None]
    if as_json:
        cards = [result.scorecard or result for result in results]
        _result(True, cards[0] if len(cards) == 1 and not errors else cards, _nothing)
    for result in results:
        if result.error is not None:
            where = "" if len(results) == 1 else f"{result.model} on {result.task}: "
            say(f"rlvr-bench: {where}{result.error}")
    if errors:
        raise typer.Exit(2)


@app.command()
@draws
def sample(
    model: Model, task: TaskName, options: SampleOptions, adapter: Adapter = None, as_json: AsJson = False
) -> None:
    """Draw rollouts up to n per problem, without grading them."""
    from rlvr_bench import pipeline

    with _bars() as bars:
        run = pipeline.sample(model, task, replace(options, adapter=adapter), progress=bars)
    _result(as_json, {"run": str(run)}, lambda console: console.print(f"{run}", highlight=False, soft_wrap=True))


@app.command()
def grade(
    runs: RunPaths,
    task: OwnTask = None,
    data_dir: DataDir = None,
    workers: Workers = None,
    timeout: Timeout = GradeOptions.timeout_s,
    allow_unsafe_code: Unsafe = False,
    audit_: Annotated[
        int, typer.Option("--audit", help="Number of verdicts to check by an independent comparison.")
    ] = 0,
    disagreements: Annotated[
        Path | None, typer.Option(help="CSV file of all verdicts on which ours and the imported ones differ.")
    ] = None,
    jobs: Jobs = 1,
    format_: AsFormat = "table",
    as_json: AsJson = False,
) -> None:
    """Verify runs' rollouts. After a verifier upgrade, verify again and list the verdicts that changed.

    For an imported run, list the verdicts on which we and the other program differ.

    With -j N the verifier processes (--workers) are divided among N runs at a time.
    """
    from rlvr_bench import pipeline
    from rlvr_bench.cli.show import show_audit, show_grading
    from rlvr_bench.cli.show_disagreements import show_disagreements
    from rlvr_bench.cli.show_several import end_of_gradings
    from rlvr_bench.disagreements import write_disagreements

    options = grade_options(workers, timeout, allow_unsafe_code)
    if len(runs) > 1:
        from rlvr_bench.pipeline.several import grade_all

        if disagreements is not None:
            raise BadArgument("--disagreements", str(disagreements), "takes one run at a time")
        with _bars() as bars:
            done = grade_all(runs, options, task=task, data_dir=data_dir, audit=audit_, jobs=jobs, progress=bars)
        end_of_gradings(done, format_, as_json=as_json)
        return
    check_jobs(jobs)
    (run,) = runs
    with _bars() as bars:
        grading, flips = pipeline.grade(run, options, bars, task, data_dir)
    audited = pipeline.audit(run, audit_, options) if audit_ else None
    differing = pipeline.disagreements(run)
    if disagreements is not None:
        if differing is None:
            raise BadArgument(
                "--disagreements", str(disagreements), "needs an imported run with the program's verdicts"
            )
        write_disagreements(disagreements, differing)

    def show(console: Console) -> None:
        show_grading(console, grading, flips, format_)
        show_disagreements(console, differing, format_)
        if audited is not None:
            show_audit(console, audited, format_)

    payload = {"grading": grading, "flips": flips, "audit": audited, "disagreements": differing}
    _result(as_json, payload, show)


@tasks_app.command("list")
def tasks_list(format_: AsFormat = "table", as_json: AsJson = False) -> None:
    """List all shipped tasks and groups of tasks: kind, size, whether the content is pinned, and licence."""
    from rlvr_bench.cli.show_tasks import show_tasks
    from rlvr_bench.task import list_tasks, read_task

    tasks = [read_task(name)[0] for name in list_tasks()]
    payload = [
        {
            "name": task.name,
            "kind": task.kind,
            "problems": task.source.rows,
            "pinned": task.source.sha256 is not None,
            "licence": task.licence or None,
            "summary": task.summary,
        }
        for task in tasks
    ]
    _result(as_json, payload, lambda console: show_tasks(console, tasks, format_))


@tasks_app.command("show")
def tasks_show(
    name: Annotated[str, typer.Argument(help="Task name or path.")], data_dir: DataDir = None, as_json: AsJson = False
) -> None:
    """Show one task: source, prompt, verifier, recommended sampling, and its first problem."""
    from rlvr_bench.cli.show import show_table
    from rlvr_bench.task import describe, load_task

    card = describe(load_task(name, data_dir))
    rows = [[key, str(value)] for key, value in card.items()]
    _result(as_json, card, lambda console: show_table(console, "", ["", ""], rows))


@tasks_app.command("validate")
def tasks_validate(
    name: Annotated[str, typer.Argument(help="Task name or path.")],
    data_dir: DataDir = None,
    workers: Workers = None,
    as_json: AsJson = False,
) -> None:
    """Check a task: its content is as pinned, every gold answer is accepted, every case gets its verdict."""
    from rlvr_bench.cli.show import show_table
    from rlvr_bench.task import load_task, validate

    loaded = load_task(name, data_dir)
    faults = validate(loaded, workers=grade_options(workers, GradeOptions.timeout_s).workers)
    rows = [[item.where, item.message] for item in faults]
    payload = {"task": loaded.task.name, "problems": len(loaded.problems), "wrong": [vars(item) for item in faults]}
    title = f"{loaded.task.name}: {len(loaded.problems)} problems, {len(loaded.task.cases)} cases, "
    title += f"{len(faults)} wrong" if faults else "all right"
    if as_json:
        _result(as_json, payload, _nothing)
    else:
        Terminal().print(title, highlight=False)
        for message, count in Counter(item.message for item in faults).most_common(5):
            if count > 1:
                Terminal().print(f"{count:,} x {visible(message)}", highlight=False, markup=False, soft_wrap=True)
        if faults:
            show_table(Terminal(), "", ["where", "what is wrong"], rows)
    if faults:
        raise typer.Exit(2)


@zoo_app.command("list")
def zoo_list(format_: AsFormat = "table", as_json: AsJson = False) -> None:
    """List the shipped checkpoints with their recipe and main numbers."""
    from rlvr_bench.cli.show import show_table
    from rlvr_bench.zoo.checkpoints import headline, list_checkpoints, list_steps, read_card, shipped_folder

    cards = {name: read_card(shipped_folder(name)) for name in list_checkpoints()}
    rows = [[f"zoo:{name}", headline(name)] for name in cards]
    rows += [[f"zoo:{name}@{step}", f"Step {step} of {name}."] for name in cards for step in list_steps(name)]
    rows += [["zoo:guess", "Random legal steps: the control without skill."]]
    _result(as_json, cards, lambda console: show_table(console, "", ["checkpoint", "what it is"], rows, format_))


@zoo_app.command("train")
def zoo_train(
    name: Annotated[str, typer.Argument(help="Recipe name.")],
    out: Annotated[Path | None, typer.Option(help="Folder of the checkpoint. Default: checkpoints/NAME.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of weights and data.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Train a checkpoint from its recipe on this machine's CPU. Pass its folder to evaluate as --model."""
    from rlvr_bench.samplers import resolve_engine
    from rlvr_bench.zoo.recipes import recipe

    steps = recipe(name).steps
    resolve_engine("transformers")  # its error says what to install if torch is missing
    from rlvr_bench.zoo.train import Progress, train

    with _bars() as bars:

        def show_progress(done: Progress) -> None:
            bars.advance(1)
            bars.note(", ".join(f"{figure} {value:.2f}" for figure, value in done.figures.items()))

        bars.start("train", steps, 0, unit="steps")
        folder = train(name, out or Path("checkpoints") / name, seed, show_progress)
    _result(as_json, {"checkpoint": str(folder)}, lambda console: console.print(f"{folder}", soft_wrap=True))


prompts.register(app)
_verbs = (
    score,
    *(
        audit,
        status,
        compare,
        plan,
        leaderboard,
        report,
        check,
        import_,
        series,
        rescore,
        reach,
        intervene,
        judge,
        select,
    ),
    *(follow, serve_verifier),
)
for _verb in _verbs:
    _verb.register(app)  # after the stages, so that help lists those first


def main(argv: list[str] | None = None) -> None:
    """Entry point. A user error prints one line and exits with status 2; Ctrl-C prints how to resume, status 130."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[MessageHandler()])
    logging.getLogger("rlvr_bench").setLevel(logging.INFO)
    signal.signal(signal.SIGINT, _interrupt)
    try:
        app(args=argv)
    except RlvrBenchError as error:
        say(f"rlvr-bench: {error}")
        sys.exit(2)
    except Interrupted:
        say("rlvr-bench: stopped. What was drawn is kept: the same command goes on from there.")
        sys.exit(130)


class Interrupted(BaseException):
    """Ctrl-C. Not a KeyboardInterrupt, for which typer prints only "Aborted!" and exits with status 1."""


def _interrupt(_: int, __: object) -> None:
    raise Interrupted


def _bars() -> Bars:
    from rlvr_bench.cli.progress import Bars

    return Bars()


def _result(as_json: bool, payload: object, show: Callable[[Console], None]) -> None:
    if as_json:
        print_json(payload)
    else:
        show(Terminal())


def _reporter(bars: Bars) -> Callable[[Result], None]:
    """Prints each scorecard when it is ready; errors are printed together at the end."""
    from rlvr_bench.cli.show import show_scorecard

    def report(result: Result) -> None:
        bars.pause()
        if result.scorecard is not None and result.run is not None:
            show_scorecard(Terminal(), result.scorecard, result.run)

    return report


def _nothing(_: object) -> None:
    """For results that are printed elsewhere."""
