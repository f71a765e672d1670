"""Exact token statistics from logits: log-probability, full-vocabulary entropy, nucleus size.

The statistics are those of the model's own distribution: softmax(z) at temperature 1, before top-p and penalties.
Entropy is defined as in arXiv 2507.14843 and 2506.01939, nucleus size as in the rollout branching factor (arXiv
2508.07534 section 2). Needs torch and numpy only.

Numerics: with e = exp(z - max z), S = sum e and T = sum e * (z - max z), log p_i = z_i - max z - log S and
H = log S - T / S. The sums are computed in float64. In float32 the error at a vocabulary of 150,000 is up to 5e-5 nats
(``log_softmax`` has this error); with float64 accumulators it is below 3e-8 nats.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

__all__ = ["TokenStatistics", "token_statistics"]

# exp(-87) is the smallest integer power of e that is a normal float32. Denormals are slow, and a whole vocabulary of
# them adds up to less than 1e-32. The floor also replaces logits of -inf, for which 0 * -inf would be NaN.
_FLOOR = -87.0
# A block of this many logits (1 MiB in float32) and its temporaries fit into a core's cache, which is three times as
# fast.
_BLOCK = 2**18
# The 0.95 nucleus of a trained model has fewer tokens than this at nearly all positions.
_HEAD = 128
# Smaller vocabularies are faster to search directly than by strips.
_STRIP_MINIMUM = 16 * _HEAD
_STRIP = 16
_WAYS = 16


T = TypeVar("T")


class TokenStatistics(NamedTuple):
    """One row per token: ``logprob`` and ``entropy`` in nats, float64 (R,); ``nucleus`` in tokens, int64 (R,)."""

    logprob: Tensor
    entropy: Tensor
    nucleus: Tensor


def token_statistics(logits: Tensor, token_ids: Tensor, top_p: float = 0.95) -> TokenStatistics:
    """Statistics of R next-token distributions and of the tokens drawn from them.

    ``logits`` (R, V) may have any floating dtype and may contain -inf, but no row of -inf only. ``token_ids`` (R,) are
    the sampled ids. The nucleus is the smallest set of tokens with a cumulative probability of at least ``top_p``. The
    results are on the device of the logits, which are not changed.

    Raises ValueError where shapes disagree or ``top_p`` is not in (0, 1).
    """
    if not 0 < top_p < 1:
        raise ValueError(f"top_p is {top_p!r}: must be in (0, 1)")
    if logits.ndim != 2 or token_ids.shape != logits.shape[:1]:
        raise ValueError(f"expected logits (R, V) and ids (R,), got {tuple(logits.shape)} and {tuple(token_ids.shape)}")
    ids = token_ids.to(device=logits.device, dtype=torch.int64)
    if not len(ids):
        nothing = logits.new_empty(0, dtype=torch.float64)
        return TokenStatistics(nothing, nothing.clone(), ids)
    if logits.is_cuda:
        return _on_accelerator(logits, ids, top_p)
    rows = max(1, _BLOCK // logits.shape[1])
    parts = [
        _on_cpu(logits[start : start + rows], ids[start : start + rows], top_p) for start in range(0, len(ids), rows)
    ]
    return parts[0] if len(parts) == 1 else TokenStatistics(*(torch.cat(column) for column in zip(*parts, strict=True)))


def _law(logits: Tensor, ids: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Log-probabilities (r,) and entropies (r,) in nats, weights exp(z - max z) (r, V) and their sums (r,)."""
    z = logits if logits.dtype == torch.float64 else logits.float()
    highest = z.amax(-1, keepdim=True)
    depth = (z - highest).clamp(min=_FLOOR)
    weights = depth.exp()
    total = weights.sum(-1, dtype=torch.float64)
    log_total = total.log()
    logprob = (torch.gather(z, 1, ids[:, None]).double() - highest.double())[:, 0] - log_total
    entropy = log_total - (depth * weights).sum(-1, dtype=torch.float64) / total
    return logprob, entropy.clamp(min=0.0), weights, total


def _on_cpu(logits: Tensor, ids: Tensor, top_p: float) -> TokenStatistics:
    logprob, entropy, weights, total = _law(logits, ids)
    return TokenStatistics(logprob, entropy, _nucleus_by_head(weights, top_p * total))


def _on_accelerator(logits: Tensor, ids: Tensor, top_p: float) -> TokenStatistics:
    """Statistics by kernels that never wait for the device: they must not stop a step of generation.

    One Triton program per row, or compiled torch functions where there is no Triton or another dtype.
    """
    try:
        from rlvr_bench.samplers import token_kernel
    except ImportError:
        return _by_compiled_functions(logits, ids, top_p)
    if logits.dtype not in token_kernel.DTYPES:
        return _by_compiled_functions(logits, ids, top_p)
    return TokenStatistics(*token_kernel.launch(logits, ids, top_p))


def _by_compiled_functions(logits: Tensor, ids: Tensor, top_p: float) -> TokenStatistics:
    logprob, entropy, weights, total = _compiled(_law)(logits, ids)
    return TokenStatistics(logprob, entropy, _nucleus_by_search(weights, top_p * total, _compiled(_masses)))


