"""Draws docs/pass_at_k.svg from a scorecard.

    python tools/readme_plot.py runs/zoo-base/double_countdown/scorecard.json

Needs matplotlib. The guessing control is the one measured on the same problems, from the checkpoint's card.
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib as mpl
import msgspec

mpl.use("svg")
import matplotlib.pyplot as plt

from rlvr_bench.records import Scorecard
from rlvr_bench.zoo.checkpoints import checkpoint_path, read_card

ROOT = Path(__file__).parent.parent


def main(scorecard_file: str) -> None:
    card = msgspec.json.decode(Path(scorecard_file).read_bytes(), type=Scorecard)
    curve = [e for e in card.estimates if e.name == "pass@k" and e.value is not None]
    ks = [e.k for e in curve]
    plt.rcParams.update(
        {"font.family": "sans-serif", "font.size": 11, "svg.fonttype": "none", "svg.hashsalt": "rlvr-bench"}
    )
    figure, axes = plt.subplots(figsize=(7, 3.8), facecolor="white")
    axes.fill_between(ks, [e.low for e in curve], [e.high for e in curve], color="#3b6fb6", alpha=0.2, linewidth=0)
    axes.plot(
        ks, [e.value for e in curve], color="#3b6fb6", marker="o", markersize=4, linewidth=2, label=card.run["model"]
    )
    guess = read_card(checkpoint_path("base")).guess
    if guess is not None:
        points = sorted((int(k), interval.value) for k, interval in guess.pass_at_k.items())
        axes.plot(
            *zip(*points, strict=True), color="#777777", linestyle=":", linewidth=2, label="random legal guessing"
        )
    axes.set_xscale("log", base=2)
    axes.set_xticks(ks, [str(k) for k in ks])
    axes.set_ylim(0, 1)
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", "25 %", "50 %", "75 %", "100 %"])
    axes.set_xlabel("k, the number of rollouts allowed")
    axes.set_ylabel("pass@k")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#dddddd", linewidth=0.8)
    axes.legend(frameon=False, loc="upper left")
    figure.tight_layout()
    figure.savefig(ROOT / "docs" / "pass_at_k.svg", metadata={"Date": None})


if __name__ == "__main__":
    main(*sys.argv[1:])
