"""The command ``judge``: whether the reasoning of correct rollouts is valid, and pass@k if only valid ones count."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from rlvr_bench.cli.messages import print_json
from rlvr_bench.cli.options import AsJson, RunPath, Timeout, Workers, engine_arguments, grade_options
from rlvr_bench.cli.terminal import Terminal
from rlvr_bench.options import GradeOptions, JudgeOptions, Rule

if TYPE_CHECKING:
    from rlvr_bench.pipeline.judging import Judging
    from rlvr_bench.records import Estimate
    from rlvr_bench.scorecard import Scorecard

__all__ = ["register"]

Judge = Annotated[
    str, typer.Option("--judge", help="URL of an OpenAI-compatible server, or file.py:function(response, problem).")
]
Votes = Annotated[int, typer.Option(help="Votes of the model on each response.")]
RuleName = Annotated[Rule, typer.Option("--rule", help="How votes are combined.")]
Seed = Annotated[int, typer.Option(help="Seed of the votes.")]
EngineArg = Annotated[list[str] | None, typer.Option(help="NAME=VALUE for the server. May be repeated.")]


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command()(judge)


def judge(
    run: RunPath,
    judge: Judge,
    votes: Votes = JudgeOptions.votes,
    rule: RuleName = JudgeOptions.rule,
    seed: Seed = JudgeOptions.seed,
    engine_arg: EngineArg = None,
    workers: Workers = None,
    timeout: Timeout = GradeOptions.timeout_s,
    as_json: AsJson = False,
) -> None:
    """Judge the reasoning of a graded run's correct rollouts, and add CoT-Pass@K to its scorecard."""
    from rlvr_bench import pipeline
    from rlvr_bench.cli.progress import Bars
    from rlvr_bench.pipeline.judging import judge as judge_run

    options = JudgeOptions(judge=judge, votes=votes, rule=rule, seed=seed, engine_args=engine_arguments(engine_arg))
    with Bars() as bars:
        judging = judge_run(run, options, grade_options(workers, timeout), bars)
        scorecard = pipeline.score(run, progress=bars)
    estimates = [estimate for estimate in scorecard.estimates if estimate.name in ("cot_pass@k", "valid_reasoning")]
    if as_json:
        print_json({"judging": judging, "estimates": estimates})
    else:
        _show(Terminal(), judging, scorecard, estimates)


def _show(console: Console, judging: Judging, scorecard: Scorecard, estimates: list[Estimate]) -> None:
    from rlvr_bench.cli.show import show_table

    console.print(
        f"{judging.rollouts:,} correct rollouts judged by {judging.judge} ({judging.rule} of its votes): "
        f"valid {judging.valid:,}, invalid {judging.invalid:,}, no judgement {judging.error:,}",
        highlight=False,
    )
    curve = {estimate.k: estimate for estimate in scorecard.estimates if estimate.name == "pass@k"}
    rows = []
    for estimate in estimates:
        plain = curve.get(estimate.k)
        label = f"cot_pass@{estimate.k}" if estimate.k else "valid among correct"
        known = "" if plain is None or plain.value is None or estimate.k is None else f"{plain.value:.1%}"
        if estimate.value is not None and estimate.low is not None and estimate.high is not None:
            rows.append([label, f"{estimate.value:.1%}", f"{estimate.low:.1%} to {estimate.high:.1%}", known])
    show_table(console, "", ["", "value", "95% interval", "pass@k, any reasoning"], rows)
