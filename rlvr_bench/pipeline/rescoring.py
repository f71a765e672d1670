"""Scores a run's stored rollouts under another checkpoint, and reports how much and where the two differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rlvr_bench.analysis.passages import Prompts, check_tokens, prompts_of, reference_passages
from rlvr_bench.analysis.rescored import (
    SCHEMA,
    Rescored,
    ScoredTokens,
    ScoringManifest,
    StoredRollout,
    rollout_columns,
    stored_rollouts,
)
from rlvr_bench.analysis.shift_results import RESCORE_SCHEMA, Checkpoint, Perplexities, Rescoring
from rlvr_bench.analysis.shifts import Setting, Shifts, token_shifts
from rlvr_bench.analysis.token_categories import RULES_VERSION, TokenPieces, categorise
from rlvr_bench.errors import BadArgument, RlvrBenchError, RunError
from rlvr_bench.options import RescoreOptions, check
from rlvr_bench.pipeline.adapters import check_fit, checkpoint_digest, resolve_adapter
from rlvr_bench.pipeline.folders import find_run
from rlvr_bench.pipeline.models import is_endpoint, resolve_model
from rlvr_bench.pipeline.options import Progress, Silent
from rlvr_bench.pipeline.progress import with_progress
from rlvr_bench.pipeline.run_models import NamedCheckpoint, named_checkpoint
from rlvr_bench.pipeline.run_tasks import kept_facts
from rlvr_bench.records import Estimate
from rlvr_bench.samplers import SamplerOptions, open_scorer, resolve_engine
from rlvr_bench.samplers.logprobs import Passage, Scored, Scorer
from rlvr_bench.scorers.common import cluster_labels, mean_estimate
from rlvr_bench.storage import is_remote
from rlvr_bench.store import Run, Session, open_run
from rlvr_bench.store.outcomes import read_outcomes
from rlvr_bench.store.record_files import write_record
from rlvr_bench.store.shards import Schedule

__all__ = ["RescoreOptions", "prompts_of", "rescore"]

_CHUNK_TOKENS = 2**20  # response tokens passed to the scorer together; it may sort them by length


@with_progress
def rescore(
    run: str | Path, model: str, options: RescoreOptions | None = None, progress: Progress | None = None
) -> Rescoring:
    """Score every stored rollout of ``run`` under ``model`` and compare the two checkpoints; resumes a stopped session.

    Per-token results are stored in ``rescored/<model>/scores/*.parquet`` in the run folder, the returned summary in
    ``rescored/<model>/rescore.json``. Raises RunError where the run has no token ids, ModelError where the model has
    another tokenizer, RunLocked, StorageError, EngineError, BadArgument.
    """
    options, progress = options or RescoreOptions(), progress or Silent()
    opened = open_run(run)
    _check_run(opened)
    drawing_model = _drawing_model(opened, needed=options.exact_kl)
    scorer = _open(model, options, drawing_model)
    name = model if options.adapter is None else options.adapter
    try:
        prompts = prompts_of(opened, scorer, drawing_model and drawing_model.model)
        check_tokens(opened, scorer, prompts)
        divergence = "exact" if options.exact_kl else "sampled"
        with Rescored(opened, name, divergence) as folder:
            folder.agree(_manifest(opened, name, scorer, divergence))
            _score_missing(folder, scorer, prompts.ids, options.n, progress)
            references, note = _reference_perplexities(opened, scorer, prompts)
            summary = _summary(folder, model, scorer, references, options)
            more = [text for text in (prompts.note, note) if text is not None]
            summary = msgspec.structs.replace(summary, notes=(*summary.notes, *more))
            write_record(folder.path / "rescore.json", summary, indent=1)
    finally:
        scorer.close()
    return summary


def _check_run(run: Run) -> None:
    stats = run.manifest.token_stats
    if stats != "full":
        raise RunError(
            f"{run.path}: drawn with --token-stats {stats}, so the tokens themselves were not kept, and a text turned back "
            "into tokens need not be the tokens that were drawn. Draw it with --token-stats full, into another --out folder."
        )
    if run.manifest.tools is not None:
        raise RunError(
            f"{run.path}: drawn with tools, whose output is between the model's tokens. It has no rescoring."
        )


def _drawing_model(run: Run, *, needed: bool) -> NamedCheckpoint | None:
    """The folders of the checkpoint that drew the run; None if it cannot be used, for example not on this machine.

    With ``needed``, raises instead of returning None, and raises BadArgument if the weights have changed.
    """
    name = run.manifest.model
    try:
        path = named_checkpoint(run, cached=True)
        base = resolve_model(run.manifest.base_model or name)
        if needed and checkpoint_digest(base, path.adapter) != run.manifest.weights:
            raise BadArgument("--exact-kl", name, f"the weights of that model are no longer those that drew {run.path}")
    except RlvrBenchError:
        if needed:
            raise
        return None
    return path


def _open(model: str, options: RescoreOptions, drawing_model: NamedCheckpoint | None) -> Scorer:
    check(not is_endpoint(model), "--model", model, "a server cannot score given tokens; name a folder or a hub id")
    check(not model.startswith("fake"), "--model", model, "the fake model has no distribution to score with")
    engine = resolve_engine("transformers" if options.exact_kl and options.engine == "auto" else options.engine)
    path, adapter = resolve_model(model), options.adapter and resolve_adapter(options.adapter)
    if options.adapter is not None:
        check_fit(options.adapter, engine, path, dict(options.engine_args))
    arguments = SamplerOptions(model=path, adapter=adapter, engine_args=options.engine_args)
    if drawing_model is None or not options.exact_kl:
        return open_scorer(engine, arguments)
    return open_scorer(engine, arguments, msgspec.structs.replace(arguments, **drawing_model._asdict()))


def _manifest(run: Run, model: str, scorer: Scorer, divergence: str) -> ScoringManifest:
    info = scorer.info
    return ScoringManifest(
        schema=SCHEMA,
        model=model,
        weights=info.weights,
        engine=info.engine,
        dtype=info.dtype,
        divergence=divergence,
        drawn_by=run.manifest.weights,
        sessions=(Session.now(run.manifest.n, info),),
    )


# ------------------------------------------------------------------------------------------------ scoring
def _score_missing(
    folder: Rescored, scorer: Scorer, prompts: Mapping[str, tuple[int, ...]], n: int | None, progress: Progress
) -> None:
    """Score the rollouts that have no row yet, one shard after another; results are written every few seconds."""
    done = folder.keys()
    total = sum(_wanted(table, folder, n).sum() for table in folder.run.rollouts.read(rollout_columns()[:3]))
    progress.start("rescore", int(total), min(len(done), int(total)))
    for table in folder.run.rollouts.read(rollout_columns()):
        rows = table.filter(pa.array(_wanted(table, folder, n) & ~np.isin(folder.keys_of(table), done)))
        for chunk in _chunks([rollout for rollout in stored_rollouts(rows) if rollout is not None]):
            passages = [Passage(prompts[rollout.problem_id], rollout.ids) for rollout in chunk]
            _store(folder, chunk, scorer.score(passages), progress)


def _wanted(table: pa.Table, folder: Rescored, n: int | None) -> npt.NDArray[np.bool_]:
    known = folder.keys_of(table) != -1
    return np.asarray(known if n is None else known & (table["index"].to_numpy() < n))


def _chunks(rollouts: Sequence[StoredRollout]) -> Iterator[list[StoredRollout]]:
    chunk: list[StoredRollout] = []
    tokens = 0
    for rollout in rollouts:
        chunk.append(rollout)
        tokens += len(rollout.ids)
        if tokens >= _CHUNK_TOKENS:
            yield chunk
            chunk, tokens = [], 0
    if chunk:
        yield chunk


def _store(
    folder: Rescored, chunk: Sequence[StoredRollout], scored: Iterator[tuple[int, Scored]], progress: Progress
) -> None:
    waiting: list[tuple[StoredRollout, Scored]] = []
    schedule = Schedule(sparing=is_remote(folder.path))
    try:
        for number, result in scored:
            waiting.append((chunk[number], result))
            progress.advance(1, len(result.logprob))
            schedule.add(1)
            if schedule.due_in() == 0:
                rows, waiting = waiting, []
                folder.append(rows)
                schedule.written()
    finally:
        folder.append(waiting)


# ------------------------------------------------------------------------------------------------ summing up
def _summary(
    folder: Rescored, model: str, scorer: Scorer, references: Estimate | None, options: RescoreOptions
) -> Rescoring:
    run, notes = folder.run, []
    setting, note = _setting(run, options.threshold)
    notes += [f"correct and wrong rollouts are not separated: {note}"] if note else []
    rule = run.manifest.stopping
    limits = [limit for limit in (options.n, rule and rule.batch) if limit]
    if rule is not None:
        notes.append(
            f"a stopping rule looks at verdicts: only the first {rule.batch} rollouts of each problem are used"
        )
    sampling = run.manifest.sampling
    if sampling is not None and not sampling.is_own_law:
        notes.append(
            f"drawn at {sampling.in_words()}, not from the model's own law: kl_k1 and kl_k3 "
            "are means over these tokens, not unbiased for the divergence (--exact-kl is, at the prefixes drawn)"
        )
    pieces = TokenPieces(scorer.tokenizer)

    def read() -> Iterator[ScoredTokens]:
        for shard in folder.tokens():
            yield shard.kept(shard.index < min(limits)) if limits else shard

    shifts = token_shifts(read, lambda shard: _categories(shard, pieces), setting)
    if not shifts.n_rollouts:
        raise RunError(f"{run.path}: no rollout with stored tokens. Draw it with --token-stats full.")
    own_run, note = _run_of_other(folder, model, options.adapter, scorer, setting)
    notes += [note] if note else []
    return Rescoring(
        schema=RESCORE_SCHEMA,
        run=str(run.path),
        task=run.manifest.task,
        own=Checkpoint(model=run.manifest.model, weights=run.manifest.weights),
        other=Checkpoint(model=options.adapter or model, weights=scorer.info.weights),
        engine=scorer.info.engine,
        dtype=scorer.info.dtype,
        divergence="exact" if options.exact_kl else "sampled",
        threshold=options.threshold,
        category_rules=RULES_VERSION,
        n_problems=shifts.n_problems,
        n_rollouts=shifts.n_rollouts,
        n_tokens=shifts.n_tokens,
        perplexities=Perplexities(
            own_on_own=_estimate(shifts, "own_perplexity"),
            other_on_own=_estimate(shifts, "other_perplexity"),
            other_on_other=own_run,
            other_on_reference=references,
        ),
        estimates=shifts.estimates,
        strata=shifts.strata,
        notes=tuple(notes),
    )


def _setting(run: Run, threshold: float) -> tuple[Setting, str | None]:
    """The setting, its statuses (problems, indices) with -1 for none; and the reason if the run has no verdicts."""
    problems = run.problems()
    clusters = cluster_labels([problem.cluster for problem in problems], [problem.id for problem in problems])
    try:
        outcomes = read_outcomes(run)
    except RunError as error:  # not graded, or not completely: the other results do not need verdicts
        return Setting(len(problems), np.full((len(problems), 1), -1, dtype=np.int8), threshold, clusters), str(error)
    status = np.full((len(problems), int(outcomes.index.max(initial=0)) + 1), -1, dtype=np.int8)
    status[outcomes.problem, outcomes.index] = outcomes.status
    return Setting(len(problems), status, threshold, clusters), None


def _categories(shard: ScoredTokens, pieces: TokenPieces) -> npt.NDArray[np.int8]:
    bounds = np.cumsum(shard.n_tokens)[:-1]
    parts = [categorise(pieces(ids)) for ids in np.split(shard.ids, bounds)]
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int8)


def _estimate(shifts: Shifts, name: str) -> Estimate:
    return next(estimate for estimate in shifts.estimates if estimate.name == name and estimate.group is None)


def _reference_perplexities(run: Run, scorer: Scorer, prompts: Prompts) -> tuple[Estimate | None, str | None]:
    """Mean perplexity of the task's reference solutions under the scorer's model; or None and the reason."""
    facts = kept_facts(run)
    if facts is None:
        return None, f"other_on_reference: the run does not say how the task {run.manifest.task} states a gold answer"
    passages = reference_passages(run.problems(), facts.gold, scorer, prompts)
    if not passages:
        return None, f"other_on_reference: task {run.manifest.task} has no reference solutions"
    try:
        scored = dict(scorer.score([*passages.values()]))
    except BadArgument as error:  # a passage is longer than the model's context
        return None, f"other_on_reference: {error}"
    values = [float(np.exp(-np.mean(result.logprob, dtype=np.float64))) for result in scored.values()]
    label = Estimate(name="perplexity", group="reference", value=None, method="mean over problems' reference solutions")
    return mean_estimate(label, np.array(values), floor=1.0), None


def _run_of_other(
    folder: Rescored, model: str, adapter: str | None, scorer: Scorer, setting: Setting
) -> tuple[Estimate | None, str | None]:
    """Perplexity of the other checkpoint on its rollouts, from its run in the same --out folder; or None and why."""
    run = folder.run
    path = find_run(run.path.parent.parent, model, run.manifest.task, adapter=adapter)
    if not (path / "manifest.json").is_file():
        return None, f"other_on_other: no run of {adapter or model} in {path}"
    beside = open_run(path)
    mine, theirs = run.manifest, beside.manifest
    if theirs.weights != scorer.info.weights or theirs.problems_sha256 != mine.problems_sha256:
        return None, f"other_on_other: {path} holds a run of other weights or problems"
    asked_alike = ("sampling", "prompt_sha256", "chat_template_args")
    if any(getattr(theirs, name) != getattr(mine, name) for name in asked_alike):
        return None, f"other_on_other: {path} was drawn with another prompt or other sampling parameters"
    if theirs.token_stats not in ("full", "summary"):
        return None, f"other_on_other: {path} has no exact token statistics"
    numbers = {problem.id: i for i, problem in enumerate(run.problems())}
    sums, counts = np.zeros(setting.n_problems), np.zeros(setting.n_problems)
    for table in beside.rollouts.read(["problem_id", "index", "n_tokens", "logprob_sum"]):
        problem_index = np.array([numbers.get(name, -1) for name in table["problem_id"].to_pylist()])
        tokens, total = table["n_tokens"].to_numpy(), table["logprob_sum"].to_numpy().astype(np.float64)
        fair = theirs.stopping is None or table["index"].to_numpy() < theirs.stopping.batch
        used = (problem_index >= 0) & (tokens > 0) & fair
        np.add.at(sums, problem_index[used], np.exp(-total[used] / tokens[used]))
        np.add.at(counts, problem_index[used], 1)
    means = np.divide(sums, counts, out=np.full(len(sums), np.nan), where=counts > 0)
    label = Estimate(name="perplexity", group="other on other", value=None)
    return mean_estimate(label, means, floor=1.0, clusters=setting.clusters), None
