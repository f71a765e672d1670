"""The data of the page: one record per task, stored in the page as JSON."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from rlvr_bench.comparison.cards import RunCounts, align, clusters
from rlvr_bench.comparison.results import Overlap
from rlvr_bench.comparison.sets import overlaps
from rlvr_bench.measured_error import MeasuredError
from rlvr_bench.metrics import METRICS
from rlvr_bench.records import Estimate
from rlvr_bench.reporting import analyses
from rlvr_bench.reporting.analyses import (
    PageCaps,
    PageInterventions,
    PageJudge,
    PageReach,
    PageRescoring,
    PageSeries,
    PageTools,
)
from rlvr_bench.reporting.browser import Browser, browse
from rlvr_bench.reporting.missing import estimates_at
from rlvr_bench.reporting.pairs import PagePair, compare_pairs, couples
from rlvr_bench.reporting.second_opinions import PageOpinion, second_opinions
from rlvr_bench.reporting.sources import Source, in_steps, short_names
from rlvr_bench.scorers.common import rate_estimates
from rlvr_bench.scorers.solve_rate import default_ks
from rlvr_bench.scorers.warnings import warnings_of

__all__ = ["PageMetric", "PageRun", "PageTask", "page_task"]

FEW_RUNS = 6  # up to here every run can be the baseline; beyond, the first and the last: pairs cost time
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
    error: MeasuredError | None


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
    opinions: list[PageOpinion]
    series: list[PageSeries]
    caps: list[PageCaps]
    rescorings: list[PageRescoring]
    reaches: list[PageReach]
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
    caps, old_caps = analyses.caps_of(sources)
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
        pairs=compare_pairs(ids, runs, ks, headline, couples(baselines, len(runs), both), jobs, on_progress)
        if many
        else [],
        overlap_k=largest,
        overlaps=overlaps(ids, runs, largest) if largest else [],
        warnings=_warnings(sources, names),
        notes=[*notes, *old_caps],
        browser=browse([source.run for source in sources], ids, _difficulty(runs), rollouts),
        opinions=second_opinions(sources),
        series=analyses.training(sources, allow),
        caps=caps,
        rescorings=analyses.rescorings(sources),
        reaches=analyses.reaches(sources),
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
        (name, warnings_of(source.card.run, source.card.quality, source.card.estimates))
        for source, name in zip(sources, names, strict=True)
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
            *(estimate for estimate in estimates_at(source.card, run, common) if estimate.name not in left_out),
            *source.card.extrapolated,
            *tiers,
        ],
        n=run.n.tolist(),
        c=run.c.tolist(),
        low=low.round(4).tolist(),
        high=high.round(4).tolist(),
        tools=analyses.tools_of(source),
        judge=analyses.judge_of(source),
        error=analyses.error_of(source),
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
        "chat-template arguments": ", ".join(f"{name} {value}" for name, value in run.chat_template_args.items()),
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
