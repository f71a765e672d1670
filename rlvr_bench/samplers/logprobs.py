"""Teacher-forced scoring: statistics of given tokens under a checkpoint. One protocol, two engines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from rlvr_bench.records import EngineInfo, SamplingParameters
from rlvr_bench.samplers.tokenizer import Tokenizer

__all__ = ["LawScore", "Passage", "Scored", "Scorer"]


class Passage(msgspec.Struct, frozen=True):
    """A ``prompt``, which is not scored, and the ``response`` that follows it and is scored, int32 (T,)."""

    prompt: tuple[int, ...]
    response: npt.NDArray[np.int32]


class Scored(msgspec.Struct, frozen=True, kw_only=True):
    """Statistics of T response tokens, all of shape (T,).

    They describe the model's own distribution at temperature 1, over the full vocabulary.
    ``logprob`` and ``entropy`` are in nats, ``nucleus`` in tokens. With a reference model, ``kl`` is KL(reference ||
    model) of the two distributions at every position, and ``kl_reverse`` is KL(model || reference). Both are exact sums
    over the vocabulary, in nats. Without a reference model they are None.
    """

    logprob: npt.NDArray[np.float32]
    entropy: npt.NDArray[np.float32]
    nucleus: npt.NDArray[np.int32]
    kl: npt.NDArray[np.float32] | None = None
    kl_reverse: npt.NDArray[np.float32] | None = None


class LawScore(NamedTuple):
    """``logprob`` of a whole response in nats, with every token counted as kept; ``cut``: tokens that were cut off.

    With any token cut off by top-k, top-p or min-p the response has probability 0.
    """

    logprob: float
    cut: int


class Scorer(Protocol):
    """An open engine that scores passages."""

    @property
    def info(self) -> EngineInfo: ...

    @property
    def tokenizer(self) -> Tokenizer: ...

    @property
    def end_tokens(self) -> frozenset[int]:
        """Every id that ends a response."""
        ...

    def score(self, passages: Sequence[Passage]) -> Iterator[tuple[int, Scored]]:
        """Yields (index of the passage, its statistics) when they are finished, in any order."""
        ...

    def score_law(self, passages: Sequence[Passage], sampling: SamplingParameters) -> Iterator[tuple[int, LawScore]]:
        """As ``score``: log-probabilities of whole responses under the law that is drawn from with ``sampling``.

        Raises BadArgument where the engine gives the model's unchanged distribution only and ``sampling`` changes it.
        """
        ...

    def close(self) -> None:
        """Free the engine and its memory."""
        ...
