"""The law that the embedded engine draws a token from: penalties, temperature, min-p, top-k and top-p, as in vLLM."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rlvr_bench.errors import EngineError
from rlvr_bench.records import SamplingParameters

__all__ = ["Penalties", "choose"]

_COLDEST = (
    1e-30  # below it float32 has no number to divide by; all but the likeliest tokens have probability 0 long before
)
_NOT_FINITE = (
    "the logits are not finite (NaN or infinite), so no token can be drawn: the weights are damaged or have diverged, or "
    "a penalty is too extreme"
)


class Penalties:
    """Lowers the logits of tokens that were seen already; does nothing where the parameters have no penalty.

    The repetition penalty (Keskar et al. 2019, arXiv 1909.05858, section 4.1) looks at prompt and response, the presence
    penalty (OpenAI's API) at the response only.
    """

    def __init__(
        self, prompts: Sequence[Sequence[int]], width: int, sampling: SamplingParameters, like: Tensor
    ) -> None:
        """``prompts``: token ids of each row's prompt. ``width``: that of a row of logits. ``like``: for the device."""
        self._repetition, self._presence = sampling.repetition_penalty, sampling.presence_penalty
        self._seen: Tensor | None = None
        if self._repetition == 1 and self._presence == 0:
            return
        self._drawn = torch.zeros(len(prompts), width, dtype=torch.bool, device=like.device)
        self._seen = torch.zeros_like(self._drawn)
        for row, ids in zip(self._seen, prompts, strict=True):
            row[list(ids)] = True

    def apply(self, logits: Tensor, rows: Tensor) -> Tensor:
        """The penalised logits (r, V) of these rows (r,); ``logits`` (r, V) stay as they are."""
        if self._seen is None:
            return logits
        lowered = torch.where(logits > 0, logits / self._repetition, logits * self._repetition)
        return torch.where(self._seen[rows], lowered, logits) - self._presence * self._drawn[rows]

    def add(self, rows: Tensor, ids: Tensor) -> None:
        """Note the tokens ``ids`` (r,) drawn for these rows (r,)."""
        if self._seen is not None:
            self._seen[rows, ids] = True
            self._drawn[rows, ids] = True


def choose(logits: Tensor, uniforms: Tensor, sampling: SamplingParameters) -> Tensor:
    """One token per row (r,), drawn from softmax(logits / T) cut to min-p, then to top-k, then to top-p.

    A cut law is renormalised before the next cut. The token is the inverse distribution function at ``uniforms`` (r,).
    At temperature 0 it is the likeliest one. Raises EngineError for logits without a largest finite one: no law follows.
    """
    largest = logits.amax(-1, keepdim=True)
    if not bool(largest.isfinite().all()):
        raise EngineError(_NOT_FINITE)
    if sampling.temperature == 0:
        return logits.argmax(-1)
    scaled = (logits - largest) / max(sampling.temperature, _COLDEST)
    if not sampling.top_k and sampling.top_p >= 1 and not sampling.min_p:
        return _inverse(scaled.softmax(-1), uniforms)
    probabilities, ids = scaled.softmax(-1).sort(-1, descending=True)
    if sampling.min_p:
        probabilities[probabilities < sampling.min_p * probabilities[:, :1]] = 0
    if sampling.top_k:
        probabilities[:, sampling.top_k :] = 0
    if sampling.min_p or sampling.top_k:
        probabilities /= probabilities.sum(-1, keepdim=True)
    before = probabilities.cumsum(-1) - probabilities
    probabilities[before >= sampling.top_p] = 0  # the token that crosses top-p stays
    return ids.gather(-1, _inverse(probabilities, uniforms)[:, None])[:, 0]


def _inverse(probabilities: Tensor, uniforms: Tensor) -> Tensor:
    total = probabilities.double().cumsum(-1)
    target = uniforms.to(total.device)[:, None] * total[:, -1:]
    return torch.searchsorted(total, target, right=True)[:, 0].clamp_(max=total.shape[-1] - 1)
