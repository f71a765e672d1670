"""Rollouts that the embedded engine generates together: their streams, cache, stop strings and statistics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rlvr_bench.records import Draw, DrawRequest, Rollout, SamplingParameters, SavedRollout
from rlvr_bench.samplers.loaded_transformers import LoadedTransformers
from rlvr_bench.samplers.model_files import cut_at_stop, response_texts
from rlvr_bench.samplers.protocol import SamplerOptions, usable
from rlvr_bench.samplers.quiet import without_deprecations
from rlvr_bench.samplers.summary import with_statistics
from rlvr_bench.samplers.token_law import Penalties, choose
from rlvr_bench.samplers.token_stats import token_statistics
from rlvr_bench.samplers.tokenizer import Tokenizer

if TYPE_CHECKING:
    from transformers import Cache, PreTrainedModel

__all__ = ["Batch", "Window"]

_CHUNK = 64  # uniform numbers drawn ahead per rollout


class Window:
    """The rollouts that are generated together, one row each, and what earlier sessions have of them."""

    @without_deprecations()
    @torch.inference_mode()
    def __init__(
        self,
        loaded: LoadedTransformers,
        window: Sequence[DrawRequest],
        prompts: Sequence[list[int]],
        sampling: SamplingParameters,
        options: SamplerOptions,
    ) -> None:
        """``prompts``: token ids of each request's prompt."""
        self._loaded, self._window, self._prompts = loaded, window, prompts
        self._sampling, self._options = sampling, options
        self._requests = [(request, offset) for request in window for offset in range(request.n)]
        self._saved = self._usable()
        begun = [[] if saved is None else saved.ids.tolist() for saved in self._saved]
        by_row = [ids for ids, request in zip(prompts, window, strict=True) for _ in range(request.n)]
        self._limits = torch.tensor([request.limit(sampling) for request, _ in self._requests], device=loaded.device)
        self._begun = torch.tensor(list(map(len, begun)), device=loaded.device)
        self._streams = _Uniforms(window, list(map(len, begun)))
        self._watch = _StopStrings(loaded.tokenizer, window, by_row, sampling.stop, begun)
        self._tape = _Tape(len(self._requests), options.token_stats != "off")
        live = [row for row, saved in enumerate(self._saved) if saved is None or saved.ended is None]
        self.is_open = bool(live)
        if live:
            self._batch = Batch(loaded.model, [by_row[row] + begun[row] for row in live], live)
            self._penalties = Penalties(by_row, self._batch.logits.shape[-1], sampling, like=self._batch.logits)
            for row, ids in enumerate(begun):
                self._penalties.add(torch.full((len(ids),), row), torch.tensor(ids, dtype=torch.int64))

    @without_deprecations()
    @torch.inference_mode()
    def step(self) -> None:
        """Draw one token for every row that has not ended."""
        batch, tape = self._batch, self._tape
        penalised = self._penalties.apply(batch.logits, batch.rows)
        ids = choose(penalised, self._streams.next()[batch.rows.cpu()], self._sampling)
        self._penalties.add(batch.rows, ids)
        tape.record(batch.rows, ids, batch.logits)
        ended = torch.isin(ids, self._loaded.stop) | (self._limits[batch.rows] <= self._begun[batch.rows] + tape.length)
        ended |= self._watch.stopped(batch.rows, ids)
        self.is_open = not bool(ended.all())
        if self.is_open:
            batch.advance(ids, ~ended)

    def growth(self) -> list[SavedRollout]:
        """What the rollouts have so far."""
        growing = set(self._batch.rows.tolist()) if self.is_open else set[int]()
        rows = zip(self._requests, self._rows(), strict=True)
        return [
            SavedRollout(
                problem_id=request.prompt.problem_id,
                index=request.start + offset,
                ids=row.ids.astype(np.int32),
                columns=None if row.stats is None else _columns(row.stats),
                ended=None if number in growing else self._end(row, self._limits[number]),
            )
            for number, ((request, offset), row) in enumerate(rows)
        ]

    def draws(self) -> list[Draw]:
        """The finished draws, once no row is open."""
        rows = iter(self._rows())
        return [
            self._draw(request, prompt, [next(rows) for _ in range(request.n)])
            for request, prompt in zip(self._window, self._prompts, strict=True)
        ]

    def _usable(self) -> list[SavedRollout | None]:
        with_columns = self._options.token_stats != "off"
        known = [
            usable(request, request.limit(self._sampling), self._loaded.vocabulary, with_columns=with_columns)
            for request in self._window
        ]
        return [
            saved.get(offset) for saved, request in zip(known, self._window, strict=True) for offset in range(request.n)
        ]

    def _end(self, row: _Row, limit: Tensor) -> Literal["token", "string", "length"]:
        if int(row.ids[-1]) in self._loaded.stop.tolist():
            return "token"
        return "length" if len(row.ids) >= int(limit) else "string"

    def _rows(self) -> list[_Row]:
        """The tokens of every row: those saved, then those drawn."""
        return [_joined(saved, drawn) for saved, drawn in zip(self._saved, self._tape.rows(), strict=True)]

    def _draw(self, request: DrawRequest, prompt: Sequence[int], rows: Sequence[_Row]) -> Draw:
        stops = self._loaded.stop.tolist()
        ended = [int(row.ids[-1]) in stops for row in rows]
        responses = [(row.ids[:-1] if end else row.ids).tolist() for row, end in zip(rows, ended, strict=True)]
        texts = response_texts(self._loaded.tokenizer, prompt, request, responses, self._sampling.stop)
        rollouts = []
        for offset, (row, end, (text, stopped)) in enumerate(zip(rows, ended, texts, strict=True)):
            rollout = Rollout(
                problem_id=request.prompt.problem_id,
                index=request.start + offset,
                text=text,
                n_tokens=len(row.ids),
                finish_reason="stop" if end or stopped else "length",
            )
            if row.stats is not None:
                full = self._options.token_stats == "full"
                rollout = with_statistics(rollout, row.ids, row.stats, full=full)
            rollouts.append(rollout)
        return Draw(request=request, rollouts=tuple(rollouts))


