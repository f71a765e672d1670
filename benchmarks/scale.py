"""Where does the driver of a scaled run saturate?

    python benchmarks/scale.py                              # 1 to 256 simulated replicas of 10,000 tok/s
    python benchmarks/scale.py --wire 1 8 32                # what Ray itself costs the driver: real actors, no engine
    python benchmarks/scale.py --real 1 2                   # real replicas of zoo:base on this machine's cores

Simulated: the replicas, their clock and the way to them. Real: the driver, that is dispatcher, plan, unpickling of what
comes back, and the run on disk. Whatever CPU time the driver takes moves the simulated clock, so that the figures do not
depend on what else the machine is doing. The wire is not in it: measure it with --wire and add. Verification is not in it
either: it runs in processes of its own.

A replica draws up to ``--concurrency`` batches at once, each at its share of the speed, with lengths that vary by 30 %.
Efficiency is the share of places for a batch that are taken, over time: ``steady`` until no more requests are left,
``whole`` to the last batch.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import pickle
import random
import resource
import tempfile
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from rlvr_bench.pipeline.drawing import Drawing, Plan
from rlvr_bench.pipeline.options import SampleOptions, Silent
from rlvr_bench.records import Draw, DrawRequest, Problem, Prompt, Rollout, SamplingParameters
from rlvr_bench.scaling import Dispatcher, Slots
from rlvr_bench.scaling.messages import Event, Key, Opened, Report, TakenBack, Target, key_of
from rlvr_bench.scaling.replica import _SOON_S
from rlvr_bench.store import RunWriter
from rlvr_bench.store.shards import sparing_patience
from tests.conftest import info_of, manifest_with

INFO = info_of()
N = 16
WRITE = "write"


@dataclass
class Setting:
    speed: float  # tokens a second of one replica
    tokens: int  # of a rollout, on average
    concurrency: int  # batches a replica draws at once
    latency_s: float  # one way between driver and replica


def packed_bare(tokens: int) -> bytes:
    """What comes over the wire for a batch that its replica has written."""
    bare = [Rollout(problem_id="", index=i, text="", n_tokens=tokens, finish_reason="stop") for i in range(N)]
    return pickle.dumps(bare, protocol=5)


def packed_rollouts(tokens: int) -> list[bytes]:
    """A drawn batch, in a few variants: texts of about four characters a token."""
    rng = random.Random(0)
    words = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(1, 7))) for _ in range(20_000)]
    texts = [" ".join(rng.choices(words, k=int(tokens * 0.8))) for _ in range(64)]
    profile = tuple(rng.random() for _ in range(20))
    return [
        pickle.dumps(
            [
                Rollout(
                    problem_id="",
                    index=i,
                    text=rng.choice(texts),
                    n_tokens=tokens,
                    finish_reason="stop",
                    logprob_sum=-100.0,
                    entropy_mean=0.4,
                    branching_mean=1.7,
                    entropy_profile=profile,
                    high_entropy_share=0.2,
                )
                for i in range(N)
            ],
            protocol=5,
        )
        for _ in range(16)
    ]


def named(rollouts: Sequence[Rollout], key: Key) -> tuple[Rollout, ...]:
    """As if they had been drawn with these names."""
    for i, rollout in enumerate(rollouts):
        msgspec.structs.force_setattr(rollout, "problem_id", key[0])
        msgspec.structs.force_setattr(rollout, "index", key[1] + i)
    return tuple(rollouts)


@dataclass
class Replica:
    """A simulated one: a queue, the batches being drawn, and what is finished and not reported."""

    queue: deque[DrawRequest] = field(default_factory=deque)
    running: int = 0
    finished: list[Key] = field(default_factory=list)
    due: bool = False  # it has set itself a time to write
    received: int = 0
    received_then: int = 0
    ahead: int = 2
    dry: bool = False
    reporting: bool = False
    busy: float = 0.0  # batch-seconds, up to ``since``
    since: float = 0.0

    def pass_time(self, now: float) -> None:
        self.busy += self.running * (now - self.since)
        self.since = now


class SimulatedPool:
    """Implements ``Pool`` on a clock of its own, which the driver's CPU time moves on."""

    gpus = 1

    def __init__(self, setting: Setting, seed: int = 0) -> None:
        self.setting, self.now = setting, 0.0
        self._rng = random.Random(seed)
        self._packed = packed_bare(setting.tokens)
        self._shards = itertools.count()
        self._replicas: list[Replica] = []
        self._agenda: list[tuple[float, int, int, object]] = []
        self._order = itertools.count()
        self._cpu = time.process_time()

    def start(self) -> int:
        self._replicas.append(Replica())
        number = len(self._replicas) - 1
        self._at(self.now, number, Opened(info=INFO, node="n", pid=number, seconds=0.0))
        return number

    def begin(self, replica: int, session: int, sampling: SamplingParameters, target: Target | None) -> None:
        self._send_report(replica)

    def add(self, replica: int, session: int, requests: Sequence[DrawRequest]) -> None:
        self._at(self._time() + self.setting.latency_s, replica, list(requests))

    def take_back(self, replica: int, session: int, count: int) -> None:
        queue = self._replicas[replica].queue
        back = TakenBack([key_of(queue.pop()) for _ in range(min(count, len(queue)))])
        self._at(self._time() + 2 * self.setting.latency_s, replica, back)

    def end(self, replica: int, session: int) -> None: ...

    def prompt_tokens(self, replica: int, prompt: Prompt) -> int:
        return 1

    def stop(self, replica: int) -> None: ...

    def close(self) -> None: ...

    def event(self, timeout_s: float) -> Event | None:
        deadline = self._time() + timeout_s
        while self._agenda and self._agenda[0][0] <= deadline:
            at, _, number, what = heapq.heappop(self._agenda)
            self.now = max(self.now, at)
            if isinstance(what, list):
                self._deliver(number, at, what)
            elif isinstance(what, tuple):
                self._finish(number, at, what)
            elif isinstance(what, Opened | TakenBack):
                return number, what
            else:
                return number, self._report(number, write=what == WRITE)
        self.now = max(self.now, deadline)
        return None

    def efficiency(self) -> float:
        """Share of all places for a batch that have been taken so far."""
        for replica in self._replicas:
            replica.pass_time(max(self.now, replica.since))
        return sum(replica.busy for replica in self._replicas) / (
            len(self._replicas) * self.setting.concurrency * self.now
        )

    def _time(self) -> float:
        """The clock, with the driver's CPU time since it was last asked."""
        cpu = time.process_time()
        self.now += cpu - self._cpu
        self._cpu = cpu
        return self.now

    def _at(self, when: float, number: int, what: object) -> None:
        heapq.heappush(self._agenda, (when, next(self._order), number, what))

    def _send_report(self, number: int) -> None:
        replica = self._replicas[number]
        if not replica.reporting:
            replica.reporting = True
            self._at(self.now + self.setting.latency_s, number, None)

    def _deliver(self, number: int, at: float, requests: list[DrawRequest]) -> None:
        replica = self._replicas[number]
        replica.dry = not requests
        replica.received += len(requests)
        replica.queue.extend(requests)
        self._fill(number, at)

    def _fill(self, number: int, at: float) -> None:
        replica = self._replicas[number]
        while replica.running < self.setting.concurrency:
            if not replica.queue:
                if not replica.dry:
                    if replica.received - replica.received_then >= replica.ahead:
                        replica.ahead, replica.received_then = min(2 * replica.ahead, 512), replica.received
                    self._send_report(number)
                return
            request = replica.queue.popleft()
            replica.pass_time(at)
            replica.running += 1
            mean = request.n * self.setting.tokens * self.setting.concurrency / self.setting.speed
            self._at(at + mean * self._rng.uniform(0.7, 1.3), number, key_of(request))

    def _finish(self, number: int, at: float, done: Key) -> None:
        replica = self._replicas[number]
        replica.pass_time(at)
        replica.running -= 1
        replica.finished.append(done)
        self._fill(number, at)
        starved = replica.dry and not replica.queue
        if starved or not replica.due:
            replica.due = True
            self._at(at + (_SOON_S if starved else sparing_patience(at)) + self.setting.latency_s, number, WRITE)

    def _report(self, number: int, *, write: bool) -> Report:
        replica = self._replicas[number]
        finished: list[Key] = []
        if write:
            replica.due = False
            finished, replica.finished = replica.finished, finished
        else:
            replica.reporting = False
        queued = len(replica.queue)
        return Report(
            finished=[(key, self._unpacked(key)) for key in finished],
            received=replica.received,
            queued=queued,
            room=max(0, replica.ahead - queued),
            shard=f"{next(self._shards)}" if finished else None,
        )

    def _unpacked(self, key: Key) -> tuple[Rollout, ...]:
        return named(pickle.loads(self._packed), key)


