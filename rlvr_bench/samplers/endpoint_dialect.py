"""What a server accepts on a route, found out with requests of a few tokens.

Servers share a protocol and differ in details: how many responses a request may ask for, whether large seeds are
accepted, what is reported about the tokens, and which distribution the log-probabilities describe. Servers also have
different defaults: vLLM takes top-k from the model's generation config, llama.cpp has another default. So these
parameters are sent explicitly where the server accepts them.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Literal, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from rlvr_bench.errors import EngineError
from rlvr_bench.json_format import JSON
from rlvr_bench.records import SamplingParameters
from rlvr_bench.samplers.endpoint_failures import Failed
from rlvr_bench.samplers.endpoint_replies import Choice, columns, positions
from rlvr_bench.samplers.vllm_worker import COLUMNS

__all__ = ["HOT", "OWN_PARAMETERS", "PLAIN", "Dialect", "Route", "child_seed", "learn"]

T = TypeVar("T")

log = logging.getLogger(__name__)

Route = Literal["completions", "chat"]

# Parameters of vLLM, SGLang and llama.cpp that OpenAI's protocol does not have.
OWN_PARAMETERS = ("top_k", "min_p", "repetition_penalty")

_TOP = 20  # the most that vLLM's and OpenAI's servers give
_SEED_BITS = 62  # leaves room for + i in a signed 64-bit seed; see ``seeds.draw_seed``
_MANY = 4
# High temperature and top-p: so the model's distribution and the one that is sampled from differ clearly.
HOT = SamplingParameters(temperature=2.0, top_p=0.9, max_tokens=8)
PLAIN = SamplingParameters(temperature=1.0, top_p=1.0, max_tokens=1)
# In nats. Two requests for one distribution differ only by rounding; another temperature changes it much more.
_SAME_LAW = 0.1


class Dialect(msgspec.Struct, frozen=True, kw_only=True):
    """What a server accepts on one route, and whether its token statistics are exact."""

    route: Route
    limit: str = "max_tokens"
    explicit: bool = True
    ids: bool = True
    top: int = _TOP
    many: bool = True
    seed_bits: int = _SEED_BITS
    exact: bool = False

    def body(self, sampling: SamplingParameters, n: int, seed: int) -> dict[str, JSON]:
        """A request without its model and prompt."""
        body: dict[str, JSON] = {
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            self.limit: sampling.max_tokens,
        }
        if n > 1:
            body["n"] = n
        if self.seed_bits:
            body["seed"] = (
                seed if self.seed_bits == _SEED_BITS else child_seed(seed, 0) >> (_SEED_BITS - self.seed_bits)
            )
        if self.explicit:  # top_k -1 means no limit in vLLM, SGLang and llama.cpp
            body |= {
                "top_k": sampling.top_k or -1,
                "min_p": sampling.min_p,
                "repetition_penalty": sampling.repetition_penalty,
            }
        elif sampling.top_k:
            body["top_k"] = sampling.top_k
        if sampling.presence_penalty:  # of OpenAI's protocol, and 0 on every server
            body["presence_penalty"] = sampling.presence_penalty
        if sampling.stop:
            body["stop"] = list(sampling.stop)
        if self.ids:
            body |= {"return_token_ids": True, "return_tokens_as_token_ids": True}
        if self.top:
            body |= {"logprobs": True, "top_logprobs": self.top} if self.route == "chat" else {"logprobs": self.top}
        return body


def child_seed(seed: int, i: int) -> int:
    """The seed of response i, where the responses of a draw batch must be requested one at a time."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{i}".encode()).digest()[:8], "big") >> (64 - _SEED_BITS)


Ask = Callable[[Dialect, SamplingParameters, int], Awaitable[list[Choice]]]

# What can be added to a plain request, step by step. A step has alternatives, the best one first, and the parameter
# names that a refusal may contain.
_EXTRAS: tuple[tuple[tuple[dict[str, JSON], ...], tuple[str, ...]], ...] = (
    (({"explicit": True},), OWN_PARAMETERS),
    (({"ids": True},), ("return_token_ids", "return_tokens_as_token_ids")),
    (({"top": _TOP}, {"top": 5}), ("logprobs", "top_logprobs")),
    (({"many": True},), ("n", "best_of", "multiple")),
    (({"seed_bits": _SEED_BITS}, {"seed_bits": 31}), ("seed",)),
)
_EVERY_NAME = tuple(name for _, names in _EXTRAS for name in names)


async def _unless(work: Awaitable[T], proof: Callable[[Failed], bool]) -> T | None:
    """The result, or None where ``proof`` says that the failure proves a lack. Raises Failed for any other failure."""
    try:
        return await work
    except Failed as failure:
        if proof(failure):
            return None
        raise


