"""Checks of a run folder that need no engine: whether it holds another run, and whether anything is left to draw."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import msgspec

from rlvr_bench.errors import RunError, RunMismatch, StorageError
from rlvr_bench.grading import Grader
from rlvr_bench.pipeline import models
from rlvr_bench.pipeline.adapters import checkpoint_digest
from rlvr_bench.pipeline.drawing import Plan
from rlvr_bench.pipeline.options import SampleOptions, check
from rlvr_bench.pipeline.resolve import make_manifest, planned_sampling
from rlvr_bench.pipeline.tool_runs import reading_statements
from rlvr_bench.prompts import PromptTemplate
from rlvr_bench.records import EngineInfo, SamplingParameters
from rlvr_bench.samplers.adapters import ADAPTED
from rlvr_bench.samplers.model_files import stored_template
from rlvr_bench.scorecard import Scorecard, decode_scorecard
from rlvr_bench.scorers.scorecard import how_scored
from rlvr_bench.storage import is_remote
from rlvr_bench.store.manifest import Manifest, read_manifest
from rlvr_bench.store.outcomes import read_outcomes
from rlvr_bench.store.paths import files_in, read_if_there, read_whole
from rlvr_bench.store.problem_files import check_same_problems, encode_problems
from rlvr_bench.store.run import Run, spans_missing
from rlvr_bench.store.verdicts import Verdicts, current_grading
from rlvr_bench.task import LoadedTask
from rlvr_bench.verifiers import Verifier

__all__ = ["is_finished", "standing_scorecard", "stored_context"]

logger = logging.getLogger(__name__)

_LOADED = ("transformers", "vllm")  # engines that load weights from files
_DTYPES = {
    "float16": "float16",
    "half": "float16",
    "bfloat16": "bfloat16",
    "float32": "float32",
    "float": "float32",
    "float64": "float64",
    "double": "float64",
}
# Entries of a manifest for a server that gets raw prompts: the task has no messages, or the user asked for raw text.
_BARE, _AS_ASKED = "raw text: as the task has it", "raw text: as asked"


def is_finished(folder: Path, model: str, loaded: LoadedTask, template: PromptTemplate, options: SampleOptions) -> bool:
    """Whether the run in ``folder`` is the one asked for and has every rollout; loads no engine.

    Also returns False where only the engine can answer. Raises RunMismatch where the folder holds another run, RunError
    where its problems differ from the manifest, and the errors of ``models.choose_engine`` and ``resolve_model``.
    """
    engine = models.choose_engine(model, options)
    path = models.resolve_model(model) if engine in _LOADED else model
    if engine == "transformers":
        _check_room(path, options)
    old = read_manifest(folder / "manifest.json")
    if old is None:
        return False
    if engine not in (*_LOADED, "endpoint"):
        _check_problems(Run(folder, old), loaded, options.limit)
        return False
    if old.engine_args is None and old.imported is None:
        logger.warning(
            "%s: drawn by an older version: with which engine arguments is unknown, and not compared", folder
        )
    wanted = _expected(old, engine, model, path, loaded, template, options)
    differing = old.differing(wanted)
    if options.seed_scheme not in (None, old.seed_scheme):
        differing["seed_scheme"] = (old.seed_scheme, options.seed_scheme)
    if differing:
        raise RunMismatch(str(folder), differing)
    run = Run(folder, old)
    _check_problems(run, loaded, options.limit)
    known = _is_known(old, path, options) if engine in _LOADED else _is_served(old, model, options)
    return known and not _is_cut(old, loaded, options) and not _is_left(run, loaded, options)


def _check_problems(run: Run, loaded: LoadedTask, limit: int | None) -> None:
    """Check that the problems stored in the run are the task's. If the task changed, the manifest differs already.

    A session may be killed after it wrote this file and before it wrote the manifest. The file then holds the problems
    that are wanted.
    """
    file = run.path / "problems.jsonl"
    stored = read_if_there(file)
    if stored and run.manifest.problems_sha256 == loaded.digest and stored != encode_problems(loaded.problems[:limit]):
        check_same_problems(file, run.problems(), loaded.problems)


def standing_scorecard(run: Run, verifier: Verifier) -> Scorecard | None:
    """The scorecard on disk, if grading and scoring again would give the same one; None if they have to run."""
    file, grading = run.path / "scorecard.json", current_grading(run)
    if grading is None or is_remote(run.path) or not file.exists():
        return None
    if grading.folder != Verdicts(run, verifier.name, verifier.version, verifier.options).folder:
        return None
    read = [run.path / name for name in ("audit.json", "judging.json", "problems.jsonl", "grading.json")]
    read += [*run.rollouts.files(), *files_in(run.path / "verdicts" / grading.folder, ".parquet")]
    if any(other.exists() and other.stat().st_mtime_ns > file.stat().st_mtime_ns for other in read):
        return None
    try:
        card = decode_scorecard(read_whole(file), str(file))
        outcomes = read_outcomes(run)
    except (RunError, StorageError):  # damaged, or rollouts without a verdict
        return None
    same = card.run.is_of(run.manifest, grading, how_scored(None))
    return card if same and grading.rollouts == len(outcomes.status) else None


def _expected(
    old: Manifest,
    engine: str,
    model: str,
    path: str,
    loaded: LoadedTask,
    template: PromptTemplate,
    options: SampleOptions,
) -> Manifest:
    """The manifest of the run asked for. What only the engine knows is copied from the run's manifest."""
    is_local = engine in _LOADED
    info = EngineInfo(
        engine=engine,
        version="",
        model=path,
        weights=_weights(old, path, options) if is_local else old.weights,
        context_tokens=None,
        chat_template=_template(old, path, options) if is_local else _served_template(old, options),
        token_stats="none" if options.token_stats == "off" else "exact",
        dtype=(_typed_dtype(options) or old.dtype) if is_local else old.dtype,
        device="",
    )
    wanted = make_manifest(model, loaded, template, options, _sampling(old, loaded, options, template, path), info)
    if is_local:
        return wanted
    return msgspec.structs.replace(wanted, token_stats=old.token_stats, inferred=old.inferred)


