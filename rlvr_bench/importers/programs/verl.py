"""verl: validation rollouts of ``trainer.validation_data_dir``, a file ``STEP.jsonl`` per validation.

A line has ``input``, ``output``, ``gts``, ``score``, ``step`` and what the reward function adds, such as ``acc`` and ``pred``.
Lines with the same input are rollouts of one problem.

The trainer with ``trainer.use_v1`` writes every output of an agent's session, each with the score of the session and with
a ``uid`` of the form ``UID_SESSION_OUTPUT`` (verl/trainer/ppo/v1/trainer_base.py). Its metrics count the last output of a
session, and so does this reader; the question is the session's first input.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from rlvr_bench.errors import DataError
from rlvr_bench.importers.entries import Format, Glimpse, Origin, Response, binary, chosen_verdict, number
from rlvr_bench.importers.lines import json_lines
from rlvr_bench.importers.printed import Printed, printed
from rlvr_bench.records import Status

__all__ = ["FORMAT"]


class _Line(msgspec.Struct):
    input: str
    output: str
    gts: object = None
    score: object = None
    acc: object = None
    pred: object = msgspec.UNSET
    step: int | None = None
    uid: object = None

    @property
    def session(self) -> tuple[str, int] | None:
        """The session and the number of the output in it; None where a line is a rollout of its own."""
        parts = self.uid.rsplit("_", 2) if isinstance(self.uid, str) else []
        if len(parts) < 3 or not all(part.isascii() and part.isdecimal() and len(part) < 10 for part in parts[1:]):
            return None
        return f"{parts[0]}_{parts[1]}", int(parts[2])


def _fits(seen: Glimpse) -> bool:
    return seen.kind == "lines" and {"input", "output", "score", "step"} <= seen.names


def _survey(files: Sequence[Path]) -> tuple[Origin, list[Path]]:
    """Refuse files of several steps: these are several checkpoints."""
    first = [next((line for _, line in json_lines(file, _Line)), None) for file in files]
    steps = sorted({(line.step if line else None) or 0 for line in first})
    if len(steps) > 1:
        listed = ", ".join(map(str, steps[:5])) + (", ..." if len(steps) > 5 else "")
        raise DataError(f"{files[0].parent}: rollouts of several steps ({listed}). Name the file of one.")
    return Origin(), list(files)


def _read(file: Path, verdict: str | None, responses_only: bool) -> Iterator[Response]:
    for where, question, line in _rollouts(file):
        values = {name: value for name, value in (("acc", line.acc), ("score", line.score)) if value is not None}
        # A score may carry penalties or format points; where the reward function gives acc, that is correctness.
        asked = verdict or ("acc" if "acc" in values else None)
        name = None if responses_only else chosen_verdict(where, list(values), asked if values else None)
        yield Response(
            where=where,
            problem="",
            question=question,
            gold="" if line.gts is None or isinstance(line.gts, list | dict) else str(line.gts),
            text=line.output,
            status=_status(values[name]) if name else None,
            verdict=name or "",
            reward=number(values[name]) if name else None,
            answer=_answer(line),
        )


def _rollouts(file: Path) -> Iterator[tuple[str, str, _Line]]:
    """The address, the question and the line of each rollout: of a session with several outputs, the last."""
    ended: set[str] = set()
    groups = itertools.groupby(json_lines(file, _Line), key=lambda item: item[1].session and item[1].session[0])
    for session, members in groups:
        if session is None:
            yield from ((where, line.input, line) for where, line in members)
            continue
        outputs = [(line.session[1] if line.session else 0, where, line) for where, line in members]
        if session in ended:
            raise DataError(f"{outputs[0][1]}: session {session!r} again; the program writes its outputs together")
        ended.add(session)
        if len({number for number, _, _ in outputs}) < len(outputs):
            raise DataError(f"{outputs[0][1]}: session {session!r} has one output twice")
        first, last = min(outputs, key=lambda output: output[0]), max(outputs, key=lambda output: output[0])
        yield last[1], first[2].input, last[2]


def _answer(line: _Line) -> str | None:
    """What the reward function extracted; empty where it says that it found nothing.

    The trainer with sessions also writes null where a reward function has no ``pred`` at all.
    """
    if line.pred is None:
        return None if line.session else ""
    return line.pred if isinstance(line.pred, str) else None


def _status(value: object) -> Status | None:
    """The status of a reward of 1 and 0, or of 1 and -1."""
    return "wrong" if isinstance(value, int | float) and value == -1 else binary(value)


_METRIC = re.compile(
    r"val-(?:core|aux)/.+/(?P<variable>[^/]+)/(?P<kind>mean|best|maj)@(?P<k>\d{1,6})(?:/mean)?", re.DOTALL
)
_CAVEATS = {
    "best": "a bootstrap estimate of the best of k, drawn with replacement: biased low",
    "maj": "a bootstrap estimate, drawn with replacement",
}
_LARGEST_LOG = 256 * 2**20


def _printed(files: Sequence[Path], verdict: str) -> list[Printed]:
    """The metrics of this step in a log of verl's file logger, in the folder of the rollouts or the one above it."""
    parent, taken = files[0].resolve().parent, {file.resolve() for file in files}
    try:
        step = next((line.step for _, line in json_lines(files[0], _Line)), None)
        logs = [log for folder in (parent, parent.parent) for log in sorted(folder.glob("*.jsonl")) if log not in taken]
        return [number for log in logs if _is_log(log) for number in _logged(log, step, verdict)]
    except DataError:
        return []


def _is_log(file: Path) -> bool:
    if file.stat().st_size > _LARGEST_LOG:
        return False
    return next((line.keys() == {"step", "data"} for _, line in json_lines(file, dict[str, msgspec.Raw])), False)


def _logged(log: Path, step: int | None, verdict: str) -> list[Printed]:
    """What a log says of the verdict at this step, in its last such line."""
    variables = (verdict, "reward") if verdict == "score" else (verdict,)
    numbers: dict[str, list[Printed]] = {}
    for _, line in json_lines(log, dict[str, object]):
        data = line.get("data") if line.get("step") == step else None
        for name, value in data.items() if isinstance(data, dict) else ():
            match = _METRIC.fullmatch(str(name))
            if match and match["variable"] in variables:
                kind = "maj@k" if match["kind"] == "maj" else "pass@k"
                k = 1 if match["kind"] == "mean" else int(match["k"])
                caveat = _CAVEATS.get(match["kind"], "")
                numbers[str(name)] = printed(log, str(name), value, k, kind=kind, caveat=caveat)
    return [number for of_name in numbers.values() for number in of_name]


# math_dapo writes [INVALID] where it finds no answer (verl/utils/reward_score/math_dapo.py).
FORMAT = Format(
    name="verl", fits=_fits, survey=_survey, read=_read, no_answer=frozenset(("", "[INVALID]")), printed=_printed
)