class Watch(Silent):
    """Notes the efficiency when the last request is handed out."""

    def __init__(self, pool: SimulatedPool) -> None:
        self._pool, self.steady = pool, 0.0

    def handed(self, requests: Iterable[DrawRequest | None]) -> Iterator[DrawRequest | None]:
        yield from requests
        self.steady = self._pool.efficiency()


class Watched:
    """The dispatcher, with an eye on when it runs out of requests."""

    def __init__(self, inner: Dispatcher, watch: Watch) -> None:
        self._inner, self._watch = inner, watch

    def draw(self, requests: Iterable[DrawRequest | None], sampling: SamplingParameters) -> Iterator[Draw]:
        return self._inner.draw(self._watch.handed(requests), sampling)


def simulate(replicas: int, setting: Setting, per_replica: int) -> None:
    problems = [Problem(id=f"p{i}", question="?", answer="1") for i in range(100)]
    prompts = {problem.id: Prompt(problem_id=problem.id, text="What is it? " * 40) for problem in problems}
    batches = replicas * per_replica
    n = -(-batches // len(problems)) * N
    with tempfile.TemporaryDirectory() as folder, RunWriter(Path(folder), manifest_with(n=n), problems) as writer:
        spans = list(writer.missing(prompts, n, N))[:batches]
        pool = SimulatedPool(setting)
        sampler = Dispatcher(pool, Slots(replicas))
        watch = Watch(pool)
        sampler.write_to(writer)
        cpu = time.process_time()
        Drawing(writer, prompts, Plan(spans), None, watch).run(Watched(sampler, watch))  # type: ignore[arg-type]
        writer.flush()
        cpu = time.process_time() - cpu
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{replicas:4d} replicas  {len(spans):6d} batches in {pool.now:7.1f} s  driver "
        f"{1000 * cpu / len(spans):6.2f} ms CPU a batch, busy {cpu / pool.now:6.1%}  "
        f"efficiency {watch.steady:6.1%} steady, {pool.efficiency():6.1%} whole  peak {memory:5.0f} MB"
    )


