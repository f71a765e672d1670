"""From a server's JSON to rollouts: texts, finish reasons, and exact or bounded token statistics.

Servers spell the same things differently; what they leave out is left out here too, never guessed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from rlvr_bench.errors import EngineError
from rlvr_bench.samplers import vllm_worker
from rlvr_bench.samplers.bounds import law_bounds
from rlvr_bench.samplers.endpoint_client import Failed

__all__ = ["Choice", "MeanBounds", "Position", "columns", "mean_bounds", "positions", "read_choices"]

_TOKEN_ID = "token_id:"
_STOPS = frozenset({"stop", "eos", "eos_token", "end_turn", "stop_sequence"})
_CUTS = frozenset({"length", "max_tokens"})
# Log-probabilities that come out of float32 logits are off by up to this much, in nats.
_ROUNDING = 5e-5
_IMPOSSIBLE = -9999.0  # vLLM's way to write -inf
_TOP_P = vllm_worker.TOP_P


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """One response as a server gave it. ``counted`` is its length where the server counts one response alone."""

    text: str
    finish: Literal["stop", "length"]
    ids: list[int] | None = None
    counted: int | None = None
    logprobs: dict[str, Any] | None = None

    @property
    def n_tokens(self) -> int | None:
        """Response tokens, None where nothing in the reply tells."""
        if self.ids is not None:
            return len(self.ids)
        if self.counted is not None:
            return self.counted
        found = positions(self.logprobs)
        return None if found is None else len(found)


class Position(NamedTuple):
    """What a server says of one token: its log-probability, some largest ones, and whether none of them can be lost.

    Tables keyed by text lose all but one of the tokens that are written alike.
    """

    sampled: float
    listed: list[float]
    complete: bool


class MeanBounds(NamedTuple):
    """Bounds of the means over a rollout's tokens: entropy in nats, 0.95 nucleus in tokens."""

    entropy_low: float
    entropy_high: float
    branching_low: float
    branching_high: float


# ------------------------------------------------------------------------------------------------ reading a reply
def read_choices(reply: Any) -> list[Choice]:
    """The responses in a reply of /completions or /chat/completions. Raises Failed where it is none."""
    choices = reply.get("choices")
    if not isinstance(choices, list) or not choices or not all(isinstance(choice, dict) for choice in choices):
        raise Failed("answered without any response in it", transient=True)
    usage = reply.get("usage")
    counted = usage.get("completion_tokens") if len(choices) == 1 and isinstance(usage, dict) else None
    ordered = sorted(choices, key=lambda choice: choice.get("index") or 0)
    return [_choice(choice, counted if isinstance(counted, int) else None) for choice in ordered]


def _choice(choice: dict[str, Any], counted: int | None) -> Choice:
    ids, logprobs = choice.get("token_ids"), choice.get("logprobs")
    return Choice(
        text=_text(choice),
        finish=_finish(choice.get("finish_reason")),
        ids=[int(i) for i in ids] if isinstance(ids, list) else None,
        counted=counted,
        logprobs=logprobs if isinstance(logprobs, dict) else None,
    )


def _text(choice: dict[str, Any]) -> str:
    if isinstance(choice.get("text"), str):
        return str(choice["text"])
    message = choice.get("message")
    if not isinstance(message, dict):
        raise Failed("answered with a response that has no text", transient=True)
    content = message.get("content") or ""
    if isinstance(content, list):
        content = "".join(str(part.get("text") or "") for part in content if isinstance(part, dict))
    # Servers with a reasoning parser split what the model wrote in two; put back as reasoning models write it.
    reasoning = message.get("reasoning_content") or message.get("reasoning")
    return f"<think>\n{reasoning}\n</think>\n\n{content}" if isinstance(reasoning, str) else str(content)


def _finish(reason: Any) -> Literal["stop", "length"]:
    if reason in _STOPS:
        return "stop"
    if reason in _CUTS:
        return "length"
    raise Failed(f"ended a response with {reason!r}: it was neither finished by the model nor cut at max_tokens")


def positions(logprobs: dict[str, Any] | None) -> list[Position] | None:
    """A response's log-probabilities token by token, in either spelling; None where there are none."""
    if logprobs is None:
        return None
    try:
        content = logprobs.get("content")
        if isinstance(content, list):
            return [_listed(entry) for entry in content]
        sampled, tables = logprobs.get("token_logprobs"), logprobs.get("top_logprobs")
        if sampled is None or tables is None:
            return None
        return [_keyed(lp, table) for lp, table in zip(sampled, tables, strict=True)]
    except (TypeError, ValueError, AttributeError, KeyError):
        return None


