"""The prompts of an imported run, where the other program's files hold them: ``prompts.jsonl``, one line per problem."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from rlvr_bench.errors import StorageError
from rlvr_bench.store.paths import read_if_there, write_atomically
from rlvr_bench.store.record_files import damaged
from rlvr_bench.store.run import Run

__all__ = ["StoredPrompt", "read_prompts", "write_prompts"]

StoredPrompt = str | list[dict[str, str]]


class _Line(msgspec.Struct, frozen=True, kw_only=True):
    problem: str
    prompt: StoredPrompt


def write_prompts(run: Run, prompts: Mapping[str, StoredPrompt]) -> None:
    """Write the prompt of each problem: a text, or messages with role and content. Raises StorageError."""
    lines = (msgspec.json.encode(_Line(problem=name, prompt=prompt)) + b"\n" for name, prompt in prompts.items())
    write_atomically(run.path / "prompts.jsonl", lines)


def read_prompts(run: Run) -> dict[str, StoredPrompt]:
    """The prompt of each problem that has one; empty where the run holds none. Raises RunError where they are damaged."""
    file = run.path / "prompts.jsonl"
    try:
        content = read_if_there(file)
        lines = [] if content is None else msgspec.json.Decoder(_Line).decode_lines(content)
    except StorageError:
        raise
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise damaged(file, error) from error
    return {line.problem: line.prompt for line in lines}
