"""NeMo-Skills: ``output-rs*.jsonl``, one file per random seed, with a line per problem.

Written after the writers and metrics of github.com/NVIDIA/NeMo-Skills (``nemo_skills/evaluation/metrics``): ``generation`` is
the response, ``predicted_answer`` and ``expected_answer`` are the answers. ``symbolic_correct`` and a judge's ``judgement`` are
verdicts on answers; ``_OTHERS`` has those of other benchmarks. Where judging is the benchmark, the verdict is whether
``judgement`` agrees with ``expected_judgement``.

Lines without ``generation`` become counts. The program pairs the lines of several files by their number, and so does this
reader where such a line has neither an id nor the problem.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec

from rlvr_bench.importers.entries import (
    Count,
    Format,
    Glimpse,
    ImportedEntry,
    Origin,
    Response,
    binary,
    chosen_verdict,
    number,
)
from rlvr_bench.importers.lines import json_lines
from rlvr_bench.importers.printed import Printed, member, printed, summary, worth_showing

__all__ = ["FORMAT"]

_JUDGEMENT = re.compile(r"\*{0,2}judge?ment\*{0,2}\s*:[\s*]*(yes|no)\b", re.IGNORECASE)
_ANSWERED = ("symbolic_correct", "judgement", "correct_judgements")  # verdicts that are wrong where there is no answer


class _Line(msgspec.Struct, kw_only=True):
    generation: str | msgspec.UnsetType | None = msgspec.UNSET
    problem: str | None = None
    question: str | None = None
    id: str | int | None = None
    problem_id: str | int | None = None
    task_id: str | int | None = None
    expected_answer: str | int | float | None = None
    predicted_answer: str | int | float | None = None
    num_generated_tokens: int | None = None
    finish_reason: str | None = None
    symbolic_correct: object = None
    judgement: str | None = None
    expected_judgement: str | None = None
    is_correct: object = None
    is_correct_plus: object = msgspec.field(default=None, name="is_correct-plus")
    graded_list: object = None
    strict_eval: object = None
    loose_eval: object = None
    proof_status: object = None
    swe_bench: object = msgspec.field(default=None, name="swe-bench-metrics")
    eval_status: object = None
    passed: object = None


def _first(value: object) -> object:
    return value[0] if isinstance(value, list) and value else None


def _member(name: str) -> Callable[[object], object]:
    return lambda value: value.get(name) if isinstance(value, dict) else None


def _all_completed(value: object) -> object:
    parts = value if isinstance(value, list) else [None]
    states = [part.get("process_status") if isinstance(part, dict) else None for part in parts]
    return None if None in states else all(state == "completed" for state in states)


# By verdict: the field, and the value in it that is 1 or true where the response is right.
_OTHERS: dict[str, tuple[str, Callable[[object], object]]] = {
    "symbolic_correct": ("symbolic_correct", lambda value: value),
    "is_correct": ("is_correct", lambda value: value),
    "is_correct-plus": ("is_correct_plus", lambda value: value),
    "graded_list": ("graded_list", _first),
    "strict_eval": ("strict_eval", _member("follow_all_instructions")),
    "loose_eval": ("loose_eval", _member("follow_all_instructions")),
    "proof_status": ("proof_status", lambda value: value == "completed"),
    "resolved": ("swe_bench", _member("resolved")),
    "eval_status": ("eval_status", _all_completed),
    "passed": ("passed", lambda value: value),
}
_FIELDS = {"judgement", "is_correct-plus", "swe-bench-metrics"} | {field for field, _ in _OTHERS.values()}


def _fits(seen: Glimpse) -> bool:
    stripped = "num_generated_tokens" in seen.names and bool(_FIELDS & seen.names)
    return seen.kind == "lines" and ("generation" in seen.names or stripped)


def _survey(files: Sequence[Path]) -> tuple[Origin, list[Path]]:
    """Leave a greedy ``output.jsonl`` out where there are seeds: it is no rollout of the same policy."""
    seeds = [file for file in files if file.name.startswith("output-rs")]
    greedy = [file for file in files if file.name == "output.jsonl"]
    if not seeds or not greedy:
        return Origin(task=_task(files[0])), list(files)
    note = f"{greedy[0]} is the greedy response next to those of the seeds: left out"
    return Origin(task=_task(files[0]), notes=(note,)), [file for file in files if file not in greedy]


def _task(file: Path) -> str:
    """The benchmark, where the path is the program's: ``eval-results/BENCHMARK/output-rs0.jsonl``."""
    return file.parent.name if file.parent.parent.name == "eval-results" else ""


