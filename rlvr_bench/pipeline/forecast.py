"""Estimates what a run would cost; loads no model and writes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rlvr_bench.pipeline.agreeing import is_finished, stored_context
from rlvr_bench.pipeline.before_loading import check_before_loading
from rlvr_bench.pipeline.engines import model_name
from rlvr_bench.pipeline.folders import find_run
from rlvr_bench.pipeline.models import resolve_model
from rlvr_bench.pipeline.options import SampleOptions
from rlvr_bench.pipeline.run_prompts import asked_template
from rlvr_bench.pipeline.tool_runs import render_prompts
from rlvr_bench.records import SamplingParameters
from rlvr_bench.samplers.protocol import Sampler
from rlvr_bench.store import open_run
from rlvr_bench.task import load_task

__all__ = ["Forecast", "forecast"]

# Upper bounds on disk, before compression, in bytes: a token's text, a token's array values, and a rollout's row.
_TEXT_BYTES = 6
_ARRAY_BYTES = 4 + 4 + 2 + 4
_ROW_BYTES = 300


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """Size of a run; ``tokens`` and ``disk_bytes`` are upper bounds of what is still to be drawn."""

    run: Path
    problems: int
    rollouts: int
    drawn: int
    max_tokens: int
    tokens: int
    disk_bytes: int


def forecast(model: str | Sampler, task: str, options: SampleOptions) -> Forecast:
    """Problems, rollouts, and upper bounds of tokens and disk for this run. Loads the task, no model; writes nothing.

    ``max_tokens`` is the value passed (for "auto", the whole context where a folder states it), else the task's; the model's
    context may cut it further. Raises the errors that
    ``sample`` raises before it loads an engine.
    """
    loaded = load_task(task, options.data_dir)
    template = asked_template(loaded.task.prompt, options)
    render_prompts(template, loaded, options)
    name = model_name(model)
    path = name
    if isinstance(model, str) and not model.startswith("fake"):
        path = resolve_model(model)
    ids = [problem.id for problem in loaded.problems[: options.limit]]
    folder = find_run(options.out, name, loaded.task.name, options.run_name(loaded.task.name), options.adapter)
    if isinstance(model, str):
        is_finished(folder, model, loaded, template, options)
        check_before_loading(model, loaded, options, template)
    drawn = 0
    if (folder / "manifest.json").is_file():
        have = open_run(folder).drawn()
        drawn = sum(have[name].count(options.n) for name in ids if name in have)
    max_tokens = (loaded.task.sampling or SamplingParameters()).max_tokens
    if isinstance(options.max_tokens, int):
        max_tokens = options.max_tokens
    elif options.max_tokens == "auto":
        max_tokens = stored_context(path) or max_tokens
    left = options.n * len(ids) - drawn
    token_bytes = _TEXT_BYTES + (_ARRAY_BYTES if options.token_stats == "full" else 0)
    return Forecast(
        run=folder,
        problems=len(ids),
        rollouts=options.n * len(ids),
        drawn=drawn,
        max_tokens=max_tokens,
        tokens=left * max_tokens,
        disk_bytes=left * (max_tokens * token_bytes + _ROW_BYTES),
    )
