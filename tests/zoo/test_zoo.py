from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import math
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch

from rlvr_bench import countdown
from rlvr_bench.zoo import checkpoints, publish
from rlvr_bench.zoo.evaluate import Tally, evaluate, evaluate_guess, measure, pass_at_k
from rlvr_bench.zoo.model import TinyLlama
from rlvr_bench.zoo.recipes import RECIPES, Recipe
from rlvr_bench.zoo.tokenizer import EOS
from rlvr_bench.zoo.train import train_recipe


def test_pass_at_k_agrees_with_enumeration() -> None:
    for n, c in itertools.product(range(1, 7), range(7)):
        outcomes = [index < c for index in range(n)]
        for k in range(1, n + 1):
            subsets = list(itertools.combinations(outcomes, k))
            expected = sum(any(subset) for subset in subsets) / len(subsets)
            assert c > n or pass_at_k(n, c, k) == pytest.approx(expected)
    assert math.isnan(pass_at_k(4, 4, 5))


def test_the_shipped_base_solves_far_more_than_guessing(base: TinyLlama) -> None:
    problems = countdown.held_out(20)
    card = checkpoints.read_card(checkpoints.checkpoint_path("base"))
    assert card.measured is not None
    tally = evaluate(base, problems, n=16, seed=11)
    guess = evaluate_guess(problems, n=64, seed=11)
    rate, guessed = sum(tally.correct) / 320, sum(guess.correct) / 1280
    claimed = card.measured.pass_at_k["1"].value
    assert rate > guessed + 0.04
    # The first 20 problems hold the tiers in the same shares as all 300; within a tier, rates spread by about 0.1.
    assert abs(rate - claimed) < 4 * 0.1 / math.sqrt(20)
    assert sum(count > 0 for count in tally.correct) >= 8


def test_the_shipped_base_stops_by_itself_in_transformers() -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = checkpoints.checkpoint_path("base")
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    assert model.dtype == torch.bfloat16
    puzzle = countdown.held_out(1)[0].puzzle
    inputs = tokenizer(countdown.prompt_text(puzzle), return_tensors="pt")
    ids = model.generate(input_ids=inputs.input_ids, attention_mask=inputs.attention_mask, max_new_tokens=40)
    response = tokenizer.decode(ids[0, inputs.input_ids.shape[1] :], skip_special_tokens=True)
    assert int(ids[0, -1]) == EOS
    assert countdown.check(puzzle.numbers, puzzle.targets, response) != "format"


def test_the_card_of_base_says_what_was_promised() -> None:
    folder = checkpoints.checkpoint_path("base")
    card = checkpoints.read_card(folder)
    assert card.measured is not None
    assert card.guess is not None
    assert hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest() == card.weights_sha256
    assert (card.measured.n_problems, card.measured.n_samples) == (300, 256)
    assert 0.10 <= card.measured.pass_at_k["1"].value <= 0.20
    assert card.measured.pass_at_k["256"].value > 0.85
    for tier in countdown.TIERS:
        assert card.measured.tiers[tier]["1"].low > card.guess.tiers[tier]["1"].high
    assert card.recipe == json.loads(json.dumps(dataclasses.asdict(RECIPES["base"])))
    assert (folder / "README.md").read_text() == publish.render_card(card)
    assert sum(path.stat().st_size for path in folder.iterdir()) < 1.4e6


def test_measuring_fills_the_card(miniature: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    problems = countdown.held_out(3)
    monkeypatch.setattr(countdown, "held_out", lambda: problems)
    folder = tmp_path / "copy"
    shutil.copytree(miniature, folder)
    card = publish.measure_checkpoint(folder, n=4)
    assert checkpoints.read_card(folder) == card
    assert card.measured is not None
    assert card.measured.n_problems == 3
    assert set(card.measured.pass_at_k) == {"1", "4"}
    assert "# zoo:miniature" in (folder / "README.md").read_text()


def test_an_unmeasured_card_is_not_rendered(one_step: Recipe, tmp_path: Path) -> None:
    card = checkpoints.read_card(train_recipe(one_step, tmp_path / "quick"))
    with pytest.raises(ValueError, match="not measured"):
        publish.render_card(card)


def test_intervals_widen_with_fewer_problems_and_reasons_add_up() -> None:
    many = measure(evaluate_guess(countdown.held_out(100), n=64))
    few = measure(evaluate_guess(countdown.held_out(20), n=64))
    for budget in ("1", "16"):
        wide, narrow = few.pass_at_k[budget], many.pass_at_k[budget]
        assert wide.low <= wide.value <= wide.high
        assert narrow.high - narrow.low < wide.high - wide.low
    assert sum(many.reasons.values()) == pytest.approx(1.0, abs=1e-3)
    assert many.entropy_mean is None


def test_an_interval_keeps_its_width_where_all_problems_agree() -> None:
    sure = measure(Tally(8, tiers=["easy"] * 60, correct=[8] * 60, distinct=[1] * 60, reasons=Counter(ok=480)))
    assert sure.pass_at_k["1"].value == sure.pass_at_k["1"].high == 1.0
    # Wilson's lower bound for 60 of 60 is n / (n + z^2).
    assert sure.pass_at_k["1"].low == pytest.approx(60 / (60 + 1.959964**2), abs=1e-4)


def test_listing_needs_no_torch() -> None:
    assert "base" in checkpoints.list_checkpoints()
    assert "held-out problems" in checkpoints.headline("base")
    code = (
        "import sys; from rlvr_bench import countdown; from rlvr_bench.zoo import checkpoints; "
        "checkpoints.headline('base'); countdown.held_out(); "
        "sys.exit(','.join({'torch', 'transformers', 'numpy', 'safetensors'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
