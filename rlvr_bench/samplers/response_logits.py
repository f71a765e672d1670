"""Logits of given responses, for teacher-forced scoring with Hugging Face transformers.

Every distinct prompt of a batch is read once, and its cache is copied for its responses. Responses are read in pieces, so
that the logits of a long one are never in memory at the same time. A row leaves the batch when its response has ended.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rlvr_bench.samplers.logprobs import Passage

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["Piece", "padded", "response_logits"]


class Piece(NamedTuple):
    """Logits (rows, width, V) of ``width`` response tokens, from token ``start``, of a batch's first ``rows`` rows."""

    start: int
    logits: Tensor


def response_logits(model: PreTrainedModel, batch: Sequence[Passage], width: int) -> Iterator[Piece]:
    """Logits of every response token of a batch, piece by piece. Those of the first token come from the prompts."""
    device = model.device
    lengths = np.array([len(passage.response) for passage in batch])
    if not lengths.max(initial=0):
        return
    prompts = list(dict.fromkeys(passage.prompt for passage in batch))
    prompt_index = {prompt: i for i, prompt in enumerate(prompts)}
    # Padding is on the left, so that the last column has the last token of every prompt.
    ids, mask = (part.flip(1).to(device) for part in padded([prompt[::-1] for prompt in prompts]))
    mask = mask.long()
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    out = model(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=True, logits_to_keep=1)
    spread = torch.tensor([prompt_index[passage.prompt] for passage in batch], device=device)
    cache, mask = out.past_key_values, mask[spread]
    cache.batch_select_indices(spread)
    yield Piece(0, out.logits[spread])
    responses = padded([passage.response for passage in batch])[0].to(device)
    offset = mask.sum(-1, keepdim=True)
    for start in range(0, int(lengths.max()) - 1, width):
        rows = int((lengths > start + 1).sum())
        if rows < len(mask):
            cache.batch_select_indices(torch.arange(rows, device=device))
            mask, offset = mask[:rows], offset[:rows]
        piece = responses[:rows, start : min(start + width, int(lengths.max()) - 1)]
        mask = torch.cat([mask, torch.ones_like(piece)], 1)
        token_positions = offset + torch.arange(start, start + piece.shape[1], device=device)
        out = model(
            input_ids=piece, attention_mask=mask, position_ids=token_positions, past_key_values=cache, use_cache=True
        )
        yield Piece(start + 1, out.logits)


def padded(rows: Sequence[Sequence[int] | npt.NDArray[np.int32]]) -> tuple[Tensor, Tensor]:
    """Rows of ids as one table (rows, longest), padded on the right with 0, and a mask of the entries that are ids."""
    lengths = np.array([len(row) for row in rows])
    inside = np.arange(int(lengths.max(initial=0))) < lengths[:, None]
    table = np.zeros(inside.shape, dtype=np.int64)
    table[inside] = np.concatenate([np.asarray(row, dtype=np.int64) for row in rows])
    return torch.from_numpy(table), torch.from_numpy(inside)