class Idle:
    """A sampler whose rollouts cost nothing, to see what the wire costs."""

    def __init__(self, tokens: int) -> None:
        self._packed = packed_rollouts(tokens)[0]
        self.info = INFO

    def prompt_tokens(self, prompt: Prompt) -> int:
        return 1

    def draw(self, requests: Iterable[DrawRequest | None], sampling: SamplingParameters) -> Iterator[Draw]:
        for request in requests:
            if request is not None:
                time.sleep(0.05)
                yield Draw(request=request, rollouts=named(pickle.loads(self._packed), key_of(request)))

    def close(self) -> None: ...


def wire(replicas: int, tokens: int, batches: int) -> None:
    """Driver CPU for a batch that comes from a real Ray actor; no run on disk."""
    from functools import partial

    from rlvr_bench.scaling.cluster import RayCluster

    cluster = RayCluster(None, replicas, 0)
    sampler = Dispatcher(cluster.pool(partial(Idle, tokens)), Slots(replicas))
    prompt = Prompt(problem_id="p", text="What is it? " * 40)
    requests = [DrawRequest(prompt=prompt, start=i * N, n=N, seed=i) for i in range(batches)]
    list(sampler.draw(requests[: 4 * replicas], SamplingParameters()))
    problems = [Problem(id="p", question="?", answer="1")]
    with tempfile.TemporaryDirectory() as folder, RunWriter(Path(folder), manifest_with(), problems) as writer:
        sampler.write_to(writer)
        cpu, began = time.process_time(), time.monotonic()
        drawn = 0
        for draw in sampler.draw(requests, SamplingParameters()):
            writer.add(draw)
            drawn += 1
        cpu, wall = time.process_time() - cpu, time.monotonic() - began
    print(f"{replicas:4d} actors  {drawn} batches in {wall:.1f} s  driver {1000 * cpu / drawn:.2f} ms CPU a batch")
    sampler.close()
    cluster.close()


def real(replicas: int, n: int) -> None:
    from rlvr_bench import pipeline

    with tempfile.TemporaryDirectory() as folder:
        scaled = {} if replicas == 1 else {"replicas": replicas}
        asked = SampleOptions(n=n, limit=100, engine="transformers", out=Path(folder), **scaled)  # type: ignore[arg-type]
        began = time.monotonic()
        pipeline.sample("zoo:base", "double_countdown", asked)
        wall = time.monotonic() - began
    print(f"{replicas:4d} replicas of zoo:base: {100 * n / wall:,.0f} rollouts/s, starting included ({wall:.1f} s)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replicas", type=int, nargs="+", default=[1, 8, 64, 128, 256])
    parser.add_argument("--speed", type=float, default=10_000)
    parser.add_argument("--tokens", type=int, default=2_000)
    parser.add_argument("--concurrency", type=int, default=8)
    parser.add_argument("--latency-ms", type=float, default=5.0)
    parser.add_argument(
        "--per-replica", type=int, default=480, help="batches; 480 on 64 replicas are AIME at n = 16,384"
    )
    parser.add_argument("--wire", type=int, nargs="+")
    parser.add_argument("--real", type=int, nargs="+")
    parser.add_argument("-n", type=int, default=256)
    args = parser.parse_args()
    for replicas in args.wire or ():
        wire(replicas, args.tokens, 50 * replicas)
    for replicas in args.real or ():
        real(replicas, args.n)
    if args.wire or args.real:
        return
    setting = Setting(args.speed, args.tokens, args.concurrency, args.latency_ms / 1000)
    for replicas in args.replicas:
        simulate(replicas, setting, args.per_replica)


if __name__ == "__main__":
    main()
