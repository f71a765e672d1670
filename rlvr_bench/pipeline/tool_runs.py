"""What differs in a run with ``--tools``: its prompts, its sampler, and what its verifier reads."""

from __future__ import annotations

import dataclasses

from rlvr_bench.errors import BadArgument
from rlvr_bench.pipeline.options import SampleOptions
from rlvr_bench.pipeline.run_prompts import check_policy
from rlvr_bench.prompts import PromptTemplate
from rlvr_bench.records import Prompt
from rlvr_bench.samplers.protocol import Sampler
from rlvr_bench.samplers.tools import ToolSampler, with_instruction
from rlvr_bench.store.run import Run
from rlvr_bench.task import LoadedTask
from rlvr_bench.verifiers import Verifier
from rlvr_bench.verifiers.base import PolicyVerifier
from rlvr_bench.verifiers.transcript import StatedAnswers

__all__ = ["reading_statements", "render_prompts", "with_tools"]


def render_prompts(template: PromptTemplate, loaded: LoadedTask, options: SampleOptions) -> dict[str, Prompt]:
    """Prompts by problem id; with tools, they include the instruction on how to run code.

    With tools, raises BadArgument for a task whose answer is a program: the tool would run it instead.
    """
    if options.tools is None:
        return {problem.id: template.render(problem) for problem in loaded.problems}
    if loaded.task.verifier == "code":
        allowed = f"not with {loaded.task.name}, whose answers are programs themselves"
        raise BadArgument("--tools", options.tools, allowed)
    return {problem.id: template.render(with_instruction(problem)) for problem in loaded.problems}


def with_tools(sampler: Sampler, options: SampleOptions) -> Sampler:
    """The sampler, with an interpreter for its model if the options ask for tools.

    Raises BadArgument without a sandbox.
    """
    if options.tool_limits is None:
        return sampler
    return ToolSampler(sampler, options.tool_limits, keep_tokens=options.token_stats == "full")


def reading_statements(verifier: Verifier, run: Run) -> Verifier:
    """The verifier, which extracts answers by the policy of the run's prompt where that asks for no box.

    For a run with tools, it reads what the model wrote and not what its code printed. Raises as ``check_policy``.
    """
    template = run.manifest.template
    if template is not None and template.policy and isinstance(verifier, PolicyVerifier) and verifier.policy == "boxed":
        check_policy(template)
        verifier = dataclasses.replace(verifier, policy=template.policy)
    return verifier if run.manifest.tools is None else StatedAnswers(verifier)
