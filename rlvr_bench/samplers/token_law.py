"""The law that the embedded engine draws a token from: penalties, temperature, min-p, top-k and top-p, as in vLLM."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from rlvr_bench.errors import EngineError
from rlvr_bench.records import SamplingParameters

__all__ = ["Penalties", "TokenProbabilities", "choose", "token_probabilities"]

_COLDEST = (
    1e-30  # below it float32 has no number to divide by; all but the likeliest tokens have probability 0 long before
)
_BLOCK = 2**22  # logits whose law is computed at once, with their float64 copy and their order
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


class TokenProbabilities(NamedTuple):
    """Of R given tokens: ``logprob`` (R,), in nats, with every token counted as kept; ``is_cut`` (R,): it was cut off.

    A token that was cut off has probability 0. Its ``logprob`` is what it would be if the cut had just spared it.
    """

    logprob: Tensor
    is_cut: Tensor


def choose(logits: Tensor, uniforms: Tensor, sampling: SamplingParameters) -> Tensor:
    """One token per row (r,), drawn from softmax(logits / T) cut to min-p, then to top-k, then to top-p.

    A cut law is renormalised before the next cut. The token is the inverse distribution function at ``uniforms`` (r,).
    At temperature 0 it is the likeliest one. Raises EngineError for logits without a largest finite one: no law follows.
    """
    scaled = _scaled(logits, sampling)
    if sampling.temperature == 0:
        return logits.argmax(-1)
    if not _cuts(sampling):
        return _inverse(scaled.softmax(-1), uniforms)
    probabilities, ids = _cut(scaled, sampling)
    return ids.gather(-1, _inverse(probabilities, uniforms)[:, None])[:, 0]


def token_probabilities(logits: Tensor, ids: Tensor, sampling: SamplingParameters) -> TokenProbabilities:
    """The law that ``choose`` draws from, at the tokens ``ids`` (R,), from penalised logits (R, V).

    The cuts are those of ``choose``, in its arithmetic; logarithms are of float64 sums. Raises EngineError as ``choose``.
    """
    rows = max(1, _BLOCK // logits.shape[-1])
    blocks = [slice(start, start + rows) for start in range(0, max(1, len(ids)), rows)]
    parts = [_of_block(logits[block], ids[block], sampling) for block in blocks]
    return TokenProbabilities(*(torch.cat(column) for column in zip(*parts, strict=True)))


def _of_block(logits: Tensor, ids: Tensor, sampling: SamplingParameters) -> TokenProbabilities:
    scaled = _scaled(logits.float(), sampling)
    if sampling.temperature == 0:
        return TokenProbabilities(scaled.new_zeros(len(ids), dtype=torch.float64), logits.argmax(-1) != ids)
    laws = scaled.double().log_softmax(-1)
    logprob = laws.gather(-1, ids[:, None])[:, 0]
    if not _cuts(sampling):
        return TokenProbabilities(logprob, torch.zeros_like(ids, dtype=torch.bool))
    probabilities, order = _cut(scaled, sampling)
    is_kept = probabilities > 0
    mass = torch.where(is_kept, laws.gather(-1, order), -torch.inf).logsumexp(-1)
    return TokenProbabilities(logprob - mass, ~(is_kept & (order == ids[:, None])).any(-1))


def _scaled(logits: Tensor, sampling: SamplingParameters) -> Tensor:
    largest = logits.amax(-1, keepdim=True)
    if not bool(largest.isfinite().all()):
        raise EngineError(_NOT_FINITE)
    return (logits - largest) / max(sampling.temperature, _COLDEST)


def _cuts(sampling: SamplingParameters) -> bool:
    return bool(sampling.top_k or sampling.top_p < 1 or sampling.min_p)


def _cut(scaled: Tensor, sampling: SamplingParameters) -> tuple[Tensor, Tensor]:
    """Probabilities (r, V) in descending order, 0 where they are cut off and not renormalised after top-p; and ids."""
    probabilities, ids = scaled.softmax(-1).sort(-1, descending=True)
    if sampling.min_p:
        probabilities[probabilities < sampling.min_p * probabilities[:, :1]] = 0
    if sampling.top_k:
        probabilities[:, sampling.top_k :] = 0
    if sampling.min_p or sampling.top_k:
        probabilities /= probabilities.sum(-1, keepdim=True)
    before = probabilities.cumsum(-1) - probabilities
    probabilities[before >= sampling.top_p] = 0  # the token that crosses top-p stays
    return probabilities, ids


def _inverse(probabilities: Tensor, uniforms: Tensor) -> Tensor:
    total = probabilities.double().cumsum(-1)
    target = uniforms.to(total.device)[:, None] * total[:, -1:]
    return torch.searchsorted(total, target, right=True)[:, 0].clamp_(max=total.shape[-1] - 1)
