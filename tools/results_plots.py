"""The plots of results/, made from its scorecards; needs matplotlib.

python tools/results_plots.py
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.pyplot import subplots
from results_page import KS, RESULTS, RFT, Cards, Measure, against_base, grpo_steps, measure, read_cards

from rlvr_bench.comparison import PairComparison
from rlvr_bench.scorecard import Scorecard
from rlvr_bench.zoo.recipes import REINFORCED

__all__ = ["write_plots"]

COLOURS = ("#3b6fb6", "#d1495b", "#2e933c", "#8e5ea2", "#e08e0b", "#00798c", "#7f5539", "#5c677d")


def write_plots(results: Path) -> None:
    """Write pass_at_k.svg, entropy.svg and boundary.svg."""
    mpl.use("svg")
    mpl.rcParams.update({"font.size": 10, "svg.fonttype": "none", "svg.hashsalt": "rlvr-bench"})
    cards = read_cards(results)
    _plot_curves(results / "pass_at_k.svg", cards)
    _plot_entropy(results / "entropy.svg", cards)
    _plot_boundary(results / "boundary.svg", against_base(results))


def _finish(figure: Figure, path: Path) -> None:
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def _tidy(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e4e4e4", linewidth=0.8)


def _curve(axes: Axes, card: Scorecard, label: str, colour: str, style: str = "-") -> None:
    estimates = [e for e in card.estimates if e.name == "pass@k" and e.value is not None]
    ks = [e.k for e in estimates]
    axes.plot(ks, [e.value for e in estimates], color=colour, linestyle=style, linewidth=1.8, label=label)
    axes.fill_between(ks, [e.low for e in estimates], [e.high for e in estimates], color=colour, alpha=0.1, linewidth=0)


def _plot_curves(path: Path, cards: Cards) -> None:
    figure, panels = subplots(1, 2, figsize=(11, 4.4), sharey=True, facecolor="white")
    for axes, title, names in zip(panels, ("RL", "fine-tuning"), (REINFORCED, ("sft", *RFT)), strict=True):
        _curve(axes, cards["base"], "base", "black", "--")
        for name, colour in zip(names, COLOURS, strict=False):
            _curve(axes, cards[name], name, colour)
        _curve(axes, cards["guess"], "random legal guessing", "#999999", ":")
        axes.set_xscale("log", base=2)
        axes.set_xticks(KS, [f"{k:,}" for k in KS])
        axes.set_xlabel("k, the number of rollouts allowed")
        axes.set_title(f"{title} from base", loc="left")
        axes.set_ylim(0, 1)
        _tidy(axes)
        axes.legend(frameon=False, loc="lower right", fontsize=8.5)
    panels[0].set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", "25 %", "50 %", "75 %", "100 %"])
    panels[0].set_ylabel("pass@k")
    _finish(figure, path)


def _plot_entropy(path: Path, cards: Cards) -> None:
    figure, (left, right) = subplots(1, 2, figsize=(11, 3.8), facecolor="white")
    steps = [step for step, _ in grpo_steps()]
    groups = ((None, "all rollouts", "black"), ("correct, length-matched", "correct", COLOURS[2]))
    for group, label, colour in (*groups, ("wrong, length-matched", "wrong", COLOURS[1])):
        measures = [measure(cards[name], "token_entropy", group=group) for _, name in grpo_steps()]
        _band(left, steps, measures, label, colour)
    for k, colour in ((1, COLOURS[0]), (16, COLOURS[4]), (256, COLOURS[3])):
        _band(right, steps, [measure(cards[name], "pass@k", k) for _, name in grpo_steps()], f"pass@{k}", colour)
    left.set_ylabel("token entropy, nats")
    left.set_ylim(bottom=0)
    right.set_ylim(0, 1)
    right.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", "25 %", "50 %", "75 %", "100 %"])
    for axes in (left, right):
        axes.set_xlabel("GRPO step")
        _tidy(axes)
        axes.legend(frameon=False, fontsize=8.5)
    _finish(figure, path)


def _band(axes: Axes, x: Sequence[int], measures: Sequence[Measure], label: str, colour: str) -> None:
    axes.plot(x, [m.value for m in measures], color=colour, marker="o", markersize=3.5, linewidth=1.8, label=label)
    axes.fill_between(x, [m.low for m in measures], [m.high for m in measures], color=colour, alpha=0.15, linewidth=0)


def _plot_boundary(path: Path, pairs: dict[str, PairComparison]) -> None:
    figure, axes = subplots(figsize=(11, 4), facecolor="white")
    positions = np.arange(len(pairs))
    sides = ((-0.2, COLOURS[2], "gained", "gains", 1), (0.2, COLOURS[1], "lost", "losses", -1))
    for offset, colour, label, field, sign in sides:
        sizes = [getattr(pair.boundary, field) for pair in pairs.values()]
        axes.bar(positions + offset, [sign * size.observed for size in sizes], 0.36, color=colour, label=label)
        bounds = np.array([(sign * size.low, sign * size.high) for size in sizes])
        label = "what two runs of one model show, 95 %" if sign > 0 else None
        axes.vlines(positions + offset, bounds.min(1), bounds.max(1), color="black", linewidth=1.4, label=label)
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_xticks(positions, list(pairs), rotation=30, ha="right")
    axes.set_ylabel("problems, k = 1,024")
    _tidy(axes)
    axes.legend(frameon=False, fontsize=8.5)
    _finish(figure, path)


if __name__ == "__main__":
    write_plots(RESULTS)
