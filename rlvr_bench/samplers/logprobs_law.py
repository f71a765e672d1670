"""Log-probabilities of given responses under the law that an engine draws from, with Hugging Face transformers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from rlvr_bench.records import SamplingParameters
from rlvr_bench.samplers.logprobs import LawScore, Passage
from rlvr_bench.samplers.response_logits import Piece, padded, response_logits
from rlvr_bench.samplers.token_law import Penalties, TokenProbabilities, token_probabilities

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["law_scores"]


@torch.inference_mode()
def law_scores(
    model: PreTrainedModel, batch: Sequence[Passage], width: int, sampling: SamplingParameters
) -> list[LawScore]:
    """Scores of a batch, whose longest response is first; ``width`` tokens of each are read at once."""
    ids, inside = padded([passage.response for passage in batch])
    logprob, cut = np.zeros(len(batch)), np.zeros(len(batch), dtype=np.int64)
    penalties: Penalties | None = None
    for piece in response_logits(model, batch, width):
        rows, columns = piece.logits.shape[:2]
        here = slice(0, rows), slice(piece.start, piece.start + columns)
        if penalties is None:
            prompts = [passage.prompt for passage in batch]
            penalties = Penalties(prompts, piece.logits.shape[-1], sampling, like=piece.logits)
        law = _law_of_piece(piece, ids[here], inside[here], penalties, sampling)
        row = np.nonzero(inside[here].numpy())[0]
        np.add.at(logprob, row, law.logprob.cpu().numpy())
        np.add.at(cut, row, law.is_cut.cpu().numpy())
    return [LawScore(float(total), int(count)) for total, count in zip(logprob, cut, strict=True)]


def _law_of_piece(
    piece: Piece, ids: Tensor, inside: Tensor, penalties: Penalties, sampling: SamplingParameters
) -> TokenProbabilities:
    """The law at the piece's tokens that are ``inside`` (rows, width), flat, row by row."""
    device = piece.logits.device
    ids, inside = ids.to(device), inside.to(device)
    if sampling.repetition_penalty == 1 and sampling.presence_penalty == 0:
        return token_probabilities(piece.logits[inside], ids[inside], sampling)
    rows = torch.arange(len(ids), device=device)
    columns = []
    for column, logits in enumerate(piece.logits.float().unbind(1)):
        columns.append(token_probabilities(penalties.apply(logits, rows), ids[:, column], sampling))
        penalties.add(rows, ids[:, column])
    logprob, is_cut = (torch.stack(part, 1)[inside] for part in zip(*columns, strict=True))
    return TokenProbabilities(logprob, is_cut)