@functools.cache
def _compiled(function: Callable[[Tensor, Tensor], T]) -> Callable[[Tensor, Tensor], T]:
    """``function`` as a kernel, compiled once for any number of rows."""
    kernel = torch.compile(function, dynamic=True)

    def call(first: Tensor, second: Tensor) -> T:
        for argument in first, second:  # without this a separate kernel is compiled for a batch of one row
            torch._dynamo.decorators.mark_unbacked(argument, 0)
        return kernel(first, second)

    return call


def _nucleus_by_head(weights: Tensor, target: Tensor) -> Tensor:
    """Nucleus sizes (r,): from the heaviest tokens where these are enough, else from a histogram of the row."""
    reached = _heaviest(weights, _HEAD).cumsum(-1, dtype=torch.float64)
    sizes = (reached < target[:, None]).sum(-1) + 1
    for row in (reached[:, -1] < target).nonzero()[:, 0].tolist():
        sizes[row] = _nucleus_of_broad_row(weights[row], target[row])
    return sizes.clamp_(max=weights.shape[-1])


def _heaviest(weights: Tensor, k: int) -> Tensor:
    """The ``k`` largest weights of each row, descending, (r, min(k, V)).

    The k largest are in the k strips with the largest maxima, so only these strips are searched. This takes half the
    time of ``topk`` over the row at V = 50,000, and a third at 150,000.
    """
    rows, V = weights.shape
    if V < _STRIP_MINIMUM:
        return _largest(weights, min(k, V))
    width = V // _STRIP
    strips = weights[:, : width * _STRIP].view(rows, _STRIP, width)
    best = strips.amax(1).topk(k, dim=-1).indices
    candidates = strips.gather(2, best[:, None, :].expand(-1, _STRIP, -1)).flatten(1)
    return _largest(torch.cat([candidates, weights[:, width * _STRIP :]], 1), k)


def _largest(values: Tensor, k: int) -> Tensor:
    """The ``k`` largest of each row, descending: as ``topk``, which takes up to 20 times as long on a CPU."""
    if values.device.type != "cpu":
        return values.topk(k, dim=-1).values
    rows = values.detach().numpy()
    if (width := rows.shape[-1]) > 4 * k:
        rows = np.partition(rows, width - k, axis=-1)[:, width - k :]
    return torch.from_numpy(np.ascontiguousarray(np.sort(rows, axis=-1)[:, ::-1][:, :k]))


def _nucleus_of_broad_row(weights: Tensor, target: Tensor) -> Tensor:
    """Nucleus size of one row (V,): from a histogram of mass over exponent and 7 bits of mantissa; one bin is sorted.

    The bit pattern of a positive float grows with its value, so the bins are in order of weight.
    """
    bins = weights.float().view(torch.int32) >> 16
    mass = torch.bincount(bins, weights=weights.double()).flip(0).cumsum(0)
    crossing = int((mass < target).sum())
    if crossing == len(mass):  # the target is nearly the total, and this sum in another order is smaller
        return torch.tensor(len(weights))
    bound = len(mass) - 1 - crossing
    above = mass[crossing - 1] if crossing else mass.new_zeros(())
    inside = weights[bins == bound].sort(descending=True).values
    short = (above + inside.cumsum(0, dtype=torch.float64) < target).sum()
    return (bins > bound).sum() + short + 1


def _nucleus_by_search(
    weights: Tensor, target: Tensor, masses: Callable[[Tensor, Tensor], Tensor] | None = None
) -> Tensor:
    """Nucleus sizes (r,) by a search for the crossing weight over the bit patterns of float32.

    It uses fixed shapes and no sort. Every one of seven passes divides the interval into 17 parts, then one pass
    counts. All tokens below the start of the first interval together weigh less than the mass outside of the nucleus.
    Where several tokens have the crossing weight, as many as needed are counted. The passes add in float32, so a
    nucleus of thousands of tokens can be wrong by one.
    """
    masses = masses or _masses
    weights = weights.float()
    V = weights.shape[-1]
    missing = (weights.sum(-1, dtype=torch.float64) - target).clamp(min=0.0)
    low = (missing / V * 0.999).float().view(torch.int32).long()
    high = torch.full_like(low, 0x3F800001)  # just above 1.0, the largest weight
    steps = torch.arange(1, _WAYS + 1, device=weights.device)
    for _ in range(7):
        cuts = low[:, None] + (high - low)[:, None] * steps // (_WAYS + 1)
        reached = masses(weights, cuts.to(torch.int32).view(torch.float32)) >= target[:, None]
        passed = reached.sum(1, keepdim=True)
        edges = torch.cat([low[:, None], cuts, high[:, None]], 1)
        low, high = edges.gather(1, passed)[:, 0], edges.gather(1, passed + 1)[:, 0]
    bound = low.to(torch.int32).view(torch.float32)
    heavier = weights > bound[:, None]
    above = torch.where(heavier, weights, 0.0).sum(-1, dtype=torch.float64)
    ties = torch.ceil((target - above) / bound.double()).clamp(min=1).long()
    return (heavier.sum(-1) + ties).clamp(max=V)


def _masses(weights: Tensor, bounds: Tensor) -> Tensor:
    """The mass (r, 16) of the weights (r, V) at or above each of 16 bounds (r, 16). Compiled, it reads them once."""
    return torch.stack([torch.where(weights >= bounds[:, j, None], weights, 0.0).sum(-1) for j in range(_WAYS)], 1)
