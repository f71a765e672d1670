"""Where engines run: in this process, or as replicas on Ray; opened once and kept while the checkpoint stays."""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self, runtime_checkable

from rlvr_bench.errors import BadArgument
from rlvr_bench.pipeline import models
from rlvr_bench.pipeline.options import Progress, SampleOptions, check
from rlvr_bench.pipeline.tool_runs import with_tools
from rlvr_bench.samplers.lent import LentSampler
from rlvr_bench.samplers.protocol import Sampler
from rlvr_bench.scaling import Dispatcher, Slots, Tally, open_cluster
from rlvr_bench.store import RunWriter
from rlvr_bench.task import LoadedTask

if TYPE_CHECKING:
    from rlvr_bench.scaling import Slots, Tally
    from rlvr_bench.scaling.cluster import RayCluster

__all__ = ["Engines", "Job", "model_name", "open_engines"]

logger = logging.getLogger(__name__)


@runtime_checkable
class WritingSampler(Sampler, Protocol):
    """A sampler that can have what it draws written where it is drawn."""

    def write_to(self, writer: RunWriter) -> None:
        """What is drawn next belongs to this run."""
        ...


class Job:
    """What the checkpoints of one call share: nothing in this process, a cluster's engines where one is asked for."""

    def __init__(self, options: SampleOptions, checkpoints: int = 1) -> None:
        """Connect to the cluster. Raises what ``RayCluster`` raises, EngineError where Ray is not installed."""
        self.at_once = 1
        self._options = options
        self._cluster: RayCluster | None = None
        self._slots: Slots
        self._tally = Tally()
        if not options.is_scaled:
            return
        self._cluster = open_cluster(options.ray, options.replicas, _gpus(options))
        self.at_once = min(checkpoints, self._cluster.replicas)
        self._slots = Slots(self._cluster.replicas, checkpoints)

    @contextlib.contextmanager
    def checkpoint(self, progress: Progress) -> Iterator[Engines]:
        """The engines of one checkpoint, opened when they are first asked for and closed at the end."""
        engines = Engines(functools.partial(self._open, progress=progress), self._cluster)
        try:
            yield engines
        finally:
            engines.close()
            if self._cluster is not None:
                self._slots.leave()

    def stop(self) -> None:
        """Stop what other threads draw."""
        if self._cluster is not None:
            self._slots.stop()

    def close(self) -> None:
        """Leave the cluster and say what was done there."""
        if self._cluster is not None:
            self._cluster.close()
            logger.info("%s", self._tally)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close()

    def _open(self, model: str, loaded: LoadedTask, options: SampleOptions, progress: Progress) -> Sampler:
        if self._cluster is None:
            if not models.is_fake(model, options) and not models.is_endpoint(model):  # weights take minutes
                progress.start("load", 1, 0, "models")
            sampler = with_tools(models.open_model(model, loaded, options), options)
            progress.advance(1)
            return sampler
        pool = self._cluster.pool(_opener(model, loaded, options))
        return Dispatcher(pool, self._slots, self._tally, progress.note)


class Engines:
    """The sampler of one checkpoint, task after task; ``cluster`` is where it draws, None for this process."""

    def __init__(
        self, opener: Callable[[str, LoadedTask, SampleOptions], Sampler], cluster: RayCluster | None = None
    ) -> None:
        self.cluster = cluster
        self._opener = opener
        self._sampler: Sampler | None = None

    def open(self, model: str, loaded: LoadedTask, options: SampleOptions) -> Sampler:
        """The engine with this checkpoint: the one that is open, unless it is a fake one, which knows its task only."""
        if self._sampler is not None and self._sampler.info.engine == "fake":
            self.close()
        if self._sampler is None:
            self._sampler = self._opener(model, loaded, options)
        return self._sampler

    def write_to(self, writer: RunWriter) -> None:
        """What is drawn next belongs to this run: on a cluster the replicas write it."""
        if self.cluster is not None:
            assert isinstance(self._sampler, WritingSampler)  # the one that draws on a cluster
            self._sampler.write_to(writer)

    def close(self) -> None:
        """Close the engine; another may be opened after it."""
        sampler, self._sampler = self._sampler, None
        if sampler is not None:
            sampler.close()


def model_name(model: str | Sampler) -> str:
    """How runs of a model are named. Raises BadArgument where it is neither a name nor a sampler."""
    return model if isinstance(model, str) else LentSampler(model).info.model


@contextlib.contextmanager
def open_engines(model: str | Sampler, options: SampleOptions, progress: Progress) -> Iterator[Engines]:
    """The engines of one checkpoint, opened when they are first asked for and closed at the end.

    A sampler of the caller's own is used as it is and left open. Raises BadArgument where options are given that would
    open it otherwise, and what ``Job`` raises.
    """
    if isinstance(model, str):
        with Job(options) as job, job.checkpoint(progress) as engines:
            yield engines
        return
    _check_lent(options)
    lent = LentSampler(model)
    yield Engines(lambda name, loaded, options: with_tools(lent, options))


def _check_lent(options: SampleOptions) -> None:
    why = "a sampler that is open already decides this itself"
    check(options.engine == "auto", "--engine", options.engine, why)
    check(not options.engine_args, "--engine-arg", dict(options.engine_args), why)
    check(options.chat_template == "auto", "--chat-template", options.chat_template, why)
    check(not options.is_scaled, "--replicas, --ray", (options.replicas, options.ray), "a sampler is one engine")


def _gpus(options: SampleOptions) -> int:
    """GPUs that one engine takes where there are any."""
    sizes = []
    for name in ("tensor_parallel_size", "pipeline_parallel_size"):
        size = options.engine_args.get(name, 1)
        if not isinstance(size, int) or size < 1:
            raise BadArgument("--engine-arg", f"{name}={size}", "must be a whole number of at least 1")
        sizes.append(size)
    return 0 if options.engine == "fake" else sizes[0] * sizes[1]


def _opener(model: str, loaded: LoadedTask, options: SampleOptions) -> Callable[[], Sampler]:
    """What opens this engine in another process, wherever that stands."""
    if models.is_endpoint(model):
        raise BadArgument("--model", model, "a server is one engine: give it more replicas of its own, not --replicas")
    if models.is_fake(model, options):
        return functools.partial(with_tools, models.open_model(model, loaded, options), options)
    path = Path(model).expanduser()
    place = str(path.resolve()) if path.is_dir() else model
    models.resolve_model(place)
    return functools.partial(_open_there, place, options)


def _open_there(model: str, options: SampleOptions) -> Sampler:
    return with_tools(models.open_engine(model, options), options)