def _weights(old: Manifest, path: str, options: SampleOptions) -> str:
    """The weights digest. The commit of a hub model that is not cached is known only once it is loaded."""
    digest = checkpoint_digest(path, options.adapter, options.engine_args.get("revision"))
    (model, _, adapter), (known, _, of_adapter) = digest.partition(ADAPTED), old.weights.partition(ADAPTED)
    return old.weights if known.startswith(f"{model}@") and adapter == of_adapter else digest


def _template(old: Manifest, path: str, options: SampleOptions) -> str | None:
    """The run's chat template, else the one in the checkpoint's files.

    If both exist, only the tokenizer can compare them: it may build a template from several files.
    """
    if options.chat_template == "none":
        return None
    return old.chat_template or stored_template(path)


def _served_template(old: Manifest, options: SampleOptions) -> str | None:
    """The chat template of a server: None where only raw prompts are sent, else the one that the server has."""
    return None if options.chat_template == "none" else old.chat_template


def _typed_dtype(options: SampleOptions) -> str | None:
    """The number format that the user named, spelled as in a manifest; None where engine or checkpoint decides."""
    return _DTYPES.get(str(options.engine_args.get("dtype")).removeprefix("torch."))


def _sampling(
    old: Manifest, loaded: LoadedTask, options: SampleOptions, template: PromptTemplate, path: str
) -> SamplingParameters:
    """As ``resolve_sampling``. A max_tokens that the user did not set may have been cut to the model's context.

    With "auto" the context decides: the run's value is taken here.
    """
    wanted = planned_sampling(loaded.task, options, template, path)
    if options.max_tokens == "auto" and old.sampling is not None:
        return msgspec.structs.replace(wanted, max_tokens=old.sampling.max_tokens)
    if options.max_tokens is None and old.sampling is not None:
        return msgspec.structs.replace(wanted, max_tokens=min(wanted.max_tokens, old.sampling.max_tokens))
    return wanted


def _is_known(old: Manifest, path: str, options: SampleOptions) -> bool:
    """Whether everything that decides what is drawn has been compared."""
    before = old.engine_args or {}
    same = options.engine_args.get("device") == before.get("device")
    if _typed_dtype(options) is None:  # a dtype that the user named has been compared
        same = same and options.engine_args.get("dtype") == before.get("dtype")
    template = None if options.chat_template == "none" else stored_template(path)
    return same and template == old.chat_template and (old.weights.startswith("sha256:") or "@" in old.weights)


def _is_served(old: Manifest, model: str, options: SampleOptions) -> bool:
    """Whether the run asked a server at this address for the same, by what was found out about the server then."""
    inferred = old.inferred
    if inferred is None or old.model != model:
        return False
    prompts, law = inferred.get("prompts"), inferred.get("log-probabilities")
    same_prompts = prompts == _BARE or (prompts == _AS_ASKED) == (options.chat_template == "none")
    if law == "exact statistics":
        return same_prompts and old.token_stats == options.token_stats
    measures = options.token_stats != "off" and options.engine_args.get("logprobs", "auto") == "auto"
    return same_prompts and options.token_stats != "full" and (law != "off") == measures


def _is_cut(old: Manifest, loaded: LoadedTask, options: SampleOptions) -> bool:
    """Whether only the context can decide whether max_tokens is that of the run.

    So it is if the run had a passed value below the task's and none is passed now, or if "auto" is passed now and was not
    then.
    """
    if options.max_tokens == "auto":
        return old.asked.get("max_tokens") != "auto"
    recommended = (loaded.task.sampling or SamplingParameters()).max_tokens
    asked_less = "max_tokens" in old.asked and old.sampling is not None and old.sampling.max_tokens < recommended
    return options.max_tokens is None and asked_less


def _is_left(run: Run, loaded: LoadedTask, options: SampleOptions) -> bool:
    """Whether rollouts are still to be drawn. True for a shard that cannot be read: the writer sets it aside."""
    names = [problem.id for problem in loaded.problems[: options.limit]]
    try:
        drawn = run.drawn()
        spans = list(spans_missing(drawn, names, options.n, options.draw_batch))
        if not spans or options.stop_after is None:
            return bool(spans)
        verifier = reading_statements(loaded.open_verifier(), run)
        correct = Grader(run, verifier).correct(drawn)
    except RunError:
        return True
    return Plan(spans, stop_after=options.stop_after, correct=correct, drawn=drawn).next() is not None


def stored_context(path: str) -> int | None:
    """The context in tokens by the configuration in a checkpoint's folder; None where it is not there."""
    try:
        config = json.loads((Path(path) / "config.json").read_bytes())
        context = (config.get("text_config") or config).get("max_position_embeddings")
    except (OSError, ValueError, AttributeError, RecursionError):
        return None
    return context if isinstance(context, int) else None


def _check_room(path: str, options: SampleOptions) -> None:
    """Raises BadArgument for a max_tokens that leaves no room for a prompt in the model's context."""
    context = stored_context(path)
    if isinstance(options.max_tokens, int) and context is not None:
        allowed = f"the model's context of {context} leaves no room for a prompt"
        check(options.max_tokens < context, "--max-tokens", options.max_tokens, allowed)
