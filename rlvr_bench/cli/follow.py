"""The command ``follow``: evaluates every new checkpoint of a training run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from rlvr_bench.cli.messages import print_json
from rlvr_bench.cli.options import AsJson, TaskNames, Timeout, Unsafe, Workers, draws, grade_options
from rlvr_bench.cli.terminal import Terminal, say
from rlvr_bench.options import GradeOptions, SampleOptions

if TYPE_CHECKING:
    from rlvr_bench.following import Followed
    from rlvr_bench.following.alarms import Fired

__all__ = ["register"]

Pattern = Annotated[
    str, typer.Argument(metavar="CHECKPOINTS", help="Glob of checkpoint folders, quoted: 'ckpts/global_step_*'.")
]
Every = Annotated[int, typer.Option(help="Only steps that are multiples of it.")]
LastFirst = Annotated[bool, typer.Option("--last-first", help="The newest checkpoint before older ones.")]
Settle = Annotated[float, typer.Option(help="A checkpoint is whole when its files did not change for so many seconds.")]
Poll = Annotated[float, typer.Option(help="Seconds between two looks.")]
Idle = Annotated[float | None, typer.Option(help="End after so many seconds without a new checkpoint. Default: never.")]
AlarmNames = Annotated[
    list[str] | None,
    typer.Option(
        "--alarm",
        help="Watch pass@K, entropy, truncation, errors or lost; =TOLERANCE for another than the usual. Any number of times.",
    ),
]
Against = Annotated[str | None, typer.Option(help="Base of the alarms: a run folder, a scorecard, or a model.")]
OnAlarm = Annotated[str | None, typer.Option(help="Command or webhook that gets an alarm as JSON.")]
StopOnAlarm = Annotated[bool, typer.Option("--stop-on-alarm", help="End with status 1 at the first alarm.")]
Track = Annotated[
    list[str] | None,
    typer.Option(help="Send metrics to tensorboard, wandb, trackio or mlflow; :PROJECT after it. Any number of times."),
]
Once = Annotated[bool, typer.Option("--once", help="End when no whole checkpoint is left.")]


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command()(follow)


@draws
def follow(
    checkpoints: Pattern,
    task: TaskNames,
    options: SampleOptions,
    every: Every = 1,
    last_first: LastFirst = False,
    settle: Settle = 10.0,
    poll: Poll = 30.0,
    idle: Idle = None,
    once: Once = False,
    alarm: AlarmNames = None,
    against: Against = None,
    on_alarm: OnAlarm = None,
    stop_on_alarm: StopOnAlarm = False,
    track: Track = None,
    workers: Workers = None,
    timeout: Timeout = GradeOptions.timeout_s,
    allow_unsafe_code: Unsafe = False,
    as_json: AsJson = False,
) -> None:
    """Evaluate every new checkpoint that a training run writes, and keep its series and report up to date.

    Start it again to go on; start several to share the work.
    """
    from rlvr_bench.cli.progress import Bars
    from rlvr_bench.following import FollowOptions
    from rlvr_bench.following import follow as follow_checkpoints
    from rlvr_bench.following.alarms import read_alarms

    following = FollowOptions(
        every=every,
        last_first=last_first,
        settle_s=settle,
        poll_s=poll,
        idle_s=idle,
        once=once,
        alarms=read_alarms(alarm or ()),
        against=against,
        on_alarm=on_alarm,
        stop_on_alarm=stop_on_alarm,
        trackers=tuple(track or ()),
    )
    alarms: list[Fired] = []
    with Bars() as bars:

        def show(result: Followed) -> None:
            bars.pause()
            if not as_json:
                _show(result)

        def sound(fired: Fired) -> None:
            bars.pause()
            alarms.append(fired)
            say(f"rlvr-bench: ALARM: {fired.message}")

        grading = grade_options(workers, timeout, allow_unsafe_code)
        results = follow_checkpoints(
            checkpoints, task, options, grading, following, progress=bars, on_result=show, on_fired=sound
        )
    if as_json:
        print_json(results)
    if alarms and stop_on_alarm:
        raise typer.Exit(1)
    if any(result.error is not None for result in results):
        raise typer.Exit(2)


def _show(result: Followed) -> None:
    where = f"step {result.step:,} on {result.task}"
    if result.scorecard is None:
        say(f"rlvr-bench: {where} ({result.checkpoint}): {result.error}")
        return
    curve = [estimate for estimate in result.scorecard.estimates if estimate.name == "pass@k"]
    ends = {estimate.k: estimate for estimate in (*curve[:1], *curve[-1:])}
    shown = [
        f"pass@{k} {estimate.value:.1%} [{estimate.low:.1%}, {estimate.high:.1%}]"
        for k, estimate in ends.items()
        if None not in (estimate.value, estimate.low, estimate.high)
    ]
    Terminal().print(f"{where}: {', '.join(shown)}", soft_wrap=True)
