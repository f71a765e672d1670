"""Teacher-forced scoring with vLLM: prompt log-probabilities, whose columns carry our token statistics.

A passage is sent as one prompt; the hook in the engine's workers (``vllm_worker``) writes log-probability, entropy and
nucleus size of every position into the columns of vLLM's own table. One more token is drawn and thrown away: vLLM has no
request without one.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

from rlvr_bench.errors import BadArgument, EngineError
from rlvr_bench.records import EngineInfo
from rlvr_bench.samplers import vllm_worker
from rlvr_bench.samplers.logprobs import Passage, Scored
from rlvr_bench.samplers.vllm import VllmSampler, _line, _refusals, _step

__all__ = ["VllmScorer"]


class VllmScorer:
    """Implements ``Scorer`` on an opened engine, which must have been opened with token statistics."""

    def __init__(self, sampler: VllmSampler) -> None:
        """Raises EngineError where the engine has no token statistics."""
        if sampler.info.token_stats != "exact":
            raise EngineError("scoring needs token statistics: open the engine with token_stats 'summary' or 'full'")
        self._sampler = sampler
        self._names = itertools.count()

    @property
    def info(self) -> EngineInfo:
        return self._sampler.info

    @property
    def tokenizer(self) -> Any:
        return self._sampler._tokenizer

    def score(self, passages: Sequence[Passage]) -> Iterator[tuple[int, Scored]]:
        """In order of completion. Raises BadArgument where a passage leaves no room in the model's context."""
        engine, waiting = self._sampler._engine(), iter(enumerate(passages))
        in_flight: dict[str, int] = {}
        try:
            while True:
                for number, passage in itertools.islice(waiting, self._sampler._window - len(in_flight)):
                    in_flight[self._submit(engine, passage)] = number
                if not in_flight:
                    return
                for output in _step(engine):
                    if output.finished:
                        number = in_flight.pop(output.request_id)
                        yield number, _scored(output, passages[number])
        finally:
            if in_flight:
                with contextlib.suppress(Exception):  # an engine that died has nothing to take back
                    engine.abort_request(list(in_flight))

    def close(self) -> None:
        self._sampler.close()

    def _submit(self, engine: Any, passage: Passage) -> str:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        name = f"score-{next(self._names)}"
        ids = [*passage.prompt, *passage.response.tolist()]
        parameters = SamplingParams(
            max_tokens=1,
            temperature=0.0,
            prompt_logprobs=vllm_worker.COLUMNS,
            flat_logprobs=True,
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        try:
            engine.add_request(name, {"type": "token", "prompt_token_ids": ids}, parameters)
        except _refusals() as error:
            why = (
                f"vLLM refuses it (context {self.info.context_tokens}): {_line(error)}. --engine transformers takes it"
            )
            raise BadArgument("rollout", f"{len(ids)} tokens with its prompt", why) from error
        return name


def _scored(output: Any, passage: Passage) -> Scored:
    # The first position has nothing before it, and no entry.
    columns = vllm_worker.decode(output.prompt_logprobs[len(passage.prompt) :], passage.response.tolist())
    return Scored(**columns._asdict())
