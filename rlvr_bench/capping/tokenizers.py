"""The tokenizer of a run, and its prompts in tokens."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal, NamedTuple

from rlvr_bench.errors import ModelError
from rlvr_bench.pipeline.models import resolve_model
from rlvr_bench.pipeline.run_models import named_model
from rlvr_bench.samplers import open_tokenizer
from rlvr_bench.samplers.model_files import companion_digests, render, template_digest
from rlvr_bench.samplers.tokenizer import Tokenizer
from rlvr_bench.store.run import Run
from rlvr_bench.store.run_prompts import drawn_template

__all__ = ["RunTokens", "run_tokens"]

# Files that decide how text and tokens belong together; a chat template and a configuration do not.
_FILES = re.compile(r"(tokenizer|tekken|vocab|added_tokens)\.json|merges\.txt|.*\.(model|tiktoken)")


class RunTokens(NamedTuple):
    """The tokenizer of a run, and the token ids of each problem's prompt."""

    tokenizer: Tokenizer
    prompts: dict[str, list[int]]


def run_tokens(run: Run, named: str | None = None) -> RunTokens:
    """The tokenizer of the checkpoint that drew a run, and its prompts; ``named``: its folder or hub id, if it was moved.

    Raises ModelError where it cannot be loaded, or is another one than drew the run; RunError where the prompt template
    is lost.
    """
    tokenizer = _tokenizer(run, named)
    return RunTokens(tokenizer, _prompts(run, tokenizer))


def _tokenizer(run: Run, named: str | None) -> Tokenizer:
    model = named_model(run, cached=True) if named is None else resolve_model(named)
    then = run.manifest.model_files or {}
    now = companion_digests(model) or {}
    for name in sorted(then.keys() & now.keys()):
        if _FILES.fullmatch(name) and then[name] != now[name]:
            raise ModelError(f"{Path(model) / name} is not the file that {run.path} was drawn with (model_files)")
    return open_tokenizer(model)


def _prompts(run: Run, tokenizer: Tokenizer) -> dict[str, list[int]]:
    manifest = run.manifest
    mode: Literal["auto", "none"] = "none" if manifest.chat_template is None else "auto"
    template = drawn_template(run)
    prompts = {problem.id: template.render(problem) for problem in run.problems()}
    for prompt in list(prompts.values())[:1]:
        if template_digest(tokenizer, mode, prompt) != manifest.chat_template:
            raise ModelError(f"{manifest.model} has another chat_template than {run.path} was drawn with")
    return {name: render(tokenizer, prompt, mode, manifest.chat_template_args) for name, prompt in prompts.items()}
