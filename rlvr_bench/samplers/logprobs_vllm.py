"""Teacher-forced scoring with vLLM: our token statistics are in the columns of its prompt log-probabilities.

A passage is sent as one prompt. The hook in the engine's workers (``vllm_worker``) writes log-probability, entropy and
nucleus size of every position into vLLM's table of log-probabilities. One more token is drawn and ignored, because a
request to vLLM must draw at least one.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rlvr_bench.errors import BadArgument, EngineError
from rlvr_bench.records import EngineInfo, SamplingParameters
from rlvr_bench.samplers import vllm_worker
from rlvr_bench.samplers.loaded_vllm import LoadedVllm, one_line, refusals
from rlvr_bench.samplers.logprobs import LawScore, Passage, Scored
from rlvr_bench.samplers.tokenizer import Tokenizer

if TYPE_CHECKING:
    from vllm.outputs import RequestOutput

__all__ = ["VllmScorer"]


class VllmScorer:
    """Implements ``Scorer`` with a loaded engine that has token statistics."""

    def __init__(self, loaded: LoadedVllm) -> None:
        """Raises EngineError where the engine has no token statistics."""
        if loaded.info.token_stats != "exact":
            raise EngineError("scoring needs token statistics: open the engine with token_stats 'summary' or 'full'")
        self._loaded = loaded
        self._names = itertools.count()

    @property
    def info(self) -> EngineInfo:
        return self._loaded.info

    @property
    def tokenizer(self) -> Tokenizer:
        return self._loaded.tokenizer

    @property
    def end_tokens(self) -> frozenset[int]:
        return self._loaded.end_tokens

    def score(self, passages: Sequence[Passage]) -> Iterator[tuple[int, Scored]]:
        """Yields in order of completion. Raises BadArgument where a passage does not fit into the model's context."""
        waiting = iter(enumerate(passages))
        in_flight: dict[str, int] = {}
        try:
            while True:
                for number, passage in itertools.islice(waiting, self._loaded.window - len(in_flight)):
                    in_flight[self._submit(passage)] = number
                if not in_flight:
                    return
                for output in self._loaded.step():
                    number = in_flight.pop(output.request_id)
                    yield number, _scored(output, passages[number])
        finally:
            self._loaded.abort(list(in_flight))

    def score_law(self, passages: Sequence[Passage], sampling: SamplingParameters) -> Iterator[tuple[int, LawScore]]:
        if not sampling.is_own_law:
            why = f"vLLM scores the model's unchanged distribution only, and the law is {sampling.in_words()}"
            raise BadArgument("--engine", "vllm", f"{why}. Take transformers")
        for number, scored in self.score(passages):
            yield number, LawScore(float(scored.logprob.sum(dtype="float64")), 0)

    def close(self) -> None:
        self._loaded.close()

    def _submit(self, passage: Passage) -> str:
        name = f"score-{next(self._names)}"
        ids = [*passage.prompt, *passage.response.tolist()]
        try:
            self._loaded.submit(name, ids, max_tokens=1, temperature=0.0, prompt_logprobs=vllm_worker.COLUMNS)
        except refusals() as error:
            why = f"vLLM refuses it (context {self.info.context_tokens}): {one_line(error)}. --engine transformers takes it"
            raise BadArgument("rollout", f"{len(ids)} tokens with its prompt", why) from error
        return name


def _scored(output: RequestOutput, passage: Passage) -> Scored:
    # The first position has no statistics: no token precedes it.
    columns = vllm_worker.decode(output.prompt_logprobs[len(passage.prompt) :], passage.response.tolist())
    return Scored(**columns._asdict())
