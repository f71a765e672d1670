"""The embedded engine: Hugging Face transformers in this process, batched, with a KV cache and exact token statistics.

A window of draw requests is generated together. Every distinct prompt is read once, its cache is copied for its
rollouts, and rows that have ended are dropped. A rollout depends only on the seed of its request: every request has its
own stream of uniform numbers, which the inverse distribution function turns into tokens.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rlvr_bench.records import Draw, DrawRequest, EngineInfo, Prompt, Rollout, SamplingParameters
from rlvr_bench.samplers.loaded_transformers import LoadedTransformers
from rlvr_bench.samplers.model_files import cut_at_stop, render, response_texts
from rlvr_bench.samplers.protocol import PROMPT_END, NextTokens, SamplerOptions
from rlvr_bench.samplers.quiet import without_deprecations
from rlvr_bench.samplers.summary import with_statistics
from rlvr_bench.samplers.token_law import Penalties, choose
from rlvr_bench.samplers.token_stats import token_statistics
from rlvr_bench.samplers.tokenizer import Tokenizer

if TYPE_CHECKING:
    from transformers import Cache, PreTrainedModel

__all__ = ["TransformersSampler"]

_CACHE_BYTES = 2 * 2**30  # at most, for the KV cache of a window (on a GPU: half of the free memory)
_LOGIT_BYTES = 256 * 2**20  # at most, for the float32 logits of one step
_PREFIXES = 32  # prompts in one batch of ``next_tokens``
_CHUNK = 64  # uniform numbers drawn ahead per rollout


class TransformersSampler:
    """Implements ``Sampler`` with ``loaded``, a checkpoint in this process. Engine arguments: see its class."""

    def __init__(self, options: SamplerOptions) -> None:
        """Load tokenizer and weights. Raises ModelError where the checkpoint cannot be loaded, BadArgument."""
        self.loaded = LoadedTransformers(options)
        self._options = options

    @classmethod
    def lent(cls, model: PreTrainedModel, tokenizer: Tokenizer, name: str) -> Self:
        """A sampler of a model that the caller has loaded and keeps: do not close it."""
        sampler = cls.__new__(cls)
        sampler.loaded = LoadedTransformers.lent(model, tokenizer, name)
        sampler._options = SamplerOptions(model=name)
        return sampler

    @property
    def info(self) -> EngineInfo:
        return self.loaded.info

    def prompt_tokens(self, prompt: Prompt) -> int:
        return len(self._encode(prompt))

    def prompt_end(self, prompt: Prompt) -> str:
        return self.loaded.tokenizer.decode(self._encode(prompt)[-PROMPT_END:])

    def draw(self, requests: Iterable[DrawRequest | None], sampling: SamplingParameters) -> Iterator[Draw]:
        """Draws in the order of their requests, a window at a time."""
        waiting = iter(requests)
        for first in waiting:
            if first is None:
                continue
            rows = self._window_rows(first, sampling)
            window = [first]
            while sum(request.n for request in window) < rows and (request := next(waiting, None)) is not None:
                window.append(request)
            with self.loaded.threads():
                draws = self._generate(window, sampling)
            yield from draws

    @without_deprecations()
    @torch.inference_mode()
    def next_tokens(self, prompts: Sequence[Prompt], most: int) -> list[NextTokens]:
        """Up to ``most`` likeliest next tokens after each prompt, without end tokens."""
        candidates: list[NextTokens] = []
        with self.loaded.threads():
            for start in range(0, len(prompts), _PREFIXES):
                encoded = [(self._encode(prompt), 1) for prompt in prompts[start : start + _PREFIXES]]
                logprobs = _Batch(self.loaded.model, encoded).logits.log_softmax(-1, dtype=torch.float64)
                logprobs[:, self.loaded.stop] = -torch.inf
                best = logprobs.topk(min(most, logprobs.shape[-1]), -1)
                for ids, values in zip(best.indices.tolist(), best.values.tolist(), strict=True):
                    known = [(i, value) for i, value in zip(ids, values, strict=True) if value > -torch.inf]
                    candidates.append(NextTokens(tuple(i for i, _ in known), tuple(value for _, value in known)))
        return candidates

    def close(self) -> None:
        """Free the weights."""
        self.loaded.close()

    def _encode(self, prompt: Prompt) -> list[int]:
        return render(self.loaded.tokenizer, prompt, self._options.chat_template, self._options.template_args)

    def _window_rows(self, request: DrawRequest, sampling: SamplingParameters) -> int:
        length = self.prompt_tokens(request.prompt) + request.limit(sampling)
        by_cache = self.loaded.cache_room(_CACHE_BYTES, on_gpu=2) // length
        by_logits = _LOGIT_BYTES // (4 * self.loaded.vocabulary)
        return max(1, min(self.loaded.rows, by_cache, by_logits))

    @without_deprecations()
    @torch.inference_mode()
    def _generate(self, window: Sequence[DrawRequest], sampling: SamplingParameters) -> list[Draw]:
        prompts = [self._encode(request.prompt) for request in window]
        batch = _Batch(self.loaded.model, [(ids, request.n) for request, ids in zip(window, prompts, strict=True)])
        streams = _Uniforms(window)
        limits = torch.tensor([request.limit(sampling) for request in window for _ in range(request.n)])
        limits = limits.to(self.loaded.device)
        watch = _StopStrings(self.loaded.tokenizer, window, prompts, sampling.stop)
        by_row = [ids for ids, request in zip(prompts, window, strict=True) for _ in range(request.n)]
        penalties = Penalties(by_row, batch.logits.shape[-1], sampling, like=batch.logits)
        tape = _Tape(sum(request.n for request in window), self._options.token_stats != "off")
        while True:
            ids = choose(penalties.apply(batch.logits, batch.rows), streams.next()[batch.rows], sampling)
            penalties.add(batch.rows, ids)
            tape.record(batch.rows, ids, batch.logits)
            ended = torch.isin(ids, self.loaded.stop) | (limits[batch.rows] <= tape.length)
            ended |= watch.stopped(batch.rows, ids)
            if bool(ended.all()):
                break
            batch.advance(ids, ~ended)
        rows = iter(range(tape.n))
        return [self._draw(request, sampling, [tape.row(next(rows)) for _ in range(request.n)]) for request in window]

    def _draw(self, request: DrawRequest, sampling: SamplingParameters, rows: Sequence[_Row]) -> Draw:
        stops = self.loaded.stop.tolist()
        ended = [int(row.ids[-1]) in stops for row in rows]
        responses = [(row.ids[:-1] if end else row.ids).tolist() for row, end in zip(rows, ended, strict=True)]
        texts = response_texts(self.loaded.tokenizer, self._encode(request.prompt), request, responses, sampling.stop)
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


class _StopStrings:
    """Finds the stop strings of a run and of its requests; takes no time where there are none."""

    _TAIL = 32  # at least this many of the newest tokens are decoded, and always more than a stop string has
    _LEAD = 4  # tokens of the prompt before them: a first token that is decoded alone can lose its space

    def __init__(
        self, tokenizer: Tokenizer, window: Sequence[DrawRequest], prompts: Sequence[list[int]], stops: Sequence[str]
    ) -> None:
        self._tokenizer = tokenizer
        self._stops = [(*request.stop, *stops) for request in window for _ in range(request.n)]
        self._tails: list[list[int]] = []
        if any(self._stops):
            longest = max(len(stop.encode()) for stops in self._stops for stop in stops)  # a token has at least a byte
            self._tail = max(self._TAIL, self._LEAD + 1 + longest)
            self._tails = [
                ids[-self._LEAD :] for request, ids in zip(window, prompts, strict=True) for _ in range(request.n)
            ]
            self._leads = self._decode(self._tails)

    def stopped(self, rows: Tensor, ids: Tensor) -> Tensor:
        """A mask (r,): which of these rows (r,) have a stop string, with their new tokens ``ids`` (r,)."""
        if not self._tails:
            return torch.zeros_like(ids, dtype=torch.bool)
        numbers = rows.tolist()
        for row, token in zip(numbers, ids.tolist(), strict=True):
            tail = [*self._tails[row], token]
            if len(tail) > self._tail:  # drop all prompt tokens at once: no stop string may be found in them
                tail, self._leads[row] = tail[self._LEAD + 1 :], ""
            self._tails[row] = tail
        texts = self._decode([self._tails[row] for row in numbers])
        is_stopped = [
            cut_at_stop(text.removeprefix(self._leads[row]), self._stops[row])[1]
            for row, text in zip(numbers, texts, strict=True)
        ]
        return torch.tensor(is_stopped, device=ids.device)

    def _decode(self, ids: Sequence[Sequence[int]]) -> list[str]:
        options = {"skip_special_tokens": True, "clean_up_tokenization_spaces": False}
        return list(self._tokenizer.batch_decode([list(row) for row in ids], **options))


class _Batch:
    """The rows that are generated: their KV cache, their mask, and the logits (r, V) of their next tokens."""

    logits: Tensor

    def __init__(self, model: PreTrainedModel, prompts: Sequence[tuple[list[int], int]]) -> None:
        self._model = model
        device = model.device
        distinct = list(dict.fromkeys(tuple(ids) for ids, _ in prompts))
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
        self._keep(torch.tensor([prompt_index[tuple(ids)] for ids, n in prompts for _ in range(n)], device=device))
        self.rows = torch.arange(len(self._mask), device=device)

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

    def __init__(self, window: Sequence[DrawRequest]) -> None:
        self._streams = [(torch.Generator().manual_seed(request.seed), request.n) for request in window]
        self._steps: Iterator[Tensor] = itertools.chain.from_iterable(self._chunk() for _ in itertools.count())

    def next(self) -> Tensor:
        return next(self._steps)

    def _chunk(self) -> Tensor:
        parts = [torch.rand(_CHUNK, n, generator=generator, dtype=torch.float64) for generator, n in self._streams]
        return torch.cat(parts, dim=1)


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
        self._rows: list[_Row] = []

    def record(self, rows: Tensor, ids: Tensor, logits: Tensor) -> None:
        stats = [column.cpu() for column in token_statistics(logits, ids)] if self._with_stats else []
        self._steps.append(_Step(rows.cpu(), ids.cpu(), stats))
        self.length += 1

    def row(self, row: int) -> _Row:
        """One row. Call it only after the last ``record``."""
        self._rows = self._rows or self._by_row()
        return self._rows[row]

    def _by_row(self) -> list[_Row]:
        rows = torch.cat([step.rows for step in self._steps]).numpy()
        order = np.argsort(rows, kind="stable")  # stable: within a row, the steps stay in order
        bounds = np.cumsum(np.bincount(rows, minlength=self.n))[:-1]
        ids = np.split(torch.cat([step.ids for step in self._steps]).numpy()[order], bounds)
        if not self._with_stats:
            return [_Row(part, None) for part in ids]
        columns = [torch.cat([step.stats[i] for step in self._steps]).double().numpy()[order] for i in range(3)]
        return list(map(_Row, ids, np.split(np.stack(columns), bounds, axis=1)))
