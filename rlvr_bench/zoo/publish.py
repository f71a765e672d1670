"""Copy a trained checkpoint into the shipped ones, and write its model card from the measurements."""

from __future__ import annotations

import shutil
import textwrap
from pathlib import Path
from typing import Any

import msgspec

from rlvr_bench.errors import ModelError
from rlvr_bench.json_format import format_json
from rlvr_bench.zoo.checkpoints import (
    CARD,
    DELTA,
    Card,
    Interval,
    Measured,
    checkpoints_directory,
    read_card,
    shipped_folder,
    step_folder,
)
from rlvr_bench.zoo.train import LOG, whole_or_nothing

__all__ = ["publish", "render_card", "write_measured"]


def publish(trained: Path) -> Path:
    """Copy the files that ship from the checkpoint ``trained`` into the package; returns the folder in the package.

    A checkpoint that started from another one ships as the difference, and so do its kept steps. Raises ModelError where
    ``trained`` holds no checkpoint of the zoo.
    """
    card = read_card(trained)
    target = checkpoints_directory() / card.name
    wanted = {name: name for name in (CARD, LOG, DELTA)}
    wanted |= {f"{step_folder(int(step))}/{DELTA}": f"{step_folder(int(step))}.safetensors" for step in card.steps}
    if card.recipe["start"] is None:
        wanted = {path.name: path.name for path in trained.iterdir()}
    missing = [name for name in wanted if not (trained / name).is_file()]
    if missing:
        raise ModelError(f"{trained} is not a whole checkpoint: it lacks {', '.join(missing)}. Train it again.")
    with whole_or_nothing(target) as folder:
        for name, shipped in wanted.items():
            shutil.copyfile(trained / name, folder / shipped)
    return target


def write_measured(name: str, measured: Measured, guess: Measured) -> Card:
    """Write the measurements of a shipped checkpoint, and of guessing, to its ``card.json`` and ``README.md``."""
    folder = shipped_folder(name)
    card = msgspec.structs.replace(read_card(folder), measured=measured, guess=guess)
    (folder / CARD).write_bytes(format_json(card, indent=2))
    (folder / "README.md").write_text(render_card(card))
    return card


def render_card(card: Card) -> str:
    """The model card in Markdown; every number comes from the card. Raises ValueError for a card without measurements."""
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
of exploration on a laptop, and `--model zoo:{card.name}` gives it in the format that transformers and vLLM read.

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
    kept = ", ".join(f"`zoo:{card.name}@{step}`" for step in sorted(card.steps, key=int))
    steps = f"\nSteps on the way that ship too: {kept}.\n" if kept else ""
    return f"""## Training

Recipe `{card.name}` in `rlvr_bench/zoo/recipes.py`, seed {spent.seed}, from {start}:

{phases}

Puzzles are made on the fly by the generator in `rlvr_bench/countdown.py`, in the same mix of sizes as the held-out
problems; none has the numbers and targets (in either order) of a held-out problem. Only the response is learned.
{note}{steps}
Measured: {spent.cpu_s:.0f} CPU seconds ({_minutes(spent.cpu_s)}), {spent.wall_s:.0f} s of wall time on
{spent.threads} thread of a shared machine, peak memory {spent.peak_memory_bytes / 2**20:.0f} MiB, torch {spent.torch}.
The log is in `{LOG}`. Train it again with `rlvr-bench zoo train {card.name}`.
"""


def _phase_line(phase: dict[str, Any]) -> str:
    if "learning" in phase:
        wrong = f", {phase['wrong_share']:.0%} wrong ones mixed in" if phase["wrong_share"] else ""
        return (
            f"* `{phase['name']}`: {phase['group']} rollouts of each of {phase['prompts']} prompts, at most "
            f"{phase['per_problem']} distinct correct ones of a problem kept (strategy {phase['strategy']}){wrong}\n"
            + _phase_line(phase["learning"] | {"noise": None})
        )
    if "minibatches" in phase:
        return _reinforcement_line(phase)
    noise = phase["noise"] or {}
    planted = ", ".join(f"{kind} {rate:.0%}" for kind, rate in noise.items() if rate)
    shown = f"; planted noise: {planted}" if planted else ""
    source = "rollouts of that set" if phase["noise"] is None else "demonstrations"
    return (
        f"* `{phase['name']}`: {phase['steps']} updates on {phase['batch']} {source}, "
        f"learning rate {phase['muon_lr']:g} (Muon) and {phase['adam_lr']:g} (AdamW){shown}"
    )


def _reinforcement_line(phase: dict[str, Any]) -> str:
    rules = {"group": "group-normalised", "pass_at_k": f"of pass@{phase['k']}"}
    shaped = f"group-normalised, shaped by {phase['advantage']} (alpha {phase['alpha']:g})"
    parts = [
        f"advantages {rules.get(phase['advantage'], shaped)}",
        f"clip {phase['clip_low']:g} / {phase['clip_high']:g}"
        if not phase["kl_covariance"]
        else f"KL-Cov on {phase['kl_covariance']:.0%} of the tokens, weight {phase['kl_covariance_weight']:g}",
    ]
    if phase["entropy_bonus"]:
        parts.append(f"entropy bonus {phase['entropy_bonus']:g}")
    if phase["kl_reference"]:
        parts.append(f"KL to the start {phase['kl_reference']:g}")
    return (
        f"* `{phase['name']}`: {phase['steps']} steps of {phase['prompts']} fresh prompts with {phase['group']} rollouts "
        f"each, {phase['minibatches']} updates a step, AdamW at {phase['lr']:g}; {', '.join(parts)}"
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
Intervals are 95 %, over problems; they hold the sampling of problems and of rollouts, not of training seeds (one seed).
The guesser makes random legal steps; it knows the sizes of the groups and never sees the targets.

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
