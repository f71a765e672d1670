"""Reads responses from a server's JSON: texts, finish reasons, and exact or bounded token statistics.

Servers use different formats for the same things. A value that a server leaves out is missing here too; it is never
guessed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from rlvr_bench.errors import EngineError
from rlvr_bench.json_format import JSON
from rlvr_bench.samplers import vllm_worker
from rlvr_bench.samplers.bounds import law_bounds
from rlvr_bench.samplers.endpoint_failures import Failed
from rlvr_bench.samplers.vllm_packing import TokenColumns

__all__ = ["Choice", "MeanBounds", "Position", "columns", "mean_bounds", "positions", "read_choices"]

_TOKEN_ID = "token_id:"
_STOPS = ("stop", "eos", "eos_token", "end_turn", "stop_sequence")  # a tuple: ``in`` also works for unhashable JSON
_CUTS = ("length", "max_tokens")
_REASONING = ("reasoning_content", "reasoning")
_INT32 = 2**31  # integers in the store are below this
_SLACK = 64  # tokens
_MOST_NATS = math.log(_INT32)  # the largest entropy of a distribution over that many tokens
# The largest error, in nats, of log-probabilities that are computed from float32 logits.
_ROUNDING = 5e-5
_SAME = 0.01
_IMPOSSIBLE = -9999.0  # vLLM writes this number for -inf
_TOP_P = vllm_worker.TOP_P


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """One response. ``counted``: its length in tokens by the server, known where the reply has only this response."""

    text: str
    finish: Literal["stop", "length"]
    ids: list[int] | None = None
    counted: int | None = None
    logprobs: dict[str, Any] | None = None

    @property
    def n_tokens(self) -> int | None:
        """Length of the response in tokens; None where the reply does not contain it."""
        if self.ids is not None:
            return len(self.ids)
        if self.counted is not None:
            return self.counted
        listed = positions(self.logprobs)
        return None if listed is None else len(listed)


class Position(NamedTuple):
    """What a server reports about one token.

    ``sampled``: its log-probability. ``listed``: the largest log-probabilities at its position. ``complete``: whether
    ``listed`` has every entry that the server listed. A table keyed by text keeps only one of several tokens with the
    same text, so it may be incomplete.
    """

    sampled: float
    listed: list[float]
    complete: bool


class MeanBounds(NamedTuple):
    """Bounds of means over a rollout's tokens: entropy in nats; branching, the size of the 0.95 nucleus, in tokens."""

    entropy_low: float
    entropy_high: float
    branching_low: float
    branching_high: float


# ------------------------------------------------------------------------------------------------ reading a reply
def read_choices(reply: Mapping[str, JSON], n: int | None = None, max_tokens: int | None = None) -> list[Choice]:
    """The responses in a reply of /completions or /chat/completions, in the order of their index.

    Raises Failed where the reply has no responses, contradicts itself, or does not answer a request for at most ``n``
    responses of at most ``max_tokens`` tokens.
    """
    choices = reply.get("choices")
    if not isinstance(choices, list) or not choices or not all(isinstance(choice, dict) for choice in choices):
        raise Failed.malformed("answered without any response in it")
    if n is not None and len(choices) > n:
        raise Failed.malformed(f"answered with {len(choices)} responses where {n} were asked for")
    usage = reply.get("usage")
    if usage is not None and not isinstance(usage, dict):
        raise Failed.malformed("answered with a usage that is no object")
    counted = _count((usage or {}).get("completion_tokens"))
    responses = [_choice(choice, counted if len(choices) == 1 else None) for choice in _in_order(choices)]
    for choice in responses:
        _check_length(choice, max_tokens)
    return responses


def _in_order(choices: Sequence[Mapping[str, JSON]]) -> Sequence[Mapping[str, JSON]]:
    """The responses in the order of their index. Some servers give no index; then no response may have one.

    Raises Failed where the indices are not 0, 1, 2 and so on.
    """
    if all(choice.get("index") is None for choice in choices):
        return choices
    indices = {index: choice for choice in choices if type(index := choice.get("index")) is int}
    if sorted(indices) != list(range(len(choices))):
        raise Failed.malformed("answered with responses whose indices do not count them")
    return [indices[i] for i in range(len(choices))]


