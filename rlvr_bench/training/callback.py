"""A callback for TRL's trainers, and those of transformers: evaluates a task with the model that is being trained."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
import transformers

from rlvr_bench.errors import BadArgument, RlvrBenchError, in_one_line
from rlvr_bench.records import DrawRequest, Rollout, SamplingParameters
from rlvr_bench.samplers.seeds import draw_seed
from rlvr_bench.samplers.transformers import TransformersSampler
from rlvr_bench.task import golds_of, load_task
from rlvr_bench.training.validation import validation_metrics
from rlvr_bench.verifiers import Decider

__all__ = ["ValidationCallback"]

logger = logging.getLogger(__name__)


class ValidationCallback(transformers.TrainerCallback):  # type: ignore[misc]  # transformers has no types
    """Every ``every`` steps, draws ``n`` rollouts of each problem of ``task`` and logs ``validation_metrics`` of them.

    ``trainer.add_callback(ValidationCallback(trainer, "math500"))``. Metrics go to whatever the trainer logs to, named
    ``TASK/pass@16`` and so on. ``limit``: only the first problems. ``sampling``: sampling parameters by name, where they differ
    from the task's (``{"temperature": 1.0}``). ``at_start``: also before the first step. ``workers``, ``timeout_s``: of the
    verifier. The model draws with transformers in the trainer's process, also where the trainer has vLLM; of several
    processes the first one draws while the others wait.

    A failure is a line in the log, and training goes on, unless ``stop_on_error``. Models that are split over processes
    (FSDP, DeepSpeed stage 3) cannot draw so: follow their checkpoints. Raises BadArgument for bad numbers, and the errors
    of loading the task.
    """

    def __init__(
        self,
        trainer: Any,
        task: str,
        *,
        every: int = 100,
        n: int = 16,
        limit: int | None = None,
        ks: Sequence[int] | None = None,
        sampling: dict[str, Any] | None = None,
        at_start: bool = False,
        workers: int = 1,
        timeout_s: float = 5.0,
        data_dir: Path | None = None,
        stop_on_error: bool = False,
    ) -> None:
        for name, value in (("every", every), ("n", n), ("limit", 1 if limit is None else limit)):
            if value < 1:
                raise BadArgument(name, value, "must be at least 1")
        self._loaded = load_task(task, data_dir)
        self._golds = golds_of(self._loaded)
        self._verifier = self._loaded.open_verifier()
        self._problems = self._loaded.problems[:limit]
        try:
            planned = self._loaded.task.sampling or SamplingParameters()
            self._sampling = msgspec.structs.replace(planned, **(sampling or {}))
        except TypeError as error:
            raise BadArgument("sampling", sampling, f"names no sampling parameter ({error})") from error
        self._trainer, self._every, self._n, self._at_start = trainer, every, n, at_start
        self._ks = ks or sorted({k for k in (1, 4, 16, 64) if k <= n} | {n})
        self._workers, self._timeout_s, self._stop_on_error = workers, timeout_s, stop_on_error

    def on_train_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        if self._at_start:
            self._run(args, state, control, given)

    def on_step_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        if state.global_step % self._every == 0:
            self._run(args, state, control, given)

    def metrics(self, model: Any, tokenizer: Any, step: int) -> dict[str, float]:
        """Draw, verify and count with this model. Raises the errors of the sampler and the verifier."""
        rollouts = list(self._draw(model, tokenizer, step))
        with Decider(
            self._verifier, self._golds.__getitem__, workers=self._workers, timeout_s=self._timeout_s
        ) as decider:
            decisions = decider.decide((rollout.problem_id, rollout.text) for rollout in rollouts)
        right = {"correct": 1.0, "error": np.nan}
        return validation_metrics(
            [rollout.problem_id for rollout in rollouts],
            [right.get(decision.verdict.status, 0.0) for decision in decisions],
            tokens=[rollout.n_tokens for rollout in rollouts],
            entropy=[np.nan if rollout.entropy_mean is None else rollout.entropy_mean for rollout in rollouts],
            truncated=[rollout.finish_reason == "length" for rollout in rollouts],
            ks=self._ks,
            prefix=self._loaded.task.name,
        )

    def _draw(self, model: Any, tokenizer: Any, step: int) -> Iterator[Rollout]:
        sampler = TransformersSampler.lent(model, tokenizer, "the model in training")
        task = self._loaded.task.name
        requests = [
            DrawRequest(
                prompt=self._loaded.template.render(problem),
                start=0,
                n=self._n,
                seed=draw_seed(0, task, problem.id, 0, f"step {step}"),
            )
            for problem in self._problems
        ]
        for draw in sampler.draw(requests, self._sampling):
            yield from draw.rollouts

    def _run(self, args: Any, state: Any, control: Any, given: dict[str, Any]) -> None:
        if not state.is_world_process_zero:
            return
        try:
            if getattr(args, "fsdp", None) or _is_stage_3(args):
                raise BadArgument("model", "split over processes", "it cannot draw here: use `rlvr-bench follow`")
            model = given["model"]
            model = getattr(model, "module", model)  # DistributedDataParallel
            with _evaluating(model):
                metrics = self.metrics(model, given["processing_class"], state.global_step)
        except (RlvrBenchError, RuntimeError, OSError) as error:
            if self._stop_on_error:
                raise
            said = in_one_line(str(error))
            logger.warning("no validation on %s at step %d: %s", self._loaded.task.name, state.global_step, said)
            return
        is_due = control.should_log  # logging ends what is due, but these are not the numbers of the step
        # TRL's ``log`` would end the averages of the step that is under way.
        transformers.Trainer.log(self._trainer, metrics)
        control.should_log = is_due


@contextlib.contextmanager
def _evaluating(model: torch.nn.Module) -> Iterator[None]:
    """A context in which the model is in evaluation mode."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


def _is_stage_3(args: Any) -> bool:
    plugin = getattr(args, "deepspeed_plugin", None)
    return plugin is not None and getattr(plugin, "zero_stage", 0) == 3
