"""The prompt template that a run is asked for with."""

from __future__ import annotations

from rlvr_bench.errors import VerifierError
from rlvr_bench.options import SampleOptions, check
from rlvr_bench.prompts import PromptTemplate, open_prompt
from rlvr_bench.verifiers.extraction import open_policy

__all__ = ["asked_template", "check_policy"]


def asked_template(default: str, options: SampleOptions) -> PromptTemplate:
    """The template of ``options``, else the one called ``default``, with the system message of ``options`` if there is one.

    Raises UnknownName, DataError; as ``check_policy``; BadArgument for a system message where the template has no messages.
    """
    template = open_prompt(options.prompt or default)
    check_policy(template)
    if options.system is None:
        return template
    check(bool(template.user), "--system", options.system, f"prompt {template.name} has no messages: it is raw text")
    return template.with_system(options.system)


def check_policy(template: PromptTemplate) -> None:
    """Raises VerifierError where the template names an unknown extraction policy, or a regular expression.

    Anybody may have written the template of a run, and a regular expression may take for ever.
    """
    if template.policy.startswith("regex:"):
        raise VerifierError(f"prompt {template.name}: its policy is a regular expression, which only a task may have")
    if template.policy:
        open_policy(template.policy)