def _choice(choice: Mapping[str, JSON], counted: int | None) -> Choice:
    logprobs = choice.get("logprobs")
    if logprobs is not None and not isinstance(logprobs, dict):
        raise Failed.malformed("answered with log-probabilities that are no object")
    return Choice(
        text=_text(choice),
        finish=_finish(choice.get("finish_reason")),
        ids=_ids(choice.get("token_ids")),
        counted=counted,
        logprobs=logprobs,
    )


def _ids(ids: JSON) -> list[int] | None:
    if ids is None:
        return None
    if not isinstance(ids, list) or not all(type(token) is int and 0 <= token < _INT32 for token in ids):
        raise Failed.malformed("answered with token ids that are none")
    return ids


def _count(value: JSON) -> int | None:
    if value is None:
        return None
    if type(value) is not int or not 0 <= value < _INT32:
        raise Failed.malformed("answered with a number of tokens that is none")
    return value


def _check_length(choice: Choice, max_tokens: int | None) -> None:
    """Raise Failed for an impossible length. A proxy may count other tokens, so up to 2 max_tokens + 64 are allowed."""
    n = choice.n_tokens
    if n == 0 and choice.text:
        raise Failed.malformed("answered with a text of no tokens")
    if n is not None and max_tokens is not None and n > 2 * max_tokens + _SLACK:
        raise Failed.malformed(f"answered with {n} tokens where at most {max_tokens} were asked for")


def _text(choice: Mapping[str, JSON]) -> str:
    if isinstance(choice.get("text"), str):
        return str(choice["text"])
    message = choice.get("message")
    if not isinstance(message, dict):
        raise Failed.malformed("answered with a response that has no text")
    # Servers with a reasoning parser split the model's text in two. It is joined again, as reasoning models write it.
    reasoning = next((message[name] for name in _REASONING if message.get(name) is not None), None)
    cut = choice.get("finish_reason") in _CUTS  # cut before its answer began: some servers send no content
    content = message.get("content")
    if content is None and (cut or reasoning is not None):
        content = ""
    if isinstance(content, list):
        content = "".join(_part(part) for part in content)
    if not isinstance(content, str) or not isinstance(reasoning, str | None):
        raise Failed.malformed("answered with a response that has no text")
    return content if reasoning is None else f"<think>\n{reasoning}\n</think>\n\n{content}"


def _part(part: JSON) -> str:
    text = part.get("text", "") if isinstance(part, dict) else None
    if not isinstance(text, str):
        raise Failed.malformed("answered with a part of a response that has no text")
    return text


def _finish(reason: JSON) -> Literal["stop", "length"]:
    if reason in _STOPS:
        return "stop"
    if reason in _CUTS:
        return "length"
    if isinstance(reason, str | None):
        shown = None if reason is None else reason[:80]
        raise Failed(f"ended a response with {shown!r}: it was neither finished by the model nor cut at max_tokens")
    raise Failed.malformed("ended a response with something that is no reason")


def positions(logprobs: dict[str, Any] | None) -> list[Position] | None:
    """A response's log-probabilities, one ``Position`` per token; None where there are none that can be read.

    Reads the format of /chat/completions (``content``) and that of /completions (``token_logprobs``, ``top_logprobs``).
    """
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


def _keyed(sampled: JSON, table: Mapping[str, JSON]) -> Position:
    return Position(
        _number(sampled), [_number(lp) for lp in table.values()], all(k.startswith(_TOKEN_ID) for k in table)
    )


def _number(logprob: JSON) -> float:
    """A log-probability; -inf for null. JSON has no -inf: servers write null or a large negative number.

    Raises ValueError for anything else.
    """
    if logprob is None:
        return -math.inf
    if not isinstance(logprob, int | float) or isinstance(logprob, bool) or not logprob <= 1e-3:
        raise ValueError("no log-probability: the columns of our extension look like this")
    return float(logprob)


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


