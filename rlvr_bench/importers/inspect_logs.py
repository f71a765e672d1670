"""inspect_ai: ``.eval`` logs, a zip archive with one JSON member per sample and epoch. Epochs are rollouts."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from rlvr_bench.errors import DataError
from rlvr_bench.importers.archive import Archive
from rlvr_bench.importers.entries import Format, Glimpse, Origin, Response, binary, chosen_verdict
from rlvr_bench.importers.lines import decode
from rlvr_bench.importers.messages import plain
from rlvr_bench.records import Status

__all__ = ["FORMAT"]

# A sample is one member, or a folder whose sample.json holds the sample without its messages and events.
_SAMPLE = re.compile(r"samples/.+_epoch_\d+(\.json|/sample\.json)", re.DOTALL)
_HEADERS = ("header.json", "_journal/start.json")  # a log that was never finished has only the second
_ATTACHMENT = "attachment://"
_LETTERS: dict[str, Status] = {"C": "correct", "I": "wrong", "N": "no_answer"}


class _Eval(msgspec.Struct):
    task: str = ""
    model: str = ""
    packages: dict[str, str] = {}


class _Header(msgspec.Struct):
    eval: _Eval
    status: str = "started"


class _Usage(msgspec.Struct):
    output_tokens: int | None = None


class _Choice(msgspec.Struct):
    stop_reason: str | None = None
    message: dict[str, object] | None = None


class _Output(msgspec.Struct):
    completion: str | None = None
    choices: list[_Choice] = []
    usage: _Usage | None = None


class _Score(msgspec.Struct):
    value: object = None
    answer: str | None = None


class _Sample(msgspec.Struct):
    id: int | str
    input: object
    target: str | list[str] = ""
    output: _Output | None = None
    scores: dict[str, _Score] | None = None
    error: object = None
    uuid: str | None = None
    attachments: dict[str, str] = {}


def _fits(seen: Glimpse) -> bool:
    if seen.kind != "zip":
        return False
    with Archive(seen.file) as archive:
        return any(name in _HEADERS for name in archive.names())


def _survey(files: Sequence[Path]) -> tuple[Origin, list[Path]]:
    headers = [_header(file) for file in files]
    facts: dict[str, str] = {}
    for plural, values in {
        "tasks": {header.eval.task for header in headers},
        "models": {header.eval.model for header in headers},
    }.items():
        if len(values) > 1:
            raise DataError(
                f"{files[0].parent}: logs of several {plural} ({', '.join(sorted(values))}). Name those of one."
            )
        facts[plural] = "".join(values)
    versions = sorted({header.eval.packages.get("inspect_ai", "") for header in headers} - {""})
    notes = tuple(
        f"{file}: the evaluation ended with status {header.status!r}"
        for file, header in zip(files, headers, strict=True)
        if header.status != "success"
    )
    origin = Origin(model=facts["models"], task=facts["tasks"], version=", ".join(versions), notes=notes)
    return origin, list(files)


def _header(file: Path) -> _Header:
    with Archive(file) as archive:
        present = set(archive.names())
        name = next((name for name in _HEADERS if name in present), None)
        if name is None:
            raise DataError(f"{file}: no log of inspect_ai (neither {' nor '.join(_HEADERS)} in it)")
        return decode(f"{file}, member {name!r}", archive.read(name), msgspec.json.Decoder(_Header))


def _read(file: Path, verdict: str | None, responses_only: bool) -> Iterator[Response]:
    decoder = msgspec.json.Decoder(_Sample)
    with Archive(file) as archive:
        for name in archive.names():
            if not _SAMPLE.fullmatch(name):
                continue
            where = f"{file}, member {name!r}"
            sample = decode(where, archive.read(name), decoder)
            yield _response(where, sample, verdict, responses_only)


def _response(where: str, sample: _Sample, verdict: str | None, responses_only: bool) -> Response:
    output = sample.output or _Output()
    scores = sample.scores or {}
    name = None if responses_only else chosen_verdict(where, list(scores), verdict if scores else None)
    score = scores[name] if name else _Score()
    reason = output.choices[0].stop_reason if output.choices else None
    failed = sample.error is not None
    return Response(
        where=where,
        problem=str(sample.id),
        question=_resolved(sample, plain(sample.input)),
        gold=sample.target if isinstance(sample.target, str) else "".join(sample.target[:1]),
        text=_resolved(sample, _completion(output)),
        status="error" if failed and not scores else _status(score.value),
        verdict=name or "",
        answer=score.answer,
        kind="exception" if failed and not scores else None,
        n_tokens=None if output.usage is None else output.usage.output_tokens,
        truncated={"stop": False, "max_tokens": True}.get(reason or ""),
        key=sample.uuid,
    )


def _status(value: object) -> Status | None:
    """The program's CORRECT, INCORRECT and NOANSWER; PARTIAL counts as no verdict."""
    return _LETTERS.get(value) if isinstance(value, str) else binary(value)


def _completion(output: _Output) -> str:
    if output.completion or not output.choices:
        return output.completion or ""
    return plain([output.choices[0].message or {}])


def _resolved(sample: _Sample, text: str) -> str:
    if not text.startswith(_ATTACHMENT):
        return text
    return sample.attachments.get(text.removeprefix(_ATTACHMENT), text)


# Most of its scorers call a response wrong where they find no answer in it.
FORMAT = Format(name="inspect", fits=_fits, survey=_survey, read=_read, says_no_answer=False)
