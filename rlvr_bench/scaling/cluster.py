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
from typing import TYPE_CHECKING, Any, Generic, TypedDict, TypeVar

from rlvr_bench.errors import BadArgument, EngineError
from rlvr_bench.records import DrawRequest, Prompt, SamplingParameters
from rlvr_bench.samplers.protocol import Sampler
from rlvr_bench.scaling.messages import Event, Failure, Lost, Opened, Report, TakenBack, Target
from rlvr_bench.scaling.replica import Replica, probe

# By default Ray reports its use over the network, prints notes on future settings, and waits one second only for the
# reason of an actor's death. Values that the user has set stay.
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

Question = TypeVar("Question")
Answer = TypeVar("Answer")

logger = logging.getLogger(__name__)

_REACH_S = 5.0
_PROBE_S = 120.0
_CLOCK_S = 60.0
_CLOSE_S = 30.0
_MOST_DEATHS = 3
_CALLS = 8  # concurrent calls of an actor: one waits in collect, others add requests


class _Capacity(TypedDict):
    """The resources of a node, by Ray's names: numbers of GPUs and CPUs."""

    Resources: dict[str, float]


class _Node(_Capacity):
    """The fields of Ray's description of a node that are used here."""

    NodeID: str
    NodeManagerHostname: str
    NodeManagerAddress: str
    Alive: bool


class RayCluster:
    """A Ray cluster: one that already runs, or one of only this machine."""

    def __init__(self, address: str | None, replicas: int | None, gpus: int) -> None:
        """Connect, and check that engines of ``gpus`` GPUs can run. Without any GPU, engines run on CPUs.

        ``address``: auto, HOST:PORT, or None for this machine. Raises EngineError where the cluster cannot be reached
        or its nodes differ, BadArgument where it is too small.
        """
        self._owned = not ray.is_initialized()
        if self._owned:
            _connect(address, replicas)
        try:
            nodes: list[_Node] = [node for node in ray.nodes() if node["Alive"]]
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
        """A pool of replicas, which open engines with ``opener``."""
        return RayPool(opener, self.gpus)

    def answerers(self, maker: Callable[[], Callable[[Question], Answer]]) -> RayAnswerers[Question, Answer]:
        """A function on the CPUs of every node that can hold engines. ``maker`` makes it there."""
        return RayAnswerers(maker, self._hosts)

    def close(self) -> None:
        """Disconnect; a cluster that was started here ends."""
        if self._owned:
            ray.shutdown()


class RayPool:
    """Implements ``Pool``: a replica is an actor, and the result of a call is an event."""

    def __init__(self, opener: Callable[[], Sampler], gpus: int) -> None:
        self._opener = opener
        self.gpus = gpus
        self._handles: list[Any] = []
        self._nodes: dict[int, str] = {}
        self._sessions: dict[int, int] = {}
        self._events: queue.SimpleQueue[tuple[int, int, object]] = queue.SimpleQueue()

    def start(self) -> int:
        options = {"num_gpus": self.gpus, "num_cpus": 0 if self.gpus else 1, "max_concurrency": _CALLS}
        handle = ray.remote(Replica).options(**options).remote(self._opener)
        self._handles.append(handle)
        number = len(self._handles) - 1
        self._when_done(number, 0, handle.__ray_call__.remote(_node_id))
        return number

    def begin(self, replica: int, session: int, sampling: SamplingParameters, target: Target | None) -> None:
        self._sessions[replica] = session
        self._handles[replica].begin.remote(session, sampling, target)
        self._collect(replica)

    def add(self, replica: int, session: int, requests: Sequence[DrawRequest]) -> None:
        self._handles[replica].add.remote(session, requests)

    def take_back(self, replica: int, session: int, count: int) -> None:
        self._when_done(replica, session, self._handles[replica].take_back.remote(session, count))

    def end(self, replica: int, session: int) -> None:
        self._sessions[replica] = 0
        self._handles[replica].end.remote(session)

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
            replica, session, what = self._events.get(timeout=timeout_s)
        except queue.Empty:
            return None
        if self._handles[replica] is None:
            return None
        if isinstance(what, Opened | Failure):
            return replica, what
        if isinstance(what, str):  # the id of the node it runs on
            self._nodes[replica] = what
            self._when_done(replica, 0, self._handles[replica].open.remote())
            return None
        if isinstance(what, BaseException):
            return replica, Lost(_reason(what), blameless=self._nodes.get(replica) in _dead_nodes())
        if session != self._sessions.get(replica):
            return None
        if isinstance(what, Report) and what.failure is None:
            self._collect(replica)
        return (replica, what) if isinstance(what, Report | TakenBack) else None

    def close(self) -> None:
        """Let every engine close for ``_CLOSE_S`` seconds, then end its process."""
        live = [number for number, handle in enumerate(self._handles) if handle is not None]
        closing = [self._handles[number].close.remote() for number in live if number in self._nodes]
        if closing:
            ray.wait(closing, num_returns=len(closing), timeout=_CLOSE_S)
        for number in live:
            self.stop(number)

    def _collect(self, replica: int) -> None:
        session = self._sessions[replica]
        self._when_done(replica, session, self._handles[replica].collect.remote(session))

    def _when_done(self, replica: int, session: int, reference: ObjectRef) -> None:
        def done(future: Future[object]) -> None:
            error = future.exception()
            self._events.put((replica, session, future.result() if error is None else error))

        reference.future().add_done_callback(done)


