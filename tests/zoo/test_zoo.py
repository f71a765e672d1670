from __future__ import annotations

import dataclasses
import itertools
import json
import math
import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from rlvr_bench import countdown
from rlvr_bench.countdown import canonical_key
from rlvr_bench.errors import ModelError, StorageError, UnknownName
from rlvr_bench.zoo import checkpoints, publish
from rlvr_bench.zoo.demonstrations import demonstrations, examples, held_out_keys
from rlvr_bench.zoo.evaluate import evaluate, evaluate_guess, measure, pass_at_k
from rlvr_bench.zoo.export import export, load, verify_export
from rlvr_bench.zoo.learner import IGNORED, batches, schedule
from rlvr_bench.zoo.model import Shape, TinyLlama
from rlvr_bench.zoo.recipes import RECIPES, Noise, Recipe, Supervised, recipe
from rlvr_bench.zoo.sample import Samples, Sampling, sample
from rlvr_bench.zoo.tokenizer import BOS, EOS, PAD, UNKNOWN, VOCABULARY, decode, encode
from rlvr_bench.zoo.train import LOG, Progress, train, train_recipe

MINIATURE = Recipe(
    name="miniature",
    summary="A few steps.",
    phases=(
        Supervised(name="clean", steps=25, muon_lr=0.02, adam_lr=4e-3, batch=16, warmup=5),
        Supervised(name="noisy", steps=5, muon_lr=0.005, adam_lr=1e-3, batch=16, warmup=1, noise=Noise(mislabel=1.0)),
    ),
)


def generated(seed: int, count: int) -> list[countdown.Puzzle]:
    rng = random.Random(seed)
    sizes = itertools.cycle(size for tier in countdown.TIERS.values() for size in tier)
    return [countdown.generate(rng, next(sizes))[0] for _ in range(count)]


def prompt_ids(puzzle: countdown.Puzzle) -> list[int]:
    return [BOS, *encode(countdown.prompt_text(puzzle))]


@pytest.fixture(scope="module")
def base() -> TinyLlama:
    return load(checkpoints.checkpoint_path("base")).eval()


