r"""Prompt templates by name. A prompt changes the measurement, so the manifest records the hash of each.

A template holds the message for a model with a chat template, and the raw text for a model without one. ``{question}`` is
the only placeholder; it is replaced literally, so that braces in LaTeX stay as they are.
"""

from __future__ import annotations

import hashlib
import json

import msgspec

from rlvr_bench.errors import UnknownName
from rlvr_bench.records import Problem, Prompt

__all__ = ["PROMPTS", "PromptTemplate", "open_prompt"]


class PromptTemplate(msgspec.Struct, frozen=True, kw_only=True):
    """``text`` is sent unchanged to a model without a chat template; other models get ``user`` and ``system``.

    Where ``user`` is empty, every model gets ``text``.
    """

    name: str
    text: str
    user: str = ""
    system: str = ""

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of the template's content."""
        return hashlib.sha256(json.dumps([self.text, self.user, self.system]).encode()).hexdigest()

    def render(self, problem: Problem) -> Prompt:
        """The prompt of one problem. It does not contain the answer."""
        messages = []
        if self.user:
            if self.system:
                messages.append({"role": "system", "content": self.system})
            messages.append({"role": "user", "content": self.user.replace("{question}", problem.question)})
        return Prompt(
            problem_id=problem.id, text=self.text.replace("{question}", problem.question), messages=tuple(messages)
        )


_BOXED = "Please reason step by step, and put your final answer within \\boxed{}."

PROMPTS: dict[str, PromptTemplate] = {
    template.name: template
    for template in (
        # The Qwen2.5-Math prompt, used for base and RL models alike in the pass@k literature (arXiv 2504.13837): the raw
        # text spells out ChatML because a base checkpoint often comes without its chat template.
        PromptTemplate(
            name="qwen-boxed",
            text="<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n{question}\n"
            + _BOXED
            + "<|im_end|>\n<|im_start|>assistant\n",
            user="{question}\n" + _BOXED,
        ),
        # For checkpoints that know neither ChatML nor instructions. No space after "Answer:": tokenizers attach the space
        # to the next word, and a trailing one would push the model off its distribution.
        PromptTemplate(
            name="simple-boxed",
            text="Question:\n{question}\n" + _BOXED + "\nAnswer:",
            user="{question}\n" + _BOXED,
        ),
        # The question alone, never through a chat template.
        PromptTemplate(name="raw", text="{question}"),
        # HumanEval-style completion for chat models; base models continue the program itself.
        PromptTemplate(
            name="python-function",
            text="{question}",
            user="Complete the following Python function. Give the whole program in one ```python block.\n\n"
            "```python\n{question}\n```",
        ),
        PromptTemplate(
            name="python-program",
            text='"""\n{question}\n"""\n',
            user="{question}\n\nGive the whole program in one ```python block.",
        ),
    )
}


def open_prompt(name: str) -> PromptTemplate:
    """The template of that name. Raises UnknownName, which lists the names."""
    if name not in PROMPTS:
        raise UnknownName("prompt", name, PROMPTS)
    return PROMPTS[name]
