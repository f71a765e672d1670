"""Evaluations inside TRL's training: every N steps, the model that is trained is evaluated like a checkpoint."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import Trainer, TrainerCallback

from rlvr_bench import pipeline
from rlvr_bench.errors import BadArgument, RlvrBenchError, in_one_line
from rlvr_bench.following.trackers import metrics_of
from rlvr_bench.options import GradeOptions, SampleOptions, check
from rlvr_bench.samplers.live_transformers import live_sampler

if TYPE_CHECKING:
    from transformers import TrainerControl, TrainerState, TrainingArguments

__all__ = ["EvaluationCallback"]

logger = logging.getLogger(__name__)


class EvaluationCallback(TrainerCallback):  # type: ignore[misc]
    """Evaluates the model on a task before the first step, every ``every`` steps, and at the end.

    ``trainer.add_callback(EvaluationCallback(trainer, "gsm8k", every=50, options=SampleOptions(n=16, limit=100)))``

    The weights are used where they are, in evaluation mode, by the transformers engine: nothing is saved or loaded, and
    the trainer's random numbers are left alone. Each evaluation is a run like any other, of the checkpoint
    ``NAME@STEP``, in ``options.out``: ``series``, ``report`` and ``check`` read it. The trainer logs its numbers
    as ``PREFIX/pass@16``, ``PREFIX/pass@16/low`` and so on, as ``follow`` sends them to trackers.

    ``name``: of the series, by default that of the trainer's output folder. ``rows``: rollouts drawn together.

    An evaluation that fails is one line in the log, and training goes on, unless ``stop_on_error``.
    Raises BadArgument for a number of steps below 1, and where each process holds a part of the weights (DeepSpeed ZeRO
    stage 3, FSDP): evaluate the saved checkpoints then.
    """

    def __init__(
        self,
        trainer: Trainer,
        task: str,
        *,
        every: int,
        options: SampleOptions | None = None,
        grading: GradeOptions | None = None,
        name: str | None = None,
        prefix: str = "val",
        rows: int = 256,
        stop_on_error: bool = False,
    ) -> None:
        check(every >= 1, "every", every, "must be 1 or more training steps")
        if trainer.is_fsdp_enabled or _has_stage_3(trainer):
            mend = "holds a part of the weights in each process; evaluate its saved checkpoints (rlvr-bench follow)"
            raise BadArgument("trainer", type(trainer).__name__, mend)
        self._trainer, self._task, self._every = trainer, task, every
        self._options, self._grading = options or SampleOptions(n=16), grading or GradeOptions()
        self._prefix, self._rows, self._stop_on_error = prefix, rows, stop_on_error
        self._name = name or Path(trainer.args.output_dir or "model").name
        self._evaluated: int | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **more: Any
    ) -> None:
        if state.global_step == 0:
            self._evaluate(state, control)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **more: Any) -> None:
        if state.global_step % self._every == 0:
            self._evaluate(state, control)

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **more: Any) -> None:
        if state.global_step != self._evaluated:
            self._evaluate(state, control)

    def _evaluate(self, state: TrainerState, control: TrainerControl) -> None:
        self._evaluated = state.global_step
        accelerator = self._trainer.accelerator
        metrics: dict[str, float] = {}
        if accelerator.is_main_process:
            try:
                metrics = self._metrics(state.global_step)
            except (RlvrBenchError, RuntimeError, OSError) as error:  # out of memory is a RuntimeError of torch
                if self._stop_on_error:
                    raise
                logger.warning("step %d was not evaluated: %s", state.global_step, in_one_line(str(error)))
        accelerator.wait_for_everyone()
        if metrics:
            is_due = control.should_log  # logging ends what is due, but these are not the numbers of the step
            Trainer.log(self._trainer, metrics)  # TRL's own would end the averages of the step that is under way
            control.should_log = is_due

    def _metrics(self, step: int) -> dict[str, float]:
        model = self._trainer.accelerator.unwrap_model(self._trainer.model)
        tokenizer = getattr(self._trainer.processing_class, "tokenizer", self._trainer.processing_class)
        with _evaluating(model):
            sampler = live_sampler(model, tokenizer, f"{self._name}@{step}", self._rows)
            _, card = pipeline.evaluate(sampler, self._task, self._options, self._grading)
        return metrics_of(self._prefix, card)


@contextmanager
def _evaluating(model: Any) -> Iterator[None]:
    """The model in evaluation mode, and as it was afterwards."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


def _has_stage_3(trainer: Trainer) -> bool:
    plugin = getattr(trainer.accelerator.state, "deepspeed_plugin", None)
    return plugin is not None and plugin.zero_stage == 3
