"""What a model reads of a problem, with special tokens, before anything is drawn."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from rlvr_bench.errors import UnknownName
from rlvr_bench.pipeline import models
from rlvr_bench.pipeline.adapters import resolve_adapter
from rlvr_bench.pipeline.before_loading import check_template_use
from rlvr_bench.pipeline.options import SampleOptions, check
from rlvr_bench.pipeline.run_prompts import asked_template
from rlvr_bench.prompts import QUESTION, PromptTemplate
from rlvr_bench.records import Problem, Prompt
from rlvr_bench.samplers import open_tokenizer
from rlvr_bench.samplers.adapters import read_adapter
from rlvr_bench.samplers.chat_templates import check_template_arguments
from rlvr_bench.samplers.model_files import render, template_digest
from rlvr_bench.task import load_task

__all__ = ["ShownPrompt", "show_prompt"]

_NO_TASK = Problem(id="", question=QUESTION, answer="")


class ShownPrompt(msgspec.Struct, frozen=True, kw_only=True):
    """A prompt as a model reads it, or as the template has it where no model is named.

    ``text``: what is read, with special tokens; the raw text where no model is named. ``tokens``: its length, and
    ``chat_template`` the SHA-256 of the template that was applied, both None without a model.
    """

    prompt: str
    prompt_sha256: str
    problem: str
    model: str | None
    chat_template: str | None
    tokens: int | None
    messages: tuple[dict[str, str], ...]
    text: str
    policy: str
    stop: tuple[str, ...]


def show_prompt(
    name: str,
    task: str | None = None,
    model: str | None = None,
    problem: str | None = None,
    options: SampleOptions | None = None,
    data_dir: Path | None = None,
) -> ShownPrompt:
    """The prompt ``name`` (or the one in that file) for a problem of a task, the first one by default.

    Without a task, ``{question}`` stays as it is. ``system``, ``chat_template`` and ``chat_template_args`` of ``options``
    apply as in a run. Raises UnknownName, DataError, ModelError, BadArgument; loads no weights.
    """
    options = dataclasses.replace(options or SampleOptions(), prompt=name)
    loaded = None if task is None else load_task(task, data_dir)
    asked = _NO_TASK if loaded is None else _problem(loaded.problems, problem)
    template = asked_template(name, options)
    check(options.adapter is None or model is not None, "--adapter", options.adapter, "needs its base: --model")
    prompt = template.render(asked)
    read = _Read(None, None, prompt.text) if model is None else _as_read(model, prompt, template, options)
    return ShownPrompt(
        prompt=template.name,
        prompt_sha256=template.digest,
        problem=asked.id,
        model=None if model is None else options.checkpoint(model),
        chat_template=read.chat_template,
        tokens=read.tokens,
        messages=prompt.messages,
        text=read.text,
        policy=template.policy,
        stop=template.stop,
    )


class _Read(NamedTuple):
    tokens: int | None
    chat_template: str | None
    text: str


def _as_read(model: str, prompt: Prompt, template: PromptTemplate, options: SampleOptions) -> _Read:
    why = "shows no prompt: name the folder or hub id of a checkpoint"
    check(not models.is_endpoint(model) and not models.is_fake(model, options), "--model", model, why)
    if options.adapter is not None:  # it is checked, and the prompts are those of its base
        read_adapter(resolve_adapter(options.adapter))
    tokenizer = open_tokenizer(models.resolve_model(model))
    digest = template_digest(tokenizer, options.chat_template, prompt)
    check_template_use(template, options, digest)
    check_template_arguments(tokenizer, options.chat_template_args)
    ids = render(tokenizer, prompt, options.chat_template, options.chat_template_args)
    return _Read(len(ids), digest, tokenizer.decode(ids, clean_up_tokenization_spaces=False))


def _problem(problems: Sequence[Problem], name: str | None) -> Problem:
    if name is None:
        return problems[0]
    by_id = {problem.id: problem for problem in problems}
    if name not in by_id:
        raise UnknownName("problem", name, [*by_id][:20], "(the first 20)")
    return by_id[name]
