"""Every row of the table of metrics is documented, in the leaderboard as it says, gated or refused, and shown."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from rlvr_bench.checking.rules import make_rules
from rlvr_bench.errors import BadArgument
from rlvr_bench.leaderboards import columns
from rlvr_bench.leaderboards.columns import ADDED
from rlvr_bench.metrics import METRICS, Metric, find_metric
from rlvr_bench.scorecard import ProblemScore
from tests.scorers.made import outcomes
from tests.scorers.test_scorecard import scored

ROOT = Path(__file__).parent.parent
ASSETS = ROOT / "rlvr_bench" / "reporting" / "assets"
EACH = pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)


def test_names_are_unique_and_titles_are_for_tables_only() -> None:
    assert len({metric.name for metric in METRICS}) == len(METRICS)
    board = [column for metric in METRICS for column in metric.board]
    assert len({column.name for column in board}) == len(board)
    assert all(bool(column.short) == bool(column.tables) for column in board)


@EACH
def test_it_is_documented(metric: Metric) -> None:
    assert metric.meaning
    assert f"| `{metric.name}` | {metric.meaning} |" in (ROOT / "docs" / "metrics.md").read_text()


@EACH
def test_its_columns_are_in_the_csv(metric: Metric) -> None:
    result = {column.name: column for column in columns((1,))}
    for column in metric.board:
        assert result[column.name].meaning == (column.meaning or metric.meaning)
        assert {f"{column.name}_low", f"{column.name}_high"} <= result.keys()
        assert (column.name in ADDED) is not column.in_first, "a file without a later column must stay readable"


@EACH
def test_a_check_gates_on_it_or_says_why_not(metric: Metric) -> None:
    name = f"{metric.base}@4" if metric.has_budget else metric.name
    if metric.gate is not None:
        (rule,) = make_rules({name: 0.5}, {})
        assert rule.of is metric
        assert metric.column in ProblemScore.__struct_fields__
        return
    assert metric.no_gate
    with pytest.raises(BadArgument, match=re.escape(metric.no_gate)):
        make_rules({name: 0.5}, {})


@EACH
def test_the_report_shows_it_where_it_says(metric: Metric) -> None:
    """Its chart is there. A chart of one metric takes its name from the page's data; one of several names them."""
    scripts = "\n".join(file.read_text() for file in ASSETS.glob("*.js"))
    assert (metric.chart == "quality") is bool(metric.rate)
    if metric.chart not in (None, "summary"):
        assert re.search(rf'id: "{metric.chart}"|byOutcome\("{metric.chart}"', scripts)
    if metric.chart not in (None, "quality", "tool-calls"):  # those two read the page's data
        assert metric.chart in charts_of_one_metric() or f'"{metric.name}"' in scripts


def charts_of_one_metric() -> set[str]:
    """The charts whose script asks the page's data for their metric."""
    scripts = "\n".join(file.read_text() for file in ASSETS.glob("*.js"))
    return set(re.findall(r'(?:metricOf|byOutcome)\("([a-z-]+)"', scripts))


def test_a_chart_that_asks_for_its_metric_has_exactly_one() -> None:
    charts = [metric.chart for metric in METRICS]
    assert {"entropy", "lengths", "diversity"} <= charts_of_one_metric()
    assert {charts.count(chart) for chart in charts_of_one_metric()} == {1}


def test_the_scripts_do_not_repeat_a_name_that_they_ask_for() -> None:
    scripts = "\n".join(file.read_text() for file in ASSETS.glob("*.js"))
    assert not [m.name for m in METRICS if m.chart in charts_of_one_metric() and f'"{m.name}"' in scripts]


def test_every_estimate_of_a_scorecard_has_a_row() -> None:
    rng = np.random.default_rng(0)
    run = outcomes(["ccww", "wwwn"], entropy_mean=rng.random(8), branching_mean=1 + rng.random(8))
    card = scored(run, answer_space=6, flags={"repetition": run.index > 0})
    assert not {entry.name for entry in card.estimates if find_metric(entry.name) is None}
    assert not [name for name in card.quality if find_metric(name) is None]


def test_values_are_within_the_range_of_their_row() -> None:
    rng = np.random.default_rng(1)
    run = outcomes(["ccww", "wwwn"], entropy_mean=rng.random(8), branching_mean=1 + rng.random(8))
    for entry in scored(run, answer_space=6).estimates:
        row = find_metric(entry.name)
        assert row is not None
        if entry.value is not None and not (entry.group or "").startswith("wrong less correct"):
            assert row.low <= entry.value <= row.high, entry
