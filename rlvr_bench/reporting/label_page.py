"""The page on which a person labels sampled rollouts: right, wrong or unsure; it exports the file that ``audit`` reads."""

from __future__ import annotations

from pathlib import Path

import msgspec

from rlvr_bench.errors import in_one_line
from rlvr_bench.labelling.sampling import AuditSample, SampledRollout
from rlvr_bench.records import Problem
from rlvr_bench.reporting.render import render_labels
from rlvr_bench.reporting.second_opinions import texts_of
from rlvr_bench.store.paths import write_atomically
from rlvr_bench.store.run import Run

__all__ = ["write_label_page"]

_CHARACTERS = 40_000  # shown of one response: the first three quarters, and the last quarter


class _Item(msgspec.Struct, frozen=True, kw_only=True):
    """A rollout to label; ``text`` lacks ``cut`` characters at position ``cut_at``. The verdict is not on the page."""

    problem_id: str
    index: int
    text_hash: str
    question: str
    gold: str
    text: str
    cut: int
    cut_at: int


class _Page(msgspec.Struct, frozen=True, kw_only=True):
    run: str
    model: str
    task: str
    items: list[_Item]


def write_label_page(run: Run, plan: AuditSample, file: Path) -> None:
    """Write the page, which needs no network. It does not say what the verifier decided. Raises RunError, StorageError."""
    problems = {problem.id: problem for problem in run.problems()}
    texts = texts_of(run, {(rollout.problem_id, rollout.index) for rollout in plan.rollouts})
    items = [
        _item(rollout, problems[rollout.problem_id], texts.get((rollout.problem_id, rollout.index), ""))
        for rollout in plan.rollouts
        if rollout.problem_id in problems
    ]
    model, task = (in_one_line(name, 100) for name in (run.manifest.model, run.manifest.task))
    page = _Page(run=f"{model}/{task}/{plan.seed}", model=model, task=task, items=items)
    write_atomically(file, render_labels(f"Label {model} on {task}", page).encode("utf-8", "backslashreplace"))


def _item(rollout: SampledRollout, problem: Problem, text: str) -> _Item:
    cut = max(0, len(text) - _CHARACTERS)
    head = _CHARACTERS * 3 // 4
    return _Item(
        problem_id=rollout.problem_id,
        index=rollout.index,
        text_hash=str(rollout.text_hash),
        question=problem.question,
        gold=problem.answer,
        text=text if not cut else text[:head] + text[head - _CHARACTERS :],
        cut=cut,
        cut_at=head if cut else 0,
    )
