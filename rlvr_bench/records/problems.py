"""A problem, and the prompt that it becomes for a model."""

from __future__ import annotations

from typing import Any

import msgspec

__all__ = ["Problem", "Prompt"]


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """One problem of a task: what is asked and what counts as right.

    ``answer`` is the gold answer as text; ``data`` holds what else a verifier needs (unit tests, puzzle numbers);
    ``tier`` is a difficulty label and ``cluster`` groups problems that are not independent (same source, same template).
    """

    id: str
    question: str
    answer: str
    tier: str = ""
    cluster: str = ""
    data: dict[str, Any] = {}


class Prompt(msgspec.Struct, frozen=True, kw_only=True):
    """What a sampler sends: ``messages`` through the model's chat template where it has one, else the plain ``text``.

    ``begun``: the beginning of the response, as text or as tokens of the model, which the model continues.
    """

    problem_id: str
    text: str
    messages: tuple[dict[str, str], ...] = ()
    begun: str | tuple[int, ...] = ()
