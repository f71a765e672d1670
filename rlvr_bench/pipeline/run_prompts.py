"""The prompt template of a run: the one asked for, and the one that a stored run was drawn with."""

from __future__ import annotations

from rlvr_bench.options import SampleOptions, check
from rlvr_bench.prompts import PromptTemplate, open_prompt
from rlvr_bench.task import Task

__all__ = ["asked_template"]


def asked_template(task: Task, options: SampleOptions) -> PromptTemplate:
    """The template of ``options``, else the task's, with the system message of ``options`` if there is one.

    Raises UnknownName, DataError; BadArgument for a system message where the template has no messages.
    """
    template = open_prompt(options.prompt or task.prompt)
    if options.system is None:
        return template
    check(bool(template.user), "--system", options.system, f"prompt {template.name} has no messages: it is raw text")
    return template.with_system(options.system)
