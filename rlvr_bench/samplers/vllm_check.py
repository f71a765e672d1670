"""Start-up test of the token statistics hook: its numbers against vLLM's own log-probabilities of the same tokens.

The hook uses private parts of vLLM. A version of vLLM that changed them must give an error before the first rollout,
and never wrong entropies in a result.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from rlvr_bench.errors import EngineError
from rlvr_bench.samplers import vllm_worker
from rlvr_bench.samplers.bounds import law_bounds
from rlvr_bench.samplers.summary import TokenSummary
from rlvr_bench.samplers.vllm_packing import TokenColumns, unpack
from rlvr_bench.samplers.vllm_scheduler import marked
from rlvr_bench.samplers.vllm_versions import in_words

if TYPE_CHECKING:
    from vllm import LLM
    from vllm.outputs import RequestOutput

__all__ = ["check_hook"]

_TOKENS = 6
_TOP = 20
# Both passes compute the same logits; only the order of float32 sums differs.
_NATS = 0.02
# Eight requests of one batch. Most are drawn from another law than the raw one, which the statistics describe, so that
# statistics of the wrong law are noticed, and tokens are drawn that are not the likeliest.
_ROWS: tuple[dict[str, Any], ...] = (
    {"temperature": 0.0},
    {"temperature": 0.0, "prompt_logprobs": True},
    {"temperature": 1.0, "top_p": 0.9, "seed": 1},
    {"temperature": 1.0, "seed": 2},
    {"temperature": 2.0, "top_p": 0.9, "seed": 3},
    {"temperature": 1.3, "top_k": 5, "seed": 4},
    {"temperature": 1.0, "min_p": 0.05, "seed": 5, "prompt_logprobs": True},
    {"temperature": 1.0, "repetition_penalty": 1.3, "presence_penalty": 0.5, "seed": 6},
)
_GATHERED = range(0, len(_ROWS), 2)  # through the scheduler; the others as columns, as servers send them


def check_hook(llm: LLM) -> None:
    """Draw eight requests twice from the same seeds, with the hook and without it, and compare every position.

    The log-probabilities must agree within 0.02 nats. Entropy and nucleus size must be, up to rounding, within the
    bounds from vLLM's top 20 (``law_bounds``). Raises EngineError where the hook is not active or disagrees.
    """
    vocabulary = int(llm.model_config.get_vocab_size())
    allowed = int(llm.model_config.max_logprobs)
    top = min(_TOP, vocabulary - 1, allowed if allowed >= 0 else _TOP)
    hooked = _draw(llm, None)
    statistics = [_statistics(row, output) for row, output in enumerate(hooked)]
    llm.collective_rpc("switch_token_statistics", args=(False,))
    try:
        plain = _draw(llm, top)
    finally:
        llm.collective_rpc("switch_token_statistics", args=(True,))
    compared = 0
    for row, (ours, theirs) in enumerate(zip(hooked, plain, strict=True)):
        for token, measured, position in _positions(statistics[row], ours, theirs):
            compared += 1
            if fault := _fault(token, measured, position, top, vocabulary):
                raise EngineError(f"token statistics fail their start-up test ({_ROWS[row]}): {fault}. {_remedy()}")
    if compared < len(_ROWS):
        raise EngineError(
            f"token statistics cannot be checked: this engine draws differently from one seed. {_remedy()}"
        )


def _draw(llm: LLM, top: int | None) -> list[RequestOutput]:
    """The eight requests, with the hook's columns or with the ``top`` likeliest tokens."""
    from vllm import SamplingParams

    parameters = []
    for row, asked in enumerate(_ROWS):
        count = vllm_worker.COLUMNS if top is None else top
        logprobs = marked("arrays") if top is None and row in _GATHERED else {"logprobs": count}
        prompt = {"prompt_logprobs": count} if "prompt_logprobs" in asked else {}
        common = {"max_tokens": _TOKENS, "flat_logprobs": True, "detokenize": False}
        parameters.append(SamplingParams(**{**asked, **common, **logprobs, **prompt}))
    prompts = [{"prompt_token_ids": list(range(1, 4 + row % 4))} for row in range(len(_ROWS))]
    outputs: list[RequestOutput] = llm.generate(prompts, parameters, use_tqdm=False)
    return outputs


def _statistics(row: int, output: RequestOutput) -> tuple[TokenColumns, TokenColumns | None]:
    """Statistics of the drawn tokens, and of the prompt where they were asked for."""
    (completion,) = output.outputs
    if row in _GATHERED:
        drawn = unpack(completion.routed_experts, completion.token_ids)
    else:
        drawn = vllm_worker.decode(completion.logprobs, completion.token_ids)
    assert not isinstance(drawn, TokenSummary)
    if "prompt_logprobs" not in _ROWS[row]:
        return drawn, None
    return drawn, vllm_worker.decode(output.prompt_logprobs[1:], output.prompt_token_ids[1:])


def _positions(
    statistics: tuple[TokenColumns, TokenColumns | None], ours: RequestOutput, theirs: RequestOutput
) -> Iterator[tuple[int, tuple[float, ...], Mapping[int, Any]]]:
    """(token, our statistics, vLLM's log-probabilities) of the positions where both passes have the same past."""
    drawn, prompt = statistics
    if prompt is not None:
        for t, token in enumerate(ours.prompt_token_ids[1:]):
            yield token, tuple(float(column[t]) for column in prompt), theirs.prompt_logprobs[t + 1]
    for t, (a, b) in enumerate(zip(ours.outputs[0].token_ids, theirs.outputs[0].token_ids, strict=False)):
        if a != b:  # two tokens were nearly equally likely: from here on the texts differ
            return
        yield a, tuple(float(column[t]) for column in drawn), theirs.outputs[0].logprobs[t]


def _fault(
    token: int, measured: tuple[float, ...], position: Mapping[int, Any], top: int, vocabulary: int
) -> str | None:
    """What is wrong with the statistics of one token; None where they agree with vLLM's own."""
    logprob = position[token].logprob
    law = law_bounds(_largest(position, top), vocabulary)
    sampled, entropy, nucleus = measured
    if (
        all(map(math.isfinite, measured))
        and abs(sampled - logprob) <= _NATS
        and law.entropy[0] - _NATS <= entropy <= law.entropy[1] + _NATS
        and 0.98 * law.nucleus[0] - 1 <= nucleus <= 1.02 * law.nucleus[1] + 1
    ):
        return None
    return (
        f"the hook measured (log-probability, entropy, nucleus) = {measured}, "
        f"vLLM's own top {top} say {logprob:.4f}, {law.entropy}, {law.nucleus}"
    )


def _largest(position: Mapping[int, Any], top: int) -> Any:
    return np.array(sorted((entry.logprob for entry in position.values()), reverse=True)[:top])


def _remedy() -> str:
    version = importlib.import_module("vllm").__version__
    return (
        f"This is vLLM {version}: install another version ({in_words()}) and report this one, "
        "or sample with --token-stats off"
    )
