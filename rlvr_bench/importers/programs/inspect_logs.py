"""inspect_ai: ``.eval`` logs, a zip archive with one JSON member per sample and epoch, and ``.json`` logs. Epochs are rollouts.

A scorer whose value is an object gives a verdict per key, SCORER/KEY. A sample that failed before any output is not drawn.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from rlvr_bench.errors import DataError, in_one_line
from rlvr_bench.importers.archive import Archive
from rlvr_bench.importers.entries import Format, Glimpse, Origin, Response, binary, chosen_verdict, number
from rlvr_bench.importers.json_scanner import JsonScanner
from rlvr_bench.importers.lines import decode
from rlvr_bench.importers.messages import plain
from rlvr_bench.importers.printed import Printed, member, printed
from rlvr_bench.importers.streams import open_stream
from rlvr_bench.importers.undrawn import Undrawn
from rlvr_bench.records import Status

__all__ = ["FORMAT"]

# A sample is one member, or a folder whose sample.json holds the sample without its messages and events.
_SAMPLE = re.compile(r"samples/.+_epoch_\d+(\.json|/sample\.json)", re.DOTALL)
_HEADERS = ("header.json", "_journal/start.json")  # a log that was never finished has only the second
_ZIP = b"PK\x03\x04"
_ATTACHMENT = "attachment://"
_JSON_LOG = re.compile(rb'[\xef\xbb\xbf\s]*\{\s*"version"\s*:\s*\d+\s*,\s*"status"\s*:.*?"eval"\s*:\s*\{', re.DOTALL)
_LETTERS: dict[str, Status] = {"C": "correct", "I": "wrong", "N": "no_answer"}


class _Eval(msgspec.Struct):
    task: str = ""
    model: str = ""
    packages: dict[str, str] = {}


class _Header(msgspec.Struct):
    eval: _Eval
    status: str = "started"
    results: object = None


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
    messages: list[dict[str, object]] = []
    scores: dict[str, _Score] | None = None
    error: object = None
    uuid: str | None = None
    attachments: dict[str, str] = {}


_UNDRAWN = Undrawn()


def _fits(seen: Glimpse) -> bool:
    if seen.kind != "zip":
        return seen.kind == "lines" and _JSON_LOG.match(seen.head) is not None
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


def _header(file: Path, *, results: bool = False) -> _Header:
    if not _is_archive(file):
        return _json_header(file, {"eval", "status", *(("results",) if results else ())})
    with Archive(file) as archive:
        present = set(archive.names())
        name = next((name for name in _HEADERS if name in present), None)
        if name is None:
            raise DataError(f"{file}: no log of inspect_ai (neither {' nor '.join(_HEADERS)} in it)")
        return decode(f"{file}, member {name!r}", archive.read(name), msgspec.json.Decoder(_Header))


def _is_archive(file: Path) -> bool:
    with open_stream(file) as stream:
        return stream.read(len(_ZIP)) == _ZIP


def _json_header(file: Path, wanted: set[str]) -> _Header:
    parts: dict[str, msgspec.Raw] = {}
    with open_stream(file) as stream:
        scanner = JsonScanner(file, stream)
        scanner.skip_mark()
        for _, key in scanner.members():
            if key not in wanted:
                scanner.skip()
                continue
            parts[key] = msgspec.Raw(scanner.value())
            if len(parts) == len(wanted):
                break
    return decode(str(file), msgspec.json.encode(parts), msgspec.json.Decoder(_Header))


def _read(file: Path, verdict: str | None, responses_only: bool) -> Iterator[Response]:
    decoder = msgspec.json.Decoder(_Sample)
    for where, content in _members(file) if _is_archive(file) else _json_samples(file):
        sample = decode(where, content, decoder)
        if sample.error is not None and not _text(sample):
            _UNDRAWN.count += 1
        else:
            yield _response(where, sample, verdict, responses_only)


def _members(file: Path) -> Iterator[tuple[str, bytes]]:
    with Archive(file) as archive:
        for name in archive.names():
            if _SAMPLE.fullmatch(name):
                yield f"{file}, member {name!r}", archive.read(name)


def _json_samples(file: Path) -> Iterator[tuple[str, bytes]]:
    with open_stream(file) as stream:
        scanner = JsonScanner(file, stream)
        scanner.skip_mark()
        for _, key in scanner.members():
            if key == "samples" and scanner.peek() == b"[":
                yield from scanner.elements()
            else:
                scanner.skip()


def _response(where: str, sample: _Sample, verdict: str | None, responses_only: bool) -> Response:
    output = sample.output or _Output()
    scores = _single_scores(sample.scores or {})
    name = None if responses_only else chosen_verdict(where, list(scores), verdict if scores else None)
    score = scores[name] if name else _Score()
    reason = output.choices[0].stop_reason if output.choices else None
    failed = sample.error is not None
    return Response(
        where=where,
        problem=str(sample.id),
        question=_resolved(sample, plain(sample.input)),
        gold=_gold(sample.target),
        text=_text(sample),
        status="error" if failed and not scores else _status(score.value),
        verdict=name or "",
        reward=number(score.value),
        answer=score.answer,
        kind="exception" if failed and not scores else None,
        n_tokens=None if output.usage is None else output.usage.output_tokens,
        truncated={"stop": False, "max_tokens": True}.get(reason or ""),
        key=sample.uuid,
    )


def _status(value: object) -> Status | None:
    """The program's CORRECT, INCORRECT and NOANSWER; PARTIAL counts as no verdict."""
    return _LETTERS.get(value) if isinstance(value, str) else binary(value)


