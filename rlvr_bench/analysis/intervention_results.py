"""The records of interventions: their design, and the content of ``result.json``."""

from __future__ import annotations

import msgspec

from rlvr_bench.options import Swap

__all__ = ["INTERVENTIONS_SCHEMA", "Effect", "InterventionDesign", "Interventions"]

INTERVENTIONS_SCHEMA = 1


class Effect(msgspec.Struct, frozen=True, kw_only=True):
    """The effect of swapping on accuracy in one stratum: ``swapped`` minus ``kept``, so that harm is negative.

    ``levels`` is empty for all sites together. The interval is for other problems of this kind (clustered by problem);
    ``p_holm`` is corrected over the finest strata and None for coarser ones. ``kept_probability`` and
    ``swapped_probability`` are the mean probabilities of the two tokens under the model.
    """

    levels: dict[str, str]
    n_sites: int
    n_problems: int
    kept: float | None = None
    swapped: float | None = None
    effect: float | None = None
    low: float | None = None
    high: float | None = None
    level: float = 0.95
    p_value: float | None = None
    p_holm: float | None = None
    kept_probability: float | None = None
    swapped_probability: float | None = None
    method: str = "symmetric studentized bootstrap, clustered by problem"


class InterventionDesign(msgspec.Struct, frozen=True, kw_only=True):
    """What decides every draw of a set of interventions. It must be equal before draws are added."""

    schema: int
    protocol: str
    strata: tuple[str, ...]
    swap: Swap
    sites: int
    repeats: int
    rollouts: int
    seed: int
    task: str
    task_version: str
    weights: str
    sampling: dict[str, object]
    responses_sha256: str
    engine: str
    dtype: str
    verifier: str
    verifier_version: str
    verifier_options: dict[str, object]


class Interventions(msgspec.Struct, frozen=True, kw_only=True):
    """The result: ``n_sites`` sites were swapped; ``no_alternative`` further ones had no token to swap in."""

    design: InterventionDesign
    model: str
    n_sites: int
    no_alternative: int
    draws: int
    undecided: int
    effects: tuple[Effect, ...]
