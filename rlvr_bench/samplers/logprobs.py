"""Teacher-forced scoring: what a checkpoint says of tokens that are given. One protocol, two engines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from rlvr_bench.records import EngineInfo
from rlvr_bench.samplers.tokenizer import Tokenizer

__all__ = ["Passage", "Scored", "Scorer"]


class Passage(msgspec.Struct, frozen=True):
    """Tokens to be scored: a ``prompt``, which is read only, and the ``response`` behind it, int32 (T,)."""

    prompt: tuple[int, ...]
    response: npt.NDArray[np.int32]


class Scored(msgspec.Struct, frozen=True, kw_only=True):
    """Statistics of T response tokens, each (T,): the model's own law at temperature 1, over the full vocabulary.

    ``logprob`` and ``entropy`` in nats, ``nucleus`` in tokens. Where a reference model was read beside the model,
    ``kl`` is KL(reference || model) of the two laws at every position and ``kl_reverse`` KL(model || reference), both
    exact sums over the vocabulary in nats; else None.
    """

    logprob: npt.NDArray[np.float32]
    entropy: npt.NDArray[np.float32]
    nucleus: npt.NDArray[np.int32]
    kl: npt.NDArray[np.float32] | None = None
    kl_reverse: npt.NDArray[np.float32] | None = None


class Scorer(Protocol):
    """An opened engine that scores."""

    @property
    def info(self) -> EngineInfo: ...

    @property
    def tokenizer(self) -> Tokenizer: ...

    def score(self, passages: Sequence[Passage]) -> Iterator[tuple[int, Scored]]:
        """Yields (number of the passage, its statistics) as they are finished, in any order."""
        ...

    def close(self) -> None:
        """Free the engine and its memory."""
        ...
