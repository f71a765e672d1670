"""One self-contained HTML page from scorecards: charts, tables, and rollouts of the run folders given."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from rlvr_bench.errors import BadArgument
from rlvr_bench.parallel import check_jobs
from rlvr_bench.reporting.browser import MOST_ROLLOUTS
from rlvr_bench.reporting.content import page_task
from rlvr_bench.reporting.sources import by_task, read_sources
from rlvr_bench.store.paths import write_atomically

__all__ = ["Written", "report"]


@dataclasses.dataclass(frozen=True)
class Written:
    """The page that was written: its file, size, tasks, and number of runs."""

    html: Path
    size_bytes: int
    tasks: tuple[str, ...]
    runs: int


def report(
    runs: Sequence[str | Path],
    html: Path,
    *,
    allow: Collection[str] = (),
    rollouts: int = 2,
    jobs: int = 1,
    on_progress: Callable[[int, int], object] = lambda done, total: None,
) -> Written:
    """Write one HTML page on runs, given as run folders or scorecard files; the first run of a task is its baseline.

    The page needs no network. It is made from scorecards; a run folder adds the texts of its problems and, for some
    problems, ``rollouts`` rollouts of each verdict. ``allow``: fields in which runs of one task may differ, as in
    ``compare``. ``jobs``: processes that compare pairs of runs, which changes nothing on the page; ``on_progress`` is
    called with how many pairs of how many of a task are compared. Raises RunError where a scorecard is missing,
    Incomparable (a RunError) where runs of one task answer different questions, BadArgument for no runs or an impossible
    number of rollouts, StorageError where the page cannot be written.
    """
    if not runs:
        raise BadArgument("RUN", [], "name at least one run folder or scorecard.json")
    if not 0 <= rollouts <= MOST_ROLLOUTS:
        raise BadArgument("--rollouts", rollouts, f"must be between 0 and {MOST_ROLLOUTS}")
    check_jobs(jobs)
    from rlvr_bench.reporting.render import render

    tasks = [page_task(sources, allow, rollouts, jobs, on_progress) for sources in by_task(read_sources(runs))]
    content = render(tasks).encode()
    write_atomically(html, content)
    return Written(html, len(content), tuple(task.task for task in tasks), sum(len(task.runs) for task in tasks))