@pytest.fixture(scope="module")
def miniature(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_recipe(MINIATURE, tmp_path_factory.mktemp("zoo") / "miniature", seed=3)


# --- tokenizer


def test_every_number_is_one_token_and_special_tokens_come_first() -> None:
    assert encode("12,10>37:") == [VOCABULARY.index(piece) for piece in ("12", ",", "10", ">", "37", ":")]
    assert (PAD, BOS, EOS, UNKNOWN) == (0, 1, 2, 3)
    assert len(set(VOCABULARY)) == len(VOCABULARY) == 113


@pytest.mark.parametrize("text", ["4*13=52;52-15=37", "07,100>1234567:", "", "0/0=00"])
def test_text_over_the_alphabet_survives_a_round_trip(text: str) -> None:
    assert decode(encode(text)) == text


def test_anything_else_is_unknown_and_decodes_to_nothing() -> None:
    assert encode("1\nx٣2") == [encode("1")[0], UNKNOWN, UNKNOWN, UNKNOWN, encode("2")[0]]
    assert decode([PAD, BOS, UNKNOWN, EOS]) == ""


@pytest.mark.parametrize("text", ["12,10,4>37,34:4*13=52", "07,100>1234567:", "1\nx٣2", ""])
def test_the_exported_tokenizer_reads_as_ours_does(text: str) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(checkpoints.checkpoint_path("base"))
    ids = tokenizer(text).input_ids
    assert ids == [BOS, *encode(text)]
    assert tokenizer.decode(ids, skip_special_tokens=True) == decode(encode(text))
    assert (tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id) == (PAD, BOS, EOS)


# --- demonstrations


def test_no_demonstration_is_a_held_out_problem() -> None:
    held_out = held_out_keys()
    assert len(held_out) == 300
    drawn = itertools.islice(demonstrations(random.Random(0), Noise(mislabel=0.5), held_out), 20_000)
    assert not any(canonical_key(puzzle.numbers, puzzle.targets) in held_out for puzzle, _ in drawn)


@pytest.mark.parametrize("mislabel", [0.0, 1.0])
def test_planted_keys_are_filtered_out_even_with_targets_swapped(mislabel: float) -> None:
    noise = Noise(mislabel=mislabel)
    before = list(itertools.islice(demonstrations(random.Random(1), noise, frozenset()), 200))
    planted = frozenset(canonical_key(p.numbers[::-1], p.targets[::-1]) for p, _ in before[::10])
    after = list(itertools.islice(demonstrations(random.Random(1), noise, planted), 200))
    assert all(canonical_key(p.numbers, p.targets) not in planted for p, _ in after)
    assert [d for d in before if canonical_key(d[0].numbers, d[0].targets) not in planted] == after[
        : 200 - len(planted)
    ]


def test_a_mislabelled_demonstration_does_not_show_the_steps_of_an_excluded_problem() -> None:
    clean = list(itertools.islice(demonstrations(random.Random(2), Noise(), frozenset()), 50))
    excluded = frozenset(canonical_key(p.numbers, p.targets) for p, _ in clean)
    shown = itertools.islice(demonstrations(random.Random(2), Noise(mislabel=1.0), excluded), 2000)
    solved = (countdown.canonical_key(p.numbers, _left(p.numbers, steps)) for p, steps in shown)
    assert not excluded.intersection(solved)


def _left(numbers: tuple[int, ...], steps: tuple[countdown.Step, ...]) -> list[int]:
    pool = list(numbers)
    for step in steps:
        pool.remove(step.left)
        pool.remove(step.right)
        pool.append(step.result)
    return pool


@pytest.mark.parametrize(
    ("noise", "reasons"),
    [
        (Noise(), {"ok"}),
        (Noise(mislabel=1.0), {"half", "wrong", "ok"}),
        (Noise(slip=1.0), {"arithmetic"}),
        (Noise(early_stop=1.0), {"unused"}),
    ],
)
def test_each_noise_makes_its_own_mistake(noise: Noise, reasons: set[str]) -> None:
    drawn = list(itertools.islice(demonstrations(random.Random(4), noise, frozenset()), 300))
    found = [countdown.check(p.numbers, p.targets, countdown.response_text(steps)) for p, steps in drawn]
    assert set(found) <= reasons
    assert noise == Noise() or found.count("ok") < 5


def test_noise_comes_at_its_rate() -> None:
    drawn = itertools.islice(demonstrations(random.Random(5), Noise(early_stop=0.25), frozenset()), 4000)
    stopped = sum(len(steps) < len(puzzle.numbers) - 2 for puzzle, steps in drawn)
    assert abs(stopped / 4000 - 0.25) < 4 * math.sqrt(0.25 * 0.75 / 4000)


def test_labels_are_the_response_alone() -> None:
    inputs, labels = next(batches(random.Random(0), examples(random.Random(0), Noise(), frozenset()), 8))
    for row, wanted in zip(inputs.tolist(), labels.tolist(), strict=True):
        response = [label for label in wanted if label != IGNORED]
        first = wanted.index(response[0])
        assert response[-1] == EOS
        assert row[first] == encode(":")[0]
        assert row[first + 1 : first + len(response)] == response[:-1]


# --- model and sampler


def test_logits_agree_with_transformers(base: TinyLlama) -> None:
    from transformers import LlamaForCausalLM

    folder = checkpoints.checkpoint_path("base")
    reference = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    ids = torch.randint(4, len(VOCABULARY), (4, 60), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(base(ids), reference(ids).logits, atol=1e-4, rtol=0)


def test_no_token_sees_a_later_one(base: TinyLlama) -> None:
    ids = torch.randint(4, len(VOCABULARY), (1, 20), generator=torch.Generator().manual_seed(1))
    changed = ids.clone()
    changed[0, 12] = BOS
    with torch.no_grad():
        first, second = base(ids), base(changed)
    torch.testing.assert_close(first[:, :12], second[:, :12])
    assert (first[:, 12:] - second[:, 12:]).abs().amax() > 0.1


@pytest.fixture(scope="module")
def drawn(base: TinyLlama) -> tuple[list[list[int]], Samples]:
    prompts = [prompt_ids(puzzle) for puzzle in generated(7, 8)]
    return prompts, sample(base, prompts, Sampling(n=8), torch.Generator().manual_seed(0))


def test_sampled_statistics_are_those_of_a_full_forward_pass(
    base: TinyLlama, drawn: tuple[list[list[int]], Samples]
) -> None:
    prompts, samples = drawn
    for row, length in enumerate(samples.lengths.tolist()):
        prompt = prompts[row // 8]
        response = samples.ids[row, :length]
        with torch.no_grad():
            logits = base(torch.cat((torch.tensor(prompt), response))[None])[0, len(prompt) - 1 : -1]
        logprobs = logits.log_softmax(-1)
        expected = logprobs.gather(1, response[:, None]).squeeze(1)
        torch.testing.assert_close(samples.logprob[row, :length], expected, atol=1e-4, rtol=0)
        entropy = torch.special.entr(logits.softmax(-1)).sum(-1)
        torch.testing.assert_close(samples.entropy[row, :length], entropy, atol=1e-4, rtol=0)
        in_nucleus = samples.nucleus[row, :length].tolist()
        for position, size in enumerate(int(size) for size in in_nucleus):
            mass = logprobs[position].exp().sort(descending=True).values
            assert mass[:size].sum() > 0.95 - 1e-4
            assert mass[: size - 1].sum() < 0.95 + 1e-4


def test_nothing_follows_the_end(drawn: tuple[list[list[int]], Samples]) -> None:
    _, samples = drawn
    beyond = torch.arange(samples.ids.shape[1])[None] >= samples.lengths[:, None]
    assert bool((samples.ids[beyond] == PAD).all())
    assert not samples.logprob[beyond].any()
    assert bool(samples.finished().any())
    assert samples.texts()[0] == decode(samples.ids[0].tolist())


def test_sampling_is_reproducible_and_seeds_differ(base: TinyLlama) -> None:
    prompts = [prompt_ids(puzzle) for puzzle in generated(8, 4)]
    first, again, other = (
        sample(base, prompts, Sampling(n=4), torch.Generator().manual_seed(seed)).ids for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_sampling_follows_the_model_s_distribution(base: TinyLlama) -> None:
    prompt = prompt_ids(generated(9, 1)[0])
    rolls = 20_000
    first = sample(base, [prompt], Sampling(n=rolls, max_tokens=1), torch.Generator().manual_seed(0)).ids[:, 0]
    with torch.no_grad():
        expected = base(torch.tensor([prompt]))[0, -1].softmax(-1)
    observed = torch.bincount(first, minlength=len(VOCABULARY)) / rolls
    assert bool(((observed - expected).abs() < 5 * (expected / rolls).sqrt() + 1e-3).all())


def test_a_low_temperature_is_greedy_and_a_cut_response_is_unfinished(base: TinyLlama) -> None:
    prompts = [prompt_ids(puzzle) for puzzle in generated(10, 4)]
    cold = sample(base, prompts, Sampling(n=2, max_tokens=3, temperature=1e-4), torch.Generator().manual_seed(0))
    with torch.no_grad():
        greedy = [int(base(torch.tensor([prompt]))[0, -1].argmax()) for prompt in prompts]
    assert cold.ids[::2, 0].tolist() == greedy
    assert not cold.finished().any()
    assert cold.lengths.tolist() == [3] * 8


def test_fresh_weights_come_from_the_generator() -> None:
    first, again, other = (
        TinyLlama(Shape(layers=1), torch.Generator().manual_seed(seed)).state_dict() for seed in (0, 0, 1)
    )
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["model.embed_tokens.weight"], other["model.embed_tokens.weight"])


# --- training


def test_a_miniature_training_learns_and_logs(miniature: Path) -> None:
    log = [json.loads(line) for line in (miniature / LOG).read_text().splitlines()]
    assert [(line["phase"], line["step"]) for line in log] == [("clean", 25), ("noisy", 30)]
    assert log[-1]["loss"] < math.log(len(VOCABULARY)) - 1
    card = checkpoints.read_card(miniature)
    assert card.training.steps == 30
    assert card.training.seed == 3
    assert card.training.cpu_s > 0
    assert card.recipe == json.loads(json.dumps(dataclasses.asdict(MINIATURE)))
    assert card.measured is None
    assert sorted(path.name for path in miniature.parent.iterdir()) == ["miniature"]


def test_the_loss_falls_and_progress_is_told(tmp_path: Path) -> None:
    told: list[Progress] = []
    train_recipe(MINIATURE, tmp_path / "again", seed=3, progress=told.append)
    assert [progress.step for progress in told] == list(range(1, 31))
    assert {progress.steps for progress in told} == {30}
    clean = [progress.loss for progress in told if progress.phase == "clean"]
    assert sum(clean[-5:]) / 5 < sum(clean[:5]) / 5 - 1


def test_the_same_seed_gives_the_same_weights(miniature: Path, tmp_path: Path) -> None:
    def weights(folder: Path) -> bytes:
        return (folder / "model.safetensors").read_bytes()

    again = train_recipe(MINIATURE, tmp_path / "again", seed=3)
    other = train_recipe(MINIATURE, tmp_path / "other", seed=4)
    assert weights(again) == weights(miniature)
    assert weights(other) != weights(miniature)


def test_an_interrupted_training_leaves_the_old_checkpoint(tmp_path: Path) -> None:
    out = tmp_path / "kept"
    out.mkdir()
    (out / "old").write_text("whole")

    def interrupt(progress: Progress) -> None:
        if progress.step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_recipe(MINIATURE, out, progress=interrupt)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    assert (out / "old").read_text() == "whole"


def test_a_finished_training_replaces_the_old_checkpoint(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "new"
    out.mkdir(parents=True)
    (out / "old").write_text("whole")
    quick = dataclasses.replace(MINIATURE, phases=(dataclasses.replace(MINIATURE.phases[1], steps=1),))
    assert train_recipe(quick, out) == out
    assert not (out / "old").exists()
    assert (out / "model.safetensors").exists()
    assert [path.name for path in out.parent.iterdir()] == ["new"]


def test_a_failing_swap_brings_the_old_checkpoint_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "kept"
    out.mkdir()
    (out / "old").write_text("whole")
    rename = Path.rename

    def refuse_new(self: Path, target: str | Path) -> Path:
        if ".partial-" in self.name:
            raise OSError("no space left on device")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse_new)
    quick = dataclasses.replace(MINIATURE, phases=(dataclasses.replace(MINIATURE.phases[1], steps=1),))
    with pytest.raises(StorageError, match="no space left"):
        train_recipe(quick, out)
    assert (out / "old").read_text() == "whole"
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_an_output_folder_that_cannot_be_made_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="Choose another folder"):
        train("base", tmp_path / "file" / "below")


def test_a_recipe_can_start_from_a_shipped_checkpoint(base: TinyLlama, tmp_path: Path) -> None:
    still = Supervised(name="still", steps=1, muon_lr=0.0, adam_lr=0.0, batch=4)
    out = train_recipe(Recipe(name="copy", summary="", phases=(still,), start="base"), tmp_path / "copy")
    copied = load(out).state_dict()
    assert all(torch.equal(copied[name], value) for name, value in base.state_dict().items())


def test_unknown_recipes_and_checkpoints_list_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match=r"'bass'.*Did you mean 'base'"):
        train("bass", tmp_path / "x")
    with pytest.raises(UnknownName, match="base"):
        recipe("")
    with pytest.raises(UnknownName, match="Known: base"):
        checkpoints.checkpoint_path("../zoo/checkpoints/base")


def test_the_schedule_rises_stays_and_falls() -> None:
    rates = [schedule(step, 100, 10) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9:51] == [1.0] * 42
    assert rates == sorted(rates[:10]) + rates[10:51] + sorted(rates[51:], reverse=True)
    assert rates[-1] == pytest.approx(0.04)


# --- export


def test_export_refuses_what_transformers_would_read_differently(miniature: Path, tmp_path: Path) -> None:
    model = load(miniature)
    export(model, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["rope_parameters"]["rope_theta"] = 50.0
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="logits differ"):
        verify_export(tmp_path)


def test_export_refuses_a_tokenizer_that_reads_differently(miniature: Path, tmp_path: Path) -> None:
    export(load(miniature), tmp_path)
    path = tmp_path / "tokenizer.json"
    path.write_text(path.read_text().replace('"[1-9][0-9]|[0-9]|[^0-9]"', '"[0-9]|[^0-9]"'))
    with pytest.raises(ModelError, match="tokenizer reads"):
        verify_export(tmp_path)


def test_a_broken_checkpoint_is_a_model_error(miniature: Path, tmp_path: Path) -> None:
    export(load(miniature), tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"torn")
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(ModelError, match="not a readable zoo checkpoint"):
            load(folder)
    with pytest.raises(ModelError, match="not a readable card"):
        checkpoints.read_card(tmp_path)


# --- evaluation and the shipped checkpoint


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
    # Four standard deviations of a mean over 20 problems whose rates spread by about 0.15.
    assert abs(rate - claimed) < 4 * 0.15 / math.sqrt(20)
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
    assert (card.measured.n_problems, card.measured.n_samples) == (300, 256)
    assert 0.10 <= card.measured.pass_at_k["1"].value <= 0.20
    assert card.measured.pass_at_k["256"].value > 0.85
    for tier in countdown.TIERS:
        assert card.measured.tiers[tier]["1"].low > card.guess.tiers[tier]["1"].high
    assert card.recipe == json.loads(json.dumps(dataclasses.asdict(RECIPES["base"])))
    assert (folder / "README.md").read_text() == publish.render_card(card)
    assert sum(path.stat().st_size for path in folder.iterdir()) < 1.4e6


def test_measuring_fills_the_card(miniature: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    problems = countdown.held_out(3)
    monkeypatch.setattr(countdown, "held_out", lambda: problems)
    card = publish.measure_checkpoint(miniature, n=4)
    assert checkpoints.read_card(miniature) == card
    assert card.measured is not None
    assert card.measured.n_problems == 3
    assert set(card.measured.pass_at_k) == {"1", "4"}
    assert "# zoo:miniature" in (miniature / "README.md").read_text()
    (miniature / "README.md").unlink()


def test_an_unmeasured_card_is_not_rendered(tmp_path: Path) -> None:
    quick = dataclasses.replace(MINIATURE, phases=(dataclasses.replace(MINIATURE.phases[1], steps=1),))
    card = checkpoints.read_card(train_recipe(quick, tmp_path / "quick"))
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


def test_listing_needs_no_torch() -> None:
    assert "base" in checkpoints.list_checkpoints()
    assert "held-out problems" in checkpoints.headline("base")
    code = (
        "import sys; from rlvr_bench import countdown; from rlvr_bench.zoo import checkpoints; "
        "checkpoints.headline('base'); countdown.held_out(); "
        "sys.exit(','.join({'torch', 'transformers', 'numpy', 'safetensors'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
