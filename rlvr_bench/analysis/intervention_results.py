"""What interventions say, as plain records: how tokens were swapped, and ``result.json``."""

from __future__ import annotations

import msgspec

from rlvr_bench.options import Swap

__all__ = ["INTERVENTIONS_SCHEMA", "Effect", "InterventionDesign", "Interventions"]

INTERVENTIONS_SCHEMA = 1


class Effect(msgspec.Struct, frozen=True, kw_only=True):
    """What swapping does to accuracy in one stratum: ``effect`` is ``swapped`` minus ``kept``, so harm is negative.

    ``levels`` is empty for all sites together. The interval is for other problems of this kind (clustered by problem);
    ``p_holm`` is corrected over the finest strata and None for coarser ones. ``kept_probability`` and
    ``swapped_probability`` are the means of what the model gave the two tokens.
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
    """What decides every draw of a set of interventions; compared before any is added."""

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
    """The result: the design, ``n_sites`` swapped (``no_alternative`` were chosen and had no token to swap in), effects."""

    design: InterventionDesign
    model: str
    n_sites: int
    no_alternative: int
    draws: int
    undecided: int
    effects: tuple[Effect, ...]
