"""How many problems and rollouts a comparison needs to show a difference, and what they cost in tokens."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from rlvr_bench import stats
from rlvr_bench.comparison.cards import read_card
from rlvr_bench.errors import BadArgument
from rlvr_bench.scorecard import Scorecard
from rlvr_bench.stats.planning import Change, Part, assumed_rates, change_of, comparison_power, problems_for

__all__ = ["REGIMES", "Plan", "PlanCell", "PlanNeed", "PlanOptions", "plan"]

REGIMES: dict[str, tuple[Part, ...]] = {
    "easy": ((0.97, 5.0, 0.5), (0.03, 0.0, 1.0)),
    "hard": ((1.0, 0.3, 20.0),),
    "spread": ((1.0, 0.3, 1.0),),
    "two-groups": ((0.5, 2.0, 40.0), (0.5, 20.0, 2.0)),
    "half-unsolvable": ((0.5, 1.0, 3.0), (0.5, 0.0, 1.0)),
}
PROBLEMS = (30, 100, 300, 1000, 3000)
ROLLOUTS = (16, 64, 256, 1024)
DESIGN = (
    "two runs on the same problems, paired by problem, equal n; on the second every problem's log odds of a correct rollout "
    "move by one shift and a random part"
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlanOptions:
    """The difference to detect, and the assumptions.

    ``difference``: in points of pass@``k``, to be detected with probability ``power`` by a test at confidence
    ``level``. ``rates``: a named regime (``REGIMES``) or the parameters of a Beta distribution, "A,B"; None: fitted to
    the run. ``problems`` and ``rollouts``: the rows and columns of the table; None: the usual sizes, from k rollouts
    up. ``tokens``: per response; None: the run's mean. ``spread``: the standard deviation of the random part of a
    problem's change, in log odds. ``cluster_size``: problems per cluster; ``correlation``: of the true differences in a
    cluster.
    """

    k: int = 1
    difference: float = 3.0
    power: float = 0.8
    level: float = 0.95
    rates: str | None = None
    problems: Sequence[int] | None = None
    rollouts: Sequence[int] | None = None
    tokens: float | None = None
    spread: float = 0.5
    cluster_size: float = 1.0
    correlation: float = 0.2


class PlanCell(msgspec.Struct, frozen=True, kw_only=True):
    """The probability to detect the difference with these problems and rollouts, and the tokens of both runs."""

    problems: int
    rollouts: int
    power: float
    tokens: int | None


class PlanNeed(msgspec.Struct, frozen=True, kw_only=True):
    """The fewest problems that reach the power with these rollouts (None: none found), and both runs' tokens."""

    rollouts: int
    problems: int | None
    tokens: int | None


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Power by problems and rollouts.

    ``assumed``: the solve rates; ``first`` and ``second``: pass@k of the two runs.
    """

    k: int
    difference: float
    power: float
    level: float
    assumed: str
    design: str
    first: float
    second: float
    tokens_per_response: float | None
    cells: tuple[PlanCell, ...]
    needs: tuple[PlanNeed, ...]


def plan(run: str | Path | None = None, options: PlanOptions | None = None) -> Plan:
    """The power of a comparison by problems and rollouts, for assumed solve rates or those of a run or scorecard.

    Raises RunError where there is no scorecard, BadArgument for options that contradict each other or are out of range.
    """
    options = options or PlanOptions()
    _check(run, options)
    card = None if run is None else read_card(run)[1]
    parts, assumed = _assumed(card, options.rates)
    change = change_of(assumed_rates(parts), options.k, options.difference / 100, options.spread)
    tokens = options.tokens if options.tokens is not None else _tokens(card)
    rollouts = _sizes("--rollouts", options.rollouts, _usual_rollouts(options.k))
    problems = _sizes("--problems", options.problems, PROBLEMS)
    if rollouts[0] < options.k:
        raise BadArgument("--rollouts", rollouts[0], f"must be at least k, which is {options.k}")
    cluster = (options.cluster_size, options.correlation)
    first = float(np.mean(1 - (1 - change.first) ** options.k))
    return Plan(
        k=options.k,
        difference=options.difference,
        power=options.power,
        level=options.level,
        assumed=assumed,
        design=DESIGN,
        first=first,
        second=first + change.difference,
        tokens_per_response=tokens,
        cells=tuple(_cell(change, size, n, options.level, cluster, tokens) for size in problems for n in rollouts),
        needs=tuple(_need(change, n, options, cluster, tokens) for n in rollouts),
    )


def _check(run: object, options: PlanOptions) -> None:
    if (run is None) == (options.rates is None):
        raise BadArgument("RUN or --rates", "both" if run else "neither", "exactly one must be given")
    for name, value in (("--power", options.power), ("--level", options.level)):
        if not 0 < value < 1:
            raise BadArgument(name, value, "must be between 0 and 1")
    if not 0 < abs(options.difference) < 100:
        raise BadArgument("--difference", options.difference, "must be points of pass@k between 0 and 100")
    if options.k < 1:
        raise BadArgument("--k", options.k, "must be at least 1")
    if not 0 <= options.spread <= 10:
        raise BadArgument("--spread", options.spread, "must be between 0 and 10")
    if not (1 <= options.cluster_size < 1e9 and 0 <= options.correlation <= 1):
        given = f"{options.cluster_size:g} and {options.correlation:g}"
        raise BadArgument("--cluster-size and --correlation", given, "must be at least 1, and between 0 and 1")
    if options.tokens is not None and not 0 < options.tokens < 1e9:
        raise BadArgument("--tokens", options.tokens, "must be above 0")


def _assumed(card: Scorecard | None, rates: str | None) -> tuple[tuple[Part, ...], str]:
    if card is not None:
        n, c = (
            np.array([getattr(problem, name) for problem in card.problems if problem.n], dtype=np.int64)
            for name in "nc"
        )
        if len(n) < 10 or not 0 < int(c.sum()) < int(n.sum()):
            raise BadArgument("RUN", card.run.model, "must have 10 problems, and both correct and wrong rollouts")
        fit = stats.fit_zero_inflated(c, n)
        parts = ((1 - fit.share, fit.alpha, fit.beta), (fit.share, 0.0, 1.0))
        return parts, f"fitted to {card.run.model}: Beta({fit.alpha:.3g}, {fit.beta:.3g}), {fit.share:.1%} never solved"
    text = str(rates)
    if text in REGIMES:
        return REGIMES[text], f"{text}: " + ", ".join(_part(*part) for part in REGIMES[text])
    try:
        alpha, beta = (float(number) for number in text.split(","))
        valid = 0 < alpha < 1e6 and 0 < beta < 1e6
    except ValueError:
        valid = False
    if not valid:
        raise BadArgument("--rates", text, f"must be one of {', '.join(REGIMES)}, or two numbers above 0 such as 0.5,2")
    return ((1.0, alpha, beta),), f"Beta({alpha:g}, {beta:g})"


def _part(weight: float, alpha: float, beta: float) -> str:
    share = "" if weight == 1 else f"{weight:.0%} "
    return share + ("at 0" if alpha == 0 else f"Beta({alpha:g}, {beta:g})")


def _tokens(card: Scorecard | None) -> float | None:
    means = (
        [] if card is None else [problem.tokens_mean for problem in card.problems if problem.tokens_mean is not None]
    )
    return float(np.mean(means)) if means else None


def _usual_rollouts(k: int) -> list[int]:
    usual = [n for n in ROLLOUTS if n >= k]
    return usual if len(usual) > 1 else [k, 2 * k, 4 * k]


def _sizes(name: str, given: Sequence[int] | None, usual: Sequence[int]) -> list[int]:
    sizes = sorted(set(usual if given is None else given))
    largest = 1_000_000 if name == "--problems" else 20_000
    if not sizes or sizes[0] < (2 if name == "--problems" else 1) or sizes[-1] > largest:
        raise BadArgument(
            name, list(given or ()), f"must be at least {2 if name == '--problems' else 1}, at most {largest:,}"
        )
    return sizes


def _cost(problems: int, n: int, tokens: float | None) -> int | None:
    return None if tokens is None else round(2 * problems * n * tokens)


def _cell(
    change: Change, problems: int, n: int, level: float, cluster: tuple[float, float], tokens: float | None
) -> PlanCell:
    power = comparison_power(change, problems, n, level=level, cluster=cluster)
    return PlanCell(problems=problems, rollouts=n, power=power, tokens=_cost(problems, n, tokens))


def _need(change: Change, n: int, options: PlanOptions, cluster: tuple[float, float], tokens: float | None) -> PlanNeed:
    problems = problems_for(change, n, power=options.power, level=options.level, cluster=cluster)
    return PlanNeed(rollouts=n, problems=problems, tokens=None if problems is None else _cost(problems, n, tokens))
