"""Rows from scorecards, with facts on the checkpoint from the scorecard and from the user."""

from __future__ import annotations

import fnmatch
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np

from rlvr_bench.comparison.cards import GRADING, IDENTITY, RunCounts, align
from rlvr_bench.comparison.estimates import pass_estimates, sound_estimates
from rlvr_bench.comparison.steps import step_of
from rlvr_bench.errors import BadArgument
from rlvr_bench.leaderboards.columns import BOARD, Cell, Row, caveats_cell, columns
from rlvr_bench.prompts import open_prompt
from rlvr_bench.records import Estimate
from rlvr_bench.scorecard import Scorecard, ScoredRun
from rlvr_bench.task import is_shipped, read_task, task_verifier

__all__ = ["ABOUT", "Entry", "cells_of", "described", "make_entry", "rounded"]

ABOUT = ("method", "base_model", "step")
DIGITS = 6
_ZOO = "zoo:"


class Entry(msgspec.Struct, frozen=True):
    """A row with the counts it was made from."""

    row: Row
    counts: RunCounts


def make_entry(file: Path, card: Scorecard, ks: Sequence[int]) -> Entry:
    """The row of one scorecard, ranks and base left empty. Every number is rounded to six digits.

    pass@k has only bounds if a problem has fewer than k rollouts, because a mean over the others is for another task.
    """
    _, (counts,), _ = align([(file, card)])
    run = card.run
    row: Row = {column.name: None for column in columns(ks)}
    row |= {
        "task": _text(run.task),
        "task_version": _text(run.task_version),
        "setting": _setting(card, counts),
        "model": _text(run.model),
        **_sampling(run),
        "tools": None if run.tools is None else run.tools.language,
        "problems": len(counts.n),
        "n": int(counts.n.min()),
        "engine": _engine(card),
        "date": _date(card),
        "scorecard": hashlib.sha256(file.read_bytes()).hexdigest()[:16],
    }
    estimates = {(item.name, item.k, item.group): item for item in sound_estimates(card, counts)}
    shown: dict[str, Estimate | None] = {}
    for k in ks:
        if k <= counts.counts.most:
            estimate = estimates.get(("pass@k", k, None)) or pass_estimates(counts, [k])[0]
            row |= cells_of(f"pass@{k}", estimate) | _bound_cells(f"pass@{k}", estimate)
            shown[f"pass@{k}"] = estimate
    for metric, column in BOARD:
        shown[column.name] = estimates.get((metric.name, column.k, column.group))
        row |= cells_of(column.name, shown[column.name])
    for name in ("tool_calls", "tool_errors"):
        row |= {name: rounded(card.quality.get(f"{name}_per_response"))}
    boundary = next((item for item in estimates.values() if item.name == "unsolved"), None)
    row |= cells_of("unsolved", boundary) | {"boundary_k": boundary.k if boundary else None}
    row |= _bound_cells("unsolved", boundary)
    shown |= {"unsolved": boundary}
    return Entry(row | {"caveats": caveats_cell(shown)}, counts)


def described(
    row: Row, card: Scorecard, given: Mapping[tuple[str, str], str], before: Mapping[str, Cell]
) -> dict[str, Cell]:
    """Method, base model and step of a row: from ``given``, else from the run, else from ``before``, else from the name.

    ``given`` maps (model or pattern with * and ?, field) to a value; the last match is used. A name such as
    ckpts/global_step_200 has the step, and zoo:NAME has the recipe.
    """
    model = str(row["model"] or "")
    step = step_of(model)
    cells: dict[str, Cell] = {
        "method": model.removeprefix(_ZOO) if model.startswith(_ZOO) else None,
        "base_model": card.run.base_model,
        "step": step.step if step else None,
    }
    cells |= {name: before[name] for name in ABOUT if before.get(name) is not None}
    # A training program may add these to the scorecard, which has no fields for them.
    stated = card.unknown.get("run") or {}
    cells |= {name: stated[name] for name in ABOUT if stated.get(name) is not None}
    for (pattern, name), value in given.items():
        if fnmatch.fnmatchcase(model, pattern):
            cells[name] = _whole(value) if name == "step" else value
    return cells


def rounded(value: float | None) -> float | None:
    """``value`` to six significant digits, so that writing and reading a file changes nothing; None where undefined."""
    return None if value is None or not np.isfinite(value) else float(f"{value:.{DIGITS}g}")


def cells_of(name: str, estimate: Estimate | None) -> Row:
    """Value and interval in columns ``name``, ``name_low`` and ``name_high``; empty without an estimate."""
    if estimate is None:
        return {}
    values = {"": estimate.value, "_low": estimate.low, "_high": estimate.high}
    return {f"{name}{end}": rounded(value) for end, value in values.items()}


def _bound_cells(name: str, estimate: Estimate | None) -> Row:
    """The bounds in columns ``name_at_least`` and ``name_at_most``; empty where rollouts and verdicts are complete."""
    if estimate is None or estimate.at_least is None:
        return {}
    return {f"{name}_at_least": rounded(estimate.at_least), f"{name}_at_most": rounded(estimate.at_most)}


def _setting(card: Scorecard, counts: RunCounts) -> str:
    """Hash of the fields in which rows that are ranked together are equal.

    The chat template and its arguments are not in it, because they belong to the checkpoint and not to the task.
    """
    asked = {name: getattr(card.run, name) for name in IDENTITY if not name.startswith("chat_template")}
    judged = {name: getattr(card.run.grading, name) for name in GRADING}
    if card.run.cap is not None:
        asked |= {"token_cap": card.run.cap.tokens, "call_cap": card.run.cap.calls}
    if card.run.imported:
        by_task = _of_task(card.run.task)
        asked |= {name: value for name, value in by_task.items() if name in asked}
        if card.run.grading.is_theirs:
            judged |= {name: value for name, value in by_task.items() if name in judged}
    ids = sorted(entry.id for entry in counts.entries)
    content = msgspec.json.encode([list(asked.values()), list(judged.values()), ids], order="sorted")
    return hashlib.sha256(content).hexdigest()[:12]


def _of_task(name: str) -> dict[str, object]:
    """Prompt and verifier of a shipped task: an imported run, of which they are unknown, is ranked with runs of these.

    Empty for other tasks, and where the name has parameters, which a task could evaluate as code.
    """
    if ":" in name or not is_shipped(name):
        return {}
    task, file = read_task(name)
    template, verifier = open_prompt(task.prompt), task_verifier(task, file)
    return {
        "prompt": template.name,
        "prompt_sha256": template.digest,
        "verifier": verifier.name,
        "version": verifier.version,
        "options": dict(verifier.options),
    }


def _sampling(run: ScoredRun) -> Row:
    drawn = run.sampling
    if drawn is None:
        return {}
    arguments = (f"{name}={json.dumps(value)}" for name, value in run.chat_template_args.items())
    return {
        "temperature": drawn.temperature,
        "top_p": drawn.top_p,
        "max_tokens": drawn.max_tokens,
        "other_parameters": _text(" ".join([*drawn.others_in_words(), *arguments])),
    }


def _engine(card: Scorecard) -> str | None:
    version = card.run.sessions[-1].engine_version if card.run.sessions else ""
    return _text(f"{card.run.engine} {version}".strip())


def _date(card: Scorecard) -> str | None:
    return _text(card.run.sessions[-1].started[:10]) if card.run.sessions else None


def _text(value: object) -> str | None:
    return str(value) if value not in (None, "") else None


def _whole(value: str) -> int:
    if not value.isdecimal():
        raise BadArgument("--set", f"step={value}", "a step is a whole number")
    return int(value)