class RayAnswerers(Generic[Question, Answer]):
    """Actors with one function, which answer one question at a time. A dead actor is replaced, and asked again."""

    def __init__(self, maker: Callable[[], Callable[[Question], Answer]], hosts: Sequence[str]) -> None:
        """``hosts``: ids of the nodes they run on, one actor per node."""
        self._maker, self._hosts = maker, hosts
        self._asked: list[dict[int, Question]] = [{} for _ in hosts]  # the open questions of each actor, by number
        self._handles: list[Any] = [None for _ in hosts]
        self._numbers = itertools.count()
        self._deaths: collections.Counter[Question] = collections.Counter()
        self._answers: queue.SimpleQueue[tuple[int, int, Answer | Failure | BaseException]] = queue.SimpleQueue()

    def ask(self, question: Question) -> None:
        """Ask the actor with the fewest open questions."""
        self._ask(min(range(len(self._asked)), key=lambda actor: len(self._asked[actor])), question)

    def _ask(self, actor: int, question: Question) -> None:
        number = next(self._numbers)
        self._asked[actor][number] = question
        if self._handles[actor] is None:
            self._handles[actor] = self._start(actor)
        handle = self._handles[actor]

        def done(future: Future[Answer | Failure]) -> None:
            error = future.exception()
            if error is not None and self._handles[actor] is handle:
                self._handles[actor] = None
            self._answers.put((actor, number, future.result() if error is None else error))

        handle.answer.remote(question).future().add_done_callback(done)

    def answers(self, *, wait: bool) -> Iterator[Answer]:
        """The answers since the last call, in any order; with ``wait``, at least one.

        Raises the function's error, and EngineError where a question ends its actor three times.
        """
        while wait or not self._answers.empty():
            actor, number, answer = self._answers.get()
            question = self._asked[actor].pop(number)
            if isinstance(answer, Failure):
                raise answer.error()
            if isinstance(answer, BaseException):
                self._died(actor, question, answer)
                continue
            yield answer
            wait = False

    def close(self) -> None:
        """End their processes."""
        for handle in self._handles:
            if handle is not None:
                ray.kill(handle)

    def _start(self, actor: int) -> ActorHandle:
        """Start an actor on its node, or on another node where that one is gone."""
        alive = [node["NodeID"] for node in ray.nodes() if node["Alive"]]
        hosts = [host for host in self._hosts if host in alive] or alive
        host = self._hosts[actor] if self._hosts[actor] in alive else hosts[actor % len(hosts)]
        # It reserves no CPU: engines may take all CPUs of the cluster, and it works in bursts.
        node = NodeAffinitySchedulingStrategy(host, soft=False)
        return ray.remote(_Answerer).options(num_cpus=0, scheduling_strategy=node).remote(self._maker)

    def _died(self, actor: int, question: Question, error: BaseException) -> None:
        """Ask a new actor on the same node. It reads what the dead one has stored, and does not redo it."""
        self._deaths[question] += 1
        if self._deaths[question] >= _MOST_DEATHS:
            raise EngineError(f"verification died {_MOST_DEATHS} times on {question}: {_reason(error)}") from error
        logger.warning("a verifying process was lost (%s); another one replaces it", _reason(error))
        self._ask(actor, question)


