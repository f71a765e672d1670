"""The verb ``intervene``: swap tokens of a run's responses, let the same model continue, verify, report the effect.

All files are in ``<run>/interventions/<name>/``: ``manifest.json`` (the options and the run they were for),
``sites.parquet`` (the chosen tokens, written once), ``draws/*.parquet`` (every continuation with its verdict) and
``result.json``. A continuation depends only on its site and the seed, so a stopped session can be resumed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from rlvr_bench.analysis.intervention_results import INTERVENTIONS_SCHEMA, InterventionDesign, Interventions
from rlvr_bench.analysis.interventions import (
    CANDIDATES,
    PROTOCOL,
    Site,
    alternative,
    choose_sites,
    digest,
    effects,
    read_sources,
)
from rlvr_bench.errors import BadArgument, EngineError, ModelError, RunError
from rlvr_bench.options import GradeOptions, InterveneOptions, SampleOptions, check
from rlvr_bench.pipeline.continuing import ARMS, CONTINUATIONS, Continuing, begun, continued
from rlvr_bench.pipeline.models import is_fake, open_model
from rlvr_bench.pipeline.options import Progress, Silent
from rlvr_bench.pipeline.progress import with_progress
from rlvr_bench.pipeline.run_models import NamedCheckpoint, named_checkpoint
from rlvr_bench.pipeline.run_tasks import grading_task
from rlvr_bench.pipeline.tool_runs import reading_statements
from rlvr_bench.records import Prompt, SamplingParameters
from rlvr_bench.samplers.engine_arguments import deciding
from rlvr_bench.samplers.protocol import PrefixSampler, Sampler
from rlvr_bench.store import open_run
from rlvr_bench.store.locks import lock_folder
from rlvr_bench.store.paths import inside, read_whole, write_atomically
from rlvr_bench.store.record_files import damaged, read_record, write_record
from rlvr_bench.store.run import Run
from rlvr_bench.store.run_prompts import drawn_template
from rlvr_bench.store.shards import ShardFolder
from rlvr_bench.verifiers.deciding import Decider, require_golds
from rlvr_bench.verifiers.protocol import Verifier

__all__ = ["InterveneOptions", "InterventionDesign", "Interventions", "intervene", "intervene_with"]

_REMEDY = "Choose another --name."


@with_progress
def intervene(
    run: str | Path,
    options: InterveneOptions | None = None,
    grading: GradeOptions | None = None,
    progress: Progress | None = None,
) -> Interventions:
    """Swap tokens of a run's responses and measure how accuracy changes; results are stored in the run folder.

    Raises RunError where the run has no token ids, was drawn with tools, or the interventions of this name have other
    options; ModelError where the model is not the run's; EngineError where the engine cannot continue a prefix.
    """
    options, grading = options or InterveneOptions(), grading or GradeOptions()
    opened = open_run(run)
    read_sources(opened, 1)  # raises before a model is loaded
    model, adapter = NamedCheckpoint(options.model, options.adapter) if options.model else _drawing_model(opened)
    loaded = grading_task(opened, options.task, options.data_dir)
    _check_arguments(opened, options)
    sampler = open_model(model, loaded, _sample_options(opened, options, adapter))
    try:
        verifier = reading_statements(loaded.open_verifier(), opened)
        return intervene_with(sampler, opened, verifier, options, grading, progress or Silent())
    finally:
        sampler.close()


def intervene_with(
    sampler: Sampler,
    run: Run,
    verifier: Verifier,
    options: InterveneOptions,
    grading: GradeOptions,
    progress: Progress,
) -> Interventions:
    """``intervene``, given a sampler and a verifier."""
    able = _check_sampler(sampler, run)
    sampling = _sampling(run)
    check(
        sampling.temperature > 0 or options.repeats == 1,
        "--repeats",
        options.repeats,
        "the run is greedy, and greedy continuations are all alike: take 1",
    )
    sources = read_sources(run, options.rollouts)
    design = _design(run, options, able, digest(sources), verifier)
    folder = inside(run.path, "interventions", options.folder)
    with lock_folder(folder):
        _agree(folder, design)
        prompts = _prompts(run)
        stored = _Sites(folder / "sites.parquet")
        if not stored.file.exists():
            limit = sampling.max_tokens
            chosen = choose_sites(
                sources, options.strata, options.sites, max_tokens=limit, swap=options.swap, seed=options.seed
            )
            stored.write(_with_alternatives(chosen, able, prompts, options))
        sites = stored.read()
        draws = ShardFolder(inside(folder, "draws"), CONTINUATIONS)
        draws.set_aside_damaged()
        golds = require_golds(verifier, run.problems())
        decider = Decider(
            verifier, golds.__getitem__, workers=grading.workers, timeout_s=grading.timeout_s, keep_errors=True
        )
        with decider:
            Continuing(design, sampling, sites, prompts, draws, decider, progress).run(able)
        result = _result(run, design, sites, draws)
        write_record(folder / "result.json", result, indent=1)
    return result


def _drawing_model(run: Run) -> NamedCheckpoint:
    if is_fake(run.manifest.model, SampleOptions()):
        return NamedCheckpoint(run.manifest.model, None)
    try:
        return named_checkpoint(run)
    except ModelError as error:
        names = "--model" if run.manifest.base_model is None else "--model and --adapter"
        raise ModelError(f"{error}. Name the run's checkpoint with {names}") from error


def _sample_options(run: Run, options: InterveneOptions, adapter: str | None) -> SampleOptions:
    chat: Literal["auto", "none"] = "none" if run.manifest.chat_template is None else "auto"
    engine = run.manifest.engine if options.engine == "auto" else options.engine
    return SampleOptions(
        engine=engine,
        chat_template=chat,
        chat_template_args=run.manifest.chat_template_args,
        token_stats="off",
        engine_args=options.engine_args,
        adapter=adapter,
    )


def _check_arguments(run: Run, options: InterveneOptions) -> None:
    """Raises BadArgument where engine arguments differ from the run's. The user must pass them: they can load code."""
    if run.manifest.engine_args is None:
        return
    before, now = deciding(run.manifest.engine_args), deciding(options.engine_args)
    for name in dict.fromkeys((*before, *now)):
        if before.get(name) != now.get(name):
            raise BadArgument("--engine-arg", name, f"the run has {before.get(name)!r}, asked is {now.get(name)!r}")


