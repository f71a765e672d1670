"""A ``Sampler`` made of many replicas: it hands out draw batches and collects the results.

The seed of a batch decides its rollouts, and is hashed from the batch's name. So it does not matter where and when a
batch is drawn, and after how many failed tries. Each batch is counted once: one replica has it at a time, and a second
result is dropped. Requests that have not begun move from a slow replica to an idle one. Requests that have begun stay:
where an engine is not deterministic to the bit, keeping the copy that ends first would prefer short responses. For the
same reason the batches of a lost replica continue from what it had saved when it last wrote finished ones.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

import msgspec

from rlvr_bench.errors import EngineError
from rlvr_bench.records import Draw, DrawRequest, EngineInfo, Prompt, Rollout, SamplingParameters
from rlvr_bench.scaling.messages import (
    Event,
    Failure,
    Lost,
    Opened,
    Pool,
    Report,
    TakenBack,
    Tally,
    Target,
    batch_name,
)
from rlvr_bench.scaling.slots import Slots
from rlvr_bench.scaling.work import Work, Worker
from rlvr_bench.store import RunWriter
from rlvr_bench.store.paths import absolute

__all__ = ["Dispatcher", "Slots"]

logger = logging.getLogger(__name__)

# A batch that a replica had when it died may be the cause. After two deaths the batch is drawn alone. A third death
# must be due to the batch, which is then given up.
_ALONE_AFTER, _ASIDE_AFTER = 2, 3
_MOST_FRUITLESS = 10  # deaths in a row without a finished batch: the batches are not the cause
_MOST_FAILED_STARTS = 3
_POLL_S = 0.05  # verdicts can make requests ready while no draw is finished
_NOTE_S = 2.0
_SAY_AFTER_S = 120.0


class Dispatcher:
    """Implements ``Sampler`` over a pool of replicas; they stay open from one ``draw`` to the next."""

    def __init__(
        self, pool: Pool, slots: Slots, tally: Tally | None = None, watch: Callable[[str], None] = lambda note: None
    ) -> None:
        """Open engines and wait for the first of them.

        ``tally``: the counts are added to it on ``close``; ``watch`` gets the speed of the replicas, as text, every few
        seconds. Raises the error of opening an engine where the user can fix it, EngineError where no engine starts.
        """
        self.tally = Tally(gpus=pool.gpus)
        self._pool, self._slots, self._watch = pool, slots, watch
        self._job_tally = tally
        self._workers: dict[int, Worker] = {}
        self._opening: set[int] = set()
        self._info: EngineInfo | None = None
        self._session = 0
        self._sampling: SamplingParameters | None = None
        self._writer: RunWriter | None = None
        self._fruitless = 0
        self._noted = time.monotonic()
        slots.first()
        self._held = 1
        try:
            self._start()
            self._await_first()
        except BaseException:
            self.close()
            raise

    @property
    def info(self) -> EngineInfo:
        if self._info is None:
            raise EngineError("no engine is open")
        return self._info

    def prompt_tokens(self, prompt: Prompt) -> int:
        while not self._workers:
            self._handle(self._pool.event(_NOTE_S), None)
        return self._pool.prompt_tokens(next(iter(self._workers)), prompt)

    def write_to(self, writer: RunWriter) -> None:
        """Let the replicas write to this run in the next ``draw``: its texts are not sent to this process."""
        self._writer = writer

    def draw(self, requests: Iterable[DrawRequest | None], sampling: SamplingParameters) -> Iterator[Draw]:
        """Draw the requests; yields draws in order of completion.

        A batch whose replica died three times gives a draw without rollouts. EngineError names these batches after all
        others are drawn. Raises EngineError also where replicas die in a row and nothing is finished.
        """
        self._session += 1
        self._sampling = sampling
        work, aside = Work(requests), []
        for number in self._workers:
            self._begin(number)
        try:
            while True:
                self._slots.check()
                if not work.is_empty:
                    self._grow()
                self._hand_out(work)
                if work.is_empty and not any(worker.out for worker in self._workers.values()):
                    break
                polls = not work.exhausted and any(worker.room > 0 for worker in self._workers.values())
                for draw in self._handle(self._pool.event(_POLL_S if polls else _NOTE_S), work):
                    if not draw.rollouts:
                        aside.append(draw.request)
                    yield draw
                self._note()
        finally:
            self._sampling = self._writer = None
            for number in self._workers:
                self._pool.end(number, self._session)
            self._watch(self._speeds())
        if aside:
            raise EngineError(_set_aside(aside))

    def close(self) -> None:
        """Close every engine and complete the tally."""
        for number in list(self._workers):
            self._drop(number)
        self._opening = set()
        self._pool.close()
        if self._job_tally is not None:
            self._job_tally.add(self.tally)
            self._job_tally = None
        if self._held:
            self._slots.release(self._held)
        self._held = 0

    # ------------------------------------------------------------------------------------------- giving out
    def _hand_out(self, work: Work) -> None:
        """Give requests to the replicas with room, to the one with the fewest batches first."""
        assigned: dict[int, list[DrawRequest]] = {}
        while with_room := [n for n, w in self._workers.items() if w.room > 0 and not w.alone]:
            request = work.next()
            if request is None:
                break
            number = min(with_room, key=lambda n: len(self._workers[n].out))
            self._assign(number, request)
            assigned.setdefault(number, []).append(request)
        for number, requests in assigned.items():
            self._pool.add(number, self._session, requests)
        if with_room:
            self._run_dry(work)

    def _run_dry(self, work: Work) -> None:
        """No request is ready for the replicas with room: notify them, and move waiting requests to them from others.

        Where further requests depend on verified draws, all replicas are notified, so that they report finished draws
        sooner.
        """
        for number, worker in self._workers.items():
            if not worker.dry and (worker.room > 0 or not work.exhausted):
                self._pool.add(number, self._session, ())
                worker.dry = True
        self._hand_out_suspects(work)
        self._balance()

    def _hand_out_suspects(self, work: Work) -> None:
        for number, worker in self._workers.items():
            if work.suspects and not worker.out and worker.room > 0:
                worker.alone = True
                suspect = work.suspects.popleft()
                self._assign(number, suspect)
                self._pool.add(number, self._session, (suspect,))

    def _assign(self, number: int, request: DrawRequest) -> None:
        worker = self._workers[number]
        worker.out[batch_name(request)] = request
        worker.sent += 1
        worker.room -= 1
        worker.queued += 1
        worker.dry = False

    def _balance(self) -> None:
        """Take waiting requests back from the replica with the longest queue, for replicas without work."""
        idle = sum(worker.room > 0 and not worker.queued and not worker.alone for worker in self._workers.values())
        if not idle or any(worker.giving_back for worker in self._workers.values()):
            return
        longest = max(self._workers, key=lambda number: self._workers[number].queued)
        waiting = self._workers[longest].queued
        if waiting:
            self._workers[longest].giving_back = True
            self._pool.take_back(longest, self._session, max(1, waiting * idle // (idle + 1)))

    # ------------------------------------------------------------------------------------------- taking in
    def _handle(self, event: Event | None, work: Work | None) -> Sequence[Draw]:
        """Process an event; returns the draws that are done. A draw that is given up has no rollouts."""
        if event is None:
            return ()
        number, what = event
        worker = self._workers.get(number)
        if isinstance(what, Opened):
            self._opened(number, what)
        elif isinstance(what, Report) and worker is not None:
            return self._reported(number, worker, what, work)
        elif isinstance(what, TakenBack) and worker is not None and work is not None:
            worker.giving_back = False
            back = [worker.out.pop(key) for key in what.keys]
            worker.queued -= len(back)
            work.again.extend(back)
        elif isinstance(what, Failure):
            if what.is_users:
                raise what.error()
            return self._lost(number, Lost(what.message, blameless=False), work)
        elif isinstance(what, Lost):
            return self._lost(number, what, work)
        return ()

    def _opened(self, number: int, opened: Opened) -> None:
        if number not in self._opening:
            return
        self._opening.remove(number)
        if self._info is None:
            self._info = opened.info
        differing = _differing(self._info, opened.info)
        if differing:
            raise EngineError(
                f"the engine on {opened.node} differs from the first one ({differing}): every node needs the same "
                "versions and the same weights"
            )
        self._workers[number] = Worker(held_since=time.monotonic() - opened.seconds)
        if self._sampling is not None:
            self._begin(number)

    def _reported(self, number: int, worker: Worker, report: Report, work: Work | None) -> Sequence[Draw]:
        in_transit = worker.sent - report.received
        worker.room, worker.queued = report.room - in_transit, report.queued + in_transit
        draws = []
        for key, rollouts in report.finished:
            request = worker.out.pop(key, None)
            if request is None:  # it was already reported
                continue
            self._count(worker, rollouts)
            draws.append(Draw(request=request, rollouts=rollouts, shard=report.shard))
        worker.alone = worker.alone and bool(worker.out)
        if report.failure is not None:
            if report.failure.is_users:
                raise report.failure.error()
            draws += self._lost(number, Lost(report.failure.message, blameless=False), work)
        return draws

    def _lost(self, number: int, lost: Lost, work: Work | None) -> list[Draw]:
        """Replace a lost replica, and give its batches to others; returns draws that are done, as ``_handle``."""
        worker = self._workers.get(number)
        if worker is None and number not in self._opening:
            return []
        self._drop(number)
        self._pool.stop(number)
        self.tally.failures += 1
        self._fruitless += not lost.blameless
        most = _MOST_FRUITLESS if self._info else _MOST_FAILED_STARTS
        if self._fruitless >= most:
            raise EngineError(f"{most} engines failed one after the other, the last with: {lost.reason}")
        logger.warning("a replica was lost (%s); another one replaces it", lost.reason)
        self._start()
        if worker is None or work is None:
            return []
        stored = list(self._stored(worker))
        self._take_over(number, worker)
        return [*stored, *(Draw(request=request, rollouts=()) for request in self._draw_again(worker, lost, work))]

    def _stored(self, worker: Worker) -> Iterator[Draw]:
        """The batches that a lost replica wrote and did not report: they are not drawn again."""
        if self._writer is None:
            return
        for shard, batches in self._writer.unreported_shards():
            if not batches.keys() <= worker.out.keys():
                continue  # of another replica, whose report is in transit
            for key, rollouts in batches.items():
                self._count(worker, rollouts)
                yield Draw(request=worker.out.pop(key), rollouts=rollouts, shard=shard)

    def _take_over(self, number: int, worker: Worker) -> None:
        """Add what a lost replica had saved of its batches to their requests."""
        if self._writer is None:
            return
        taken = self._writer.take_over(self._name(number))
        for key, request in worker.out.items():
            indices = range(request.start, request.start + request.n)
            saved = {one.index: one for one in request.saved}
            saved |= {index: taken[key[0], index] for index in indices if (key[0], index) in taken}
            worker.out[key] = msgspec.structs.replace(request, saved=tuple(saved.values()))

    def _draw_again(self, worker: Worker, lost: Lost, work: Work) -> Iterator[DrawRequest]:
        """Queue the batches of a lost replica again; yields those that are given up."""
        for key, request in worker.out.items():
            losses = work.losses[key] = work.losses.get(key, 0) + (not lost.blameless)
            if losses >= _ASIDE_AFTER:
                yield request
                continue
            self.tally.retries += 1
            (work.suspects if losses >= _ALONE_AFTER else work.again).append(request)

    # ------------------------------------------------------------------------------------------- replicas
    def _await_first(self) -> None:
        said = time.monotonic() + _SAY_AFTER_S
        while self._info is None:
            self._slots.check()
            self._grow()
            self._handle(self._pool.event(_NOTE_S), None)
            if time.monotonic() > said:
                logger.info("no engine is ready yet: they load, or the cluster is busy with something else")
                said = math.inf

    def _grow(self) -> None:
        while self._slots.more(self._held):
            self._held += 1
            self._start()

    def _start(self) -> None:
        self._opening.add(self._pool.start())

    def _begin(self, number: int) -> None:
        assert self._sampling is not None
        self._workers[number].rest()
        target = None
        if self._writer is not None:
            target = Target(absolute(self._writer.path), self._writer.lock.token, self._name(number))
        self._pool.begin(number, self._session, self._sampling, target)

    def _name(self, number: int) -> str:
        """The name of a replica in the files that it writes in this session."""
        return f"s{self._session}r{number}"

    # ------------------------------------------------------------------------------------------- counting
    def _count(self, worker: Worker, rollouts: Sequence[Rollout]) -> None:
        tokens = sum(rollout.n_tokens for rollout in rollouts)
        worker.tokens += tokens
        self.tally.tokens += tokens
        self.tally.rollouts += len(rollouts)
        self._fruitless = 0

    def _drop(self, number: int) -> None:
        self._opening.discard(number)
        worker = self._workers.pop(number, None)
        if worker is not None:
            self.tally.engine_s += time.monotonic() - worker.held_since

    def _speeds(self) -> str:
        now = time.monotonic()
        speeds = sorted(worker.tokens / max(1e-9, now - worker.since) for worker in self._workers.values())
        if not speeds:
            return "0 replicas"
        return f"{len(speeds)} replicas, {speeds[0]:,.0f} to {speeds[-1]:,.0f} tok/s each"

    def _note(self) -> None:
        if time.monotonic() - self._noted >= _NOTE_S:
            self._noted = time.monotonic()
            self._watch(self._speeds())


def _differing(first: EngineInfo, other: EngineInfo) -> str:
    """The fields in which two engines differ, as text."""
    mine, theirs = msgspec.structs.asdict(first), msgspec.structs.asdict(other)
    return "; ".join(
        f"{name}: {theirs[name]!r}, the first has {mine[name]!r}" for name in mine if mine[name] != theirs[name]
    )


def _set_aside(requests: Sequence[DrawRequest]) -> str:
    names = ", ".join(f"{request.prompt.problem_id} from rollout {request.start}" for request in requests[:5])
    more = "" if len(requests) <= 5 else f" and {len(requests) - 5} more"
    return (
        f"{len(requests)} draw batches ended their engine three times and are left out: {names}{more}. All others are "
        "drawn; the same command tries these again"
    )
