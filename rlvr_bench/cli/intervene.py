"""The command ``intervene``: the effect of swapping single tokens on accuracy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from rlvr_bench.cli.messages import print_json
from rlvr_bench.cli.options import AsJson, DataDir, OwnTask, RunPath, Timeout, Workers, engine_arguments, grade_options
from rlvr_bench.cli.terminal import Terminal, styled
from rlvr_bench.options import GradeOptions, InterveneOptions, Swap

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rlvr_bench.analysis.interventions import Effect
    from rlvr_bench.pipeline.intervening import Interventions

__all__ = ["register"]

Strata = Annotated[str, typer.Option(help="Factors to cross: entropy, perplexity, position.")]
SwapRule = Annotated[
    Swap,
    typer.Option(
        help="Replacement: the second most likely token, one drawn from the nucleus, or the same token (a check)."
    ),
]
Sites = Annotated[int, typer.Option(help="Tokens to swap in each stratum.")]
Repeats = Annotated[int, typer.Option(help="Continuations with the original token, and as many with the replacement.")]
Rollouts = Annotated[int, typer.Option(help="Responses per problem to choose tokens from: the first ones.")]
Seed = Annotated[int, typer.Option(help="Seed of the choice of tokens and of the continuations.")]
Name = Annotated[str | None, typer.Option(help="Folder in RUN/interventions. Default: swap rule and strata.")]
RunModel = Annotated[str | None, typer.Option("--model", "-m", help="Where the run's checkpoint is now.")]
RunAdapter = Annotated[str | None, typer.Option("--adapter", help="Where its adapter is now, if it has one.")]
Engine = Annotated[str, typer.Option(help="auto (the engine of the run), transformers or vllm.")]
EngineArg = Annotated[list[str] | None, typer.Option(help="NAME=VALUE for the engine. May be repeated.")]
_ALL_STRATA = ",".join(InterveneOptions.strata)


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command()(intervene)


def intervene(
    run: RunPath,
    strata: Strata = _ALL_STRATA,
    swap: SwapRule = InterveneOptions.swap,
    sites: Sites = InterveneOptions.sites,
    repeats: Repeats = InterveneOptions.repeats,
    rollouts: Rollouts = InterveneOptions.rollouts,
    seed: Seed = InterveneOptions.seed,
    name: Name = InterveneOptions.name,
    model: RunModel = InterveneOptions.model,
    adapter: RunAdapter = InterveneOptions.adapter,
    task: OwnTask = InterveneOptions.task,
    data_dir: DataDir = InterveneOptions.data_dir,
    engine: Engine = InterveneOptions.engine,
    engine_arg: EngineArg = None,
    workers: Workers = None,
    timeout: Timeout = GradeOptions.timeout_s,
    as_json: AsJson = False,
) -> None:
    """Swap single tokens in a run's responses, let the model continue, and report the effect on accuracy."""
    from rlvr_bench.cli.progress import Bars
    from rlvr_bench.pipeline.intervening import intervene as intervene_in

    options = InterveneOptions(
        strata=tuple(part.strip() for part in strata.split(",") if part.strip()),
        swap=swap,
        sites=sites,
        repeats=repeats,
        rollouts=rollouts,
        seed=seed,
        name=name,
        model=model,
        adapter=adapter,
        task=task,
        data_dir=data_dir,
        engine=engine,
        engine_args=engine_arguments(engine_arg),
    )
    with Bars() as bars:
        result = intervene_in(run, options, grade_options(workers, timeout), bars)
    if as_json:
        print_json(result)
    else:
        _show(Terminal(), result)


def _show(console: Console, result: Interventions) -> None:
    from rlvr_bench.cli.show import show_table

    design = result.design
    console.print(
        styled(
            *((result.model, "bold"), " on ", (design.task, "bold")),
            f": {result.n_sites:,} tokens swapped ({design.swap}), {design.repeats} continuations with and without; ",
            "accuracy of the continuations",
        )
    )
    rows = [_row(effect, design.strata) for effect in result.effects]
    columns = [*design.strata, "tokens", "kept", "swapped", "effect", "95% interval", "p (Holm)"]
    show_table(console, "", columns, rows)
    notes = []
    if result.no_alternative:
        notes.append(f"{result.no_alternative} tokens had no alternative and are left out")
    if result.undecided:
        notes.append(f"{result.undecided} continuations could not be verified and are left out")
    for note in notes:
        console.print(f"note: {note}", highlight=False)


def _row(effect: Effect, strata: Sequence[str]) -> list[str]:
    """Accuracies in percent, differences in points."""
    row = [effect.levels.get(name, "all") for name in strata] + [str(effect.n_sites)]
    if effect.effect is None or effect.low is None or effect.high is None:
        return [*row, "", "", "", "", ""]
    p = "" if effect.p_holm is None else f"{effect.p_holm:.3f}"
    interval = f"{100 * effect.low:+.1f} to {100 * effect.high:+.1f}"
    return [*row, f"{effect.kept:.1%}", f"{effect.swapped:.1%}", f"{100 * effect.effect:+.1f}", interval, p]