def _columns(
    stats: npt.NDArray[np.float64],
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.int32]]:
    return stats[0].astype(np.float32), stats[1].astype(np.float32), stats[2].astype(np.int32)


def _joined(saved: SavedRollout | None, drawn: _Row) -> _Row:
    if saved is None:
        return drawn
    ids = np.concatenate([saved.ids.astype(np.int64), drawn.ids])
    if drawn.stats is None or saved.columns is None:
        return _Row(ids, None)
    return _Row(ids, np.concatenate([np.stack(saved.columns), drawn.stats], axis=1))


class _StopStrings:
    """Finds the stop strings of a run and of its requests; takes no time where there are none."""

    _TAIL = 32  # at least this many of the newest tokens are decoded, and always more than a stop string has
    _LEAD = 4  # tokens of the prompt before them: a first token that is decoded alone can lose its space

    def __init__(
        self,
        tokenizer: Tokenizer,
        window: Sequence[DrawRequest],
        prompts: Sequence[list[int]],
        stops: Sequence[str],
        begun: Sequence[list[int]],
    ) -> None:
        """``prompts`` and ``begun``: token ids of each row's prompt, and of what its response has already."""
        self._tokenizer = tokenizer
        self._stops = [(*request.stop, *stops) for request in window for _ in range(request.n)]
        self._tails: list[list[int]] = []
        if any(self._stops):
            longest = max(len(stop.encode()) for stops in self._stops for stop in stops)  # a token has at least a byte
            self._tail = max(self._TAIL, self._LEAD + 1 + longest)
            self._tails = [ids[-self._LEAD :] for ids in prompts]
            self._leads = self._decode(self._tails)
            for row, ids in enumerate(begun):
                self._extend(row, ids)

    def stopped(self, rows: Tensor, ids: Tensor) -> Tensor:
        """A mask (r,): which of these rows (r,) have a stop string, with their new tokens ``ids`` (r,)."""
        if not self._tails:
            return torch.zeros_like(ids, dtype=torch.bool)
        numbers = rows.tolist()
        for row, token in zip(numbers, ids.tolist(), strict=True):
            self._extend(row, [token])
        texts = self._decode([self._tails[row] for row in numbers])
        is_stopped = [
            cut_at_stop(text.removeprefix(self._leads[row]), self._stops[row])[1]
            for row, text in zip(numbers, texts, strict=True)
        ]
        return torch.tensor(is_stopped, device=ids.device)

    def _extend(self, row: int, ids: Sequence[int]) -> None:
        tail = [*self._tails[row], *ids]
        if len(tail) > self._tail:  # drop all prompt tokens at once: no stop string may be found in them
            kept = self._tail - self._LEAD
            tail, self._leads[row] = tail[self._LEAD :][-kept:], ""
        self._tails[row] = tail

    def _decode(self, ids: Sequence[Sequence[int]]) -> list[str]:
        options = {"skip_special_tokens": True, "clean_up_tokenization_spaces": False}
        return list(self._tokenizer.batch_decode([list(row) for row in ids], **options))


