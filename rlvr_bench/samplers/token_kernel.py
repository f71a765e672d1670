"""The statistics of ``token_stats`` as one Triton program per row: they read a row of logits once or a few times.

The first read gives maximum, sum and entropy together: where the maximum rises, the sums so far are scaled down (the
online softmax of Milakov & Gimelshein 2018, arXiv 1805.02867). A row whose likeliest token has the mass ``top_p`` is
then finished. In the others a search over the bit patterns of float32 finds the weight at which the nucleus ends: each
read counts and weighs the tokens above eight bounds, until one token is left between two of them. Needs Triton.

Weights and sums of a block are float32, sums of blocks float64.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

__all__ = ["DTYPES", "launch"]

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
_BLOCK = 4096
# Every bound of the search is compared with every token of a block.
_SEARCH_BLOCK = 1024
_WAYS = 8
_jit: Callable[[Callable[..., Any]], Any] = triton.jit


@_jit
def _weights(
    row: tl.tensor, cells: tl.tensor, vocabulary: tl.tensor, column_stride: tl.tensor, highest: tl.tensor
) -> tl.tuple:
    """exp(z - max z) of some cells of a row, and how far below the maximum they are; nothing beyond its end."""
    z = tl.load(row + cells * column_stride, mask=cells < vocabulary, other=float("-inf")).to(tl.float32)
    # The floor of ``token_stats``: it also replaces -inf, for which 0 * -inf would be NaN.
    depth = tl.maximum(z - highest, -87.0)
    return tl.where(cells < vocabulary, tl.exp(depth), 0.0), depth


@_jit
def _nucleus(
    row: tl.tensor,
    vocabulary: tl.tensor,
    column_stride: tl.tensor,
    highest: tl.tensor,
    target: tl.tensor,
    start: tl.tensor,
    BLOCK: tl.constexpr,
    WAYS: tl.constexpr,
) -> tl.tensor:
    """Nucleus size of one row. ``target`` is its mass; no token lighter than ``start`` is needed to reach it."""
    low = start.to(tl.int32, bitcast=True).to(tl.int64)
    high = tl.full((), 0x3F800001, tl.int64)  # just above 1.0, the largest weight
    above, mass_above = tl.full((), 0, tl.int64), tl.full((), 0.0, tl.float64)  # number and mass from there on
    inside = tl.full((), 0, tl.int64) + vocabulary  # number from ``low`` to there
    steps = tl.arange(0, WAYS)
    while (high - low > 1) & (inside > 1):
        cuts = low + (high - low) * (steps + 1).to(tl.int64) // (WAYS + 1)
        bounds = cuts.to(tl.int32).to(tl.float32, bitcast=True)
        mass = tl.zeros([WAYS], tl.float64)
        count = tl.zeros([WAYS], tl.int64)
        for first in range(0, vocabulary, BLOCK):
            weights, _ = _weights(row, first + tl.arange(0, BLOCK), vocabulary, column_stride, highest)
            over = weights[:, None] >= bounds[None, :]
            mass += tl.sum(tl.where(over, weights[:, None], 0.0), 0).to(tl.float64)
            count += tl.sum(over.to(tl.int32), 0).to(tl.int64)
        # The bounds rise, so the mass above them falls: the first ``passed`` of them reach the target.
        passed = tl.sum((mass >= target).to(tl.int32), 0)
        below = tl.sum(tl.where(steps == passed - 1, count, 0), 0)
        inside = tl.where(passed > 0, below, above + inside)
        low = tl.where(passed > 0, tl.sum(tl.where(steps == passed - 1, cuts, 0), 0), low)
        above = tl.where(passed < WAYS, tl.sum(tl.where(steps == passed, count, 0), 0), above)
        mass_above = tl.where(passed < WAYS, tl.sum(tl.where(steps == passed, mass, 0.0), 0), mass_above)
        high = tl.where(passed < WAYS, tl.sum(tl.where(steps == passed, cuts, 0), 0), high)
        inside -= above
    # Several tokens are left only where their weights are equal.
    weight = low.to(tl.int32).to(tl.float32, bitcast=True).to(tl.float64)
    ties = tl.ceil((target - mass_above) / weight).to(tl.int64)
    needed = tl.where(inside > 1, tl.maximum(ties, 1), 1)
    return tl.minimum(above + needed, vocabulary)


@_jit
def _statistics(
    logits: tl.tensor,
    ids: tl.tensor,
    logprobs: tl.tensor,
    entropies: tl.tensor,
    nuclei: tl.tensor,
    vocabulary: tl.tensor,
    row_stride: tl.tensor,
    column_stride: tl.tensor,
    TOP_P: tl.constexpr,
    BLOCK: tl.constexpr,
    SEARCH_BLOCK: tl.constexpr,
    WAYS: tl.constexpr,
) -> None:
    index = tl.program_id(0).to(tl.int64)
    row = logits + index * row_stride
    lowest = -3.4028234663852886e38  # finite, because -inf - -inf is NaN
    highest = tl.full((), lowest, tl.float32)
    total = tl.full((), 0.0, tl.float64)
    slope = tl.full((), 0.0, tl.float64)  # sum of exp(z - max z) * (z - max z)
    unusable = tl.full((), 0, tl.int32)
    for first in range(0, vocabulary, BLOCK):
        cells = first + tl.arange(0, BLOCK)
        z = tl.load(row + cells * column_stride, mask=cells < vocabulary, other=float("-inf")).to(tl.float32)
        unusable += tl.sum(((z != z) | (z == float("inf"))).to(tl.int32), 0)
        raised = tl.maximum(highest, tl.max(z, 0))
        weights, depth = _weights(row, cells, vocabulary, column_stride, raised)
        shift = highest.to(tl.float64) - raised.to(tl.float64)
        scale = tl.exp(shift)
        slope = (slope + shift * total) * scale + tl.sum(weights * depth, 0).to(tl.float64)
        total = total * scale + tl.sum(weights, 0).to(tl.float64)
        highest = raised
    log_total = tl.log(total)
    id_ = tl.load(ids + index)  # vLLM fills rows that have no token with anything
    known = (id_ >= 0) & (id_ < vocabulary)
    drawn = tl.load(row + id_ * column_stride, mask=known, other=float("nan")).to(tl.float64)
    logprob = drawn - highest.to(tl.float64) - log_total
    entropy = tl.maximum(log_total - slope / total, 0.0)
    usable = (unusable == 0) & (highest > lowest)
    target = total * TOP_P
    size = tl.full((), 1, tl.int64)
    if usable & (target > 1.0):  # else the likeliest token, whose weight is 1, is the nucleus
        start = ((total - target) / vocabulary * 0.999).to(tl.float32)
        size = _nucleus(row, vocabulary, column_stride, highest, target, start, SEARCH_BLOCK, WAYS)
    tl.store(logprobs + index, tl.where(usable, logprob, float("nan")))
    tl.store(entropies + index, tl.where(usable, entropy, float("nan")))
    tl.store(nuclei + index, size)


def launch(logits: Tensor, ids: Tensor, top_p: float) -> tuple[Tensor, Tensor, Tensor]:
    """Log-probabilities and entropies in nats, float64 (R,), and nucleus sizes, int64 (R,). Never waits for the device.

    ``logits`` (R, V) have one of ``DTYPES``, any strides, and at least one row; ``ids`` are int64 (R,). A row with NaN,
    inf or only -inf has NaN, and a nucleus of 1.
    """
    rows, vocabulary = logits.shape
    logprobs = torch.empty(rows, dtype=torch.float64, device=logits.device)
    entropies, nuclei = torch.empty_like(logprobs), torch.empty_like(ids, memory_format=torch.contiguous_format)
    with torch.cuda.device(logits.device.index if logits.is_cuda else -1):
        _statistics[(rows,)](
            logits,
            ids.contiguous(),
            logprobs,
            entropies,
            nuclei,
            vocabulary,
            logits.stride(0),
            logits.stride(1),
            TOP_P=top_p,  # a number that is no constant would be rounded to float32
            BLOCK=_BLOCK,
            SEARCH_BLOCK=_SEARCH_BLOCK,
            WAYS=_WAYS,
            num_warps=8,
        )
    return logprobs, entropies, nuclei
