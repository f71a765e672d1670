"""Opens engines in this process or as replicas on Ray, once for all tasks of a checkpoint."""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self, runtime_checkable

from rlvr_bench.errors import BadArgument
from rlvr_bench.pipeline import models
from rlvr_bench.pipeline.adapters import resolve_adapter
from rlvr_bench.pipeline.gpus import engine_gpus
from rlvr_bench.pipeline.options import Progress, SampleOptions, check
from rlvr_bench.pipeline.tool_runs import with_tools
from rlvr_bench.samplers.lent import LentSampler
from rlvr_bench.samplers.protocol import AdaptedSampler, Sampler
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
    """A sampler whose replicas write their rollouts themselves."""

    def write_to(self, writer: RunWriter) -> None:
        """Write what is drawn from now on to this run."""
        ...


class Job:
    """What the checkpoints of one call share: the engines of a cluster, or nothing where this process draws."""

    def __init__(self, options: SampleOptions, checkpoints: int = 1) -> None:
        """Connect to the cluster, if asked for.

        ``options.replicas`` is a number or None. Raises the errors of ``RayCluster``; EngineError if Ray is not installed.
        """
        self.at_once = 1
        self._options = options
        self._cluster: RayCluster | None = None
        self._slots: Slots
        self._tally = Tally()
        if not options.is_scaled:
            return
        replicas = options.replicas if isinstance(options.replicas, int) else None
        gpus = 0 if options.engine == "fake" else engine_gpus(options.engine_args)
        self._cluster = open_cluster(options.ray, replicas, gpus)
        self.at_once = min(checkpoints, self._cluster.replicas)
        self._slots = Slots(self._cluster.replicas, checkpoints)

    @contextlib.contextmanager
    def checkpoint(self, progress: Progress) -> Iterator[Engines]:
        """The engines of one checkpoint, opened at their first use and closed at the end."""
        engines = Engines(functools.partial(self._open, progress=progress), self._cluster)
        try:
            yield engines
        finally:
            engines.close()
            if self._cluster is not None:
                self._slots.leave()

    def stop(self) -> None:
        """Stop the drawing of the other threads."""
        if self._cluster is not None:
            self._slots.stop()

    def close(self) -> None:
        """Leave the cluster and log what was done there."""
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
    """The sampler of one checkpoint, for all its tasks; draws on ``cluster``, or in this process if that is None."""

    def __init__(
        self, opener: Callable[[str, LoadedTask, SampleOptions], Sampler], cluster: RayCluster | None = None
    ) -> None:
        self.cluster = cluster
        self._opener = opener
        self._sampler: Sampler | None = None
        self._adapter: str | None = None

    @property
    def is_open(self) -> bool:
        """Whether the checkpoint is loaded already."""
        return self._sampler is not None

    def open(self, model: str, loaded: LoadedTask, options: SampleOptions) -> Sampler:
        """The engine of this checkpoint: opened at the first call, then kept. A fake one is reopened for each task.

        With another adapter than before, the engine is kept too where it can change adapters.
        """
        if self._sampler is not None and self._sampler.info.engine == "fake":
            self.close()
        if self._sampler is not None and options.adapter != self._adapter:
            self._change_adapter(options.adapter)
        if self._sampler is None:
            self._sampler = self._opener(model, loaded, options)
        self._adapter = options.adapter
        return self._sampler

    def _change_adapter(self, adapter: str | None) -> None:
        """Give the open engine another adapter, or none. It is closed where it has no room for one, or fails."""
        if self._adapter is None or not isinstance(self._sampler, AdaptedSampler):
            self.close()
            return
        try:
            self._sampler.use_adapter(None if adapter is None else resolve_adapter(adapter))
        except BaseException:
            self.close()
            raise

    def write_to(self, writer: RunWriter) -> None:
        """Let a cluster's replicas write what they draw from now on to this run; does nothing without a cluster."""
        if self.cluster is not None:
            assert isinstance(self._sampler, WritingSampler)  # the one that draws on a cluster
            self._sampler.write_to(writer)

    def close(self) -> None:
        """Close the engine; it can be opened again."""
        sampler, self._sampler = self._sampler, None
        if sampler is not None:
            sampler.close()


def model_name(model: str | Sampler) -> str:
    """The model's name in its runs. Raises BadArgument where it is neither a name nor a sampler."""
    return model if isinstance(model, str) else LentSampler(model).info.model


@contextlib.contextmanager
def open_engines(model: str | Sampler, options: SampleOptions, progress: Progress) -> Iterator[Engines]:
    """The engines of one checkpoint, opened at their first use and closed at the end.

    A sampler that the caller passes is used as it is and not closed. Raises BadArgument for options that only apply
    when an engine is opened here, and the errors of ``Job``.
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
    check(not options.chat_template_args, "--chat-template-arg", dict(options.chat_template_args), why)
    check(options.adapter is None, "--adapter", options.adapter, why)
    check(not options.deterministic, "--deterministic", True, why)
    check(not options.is_scaled, "--replicas, --ray", (options.replicas, options.ray), "a sampler is one engine")


def _opener(model: str, loaded: LoadedTask, options: SampleOptions) -> Callable[[], Sampler]:
    """A function that opens this engine in another process, on any machine. Raises BadArgument for a server."""
    if models.is_endpoint(model):
        raise BadArgument("--model", model, "a server is one engine: give it more replicas of its own, not --replicas")
    if models.is_fake(model, options):
        return functools.partial(with_tools, models.open_model(model, loaded, options), options)
    path = Path(model).expanduser()
    checkpoint = str(path.resolve()) if path.is_dir() else model
    models.resolve_model(checkpoint)
    if options.adapter is not None and Path(options.adapter).expanduser().is_dir():
        options = replace(options, adapter=str(Path(options.adapter).expanduser().resolve()))
    return functools.partial(_open_there, checkpoint, options)


def _open_there(model: str, options: SampleOptions) -> Sampler:
    return with_tools(models.open_engine(model, options), options)
