"""The command ``check``: whether a run got worse than its baseline by more than a tolerance."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rlvr_bench.cli.tables import AsFormat
from rlvr_bench.cli.terminal import Terminal, write_json, write_out
from rlvr_bench.errors import BadArgument, StorageError
from rlvr_bench.json_format import format_json
from rlvr_bench.storage import as_path

if TYPE_CHECKING:
    from rlvr_bench.checking import Check, CheckOptions
    from rlvr_bench.checking.rules import Settings

__all__ = ["register"]

CONFIG = Path("pyproject.toml")
Runs = Annotated[
    list[Path],
    typer.Argument(metavar="RUN...", parser=as_path, help="Run folders, scorecards, or folders of these."),
]
Against = Annotated[
    list[Path] | None,
    typer.Option(
        parser=as_path,
        metavar="<path>",
        help="Baselines: scorecards, or folders of these. They are matched by task, then by model.",
    ),
]
MaxDrop = Annotated[
    list[str] | None, typer.Option(help="METRIC=TOLERANCE, such as pass@64=0.03: the metric may fall by that much.")
]
MaxRise = Annotated[
    list[str] | None, typer.Option(help="METRIC=TOLERANCE, such as error_rate=0.01: the metric may rise by that much.")
]
Strict = Annotated[bool, typer.Option("--strict", help="Also exit with status 1 if the data are too few to decide.")]
NewProblems = Annotated[
    bool, typer.Option("--new-problems", help="Test for other problems of the same kind, not for these problems.")
]
OneLook = Annotated[
    bool,
    typer.Option("--one-look", help="The number of rollouts was fixed before and is looked at once: needs about half."),
]
Level = Annotated[float | None, typer.Option(help="One-sided confidence of every outcome. Default: 0.95.")]
MaxErrorRate = Annotated[
    float | None, typer.Option(help="Refuse a scorecard if its verifier failed on more than this share. Default: 0.01.")
]
Allow = Annotated[
    list[str] | None,
    typer.Option(help="Compare even if this field differs (chat_template, problems, ...). May be repeated."),
]
Config = Annotated[
    Path | None, typer.Option(help="File with [tool.rlvr-bench.check]. Default: pyproject.toml, if it exists.")
]
Junit = Annotated[Path | None, typer.Option(help="Write the results as JUnit XML.")]
Json = Annotated[Path | None, typer.Option(help="Write the results as JSON; - for standard output, without the table.")]
GitHub = Annotated[bool, typer.Option("--github", help="Write a job summary and annotations for GitHub Actions.")]
Update = Annotated[bool, typer.Option("--update", help="Make these runs the new baselines, without a test.")]


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command()(check)


def check(
    runs: Runs,
    against: Against = None,
    max_drop: MaxDrop = None,
    max_rise: MaxRise = None,
    new_problems: NewProblems = False,
    one_look: OneLook = False,
    strict: Strict = False,
    level: Level = None,
    max_error_rate: MaxErrorRate = None,
    allow: Allow = None,
    config: Config = None,
    junit: Junit = None,
    format_: AsFormat = "table",
    json: Json = None,
    github: GitHub = False,
    update: Update = False,
) -> None:
    """Test whether runs got worse than their baselines by more than a tolerance. Reads scorecards only.

    Exit status: 0 no regression was shown, 1 a regression (with --strict also: too few data to decide), 2 bad input.
    """
    from rlvr_bench import checking
    from rlvr_bench.checking.rules import split_rule
    from rlvr_bench.cli.show_check import show_accepted, show_check

    settings = _settings(config)
    baselines = against or [Path(path) for path in settings.against]
    if not baselines:
        raise BadArgument("--against", "none", "name a baseline, or set `against` in [tool.rlvr-bench.check]")
    looks = "one" if one_look else None
    options = _options(
        settings, level=level, max_error_rate=max_error_rate, new_problems=new_problems, looks=looks, allow=allow
    )
    if update:
        show_accepted(Terminal(), checking.accept(runs, baselines, options.max_error_rate))
        return
    drops, rises = split_rule("--max-drop", max_drop or []), split_rule("--max-rise", max_rise or [])
    if not drops and not rises:
        drops, rises = settings.max_drop, settings.max_rise
    result = checking.check(runs, baselines, drops, rises, options)
    strict = strict or settings.strict
    if json != Path("-"):
        show_check(Terminal(), result, strict=strict, form=format_)
    _write(result, junit, json, strict=strict)
    if github:
        _write_github(result, strict=strict)
    if result.outcome == "regression" or (strict and result.outcome == "cannot_tell"):
        raise typer.Exit(1)


def _settings(config: Path | None) -> Settings:
    from rlvr_bench.checking.rules import Settings, read_settings

    if config is None and not CONFIG.is_file():
        return Settings()
    return read_settings(config or CONFIG)


def _options(settings: Settings, **given: object) -> CheckOptions:
    """Values from the command line, else from the file, else the defaults."""
    import msgspec

    from rlvr_bench.checking import CheckOptions

    merged = {
        name: getattr(settings, name) if value is None or value is False else value for name, value in given.items()
    }
    known = {name: value for name, value in merged.items() if value is not None}
    return msgspec.convert(known, CheckOptions)


def _write(result: Check, junit: Path | None, json: Path | None, *, strict: bool) -> None:

    from rlvr_bench.checking.outputs import junit as as_junit

    if junit is not None:
        _to_file(junit, as_junit(result, strict=strict))
    if json is not None:
        content = format_json(result)
        if json == Path("-"):
            write_json(content)
        else:
            _to_file(json, content)


def _write_github(result: Check, *, strict: bool) -> None:
    from rlvr_bench.checking.outputs import summary, workflow_commands

    file = os.environ.get("GITHUB_STEP_SUMMARY")
    if not file:
        raise BadArgument("--github", "GITHUB_STEP_SUMMARY is not set", "it works inside GitHub Actions, which sets it")
    write_out("".join(f"{line}\n" for line in workflow_commands(result, strict=strict)))
    _to_file(Path(file), summary(result).encode(), add=True)


def _to_file(file: Path, content: bytes, *, add: bool = False) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("ab" if add else "wb") as out:
            out.write(content)
    except OSError as error:
        raise StorageError(f"{file}: {error.strerror or error}") from error
