"""The data of the page: one record per task, stored in the page as JSON."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor

import msgspec
import numpy as np
import numpy.typing as npt

from rlvr_bench import stats
from rlvr_bench.comparison.cards import RunCounts, align, clusters
from rlvr_bench.comparison.curves import crossover
from rlvr_bench.comparison.results import BoundaryChange, Crossover, NullSize, Overlap
from rlvr_bench.comparison.sets import boundary_change, overlaps
from rlvr_bench.comparison.singles import changed_problems
from rlvr_bench.comparison.undecided import set_bounds
from rlvr_bench.metrics import METRICS
from rlvr_bench.parallel import counted, each
from rlvr_bench.records import Estimate
from rlvr_bench.reporting import analyses
from rlvr_bench.reporting.analyses import PageInterventions, PageJudge, PageRescoring, PageSeries, PageTools
from rlvr_bench.reporting.browser import Browser, browse
from rlvr_bench.reporting.missing import estimates_at, widen
from rlvr_bench.reporting.sources import Source, in_steps, short_names
from rlvr_bench.scorers.common import rate_estimates
from rlvr_bench.scorers.solve_rate import default_ks
from rlvr_bench.scorers.warnings import warnings_of

__all__ = ["PageMetric", "PagePair", "PageRun", "PageTask", "page_task"]

FEW_RUNS = 6  # up to here every run can be the baseline; beyond, the first and the last: pairs cost time
REPLICATES_PER_TEST = 100  # so that Holm's correction can still reach 0.01
QUESTION_CHARACTERS = 2_000_000


class PageRun(msgspec.Struct, frozen=True, kw_only=True):
    """One run: names, series and step, settings, estimates, and per problem n, c and the limits of the solve rate."""

    label: str
    short: str
    series: str | None
    step: int | None
    settings: dict[str, str]
    n_min: int
    n_max: int
    estimates: list[Estimate]
    n: list[int]
    c: list[int]
    low: list[float]
    high: list[float]
    tools: PageTools | None
    judge: PageJudge | None


class PagePair(msgspec.Struct, frozen=True, kw_only=True):
    """Run number ``second`` compared with run number ``first``.

    ``differences``: (name, k, value, low, high, p_holm, n of problems).
    ``more_often`` and ``less_often``: single problems whose solve rate changed, at a false discovery rate of 5 %.
    ``n_gained`` and ``n_lost``: expected sizes of the sets that the ids most likely make up.
    A difference with bounds has no value (null) where n was chosen by what was found; else that with errors as not correct,
    and limits that hold the error of both bounds. ``gained_bounds``, ``lost_bounds``: as in ``PairComparison``.
    """

    first: int
    second: int
    differences: list[tuple[str, int | None, float, float, float, float, int]]
    crossover: Crossover
    n_gained: float
    n_lost: float
    gained: tuple[str, ...]
    lost: tuple[str, ...]
    gains: NullSize | None
    losses: NullSize | None
    more_often: tuple[str, ...]
    less_often: tuple[str, ...]
    gained_bounds: tuple[float, float] | None = None
    lost_bounds: tuple[float, float] | None = None


class PageMetric(msgspec.Struct, frozen=True, kw_only=True):
    """A row of the table of metrics.

    ``chart``: id of its chart; ``rate``: its word in the chart of rates; ``over_training``: a measure of a series.
    """

    name: str
    unit: str
    meaning: str
    chart: str | None
    rate: str
    over_training: bool


class PageTask(msgspec.Struct, frozen=True, kw_only=True):
    """A task of the page. ``headline``: the budgets whose differences are tested; ``baselines``: numbers of runs, the
    default first; ``warnings``: what changes the meaning of the numbers; ``text_and_tools``: see ``analyses``.
    """

    task: str
    problems: list[str]
    tiers: list[str]
    questions: list[str]
    ks: list[int]
    headline: list[int]
    runs: list[PageRun]
    baselines: list[int]
    pairs: list[PagePair]
    overlap_k: int
    overlaps: list[Overlap]
    warnings: list[str]
    notes: list[str]
    browser: Browser
    series: list[PageSeries]
    rescorings: list[PageRescoring]
    interventions: list[PageInterventions]
    text_and_tools: list[tuple[int, int]]
    metrics: list[PageMetric]


def page_task(
    sources: Sequence[Source],
    allow: Collection[str],
    rollouts: int,
    jobs: int = 1,
    on_progress: Callable[[int, int], object] = lambda done, total: None,
) -> PageTask:
    """The data of one task; the first source is the baseline. Raises the errors of ``compare``."""
    given, sources = sources[0], in_steps(sources)
    start = sources.index(given)
    ids, runs, notes = align([(source.file, source.card) for source in sources], allow)
    largest = min(run.largest_k for run in runs)
    ks = default_ks(largest) if largest else []
    questions = {name: problem for source in sources for name, problem in source.questions().items()}
    names, both = _names(sources, runs), analyses.text_and_tools(sources)
    baselines = [start, *(i for i in range(len(runs)) if i != start and (len(runs) <= FEW_RUNS or i == len(runs) - 1))]
    many = len(runs) > 1 and largest > 0
    headline = sorted({1, ks[len(ks) // 2], ks[-1]}) if ks else []
    left_out = _depend_on_n() if len({size for run in runs for size in run.n.tolist()}) > 1 and many else frozenset()
    if left_out:
        notes.append(
            "rollouts per problem differ: metrics that depend on their number are left out, such as duplicate_rate"
        )
    cut = max(200, QUESTION_CHARACTERS // max(len(ids), 1))
    return PageTask(
        task=sources[0].card.run.task,
        problems=list(ids),
        tiers=[entry.tier for entry in runs[0].entries],
        questions=[questions[name].question[:cut] if name in questions else "" for name in ids],
        ks=ks,
        headline=headline,
        runs=[_run(*row, largest, left_out) for row in zip(sources, runs, names, _tiers(runs, ks), strict=True)],
        baselines=baselines if many else [start],
        pairs=_pairs(ids, runs, ks, headline, _couples(baselines, len(runs), both), jobs, on_progress) if many else [],
        overlap_k=largest,
        overlaps=overlaps(ids, runs, largest) if largest else [],
        warnings=_warnings(sources, names),
        notes=notes,
        browser=browse([source.run for source in sources], ids, _difficulty(runs), rollouts),
        series=analyses.training(sources, allow),
        rescorings=analyses.rescorings(sources),
        interventions=analyses.interventions(sources),
        text_and_tools=both,
        metrics=_metrics(),
    )


def _metrics() -> list[PageMetric]:
    return [
        PageMetric(
            name=metric.name,
            unit=metric.unit,
            meaning=metric.meaning,
            chart=metric.chart,
            rate=metric.rate,
            over_training=metric.followed and not metric.has_budget,
        )
        for metric in METRICS
    ]


def _names(sources: Sequence[Source], runs: Sequence[RunCounts]) -> list[str]:
    """Short names of the runs: those of their models, with the tool where two runs differ in that alone."""
    tools = [analyses.tools_of(source) for source in sources]
    more = ["" if tool is None else f" + {tool.language}" for tool in tools]
    models = [source.card.run.model for source in sources]
    if len({*zip(models, more, strict=True)}) < len(runs):
        return short_names([run.label for run in runs])
    return [name + tool for name, tool in zip(short_names(models), more, strict=True)]


def _warnings(sources: Sequence[Source], names: Sequence[str]) -> list[str]:
    """The warnings of all runs, after the run's name where there are several runs."""
    warnings = [
        (name, warnings_of(source.card.run, source.card.quality)) for source, name in zip(sources, names, strict=True)
    ]
    return [f"{name}: {text}" if len(sources) > 1 else text for name, texts in warnings for text in texts]


