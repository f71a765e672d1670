"""Draws the missing rollouts of a run, and verifies them at the same time.

One thread feeds the sampler and the store, another grades what was drawn. Without a stopping rule, requests are sent in
a fixed order. With one, a problem's next draw batch is requested only when all its earlier ones have verdicts. The
decision then depends only on that problem's rollouts in submission order, which keeps pass@k unbiased.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import NamedTuple, Protocol, Self

from rlvr_bench.errors import StorageError
from rlvr_bench.grading import Grader, Ungraded
from rlvr_bench.pipeline.options import Progress
from rlvr_bench.records import Draw, DrawRequest, Prompt, SavedRollout
from rlvr_bench.samplers.protocol import Growth, Sampler, growing_draws
from rlvr_bench.samplers.seeds import draw_seed
from rlvr_bench.store import Manifest, RunWriter
from rlvr_bench.store.marks import Drawn
from rlvr_bench.store.run import Span, stored_text, text_hash
from rlvr_bench.store.verdicts import VerdictRow

__all__ = ["DrawGrader", "Drawing", "Graded", "LiveGrader", "Plan", "count"]


class Graded(NamedTuple):
    """Numbers of rollouts verified, and of those that are correct."""

    problem_id: str
    rollouts: int
    correct: int


class DrawGrader(Protocol):
    """Grades finished draws while the sampler goes on."""

    def submit(self, draw: Draw) -> None:
        """Hand over a finished draw."""
        ...

    def finished(self, *, wait: bool) -> Iterator[Graded]:
        """What has been graded since the last call; with ``wait``, at least one. Raises what the grading raised."""
        ...


class LiveGrader:
    """Grades draws in a separate thread while the sampler goes on.

    Verdicts may reach the disk before their rollouts. If those rollouts are lost and drawn again, a verdict is kept
    only where the text is the same.
    """

    _BATCH = 4096  # rollouts graded together at most: one shard of verdicts

    def __init__(self, grader: Grader) -> None:
        self._grader = grader
        self._drawn: queue.SimpleQueue[Draw | None] = queue.SimpleQueue()
        self._graded: queue.SimpleQueue[Graded | BaseException] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="verify", daemon=True)

    def submit(self, draw: Draw) -> None:
        """Hand over a finished draw."""
        self._drawn.put(draw)

    def finished(self, *, wait: bool) -> Iterator[Graded]:
        """What has been graded since the last call; with ``wait``, at least one. Raises what the grading raised."""
        while True:
            try:
                item = self._graded.get(block=wait)
            except queue.Empty:
                return
            if isinstance(item, BaseException):
                raise item
            yield item
            wait = False

    def __enter__(self) -> Self:
        self._grader.__enter__()
        self._grader.grade_missing()  # what an earlier session drew and did not grade
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if kind is not None:  # skip what is waiting: it is on disk, and the next session grades it
            self._drain()
        self._drawn.put(None)
        self._thread.join()
        self._grader.__exit__(kind, error, None)

    def _work(self) -> None:
        try:
            while (draws := self._take()) is not None:
                for graded in count(self._grader.grade([row for draw in draws for row in _rows(draw)])):
                    self._graded.put(graded)
        except Exception as error:  # noqa: BLE001  handed to the thread that draws, which raises it
            self._graded.put(error)

    def _take(self) -> list[Draw] | None:
        """All waiting draws, up to a batch; None when the sampler is done."""
        draws, rollouts = [], 0
        item = self._drawn.get()
        while item is not None:
            draws.append(item)
            rollouts += len(item.rollouts)
            if rollouts >= self._BATCH or self._drawn.empty():
                return draws
            item = self._drawn.get()
        if draws:
            self._drawn.put(None)
            return draws
        return None

    def _drain(self) -> None:
        while not self._drawn.empty():
            self._drawn.get_nowait()


class Plan:
    """Decides which span to request next. Without a stopping rule: all of them, in order.

    With ``stop_after`` R, a problem gets no more spans once R of its verified rollouts are correct, and has at most one
    draw batch requested at a time. A gap before the last index already drawn (a damaged shard) is always filled.
    """

    def __init__(
        self,
        spans: Sequence[Span],
        *,
        stop_after: int | None = None,
        correct: Mapping[str, int] | None = None,
        drawn: Mapping[str, Drawn] | None = None,
    ) -> None:
        self._stop_after = stop_after
        self._correct = dict(correct or {})
        self._drawn_to = {name: have.end for name, have in (drawn or {}).items()}
        self._later: dict[str, deque[Span]] = {}
        self._ready: deque[Span] = deque()
        self._unverified = 0
        if stop_after is None:
            self._ready.extend(spans)
            return
        for span in spans:
            self._later.setdefault(span.problem_id, deque()).append(span)
        for name in self._later:
            self._release(name)

    @property
    def waiting(self) -> bool:
        """Whether verdicts that are still missing could make more spans ready."""
        return self._unverified > 0

    @property
    def solved(self) -> int:
        """The number of problems with a rollout verified as correct."""
        return sum(count > 0 for count in self._correct.values())

    def next(self) -> Span | None:
        """The next span to request; None if none is ready."""
        if not self._ready:
            return None
        self._unverified += self._stop_after is not None
        return self._ready.popleft()

    def verified(self, graded: Graded) -> int:
        """Record the verdicts of a draw; returns how many rollouts of its problem will now not be drawn."""
        self._correct[graded.problem_id] = self._correct.get(graded.problem_id, 0) + graded.correct
        if self._stop_after is None:
            return 0
        self._unverified -= 1
        return self._release(graded.problem_id)

    def given_up(self, problem_id: str) -> int:
        """Record that a span will not be drawn; returns how many later rollouts of its problem are dropped with it."""
        if self._stop_after is None:
            return 0
        self._unverified -= 1
        spans = self._later[problem_id]
        spared = sum(span.n for span in spans)
        spans.clear()
        return spared

    def _release(self, name: str) -> int:
        """Make a problem's next span ready, or drop all its spans; returns the number of rollouts dropped."""
        spans = self._later[name]
        open_ended = self._correct.get(name, 0) < (self._stop_after or 0)
        if spans and (open_ended or spans[0].start < self._drawn_to.get(name, 0)):
            self._ready.append(spans.popleft())
            return 0
        spared = sum(span.n for span in spans)
        spans.clear()
        return spared


