r"""Prompt templates, by name or from a file. A prompt changes the measurement, so the manifest has the hash of each.

A template holds the messages for a model with a chat template, and the raw text for a model without one. ``{question}``
is the only placeholder; it is replaced literally, so that braces in LaTeX stay as they are.
"""

from __future__ import annotations

from rlvr_bench.errors import UnknownName
from rlvr_bench.prompts.files import is_prompt_file, read_prompt_file
from rlvr_bench.prompts.named import PROMPTS
from rlvr_bench.prompts.template import QUESTION, PromptTemplate

__all__ = ["PROMPTS", "QUESTION", "PromptTemplate", "open_prompt"]


def open_prompt(name: str) -> PromptTemplate:
    """The template of that name, or in that file.

    Raises UnknownName, which lists the names; DataError for a file that holds no template.
    """
    if name in PROMPTS:
        return PROMPTS[name]
    if is_prompt_file(name):
        return read_prompt_file(name)
    raise UnknownName("prompt", name, PROMPTS, "A file is a path with / in it, or ends in .toml, .txt or .md.")
