"""Prints the list of tasks and of groups of tasks."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from rlvr_bench.cli.tables import show_blocks, text_table
from rlvr_bench.tables import Format, Line, Table
from rlvr_bench.task import Task
from rlvr_bench.task_groups import GROUP_PREFIX, GROUPS

__all__ = ["show_tasks"]

COLUMNS = ("task", "kind", "problems", "pinned", "licence", "what it is")


def show_tasks(console: Console, tasks: Sequence[Task], form: Format) -> None:
    """Print a row for each task, and a line for each group."""
    rows = [
        (
            task.name,
            task.kind,
            "?" if task.source.rows is None else f"{task.source.rows:,}",
            "yes" if task.source.sha256 is not None else "no",
            task.licence or "?",
            task.summary,
        )
        for task in tasks
    ]
    blocks: list[Line | Table] = [text_table(COLUMNS, rows)]
    blocks += [Line((f"--task {GROUP_PREFIX}{name}: {', '.join(members)}",)) for name, members in GROUPS.items()]
    show_blocks(console, blocks, form)
