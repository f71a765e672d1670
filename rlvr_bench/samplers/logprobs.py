"""Teacher-forced scoring: what a checkpoint says of tokens that are given. One protocol, two engines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from rlvr_bench.errors import BadArgument
from rlvr_bench.records import EngineInfo
from rlvr_bench.samplers.protocol import SamplerOptions

__all__ = ["Passage", "Scored", "Scorer", "open_scorer"]


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
    def tokenizer(self) -> Any: ...

    def score(self, passages: Sequence[Passage]) -> Iterator[tuple[int, Scored]]:
        """Yields (number of the passage, its statistics) as they are finished, in any order."""
        ...

    def close(self) -> None:
        """Free the engine and its memory."""
        ...


def open_scorer(engine: str, options: SamplerOptions, reference: str | None = None) -> Scorer:
    """Load a checkpoint for scoring into ``transformers`` or ``vllm``.

    ``reference``: the folder or id of a second checkpoint, for exact divergences. Raises ModelError, EngineError;
    BadArgument where the engine cannot score, or not with a reference.
    """
    if engine == "transformers":
        from rlvr_bench.samplers.logprobs_transformers import TransformersScorer

        return TransformersScorer(options, reference)
    if engine != "vllm":
        raise BadArgument("--engine", engine, "scoring given tokens needs transformers or vllm")
    if reference is not None:
        raise BadArgument("--exact-kl", True, "needs both models' full distributions, which only transformers gives")
    from rlvr_bench.samplers.logprobs_vllm import VllmScorer
    from rlvr_bench.samplers.vllm import VllmSampler

    return VllmScorer(VllmSampler(options))