def columns(choice: Choice) -> TokenColumns:
    """Exact statistics from the columns that our worker extension writes into a completion's log-probabilities.

    Raises Failed where the columns are missing.
    """
    flat = _Flat()
    try:
        for table in (choice.logprobs or {}).get("top_logprobs") or ():
            flat.start_indices.append(len(flat.token_ids))
            flat.token_ids += [int(token.removeprefix(_TOKEN_ID)) for token in table]
            flat.logprobs += _statistics(list(table.values()))
            flat.end_indices.append(len(flat.token_ids))
        return vllm_worker.decode(flat, choice.ids or [])
    except (EngineError, ValueError, TypeError, AttributeError, OverflowError):
        reason = "the columns of the worker extension are not in the answer: is the server still running with it?"
    raise Failed(reason)


def _statistics(values: Sequence[object]) -> list[float]:
    """The values as numbers. Raises ValueError unless the first three can be log-probability, entropy, nucleus size."""
    numbers = [float(value) for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    if len(numbers) != len(values) or len(numbers) < 3:
        raise ValueError("no three numbers")
    logprob, entropy, nucleus = numbers[:3]
    if not (_IMPOSSIBLE <= logprob <= 1e-3 and 0 <= entropy < _MOST_NATS and 1 <= nucleus < _INT32):
        raise ValueError("no statistics of a token")
    return numbers


def mean_bounds(listed: Sequence[Position], n_tokens: int, k: int, vocabulary: int) -> MeanBounds:
    """Rigorous bounds of a rollout's mean entropy and mean nucleus size from top-``k`` lists.

    The distributions are over V = ``vocabulary`` tokens or fewer. A token without a usable list counts with an entropy
    in [0, ln V] nats and a nucleus size in [1, V].
    """
    whole = (0.0, math.log(vocabulary), 1.0, float(vocabulary))
    rows = [whole if (known := _largest(p, k)) is None else _position_bounds(known, vocabulary) for p in listed]
    rows += [whole] * max(n_tokens - len(rows), not rows)
    low, high, least, most = np.mean(np.array(rows), axis=0)
    return MeanBounds(float(low), float(high), float(least), float(most))


def _largest(position: Position, k: int) -> npt.NDArray[np.float64] | None:
    """The largest log-probabilities at a position, without a gap, as the bounds need them; None where it is uncertain.

    The sampled token may be in the list although it is not in the top k. Then it is the smallest of the list; in vLLM's
    chat lists it even replaces the k-th largest. So a sampled token that is the smallest is left out: the others are
    the largest in either case.
    """
    listed = sorted((lp for lp in position.listed if lp > _IMPOSSIBLE), reverse=True)
    last = bool(listed) and abs(position.sampled - listed[-1]) < 1e-9
    if not position.complete and len(position.listed) < k + last:
        return None
    if sum(map(math.exp, listed)) > 1 + _SAME:  # not a distribution
        return None
    return np.array(listed[:-1] if last else listed) if len(listed) > last else None


def _position_bounds(known: npt.NDArray[np.float64], vocabulary: int) -> tuple[float, float, float, float]:
    """Entropy low and high in nats, nucleus low and high in tokens, widened for the server's rounding."""
    low = law_bounds(known, vocabulary, _TOP_P - 2 * _ROUNDING)
    high = law_bounds(known, vocabulary, _TOP_P + 2 * _ROUNDING)
    slack, most = _entropy_slack(vocabulary), math.log(vocabulary)
    entropy = max(0.0, low.entropy[0] - slack), min(most, low.entropy[1] + slack)
    return *entropy, float(min(vocabulary, low.nucleus[0])), float(min(vocabulary, high.nucleus[1]))


def _entropy_slack(vocabulary: int) -> float:
    """The largest difference in entropy, in nats, of two distributions over V tokens at total variation distance t.

    Audenaert 2007, eq. 1, with t = ``_ROUNDING``.
    """
    t = _ROUNDING
    return t * math.log(vocabulary - 1) - t * math.log(t) - (1 - t) * math.log1p(-t)
