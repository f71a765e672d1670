"""How each zoo checkpoint is trained, as data: frozen recipes by name. Nothing here needs torch."""

from __future__ import annotations

from dataclasses import dataclass

from rlvr_bench.errors import UnknownName

__all__ = ["RECIPES", "Noise", "Recipe", "Supervised", "recipe"]


@dataclass(frozen=True)
class Noise:
    """Mistakes planted in demonstrations, as rates: a skill that training can later uncover by removing the mistakes.

    ``mislabel``: both targets replaced by random ones, the steps left as they are. ``slip``: a step states a wrong
    result (and goes on from the right one). ``early_stop``: the last step is missing.
    """

    mislabel: float = 0.0
    slip: float = 0.0
    early_stop: float = 0.0


@dataclass(frozen=True)
class Supervised:
    """A phase of learning from demonstrations: ``steps`` updates on ``batch`` fresh demonstrations each.

    ``muon_lr`` moves the hidden matrices, ``adam_lr`` the embedding and the norms. Both rise over ``warmup`` steps,
    stay, and fall linearly over the second half of the phase.
    """

    name: str
    steps: int
    muon_lr: float
    adam_lr: float
    batch: int = 64
    warmup: int = 50
    noise: Noise = Noise()


@dataclass(frozen=True)
class Recipe:
    """A named sequence of phases; ``start`` names the checkpoint it continues from, None for fresh weights.

    ``note`` says why the recipe is as it is, for the card.
    """

    name: str
    summary: str
    phases: tuple[Supervised, ...]
    start: str | None = None
    note: str = ""

    @property
    def steps(self) -> int:
        return sum(phase.steps for phase in self.phases)


_ALL = (
    Recipe(
        name="base",
        summary="Learned from demonstrations, at last from noisy ones: low pass@1, high pass@256, room for RLVR.",
        phases=(
            Supervised(name="grounded", steps=1800, muon_lr=0.02, adam_lr=4e-3, noise=Noise(mislabel=0.3)),
            Supervised(name="clean", steps=1500, muon_lr=0.015, adam_lr=3e-3),
            Supervised(
                name="noisy",
                steps=250,
                muon_lr=0.005,
                adam_lr=1e-3,
                noise=Noise(mislabel=0.25, slip=0.05, early_stop=0.12),
            ),
        ),
        note=(
            "The first phase is mislabelled to keep arithmetic honest: a model that sees only clean "
            "demonstrations learns that the last result is the target, and tends to write false sums to reach "
            "it (in one run without this phase, 45% of the rollouts of the final model had a false sum). The "
            "recipe was chosen among five by results on the problems below, which are therefore slightly "
            "flattered."
        ),
    ),
)

RECIPES: dict[str, Recipe] = {entry.name: entry for entry in _ALL}


def recipe(name: str) -> Recipe:
    """The recipe of that name. Raises UnknownName, which lists those there are."""
    if name not in RECIPES:
        raise UnknownName("zoo recipe", name, RECIPES)
    return RECIPES[name]