def _read(file: Path, verdict: str | None, responses_only: bool) -> Iterator[ImportedEntry]:
    for position, (where, line) in enumerate(json_lines(file, _Line)):
        verdicts = _verdicts(line)
        name = None if responses_only else chosen_verdict(where, list(verdicts), verdict if verdicts else None)
        status = binary(verdicts[name]) if name else None
        answer = None if line.predicted_answer is None else str(line.predicted_answer)
        if name == "correct_judgements":
            answer = _formatted(line.judgement)
        if status == "wrong" and answer is None and name in _ANSWERED:
            status = "no_answer"
        common = {
            "where": where,
            "problem": _name(line, position),
            "question": line.problem or line.question or "",
            "gold": _text(line.expected_answer) or _formatted(line.expected_judgement) or "",
            "verdict": name or "",
        }
        if line.generation is msgspec.UNSET:
            yield Count(n=1, c=int(status == "correct"), partial=True, **common)
            continue
        yield Response(
            text=line.generation or "",
            status=status,
            reward=number(verdicts[name]) if name else None,
            answer=answer,
            n_tokens=line.num_generated_tokens,
            truncated={"length": True, "stop": False}.get(line.finish_reason or ""),
            **common,
        )


def _name(line: _Line, position: int) -> str:
    """The problem's id. A line of bare verdicts has its number, by which the program pairs its files."""
    known = next((i for i in (line.problem_id, line.id, line.task_id) if i is not None), None)
    is_named = line.problem or line.question or line.generation is not msgspec.UNSET
    return _text(known) or ("" if is_named else f"line {position + 1}")


def _verdicts(line: _Line) -> dict[str, object]:
    """The verdicts of a line by name; a value that is neither 0 nor 1 is no verdict."""
    verdicts = {
        name: pick(value) for name, (field, pick) in _OTHERS.items() if (value := getattr(line, field)) is not None
    }
    if line.judgement is None:
        return verdicts
    if line.expected_judgement is not None:
        expected = _formatted(line.expected_judgement)
        return {**verdicts, "correct_judgements": None if expected is None else _formatted(line.judgement) == expected}
    said = _judgement(line.judgement)
    return {**verdicts, "judgement": None if said is None else said == "yes"}


def _judgement(text: str | None) -> str | None:
    """What a judge says last: yes or no; None for anything else."""
    said = _JUDGEMENT.findall(text or "")
    return said[-1].lower() if said else None


def _formatted(text: str | None) -> str | None:
    """What is judged where judging is the task: like ``is_correct_judgement`` of the program, in this form only."""
    said = re.match(r"\s*(yes|no)", (text or "").rpartition("Judgement:")[2], re.IGNORECASE)
    return said[1].lower() if said and "Judgement:" in (text or "") else None


def _text(value: str | int | float | None) -> str:
    return "" if value is None else str(value)


# What the program calls its score by each verdict.
_SCORES = {
    "symbolic_correct": "symbolic_correct",
    "judgement": "judge_correct",
    "correct_judgements": "correct_judgements",
    "is_correct": "passing_base_tests",
    "is_correct-plus": "passing_plus_tests",
    "graded_list": "accuracy",
    "strict_eval": "prompt_strict_accuracy",
    "loose_eval": "prompt_loose_accuracy",
    "proof_status": "lean4_correct",
    "resolved": "issues_resolved",
    "eval_status": "problem_accuracy",
    "passed": "accuracy",
}
_MODE = re.compile(r"(?P<kind>pass|majority)@(?P<k>\d{1,6})(?:\[avg-of-(?P<of>\d{1,6})\])?")


def _printed(files: Sequence[Path], verdict: str) -> list[Printed]:
    """``metrics.json``, in percent, in the folder of the seeds or the one above it."""
    folder = files[0].resolve().parent
    file = next((f for f in (folder / "metrics.json", folder.parent / "metrics.json") if f.is_file()), None)
    content = summary(file) if file else None
    modes = member(content, folder.name) or (
        next(iter(content.values())) if isinstance(content, dict) and len(content) == 1 else None
    )
    matches = {name: match for name in (modes if isinstance(modes, dict) else {}) if (match := _MODE.fullmatch(name))}
    largest = max((int(match["of"] or match["k"]) for match in matches.values()), default=0)
    numbers: list[Printed] = []
    for name, match in matches.items():
        k, of = int(match["k"]), int(match["of"] or match["k"])
        if of < 1 or not worth_showing(of, largest):
            continue
        value = member(modes, name, _SCORES.get(verdict, verdict))
        first = (
            f"over the first {of} rollouts alone"
            if (match["of"] or match["kind"] == "majority") and of < largest
            else ""
        )
        doubt = "earlier versions of NeMo-Skills count the first k rollouts alone" if match["kind"] == "pass" else ""
        kind = "maj@k" if match["kind"] == "majority" else "pass@k"
        numbers += printed(str(file), name, value, k, percent=True, kind=kind, caveat=first, doubt=doubt)
    return numbers


FORMAT = Format(name="nemo-skills", fits=_fits, survey=_survey, read=_read, printed=_printed)