async def _if_taken(work: Awaitable[T], names: Sequence[str]) -> T | None:
    """The result, or None where the server says that it does not accept these parameters.

    Raises Failed for any other failure.
    """
    return await _unless(work, lambda failure: failure.says_unsupported(*names))


async def learn(ask: Ask, route: Route, measure: bool) -> Dialect:
    """Find out what a server accepts on a route, with requests of a few tokens.

    Raises Failed where it accepts no request, EngineError where its exact statistics describe the distribution that is
    sampled from, and not the model's own.
    """
    if measure and route == "completions":
        exact = Dialect(route=route, top=COLUMNS, exact=True)
        choices = await _if_taken(ask(exact, HOT, _MANY), _EVERY_NAME)
        if choices and _has_columns(choices):
            await _check_law(ask, exact, choices)
            return exact
    dialect, choices = await _richest(ask, Dialect(route=route, top=_TOP if measure else 0))
    if len(choices) > 1 and any(choice.n_tokens is None for choice in choices):
        log.info("the server counts the tokens of a whole request only: each response is asked for by itself")
        dialect = msgspec.structs.replace(dialect, many=False)
    # Equal answers to a request at high temperature: this server uses one random stream for all responses of a request.
    elif len({choice.text for choice in choices}) == 1:
        dialect = msgspec.structs.replace(dialect, many=False)
    if not dialect.top or not await _reports_own_law(ask, dialect, choices):
        return msgspec.structs.replace(dialect, top=0)
    listed = [len(position.listed) for choice in choices for position in positions(choice.logprobs) or ()]
    return msgspec.structs.replace(dialect, top=min([dialect.top, *listed]))  # some servers give fewer


async def _richest(ask: Ask, wanted: Dialect) -> tuple[Dialect, list[Choice]]:
    """The dialect with the most that the server accepts, and its responses.

    Most servers accept all parts at once. Else a plain request is tried, and then the parts one after another.
    """
    # Where all parts at once are refused, it is not known which part is the cause: the steps below find it.
    choices = await _unless(ask(wanted, HOT, _MANY), lambda failure: failure.is_definite)
    if choices is not None:
        return wanted, choices
    accepted = msgspec.structs.replace(wanted, explicit=False, ids=False, top=0, many=False, seed_bits=0)
    choices = await _if_taken(ask(accepted, HOT, 1), ["max_tokens"])
    if choices is None:
        accepted = msgspec.structs.replace(accepted, limit="max_completion_tokens")
        choices = await ask(accepted, HOT, 1)
    for alternatives, names in _EXTRAS:
        for change in alternatives:
            if "top" in change and not wanted.top:
                continue
            richer = msgspec.structs.replace(accepted, **change)
            answer = await _if_taken(ask(richer, HOT, _MANY if richer.many else 1), names)
            if answer is not None:
                accepted, choices = richer, answer
                break
    return accepted, choices


def _has_columns(choices: Sequence[Choice]) -> bool:
    try:
        return sum(len(columns(choice).entropy) for choice in choices) > 0
    except Failed:
        return False


async def _check_law(ask: Ask, dialect: Dialect, hot: Sequence[Choice]) -> None:
    """Check that the entropy at the first token does not depend on the sampling parameters. Raises EngineError."""
    entropies = [columns(choice).entropy for choice in (*hot, *await ask(dialect, PLAIN, 1))]
    first, second = (
        float(next((law[0] for law in laws if len(law)), np.nan)) for laws in (entropies[:-1], entropies[-1:])
    )
    if abs(first - second) > _SAME_LAW:
        raise EngineError(
            f"this server measures the law it samples from, not the model's own (entropy {first:.3f} when hot, "
            f"{second:.3f} when not): start it with --logprobs-mode raw_logprobs, or sample with token statistics off"
        )


async def _reports_own_law(ask: Ask, dialect: Dialect, hot: Sequence[Choice]) -> bool:
    """Whether the server sends log-probabilities of the model's own distribution: at temperature 1, before top-p."""
    (plain, *_) = await ask(dialect, PLAIN, 1)
    hottest, cold = _first_law(hot[0]), _first_law(plain)
    if hottest is None or cold is None:
        log.warning("the server gives no log-probabilities: token statistics are not measured")
        return False
    length = min(5, len(hottest), len(cold))
    if float(np.median(np.abs(hottest[:length] - cold[:length]))) > _SAME_LAW:
        log.warning("the server's log-probabilities follow the temperature: token statistics are not measured")
        return False
    return True


def _first_law(choice: Choice) -> npt.NDArray[np.float64] | None:
    """The log-probabilities listed at a response's first token, largest first, at least -50; None without a list."""
    listed = positions(choice.logprobs)
    if not listed or not listed[0].listed:
        return None
    largest_first: npt.NDArray[np.float64] = np.sort(listed[0].listed)[::-1]
    return np.maximum(largest_first, -50.0)