def _check_sampler(sampler: Sampler, run: Run) -> PrefixSampler:
    """The sampler; raises unless it can continue token ids and has the run's weights and chat template."""
    info, manifest = sampler.info, run.manifest
    if not isinstance(sampler, PrefixSampler):
        raise EngineError(
            f"engine {info.engine!r} cannot continue a prefix of tokens: take --engine transformers or vllm, "
            "with the checkpoint's folder as --model"
        )
    if info.weights != manifest.weights:
        raise ModelError(
            f"{info.model} is not the model of this run (weights {info.weights[:20]}, the run has "
            f"{manifest.weights[:20]}): name its checkpoint with --model"
        )
    if info.chat_template != manifest.chat_template:
        raise ModelError(f"{info.model}: its chat template has changed since the run was drawn")
    return sampler


def _design(
    run: Run, options: InterveneOptions, sampler: PrefixSampler, responses: str, verifier: Verifier
) -> InterventionDesign:
    manifest = run.manifest
    return InterventionDesign(
        schema=INTERVENTIONS_SCHEMA,
        protocol=PROTOCOL,
        **{name: getattr(options, name) for name in ("strata", "swap", "sites", "repeats", "rollouts", "seed")},
        task=manifest.task,
        task_version=manifest.task_version,
        weights=manifest.weights,
        sampling=_sampling(run).recorded(),
        responses_sha256=responses,
        engine=sampler.info.engine,
        dtype=sampler.info.dtype,
        verifier=verifier.name,
        verifier_version=verifier.version,
        verifier_options=msgspec.to_builtins(dict(verifier.options)),
    )


