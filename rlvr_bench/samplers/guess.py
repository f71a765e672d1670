"""A control without skill: random legal steps for the double-countdown puzzle, drawn like rollouts of a checkpoint."""

from __future__ import annotations

import hashlib
import random
import re

import msgspec

from rlvr_bench import countdown
from rlvr_bench.countdown import Puzzle
from rlvr_bench.records import DrawRequest, EngineInfo, Rollout
from rlvr_bench.samplers.fake import FakeSampler

__all__ = ["GuessSampler"]

_TOKEN = re.compile(r"[0-9]+|[^0-9]")


class GuessSampler(FakeSampler):
    """Answers ``puzzles``, by problem id, with ``countdown.guess``: it knows the rules and does not use the targets."""

    def __init__(self, puzzles: dict[str, Puzzle]) -> None:
        super().__init__({}, {})
        self._puzzles = puzzles

    @property
    def info(self) -> EngineInfo:
        digest = hashlib.sha256(b"random legal steps").hexdigest()
        return msgspec.structs.replace(super().info, engine="guess", model="zoo:guess", weights=f"sha256:{digest}")

    def _rollout(self, request: DrawRequest, index: int, rng: random.Random) -> Rollout:
        name = request.prompt.problem_id
        text = countdown.response_text(countdown.guess(rng, self._puzzles[name]))
        tokens = len(_TOKEN.findall(text)) + 1  # as the zoo's tokenizer splits it, and the end token
        return Rollout(problem_id=name, index=index, text=text, n_tokens=tokens, finish_reason="stop")
