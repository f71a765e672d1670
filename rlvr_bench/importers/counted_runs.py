"""Runs that hold counts instead of responses: ``counts.csv``, in the format that import reads."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping

from rlvr_bench.errors import RunError
from rlvr_bench.importers.programs.counts import CLUSTER, COLUMNS
from rlvr_bench.store.paths import write_atomically
from rlvr_bench.store.record_files import damaged, write_record
from rlvr_bench.store.run import Run
from rlvr_bench.store.verdicts import Grading

__all__ = ["Counts", "holds_counts", "read_clusters", "read_counts", "write_counts"]

Counts = list[tuple[str, int, int]]  # (problem id, n, c)


def holds_counts(run: Run) -> bool:
    """Whether the run holds only counts."""
    return (run.path / "counts.csv").exists()


def read_counts(run: Run) -> Counts:
    """(problem id, n, c) of every problem. Raises RunError where the file is damaged."""
    file = run.path / "counts.csv"
    try:
        with file.open(encoding="utf-8", newline="") as lines:
            return [(row["problem_id"], int(row["n"]), int(row["c"])) for row in csv.DictReader(lines)]
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise damaged(file, error, "Import it again.") from error


def read_clusters(run: Run) -> dict[str, str]:
    """The cluster of each problem that has one. Raises RunError where the file is damaged."""
    file = run.path / "counts.csv"
    try:
        with file.open(encoding="utf-8", newline="") as lines:
            return {row["problem_id"]: row[CLUSTER] for row in csv.DictReader(lines) if row.get(CLUSTER)}
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise RunError(f"{file}: damaged ({error}). Import it again.") from error


def write_counts(
    run: Run, counts: Iterable[tuple[str, int, int]], grading: Grading, clusters: Mapping[str, str] | None = None
) -> None:
    """Write the counts, the grading that they came from, and the cluster of each problem, by id. Raises StorageError."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    if clusters and any(clusters.values()):
        writer.writerow((*COLUMNS, CLUSTER))
        writer.writerows((*row, clusters.get(row[0], "")) for row in counts)
    else:
        writer.writerow(COLUMNS)
        writer.writerows(counts)
    write_atomically(run.path / "counts.csv", text.getvalue().encode())
    write_record(run.path / "grading.json", grading)
