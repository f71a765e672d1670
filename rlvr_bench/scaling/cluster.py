"""Replicas as Ray actors: the only file that imports Ray."""

from __future__ import annotations

import collections
import itertools
import logging
import os
import queue
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rlvr_bench.errors import BadArgument, EngineError
from rlvr_bench.records import DrawRequest, Prompt, SamplingParameters
from rlvr_bench.samplers.protocol import Sampler
from rlvr_bench.scaling.messages import Event, Failure, Lost, Opened, Report, TakenBack, Target
from rlvr_bench.scaling.replica import Replica, probe

# Ray reports its use over the network and speaks of its future settings unless it is told not to, and waits one second
# only to hear what an actor died of. Whoever sets these variables keeps them.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ.setdefault("RAY_timeout_ms_task_wait_for_death_info", "60000")

import ray
from ray.exceptions import RayError, TaskUnschedulableError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

if TYPE_CHECKING:
    from concurrent.futures import Future

    from ray import ObjectRef
    from ray.actor import ActorHandle

__all__ = ["RayCluster"]

logger = logging.getLogger(__name__)

_REACH_S = 5.0
_PROBE_S = 120.0
_CLOCK_S = 60.0
_CLOSE_S = 30.0
_MOST_DEATHS = 3
_CALLS = 8  # one waits in collect, others bring requests


class RayCluster:
    """A cluster to draw on: one that runs already, or this machine alone."""

    def __init__(self, address: str | None, replicas: int | None, gpus: int) -> None:
        """Connect and check that engines of ``gpus`` GPUs each can run; where there is none at all, on CPUs.

        ``address``: auto, HOST:PORT, or None for this machine. Raises EngineError where the cluster cannot be reached or
        its nodes differ, BadArgument where it is too small.
        """
        self._owned = not ray.is_initialized()
        if self._owned:
            _connect(address, replicas)
        try:
            nodes = [node for node in ray.nodes() if node["Alive"]]
            self.gpus = gpus if any(_has(node, "GPU") for node in nodes) else 0
            room = _room(nodes, self.gpus, gpus)
            hosts = [node for node in nodes if _fits(node, self.gpus)]
            self._hosts = [node["NodeID"] for node in hosts]
            self.replicas = replicas or room
            if self.replicas > room:
                what = f"{self.gpus} GPU each" if self.gpus else "1 CPU each"
                raise BadArgument("--replicas", self.replicas, f"there is room for {room} engines of {what}")
            if address is not None:
                _check_alike(hosts)
        except BaseException:
            self.close()
            raise

    def pool(self, opener: Callable[[], Sampler]) -> RayPool:
        """Replicas that each open this engine."""
        return RayPool(opener, self.gpus)

    def answerers(self, maker: Callable[[], Callable[[Any], Any]]) -> RayAnswerers:
        """A function on the CPUs of every node that can hold engines, made there."""
        return RayAnswerers(maker, self._hosts)

    def close(self) -> None:
        """Leave the cluster; one that was started here ends."""
        if self._owned:
            ray.shutdown()


