"""Token statistics of one response as one NumPy array: packed in vLLM's engine process, unpacked in the driver.

``arrays``: int32 (T, 6), one row per token: the three ids of the hook's columns (``vllm_worker``) and the bits of their
three values (float32). ``summary``: float64 (1, 26): T, a checksum of the T ids, four numbers and the entropy profile,
with NaN for None. Needs NumPy only.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from rlvr_bench.errors import EngineError
from rlvr_bench.samplers.summary import PROFILE_BINS, TokenSummary, summarise

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["NOT_FINITE", "ROW", "TokenColumns", "columns_of", "marks", "pack_rows", "pack_summary", "unpack"]

_INACTIVE = (
    "the token statistics hook is not active in this engine (ordinary log-probabilities came back): "
    "start it with worker_extension_cls=rlvr_bench.samplers.vllm_worker.TokenStatistics, "
    "or sample with token statistics off"
)
NOT_FINITE = "the model's log-probabilities are not finite (NaN): its weights are damaged or have diverged"
Ids = TypeVar("Ids", "npt.NDArray[np.int64]", "Tensor")
_USUAL_MARKS = np.arange(3)  # what ``marks`` subtracts from all ids but 0 and 1
_NUMBERS = ("logprob_sum", "entropy_mean", "branching_mean", "high_entropy_share")
ROW = 6
_SUMMARY = (1, 2 + len(_NUMBERS) + PROFILE_BINS)


class TokenColumns(NamedTuple):
    """Statistics of T tokens, all of shape (T,): log-probability and entropy in nats, nucleus size in tokens."""

    logprob: npt.NDArray[np.float32]
    entropy: npt.NDArray[np.float32]
    nucleus: npt.NDArray[np.int32]


def marks(tokens: Ids) -> tuple[Ids, Ids]:
    """Ids for the columns of entropy and nucleus size, valid for any V >= 4.

    They differ from the sampled id, because a dict would merge equal ids.
    """
    step = 1 - 2 * (tokens >= 2)
    return tokens + step * (1 - 2 * (tokens == 1)), tokens + 2 * step


def columns_of(
    ids: npt.NDArray[np.integer], values: npt.NDArray[np.floating], token_ids: Sequence[int]
) -> TokenColumns:
    """The statistics in ids (T, 3) and values (T, 3) of the T sampled ``token_ids``.

    Raises EngineError where the hook was not active, so ordinary log-probabilities are never read as statistics, and where
    the model gave no numbers.
    """
    tokens = np.asarray(token_ids, dtype=np.int64)
    small = len(tokens) and tokens.min() < 2
    expected = np.stack([tokens, *marks(tokens)], 1) if small else tokens[:, None] - _USUAL_MARKS
    # A log-probability is never positive and a nucleus is never empty, so the last column is enough to distinguish
    # them. The marks also check the order of the columns.
    if ids.shape != expected.shape or (ids != expected).any() or not (values[:, 2] >= 1).all():
        raise EngineError(_INACTIVE)
    if np.isnan(values[:, 0]).any():  # an entropy alone that is no number is the hook's fault: see the start-up test
        raise EngineError(NOT_FINITE)
    return TokenColumns(values[:, 0].astype(np.float32), values[:, 1].astype(np.float32), values[:, 2].astype(np.int32))


def pack_rows(ids: npt.NDArray[np.int32], values: npt.NDArray[np.float32]) -> npt.NDArray[np.int32]:
    """int32 (T, 6) from the first three columns of the hook. Rows of several steps may be concatenated."""
    return np.concatenate((ids[:, :3], values[:, :3].view(np.int32)), 1)


def pack_summary(rows: npt.NDArray[np.int32], token_ids: Sequence[int]) -> npt.NDArray[np.float64]:
    """float64 (1, 26) from packed rows (T, 6). Raises EngineError where they are not the statistics of these ids."""
    summary = summarise(*columns_of(rows[:, :3], rows[:, 3:].view(np.float32), token_ids))
    numbers = [getattr(summary, name) for name in _NUMBERS]
    return np.array([[len(token_ids), _checksum(token_ids), *numbers, *summary.entropy_profile]], dtype=np.float64)


def unpack(packed: npt.NDArray[np.number] | None, token_ids: Sequence[int]) -> TokenColumns | TokenSummary:
    """The statistics of these T ids. Raises EngineError where ``packed`` is missing, or is of other tokens."""
    if packed is not None and packed.dtype == np.int32 and packed.shape == (len(token_ids), ROW):
        rows = packed.astype(np.int32, copy=False)
        return columns_of(rows[:, :3], rows[:, 3:].view(np.float32), token_ids)
    if packed is not None and packed.dtype == np.float64 and packed.shape == _SUMMARY:
        count, checksum, total, *rest = packed[0].tolist()
        if (count, checksum) == (len(token_ids), _checksum(token_ids)):
            entropy, branching, share, *profile = (None if math.isnan(value) else float(value) for value in rest)
            return TokenSummary(
                logprob_sum=total,
                entropy_mean=entropy,
                branching_mean=branching,
                high_entropy_share=share,
                entropy_profile=tuple(profile),
            )
    raise EngineError(_INACTIVE)


def _checksum(token_ids: Sequence[int]) -> int:
    return zlib.crc32(np.asarray(token_ids, dtype=np.int32).tobytes())
