from __future__ import annotations

import dataclasses
import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from rlvr_bench import countdown
from rlvr_bench.zoo import checkpoints, publish
from rlvr_bench.zoo.recipes import RECIPES, Recipe, Reinforcement, Rejection
from rlvr_bench.zoo.tokenizer import EOS
from rlvr_bench.zoo.train import train_recipe


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


@pytest.mark.parametrize("name", checkpoints.list_checkpoints())
def test_the_card_of_a_checkpoint_says_what_it_is(name: str) -> None:
    shipped, folder = checkpoints.shipped_folder(name), checkpoints.checkpoint_path(name)
    card = checkpoints.read_card(shipped)
    assert card.measured is not None
    assert card.guess is not None
    assert hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest() == card.weights_sha256
    assert (card.measured.n_problems, card.measured.n_samples) == (300, 1024)
    for tier in countdown.TIERS:
        assert card.measured.tiers[tier]["1"].low > card.guess.tiers[tier]["1"].high
    assert card.recipe == json.loads(json.dumps(dataclasses.asdict(RECIPES[name])))
    assert card.training.steps == RECIPES[name].steps
    assert (shipped / "README.md").read_text() == publish.render_card(card)
    assert checkpoints.list_steps(name) == sorted(RECIPES[name].keep)


def test_every_recipe_ships_in_fifteen_megabytes() -> None:
    assert checkpoints.list_checkpoints() == sorted(RECIPES)
    files = checkpoints.checkpoints_directory().rglob("*")
    assert sum(path.stat().st_size for path in files if path.suffix == ".safetensors") < 15e6


def test_recipes_that_start_from_base_have_one_budget() -> None:
    for entry in RECIPES.values():
        (phase,) = entry.phases if entry.start else (None,)
        if isinstance(phase, Reinforcement):
            assert (phase.steps * phase.prompts * phase.group, phase.steps * phase.minibatches) == (51_200, 400)
        elif isinstance(phase, Rejection):
            assert (phase.prompts * phase.group, phase.learning.steps) == (51_200, 400)
        elif phase is not None:
            assert (phase.steps * phase.batch, phase.steps) == (51_200, 400)


def test_the_base_has_room_for_rl_and_grpo_used_it() -> None:
    measured = {
        name: checkpoints.read_card(checkpoints.shipped_folder(name)).measured for name in ("base", "grpo", "sft")
    }
    base, grpo, sft = (card.pass_at_k for card in measured.values() if card is not None)
    assert grpo["1"].low > base["1"].high
    assert sft["1"].low > base["1"].high
    assert base["1024"].value > 0.9


def test_an_unmeasured_card_is_not_rendered(one_step: Recipe, tmp_path: Path) -> None:
    card = checkpoints.read_card(train_recipe(one_step, tmp_path / "quick"))
    with pytest.raises(ValueError, match="not measured"):
        publish.render_card(card)


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