class RayPool:
    """Implements ``Pool``: a replica is an actor, an answer that comes back is an event."""

    def __init__(self, opener: Callable[[], Sampler], gpus: int) -> None:
        self._opener = opener
        self.gpus = gpus
        self._handles: list[Any] = []
        self._nodes: dict[int, str] = {}
        self._sittings: dict[int, int] = {}
        self._events: queue.SimpleQueue[tuple[int, int, Any]] = queue.SimpleQueue()

    def start(self) -> int:
        options = {"num_gpus": self.gpus, "num_cpus": 0 if self.gpus else 1, "max_concurrency": _CALLS}
        handle = ray.remote(Replica).options(**options).remote(self._opener)
        self._handles.append(handle)
        number = len(self._handles) - 1
        self._when_done(number, 0, handle.__ray_call__.remote(_node_id))
        return number

    def begin(self, replica: int, sitting: int, sampling: SamplingParameters, target: Target | None) -> None:
        self._sittings[replica] = sitting
        self._handles[replica].begin.remote(sitting, sampling, target)
        self._collect(replica)

    def add(self, replica: int, sitting: int, requests: Sequence[DrawRequest]) -> None:
        self._handles[replica].add.remote(sitting, requests)

    def take_back(self, replica: int, sitting: int, count: int) -> None:
        self._when_done(replica, sitting, self._handles[replica].take_back.remote(sitting, count))

    def end(self, replica: int, sitting: int) -> None:
        self._sittings[replica] = 0
        self._handles[replica].end.remote(sitting)

    def prompt_tokens(self, replica: int, prompt: Prompt) -> int:
        try:
            return int(ray.get(self._handles[replica].prompt_tokens.remote(prompt)))
        except RayError as error:
            raise EngineError(f"an engine was lost before anything was drawn: {_reason(error)}") from error

    def stop(self, replica: int) -> None:
        handle, self._handles[replica] = self._handles[replica], None
        if handle is not None:
            ray.kill(handle)

    def event(self, timeout_s: float) -> Event | None:
        try:
            replica, sitting, what = self._events.get(timeout=timeout_s)
        except queue.Empty:
            return None
        if self._handles[replica] is None:
            return None
        if isinstance(what, Opened | Failure):
            return replica, what
        if isinstance(what, str):  # it runs, and says on which node
            self._nodes[replica] = what
            self._when_done(replica, 0, self._handles[replica].open.remote())
            return None
        if isinstance(what, BaseException):
            return replica, Lost(_reason(what), blameless=self._nodes.get(replica) in _dead_nodes())
        if sitting != self._sittings.get(replica):
            return None
        if isinstance(what, Report) and what.failure is None:
            self._collect(replica)
        return (replica, what) if isinstance(what, Report | TakenBack) else None

    def close(self) -> None:
        """Let every engine end by itself, for a while; then end its process."""
        live = [number for number, handle in enumerate(self._handles) if handle is not None]
        closing = [self._handles[number].close.remote() for number in live if number in self._nodes]
        if closing:
            ray.wait(closing, num_returns=len(closing), timeout=_CLOSE_S)
        for number in live:
            self.stop(number)

    def _collect(self, replica: int) -> None:
        sitting = self._sittings[replica]
        self._when_done(replica, sitting, self._handles[replica].collect.remote(sitting))

    def _when_done(self, replica: int, sitting: int, reference: ObjectRef) -> None:
        def done(future: Future[object]) -> None:
            error = future.exception()
            self._events.put((replica, sitting, future.result() if error is None else error))

        reference.future().add_done_callback(done)


class RayAnswerers:
    """Actors that each hold one function and answer one question at a time; an actor that dies is replaced and asked again."""

    def __init__(self, maker: Callable[[], Callable[[Any], Any]], hosts: Sequence[str]) -> None:
        """``hosts``: ids of the nodes they run on, one on each."""
        self._maker, self._hosts = maker, hosts
        self._asked: list[dict[int, Any]] = [{} for _ in hosts]  # the questions that each has, by number
        self._handles: list[Any] = [None for _ in hosts]
        self._numbers = itertools.count()
        self._deaths: collections.Counter[Any] = collections.Counter()
        self._answers: queue.SimpleQueue[tuple[int, int, Any]] = queue.SimpleQueue()

    def ask(self, question: object) -> None:
        """Ask the one that has least to do."""
        self._ask(min(range(len(self._asked)), key=lambda each: len(self._asked[each])), question)

    def _ask(self, place: int, question: Any) -> None:
        number = next(self._numbers)
        self._asked[place][number] = question
        if self._handles[place] is None:
            self._handles[place] = self._start(place)
        handle = self._handles[place]

        def done(future: Future[object]) -> None:
            error = future.exception()
            if error is not None and self._handles[place] is handle:
                self._handles[place] = None
            self._answers.put((place, number, future.result() if error is None else error))

        handle.answer.remote(question).future().add_done_callback(done)

    def answers(self, *, wait: bool) -> Iterator[Any]:
        """What has been answered since the last call, in any order; with ``wait``, at least one.

        Raises what answering raised, EngineError where a question ends its actor three times.
        """
        while wait or not self._answers.empty():
            place, number, answer = self._answers.get()
            question = self._asked[place].pop(number)
            if isinstance(answer, Failure):
                raise answer.error()
            if isinstance(answer, BaseException):
                self._died(place, question, answer)
                continue
            yield answer
            wait = False

    def close(self) -> None:
        """End their processes."""
        for handle in self._handles:
            if handle is not None:
                ray.kill(handle)

    def _start(self, place: int) -> ActorHandle:
        """An actor on this host, or on another where it is gone."""
        alive = [node["NodeID"] for node in ray.nodes() if node["Alive"]]
        hosts = [host for host in self._hosts if host in alive] or alive
        host = self._hosts[place] if self._hosts[place] in alive else hosts[place % len(hosts)]
        # No CPU is set aside for it: engines may take all that the cluster counts, and it works in bursts.
        where = NodeAffinitySchedulingStrategy(host, soft=False)
        return ray.remote(_Answerer).options(num_cpus=0, scheduling_strategy=where).remote(self._maker)

    def _died(self, place: int, question: Any, error: BaseException) -> None:
        """Ask again in the same place: whoever is new there sees what was done before, and does not do it twice."""
        self._deaths[question] += 1
        if self._deaths[question] >= _MOST_DEATHS:
            raise EngineError(f"verification died {_MOST_DEATHS} times on {question}: {_reason(error)}") from error
        logger.warning("a verifying process was lost (%s); another takes its place", _reason(error))
        self._ask(place, question)


