"""Make a shipped checkpoint: train it, measure it and its control on the held-out problems, and write its card.

``python -c "from rlvr_bench.zoo.publish import publish; publish('base')"`` rebuilds ``zoo:base`` and its numbers.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from rlvr_bench import countdown
from rlvr_bench.zoo.checkpoints import CARD, Card, Interval, Measured, checkpoints_directory, read_card
from rlvr_bench.zoo.evaluate import evaluate, evaluate_guess, measure
from rlvr_bench.zoo.export import load
from rlvr_bench.zoo.train import LOG, ProgressCallback, single_thread, train

__all__ = ["measure_checkpoint", "publish", "render_card"]


def publish(name: str, seed: int = 0, progress: ProgressCallback | None = None) -> Path:
    """Train the recipe into the package's own folder of checkpoints, then measure it; returns its folder."""
    folder = train(name, checkpoints_directory() / name, seed, progress)
    measure_checkpoint(folder)
    return folder


def measure_checkpoint(
    folder: Path, n: int = 256, seed: int = 0, progress: Callable[[int, int], None] | None = None
) -> Card:
    """Draw n rollouts of each held-out problem and as many guesses; rewrite ``card.json`` and ``README.md``.

    Temperature 1, top_p 1. Raises ModelError where the folder holds no checkpoint.
    """
    problems = countdown.held_out()
    with single_thread():
        measured = measure(evaluate(load(folder), problems, n, seed, progress=progress))
    guess = measure(evaluate_guess(problems, n, seed))
    card = msgspec.structs.replace(read_card(folder), measured=measured, guess=guess)
    (folder / CARD).write_bytes(msgspec.json.format(msgspec.json.encode(card), indent=2) + b"\n")
    (folder / "README.md").write_text(render_card(card))
    return card


def render_card(card: Card) -> str:
    """The model card in Markdown; every number in it comes from the card. Raises ValueError for an unmeasured one."""
    if card.measured is None or card.guess is None:
        raise ValueError(f"{card.name} was not measured yet")
    sections = (
        _introduction(card, card.measured),
        _training(card),
        _results(card.name, card.measured, card.guess),
        _behaviour(card.measured),
        _limits(card),
    )
    return "\n".join(sections)


def _introduction(card: Card, measured: Measured) -> str:
    return f"""# zoo:{card.name}

{card.summary}

A Llama with {card.parameters:,} parameters (3 layers of width 128, 4 query heads, 1 key-value head, tied embeddings,
bfloat16), trained on the puzzle "double countdown" and on nothing else. It exists to try out methods and measurements
of exploration on a laptop, and is in the format that transformers and vLLM read. With the package's own sampler, this
card's rollouts took {_minutes(measured.cpu_s)} of one CPU core.

    prompt    12,10,4,12,13,15>37,34:
    response  4*13=52;52-15=37;10+12=22;22+12=34

A response is right when its steps use every number once, each step is exact and stays within 1 to 99, and the two
numbers left are the two targets. A tier says how many numbers made the targets: easy 2 + 2, medium 2 + 3, hard 3 + 3.
"""


def _training(card: Card) -> str:
    phases = "\n".join(_phase_line(phase) for phase in card.recipe["phases"])
    spent = card.training
    note = f"\n{textwrap.fill(card.recipe['note'], 120)}\n" if card.recipe["note"] else ""
    start = f"`zoo:{card.recipe['start']}`" if card.recipe["start"] else "random weights"
    return f"""## Training

Recipe `{card.name}` in `rlvr_bench/zoo/recipes.py`, seed {spent.seed}, from {start}:

{phases}

Demonstrations are made on the fly by the generator in `rlvr_bench/countdown.py`, in the same mix of sizes as the
held-out problems; none has the numbers and targets (in either order) of a held-out problem. Only the response is
learned. Muon moves the hidden matrices, AdamW the rest. Noise is meant to be removable: `mislabel` replaces both
targets by random ones, `slip` states a wrong result in a step, `early_stop` leaves the last step out. It lowers
pass@1 while the skill beneath remains, which is the room that reinforcement learning can fill.
{note}
Measured: {spent.cpu_s:.0f} CPU seconds ({_minutes(spent.cpu_s)}), {spent.wall_s:.0f} s of wall time on
{spent.threads} thread of a shared machine, peak memory {spent.peak_memory_bytes / 2**20:.0f} MiB, torch {spent.torch}.
The loss is in `{LOG}`. Rebuild with
`python -c "from rlvr_bench.zoo.publish import publish; publish('{card.name}')"`.
"""


def _phase_line(phase: dict[str, Any]) -> str:
    noise = ", ".join(f"{kind} {rate:.0%}" for kind, rate in phase["noise"].items() if rate) or "none"
    return (
        f"* `{phase['name']}`: {phase['steps']} steps of {phase['batch']} demonstrations, "
        f"learning rate {phase['muon_lr']:g} (Muon) and {phase['adam_lr']:g} (AdamW); noise: {noise}"
    )


def _results(name: str, measured: Measured, guess: Measured) -> str:
    overall = "\n".join(
        f"| pass@{k} | {_show(measured.pass_at_k[k])} | {_show(guess.pass_at_k[k])} |" for k in measured.pass_at_k
    )
    tiers = "\n".join(
        f"| {tier} | pass@{k} | {_show(measured.tiers[tier][k])} | {_show(guess.tiers[tier][k])} |"
        for tier in measured.tiers
        for k in measured.tiers[tier]
    )
    return f"""## Results

{measured.n_problems} held-out problems, n = {measured.n_samples} rollouts each, temperature 1, top_p 1; unbiased pass@k.
Intervals are 95 %, over problems (normal; Wilson's where all problems agree); they hold the sampling of problems and of
rollouts, not of training seeds (one seed). The guesser makes random legal steps; it is told the sizes of the groups and
never sees the targets.

| all problems | zoo:{name} | guessing |
|---|---|---|
{overall}

Without a correct rollout: {measured.unsolved} of {measured.n_problems} problems (guessing: {guess.unsolved}).

| tier | budget | zoo:{name} | guessing |
|---|---|---|---|
{tiers}
"""


def _behaviour(measured: Measured) -> str:
    reasons = ", ".join(f"{reason} {share:.1%}" for reason, share in measured.reasons.items())
    return f"""## Behaviour

Verdicts over all rollouts: {reasons}.
Distinct responses: {measured.distinct:.1%} of rollouts. Per token: entropy {measured.entropy_mean} nats,
{measured.branching_mean} tokens in the 0.95 nucleus. Mean response: {measured.tokens_mean} tokens.
"""


def _limits(card: Card) -> str:
    return f"""## Limits

* It knows numbers below 100 and the symbols `+-*/=,;>:`, at most 128 tokens, no language; other text becomes `<unk>`.
* Easy problems can be guessed within 256 rollouts, so pass@256 on that tier says little; compare with the guesser.
* One training seed. Retraining on another kind of CPU gives other weights of about the same skill.
* Weights (SHA-256): `{card.weights_sha256}`
"""


def _show(interval: Interval) -> str:
    return f"{interval.value:.1%} [{interval.low:.1%}, {interval.high:.1%}]"


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.1f} minutes"