class Drawing:
    """One session: takes spans from the plan, draws and stores their rollouts, and passes them to the grader."""

    def __init__(
        self, writer: RunWriter, prompts: Mapping[str, Prompt], plan: Plan, live: DrawGrader | None, progress: Progress
    ) -> None:
        self._writer, self._prompts, self._plan = writer, prompts, plan
        self._live, self._progress = live, progress
        self._in_flight = 0
        self._handed: dict[tuple[str, int], SavedRollout] = {}  # saved rollouts of the open draws
        self._drawn = 0
        self._verified = 0

    def run(self, sampler: Sampler) -> None:
        """Draw until the plan is empty. Raises the errors of sampler, store and grading; what was drawn is kept."""
        manifest = self._writer.run.manifest
        assert manifest.sampling is not None  # only imports lack it, and the writer refuses to add to one
        growth: Growth | None = None
        try:
            for item in growing_draws(sampler, self._requests(manifest), manifest.sampling):
                if isinstance(item, Draw):
                    self._take(item, hold=growth is not None)
                    continue
                growth = item
                if self._writer.is_save_due:
                    self._save(growth)
        except BaseException as error:
            if growth is not None and not isinstance(error, StorageError):
                self._save(growth)
            raise
        while self._live is not None and self._verified < self._drawn:
            self._take_verdicts(wait=True)

    def _save(self, growth: Growth) -> None:
        """Save what the open draws have; of those that the engine has not begun, what earlier sessions had."""
        rollouts = growth()
        begun = {(rollout.problem_id, rollout.index) for rollout in rollouts}
        waiting = [saved for saved in self._handed.values() if (saved.problem_id, saved.index) not in begun]
        self._writer.save([*rollouts, *waiting])

    def _take(self, draw: Draw, *, hold: bool) -> None:
        """Store a draw, and pass it on to the grader."""
        self._in_flight -= 1
        for saved in draw.request.saved:
            self._handed.pop((saved.problem_id, saved.index), None)
        if not draw.rollouts:  # given up: the sampler raises the reason later
            self._progress.advance(self._plan.given_up(draw.request.prompt.problem_id))
            return
        self._drawn += len(draw.rollouts)
        self._writer.add(draw, hold=hold)
        if self._live is not None:
            self._live.submit(draw)
        self._progress.advance(len(draw.rollouts), sum(rollout.n_tokens for rollout in draw.rollouts))
        self._take_verdicts(wait=False)

    def _requests(self, manifest: Manifest) -> Iterator[DrawRequest | None]:
        """Yields the requests; None means that nothing can be requested before more draws are finished."""
        assert manifest.seed is not None  # as above
        while True:
            span = self._plan.next()
            if span is not None:
                self._in_flight += 1
                seed = draw_seed(manifest.seed, manifest.task, span.problem_id, span.start, manifest.drawn_by)
                prompt, saved = self._prompts[span.problem_id], self._writer.take_saved(span)
                self._handed |= {(one.problem_id, one.index): one for one in saved}
                yield DrawRequest(prompt=prompt, start=span.start, n=span.n, seed=seed, saved=saved)
            elif not self._plan.waiting:
                return
            elif self._in_flight:
                yield None
                self._take_verdicts(wait=False)
            else:
                self._take_verdicts(wait=True)

    def _take_verdicts(self, *, wait: bool) -> None:
        if self._live is None:
            return
        spared = 0
        for graded in self._live.finished(wait=wait):
            self._verified += graded.rollouts
            spared += self._plan.verified(graded)
        self._progress.advance(spared)
        self._progress.verified(self._verified, self._plan.solved)


def count(rows: Iterable[VerdictRow]) -> list[Graded]:
    """Numbers of rollouts and of correct rollouts, for each problem."""
    counts: dict[str, list[int]] = {}
    for row in rows:
        n_and_c = counts.setdefault(row.problem_id, [0, 0])
        n_and_c[0] += 1
        n_and_c[1] += row.verdict.status == "correct"
    return [Graded(name, n, c) for name, (n, c) in counts.items()]


def _rows(draw: Draw) -> Iterator[Ungraded]:
    for rollout in draw.rollouts:
        text = stored_text(rollout.text)
        yield Ungraded(rollout.problem_id, rollout.index, text_hash(text), text)
