"""Verifies on a cluster: its CPU nodes grade the shards that replicas wrote, and return only counts."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rlvr_bench.grading import Grader
from rlvr_bench.pipeline.drawing import Graded, count
from rlvr_bench.pipeline.options import GradeOptions
from rlvr_bench.records import Draw
from rlvr_bench.store import Run, open_run
from rlvr_bench.store.paths import absolute
from rlvr_bench.verifiers import Verifier

if TYPE_CHECKING:
    from rlvr_bench.scaling.cluster import RayCluster

__all__ = ["RemoteGrader", "ShardGrader"]


class ShardGrader:
    """Grades a run's shards in the process that creates it, and writes the verdicts."""

    def __init__(self, path: Path, verifier: Verifier, options: GradeOptions) -> None:
        self._run = open_run(path)
        self._grader = Grader(self._run, verifier, workers=options.workers, timeout_s=options.timeout_s)
        self._grader.__enter__()

    def __call__(self, shard: str) -> list[Graded]:
        """Grade every rollout of a shard; returns the numbers of rollouts and of correct ones for each problem."""
        rows = self._grader.grade(self._grader.rows_of(self._run.rollouts.path / shard))
        self._grader.flush()
        return count(rows)


class RemoteGrader:
    """``LiveGrader`` for draws that are stored in shards already."""

    def __init__(self, cluster: RayCluster, run: Run, verifier: Verifier, options: GradeOptions) -> None:
        self._answerers = cluster.answerers(functools.partial(ShardGrader, absolute(run.path), verifier, options))
        self._submitted: set[str] = set()

    def submit(self, draw: Draw) -> None:
        """Request the grading of the draw's shard, unless it was requested before."""
        if draw.shard is not None and draw.shard not in self._submitted:
            self._submitted.add(draw.shard)
            self._answerers.ask(draw.shard)

    def finished(self, *, wait: bool) -> Iterator[Graded]:
        """What has been graded since the last call; with ``wait``, at least one. Raises what the grading raised."""
        for graded in self._answerers.answers(wait=wait):
            yield from graded

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._answerers.close()