def _depend_on_n() -> frozenset[str]:
    return frozenset(metric.name for metric in METRICS if metric.equal_n)


def _run(
    source: Source, run: RunCounts, short: str, tiers: Sequence[Estimate], common: int, left_out: Collection[str]
) -> PageRun:
    """``common``: the budget at which the page counts unsolved problems, the same for all of its runs."""
    step = analyses.series_and_step(source)
    low, high = _rate_limits(run.c, run.n)
    return PageRun(
        label=run.label,
        short=short,
        series=None if step is None else step[0],
        step=None if step is None else step[1],
        settings=_settings(source),
        n_min=int(run.n.min(initial=np.iinfo(np.int64).max)),
        n_max=int(run.n.max(initial=0)),
        estimates=[
            *(each for each in estimates_at(source.card, run, common) if each.name not in left_out),
            *source.card.extrapolated,
            *tiers,
        ],
        n=run.n.tolist(),
        c=run.c.tolist(),
        low=low.round(4).tolist(),
        high=high.round(4).tolist(),
        tools=analyses.tools_of(source),
        judge=analyses.judge_of(source),
    )


def _rate_limits(
    c: npt.NDArray[np.int64], n: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Clopper and Pearson's exact 95 % limits of each problem's solve rate, both (P,)."""
    from scipy.special import betaincinv

    low = np.where(c > 0, betaincinv(np.maximum(c, 1), n - c + 1, 0.025), 0.0)
    high = np.where(c < n, betaincinv(c + 1, np.maximum(n - c, 1), 0.975), 1.0)
    return low, high


def _tiers(runs: Sequence[RunCounts], ks: Sequence[int]) -> list[list[Estimate]]:
    """pass@k of each run in each tier (``group``), the easiest first; empty where there are fewer than two tiers."""
    tiers = np.array([entry.tier for entry in runs[0].entries])
    rates = _difficulty(runs)
    names = sorted(set(tiers.tolist()), key=lambda name: (-float(rates[tiers == name].mean()), name))
    by_run: list[list[Estimate]] = [[] for _ in runs]
    if len(names) < 2 or not ks or any(run.counts.chosen for run in runs):
        return by_run
    values, groups = np.concatenate([run.pass_table(ks) for run in runs], axis=1), clusters(runs[0])
    for name in names:
        mask = tiers == name
        labels = [
            Estimate(
                name="tier_pass@k", k=k, value=None, group=name, method="unbiased", n_samples=int(run.n[mask].min())
            )
            for run in runs
            for k in ks
        ]
        estimates = rate_estimates(labels, values[mask], None if groups is None else groups[mask])
        for number, of_run in enumerate(by_run):
            of_run += estimates[number * len(ks) : (number + 1) * len(ks)]
    return by_run


def _couples(baselines: Sequence[int], size: int, more: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The pairs to compare: every baseline with every other run, in the order of the baselines, then ``more``."""
    every = [(first, second) for first in baselines for second in range(size) if first != second]
    return list(dict.fromkeys([*every, *more]))


def _pairs(
    ids: Sequence[str],
    runs: Sequence[RunCounts],
    ks: Sequence[int],
    headline: Sequence[int],
    couples: Sequence[tuple[int, int]],
    jobs: int,
    on_progress: Callable[[int, int], object],
) -> list[PagePair]:
    """The comparison of the second run of each couple with the first."""
    halves = sorted({(min(pair), max(pair)) for pair in couples})
    replicates = max(2000, REPLICATES_PER_TEST * (len(runs) - 1) * max(len(headline), 2))
    differences = _differences(runs, ks, headline, couples, stats.Resampling(replicates, 0.95, jobs))
    k = ks[-1]

    sets = functools.partial(_sets, ids, k, replicates)
    two = [(runs[first], runs[second]) for first, second in halves]
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:  # NumPy releases the lock in long loops
        made = each(sets, two, jobs=jobs) if jobs > 1 else pool.map(sets, two)
        by_pair = dict(zip(halves, counted(made, len(two), on_progress), strict=True))
    pairs = []
    for first, second in couples:
        crossing, change, (rose, fell) = by_pair[min(first, second), max(first, second)]
        forward = first < second
        pair = PagePair(
            first=first,
            second=second,
            differences=differences[first, second],
            crossover=crossing,
            n_gained=change.n_gained if forward else change.n_lost,
            n_lost=change.n_lost if forward else change.n_gained,
            gained=change.gained if forward else change.lost,
            lost=change.lost if forward else change.gained,
            gains=change.gains if forward else change.losses,
            losses=change.losses if forward else change.gains,
            more_often=rose if forward else fell,
            less_often=fell if forward else rose,
        )
        gained, lost = set_bounds(runs[first], runs[second], k)
        pairs.append(msgspec.structs.replace(pair, gained_bounds=gained, lost_bounds=lost))
    return _corrected_sets(pairs)


def _sets(
    ids: Sequence[str], k: int, replicates: int, two: tuple[RunCounts, RunCounts]
) -> tuple[Crossover, BoundaryChange, tuple[tuple[str, ...], tuple[str, ...]]]:
    return crossover(*two), boundary_change(ids, *two, k, replicates), _changed(ids, *two)


def _changed(ids: Sequence[str], first: RunCounts, second: RunCounts) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Problems that the second run solves more often, and less often."""
    changed = changed_problems(ids, first, second)
    if changed is None:
        return (), ()
    return tuple(problem.id for problem in changed.gained), tuple(problem.id for problem in changed.lost)


_Row = tuple[str, int | None, float, float, float, float, int]


def _differences(
    runs: Sequence[RunCounts],
    ks: Sequence[int],
    headline: Sequence[int],
    couples: Sequence[tuple[int, int]],
    options: stats.Resampling,
) -> dict[tuple[int, int], list[_Row]]:
    """Paired differences of each couple: pass@k at every k, and the metrics that are compared, where measured.

    One bootstrap serves all couples. Holm's correction is over a baseline's tests at the headline budgets, and over those
    of its policy statistics. Other budgets have an interval and no test.
    """
    tables = [run.pass_table(ks) for run in runs]
    policies = [metric for metric in METRICS if metric.compared and not metric.has_budget]
    columns: list[tuple[str, int | None, npt.NDArray[np.float64]]] = [
        ("pass@k", k, np.stack([table[:, i] for table in tables], axis=1)) for i, k in enumerate(ks)
    ]
    columns += [(metric.name, None, np.stack([run.values(metric) for run in runs], axis=1)) for metric in policies]
    measured = [(name, k, values) for name, k, values in columns if not np.isnan(values).all(axis=0).any()]
    scale = [max(1.0, float(np.nanmax(np.abs(values)))) for *_, values in measured]  # the bootstrap takes rates
    first, second = (
        np.concatenate(
            [values[:, [couple[side] for couple in couples]] / scale[i] for i, (*_, values) in enumerate(measured)],
            axis=1,
        )
        for side in (0, 1)
    )
    paired = stats.paired_bootstrap_mean(
        second,
        first,
        rng=stats.fresh_rng(),
        clusters=clusters(runs[0]),
        options=options,
    )
    value, low, high = (
        limit.reshape(len(measured), -1) * np.array(scale)[:, None]
        for limit in (paired.difference.value, paired.difference.low, paired.difference.high)
    )
    size, p = (array.reshape(len(measured), -1) for array in (paired.difference.n_problems, paired.p_value))
    widen(value, low, high, p, [k for name, k, _ in measured if name == "pass@k" and k is not None], runs, couples)
    p_holm = np.full(p.shape, np.nan)
    families = (
        [i for i, (name, k, _) in enumerate(measured) if name == "pass@k" and k in headline],
        [i for i, (name, *_) in enumerate(measured) if name != "pass@k"],
    )
    for baseline in {first for first, _ in couples}:
        mine = [i for i, couple in enumerate(couples) if couple[0] == baseline]
        for family in families:
            cells = np.ix_(family, mine)
            p_holm[cells] = stats.holm(p[cells].ravel()).reshape(p[cells].shape) if family else p[cells]
    return {
        couple: [
            (name, k, float(value[i, j]), float(low[i, j]), float(high[i, j]), float(p_holm[i, j]), int(size[i, j]))
            for i, (name, k, _) in enumerate(measured)
        ]
        for j, couple in enumerate(couples)
    }


def _corrected_sets(pairs: Sequence[PagePair]) -> list[PagePair]:
    """Holm's correction over the gained and lost sets of each baseline."""
    corrected = []
    for baseline in dict.fromkeys(pair.first for pair in pairs):
        mine = [pair for pair in pairs if pair.first == baseline]
        sizes = [size for pair in mine for size in (pair.gains, pair.losses) if size is not None]
        adjusted = iter(stats.holm([size.p_value for size in sizes]).tolist() if sizes else [])
        for pair in mine:
            gains, losses = (
                size and msgspec.structs.replace(size, p_holm=next(adjusted)) for size in (pair.gains, pair.losses)
            )
            corrected.append(msgspec.structs.replace(pair, gains=gains, losses=losses))
    return corrected


def _difficulty(runs: Sequence[RunCounts]) -> npt.NDArray[np.float64]:
    """Mean solve rate of each problem over the runs, (P,)."""
    return np.asarray(np.mean([run.c / np.maximum(run.n, 1) for run in runs], axis=0))


def _settings(source: Source) -> dict[str, str]:
    """How the run was drawn and graded, as text, for the last table of the page."""
    run, grading = source.card.run, source.card.run.grading
    version, started = (run.sessions[-1].engine_version, run.sessions[-1].started) if run.sessions else ("", "")
    settings = {
        "model": run.model,
        "weights": run.weights,
        "task": f"{run.task} (version {run.task_version}, problems {run.problems_sha256[:12]})",
        "prompt": run.prompt,
        "chat template": "none" if run.chat_template is None else run.chat_template[:12],
        "sampling": _in_words(run.sampling),
        "rollouts per problem": run.n,
        "stopping": "none" if run.stopping is None else _in_words(run.stopping),
        "seed": run.seed,
        "engine": f"{run.engine} {version}, {run.dtype}",
        "token statistics": run.token_stats,
        "verifier": f"{grading.verifier} {grading.version}",
        "drawn": started[:10],
        "scorecard": str(source.file),
    }
    return {name: str(value) for name, value in settings.items() if value not in (None, "")}


def _in_words(settings: msgspec.Struct | None) -> str:
    return "" if settings is None else ", ".join(f"{k} {v}" for k, v in msgspec.structs.asdict(settings).items())
