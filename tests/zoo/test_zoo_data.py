from __future__ import annotations

import itertools
import math
import random

import pytest

from rlvr_bench import countdown
from rlvr_bench.countdown import canonical_key
from rlvr_bench.zoo import checkpoints
from rlvr_bench.zoo.demonstrations import demonstrations, examples, held_out_keys
from rlvr_bench.zoo.learner import IGNORED, batches
from rlvr_bench.zoo.recipes import Noise
from rlvr_bench.zoo.tokenizer import BOS, EOS, PAD, UNKNOWN, VOCABULARY, decode, encode


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
    results = [countdown.check(p.numbers, p.targets, countdown.response_text(steps)) for p, steps in drawn]
    assert set(results) <= reasons
    assert noise == Noise() or results.count("ok") < 5


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
