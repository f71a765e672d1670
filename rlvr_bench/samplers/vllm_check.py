"""Start-up test of the token statistics hook: its numbers against vLLM's own log-probabilities of the same tokens.

The hook uses private parts of vLLM. A version of vLLM that changed them must give an error before the first rollout,
and never wrong entropies in a result.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from rlvr_bench.errors import EngineError
from rlvr_bench.samplers import vllm_worker
from rlvr_bench.samplers.bounds import LawBounds, law_bounds

if TYPE_CHECKING:
    from vllm import LLM
    from vllm.outputs import CompletionOutput

__all__ = ["check_hook"]

_TOKENS = 6
_TOP = 20
# Both passes compute the same logits; only the order of float32 sums differs.
_NATS = 0.02


def check_hook(llm: LLM) -> None:
    """Draw a few tokens twice from one seed, with the hook and without it, and compare them position by position.

    The log-probabilities must agree within 0.02 nats. Entropy and nucleus size must be, up to rounding, within the
    bounds from vLLM's top 20 (``law_bounds``). Raises EngineError where the hook is not active or disagrees.
    """
    vocabulary = int(llm.model_config.get_vocab_size())
    allowed = int(llm.model_config.max_logprobs)
    top = min(_TOP, vocabulary - 1, allowed if allowed >= 0 else _TOP)
    hooked = _draw(llm, vllm_worker.COLUMNS)
    columns = vllm_worker.decode(hooked.logprobs, hooked.token_ids)
    llm.collective_rpc("switch_token_statistics", args=(False,))
    try:
        plain = _draw(llm, top)
    finally:
        llm.collective_rpc("switch_token_statistics", args=(True,))
    for t, (ours, theirs) in enumerate(zip(hooked.token_ids, plain.token_ids, strict=False)):
        if ours != theirs:  # two tokens were nearly equally likely: from here on the texts differ
            if t == 0:
                raise EngineError("token statistics cannot be checked: this engine draws differently from one seed")
            return
        position = plain.logprobs[t]
        law = law_bounds(np.array(sorted((e.logprob for e in position.values()), reverse=True)[:top]), vocabulary)
        measured = tuple(float(column[t]) for column in columns)
        if not _agree(measured, position[ours].logprob, law):
            raise EngineError(
                f"token statistics fail their start-up test: the hook measured (log-probability, entropy, nucleus) = "
                f"{measured}, vLLM's own top {top} say {position[ours].logprob:.4f}, {law.entropy}, {law.nucleus}. "
                "Sample with token statistics off, and report the vLLM version"
            )


def _draw(llm: LLM, logprobs: int) -> CompletionOutput:
    from vllm import SamplingParams

    # With temperature 2 and top-p the raw distribution differs from the one that is sampled from, and tokens are drawn
    # that are not the likeliest.
    sampling = SamplingParams(
        temperature=2.0, top_p=0.9, seed=7, max_tokens=_TOKENS, logprobs=logprobs, flat_logprobs=True, detokenize=False
    )
    prompt = {"prompt_token_ids": list(range(1, 5))}
    return llm.generate([prompt], sampling, use_tqdm=False)[0].outputs[0]


def _agree(measured: tuple[float, ...], logprob: float, law: LawBounds) -> bool:
    sampled_logprob, entropy, nucleus = measured
    return (
        all(map(math.isfinite, measured))
        and abs(sampled_logprob - logprob) <= _NATS
        and law.entropy[0] - _NATS <= entropy <= law.entropy[1] + _NATS
        and 0.98 * law.nucleus[0] - 1 <= nucleus <= 1.02 * law.nucleus[1] + 1
    )
