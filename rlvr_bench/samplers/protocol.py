"""The protocol of samplers: a sampler reads draw requests from an iterator and yields finished draws, in any order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import msgspec

from rlvr_bench.records import CacheUse, Draw, DrawRequest, EngineInfo, Prompt, SamplingParameters, SavedRollout

__all__ = [
    "PROMPT_END",
    "AdaptedSampler",
    "CachedSampler",
    "GrowingSampler",
    "Growth",
    "LimitedSampler",
    "NextTokens",
    "PrefixSampler",
    "PreparedSampler",
    "ReadingSampler",
    "Sampler",
    "SamplerOptions",
    "growing_draws",
    "usable",
]

PROMPT_END = 32  # tokens at the end of a prompt that ``prompt_end`` returns


class SamplerOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How to open a sampler.

    ``model`` is a local directory, a hub id or a server's URL. ``chat_template`` is ``auto`` (use the model's template
    where it has one and the prompt has messages) or ``none``; ``template_args`` are passed to it. ``token_stats``
    is ``off``, ``summary`` (per rollout) or ``full`` (per-token arrays too). ``engine_args`` are passed to the engine
    unchanged. ``adapter`` is the folder of a LoRA adapter; ``adapter_rank``: a rank that there is room for, where
    other adapters come later.
    With ``deterministic`` a rollout depends on its request alone, bit by bit; nothing is saved as it grows.
    """

    model: str
    chat_template: Literal["auto", "none"] = "auto"
    token_stats: Literal["off", "summary", "full"] = "summary"
    engine_args: Mapping[str, Any] = {}
    template_args: Mapping[str, Any] = {}
    adapter: str | None = None
    adapter_rank: int = 0
    deterministic: bool = False


@runtime_checkable
class Sampler(Protocol):
    """An open engine with one checkpoint.

    ``draw`` reads requests lazily. So the sampler limits the number of requests in flight, and the caller may decide
    late which request is next. A request of None means that there is no request before more draws have been
    yielded; it is sent only while draws are open. A draw is yielded as soon as it is finished. A draw without rollouts
    was given up, and an error is raised after all others. What is drawn depends only on ``request.seed``, never on
    other requests in flight.
    """

    @property
    def info(self) -> EngineInfo: ...

    def prompt_tokens(self, prompt: Prompt) -> int:
        """Length of the prompt in tokens, as the model sees it."""
        ...

    def draw(self, requests: Iterable[DrawRequest | None], sampling: SamplingParameters) -> Iterator[Draw]: ...

    def close(self) -> None:
        """Free the engine and its memory; a closed sampler cannot draw."""
        ...


Growth = Callable[[], Sequence[SavedRollout]]


@runtime_checkable
class GrowingSampler(Sampler, Protocol):
    """A sampler that returns what its open draws have so far, and continues the rollouts in ``DrawRequest.saved``."""

    def draw_growing(
        self, requests: Iterable[DrawRequest | None], sampling: SamplingParameters
    ) -> Iterator[Draw | Growth]:
        """As ``draw``, with functions between the draws, at least one for each step of the engine.

        Such a function returns the rollouts of all open draws: those that have ended and those that grow. All draws that
        are finished have been yielded before it. It is valid until the next item is taken, and after the iterator has
        raised.
        """
        ...


def growing_draws(
    sampler: Sampler, requests: Iterable[DrawRequest | None], sampling: SamplingParameters
) -> Iterator[Draw | Growth]:
    """``draw_growing`` of the sampler, or only its draws where it has no such method."""
    if isinstance(sampler, GrowingSampler):
        return sampler.draw_growing(requests, sampling)
    return sampler.draw(requests, sampling)


def usable(request: DrawRequest, limit: int, vocabulary: int, *, with_columns: bool) -> dict[int, SavedRollout]:
    """What is saved of the request's rollouts, by offset from ``request.start``, without what cannot be continued.

    That is a rollout without token statistics where these are wanted (``with_columns``), of ``limit`` tokens or more,
    with an id that is not below ``vocabulary``, or with turns.
    """
    known: dict[int, SavedRollout] = {}
    for saved in request.saved:
        if saved.turns is not None:
            continue
        fits = len(saved.ids) < limit + (saved.ended is not None)
        is_known = len(saved.ids) > 0 and int(saved.ids.min()) >= 0 and int(saved.ids.max()) < vocabulary
        if fits and is_known and (saved.columns is not None or not with_columns):
            known[saved.index - request.start] = saved
    return known


@runtime_checkable
class PreparedSampler(Sampler, Protocol):
    """A sampler that must see a run's prompts before it can describe how it draws."""

    def prepare(self, prompts: Sequence[Prompt]) -> None:
        """Find out how to draw for these prompts; ``info`` may change. Raises EngineError."""
        ...


@runtime_checkable
class LimitedSampler(Sampler, Protocol):
    """A sampler that may not be able to draw with every sampling parameter."""

    def check_sampling(self, sampling: SamplingParameters) -> None:
        """Raises BadArgument for a parameter that the sampler cannot use, EngineError where this is not clear."""
        ...


@runtime_checkable
class AdaptedSampler(Sampler, Protocol):
    """A sampler that can change the LoRA adapter of its model without loading the model again."""

    def use_adapter(self, folder: str | None) -> None:
        """Draw with this adapter, or without any, from now on; ``info`` changes. No draws may be open.

        Raises ModelError, EngineError; the sampler must then be closed.
        """
        ...


@runtime_checkable
class CachedSampler(Sampler, Protocol):
    """A sampler that knows how its KV cache is used."""

    def take_cache_use(self) -> CacheUse | None:
        """The use since the last call; None where it is not known."""
        ...


@runtime_checkable
class ReadingSampler(Sampler, Protocol):
    """A sampler that returns prompts as text, as the model sees them."""

    def prompt_end(self, prompt: Prompt) -> str:
        """The last tokens of the prompt as text, special tokens included."""
        ...


class NextTokens(NamedTuple):
    """The likeliest tokens at one position, likeliest first: ids, and log-probabilities in nats at temperature 1."""

    ids: tuple[int, ...]
    logprobs: tuple[float, ...]


@runtime_checkable
class PrefixSampler(Sampler, Protocol):
    """A sampler that continues a response from given tokens, and returns the likeliest next tokens."""

    def next_tokens(self, prompts: Sequence[Prompt], most: int) -> list[NextTokens]:
        """Up to ``most`` (at most 18) tokens that may follow each prompt and its begun response, without end tokens."""
        ...
