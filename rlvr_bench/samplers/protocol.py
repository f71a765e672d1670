"""What every sampler is: it takes draw requests as they come and gives back finished draws, in any order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import msgspec

from rlvr_bench.records import Draw, DrawRequest, EngineInfo, Prompt, SamplingParameters

__all__ = ["NextTokens", "PrefixSampler", "PreparedSampler", "Sampler", "SamplerOptions"]


class SamplerOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How to open a sampler.

    ``model`` is a local directory, a hub id or a server's URL; ``chat_template`` is ``auto`` (use the model's where it
    has one and the prompt has messages) or ``none``; ``token_stats`` is ``off``, ``summary`` (per rollout) or ``full``
    (per-token arrays kept too); ``engine_args`` go to the engine as they stand.
    """

    model: str
    chat_template: Literal["auto", "none"] = "auto"
    token_stats: Literal["off", "summary", "full"] = "summary"
    engine_args: Mapping[str, Any] = {}


@runtime_checkable
class Sampler(Protocol):
    """An opened engine with one checkpoint.

    ``draw`` pulls requests lazily, so that the number in flight is bounded by the sampler and the caller may decide the
    next request late: None among the requests means that there is none before more draws have come back (and is given
    only while some are out). It yields each draw as soon as it is finished; one without rollouts was given up, of which
    an error tells when the others are done. What is drawn depends on ``request.seed`` alone,
    never on what else is in flight.
    """

    @property
    def info(self) -> EngineInfo: ...

    def prompt_tokens(self, prompt: Prompt) -> int:
        """Length of the prompt in tokens, as the model will see it."""
        ...

    def draw(self, requests: Iterable[DrawRequest | None], sampling: SamplingParameters) -> Iterator[Draw]: ...

    def close(self) -> None:
        """Free the engine and its memory; a closed sampler draws no more."""
        ...


@runtime_checkable
class PreparedSampler(Sampler, Protocol):
    """A sampler that must see a run's prompts before it can describe how it draws."""

    def prepare(self, prompts: Sequence[Prompt]) -> None:
        """Learn what these prompts need; ``info`` may be another one afterwards. Raises EngineError."""
        ...


class NextTokens(NamedTuple):
    """The likeliest tokens of one position, largest first: ids, and log-probabilities in nats at temperature 1."""

    ids: tuple[int, ...]
    logprobs: tuple[float, ...]


@runtime_checkable
class PrefixSampler(Sampler, Protocol):
    """A sampler that continues a response from given tokens, and returns the likeliest next tokens."""

    def next_tokens(self, prompts: Sequence[Prompt], most: int) -> list[NextTokens]:
        """Up to ``most`` (at most 18) candidates after each prompt and its begun response; end tokens are left out."""
        ...
