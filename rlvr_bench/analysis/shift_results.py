"""The records of a rescoring, which are stored in ``rescore.json``."""

from __future__ import annotations

import msgspec

from rlvr_bench.records import Estimate

__all__ = ["RESCORE_SCHEMA", "Checkpoint", "Perplexities", "Rescoring", "Stratum"]

RESCORE_SCHEMA = 1


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """A model: the name that the user gave, and its weights."""

    model: str
    weights: str


class Perplexities(msgspec.Struct, frozen=True, kw_only=True):
    """The four perplexities of arXiv 2504.13837, section 4.1; ``own`` drew the run, ``other`` rescored it.

    Rescore the RL model's run under the base model, and they are PPL_RL(Y_RL), PPL_base(Y_RL), PPL_base(Y_base) and
    PPL_base(Y_GT). ``other_on_other`` is of a run of the other checkpoint next to this run; ``other_on_reference`` needs a
    task with reference solutions. Means over rollouts, then problems; None where unknown.
    """

    own_on_own: Estimate
    other_on_own: Estimate
    other_on_other: Estimate | None = None
    other_on_reference: Estimate | None = None


class Stratum(msgspec.Struct, frozen=True, kw_only=True):
    """A class of tokens, and how their probability moved. Intervals are clustered by problem.

    ``by``: how tokens are classed: ``entropy`` (decile of token entropy under the own checkpoint over the whole run),
    ``position`` (tenth of the response), ``perplexity`` (fifth of the run's rollouts by own perplexity) or ``category``.
    ``bin`` names the class, ``low`` and ``high`` the extreme values in it (nats, relative position, perplexity; None for a
    category). ``group`` is ``all``, ``correct`` or ``wrong``. ``share`` is its share of the group's tokens and
    ``share_of_moves`` of the group's tokens that moved. The rest are token means within a problem, then means over problems:
    ``moved`` the share that moved by more than the threshold, ``log_ratio`` the mean of log other - log own (nats), the
    entropies in nats and the branching factors in tokens, under both checkpoints.
    """

    by: str
    bin: str
    group: str
    low: float | None = None
    high: float | None = None
    n_tokens: int
    n_moved: int
    share: Estimate
    share_of_moves: Estimate
    moved: Estimate
    log_ratio: Estimate
    own_entropy: Estimate
    other_entropy: Estimate
    own_branching: Estimate
    other_branching: Estimate


class Rescoring(msgspec.Struct, frozen=True, kw_only=True):
    """One run under another checkpoint.

    ``estimates``, each over all rollouts and over correct and wrong ones (``group``): ``kl_k1``, ``kl_k3`` and, where
    ``divergence`` is ``exact``, ``kl`` and ``kl_reverse``, in nats per token; ``kl_per_response`` in nats per response
    (exact where possible, else k1); ``moved_share``, the share of tokens whose probability moved by more than
    ``threshold``; ``own_perplexity`` and ``other_perplexity``; ``own_log_perplexity`` and ``other_log_perplexity``, which
    no single rollout can dominate.
    """

    schema: int
    run: str
    task: str
    own: Checkpoint
    other: Checkpoint
    engine: str
    dtype: str
    divergence: str
    threshold: float
    category_rules: str
    n_problems: int
    n_rollouts: int
    n_tokens: int
    perplexities: Perplexities
    estimates: tuple[Estimate, ...]
    strata: tuple[Stratum, ...]
    notes: tuple[str, ...]
