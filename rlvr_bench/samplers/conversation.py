"""One rollout with tools: its turns as one response, and what is saved of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import msgspec
import numpy as np

from rlvr_bench.records import DrawRequest, Rollout, SavedRollout, SavedTurns, TokenArrays
from rlvr_bench.samplers.summary import summarise
from rlvr_bench.verifiers.interpreter import Interpreter

__all__ = ["Conversation", "joined"]

_MEANS = ("entropy_mean", "branching_mean", "high_entropy_share")
_BOUNDS = ("entropy_low", "entropy_high", "branching_low", "branching_high")


@dataclass
class Conversation:
    """One unfinished rollout: its transcript so far, its turns, and its interpreter.

    ``parts``: the finished turns; those of earlier sessions are one part. ``turns``: their number. ``blocks``: the code whose
    variables the interpreter has, or must have where there is none yet. ``saved``: what an earlier session has of the open
    turn.
    """

    request: DrawRequest
    index: int
    text: str = ""
    parts: list[Rollout] = field(default_factory=list)
    turns: int = 0
    calls: int = 0
    errors: int = 0
    blocks: list[str] = field(default_factory=list)
    interpreter: Interpreter | None = None
    rollout: Rollout | None = None
    saved: SavedRollout | None = None

    @property
    def key(self) -> tuple[str, int]:
        """Problem and index of the rollout."""
        return self.request.prompt.problem_id, self.index

    def state(self, turn: SavedRollout | None) -> SavedRollout | None:
        """What it has so far. ``turn``: the open turn, None where the sampler draws none for it."""
        turn = turn or self.saved
        if not self.parts:
            return turn
        whole = self.rollout or joined(self, "stop")
        return SavedRollout(
            problem_id=self.request.prompt.problem_id,
            index=self.index,
            ids=np.empty(0, np.int32) if turn is None else turn.ids,
            columns=None if turn is None else turn.columns,
            ended=None if turn is None else turn.ended,
            turns=SavedTurns(
                text=self.text,
                turns=self.turns,
                n_tokens=whole.n_tokens,
                calls=self.calls,
                errors=self.errors,
                blocks=tuple(self.blocks),
                finish_reason=None if self.rollout is None else self.rollout.finish_reason,
            ),
            turn_tokens=whole.tokens,
        )

    def restore(self, saved: SavedRollout, turns: SavedTurns) -> None:
        """Take the finished turns of an earlier session."""
        self.text, self.turns, self.blocks = turns.text, turns.turns, list(turns.blocks)
        self.calls, self.errors = turns.calls, turns.errors
        part = Rollout(
            problem_id=saved.problem_id,
            index=saved.index,
            text=turns.text,
            n_tokens=turns.n_tokens,
            finish_reason="stop",
        )
        if saved.turn_tokens is not None:
            tokens = saved.turn_tokens
            summary = msgspec.structs.asdict(summarise(tokens.logprob, tokens.entropy, tokens.nucleus))
            part = msgspec.structs.replace(part, tokens=tokens, **summary)
        self.parts = [part]


def joined(conversation: Conversation, reason: Literal["stop", "length"]) -> Rollout:
    """The turns as one rollout: the whole transcript, and the statistics of the tokens that the model drew."""
    parts = conversation.parts
    whole = msgspec.structs.replace(
        parts[0],
        index=conversation.index,
        text=conversation.text,
        n_tokens=sum(part.n_tokens for part in parts),
        finish_reason=reason,
        tool_calls=conversation.calls,
        tool_errors=conversation.errors,
    )
    if len(parts) == 1:
        return whole
    arrays = [part.tokens for part in parts if part.tokens is not None]
    if len(arrays) == len(parts):
        tokens = TokenArrays(
            **{name: np.concatenate([getattr(part, name) for part in arrays]) for name in TokenArrays.__struct_fields__}
        )
        summary = summarise(tokens.logprob, tokens.entropy, tokens.nucleus)
        return msgspec.structs.replace(whole, tokens=tokens, **msgspec.structs.asdict(summary))
    means = {name: _mean(parts, name) for name in (*_MEANS, *_BOUNDS)}
    sums = [part.logprob_sum for part in parts if part.logprob_sum is not None]
    total = sum(sums) if len(sums) == len(parts) else None
    # The profile over relative positions cannot be computed from the profiles of the turns.
    return msgspec.structs.replace(whole, logprob_sum=total, entropy_profile=None, tokens=None, **means)


def _mean(parts: Sequence[Rollout], name: str) -> float | None:
    """Mean over all tokens, from the means of the turns; None where a turn has no mean, or without any token."""
    known = [(getattr(part, name), part.n_tokens) for part in parts]
    if any(value is None for value, _ in known) or not sum(n for _, n in known):
        return None
    return float(sum(value * n for value, n in known) / sum(n for _, n in known))
