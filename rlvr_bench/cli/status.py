"""The command ``status``: how far runs are, once or again and again."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from rlvr_bench.cli.messages import print_json
from rlvr_bench.cli.options import AsJson
from rlvr_bench.cli.tables import AsFormat
from rlvr_bench.cli.terminal import Terminal, say
from rlvr_bench.errors import BadArgument

if TYPE_CHECKING:
    from rlvr_bench.pipeline.several import Done
    from rlvr_bench.pipeline.status import RunState

__all__ = ["register"]

_EVERY_S = 10.0
_NUMBER = re.compile(r"[0-9]*\.?[0-9]+")

Runs = Annotated[
    list[str], typer.Argument(metavar="RUN...", help="Run folders, folders of runs, globs, or their addresses.")
]
Watch = Annotated[
    float | None,
    typer.Option(metavar="[SECONDS]", help="Show it again every so many seconds (10), until no run is worked on."),
]


class WatchCommand(TyperCommand):
    """A command whose ``--watch`` needs no value."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        for at, name in enumerate(args):
            if name == "--":
                break
            if name == "--watch" and not _NUMBER.fullmatch(args[at + 1] if at + 1 < len(args) else ""):
                args = [*args[:at], f"--watch={_EVERY_S:g}", *args[at + 1 :]]
                break
        return super().parse_args(ctx, args)


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command(cls=WatchCommand)(status)


def status(runs: Runs, watch: Watch = None, format_: AsFormat = "table", as_json: AsJson = False) -> None:
    """Show how far runs are: drawn, verified, solved, speed of the last minutes, state, time left.

    It reads run folders only, also while they are written.
    """
    from rlvr_bench.cli.show_status import show_states
    from rlvr_bench.pipeline.status import States

    if watch is not None and watch <= 0:
        raise BadArgument("--watch", watch, "must be above 0 seconds")
    states = States()
    while True:
        done = states.read(runs)
        if as_json:
            print_json([_plain(item) for item in done])
        else:
            show_states(
                Terminal(), [item.result for item in done if item.result is not None], format_, watch is not None
            )
        for item in done:
            if item.error is not None:
                say(f"rlvr-bench: {'' if str(item.run) in item.error else f'{item.run}: '}{item.error}")
        if watch is None or not any(item.result is not None and item.result.is_live for item in done):
            break
        time.sleep(watch)
    if any(item.error is not None for item in done):
        raise typer.Exit(2)


def _plain(item: Done[RunState]) -> object:
    return {"run": str(item.run), "error": item.error} if item.result is None else item.result