class Batch:
    """The rows that are generated: their KV cache, their mask, and the logits (r, V) of their next tokens."""

    logits: Tensor

    def __init__(self, model: PreTrainedModel, prompts: Sequence[list[int]], rows: Sequence[int]) -> None:
        """``prompts``: token ids to continue, of each of the ``rows``, which are their numbers."""
        self._model = model
        device = model.device
        distinct = list(dict.fromkeys(tuple(ids) for ids in prompts))
        width = max(map(len, distinct))
        padded = torch.zeros(len(distinct), width, dtype=torch.int64)
        mask = torch.zeros(len(distinct), width, dtype=torch.int64)
        for i, ids in enumerate(
            distinct
        ):  # padding is on the left, so that every row's next token is in the same column
            padded[i, width - len(ids) :] = torch.tensor(ids)
            mask[i, width - len(ids) :] = 1
        self._mask = mask.to(device)
        self._forward(padded.to(device), (self._mask.cumsum(-1) - 1).clamp(min=0), None)
        prompt_index = {ids: i for i, ids in enumerate(distinct)}
        self._keep(torch.tensor([prompt_index[tuple(ids)] for ids in prompts], device=device))
        self.rows = torch.tensor(rows, device=device)

    def advance(self, ids: Tensor, live: Tensor) -> None:
        """Append the new token ``ids`` (r,) to each row; rows that are not ``live`` (r,) are dropped."""
        if not bool(live.all()):
            keep = live.nonzero()[:, 0]
            self._keep(keep)
            self.rows, ids = self.rows[keep], ids[keep]
        self._mask = torch.cat([self._mask, torch.ones_like(self._mask[:, :1])], dim=1)
        self._forward(ids[:, None], self._mask.sum(-1, keepdim=True) - 1, self._cache)

    def _keep(self, rows: Tensor) -> None:
        self._cache.batch_select_indices(rows)
        self._mask, self.logits = self._mask[rows], self.logits[rows]

    def _forward(self, ids: Tensor, positions: Tensor, cache: Cache | None) -> None:
        out = self._model(
            input_ids=ids,
            attention_mask=self._mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        self._cache, self.logits = out.past_key_values, out.logits[:, -1].float()


class _Uniforms:
    """One stream of uniform numbers per request; a step has one number per row, (rows,) float64."""

    def __init__(self, window: Sequence[DrawRequest], begun: Sequence[int]) -> None:
        """``begun``: how many numbers of its stream each row has used already."""
        self._streams = [(torch.Generator().manual_seed(request.seed), request.n) for request in window]
        self._next = torch.tensor(begun)  # of each row, in the numbers that are at hand
        self._numbers = torch.empty(0, len(begun), dtype=torch.float64)

    def next(self) -> Tensor:
        while len(self._numbers) <= int(self._next.max()):
            self._extend()
        numbers = self._numbers.gather(0, self._next[None])[0]
        self._next += 1
        return numbers

    def _extend(self) -> None:
        used = min(int(self._next.min()), len(self._numbers))
        self._next -= used
        parts = [torch.rand(_CHUNK, n, generator=generator, dtype=torch.float64) for generator, n in self._streams]
        self._numbers = torch.cat([self._numbers[used:], torch.cat(parts, dim=1)])


class _Step(NamedTuple):
    """The numbers (r,) of the rows that had not ended, their tokens (r,), and the tokens' statistics, three of (r,)."""

    rows: Tensor
    ids: Tensor
    stats: list[Tensor]


class _Row(NamedTuple):
    """Token ids (T,) of one rollout, and its statistics (3, T), or None where they are off."""

    ids: npt.NDArray[np.int64]
    stats: npt.NDArray[np.float64] | None


class _Tape:
    """Records the tokens of n rows and their statistics, step by step."""

    def __init__(self, n: int, with_stats: bool) -> None:
        self.n = n
        self.length = 0
        self._with_stats = with_stats
        self._steps: list[_Step] = []

    def record(self, rows: Tensor, ids: Tensor, logits: Tensor) -> None:
        stats = [column.cpu() for column in token_statistics(logits, ids)] if self._with_stats else []
        self._steps.append(_Step(rows.cpu(), ids.cpu(), stats))
        self.length += 1

    def rows(self) -> list[_Row]:
        """The rows so far."""
        if not self._steps:
            stats = np.empty((3, 0)) if self._with_stats else None
            return [_Row(np.empty(0, np.int64), stats)] * self.n
        rows = torch.cat([step.rows for step in self._steps]).numpy()
        order = np.argsort(rows, kind="stable")  # stable: within a row, the steps stay in order
        bounds = np.cumsum(np.bincount(rows, minlength=self.n))[:-1]
        ids = np.split(torch.cat([step.ids for step in self._steps]).numpy()[order], bounds)
        if not self._with_stats:
            return [_Row(part, None) for part in ids]
        columns = [torch.cat([step.stats[i] for step in self._steps]).double().numpy()[order] for i in range(3)]
        return list(map(_Row, ids, np.split(np.stack(columns), bounds, axis=1)))
