"""The embedded engine: Hugging Face transformers in this process, batched, with a KV cache and exact token statistics.

A window of draw requests is generated together. Every distinct prompt is read once, its cache is copied for its
rollouts, and rows that have ended are dropped. A rollout depends only on the seed of its request: every request has its
own stream of uniform numbers, which the inverse distribution function turns into tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import msgspec
import torch

from rlvr_bench.records import Draw, DrawRequest, EngineInfo, Prompt, SamplingParameters
from rlvr_bench.samplers.loaded_transformers import LoadedTransformers
from rlvr_bench.samplers.model_files import render
from rlvr_bench.samplers.protocol import PROMPT_END, Growth, NextTokens, SamplerOptions
from rlvr_bench.samplers.quiet import without_deprecations
from rlvr_bench.samplers.transformers_window import Batch, Window

__all__ = ["TransformersSampler"]

_CACHE_BYTES = 2 * 2**30  # at most, for the KV cache of a window (on a GPU: half of the free memory)
_LOGIT_BYTES = 256 * 2**20  # at most, for the float32 logits of one step
_PREFIXES = 32  # prompts in one batch of ``next_tokens``


class TransformersSampler:
    """Implements ``Sampler`` with ``loaded``, a checkpoint in this process. Engine arguments: see its class."""

    def __init__(self, options: SamplerOptions, loaded: LoadedTransformers | None = None) -> None:
        """Load tokenizer and weights, or take them. Raises ModelError where they cannot be loaded, BadArgument."""
        self.loaded = loaded or LoadedTransformers(options)
        self._options = options

    @property
    def info(self) -> EngineInfo:
        return self.loaded.info

    def prompt_tokens(self, prompt: Prompt) -> int:
        return len(self._encode(prompt))

    def prompt_end(self, prompt: Prompt) -> str:
        return self.loaded.tokenizer.decode(self._encode(prompt)[-PROMPT_END:])

    def draw(self, requests: Iterable[DrawRequest | None], sampling: SamplingParameters) -> Iterator[Draw]:
        """Draws in the order of their requests, a window at a time."""
        return (item for item in self.draw_growing(requests, sampling) if isinstance(item, Draw))

    def draw_growing(
        self, requests: Iterable[DrawRequest | None], sampling: SamplingParameters
    ) -> Iterator[Draw | Growth]:
        """As ``draw``. A saved rollout continues its stream where it stopped, and gets the tokens of an undisturbed run.

        A deterministic engine draws one request at a time, always from its beginning: a sum of floating-point numbers
        depends on the shape of its batch, so that another batch or a prompt that was read again can change a token.
        """
        alone = self._options.deterministic
        waiting = iter(requests)
        for first in waiting:
            if first is None:
                continue
            rows = 0 if alone else self._window_rows(first, sampling)
            window = [msgspec.structs.replace(first, saved=()) if alone else first]
            while sum(request.n for request in window) < rows and (request := next(waiting, None)) is not None:
                window.append(request)
            with self.loaded.threads():
                opened = Window(self.loaded, window, list(map(self._encode_request, window)), sampling, self._options)
            while opened.is_open:
                with self.loaded.threads():
                    opened.step()
                if not alone:
                    yield opened.growth
            with self.loaded.threads():
                draws = opened.draws()
            yield from draws

    @without_deprecations()
    @torch.inference_mode()
    def next_tokens(self, prompts: Sequence[Prompt], most: int) -> list[NextTokens]:
        """Up to ``most`` likeliest next tokens after each prompt, without end tokens."""
        candidates: list[NextTokens] = []
        with self.loaded.threads():
            for start in range(0, len(prompts), _PREFIXES):
                encoded = [self._encode(prompt) for prompt in prompts[start : start + _PREFIXES]]
                logprobs = Batch(self.loaded.model, encoded, range(len(encoded))).logits.log_softmax(
                    -1, dtype=torch.float64
                )
                logprobs[:, self.loaded.stop] = -torch.inf
                best = logprobs.topk(min(most, logprobs.shape[-1]), -1)
                for ids, values in zip(best.indices.tolist(), best.values.tolist(), strict=True):
                    known = [(i, value) for i, value in zip(ids, values, strict=True) if value > -torch.inf]
                    candidates.append(NextTokens(tuple(i for i, _ in known), tuple(value for _, value in known)))
        return candidates

    def use_adapter(self, folder: str | None) -> None:
        """As in ``AdaptedSampler``."""
        self.loaded.use_adapter(folder)

    def close(self) -> None:
        """Free the weights."""
        self.loaded.close()

    def _encode_request(self, request: DrawRequest) -> list[int]:
        return self._encode(request.prompt)

    def _encode(self, prompt: Prompt) -> list[int]:
        return render(self.loaded.tokenizer, prompt, self._options.chat_template, self._options.template_args)

    def _window_rows(self, request: DrawRequest, sampling: SamplingParameters) -> int:
        length = self.prompt_tokens(request.prompt) + request.limit(sampling)
        by_cache = self.loaded.cache_room(_CACHE_BYTES, on_gpu=2) // length
        by_logits = _LOGIT_BYTES // (4 * self.loaded.vocabulary)
        return max(1, min(self.loaded.rows, by_cache, by_logits))
