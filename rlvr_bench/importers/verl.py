"""verl: validation rollouts of ``trainer.validation_data_dir``, a file ``STEP.jsonl`` per validation.

A line has ``input``, ``output``, ``gts``, ``score``, ``step`` and what the reward function adds, such as ``acc``. Lines with
the same input are rollouts of one problem.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from rlvr_bench.errors import DataError
from rlvr_bench.importers.entries import Format, Glimpse, Origin, Response, binary, chosen_verdict
from rlvr_bench.importers.lines import json_lines
from rlvr_bench.records import Status

__all__ = ["FORMAT"]


class _Line(msgspec.Struct):
    input: str
    output: str
    gts: object = None
    score: object = None
    acc: object = None
    pred: object = None
    step: int | None = None


def _fits(seen: Glimpse) -> bool:
    return seen.kind == "lines" and {"input", "output", "score", "step"} <= seen.names


def _survey(files: Sequence[Path]) -> tuple[Origin, list[Path]]:
    """Refuse files of several steps: these are several checkpoints."""
    steps = sorted({next((line.step for _, line in json_lines(file, _Line)), None) or 0 for file in files})
    if len(steps) > 1:
        listed = ", ".join(map(str, steps[:5])) + (", ..." if len(steps) > 5 else "")
        raise DataError(f"{files[0].parent}: rollouts of several steps ({listed}). Name the file of one.")
    return Origin(), list(files)


def _read(file: Path, verdict: str | None, responses_only: bool) -> Iterator[Response]:
    for where, line in json_lines(file, _Line):
        verdicts = {
            name: _status(value) for name, value in (("acc", line.acc), ("score", line.score)) if value is not None
        }
        # A score may carry penalties or format points; where the reward function gives acc, that is correctness.
        asked = verdict or ("acc" if "acc" in verdicts else None)
        name = None if responses_only else chosen_verdict(where, list(verdicts), asked if verdicts else None)
        yield Response(
            where=where,
            problem="",
            question=line.input,
            gold="" if line.gts is None or isinstance(line.gts, list | dict) else str(line.gts),
            text=line.output,
            status=verdicts[name] if name else None,
            verdict=name or "",
            answer=line.pred if isinstance(line.pred, str) else None,
        )


def _status(value: object) -> Status | None:
    """The status of a reward of 1 and 0, or of 1 and -1."""
    return "wrong" if isinstance(value, int | float) and value == -1 else binary(value)


FORMAT = Format(name="verl", fits=_fits, survey=_survey, read=_read)
