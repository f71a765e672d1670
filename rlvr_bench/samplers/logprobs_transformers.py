"""Teacher-forced scoring with Hugging Face transformers, in this process.

Passages are scored in order of length, longest first. One pass over the logits of a piece gives all statistics.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rlvr_bench.errors import EngineError, ModelError
from rlvr_bench.records import EngineInfo, SamplingParameters
from rlvr_bench.samplers.loaded_transformers import LoadedTransformers
from rlvr_bench.samplers.logprobs import LawScore, Passage, Scored
from rlvr_bench.samplers.logprobs_law import law_scores
from rlvr_bench.samplers.protocol import SamplerOptions
from rlvr_bench.samplers.response_logits import Piece, padded, response_logits
from rlvr_bench.samplers.token_stats import token_statistics
from rlvr_bench.samplers.tokenizer import Tokenizer
from rlvr_bench.samplers.vllm_packing import NOT_FINITE

__all__ = ["TransformersScorer", "divergences"]

_LOGIT_BYTES = 128 * 2**20  # at most, for float32 logits of one piece (on a GPU sixteen times as many)
_POSITIONS = 6144  # tokens of one piece at most: a larger forward pass is not faster, and slower on a CPU
_PIECE = 256  # tokens of a response read at once, where the batch has enough rows
_ROWS = 512
_CACHE_BYTES = 2 * 2**30  # at most, for keys and values of a batch (on a GPU: a third of the free memory)
_KL_BLOCK = 2**18  # float64 entries of a block of distributions


class TransformersScorer:
    """Implements ``Scorer``. Engine arguments: see ``LoadedTransformers``; ``reference``: see ``open_scorer``."""

    def __init__(self, options: SamplerOptions, reference: SamplerOptions | None = None) -> None:
        """Raises ModelError where a checkpoint cannot be loaded, or where their logits differ in width."""
        self._loaded = LoadedTransformers(options)
        self._reference: LoadedTransformers | None = None
        if reference is not None:
            other = LoadedTransformers(reference)
            self._reference = other
            widths = [self._loaded.logits_width, other.logits_width]
            if widths[0] != widths[1]:
                raise ModelError(
                    f"exact divergence of {options.model!r} from {reference.model!r}: their logits have {widths[0]} and "
                    f"{widths[1]} entries. Leave out --exact-kl"
                )

    @property
    def info(self) -> EngineInfo:
        return self._loaded.info

    @property
    def tokenizer(self) -> Tokenizer:
        return self._loaded.tokenizer

    @property
    def end_tokens(self) -> frozenset[int]:
        return frozenset(self._loaded.stop.tolist())

    def score(self, passages: Sequence[Passage]) -> Iterator[tuple[int, Scored]]:
        for batch, width in self._batches(passages):
            with self._loaded.threads():
                scored = self._score([passages[i] for i in batch], width)
            yield from zip(batch, scored, strict=True)

    def score_law(self, passages: Sequence[Passage], sampling: SamplingParameters) -> Iterator[tuple[int, LawScore]]:
        for batch, width in self._batches(passages):
            with self._loaded.threads():
                scores = law_scores(self._loaded.model, [passages[i] for i in batch], width, sampling)
            yield from zip(batch, scores, strict=True)

    def _batches(self, passages: Sequence[Passage]) -> Iterator[tuple[list[int], int]]:
        """Numbers of the passages to score together, longest first, and how many tokens of each are read at once."""
        lengths = np.array([len(passage.response) for passage in passages])
        order = np.argsort(-lengths, kind="stable").tolist()  # longest first: rows leave a batch at its end
        budget = _LOGIT_BYTES * (1 if self._loaded.device.type == "cpu" else 16)
        positions = max(1, min(_POSITIONS, budget // (4 * self._loaded.logits_width)))
        while order:
            longest = passages[order[0]]
            width = max(1, min(_PIECE, len(longest.response)))
            in_cache = self._loaded.cache_room(_CACHE_BYTES, on_gpu=3) // (len(longest.prompt) + len(longest.response))
            rows = max(1, min(_ROWS, positions // width, in_cache))
            batch, order = order[:rows], order[rows:]
            yield batch, max(1, positions // len(batch))

    def close(self) -> None:
        if self._reference is not None:
            self._reference.close()
        self._loaded.close()

    @torch.inference_mode()
    def _score(self, batch: Sequence[Passage], width: int) -> list[Scored]:
        """Statistics of a batch, whose longest response is first. Responses are read ``width`` tokens at a time."""
        table = _Table(batch, columns=3 if self._reference is None else 5)
        pieces = response_logits(self._loaded.model, batch, width)
        others = None if self._reference is None else response_logits(self._reference.model, batch, width)
        for piece in pieces:
            ids, inside = table.given(piece)
            logits = piece.logits[inside]
            columns: list[Tensor] = list(token_statistics(logits, ids))
            if others is not None:
                columns += divergences(next(others).logits[inside], logits)
            table.put(piece, inside, columns)
        return table.rows()


class _Table:
    """Padded response ids of a batch, and the statistics so far: (columns, rows, longest)."""

    def __init__(self, batch: Sequence[Passage], columns: int) -> None:
        self._lengths = [len(passage.response) for passage in batch]
        self._ids, self._inside = padded([passage.response for passage in batch])
        self._values = torch.zeros(columns, *self._ids.shape, dtype=torch.float64)

    def given(self, piece: Piece) -> tuple[Tensor, Tensor]:
        """The ids of the piece's tokens, flat, and a mask (rows, width) of the positions that have a token."""
        here = self._at(piece)
        inside = self._inside[here]
        return self._ids[here][inside], inside.to(piece.logits.device)

    def put(self, piece: Piece, inside: Tensor, columns: Sequence[Tensor]) -> None:
        here = self._at(piece)
        for values, column in zip(self._values, columns, strict=True):
            values[here][inside.cpu()] = column.double().cpu()

    def rows(self) -> list[Scored]:
        values = self._values.numpy()
        return [_scored(values[:, row, :length]) for row, length in enumerate(self._lengths)]

    def _at(self, piece: Piece) -> tuple[slice, slice]:
        rows, width = piece.logits.shape[:2]
        return slice(0, rows), slice(piece.start, piece.start + width)


