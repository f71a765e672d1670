"""Per-rollout summaries of per-token statistics. Needs NumPy only: machines that only verify need no torch."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
import numpy as np
import numpy.typing as npt

from rlvr_bench.records import Rollout, TokenArrays

__all__ = ["HIGH_ENTROPY_NATS", "PROFILE_BINS", "TokenSummary", "summarise", "with_statistics"]

# The published threshold of "forking" tokens (arXiv 2506.01939): the 80th percentile of token entropy over a million
# response tokens of Qwen3-8B on AIME. It is fixed, so that rollouts of different runs can be compared.
HIGH_ENTROPY_NATS = 0.672
PROFILE_BINS = 20


class TokenSummary(msgspec.Struct, frozen=True, kw_only=True):
    """Summary of a rollout's token statistics; the fields have the same names as in ``Rollout``.

    Entropies are in nats. ``entropy_profile[b]`` is the mean entropy of the tokens at relative positions in [b / bins,
    (b + 1) / bins), None where the rollout has no token there. Means and shares are None for a rollout without tokens.
    """

    logprob_sum: float
    entropy_mean: float | None
    branching_mean: float | None
    entropy_profile: tuple[float | None, ...]
    high_entropy_share: float | None


def summarise(
    logprob: npt.NDArray[np.number],
    entropy: npt.NDArray[np.number],
    nucleus: npt.NDArray[np.number],
    *,
    threshold: float = HIGH_ENTROPY_NATS,
    bins: int = PROFILE_BINS,
) -> TokenSummary:
    """Summary of one rollout of T tokens from three arrays of shape (T,): nats, nats, tokens.

    Sums and means are computed in float64. Token t (from 1) has the relative position r = (t - 1) / T and the bin
    floor(r * bins). ``high_entropy_share`` is the fraction of tokens with an entropy of at least ``threshold`` nats
    (arXiv 2506.01939). Raises ValueError where the lengths differ.
    """
    n = len(entropy)
    if len(logprob) != n or len(nucleus) != n:
        raise ValueError(f"arrays of one rollout differ in length: {len(logprob)}, {n}, {len(nucleus)}")
    if not n:
        return TokenSummary(
            logprob_sum=0.0,
            entropy_mean=None,
            branching_mean=None,
            entropy_profile=(None,) * bins,
            high_entropy_share=None,
        )
    bin_index = np.arange(n) * bins // n
    counts = np.bincount(bin_index, minlength=bins).tolist()
    sums = np.bincount(bin_index, weights=entropy, minlength=bins).tolist()
    return TokenSummary(
        logprob_sum=float(logprob.sum(dtype=np.float64)),
        entropy_mean=float(entropy.sum(dtype=np.float64)) / n,
        branching_mean=float(nucleus.sum(dtype=np.float64)) / n,
        entropy_profile=tuple(s / c if c else None for s, c in zip(sums, counts, strict=True)),
        high_entropy_share=int(np.count_nonzero(entropy >= threshold)) / n,
    )


def with_statistics(
    rollout: Rollout,
    ids: npt.NDArray[np.integer],
    columns: Iterable[npt.NDArray[np.number]],
    *,
    full: bool,
) -> Rollout:
    """The rollout with its summary and, if ``full``, its per-token arrays.

    ``ids`` has the shape (T,). ``columns`` are log-probability and entropy in nats and nucleus size in tokens, all
    (T,).
    """
    logprob, entropy, nucleus = columns
    tokens = TokenArrays(
        ids=ids.astype(np.int32),
        logprob=logprob.astype(np.float32),
        entropy=entropy.astype(np.float32),
        nucleus=nucleus.astype(np.int32),
    )
    summary = msgspec.structs.asdict(summarise(logprob, entropy, nucleus))
    return msgspec.structs.replace(rollout, **summary, tokens=tokens if full else None)
