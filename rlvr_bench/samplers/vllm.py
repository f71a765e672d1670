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
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from rlvr_bench.errors import BadArgument, EngineError
from rlvr_bench.records import (
    CacheUse,
    Draw,
    DrawRequest,
    EngineInfo,
    Prompt,
    Rollout,
    SamplingParameters,
    SavedRollout,
)
from rlvr_bench.samplers import vllm_worker
from rlvr_bench.samplers.loaded_vllm import LoadedVllm, one_line, refusals
from rlvr_bench.samplers.model_files import check_context, render, response_texts
from rlvr_bench.samplers.protocol import PROMPT_END, Growth, NextTokens, SamplerOptions, usable
from rlvr_bench.samplers.seeds import continued_seed
from rlvr_bench.samplers.summary import TokenSummary, with_statistics
from rlvr_bench.samplers.vllm_open import OpenDraw, OpenDraws, end_of, redrawn
from rlvr_bench.samplers.vllm_packing import unpack
from rlvr_bench.samplers.vllm_scheduler import marked

if TYPE_CHECKING:
    from vllm.logprobs import FlatLogprobs
    from vllm.outputs import CompletionOutput

__all__ = ["VllmSampler"]

_PROMPTS_KEPT = 512
_SPLIT = 8  # where the engine holds fewer batches than this, the responses of a batch are sent as there is room


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
        return (item for item in self.draw_growing(requests, sampling) if isinstance(item, Draw))

    def draw_growing(
        self, requests: Iterable[DrawRequest | None], sampling: SamplingParameters
    ) -> Iterator[Draw | Growth]:
        """As ``draw``. The rest of a saved rollout is drawn from a seed hashed from the batch's and the saved length.

        With a presence penalty nothing is saved or continued: vLLM would not count saved tokens as drawn. Nor is it by a
        deterministic engine, whose texts must not depend on kills.
        """
        if self._drawing:
            raise EngineError("this engine is drawing already: exhaust or close the other iterator first")
        engine, waiting = self.loaded.engine, iter(requests)
        open_draws = OpenDraws(engine)
        self._drawing = more = True
        try:
            while True:
                while engine.get_num_unfinished_requests() < self.loaded.room.responses:
                    if open_draws.unsent:
                        self._send_one(*open_draws.unsent.popleft(), sampling, open_draws)
                        continue
                    request = next(waiting, None) if more else None
                    more = request is not None  # else there is none before a draw is finished, or none at all
                    if request is None:
                        break
                    self._submit(request, sampling, open_draws)
                if not open_draws:
                    return
                for output in self.loaded.step():
                    draw = open_draws.pop(output.request_id)
                    self.loaded.room.ended(draw.lengths(output))
                    if not draw.is_split:
                        yield self._finish(draw.request, draw.prompt_ids, output.outputs, sampling.stop)
                    elif draw.take(output):
                        yield self._finish_continued(draw, sampling.stop)
                    more = True
                if self.loaded.room.is_outdated:
                    self.loaded.room.renew(0, open_draws.lengths(), sampling.max_tokens)
                if self._continues(sampling):
                    yield open_draws
        finally:
            self._drawing = False
            open_draws.freeze()
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

    def use_adapter(self, folder: str | None) -> None:
        """As in ``AdaptedSampler``."""
        if self._drawing:
            raise EngineError("this engine is drawing: exhaust or close the iterator before the adapter is changed")
        self.loaded.use_adapter(folder)

    def take_cache_use(self) -> CacheUse | None:
        """How the KV cache was used since the last call; None where vLLM's statistics are off."""
        return None if self.loaded.watch is None else self.loaded.watch.take()

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

    def _submit(self, request: DrawRequest, sampling: SamplingParameters, open_draws: OpenDraws) -> None:
        """Send a batch to the engine, or leave it to be sent one response after the other, as there is room."""
        draw, room = OpenDraw(request, self._admit(request, sampling)), self.loaded.room
        draw.saved = self._continuable(request, sampling)
        if not open_draws:
            room.renew(len(draw.prompt_ids), [], sampling.max_tokens)
        draw.is_split = bool(draw.saved) or (room.is_tight and request.n * _SPLIT > room.responses)
        if draw.is_split:
            open_draws.unsent += [(draw, offset) for offset in range(request.n)]
        else:
            open_draws[self._send(draw.prompt_ids, request, sampling)] = draw

    def _send_one(self, draw: OpenDraw, offset: int, sampling: SamplingParameters, open_draws: OpenDraws) -> None:
        """Send the request of one response of a split batch."""
        name = self._send_response(draw, offset, sampling)
        draw.offsets[name] = offset
        open_draws[name] = draw

    def _send_response(self, draw: OpenDraw, offset: int, sampling: SamplingParameters) -> str:
        saved = draw.saved.get(offset)
        request = msgspec.structs.replace(draw.request, n=1, seed=draw.request.seed + offset)
        if saved is None:
            return self._send(draw.prompt_ids, request, sampling, is_part=True)
        left = 1 if saved.ended is not None else request.limit(sampling) - len(saved.ids)
        seed = continued_seed(draw.request.seed, offset, len(saved.ids))
        request = msgspec.structs.replace(request, seed=seed, max_tokens=left)
        return self._send([*draw.prompt_ids, *saved.ids.tolist()], request, sampling, is_part=True, is_saved=True)

    def _continues(self, sampling: SamplingParameters) -> bool:
        return not sampling.presence_penalty and not self._options.deterministic

    def _continuable(self, request: DrawRequest, sampling: SamplingParameters) -> dict[int, SavedRollout]:
        if not self._continues(sampling):
            return {}
        limit = request.limit(sampling)
        saved = usable(request, limit, self.loaded.vocabulary, with_columns=False)
        shortened = {offset: redrawn(rollout, limit) for offset, rollout in saved.items()}
        return {offset: rollout for offset, rollout in shortened.items() if len(rollout.ids)}

    def _send(
        self,
        ids: list[int],
        request: DrawRequest,
        sampling: SamplingParameters,
        *,
        is_part: bool = False,
        is_saved: bool = False,
    ) -> str:
        """Send a request to the engine; returns its name. Raises BadArgument where the engine refuses it.

        ``is_part``: one response of a batch, which is joined to others later. ``is_saved``: its prompt ends with tokens of
        the response.
        """
        name, stops = f"draw-{next(self._names)}", [*request.stop, *sampling.stop]
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
                **self._statistics(per_token=bool(stops) or is_part, of_prompt=is_saved),
            )
        except refusals() as error:
            asked = msgspec.structs.asdict(sampling)
            raise BadArgument(f"sampling of problem {request.prompt.problem_id}", asked, one_line(error)) from error
        return name

    def _statistics(self, *, per_token: bool, of_prompt: bool) -> dict[str, object]:
        """The sampling parameters that ask for token statistics: once per response, or ``per_token``."""
        if self._options.token_stats == "off":
            return {}
        asked = marked("arrays" if per_token or self._options.token_stats == "full" else "summary")
        return asked | ({"prompt_logprobs": vllm_worker.COLUMNS} if of_prompt else {})

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

    def _finish_continued(self, draw: OpenDraw, stop: Sequence[str]) -> Draw:
        """The finished draw of a batch of which some rollouts were saved."""
        request, tokenizer, with_stats = draw.request, self.loaded.tokenizer, self._options.token_stats != "off"
        responses = draw.responses(
            lambda output: unpack(output.routed_experts, output.token_ids) if with_stats else None,
            lambda logprobs, ids: vllm_worker.decode(logprobs, ids) if with_stats else None,
        )
        lengths = [0 if offset not in draw.saved else len(draw.saved[offset].ids) for offset in range(request.n)]
        stops = [*request.stop, *stop]
        responses = [
            response.cut(tokenizer, draw.prompt_ids, length, stops)
            for response, length in zip(responses, lengths, strict=True)
        ]
        bodies = [response.ids[: -1 if response.ended == "token" else None].tolist() for response in responses]
        texts = response_texts(tokenizer, draw.prompt_ids, request, bodies, stop)
        rollouts = []
        for offset, (response, (text, _)) in enumerate(zip(responses, texts, strict=True)):
            rollout = Rollout(
                problem_id=request.prompt.problem_id,
                index=request.start + offset,
                text=text,
                n_tokens=len(response.ids),
                finish_reason="length" if response.ended == "length" else "stop",
            )
            if response.columns is not None:
                full = self._options.token_stats == "full"
                rollout = with_statistics(rollout, response.ids, response.columns, full=full)
            rollouts.append(rollout)
        return Draw(request=request, rollouts=tuple(rollouts))

    def _rollout(self, request: DrawRequest, offset: int, output: CompletionOutput, text: str) -> Rollout:
        rollout = Rollout(
            problem_id=request.prompt.problem_id,
            index=request.start + offset,
            text=text,
            n_tokens=len(output.token_ids),
            finish_reason="length" if end_of(output) == "length" else "stop",
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
