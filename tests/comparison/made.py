"""Hand-made scorecards."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rlvr_bench.scorecard import Scorecard, scorecard_from

__all__ = ["card"]


def card(model: str, c: Sequence[int], n: int | Sequence[int], /, **changed: Any) -> tuple[Path, Scorecard]:
    """A scorecard of problems p0, p1, ... with these counts; ``changed`` replaces fields of the run.

    ``columns`` adds per-problem values by name, ``ids`` renames the problems, ``grading`` changes fields of the grading.
    """
    drawn = [n] * len(c) if isinstance(n, int) else list(n)
    columns = changed.pop("columns", {})
    ids = changed.pop("ids", [f"p{i}" for i in range(len(c))])
    grading = {"verifier": "math", "version": "1", "options": {}, **changed.pop("grading", {})}
    run = {
        "task": "t",
        "task_version": "1",
        "problems_sha256": "s",
        "prompt": "qwen-boxed",
        "prompt_sha256": "h",
        "chat_template": None,
        "model": model,
        "weights": model,
        "seed": 0,
        "seed_scheme": 2,
        "engine_args": {},
        "n": max(drawn),
        "stopping": None,
        "sampling": {"temperature": 0.6},
        "grading": grading,
        **changed,
    }
    problems = [
        {"id": name, "n": drawn[i], "c": c[i], **{key: column[i] for key, column in columns.items()}}
        for i, name in enumerate(ids)
    ]
    return Path(f"runs/{model}/scorecard.json"), scorecard_from(
        {"schema": 1, "run": run, "problems": problems, "estimates": [], "quality": {}}
    )