def _single_scores(scores: dict[str, _Score]) -> dict[str, _Score]:
    """The scores, with one for each key of a value that is an object."""
    single: dict[str, _Score] = {}
    for name, score in scores.items():
        if isinstance(score.value, dict):
            single |= {f"{name}/{key}": _Score(value, score.answer) for key, value in score.value.items()}
        else:
            single[name] = score
    return single


def _gold(target: str | list[str]) -> str:
    """The target; several, of which any is right, as JSON."""
    if isinstance(target, str):
        return target
    return target[0] if len(target) == 1 else msgspec.json.encode(target).decode() if target else ""


def _text(sample: _Sample) -> str:
    """The response: the completion, or the last message of the assistant in a log that holds no output."""
    if sample.output is None:
        return _resolved(sample, plain([part for part in sample.messages if part.get("role") == "assistant"][-1:]))
    return _resolved(sample, _completion(sample.output))


def _completion(output: _Output) -> str:
    if output.completion or not output.choices:
        return output.completion or ""
    return plain([output.choices[0].message or {}])


def _resolved(sample: _Sample, text: str) -> str:
    if not text.startswith(_ATTACHMENT):
        return text
    return sample.attachments.get(text.removeprefix(_ATTACHMENT), text)


def _printed(files: Sequence[Path], verdict: str) -> list[Printed]:
    """The means over samples in the results of a log, after its reducer of epochs: the mean, or pass_at_k."""
    if len(files) != 1:
        return []
    scores = member(_results(files[0]), "scores")
    numbers = []
    for score in scores if isinstance(scores, list) else ():
        name, scorer = member(score, "name"), member(score, "scorer")
        if verdict not in (name, scorer, f"{scorer}/{name}"):
            continue
        reducer = member(score, "reducer") or "mean"
        at_k = re.fullmatch(r"pass_at_(\d{1,6})", str(reducer))
        value = next(
            (v for metric in ("accuracy", "mean") if (v := member(score, "metrics", metric, "value")) is not None), None
        )
        doubt = "" if reducer == "mean" or at_k else f"its epochs are reduced by {in_one_line(str(reducer), 40)}"
        numbers += printed(files[0], f"{verdict} ({reducer})", value, int(at_k[1]) if at_k else 1, doubt=doubt)
    return numbers


def _results(file: Path) -> object:
    """The results of a log; None where it has none that can be read."""
    try:
        return _header(file, results=True).results
    except DataError:
        return None


# Most of its scorers call a response wrong where they find no answer in it.
FORMAT = Format(
    name="inspect",
    fits=_fits,
    survey=_survey,
    read=_read,
    says_no_answer=False,
    restart=_UNDRAWN.begin,
    remarks=_UNDRAWN.remarks,
    printed=_printed,
)
