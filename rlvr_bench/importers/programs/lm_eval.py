"""lm-evaluation-harness: ``samples_TASK_DATE.jsonl`` of ``--log_samples``, a line per document and filter.

A line's metrics judge what its filter kept, so with ``repeats`` above 1 no single response has a verdict. Rollouts with
verdicts come from several evaluations of one task, one file for each.

The subtasks of a group, evaluated together, are one run: ids begin with the subtask, and problems of a subtask are a cluster.
"""

from __future__ import annotations

import itertools
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec

from rlvr_bench.errors import DataError, in_one_line
from rlvr_bench.importers.entries import Format, Glimpse, Origin, Response, binary, chosen_verdict, number, only_one
from rlvr_bench.importers.lines import MAX_LINE_BYTES, decode, json_lines
from rlvr_bench.importers.printed import Printed, member, printed, summary

__all__ = ["FORMAT"]

T = TypeVar("T")

_NAME = re.compile(r"samples_(?P<task>.+)_(?P<date>\d{4}-\d\d-\d\dT[\d.-]+)\.jsonl")
_QUESTIONS = ("problem", "question", "query", "prompt", "text", "input")
_NO_FILTER = "none"  # what passes it is the whole response, not an answer
_KNOWN_FIELDS = {"doc_id", "doc", "target", "arguments", "resps", "filtered_resps", "filter", "metrics"}
_KNOWN_FIELDS |= {"doc_hash", "prompt_hash", "target_hash"}


_ANYTHING: msgspec.json.Decoder[object] = msgspec.json.Decoder()
_NUMBER_OR_NAME: msgspec.json.Decoder[int | str] = msgspec.json.Decoder(int | str)
_TEXT = msgspec.json.Decoder(str)
_TEXTS = msgspec.json.Decoder(list[str])


class _Results(msgspec.Struct):
    """The fields of ``results_DATE.json``, which is next to the samples."""

    model_name: str | None = None
    lm_eval_version: str | None = None
    group_subtasks: object = None

    @property
    def groups(self) -> dict[str, list[str]]:
        """The tasks and groups in each group that has any."""
        given = self.group_subtasks if isinstance(self.group_subtasks, dict) else {}
        return {
            name: [task for task in inner if isinstance(task, str)]
            for name, inner in given.items()
            if isinstance(name, str) and isinstance(inner, list)
        }


@dataclass
class _Grouping:
    """Whether the files that ``_survey`` saw last are subtasks of one group."""

    grouped: bool = False


_GROUPING = _Grouping()


def _fits(seen: Glimpse) -> bool:
    return seen.kind == "lines" and {"doc_id", "resps", "filtered_resps"} <= seen.names


def _survey(files: Sequence[Path]) -> tuple[Origin, list[Path]]:
    dates: dict[str, set[str]] = defaultdict(set)
    for file in files:
        if match := _NAME.fullmatch(file.name):
            dates[match["task"]].add(match["date"])
    tasks = sorted(dates)
    results = [_results(file) for file in files]
    group = _group_of(tasks, results) or _shared_name(dates)
    _GROUPING.grouped = len(tasks) > 1
    if len(tasks) > 1 and not group:
        raise DataError(f"{files[0].parent}: samples of several tasks ({', '.join(tasks)}). Name the files of one.")
    model = only_one(files[0], "samples of several models", (result.model_name or "" for result in results))
    versions = sorted({result.lm_eval_version for result in results if result.lm_eval_version})
    listed = in_one_line(", ".join(tasks), 300)
    notes = (f"{len(tasks)} subtasks ({listed}) are one run of {in_one_line(group, 80)}",) if len(tasks) > 1 else ()
    task = group if len(tasks) > 1 else "".join(tasks)
    return Origin(model=model, task=task, version=", ".join(versions), notes=notes), list(files)


def _group_of(tasks: Sequence[str], results: Sequence[_Results]) -> str:
    """The smallest group that has all of these tasks, by every file of results; empty where there is none."""
    sizes: dict[str, int] = {}
    for result in results:
        for name in result.groups:
            members = _members(name, result.groups, set())
            if set(tasks) <= members:
                sizes[name] = len(members)
    return min(sizes, key=lambda name: (sizes[name], name), default="")


def _members(name: str, groups: Mapping[str, Sequence[str]], seen: set[str]) -> set[str]:
    """The tasks of a group and of the groups in it."""
    if name in seen:
        return set()
    inner = groups.get(name) or ()
    return {task for part in inner for task in _members(part, groups, seen | {name})} if inner else {name}


def _shared_name(dates: Mapping[str, set[str]]) -> str:
    """What the names of tasks of the same evaluations begin with: minerva_math of minerva_math_algebra and others."""
    if len(dates) < 2 or len({frozenset(of_task) for of_task in dates.values()}) > 1:
        return ""
    columns = zip(*(task.split("_") for task in dates), strict=False)
    name = "_".join(parts[0] for parts in itertools.takewhile(lambda parts: len(set(parts)) == 1, columns))
    return "" if name in dates else name


def _results(samples: Path) -> _Results:
    match = _NAME.fullmatch(samples.name)
    file = samples.with_name(f"results_{match['date']}.json") if match else samples
    if not match or not file.is_file() or file.stat().st_size > MAX_LINE_BYTES:
        return _Results()
    return decode(str(file), file.read_bytes(), msgspec.json.Decoder(_Results))