def _agree(folder: Path, design: InterventionDesign) -> None:
    """Create the folder and its manifest, or raise RunError where it holds other interventions."""
    file = folder / "manifest.json"
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_record(file, design)
        return
    before = read_record(file, InterventionDesign, _REMEDY)
    old, new = (msgspec.to_builtins(record) for record in (before, design))
    if differing := [f"{name}: was {old[name]!r}, is {new[name]!r}" for name in old if old[name] != new[name]]:
        raise RunError(f"{folder} holds other interventions ({'; '.join(differing)}). Choose another --name.")


def _sampling(run: Run) -> SamplingParameters:
    """The run's sampling parameters.

    Raises RunError for an imported run, and for parameters that an engine would not apply to the given prefix.
    """
    sampling = run.manifest.sampling
    if sampling is None:
        raise RunError(f"{run.path}: imported, so that it is not known how to go on; draw a run here")
    if sampling.presence_penalty or sampling.stop:
        raise RunError(
            f"{run.path}: drawn at {sampling.in_words()}. A presence penalty and stop strings look at the response alone, "
            "and an engine takes the given part of a response as prompt; draw a run without them"
        )
    return sampling


def _prompts(run: Run) -> dict[str, Prompt]:
    template = drawn_template(run)
    return {problem.id: template.render(problem) for problem in run.problems()}


def _with_alternatives(
    sites: Sequence[Site], sampler: PrefixSampler, prompts: Mapping[str, Prompt], options: InterveneOptions
) -> list[Site]:
    likely = sampler.next_tokens([begun(prompts[site.problem_id], site.prefix) for site in sites], CANDIDATES)
    return [alternative(site, tokens, options.swap, options.seed) for site, tokens in zip(sites, likely, strict=True)]


class _Sites:
    """The chosen tokens on disk: one row for each, written once."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def write(self, sites: Sequence[Site]) -> None:
        rows = [{**msgspec.to_builtins(site), "levels": list(site.levels.items())} for site in sites]
        sink = pa.BufferOutputStream()
        pq.write_table(pa.Table.from_pylist(rows, schema=_SITES), sink, compression="zstd")
        write_atomically(self.file, sink.getvalue().to_pybytes())

    def read(self) -> list[Site]:
        try:
            rows = pq.read_table(pa.BufferReader(read_whole(self.file))).to_pylist()
            return [msgspec.convert({**row, "levels": dict(row["levels"])}, Site) for row in rows]
        except (OSError, pa.ArrowException, msgspec.ValidationError) as error:
            raise damaged(self.file, error, _REMEDY) from error


_SITES = pa.schema(
    [
        ("problem_id", pa.string()),
        ("index", pa.int32()),
        ("token", pa.int32()),
        ("n_tokens", pa.int32()),
        ("levels", pa.map_(pa.string(), pa.string())),
        ("entropy", pa.float64()),
        ("perplexity", pa.float64()),
        ("prefix", pa.list_(pa.int32())),
        ("kept", pa.int32()),
        ("kept_logprob", pa.float64()),
        ("swapped", pa.int32()),
        ("swapped_logprob", pa.float64()),
    ]
)


def _result(run: Run, design: InterventionDesign, sites: Sequence[Site], draws: ShardFolder) -> Interventions:
    counts: npt.NDArray[np.int64] = np.zeros((len(sites), len(ARMS), 2), dtype=np.int64)  # decided, correct
    undecided = total = 0
    for site, arm, status in continued(draws):
        total += 1
        undecided += status == "error"
        counts[site, ARMS.index(arm)] += (status != "error", status == "correct")
    with np.errstate(invalid="ignore"):
        share = counts[..., 1] / np.where(counts[..., 0] > 0, counts[..., 0], np.nan)
    swapped = [site for site in sites if site.swapped is not None]
    chosen = np.array([site.swapped is not None for site in sites], dtype=bool)
    return Interventions(
        design=design,
        model=run.manifest.model,
        n_sites=len(swapped),
        no_alternative=len(sites) - len(swapped),
        draws=total,
        undecided=undecided,
        effects=tuple(effects(swapped, share[chosen, 0], share[chosen, 1], design.strata)),
    )
