"""vLLM as a sampler: it reads a stream of draw requests, and yields every draw as soon as it is finished.

The engine runs in separate processes. A bounded number of rollouts is in flight. Requests are read from the iterator as
rollouts end, so that the engine always has work and the driver never has a whole run in memory. A draw batch is one
request with its size in the engine's parameter ``n``, so its prompt is read once. Response i of a request is drawn from
the seed ``request.seed + i``.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Literal

import msgspec
import numpy as np

from rlvr_bench.errors import BadArgument, EngineError
from rlvr_bench.records import Draw, DrawRequest, EngineInfo, Prompt, Rollout, SamplingParameters
from rlvr_bench.samplers import vllm_worker
from rlvr_bench.samplers.loaded_vllm import LoadedVllm, one_line, refusals
from rlvr_bench.samplers.model_files import check_context, render, response_texts
from rlvr_bench.samplers.protocol import PROMPT_END, NextTokens, SamplerOptions
from rlvr_bench.samplers.summary import TokenSummary, with_statistics
from rlvr_bench.samplers.vllm_packing import unpack
from rlvr_bench.samplers.vllm_scheduler import marked

if TYPE_CHECKING:
    from vllm.logprobs import FlatLogprobs
    from vllm.outputs import CompletionOutput

__all__ = ["VllmSampler"]

_PROMPTS_KEPT = 512


class VllmSampler:
    """Implements ``Sampler`` with ``loaded``, a vLLM engine. Engine arguments: see ``LoadedVllm``."""

    def __init__(self, options: SamplerOptions) -> None:
        """Start the engine and load the model. Raises ModelError, EngineError or BadArgument, all in one line."""
        self.loaded = LoadedVllm(options)
        self._options = options
        self._names = itertools.count()
        self._prompts: OrderedDict[str, tuple[Prompt, list[int]]] = OrderedDict()
        self._drawing = False

    @property
    def info(self) -> EngineInfo:
        return self.loaded.info

    def prompt_tokens(self, prompt: Prompt) -> int:
        return len(self._encode(prompt))

    def prompt_end(self, prompt: Prompt) -> str:
        return self.loaded.tokenizer.decode(self._encode(prompt)[-PROMPT_END:])

    def draw(self, requests: Iterable[DrawRequest | None], sampling: SamplingParameters) -> Iterator[Draw]:
        """Draws in order of completion. Closing the iterator early cancels the open requests.

        Raises BadArgument where a prompt does not fit or a request asks for several greedy draws; EngineError where the
        engine fails, or another ``draw`` is in progress.
        """
        if self._drawing:
            raise EngineError("this engine is drawing already: exhaust or close the other iterator first")
        engine, waiting = self.loaded.engine, iter(requests)
        open_draws: dict[str, tuple[DrawRequest, list[int]]] = {}
        self._drawing = more = True
        try:
            while True:
                while more and engine.get_num_unfinished_requests() < self.loaded.window:
                    request = next(waiting, None)
                    if more := request is not None:  # else there is none before a draw is finished, or none at all
                        self._submit(request, sampling, open_draws)
                if not open_draws:
                    return
                for output in self.loaded.step():
                    yield self._finish(*open_draws.pop(output.request_id), output.outputs, sampling.stop)
                    more = True
        finally:
            self._drawing = False
            self.loaded.abort(list(open_draws))

    def next_tokens(self, prompts: Sequence[Prompt], most: int) -> list[NextTokens]:
        """The likeliest next tokens after each prompt, without end tokens. The engine's prefix cache keeps the prompts.

        Raises BadArgument where a prompt does not fit, EngineError where the engine fails.
        """
        names = {}
        for number, prompt in enumerate(prompts):
            ids = self._encode(prompt)
            check_context({prompt.problem_id: len(ids)}, 1, self.info.context_tokens)
            names[name := f"next-{next(self._names)}"] = number
            self.loaded.submit(name, ids, max_tokens=1, temperature=0.0, logprobs=most + vllm_worker.COLUMNS)
        by_number: dict[int, NextTokens] = {}
        while len(by_number) < len(prompts):
            for output in self.loaded.step():
                by_number[names[output.request_id]] = _candidates(output.outputs[0].logprobs, self.loaded.end_tokens)
        return [by_number[number] for number in range(len(prompts))]

    def close(self) -> None:
        """End the engine's processes, which frees its memory; a closed sampler cannot draw."""
        self.loaded.close()

    def _encode(self, prompt: Prompt) -> list[int]:
        """Token ids of a prompt, cached. Draw batches of one problem follow each other, so a small cache is enough."""
        kept = self._prompts.get(prompt.problem_id)
        if kept is None or kept[0] != prompt:
            kept = (
                prompt,
                render(self.loaded.tokenizer, prompt, self._options.chat_template, self._options.template_args),
            )
            self._prompts[prompt.problem_id] = kept
            if len(self._prompts) > _PROMPTS_KEPT:
                self._prompts.popitem(last=False)
        return kept[1]

    def _admit(self, request: DrawRequest, sampling: SamplingParameters) -> list[int]:
        if sampling.temperature == 0 and request.n > 1:
            raise BadArgument(
                "temperature",
                0,
                f"{request.n} greedy draws of one problem are identical; draw n=1, or take a positive one",
            )
        ids = self._encode(request.prompt)
        check_context({request.prompt.problem_id: len(ids)}, request.limit(sampling), self.info.context_tokens)
        return ids

    def _submit(
        self,
        request: DrawRequest,
        sampling: SamplingParameters,
        open_draws: dict[str, tuple[DrawRequest, list[int]]],
    ) -> None:
        ids, name = self._admit(request, sampling), f"draw-{next(self._names)}"
        stops = [*request.stop, *sampling.stop]
        try:
            self.loaded.submit(
                name,
                ids,
                n=request.n,
                seed=request.seed,
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                top_k=sampling.top_k,
                min_p=sampling.min_p,
                repetition_penalty=sampling.repetition_penalty,
                presence_penalty=sampling.presence_penalty,
                max_tokens=request.limit(sampling),
                stop=stops or None,
                detokenize=bool(stops),  # else once at the end, not a token at a time
                **self._statistics(stops),
            )
        except refusals() as error:
            asked = msgspec.structs.asdict(sampling)
            raise BadArgument(f"sampling of problem {request.prompt.problem_id}", asked, one_line(error)) from error
        open_draws[name] = (request, ids)

    def _statistics(self, stops: Sequence[str]) -> dict[str, object]:
        """The sampling parameters that ask for token statistics."""
        if self._options.token_stats == "off":
            return {}
        return marked("arrays" if stops or self._options.token_stats == "full" else "summary")

    def _finish(
        self, request: DrawRequest, prompt_ids: list[int], outputs: Sequence[CompletionOutput], stop: Sequence[str]
    ) -> Draw:
        # The token that ended a response is no part of its text, special or not.
        ended = [o.finish_reason == "stop" and not isinstance(o.stop_reason, str) for o in outputs]
        bodies = [o.token_ids[:-1] if end else o.token_ids for o, end in zip(outputs, ended, strict=True)]
        texts = response_texts(self.loaded.tokenizer, prompt_ids, request, bodies, stop)
        rollouts = (
            self._rollout(request, i, o, text) for i, (o, (text, _)) in enumerate(zip(outputs, texts, strict=True))
        )
        return Draw(request=request, rollouts=tuple(rollouts))

    def _rollout(self, request: DrawRequest, offset: int, output: CompletionOutput, text: str) -> Rollout:
        rollout = Rollout(
            problem_id=request.prompt.problem_id,
            index=request.start + offset,
            text=text,
            n_tokens=len(output.token_ids),
            finish_reason=_finish_reason(output.finish_reason),
        )
        if self._options.token_stats == "off":
            return rollout
        statistics = unpack(output.routed_experts, output.token_ids)
        if isinstance(statistics, TokenSummary):
            return msgspec.structs.replace(rollout, **msgspec.structs.asdict(statistics))
        full = self._options.token_stats == "full"
        return with_statistics(rollout, np.asarray(output.token_ids), statistics, full=full)


def _candidates(logprobs: FlatLogprobs, ends: Collection[int]) -> NextTokens:
    """The likeliest tokens at a response's first position: they follow the columns of the statistics."""
    start, end = logprobs.start_indices[0] + vllm_worker.COLUMNS + 1, logprobs.end_indices[0]
    listed = zip(logprobs.token_ids[start:end], logprobs.logprobs[start:end], strict=True)
    known = [(int(token), float(value)) for token, value in listed if token not in ends]
    return NextTokens(tuple(token for token, _ in known), tuple(value for _, value in known))


def _finish_reason(reason: str | None) -> Literal["stop", "length"]:
    if reason == "stop":
        return "stop"
    if reason == "length":
        return "length"
    raise EngineError(
        f"vLLM ended a rollout with {reason!r}: it was neither finished by the model nor cut at max_tokens"
    )