def _listed(entry: dict[str, Any]) -> Position:
    return Position(_number(entry["logprob"]), [_number(top["logprob"]) for top in entry["top_logprobs"]], True)


def _keyed(sampled: Any, table: dict[str, Any]) -> Position:
    return Position(
        _number(sampled), [_number(lp) for lp in table.values()], all(k.startswith(_TOKEN_ID) for k in table)
    )


def _number(logprob: Any) -> float:
    """A log-probability; JSON has no -inf, so that null and a large negative number stand for it."""
    value = -math.inf if logprob is None else float(logprob)
    if value > 1e-3:
        raise ValueError("no log-probability: the columns of our extension look like this")
    return value


# ------------------------------------------------------------------------------------------------ token statistics
@dataclass
class _Flat:
    """The flat shape that ``vllm_worker.decode`` reads."""

    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    start_indices: list[int] = field(default_factory=list)
    end_indices: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.start_indices)


def columns(choice: Choice) -> vllm_worker.TokenColumns:
    """Exact statistics out of the columns that our worker extension leaves in a completion's log-probabilities.

    Raises Failed where they are not there.
    """
    flat = _Flat()
    try:
        for table in (choice.logprobs or {}).get("top_logprobs") or ():
            flat.start_indices.append(len(flat.token_ids))
            flat.token_ids += [int(token.removeprefix(_TOKEN_ID)) for token in table]
            flat.logprobs += [float(value) for value in table.values()]
            flat.end_indices.append(len(flat.token_ids))
        return vllm_worker.decode(flat, choice.ids or [])
    except (EngineError, ValueError, TypeError, AttributeError):
        reason = "the columns of the worker extension are not in the answer: is the server still running with it?"
    raise Failed(reason)


def mean_bounds(found: Sequence[Position], n_tokens: int, k: int, vocabulary: int) -> MeanBounds:
    """Rigorous bounds of a rollout's mean entropy and mean nucleus size from top-``k`` lists.

    The law is over ``vocabulary`` tokens or fewer. Tokens of which nothing is known count as [0, ln V] and [1, V].
    """
    whole = (0.0, math.log(vocabulary), 1.0, float(vocabulary))
    rows = [whole if (known := _largest(p, k)) is None else _position_bounds(known, vocabulary) for p in found]
    rows += [whole] * max(n_tokens - len(rows), not rows)
    low, high, least, most = np.mean(np.array(rows), axis=0)
    return MeanBounds(float(low), float(high), float(least), float(most))


def _largest(position: Position, k: int) -> npt.NDArray[np.float64] | None:
    """The largest log-probabilities of a position with none left out, as the bounds need them; None where unsure.

    A token outside the top k may stand in the list as the one that was sampled: then it is the smallest there, in
    vLLM's chat lists even in the k-th one's place. Without it the others are the largest in any case.
    """
    listed = sorted((lp for lp in position.listed if lp > _IMPOSSIBLE), reverse=True)
    last = bool(listed) and abs(position.sampled - listed[-1]) < 1e-9
    if not position.complete and len(position.listed) < k + last:
        return None
    return np.array(listed[:-1] if last else listed) if len(listed) > last else None


def _position_bounds(known: npt.NDArray[np.float64], vocabulary: int) -> tuple[float, float, float, float]:
    """Entropy low and high, nucleus low and high, with room for the server's rounding."""
    low = law_bounds(known, vocabulary, _TOP_P - 2 * _ROUNDING)
    high = law_bounds(known, vocabulary, _TOP_P + 2 * _ROUNDING)
    slack, most = _entropy_slack(vocabulary), math.log(vocabulary)
    entropy = max(0.0, low.entropy[0] - slack), min(most, low.entropy[1] + slack)
    return *entropy, float(min(vocabulary, low.nucleus[0])), float(min(vocabulary, high.nucleus[1]))


def _entropy_slack(vocabulary: int) -> float:
    """How far two laws over V tokens at total variation distance t can differ in entropy (Audenaert 2007, eq. 1)."""
    t = _ROUNDING
    return t * math.log(vocabulary - 1) - t * math.log(t) - (1 - t) * math.log1p(-t)
