"""What a run with ``--tools`` does differently: how it asks, how it draws, and what of a response its verifier reads."""

from __future__ import annotations

from rlvr_bench.errors import BadArgument
from rlvr_bench.pipeline.options import SampleOptions
from rlvr_bench.prompts import PromptTemplate
from rlvr_bench.records import Prompt
from rlvr_bench.samplers.protocol import Sampler
from rlvr_bench.samplers.tools import ToolSampler, with_instruction
from rlvr_bench.store.run import Run
from rlvr_bench.task import LoadedTask
from rlvr_bench.verifiers import Verifier
from rlvr_bench.verifiers.transcript import StatedAnswers

__all__ = ["reading_statements", "render_prompts", "with_tools"]


def render_prompts(template: PromptTemplate, loaded: LoadedTask, options: SampleOptions) -> dict[str, Prompt]:
    """Prompts by problem id, with the instruction on how to run code where the model may.

    Raises BadArgument for a task whose answer is a program: its blocks would be run, not handed in.
    """
    if options.tools is None:
        return {problem.id: template.render(problem) for problem in loaded.problems}
    if loaded.task.verifier == "code":
        allowed = f"not with {loaded.task.name}, whose answers are programs themselves"
        raise BadArgument("--tools", options.tools, allowed)
    return {problem.id: template.render(with_instruction(problem)) for problem in loaded.problems}


def with_tools(sampler: Sampler, options: SampleOptions) -> Sampler:
    """The sampler, its model given an interpreter where the options say so. Raises BadArgument without a sandbox."""
    if options.tool_limits is None:
        return sampler
    return ToolSampler(sampler, options.tool_limits, keep_tokens=options.token_stats == "full")


def reading_statements(verifier: Verifier, run: Run) -> Verifier:
    """The verifier, reading what the model stated and not what its code printed."""
    return verifier if run.manifest.tools is None else StatedAnswers(verifier)
