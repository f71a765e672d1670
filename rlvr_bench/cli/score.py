"""The command ``score``: scorecards of graded runs, also at smaller budgets per response."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import typer

from rlvr_bench.cli.messages import print_json
from rlvr_bench.cli.options import (
    AsJson,
    Budgets,
    CallCaps,
    CapTokenizer,
    DataDir,
    Extrapolate,
    OwnTask,
    RunPaths,
    Timeout,
    TokenCaps,
    Unsafe,
    VerifierErrorOption,
    Workers,
    grade_options,
    read_budgets,
    read_caps,
    read_verifier_error,
)
from rlvr_bench.cli.tables import AsFormat, Jobs
from rlvr_bench.cli.terminal import Terminal
from rlvr_bench.errors import BadArgument
from rlvr_bench.options import CapOptions, GradeOptions
from rlvr_bench.parallel import check_jobs

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command()(score)


def score(
    runs: RunPaths,
    k: Budgets = None,
    extrapolate: Extrapolate = None,
    verifier_error: VerifierErrorOption = None,
    token_cap: TokenCaps = None,
    call_cap: CallCaps = None,
    tokenizer: CapTokenizer = None,
    task: OwnTask = None,
    data_dir: DataDir = None,
    workers: Workers = None,
    timeout: Timeout = GradeOptions.timeout_s,
    allow_unsafe_code: Unsafe = False,
    jobs: Jobs = 1,
    format_: AsFormat = "table",
    as_json: AsJson = False,
) -> None:
    """Score graded runs: write scorecard.json and print it, or a table of several runs.

    With --token-cap or --call-cap also at smaller budgets per response; the options of grading are for these.
    """
    from rlvr_bench import pipeline
    from rlvr_bench.cli.progress import Bars
    from rlvr_bench.cli.show import show_scorecard
    from rlvr_bench.cli.show_several import end_of_scores
    from rlvr_bench.pipeline.several import score_all

    ks, error = None if k is None else read_budgets(k), read_verifier_error(verifier_error)
    check_jobs(jobs)
    if token_cap or call_cap:
        if extrapolate is not None:
            raise BadArgument("--extrapolate", extrapolate, "not together with a cap: score the run of one cap")
        if error is not None:
            raise BadArgument(
                "--verifier-error", verifier_error, "not together with a cap: labels are of uncut responses"
            )
        options = CapOptions(
            token_caps=read_caps("--token-cap", token_cap),
            call_caps=read_caps("--call-cap", call_cap),
            tokenizer=tokenizer,
            task=task,
            data_dir=data_dir,
        )
        grading = grade_options(workers, timeout, allow_unsafe_code)
        _score_caps(runs, options, ks, grading, jobs, format_, as_json=as_json)
        return
    if len(runs) > 1:
        with Bars() as bars:
            done = score_all(runs, ks, jobs=jobs, progress=bars, verifier_error=error)
        end_of_scores(done, format_, as_json=as_json)
        return
    with Bars() as bars:
        scorecard = pipeline.score(runs[0], ks, bars, extrapolate, error)
    if as_json:
        print_json(scorecard)
    else:
        show_scorecard(Terminal(), scorecard, runs[0], format_)


def _score_caps(
    runs: Sequence[Path],
    options: CapOptions,
    ks: Sequence[int] | None,
    grading: GradeOptions,
    jobs: int,
    form: AsFormat,
    *,
    as_json: bool,
) -> None:
    from rlvr_bench.capping import score_caps, score_caps_all
    from rlvr_bench.cli.progress import Bars
    from rlvr_bench.cli.show_caps import blocks_of_caps, blocks_of_runs
    from rlvr_bench.cli.show_several import end_of_runs
    from rlvr_bench.cli.tables import show_blocks

    with Bars() as bars:
        if len(runs) == 1:
            scores = score_caps(runs[0], options, ks, grading, bars)
        else:
            done = score_caps_all(runs, options, ks, grading, jobs=jobs, progress=bars)
    if len(runs) > 1:
        end_of_runs(done, lambda result: result, blocks_of_runs, form, as_json=as_json)
    elif as_json:
        print_json(scores)
    else:
        show_blocks(Terminal(), blocks_of_caps(scores, runs[0]), form)
