"""The embedded engine: Hugging Face transformers in this process, batched, with a KV cache and exact token statistics.

A window of draw requests is generated together: each distinct prompt is read once, its cache is spread over its rollouts,
and rows that have ended are dropped as they pile up. What a rollout is depends on its request's seed alone: every request
has its own stream of uniform numbers, turned into tokens through the inverse distribution function.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import torch
import transformers
from torch import Tensor

from rlvr_bench.errors import ModelError
from rlvr_bench.records import Draw, DrawRequest, EngineInfo, Prompt, Rollout, SamplingParameters, TokenArrays
from rlvr_bench.samplers.engine_arguments import check_engine_arguments
from rlvr_bench.samplers.model_files import (
    cut_at_stop,
    render,
    response_texts,
    template_cautions,
    template_digest,
    weights_digest,
)
from rlvr_bench.samplers.protocol import NextTokens, SamplerOptions
from rlvr_bench.samplers.quiet import without_deprecations
from rlvr_bench.samplers.summary import summarise
from rlvr_bench.samplers.token_stats import token_statistics

__all__ = ["TransformersSampler"]

_ROWS = 512  # rollouts generated together at most
_CACHE_BYTES = 2 * 2**30  # KV cache of a window at most (on a GPU: half of what is free)
_LOGIT_BYTES = 256 * 2**20  # one step's float32 logits at most
_PREFIXES = 32  # prompts whose next token is looked at together
_CHUNK = 64  # uniform numbers drawn ahead per rollout
# Below this many parameters an operation is too short to share: on a busy machine two threads that wait for each other at
# every one of them were measured up to 50 times slower than one.
_ONE_THREAD_PARAMETERS = 20_000_000


class TransformersSampler:
    """Implements ``Sampler``. Engine arguments: dtype (float32 on a CPU, else the checkpoint's own), device, rows
    (rollouts generated together), threads (on a CPU), attn_implementation, trust_remote_code.
    """

    @without_deprecations()
    def __init__(self, options: SamplerOptions) -> None:
        """Load tokenizer and weights. Raises ModelError where the checkpoint cannot be loaded, BadArgument."""
        args = dict(options.engine_args)
        check_engine_arguments("transformers", args, options.token_stats)
        self._options = options
        self._device = torch.device(args.pop("device", "cuda" if torch.cuda.is_available() else "cpu"))
        self._rows = int(args.pop("rows", _ROWS))
        threads = args.pop("threads", None)
        dtype = args.pop("dtype", "float32" if self._device.type == "cpu" else "auto")
        transformers.utils.logging.disable_progress_bar()
        try:
            self._tokenizer = transformers.AutoTokenizer.from_pretrained(options.model)
            model = transformers.AutoModelForCausalLM.from_pretrained(options.model, dtype=dtype, **args)
        except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
            reason = str(error).strip().splitlines()[0][:200]
            raise ModelError(f"cannot load {options.model!r} with transformers: {reason}") from error
        self._model: Any = model.to(self._device).eval()
        self._stop = _stop_ids(self._model, self._tokenizer)
        self._threads = int(
            threads or (1 if self._model.num_parameters() < _ONE_THREAD_PARAMETERS else torch.get_num_threads())
        )
        self._info = self._describe()

    @property
    def info(self) -> EngineInfo:
        return self._info

    def prompt_tokens(self, prompt: Prompt) -> int:
        return len(self._encode(prompt))

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
            with _threads(self._threads):
                draws = self._generate(window, sampling)
            yield from draws

    @without_deprecations()
    @torch.inference_mode()
    def next_tokens(self, prompts: Sequence[Prompt], most: int) -> list[NextTokens]:
        """The ``most`` likeliest next tokens behind each prompt, end tokens left out."""
        found: list[NextTokens] = []
        with _threads(self._threads):
            for start in range(0, len(prompts), _PREFIXES):
                encoded = [(self._encode(prompt), 1) for prompt in prompts[start : start + _PREFIXES]]
                logprobs = _Batch(self._model, encoded).logits.log_softmax(-1, dtype=torch.float64)
                logprobs[:, self._stop] = -torch.inf
                best = logprobs.topk(min(most, logprobs.shape[-1]), -1)
                for ids, values in zip(best.indices.tolist(), best.values.tolist(), strict=True):
                    known = [(i, value) for i, value in zip(ids, values, strict=True) if value > -torch.inf]
                    found.append(NextTokens(tuple(i for i, _ in known), tuple(value for _, value in known)))
        return found

    def close(self) -> None:
        """Free the weights."""
        self._model = None
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def _describe(self) -> EngineInfo:
        config = self._model.config.get_text_config()
        return EngineInfo(
            engine="transformers",
            version=transformers.__version__,
            model=self._options.model,
            weights=weights_digest(self._options.model),
            context_tokens=getattr(config, "max_position_embeddings", None),
            chat_template=template_digest(self._tokenizer, self._options.chat_template),
            cautions=template_cautions(self._tokenizer, self._options.chat_template),
            token_stats="none" if self._options.token_stats == "off" else "exact",
            dtype=str(self._model.dtype).removeprefix("torch."),
            device=self._device.type,
        )

    def _encode(self, prompt: Prompt) -> list[int]:
        return render(self._tokenizer, prompt, self._options.chat_template)

    def _window_rows(self, request: DrawRequest, sampling: SamplingParameters) -> int:
        config = self._model.config.get_text_config()
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        token_bytes = 2 * config.num_hidden_layers * heads * head_dim * self._model.dtype.itemsize
        length = self.prompt_tokens(request.prompt) + request.limit(sampling)
        budget = _CACHE_BYTES if self._device.type == "cpu" else torch.cuda.mem_get_info(self._device)[0] // 2
        by_cache = budget // (token_bytes * length)
        by_logits = _LOGIT_BYTES // (4 * config.vocab_size)
        return max(1, min(self._rows, int(by_cache), int(by_logits)))

    @without_deprecations()
    @torch.inference_mode()
    def _generate(self, window: Sequence[DrawRequest], sampling: SamplingParameters) -> list[Draw]:
        prompts = [self._encode(request.prompt) for request in window]
        batch = _Batch(self._model, [(ids, request.n) for request, ids in zip(window, prompts, strict=True)])
        streams = _Uniforms(window)
        limits = torch.tensor([request.limit(sampling) for request in window for _ in range(request.n)])
        limits = limits.to(self._device)
        watch = _StopStrings(self._tokenizer, window, prompts)
        tape = _Tape(sum(request.n for request in window), self._options.token_stats != "off")
        while True:
            ids = _choose(batch.logits, streams.next()[batch.rows], sampling)
            tape.record(batch.rows, ids, batch.logits)
            ended = torch.isin(ids, self._stop) | (limits[batch.rows] <= tape.length)
            ended |= watch.stopped(batch.rows, ids)
            if bool(ended.all()):
                break
            batch.advance(ids, ~ended)
        rows = iter(range(tape.n))
        return [self._draw(request, [tape.row(next(rows)) for _ in range(request.n)]) for request in window]

    def _draw(self, request: DrawRequest, rows: Sequence[tuple[Any, Any]]) -> Draw:
        stops = self._stop.tolist()
        ended = [int(ids[-1]) in stops for ids, _ in rows]
        responses = [ids[:-1].tolist() if end else ids.tolist() for (ids, _), end in zip(rows, ended, strict=True)]
        texts = response_texts(self._tokenizer, self._encode(request.prompt), request, responses)
        rollouts = []
        for offset, ((ids, stats), end, (text, stopped)) in enumerate(zip(rows, ended, texts, strict=True)):
            rollout = Rollout(
                problem_id=request.prompt.problem_id,
                index=request.start + offset,
                text=text,
                n_tokens=len(ids),
                finish_reason="stop" if end or stopped else "length",
            )
            full = self._options.token_stats == "full"
            rollouts.append(rollout if stats is None else _with_statistics(rollout, ids, stats, full))
        return Draw(request=request, rollouts=tuple(rollouts))


class _StopStrings:
    """Watches for the stop strings of requests that have some; costs nothing where none has."""

    _TAIL = 32  # newest tokens that are decoded: more than a stop string is written in
    _LEAD = 4  # tokens of the prompt before them: decoded alone, a first token can lose its space

    def __init__(self, tokenizer: Any, window: Sequence[DrawRequest], prompts: Sequence[list[int]]) -> None:
        self._tokenizer = tokenizer
        self._stops = [request.stop for request in window for _ in range(request.n)]
        self._tails: list[list[int]] = []
        if any(self._stops):
            self._tails = [
                ids[-self._LEAD :] for request, ids in zip(window, prompts, strict=True) for _ in range(request.n)
            ]
            self._leads = self._decode(self._tails)

    def stopped(self, rows: Tensor, ids: Tensor) -> Tensor:
        """Which of these rows (r,) end with their new token (r,)."""
        if not self._tails:
            return torch.zeros_like(ids, dtype=torch.bool)
        numbers = rows.tolist()
        for row, token in zip(numbers, ids.tolist(), strict=True):
            tail = [*self._tails[row], token]
            if len(tail) > self._TAIL:  # the prompt's tokens go all at once: no stop string may be found in them
                tail, self._leads[row] = tail[self._LEAD + 1 :], ""
            self._tails[row] = tail
        texts = self._decode([self._tails[row] for row in numbers])
        found = [
            cut_at_stop(text.removeprefix(self._leads[row]), self._stops[row])[1]
            for row, text in zip(numbers, texts, strict=True)
        ]
        return torch.tensor(found, device=ids.device)

    def _decode(self, ids: Sequence[Sequence[int]]) -> list[str]:
        options = {"skip_special_tokens": True, "clean_up_tokenization_spaces": False}
        return list(self._tokenizer.batch_decode([list(each) for each in ids], **options))


class _Batch:
    """Rows being generated: their KV cache, mask, and the logits of each one's next token."""

    logits: Tensor

    def __init__(self, model: Any, prompts: Sequence[tuple[list[int], int]]) -> None:
        self._model = model
        device = model.device
        distinct = list(dict.fromkeys(tuple(ids) for ids, _ in prompts))
        width = max(map(len, distinct))
        padded = torch.zeros(len(distinct), width, dtype=torch.int64)
        mask = torch.zeros(len(distinct), width, dtype=torch.int64)
        for i, ids in enumerate(
            distinct
        ):  # padding stands on the left, so that every row's next token is in one column
            padded[i, width - len(ids) :] = torch.tensor(ids)
            mask[i, width - len(ids) :] = 1
        self._mask = mask.to(device)
        self._forward(padded.to(device), (self._mask.cumsum(-1) - 1).clamp(min=0), None)
        place = {ids: i for i, ids in enumerate(distinct)}
        self._keep(torch.tensor([place[tuple(ids)] for ids, n in prompts for _ in range(n)], device=device))
        self.rows = torch.arange(len(self._mask), device=device)

    def advance(self, ids: Tensor, live: Tensor) -> None:
        """Feed each row its new token; rows that have ended are dropped."""
        if not bool(live.all()):
            keep = live.nonzero()[:, 0]
            self._keep(keep)
            self.rows, ids = self.rows[keep], ids[keep]
        self._mask = torch.cat([self._mask, torch.ones_like(self._mask[:, :1])], dim=1)
        self._forward(ids[:, None], self._mask.sum(-1, keepdim=True) - 1, self._cache)

    def _keep(self, rows: Tensor) -> None:
        self._cache.batch_select_indices(rows)
        self._mask, self.logits = self._mask[rows], self.logits[rows]

    def _forward(self, ids: Tensor, positions: Tensor, cache: Any) -> None:
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
    """Each request's own stream of uniform numbers, (rows,) float64 a step."""

    def __init__(self, window: Sequence[DrawRequest]) -> None:
        self._streams = [(torch.Generator().manual_seed(request.seed), request.n) for request in window]
        self._steps: Iterator[Tensor] = itertools.chain.from_iterable(self._chunk() for _ in itertools.count())

    def next(self) -> Tensor:
        return next(self._steps)

    def _chunk(self) -> Tensor:
        parts = [torch.rand(_CHUNK, n, generator=generator, dtype=torch.float64) for generator, n in self._streams]
        return torch.cat(parts, dim=1)


@dataclass
class _Step:
    rows: Tensor
    ids: Tensor
    stats: Any


class _Tape:
    """What was drawn, step by step: tokens of n rows, with their statistics."""

    def __init__(self, n: int, with_stats: bool) -> None:
        self.n = n
        self.length = 0
        self._with_stats = with_stats
        self._steps: list[_Step] = []
        self._rows: list[Any] | None = None

    def record(self, rows: Tensor, ids: Tensor, logits: Tensor) -> None:
        stats = [column.cpu() for column in token_statistics(logits, ids)] if self._with_stats else None
        self._steps.append(_Step(rows.cpu(), ids.cpu(), stats))
        self.length += 1

    def row(self, row: int) -> tuple[Any, Any]:
        """Token ids (T,) of one row, and its (3, T) statistics or None."""
        if self._rows is None:
            self._rows = self._by_row()
        found: tuple[Any, Any] = self._rows[row]
        return found

    def _by_row(self) -> list[Any]:
        rows = torch.cat([step.rows for step in self._steps]).numpy()
        order = np.argsort(rows, kind="stable")  # stable: within a row, the steps stay in order
        bounds = np.cumsum(np.bincount(rows, minlength=self.n))[:-1]
        ids = np.split(torch.cat([step.ids for step in self._steps]).numpy()[order], bounds)
        if not self._with_stats:
            return [(part, None) for part in ids]
        columns = [torch.cat([step.stats[i] for step in self._steps]).double().numpy()[order] for i in range(3)]
        return list(zip(ids, np.split(np.stack(columns), bounds, axis=1), strict=True))


def _choose(logits: Tensor, uniforms: Tensor, sampling: SamplingParameters) -> Tensor:
    """One token per row from softmax(logits / T) cut to top-k, then to top-p: the inverse distribution function at u."""
    if sampling.temperature == 0:
        return logits.argmax(-1)
    scaled = logits / sampling.temperature
    if not sampling.top_k and sampling.top_p >= 1:
        return _inverse(scaled.softmax(-1), uniforms)
    probabilities, ids = scaled.softmax(-1).sort(-1, descending=True)
    if sampling.top_k:
        probabilities[:, sampling.top_k :] = 0
        probabilities /= probabilities.sum(-1, keepdim=True)
    before = probabilities.cumsum(-1) - probabilities
    probabilities[before >= sampling.top_p] = 0  # the token that crosses top-p stays
    return ids.gather(-1, _inverse(probabilities, uniforms)[:, None])[:, 0]


def _inverse(probabilities: Tensor, uniforms: Tensor) -> Tensor:
    total = probabilities.double().cumsum(-1)
    target = uniforms.to(total.device)[:, None] * total[:, -1:]
    return torch.searchsorted(total, target, right=True)[:, 0].clamp_(max=total.shape[-1] - 1)


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _stop_ids(model: Any, tokenizer: Any) -> Tensor:
    """Every id that ends a response: the generation config's, which for chat models holds the end of turn too."""
    stop = model.generation_config.eos_token_id
    if stop is None:
        stop = tokenizer.eos_token_id
    ids = [] if stop is None else [stop] if isinstance(stop, int) else list(stop)
    if tokenizer.eos_token_id is not None:
        ids.append(tokenizer.eos_token_id)
    return torch.tensor(sorted(set(ids)), device=model.device)


def _with_statistics(rollout: Rollout, ids: Any, stats: Any, full: bool) -> Rollout:
    logprob, entropy, nucleus = stats
    summary = summarise(logprob, entropy, nucleus)
    fields = {name: getattr(summary, name) for name in summary.__struct_fields__}
    if full:
        fields["tokens"] = TokenArrays(
            ids=ids.astype(np.int32),
            logprob=logprob.astype(np.float32),
            entropy=entropy.astype(np.float32),
            nucleus=nucleus.astype(np.int32),
        )
    return msgspec.structs.replace(rollout, **fields)
