"""Which names a chat template uses, so that an argument with a wrong name is refused and not ignored."""

from __future__ import annotations

from collections.abc import Mapping

import jinja2
import jinja2.ext
import jinja2.meta
import jinja2.nodes
import jinja2.sandbox
from jinja2.parser import Parser

from rlvr_bench.errors import BadArgument, ModelError, UnknownName, in_one_line
from rlvr_bench.samplers.tokenizer import Tokenizer

__all__ = ["check_template_arguments"]

# Hugging Face and vLLM set these themselves.
_SET_BY_ENGINES = frozenset(
    {
        *("messages", "add_generation_prompt", "continue_final_message", "tokenize", "raise_exception", "strftime_now"),
        *("bos_token", "eos_token", "pad_token", "unk_token", "sep_token", "cls_token", "mask_token", "chat_template"),
        *("additional_special_tokens", "return_tensors", "return_dict", "padding", "truncation", "max_length"),
    }
)


class _Generation(jinja2.ext.Extension):
    """The block ``{% generation %}`` of Hugging Face's templates, which marks the words of the assistant."""

    def __init__(self, environment: jinja2.Environment) -> None:
        super().__init__(environment)
        self.tags = {"generation"}

    def parse(self, parser: Parser) -> jinja2.nodes.Node | list[jinja2.nodes.Node]:
        """The content of the block."""
        line = next(parser.stream).lineno
        return jinja2.nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True), lineno=line)


def check_template_arguments(tokenizer: Tokenizer, arguments: Mapping[str, object]) -> None:
    """Check arguments for the tokenizer's chat template, which it must have if there are any.

    Raises UnknownName for one that the template does not use, BadArgument for one that the engine sets, ModelError where
    the template is not one of Jinja.
    """
    if not arguments:
        return
    template = tokenizer.get_chat_template()
    # Nothing is rendered here: the template is only read.
    environment = jinja2.sandbox.SandboxedEnvironment(extensions=["jinja2.ext.loopcontrols", _Generation])
    try:
        used = jinja2.meta.find_undeclared_variables(environment.parse(template))
    except (jinja2.TemplateError, RecursionError) as error:
        raise ModelError(f"the model's chat template cannot be read: {in_one_line(str(error))}") from error
    for name, value in arguments.items():
        if name in _SET_BY_ENGINES:
            raise BadArgument("--chat-template-arg", f"{name}={value}", "the engine sets this one itself")
        if name not in used:
            raise UnknownName("argument of the model's chat template", name, used - _SET_BY_ENGINES)