def _scored(columns: npt.NDArray[np.float64]) -> Scored:
    if np.isnan(columns[:2]).any():
        raise EngineError(NOT_FINITE)
    logprob, entropy, nucleus, *divergence = columns
    kl, kl_reverse = (column.astype(np.float32) for column in divergence) if divergence else (None, None)
    return Scored(
        logprob=logprob.astype(np.float32),
        entropy=entropy.astype(np.float32),
        nucleus=nucleus.astype(np.int32),
        kl=kl,
        kl_reverse=kl_reverse,
    )


def divergences(reference: Tensor, logits: Tensor) -> list[Tensor]:
    """KL(reference || model) and KL(model || reference) of R pairs of distributions, from logits (R, V).

    Returns two tensors of shape (R,), in nats: exact sums over the vocabulary in float64, 0 where the logits are equal.
    Tokens of probability 0 add nothing.
    """
    forward, reverse = [], []
    rows = max(1, _KL_BLOCK * (1 if logits.device.type == "cpu" else 64) // logits.shape[-1])
    for start in range(0, len(logits), rows):
        p, q = (part[start : start + rows].double().log_softmax(-1) for part in (reference, logits))
        gap = p - q
        forward.append(torch.where(p > -torch.inf, p.exp() * gap, 0.0).sum(-1).clamp(min=0.0))
        reverse.append(torch.where(q > -torch.inf, q.exp() * -gap, 0.0).sum(-1).clamp(min=0.0))
    return [torch.cat(parts) if parts else logits.new_zeros(0) for parts in (forward, reverse)]
