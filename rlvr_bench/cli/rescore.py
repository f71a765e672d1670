"""The command ``rescore``: a run's stored rollouts under another checkpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from rlvr_bench.cli.messages import print_json
from rlvr_bench.cli.options import Adapter, AsJson, EngineArg, RunPath, engine_arguments
from rlvr_bench.cli.terminal import Terminal, styled
from rlvr_bench.options import RescoreOptions

if TYPE_CHECKING:
    from rlvr_bench.analysis.shift_results import Rescoring, Stratum
    from rlvr_bench.records import Estimate

__all__ = ["register"]

Model = Annotated[str, typer.Option("--model", "-m", help="The other checkpoint: folder, hub id or zoo:NAME.")]
Engine = Annotated[str, typer.Option(help="auto (vllm if it is installed, else transformers), vllm or transformers.")]
First = Annotated[int | None, typer.Option("-n", help="Rollouts to read per problem: the first ones. Default: all.")]
Exact = Annotated[
    bool,
    typer.Option("--exact-kl", help="Read the run's checkpoint too, for the exact divergence (transformers only)."),
]
Threshold = Annotated[float, typer.Option(help="A token counts as moved if its probability changed by more than this.")]


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command()(rescore)


def rescore(
    run: RunPath,
    model: Model,
    adapter: Adapter = RescoreOptions.adapter,
    engine: Engine = RescoreOptions.engine,
    n: First = RescoreOptions.n,
    exact_kl: Exact = RescoreOptions.exact_kl,
    threshold: Threshold = RescoreOptions.threshold,
    engine_arg: EngineArg = None,
    as_json: AsJson = False,
) -> None:
    """Score a run's stored tokens under another checkpoint: divergence, perplexities, and where probability moved.

    The run must have been drawn with --token-stats full. Run the same command again to resume.
    """
    from rlvr_bench.cli.progress import Bars
    from rlvr_bench.pipeline.rescoring import rescore as rescore_run

    arguments = engine_arguments(engine_arg)
    options = RescoreOptions(
        engine=engine, n=n, exact_kl=exact_kl, threshold=threshold, engine_args=arguments, adapter=adapter
    )
    with Bars() as bars:
        result = rescore_run(run, model, options, bars)
    if as_json:
        print_json(result)
    else:
        _show(Terminal(), result)


_SHOWN = {
    "kl": "KL(own || other), nats per token, exact",
    "kl_reverse": "KL(other || own), exact",
    "kl_k1": "the same from the drawn tokens: log ratio",
    "kl_k3": "ratio - 1 - log ratio",
    "kl_per_response": "nats per response",
    "moved_share": "of tokens: probability changed by > {threshold:g}",
}
_GROUPINGS = {
    "entropy": "tenths of entropy",
    "position": "tenths of the response",
    "perplexity": "fifths of perplexity",
    "category": "category",
}


def _show(console: Console, result: Rescoring) -> None:
    from rlvr_bench.cli.show import show_table

    console.print(
        styled(
            *((result.own.model, "bold"), " (own) rescored under ", (result.other.model, "bold")),
            f" (other) on {result.task}: {result.n_problems:,} problems, {result.n_rollouts:,} rollouts, ",
            f"{result.n_tokens:,} tokens",
        )
    )
    rows = [
        [name.replace("_", " "), *_numbers(estimate), meaning.format(threshold=result.threshold)]
        for name, meaning in _SHOWN.items()
        for estimate in result.estimates
        if estimate.name == name and estimate.group is None
    ]
    four = result.perplexities
    rows += [
        [f"ppl {label}", *_numbers(estimate), meaning]
        for label, estimate, meaning in (
            ("own on own", four.own_on_own, "the run, under the checkpoint that drew it"),
            ("other on own", four.other_on_own, "the run, under the other checkpoint"),
            ("other on other", four.other_on_other, "the other checkpoint's run, under itself"),
            ("other on reference", four.other_on_reference, "the task's solutions, under the other checkpoint"),
        )
        if estimate is not None
    ]
    show_table(console, "", ["", "value", "95% interval", ""], rows)
    for by, title in _GROUPINGS.items():
        strata = [row for row in result.strata if row.by == by and row.group == "all"]
        columns = [title, "tokens", "moved", "of moves", "log ratio", "entropy", "other"]
        show_table(console, "", columns, [_stratum(row) for row in strata])
    for note in result.notes:
        console.print(f"note: {note}", highlight=False, markup=False)
    console.print("correct and wrong rollouts separately, and every interval: rescore.json, or --json", highlight=False)


def _numbers(estimate: Estimate) -> list[str]:
    value = "" if estimate.value is None else f"{estimate.value:.3g}"
    return [value, "" if estimate.low is None else f"{estimate.low:.3g} to {estimate.high:.3g}"]


def _stratum(row: Stratum) -> list[str]:
    span = "" if row.low is None else f" ({row.low:.2g} to {row.high:.2g})"
    moves = "" if row.share_of_moves.value is None else f"{row.share_of_moves.value:.1%}"
    return [
        f"{row.bin}{span}",
        f"{row.share.value:.1%}",
        f"{row.moved.value:.1%}",
        moves,
        f"{row.log_ratio.value:+.3f}",
        f"{row.own_entropy.value:.3f}",
        f"{row.other_entropy.value:.3f}",
    ]
