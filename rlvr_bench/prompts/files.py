"""Reads a prompt template from a file: TOML, or text. A file is data, nothing in it is run."""

from __future__ import annotations

import tomllib
from pathlib import Path

import msgspec

from rlvr_bench.errors import DataError, in_one_line
from rlvr_bench.prompts.template import QUESTION, PromptTemplate

__all__ = ["is_prompt_file", "read_prompt_file"]

_SUFFIXES = (".toml", ".txt", ".md")
_LARGEST = 2**20  # bytes
_KEYS = ("system", "user", "text", "messages", "policy", "stop")
_ROLES = ("system", "developer", "user", "assistant")


def is_prompt_file(name: str) -> bool:
    """Whether ``name`` is a path and not the name of a prompt."""
    return "/" in name or name.lower().endswith(_SUFFIXES)


def read_prompt_file(name: str) -> PromptTemplate:
    """The template in a file; its name is made from its content, so that the file can be moved.

    A ``.toml`` file has ``user`` with ``{question}`` (and ``system``, ``[[messages]]`` with role and content) for models
    with a chat template, ``text`` with ``{question}`` for models without one, or both; ``policy`` and ``stop`` if wanted.
    Any other file is the user message and the text in one; a line break at its end is left out. Raises DataError.
    """
    content = _read(Path(name).expanduser())
    if name.lower().endswith(".toml"):
        template = _from_toml(name, content)
    else:
        template = PromptTemplate(name="", text=content.removesuffix("\n"), user=content.removesuffix("\n"))
    _check_question(name, template)
    return msgspec.structs.replace(template, name=f"file-{template.digest[:8]}")


def _read(file: Path) -> str:
    if file.exists() and not file.is_file():  # a pipe without a writer would wait for ever
        raise DataError(f"{file}: not a plain file. --prompt takes a name or a file")
    try:
        with file.open("rb") as stream:
            content = stream.read(_LARGEST + 1)
    except OSError as error:
        raise DataError(
            f"{file}: cannot be read ({error.strerror or error}). --prompt takes a name or a file"
        ) from error
    if len(content) > _LARGEST:
        raise DataError(f"{file}: a prompt file has at most {_LARGEST:,} bytes")
    try:
        return content.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: not text in UTF-8 ({error.reason} at byte {error.start})") from error


def _from_toml(name: str, content: str) -> PromptTemplate:
    try:
        values = tomllib.loads(content)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise DataError(f"{name}: not TOML ({in_one_line(str(error))})") from error
    for key, value in values.items():
        if key not in _KEYS:
            raise DataError(f"{name}: unknown key {key!r}. Known: {', '.join(_KEYS)}.")
        if key not in ("messages", "stop") and not isinstance(value, str):
            raise DataError(f"{name}: {key} must be a text, it is {in_one_line(repr(value), 60)}")
    shots = _messages(name, values.get("messages", []))
    user, system = values.get("user", ""), values.get("system", "")
    if not user and shots and shots[-1]["role"] == "user":
        user = shots.pop()["content"]
    if not system and shots and shots[0]["role"] == "system":
        system = shots.pop(0)["content"]
    if (system or shots) and not user:
        raise DataError(
            f'{name}: has system or messages, and no user message after them: add user = "...{QUESTION}..."'
        )
    return PromptTemplate(
        name="",
        text=values.get("text", ""),
        user=user,
        system=system,
        shots=tuple(shots),
        policy=values.get("policy", ""),
        stop=_stop(name, values.get("stop", [])),
    )


def _stop(name: str, stop: object) -> tuple[str, ...]:
    if not isinstance(stop, list) or not all(isinstance(text, str) and text for text in stop):
        raise DataError(f"{name}: stop must be a list of texts, none of them empty")
    return tuple(stop)


def _messages(name: str, messages: object) -> list[dict[str, str]]:
    if not isinstance(messages, list):
        raise DataError(f"{name}: messages must be tables: [[messages]] with role and content")
    for number, message in enumerate(messages, 1):
        where = f"{name}: message {number}"
        if not isinstance(message, dict) or message.keys() != {"role", "content"}:
            raise DataError(f"{where}: must have role and content, and nothing else")
        if message["role"] not in _ROLES:
            raise DataError(
                f"{where}: role {in_one_line(repr(message['role']), 40)}, must be one of {', '.join(_ROLES)}"
            )
        if not isinstance(message["content"], str):
            raise DataError(f"{where}: its content must be a text")
    return list(messages)


def _check_question(name: str, template: PromptTemplate) -> None:
    parts = {"user": template.user, "text": template.text}
    used = {key: value for key, value in parts.items() if value} or parts
    for key, value in used.items():
        if QUESTION not in value:
            raise DataError(f"{name}: {key} has no {QUESTION}, where the problem goes. Add it")
        if "{" + QUESTION + "}" in value:
            raise DataError(f"{name}: {key} has {{{QUESTION}}}: write {QUESTION}, with one brace on each side")
    for shot in template.shots:
        if QUESTION in shot["content"]:
            raise DataError(f"{name}: an example has {QUESTION}, which belongs into the last user message only")
