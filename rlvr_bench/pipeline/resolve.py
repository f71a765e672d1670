"""Resolves options into sampling parameters, and makes the manifest that records both."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from rlvr_bench.errors import BadArgument
from rlvr_bench.pipeline.cautions import cautions
from rlvr_bench.pipeline.folders import path_digest
from rlvr_bench.pipeline.options import SampleOptions, check
from rlvr_bench.pipeline.run_tasks import facts_of
from rlvr_bench.prompts import PromptTemplate
from rlvr_bench.records import NEUTRAL, EngineInfo, Prompt, SamplingParameters, StoppingRule
from rlvr_bench.samplers.engine_arguments import recorded
from rlvr_bench.samplers.generation_config import recommended_sampling
from rlvr_bench.samplers.model_files import companion_digests
from rlvr_bench.samplers.protocol import LimitedSampler, PreparedSampler, ReadingSampler, Sampler
from rlvr_bench.store import SCHEMA, Manifest, Session
from rlvr_bench.task import LoadedTask, Task
from rlvr_bench.verifiers.extraction import ends_in_thought

__all__ = ["make_manifest", "opens_thought", "planned_sampling", "resolve_sampling"]


def planned_sampling(task: Task, options: SampleOptions, template: PromptTemplate, model: str) -> SamplingParameters:
    """For each parameter: the value passed, else the task's or the model's, else the default.

    ``model``: the folder or hub id that is loaded. Does not look at the model's context. Stop strings that are in none of
    these are those of the prompt.

    Raises BadArgument for parameters that a run with tools cannot have.
    """
    sampling = task.sampling or SamplingParameters()
    if options.sampling == "generation-config":
        own = _recommended(model, options)
        sampling = msgspec.structs.replace(NEUTRAL, max_tokens=sampling.max_tokens, stop=sampling.stop, **own)
    sampling = msgspec.structs.replace(sampling, **options.asked())
    if options.stop is None and not sampling.stop:
        sampling = msgspec.structs.replace(sampling, stop=template.stop)
    if options.tools is not None:
        why = "not with --tools: each turn continues the text of the turns before it as a prompt"
        check(not sampling.presence_penalty, "--presence-penalty", sampling.presence_penalty, why)
        check(not sampling.stop, "--stop", list(sampling.stop), why)
    return sampling


def _recommended(model: str, options: SampleOptions) -> dict[str, Any]:
    """The parameters that the model recommends. Raises BadArgument where it recommends none that can be read here."""
    own = recommended_sampling(model, options.engine_args.get("revision"), download=True)
    why = f"{model} has no generation_config.json with sampling parameters that can be read here"
    check(bool(own), "--sampling", options.sampling, why)
    return own


def resolve_sampling(
    task: Task, options: SampleOptions, template: PromptTemplate, sampler: Sampler, prompts: Mapping[str, Prompt]
) -> SamplingParameters:
    """The planned parameters, in the model's context. Prepares the sampler with the prompts.

    A max_tokens that was not passed is cut to the model's context; "auto" is what the context leaves. The longest prompt
    of the whole task decides, so that ``--limit`` changes nothing. Raises BadArgument where a passed max_tokens does not
    fit into the context, or a prompt alone does not, or "auto" meets a model whose context is not known, or the
    sampler cannot use a parameter.
    """
    if isinstance(sampler, PreparedSampler):
        sampler.prepare(list(prompts.values()))
    sampling = planned_sampling(task, options, template, sampler.info.model)
    if isinstance(sampler, LimitedSampler):
        sampler.check_sampling(sampling)
    context = sampler.info.context_tokens
    if context is None:
        why = "the model's context is not known, or its server counts no tokens: pass a number"
        check(options.max_tokens != "auto", "--max-tokens", "auto", why)
        return sampling
    lengths = {name: sampler.prompt_tokens(prompt) for name, prompt in prompts.items()}
    longest = max(lengths, key=lambda name: lengths[name])
    room = context - lengths[longest]
    check(
        room >= 1, "prompt", f"{longest} ({lengths[longest]} tokens)", f"longer than the model's context of {context}"
    )
    if options.max_tokens == "auto":
        return msgspec.structs.replace(sampling, max_tokens=room)
    if options.max_tokens is not None and options.max_tokens > room:
        raise BadArgument(
            "--max-tokens",
            options.max_tokens,
            f"the model's context of {context} leaves {room} after the longest prompt ({longest})",
        )
    return msgspec.structs.replace(sampling, max_tokens=min(sampling.max_tokens, room))


def opens_thought(sampler: Sampler, prompts: Mapping[str, Prompt]) -> bool | None:
    """Whether the prompts end with a thought that they open; None where the sampler does not show them."""
    first = next(iter(prompts.values()))
    if isinstance(sampler, ReadingSampler):
        return ends_in_thought(sampler.prompt_end(first))
    return None if first.messages else ends_in_thought(first.text)


def make_manifest(
    model: str,
    loaded: LoadedTask,
    template: PromptTemplate,
    options: SampleOptions,
    sampling: SamplingParameters,
    info: EngineInfo,
) -> Manifest:
    """The manifest of a run. ``model``: as the user named it, which is the base model where the options have an adapter."""
    warnings = cautions(loaded.task, options, sampling, info)
    return Manifest(
        schema=SCHEMA,
        task=loaded.task.name,
        task_version=loaded.task.version,
        task_file="" if loaded.is_shipped else loaded.reference,
        source=loaded.task.source.describe(),
        problems_sha256=loaded.digest,
        n_problems=len(loaded.problems),
        prompt=template.name,
        prompt_sha256=template.digest,
        chat_template=info.chat_template,
        chat_template_args=dict(options.chat_template_args),
        template=template,
        model=options.checkpoint(model),
        base_model=None if options.adapter is None else model,
        weights=info.weights,
        engine=info.engine,
        dtype=info.dtype,
        token_stats=options.token_stats if info.token_stats == "exact" else info.token_stats,
        sampling=sampling,
        asked=options.asked() | ({"max_tokens": "auto"} if options.max_tokens == "auto" else {}),
        seed=options.seed,
        draw_batch=options.draw_batch,
        stopping=None
        if options.stop_after is None
        else StoppingRule(stop_after=options.stop_after, batch=options.draw_batch),
        n=options.n,
        tools=options.tool_limits,
        facts=facts_of(loaded.task),
        engine_args=recorded(options.engine_args),
        model_files=companion_digests(info.model) if info.engine in ("transformers", "vllm") else None,
        seed_scheme=options.seed_scheme or 2,
        model_path=path_digest(model, options.adapter),
        sessions=(Session.now(options.n, info, warnings),),
        inferred=dict(info.inferred),
        deterministic=options.deterministic,
    )
