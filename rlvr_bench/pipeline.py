"""The only place where stages meet: sample, grade, score, and evaluate, which is the three in a row."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import msgspec

from rlvr_bench.errors import BadArgument, ModelError, RunError, UnknownName
from rlvr_bench.grade import Flip, flips, grade_run
from rlvr_bench.prompts import PromptTemplate, open_prompt
from rlvr_bench.records import DrawRequest, EngineInfo, Prompt, SamplingParameters, Scorecard
from rlvr_bench.samplers import SamplerOptions, open_sampler, resolve_engine
from rlvr_bench.samplers.fake import FakeSampler, spread_rates
from rlvr_bench.samplers.protocol import Sampler
from rlvr_bench.samplers.seeds import draw_seed
from rlvr_bench.scorers.scorecard import make_scorecard
from rlvr_bench.store import SCHEMA, Manifest, RunWriter, Session, open_run, run_folder
from rlvr_bench.store.manifest import write_atomically
from rlvr_bench.store.outcomes import read_outcomes
from rlvr_bench.store.run import Run, Span
from rlvr_bench.store.verdicts import Grading, current_grading
from rlvr_bench.task import LoadedTask, gold_response, load_task, read_task, task_verifier
from rlvr_bench.zoo.checkpoints import checkpoint_path

__all__ = ["GradeOptions", "Progress", "SampleOptions", "evaluate", "grade", "sample", "score"]

logger = logging.getLogger(__name__)

DEFAULT_N = 64
DEFAULT_DRAW_BATCH = 16


class Progress(Protocol):
    """Told how far a stage is; the command line shows it as a bar."""

    def start(self, stage: str, total: int, done: int) -> None: ...

    def advance(self, rollouts: int, tokens: int = 0) -> None: ...


class _Silent:
    def start(self, stage: str, total: int, done: int) -> None: ...

    def advance(self, rollouts: int, tokens: int = 0) -> None: ...


@dataclass(frozen=True, kw_only=True)
class SampleOptions:
    """How to draw. None means: what the task recommends, else the field's convention (T = 0.6, top-p = 0.95)."""

    n: int = DEFAULT_N
    engine: str = "auto"
    out: Path = Path("runs")
    limit: int | None = None
    seed: int = 0
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    max_tokens: int | None = None
    prompt: str | None = None
    chat_template: Literal["auto", "none"] = "auto"
    token_stats: Literal["off", "summary", "full"] = "summary"
    draw_batch: int = DEFAULT_DRAW_BATCH
    data_dir: Path | None = None
    engine_args: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raises BadArgument naming the option."""
        _check(self.n >= 1, "-n", self.n, "must be at least 1")
        _check(self.limit is None or self.limit >= 1, "--limit", self.limit, "must be at least 1")
        _check(
            self.temperature is None or self.temperature >= 0, "--temperature", self.temperature, "must be 0 or more"
        )
        _check(self.top_p is None or 0 < self.top_p <= 1, "--top-p", self.top_p, "must lie in (0, 1]")
        _check(self.top_k is None or self.top_k >= 0, "--top-k", self.top_k, "must be 0 (no limit) or more")
        _check(self.max_tokens is None or self.max_tokens >= 1, "--max-tokens", self.max_tokens, "must be at least 1")
        _check(self.draw_batch >= 1, "--draw-batch", self.draw_batch, "must be at least 1")

    def asked(self) -> dict[str, Any]:
        """The sampling parameters the user passed."""
        names = ("temperature", "top_p", "top_k", "max_tokens")
        return {name: value for name in names if (value := getattr(self, name)) is not None}


@dataclass(frozen=True, kw_only=True)
class GradeOptions:
    """How to grade: verifier processes, and CPU seconds one decision may take."""

    workers: int = max(1, (os.cpu_count() or 2) // 2)
    timeout_s: float = 5.0

    def __post_init__(self) -> None:
        """Raises BadArgument naming the option."""
        _check(self.workers >= 1, "--workers", self.workers, "must be at least 1")
        _check(self.timeout_s > 0, "--timeout", self.timeout_s, "must be above 0 seconds")


def evaluate(
    model: str,
    task: str,
    options: SampleOptions | None = None,
    grading: GradeOptions | None = None,
    progress: Progress | None = None,
) -> tuple[Path, Scorecard]:
    """Sample, grade and score one checkpoint on one task. Returns the run folder and its scorecard.

    Raises the errors of ``sample``, ``grade`` and ``score``.
    """
    run = sample(model, task, options, progress)
    grade(run, grading, progress)
    return run, score(run)


def sample(model: str, task: str, options: SampleOptions | None = None, progress: Progress | None = None) -> Path:
    """Draw what is missing for n rollouts of each problem; returns the run folder.

    Raises an RlvrBenchError before anything is written where the input is bad, RunMismatch and RunLocked where the run
    on disk does not agree or is in use, StorageError where the disk refuses (what was drawn before is kept).
    """
    options = options or SampleOptions()
    loaded = load_task(task, options.data_dir)
    problems = loaded.problems[: options.limit]
    template = open_prompt(options.prompt or loaded.task.prompt)
    sampler = _open(model, loaded, options)
    try:
        prompts = {problem.id: template.render(problem) for problem in problems}
        sampling = _resolve_sampling(loaded, options, sampler, prompts.values())
        manifest = _manifest(model, loaded, template, options, sampling, sampler.info)
        folder = run_folder(options.out, model, loaded.task.name)
        with RunWriter(folder, manifest, problems) as writer:
            _draw_missing(writer, sampler, prompts, manifest, options.n, progress or _Silent())
    finally:
        sampler.close()
    return folder


def grade(
    run: Path, options: GradeOptions | None = None, progress: Progress | None = None
) -> tuple[Grading, list[Flip]]:
    """Verify every rollout of a run that has no verdict of the task's verifier as it is now.

    Returns the grading, and the rollouts whose status differs from the grading before it (after a verifier upgrade).
    Raises RunError where the folder is no run or the task is not the one the run was drawn for.
    """
    options, progress = options or GradeOptions(), progress or _Silent()
    opened = open_run(run)
    task, file = read_task(_task_name(opened))
    before = current_grading(opened)
    total = sum(int(drawn.sum()) for drawn in opened.drawn().values())
    progress.start("verify", total, 0)
    verifier = task_verifier(task, file)
    now = grade_run(
        opened, verifier, workers=options.workers, timeout_s=options.timeout_s, progress=lambda n: progress.advance(n)
    )
    changed = before is not None and before.folder != now.folder
    return now, list(flips(opened, before, now)) if changed and before else []


def score(run: Path) -> Scorecard:
    """Turn a graded run into a scorecard, written to ``scorecard.json`` in the run folder.

    Raises RunError where the folder is no run or is not graded to the end.
    """
    opened = open_run(run)
    outcomes = read_outcomes(opened)
    grading = current_grading(opened)
    if grading is None:
        raise RunError(f"{run}: not graded yet. Run `rlvr-bench grade {run}` first.")
    scorecard = make_scorecard(opened.manifest, grading, outcomes)
    content = msgspec.json.format(msgspec.json.encode(scorecard), indent=1)
    write_atomically(run / "scorecard.json", content + b"\n")
    return scorecard


def resolve_model(model: str) -> str:
    """``zoo:NAME`` becomes its folder; a local folder must hold a checkpoint; anything else is taken for a hub id.

    Raises UnknownName, ModelError.
    """
    if model.startswith("zoo:"):
        return str(checkpoint_path(model.removeprefix("zoo:")))
    path = Path(model).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise ModelError(f"{model}: no config.json in it, so not a Hugging Face checkpoint")
        return str(path)
    if path.is_file() or model.startswith((".", "/", "~")) or model.count("/") > 1:
        raise ModelError(f"{model}: no such folder. --model takes a folder, a hub id (owner/name) or zoo:NAME")
    return model


def _open(model: str, loaded: LoadedTask, options: SampleOptions) -> Sampler:
    if options.engine == "fake" or model == "fake" or model.startswith("fake:"):
        _check(options.engine in ("auto", "fake"), "--engine", options.engine, "a fake model needs the fake engine")
        return _fake(model, loaded)
    engine = resolve_engine(options.engine)
    path = resolve_model(model)
    if options.engine == "auto":
        logger.info("engine: %s", engine if engine == "vllm" else "transformers (vllm is not installed)")
    sampler_options = SamplerOptions(
        model=path,
        chat_template=options.chat_template,
        token_stats=options.token_stats,
        engine_args=options.engine_args,
    )
    return open_sampler(engine, sampler_options)


def _fake(model: str, loaded: LoadedTask) -> Sampler:
    """``fake`` solves each problem at a rate hashed from its id, ``fake:0.25`` each at that rate."""
    right = {problem.id: gold_response(loaded.task, problem) for problem in loaded.problems}
    rate = model.removeprefix("fake").removeprefix(":")
    if not model.startswith("fake") or not rate:
        return FakeSampler(spread_rates(loaded.problems), right)
    try:
        value = float(rate)
    except ValueError:
        raise UnknownName("fake model", model, ["fake", "fake:0.25"]) from None
    _check(0 <= value <= 1, "--model fake:RATE", rate, "the solve rate must lie in [0, 1]")
    return FakeSampler(dict.fromkeys(right, value), right)


def _resolve_sampling(
    loaded: LoadedTask, options: SampleOptions, sampler: Sampler, prompts: Iterable[Prompt]
) -> SamplingParameters:
    """What the user passed, else what the task recommends, else the convention; max_tokens cut to the model's context.

    Raises BadArgument where max_tokens was passed and does not fit, or a prompt alone does not.
    """
    recommended = loaded.task.sampling or SamplingParameters()
    sampling = msgspec.structs.replace(recommended, **options.asked())
    context = sampler.info.context_tokens
    if context is None:
        return sampling
    lengths = {prompt.problem_id: sampler.prompt_tokens(prompt) for prompt in prompts}
    longest = max(lengths, key=lambda name: lengths[name])
    room = context - lengths[longest]
    _check(
        room >= 1, "prompt", f"{longest} ({lengths[longest]} tokens)", f"longer than the model's context of {context}"
    )
    if options.max_tokens is not None and options.max_tokens > room:
        raise BadArgument(
            "--max-tokens",
            options.max_tokens,
            f"the model's context of {context} leaves {room} after the longest prompt ({longest})",
        )
    return msgspec.structs.replace(sampling, max_tokens=min(sampling.max_tokens, room))


def _manifest(
    model: str,
    loaded: LoadedTask,
    template: PromptTemplate,
    options: SampleOptions,
    sampling: SamplingParameters,
    info: EngineInfo,
) -> Manifest:
    return Manifest(
        schema=SCHEMA,
        task=loaded.task.name,
        task_version=loaded.task.version,
        task_file="" if loaded.is_shipped else str(loaded.file),
        source=loaded.task.source.describe(),
        problems_sha256=loaded.digest,
        n_problems=len(loaded.problems),
        prompt=template.name,
        prompt_sha256=template.digest,
        chat_template=info.chat_template,
        model=model,
        weights=info.weights,
        engine=info.engine,
        dtype=info.dtype,
        token_stats=options.token_stats if info.token_stats == "exact" else "none",
        sampling=sampling,
        asked=options.asked(),
        seed=options.seed,
        draw_batch=options.draw_batch,
        stopping=None,
        n=options.n,
        sessions=(Session.now(options.n, info),),
    )


def _draw_missing(
    writer: RunWriter,
    sampler: Sampler,
    prompts: Mapping[str, Prompt],
    manifest: Manifest,
    n: int,
    progress: Progress,
) -> None:
    done = writer.n_drawn(prompts, n)
    progress.start("sample", n * len(prompts), done)
    # The gaps are read now: the writer marks draws as they come in, while the sampler still pulls requests.
    spans = list(writer.missing(prompts, n, manifest.draw_batch))
    for draw in sampler.draw(_requests(spans, prompts, manifest), manifest.sampling):
        writer.add(draw)
        progress.advance(len(draw.rollouts), sum(rollout.n_tokens for rollout in draw.rollouts))


def _requests(spans: Sequence[Span], prompts: Mapping[str, Prompt], manifest: Manifest) -> Iterator[DrawRequest]:
    for span in spans:
        seed = draw_seed(manifest.seed, manifest.task, span.problem_id, span.start)
        yield DrawRequest(prompt=prompts[span.problem_id], start=span.start, n=span.n, seed=seed)


def _task_name(run: Run) -> str:
    """The task to grade a run with: the user's file the run was drawn from, or the shipped task of that name."""
    return run.manifest.task_file or run.manifest.task


def _check(ok: bool, name: str, value: object, allowed: str) -> None:
    if not ok:
        raise BadArgument(name, value, allowed)