def _read(file: Path, verdict: str | None, responses_only: bool) -> Iterator[Response]:
    match = _NAME.fullmatch(file.name)
    subtask = match["task"] if match and _GROUPING.grouped else ""
    chosen: str | None = None
    seen: set[str] = set()
    taken: set[str] = set()
    for where, fields in json_lines(file, dict[str, msgspec.Raw]):
        names = _verdict_names(where, fields)
        if responses_only:
            key = str(_field(where, fields, "doc_id", _NUMBER_OR_NAME))
            if key in taken:
                continue
            taken.add(key)
        elif not set(names) <= seen:
            seen |= set(names)
            if verdict is None:
                chosen = chosen_verdict(where, sorted(seen), None)
            elif verdict in seen:
                chosen = verdict
        if responses_only or chosen in names or not names:
            yield from _responses(where, fields, None if responses_only else chosen, subtask)
    if verdict is not None and not responses_only:
        chosen_verdict(str(file), sorted(seen), verdict)


def _responses(where: str, fields: Mapping[str, msgspec.Raw], verdict: str | None, subtask: str) -> Iterator[Response]:
    document = _field(where, fields, "doc", _ANYTHING)
    name = str(_field(where, fields, "doc_id", _NUMBER_OR_NAME))
    texts = _texts(where, _field(where, fields, "resps", _ANYTHING))
    filtered = _field(where, fields, "filtered_resps", _ANYTHING) if _filter(where, fields) != _NO_FILTER else None
    only = len(texts) == 1
    prompt = _prompt(_field(where, fields, "arguments", _ANYTHING) if "arguments" in fields else None)
    metric = verdict.split(",")[0] if verdict else ""
    value = _field(where, fields, metric, _ANYTHING) if only and metric else None
    for text in texts:
        yield Response(
            where=where,
            problem=f"{subtask}/{name}" if subtask else name,
            question=_question(document),
            gold=_gold(_field(where, fields, "target", _ANYTHING)),
            text=text,
            status=binary(value),
            verdict=verdict or "",
            reward=number(value),
            cluster=subtask,
            prompt=prompt,
            answer=filtered[0] if only and isinstance(filtered, list) and _is_text(filtered) else None,
        )


def _verdict_names(where: str, fields: Mapping[str, msgspec.Raw]) -> list[str]:
    """``METRIC,FILTER``, the names that the program's results use."""
    name = _filter(where, fields)
    listed = _field(where, fields, "metrics", _TEXTS) if "metrics" in fields else sorted(fields.keys() - _KNOWN_FIELDS)
    return [f"{metric},{name}" for metric in listed if metric in fields]


def _filter(where: str, fields: Mapping[str, msgspec.Raw]) -> str:
    return _field(where, fields, "filter", _TEXT) if "filter" in fields else _NO_FILTER


def _prompt(arguments: object) -> str | None:
    """What the model was sent: the first argument of the only request."""
    asked = member(arguments, "gen_args_0", "arg_0")
    return asked if isinstance(asked, str) and asked else None


def _texts(where: str, responses: object) -> list[str]:
    inner = responses[0] if isinstance(responses, list) and len(responses) == 1 else None
    if not isinstance(inner, list) or not inner or not all(isinstance(text, str) for text in inner):
        raise DataError(f"{where}: no generated responses (resps of a task that compares log-likelihoods?)")
    return inner


def _gold(target: object) -> str:
    """The target; for a worked solution of GSM8K only the text after the last ``####``."""
    return str(target).rpartition("####")[2].strip()


def _is_text(values: Sequence[object]) -> bool:
    return len(values) == 1 and isinstance(values[0], str)


def _question(document: object) -> str:
    """The document's question. The prompt is not used: it may differ between models and between evaluations."""
    if isinstance(document, dict):
        by_name = {str(name).lower(): value for name, value in document.items()}
        for name in _QUESTIONS:
            if isinstance(by_name.get(name), str):
                return str(by_name[name])
    return msgspec.json.encode(document, order="deterministic").decode()


def _field(where: str, fields: Mapping[str, msgspec.Raw], name: str, decoder: msgspec.json.Decoder[T]) -> T:
    if name not in fields:
        raise DataError(f"{where}: no field {name!r}")
    return decode(where, bytes(fields[name]), decoder)


def _printed(files: Sequence[Path], verdict: str) -> list[Printed]:
    """The mean of the metric over the evaluations, from ``results_DATE.json``; for subtasks, that of their group."""
    named = [(file, match) for file in files if (match := _NAME.fullmatch(file.name))]
    tasks = {match["task"] for _, match in named}
    beside = sorted({file.with_name(f"results_{match['date']}.json") for file, match in named})
    results = {file: value for file in beside if (value := summary(file)) is not None}
    name = tasks.pop() if len(tasks) == 1 else _group_of(sorted(tasks), [_results(file) for file in files])
    sections = [member(value, part, name, verdict) for value in results.values() for part in ("results", "groups")]
    values = [value for value in sections if isinstance(value, int | float)]
    if not values or len(results) < len(beside):
        return []
    mean = sum(values) / len(values)
    doubt = "it weighs every subtask by its size or all alike, as its configuration says" if _GROUPING.grouped else ""
    where = str(beside[0]) if len(beside) == 1 else f"{beside[0].parent}: results of {len(beside)} evaluations"
    return printed(where, f"{verdict} of {name}", mean, 1, doubt=doubt)


# The regex filters write [invalid] where nothing matches (lm_eval/filters/extraction.py).
FORMAT = Format(
    name="lm-eval", fits=_fits, survey=_survey, read=_read, no_answer=frozenset(("", "[invalid]")), printed=_printed
)
