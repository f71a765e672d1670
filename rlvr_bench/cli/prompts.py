"""The verb ``prompts``: lists the named prompts, and shows what a model reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from rlvr_bench.cli.messages import print_json
from rlvr_bench.cli.options import (
    MODEL_HELP,
    TASK_HELP,
    Adapter,
    AsJson,
    ChatTemplate,
    ChatTemplateArg,
    DataDir,
    System,
    template_arguments,
)
from rlvr_bench.cli.tables import AsFormat
from rlvr_bench.cli.terminal import Terminal
from rlvr_bench.options import SampleOptions

if TYPE_CHECKING:
    from rlvr_bench.pipeline.shown_prompts import ShownPrompt

__all__ = ["register"]

Name = Annotated[str, typer.Argument(metavar="NAME|FILE", help="Name of a prompt, or a file with one.")]
Task = Annotated[str | None, typer.Option("--task", "-t", help=TASK_HELP)]
Model = Annotated[str | None, typer.Option("--model", "-m", help=MODEL_HELP + " Only its tokenizer is loaded.")]
ProblemId = Annotated[str | None, typer.Option("--problem", help="Id of a problem. Default: the task's first.")]


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    prompts_app = typer.Typer(
        help="The named prompts, and what a model reads of them.", no_args_is_help=True, rich_markup_mode=None
    )
    prompts_app.command("list")(prompts_list)
    prompts_app.command("show")(prompts_show)
    app.add_typer(prompts_app, name="prompts")


def prompts_list(format_: AsFormat = "table", as_json: AsJson = False) -> None:
    """List the named prompts."""
    from rlvr_bench.cli.show import show_table
    from rlvr_bench.prompts import PROMPTS

    if as_json:
        print_json([*PROMPTS.values()])
        return
    rows = []
    for name, template in PROMPTS.items():
        begins = (template.system or template.user or template.text)[:100].replace("\n", " ")
        rows.append([name, template.digest[:12], begins])
    show_table(Terminal(), "", ["prompt", "hash", "begins with"], rows, format_)


def prompts_show(
    name: Name,
    task: Task = None,
    model: Model = None,
    adapter: Adapter = None,
    problem: ProblemId = None,
    system: System = None,
    chat_template: ChatTemplate = "auto",
    chat_template_arg: ChatTemplateArg = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Show exactly what a model reads, with special tokens; without --model, the template itself."""
    from rlvr_bench.pipeline.shown_prompts import show_prompt

    arguments = template_arguments(chat_template_arg)
    options = SampleOptions(system=system, chat_template=chat_template, chat_template_args=arguments, adapter=adapter)
    shown = show_prompt(name, task, model, problem, options, data_dir)
    if as_json:
        print_json(shown)
    else:
        _show(shown)


def _show(shown: ShownPrompt) -> None:
    console = Terminal()
    about = [f"{shown.prompt} ({shown.prompt_sha256[:12]})", *filter(None, [shown.problem])]
    if shown.model is not None:
        how = f"the chat template of {shown.model}" if shown.chat_template else "no chat template: raw text"
        about += [how, f"{shown.tokens} tokens", f"ends in {shown.text[-12:]!r}"]
    console.print(", ".join(about), soft_wrap=True)
    if shown.model is None and shown.messages:
        for message in shown.messages:
            console.print(f"--- {message['role']} (models with a chat template)\n{message['content']}", soft_wrap=True)
        console.print("--- raw text (models without one)", soft_wrap=True)
    else:
        console.print("---", soft_wrap=True)
    console.print(shown.text, soft_wrap=True)
