"""What engines are asked for, and what they give back."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from rlvr_bench.records.problems import Prompt
from rlvr_bench.records.sampling import SamplingParameters

__all__ = [
    "LARGEST_INDEX",
    "CacheUse",
    "Draw",
    "DrawRequest",
    "EngineInfo",
    "Rollout",
    "SavedRollout",
    "SavedTurns",
    "TokenArrays",
]

# Memory for a problem grows with its largest index.
LARGEST_INDEX = 2**22


class SavedTurns(msgspec.Struct, frozen=True, kw_only=True):
    """The finished turns of a rollout with tools.

    ``text``: the response so far, with the output of its code. ``turns``: their number; ``n_tokens``: what the model drew in
    them. ``calls`` of code, of which ``errors`` failed. ``blocks``: the code whose variables the interpreter has.
    ``finish_reason``: that of the rollout, None where it is not finished.
    """

    text: str
    turns: Annotated[int, msgspec.Meta(ge=1)]
    n_tokens: Annotated[int, msgspec.Meta(ge=0)]
    calls: Annotated[int, msgspec.Meta(ge=0)] = 0
    errors: Annotated[int, msgspec.Meta(ge=0)] = 0
    blocks: tuple[str, ...] = ()
    finish_reason: Literal["stop", "length"] | None = None


class SavedRollout(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """The T tokens that a rollout has while its draw batch is open.

    ``ids`` (T,); ``columns``: log-probability and entropy in nats and nucleus size in tokens, (T,) each, or None without
    token statistics. ``ended``: by the model's end token (the last of ``ids``), by a stop string or at max_tokens; None
    where it is still growing. With tools, these are of the turn that is open (T may be 0), ``turns`` are those before it,
    and ``turn_tokens`` their tokens, or None without token statistics.
    """

    problem_id: str
    index: int
    ids: npt.NDArray[np.int32]
    columns: tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.int32]] | None = None
    ended: Literal["token", "string", "length"] | None = None
    turns: SavedTurns | None = None
    turn_tokens: TokenArrays | None = None


class DrawRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One draw batch: rollouts ``start`` to ``start + n - 1`` of one problem, drawn from one random stream ``seed``.

    ``max_tokens``: a limit below that of the sampling parameters, or None. ``stop``: a response ends after the first of
    these strings, which is part of its text (a server may cut it off). ``saved``: what an earlier session has of some of
    its rollouts; a ``GrowingSampler`` continues them, another sampler draws them from their beginning.
    """

    prompt: Prompt
    start: int
    n: int
    seed: int
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    saved: tuple[SavedRollout, ...] = ()

    def limit(self, sampling: SamplingParameters) -> int:
        """The largest number of tokens of a response."""
        return sampling.max_tokens if self.max_tokens is None else min(self.max_tokens, sampling.max_tokens)


class TokenArrays(msgspec.Struct, frozen=True, kw_only=True):
    """Per-token arrays of one rollout, each of shape (n_tokens,)."""

    ids: npt.NDArray[np.int32]
    logprob: npt.NDArray[np.float32]
    entropy: npt.NDArray[np.float32]
    nucleus: npt.NDArray[np.int32]


class Rollout(msgspec.Struct, frozen=True, kw_only=True):
    """One sampled response.

    ``index`` counts rollouts of a problem in submission order, from 0. ``text`` includes the prompt's ``begun``; tokens
    and their statistics are those drawn after it. ``n_tokens`` includes the end token.
    ``finish_reason`` is ``stop`` (the model ended, or a stop string) or ``length`` (cut at max_tokens). Token statistics
    are those of the model's own distribution (temperature 1, before penalties, min-p, top-k and top-p), in nats:
    ``logprob_sum`` over the sampled tokens, ``entropy_mean`` and ``branching_mean`` (mean size of the 0.95 nucleus) over
    tokens, ``entropy_profile`` the mean entropy in 20 bins of relative position (None for a bin without tokens) and
    ``high_entropy_share`` the share of tokens above the high-entropy threshold. Where an endpoint gives only truncated
    logprobs, the exact fields are None and ``entropy_low/high`` and ``branching_low/high`` hold rigorous bounds of the
    two means. ``tool_calls`` were made, of which ``tool_errors`` failed. None where not measured.
    """

    problem_id: str
    index: int
    text: str
    n_tokens: int
    finish_reason: Literal["stop", "length"]
    logprob_sum: float | None = None
    entropy_mean: float | None = None
    branching_mean: float | None = None
    entropy_profile: tuple[float | None, ...] | None = None
    high_entropy_share: float | None = None
    entropy_low: float | None = None
    entropy_high: float | None = None
    branching_low: float | None = None
    branching_high: float | None = None
    tokens: TokenArrays | None = None
    tool_calls: int | None = None
    tool_errors: int | None = None


class Draw(msgspec.Struct, frozen=True, kw_only=True):
    """A finished draw batch: its request and its ``request.n`` rollouts, in index order.

    ``shard``: name of the file in which a replica has stored it; the rollouts then have no texts and tokens.
    """

    request: DrawRequest
    rollouts: tuple[Rollout, ...]
    shard: str | None = None


class EngineInfo(msgspec.Struct, frozen=True, kw_only=True):
    """The description of an opened sampler, stored in the manifest.

    ``token_stats`` is ``exact`` (over the full vocabulary), ``bounds`` (from truncated logprobs) or ``none``;
    ``chat_template`` the SHA-256 of the template that was applied, or None where prompts are sent as raw text;
    ``inferred`` the features of a server, found by requests of a few tokens, as text; ``cautions`` what changes the meaning
    of the numbers. ``adapter``: the folder of the LoRA adapter in the model, which ``weights`` covers; None without one.
    """

    engine: str
    version: str
    model: str
    weights: str
    context_tokens: int | None
    chat_template: str | None
    token_stats: Literal["exact", "bounds", "none"]
    dtype: str
    device: str
    inferred: dict[str, str] = {}
    cautions: tuple[str, ...] = ()
    adapter: str | None = None


class CacheUse(msgspec.Struct, frozen=True, kw_only=True):
    """How an engine's KV cache was used.

    ``peak``: the largest share in use; ``preempted``: how often a response had to leave it; ``again``: tokens computed
    again for that.
    """

    peak: float = 0.0
    preempted: int = 0
    again: int = 0