class _Answerer:
    """The actor of ``RayAnswerers``."""

    def __init__(self, maker: Callable[[], Callable[[object], object]]) -> None:
        self._maker = maker
        self._function: Callable[[object], object] | None = None

    def answer(self, question: object) -> object:
        try:
            if self._function is None:
                self._function = self._maker()
            return self._function(question)
        except Exception as error:  # noqa: BLE001  it is sent to the driver, which raises it
            return Failure.of(error)


def _connect(address: str | None, replicas: int | None) -> None:
    options: dict[str, object] = {"log_to_driver": False, "logging_level": logging.ERROR}
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
    """Raise EngineError at once where no server listens at the address: Ray would try for a minute.

    Raises BadArgument for a malformed address.
    """
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit() or "/" in host:
        raise BadArgument("--ray", address, "must be auto or HOST:PORT of a cluster this machine belongs to")
    try:
        socket.create_connection((host, int(port)), timeout=_REACH_S).close()
    except OSError as error:
        raise EngineError(f"no Ray cluster at {address}: {error.strerror or error}") from error


def _has(node: _Capacity, resource: str) -> int:
    return int(node["Resources"].get(resource, 0))


def _fits(node: _Capacity, gpus: int) -> int:
    """Number of engines that a node can hold."""
    return _has(node, "GPU") // gpus if gpus else _has(node, "CPU")


def _room(nodes: Sequence[_Capacity], gpus: int, asked: int) -> int:
    room = sum(_fits(node, gpus) for node in nodes)
    largest = max((_has(node, "GPU") for node in nodes), default=0)
    if asked > max(1, largest) or room == 0:
        raise BadArgument(
            "GPUs of one engine",
            asked,
            f"the largest node has {largest}; an engine (tensor x pipeline parallel size) must fit on one node",
        )
    return room


def _check_alike(hosts: Sequence[_Node]) -> None:
    """Check that all nodes for engines have the same packages, and this process's rlvr-bench, Python and clock.

    Raises EngineError.
    """
    task = ray.remote(probe)
    asked = time.time()
    answers = {}
    for node in hosts:
        on_node = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        answers[node["NodeID"]] = task.options(num_cpus=0, max_retries=0, scheduling_strategy=on_node).remote()
    name = {node["NodeID"]: f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})" for node in hosts}
    packages: dict[str, dict[str, str]] = {}
    for node_id, answer in answers.items():
        try:
            probed = ray.get(answer, timeout=_PROBE_S)
        except TaskUnschedulableError:  # it has just left
            continue
        except RayError as error:
            raise EngineError(f"node {name[node_id]} cannot run rlvr-bench: {_reason(error)}") from error
        packages[node_id] = probed.packages
        off = max(asked - probed.clock, probed.clock - time.time())
        if off > _CLOCK_S:
            raise EngineError(
                f"the clock of node {name[node_id]} is {off:,.0f} s off this machine's: set it (NTP); storages refuse "
                "requests that are minutes off"
            )
    if not packages:
        raise EngineError("no node of the cluster answers")
    first, *others = packages
    here = probe().packages
    for package in ("python", "rlvr-bench"):
        if packages[first].get(package) != here.get(package):
            raise EngineError(
                f"node {name[first]} has {package} {packages[first].get(package)}, this process {here.get(package)}: "
                "install the same everywhere"
            )
    for other in others:
        if differing := _differing(packages[first], packages[other]):
            raise EngineError(f"node {name[other]} has {differing} as on {name[first]}: install the same everywhere")


def _differing(first: Mapping[str, str], other: Mapping[str, str]) -> str:
    """The packages in which two nodes differ, as text."""
    packages = sorted({*first, *other})
    return ", ".join(f"{p} {other.get(p)} instead of {first.get(p)}" for p in packages if other.get(p) != first.get(p))


def _node_id(_: object) -> str:
    """Id of the node of the process that calls it."""
    return str(ray.get_runtime_context().get_node_id())


def _dead_nodes() -> set[str]:
    return {node["NodeID"] for node in ray.nodes() if not node["Alive"]}


def _reason(error: BaseException) -> str:
    """An exception of Ray as one line: the first non-empty line of its cause, else of itself."""
    cause = getattr(error, "cause", None)
    lines = [line.strip() for line in str(cause or error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:300]
