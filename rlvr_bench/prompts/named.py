r"""The named prompt templates, each with its source."""

from __future__ import annotations

from rlvr_bench.prompts.template import PromptTemplate

__all__ = ["PROMPTS"]

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