class _Answerer:
    """What an actor of ``RayAnswerers`` is."""

    def __init__(self, maker: Callable[[], Callable[[object], object]]) -> None:
        self._maker = maker
        self._function: Callable[[Any], Any] | None = None

    def answer(self, question: object) -> Any:
        try:
            if self._function is None:
                self._function = self._maker()
            return self._function(question)
        except Exception as error:  # noqa: BLE001  it travels to the driver, which raises it
            return Failure.of(error)


def _connect(address: str | None, replicas: int | None) -> None:
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        cpus = max(os.cpu_count() or 1, replicas or 1)
        ray.init("local", num_cpus=cpus, include_dashboard=False, **options)
        return
    if address != "auto":
        _check_reachable(address)
    try:
        ray.init(address, **options)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise EngineError(
            f"no Ray cluster at {address!r}: {_reason(error)}. Start one with `ray start --head`, or name its HOST:PORT; "
            "where it asks for a token, set RAY_AUTH_MODE=token"
        ) from error


def _check_reachable(address: str) -> None:
    """A cluster that is not there is found out at once; Ray itself would try for a minute."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit() or "/" in host:
        raise BadArgument("--ray", address, "must be auto or HOST:PORT of a cluster this machine belongs to")
    try:
        socket.create_connection((host, int(port)), timeout=_REACH_S).close()
    except OSError as error:
        raise EngineError(f"no Ray cluster at {address}: {error.strerror or error}") from error


def _has(node: Mapping[str, Any], resource: str) -> int:
    return int(node["Resources"].get(resource, 0))


def _fits(node: Mapping[str, Any], gpus: int) -> int:
    """How many engines a node can hold."""
    return _has(node, "GPU") // gpus if gpus else _has(node, "CPU")


def _room(nodes: Sequence[Mapping[str, Any]], gpus: int, asked: int) -> int:
    room = sum(_fits(node, gpus) for node in nodes)
    largest = max((_has(node, "GPU") for node in nodes), default=0)
    if asked > max(1, largest) or room == 0:
        raise BadArgument(
            "GPUs of one engine",
            asked,
            f"the largest node has {largest}; an engine (tensor x pipeline parallel size) must fit on one node",
        )
    return room


def _check_alike(hosts: Sequence[Mapping[str, Any]]) -> None:
    """Every node that will hold engines has the same packages, and this process's rlvr-bench and clock."""
    task = ray.remote(probe)
    asked = time.time()
    answers = {}
    for node in hosts:
        place = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        answers[node["NodeID"]] = task.options(num_cpus=0, max_retries=0, scheduling_strategy=place).remote()
    name = {node["NodeID"]: f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})" for node in hosts}
    found: dict[str, dict[str, str]] = {}
    for node_id, answer in answers.items():
        try:
            probed = ray.get(answer, timeout=_PROBE_S)
        except TaskUnschedulableError:  # it has just left
            continue
        except RayError as error:
            raise EngineError(f"node {name[node_id]} cannot run rlvr-bench: {_reason(error)}") from error
        found[node_id] = probed.packages
        off = max(asked - probed.clock, probed.clock - time.time())
        if off > _CLOCK_S:
            raise EngineError(
                f"the clock of node {name[node_id]} is {off:,.0f} s off this machine's: set it (NTP); storages refuse "
                "requests that are minutes off"
            )
    if not found:
        raise EngineError("no node of the cluster answers")
    first, *others = found
    here = probe().packages
    for package in ("python", "rlvr-bench"):
        if found[first].get(package) != here.get(package):
            raise EngineError(
                f"node {name[first]} has {package} {found[first].get(package)}, this process {here.get(package)}: "
                "install the same everywhere"
            )
    for other in others:
        if differing := _differing(found[first], found[other]):
            raise EngineError(f"node {name[other]} has {differing} as on {name[first]}: install the same everywhere")


def _differing(first: Mapping[str, str], other: Mapping[str, str]) -> str:
    """The packages in which two nodes differ, in words."""
    packages = sorted({*first, *other})
    return ", ".join(f"{p} {other.get(p)} instead of {first.get(p)}" for p in packages if other.get(p) != first.get(p))


def _node_id(_: object) -> str:
    """The node a replica runs on; called in its process."""
    return str(ray.get_runtime_context().get_node_id())


def _dead_nodes() -> set[str]:
    return {node["NodeID"] for node in ray.nodes() if not node["Alive"]}


def _reason(error: BaseException) -> str:
    """An exception of Ray's as one line: the last of a traceback that travelled, else the first that says something."""
    cause = getattr(error, "cause", None)
    lines = [line.strip() for line in str(cause or error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:300]
