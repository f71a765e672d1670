"""NeMo Gym: ``rollouts.jsonl`` of ``ng_collect_rollouts``, a line per rollout.

``responses_create_params.input`` is the prompt, ``response.output`` the items that the model made, ``reward`` the verdict.
``_ng_task_index`` numbers the tasks; older files have none, and the prompt identifies the problem. What a resources server
adds has names of its own: ``expected_answer`` and ``extracted_answer`` are of those that judge answers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from rlvr_bench.importers.entries import Format, Glimpse, Origin, Response, binary, chosen_verdict, number, only_one
from rlvr_bench.importers.lines import json_lines
from rlvr_bench.importers.messages import plain, sent, without_system
from rlvr_bench.importers.undrawn import Undrawn

__all__ = ["FORMAT"]


class _Usage(msgspec.Struct):
    output_tokens: int | None = None


class _Made(msgspec.Struct):
    output: list[dict[str, Any]] = []
    model: str | None = None
    usage: _Usage | None = None
    incomplete_details: dict[str, Any] | None = None


class _Asked(msgspec.Struct):
    input: object = ""


class _Line(msgspec.Struct):
    responses_create_params: _Asked
    response: _Made | None = None
    reward: object = None
    task: int | str | None = msgspec.field(default=None, name="_ng_task_index")
    rollout: int | str | None = msgspec.field(default=None, name="_ng_rollout_index")
    failure: object = msgspec.field(default=None, name="_ng_failure_class")
    expected_answer: object = None
    extracted_answer: object = msgspec.UNSET


_UNDRAWN = Undrawn()


def _fits(seen: Glimpse) -> bool:
    return seen.kind == "lines" and {"responses_create_params", "response", "reward"} <= seen.names


def _survey(files: Sequence[Path]) -> tuple[Origin, list[Path]]:
    """Refuse files of several models; the first line of each names it. Leave the sidecar of failed attempts out."""
    failed = [file for file in files if file.name.endswith("_failures.jsonl")]
    kept = [file for file in files if file not in failed] or list(files)
    model = only_one(files[0], "rollouts of several models", map(_model, kept))
    notes = tuple(f"{file}: attempts that failed before a rollout was made: left out" for file in failed)
    return Origin(model=model, notes=notes), kept


def _model(file: Path) -> str:
    line = next((line for _, line in json_lines(file, _Line)), None)
    return line.response.model or "" if line and line.response else ""


def _read(file: Path, verdict: str | None, responses_only: bool) -> Iterator[Response]:
    for where, line in json_lines(file, _Line):
        if line.response is None or line.failure is not None:
            _UNDRAWN.count += 1
            continue
        made, names = line.response, ["reward"] if line.reward is not None else []
        name = None if responses_only else chosen_verdict(where, names, verdict if names else None)
        gold = line.expected_answer
        yield Response(
            where=where,
            problem="" if line.task is None else str(line.task),
            question=without_system(line.responses_create_params.input),
            prompt=sent(line.responses_create_params.input),
            gold="" if gold is None or isinstance(gold, list | dict) else str(gold),
            text=_text(made.output),
            status=binary(line.reward) if name else None,
            verdict=name or "",
            reward=number(line.reward) if name else None,
            answer=_answer(line.extracted_answer),
            n_tokens=None if made.usage is None else made.usage.output_tokens,
            truncated=_truncated(made),
        )


def _text(output: list[dict[str, Any]]) -> str:
    """The text of the model's messages, in order; reasoning and calls of tools are not in it."""
    return plain([item for item in output if item.get("type", "message") == "message"])


def _answer(value: object) -> str | None:
    """The extracted answer; empty where the server looked for one and found none; None where it does not look."""
    if value is msgspec.UNSET or isinstance(value, list | dict):
        return None
    return "" if value is None else str(value)


def _truncated(made: _Made) -> bool | None:
    """Whether the response was cut; None where the file does not say."""
    if made.incomplete_details is not None:
        return made.incomplete_details.get("reason") == "max_output_tokens"
    return None if made.usage is None else False


FORMAT = Format(
    name="nemo-gym", fits=_fits, survey=_survey, read=_read, restart=_UNDRAWN.begin, remarks=_UNDRAWN.remarks
)
