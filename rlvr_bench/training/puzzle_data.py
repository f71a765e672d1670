"""Gold answers as training data sets hold them: texts, numbers, and the numbers of a puzzle as an object."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping

import msgspec

from rlvr_bench.errors import GoldError
from rlvr_bench.records import Problem, Verdict
from rlvr_bench.verifiers import Extraction, Verifier

__all__ = ["PuzzleVerifier", "as_gold"]


class PuzzleVerifier:
    """A verifier that needs a problem's data, which it takes from the gold answer: a JSON object of lists of integers."""

    def __init__(self, judge: Verifier) -> None:
        self._judge = judge

    @property
    def name(self) -> str:
        return f"{self._judge.name} with data"

    @property
    def version(self) -> str:
        return self._judge.version

    @property
    def options(self) -> Mapping[str, object]:
        return self._judge.options

    def warm_up(self) -> None:
        self._judge.warm_up()

    def read_gold(self, answer: str) -> str:
        """The object as JSON. Raises GoldError for anything else than ``numbers`` and ``targets``, lists of integers."""
        try:
            data = msgspec.json.decode(answer, type=dict[str, list[int]])
        except (msgspec.DecodeError, RecursionError) as error:
            raise GoldError(f"the gold answer must be an object with numbers and targets ({error})") from error
        missing = [name for name in ("numbers", "targets") if name not in data]
        if missing:
            raise GoldError(f"the gold answer has no {' and no '.join(missing)}")
        return answer

    def extract(self, response: str) -> Extraction:
        return self._judge.extract(response)

    def key(self, answer: str) -> str:
        return self._judge.key(answer)

    def verify(self, answer: str, problem: Problem) -> Verdict:
        data = msgspec.json.decode(problem.answer, type=dict[str, list[int]])
        return self._judge.verify(answer, msgspec.structs.replace(problem, data=data))


def as_gold(value: object) -> str | None:
    """A gold answer as text: a text, a number, an object as JSON, or a list with one of them. None for anything else."""
    if isinstance(value, str):
        return value
    if hasattr(value, "tolist"):  # of NumPy, Arrow or torch
        value = value.tolist()
    if isinstance(value, list | tuple) and len(value) == 1:
        return None if isinstance(value[0], list | tuple) else as_gold(value[0])
    if isinstance(value, bool) or (isinstance(value, float) and not math.isfinite(value)):
        return None
    if isinstance(value, int | float):
        return repr(value)
    return _as_json(value) if isinstance(value, Mapping) else None


def _as_json(value: Mapping[object, object]) -> str | None:
    try:
        return json.dumps(dict(value), default=lambda other: other.tolist())
    except (TypeError, ValueError, AttributeError, RecursionError):
        return None
