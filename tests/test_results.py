"""What results/ says is what its scorecards say, and they are of what ships."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import binomtest

from rlvr_bench import countdown, pipeline
from rlvr_bench.pipeline import GradeOptions, SampleOptions
from rlvr_bench.zoo.checkpoints import list_steps, read_card, shipped_folder
from rlvr_bench.zoo.recipes import RECIPES, REINFORCED

ROOT = Path(__file__).parent.parent
FILES = sorted((ROOT / "results" / "scorecards").glob("*.json"))


@pytest.fixture(scope="module")
def cards() -> dict[str, dict[str, Any]]:
    return {file.stem: json.loads(file.read_bytes()) for file in FILES}


def test_every_checkpoint_every_step_and_three_seeds_are_there(cards: dict[str, dict[str, Any]]) -> None:
    steps = {f"grpo@{step}" for step in list_steps("grpo")}
    seeds = {f"{name}-s{seed}" for name in REINFORCED for seed in (1, 2)}
    assert set(cards) == {*RECIPES, "guess"} | steps | seeds
    assert len(steps) >= 8
    problems = [item.id for item in countdown.held_out()]
    for label, card in cards.items():
        n = 1024 if label in {*RECIPES, "guess"} else 256
        assert {entry["n"] for entry in card["problems"]} == {n}
        assert sorted(entry["id"] for entry in card["problems"]) == problems
    assert len({card["run"]["seed"] for card in cards.values()}) == len(cards)


def test_borrowed_solve_rates_agree_with_100_000_rollouts_a_problem() -> None:
    """The certain bound is never above the rate, and 93 % of the intervals hold it."""
    with (ROOT / "results" / "base_100k.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    stored = {x["id"]: x for x in json.loads((ROOT / "results" / "reach.json").read_bytes())["problems"]}
    assert len(rows) == 40
    held = 0
    for row in rows:
        rate, counted = float(row["rate"]), binomtest(int(row["c"]), int(row["n"])).proportion_ci(0.999, "exact")
        assert counted.low < rate < counted.high
        assert stored[row["problem"]]["bound"] <= rate
        held += stored[row["problem"]]["low"] <= rate <= stored[row["problem"]]["high"]
    assert held >= 0.93 * len(rows)


def test_the_leaderboard_agrees_with_the_scorecards(cards: dict[str, dict[str, Any]]) -> None:
    with (ROOT / "results" / "leaderboard.csv").open(newline="") as stream:
        rows = {row["model"]: row for row in csv.DictReader(stream)}
    assert set(rows) == {card["run"]["model"] for card in cards.values()}
    for card in cards.values():
        row, counts = rows[card["run"]["model"]], [(entry["n"], entry["c"]) for entry in card["problems"]]
        assert float(row["pass@1"]) == pytest.approx(sum(c / n for n, c in counts) / len(counts), rel=1e-5)
        assert int(float(row["unsolved"])) == sum(c == 0 for _, c in counts)
        assert float(row["pass@1_low"]) < float(row["pass@1"]) < float(row["pass@1_high"])


def test_the_cards_of_the_zoo_say_what_was_measured(cards: dict[str, dict[str, Any]]) -> None:
    for name in RECIPES:
        measured = read_card(shipped_folder(name)).measured
        assert measured is not None
        rates = [entry["c"] / entry["n"] for entry in cards[name]["problems"]]
        assert measured.pass_at_k["1"].value == pytest.approx(sum(rates) / len(rates), abs=1e-4)
        assert measured.reasons["ok"] == pytest.approx(measured.pass_at_k["1"].value, abs=1e-4)


def test_the_page_is_what_the_scorecards_give() -> None:
    subprocess.run([sys.executable, "tools/results_page.py", "--check"], cwd=ROOT, check=True)


def test_a_checkpoint_drawn_anew_has_the_counts_of_its_scorecard(
    tmp_path: Path, cards: dict[str, dict[str, Any]]
) -> None:
    pytest.importorskip("torch", reason="needs the torch extra")
    asked = SampleOptions(n=1024, seed=1, seed_scheme=1, engine="transformers", limit=2, out=tmp_path)
    _, card = pipeline.evaluate("zoo:base", "double_countdown", asked, GradeOptions(workers=1))
    names = ("id", "n", "c", "truncated", "duplicates", "no_answer")
    drawn = [{name: getattr(problem, name) for name in names} for problem in card.problems]
    assert drawn == [{name: problem[name] for name in names} for problem in cards["base"]["problems"][:2]]


def test_the_leaderboard_is_what_the_scorecards_give(tmp_path: Path) -> None:
    """Field by field, intervals and resampled ranks included: resampling takes the same stream in every version."""
    made = tmp_path / "leaderboard.csv"
    where = ("results/scorecards", "--base", "zoo:base", "--csv", str(made))
    subprocess.run(
        [sys.executable, "-m", "rlvr_bench", "leaderboard", *where], cwd=ROOT, check=True, capture_output=True
    )
    with made.open(newline="") as ours, (ROOT / "results" / "leaderboard.csv").open(newline="") as kept:
        assert list(csv.DictReader(ours)) == list(csv.DictReader(kept))
