"""The text of chat messages, which most programs store as a list of objects with ``role`` and ``content``."""

from __future__ import annotations

__all__ = ["plain", "sent", "without_system"]

_DEEPEST = 16


def sent(prompt: object) -> str | list[dict[str, str]] | None:
    """What a model was sent, as the entries hold it: a text, or messages of text alone; None for anything else."""
    if isinstance(prompt, str):
        return prompt or None
    messages: list[dict[str, str]] = []
    for message in prompt if isinstance(prompt, list) else ():
        role, content = (
            (message.get(name) for name in ("role", "content")) if isinstance(message, dict) else (None, None)
        )
        if not isinstance(role, str) or not isinstance(content, str):
            return None
        messages.append({"role": role, "content": content})
    return messages or None


def without_system(prompt: object) -> str:
    """The text of a prompt without system and developer messages: these say how to answer, not what is asked."""
    if not isinstance(prompt, list):
        return plain(prompt)
    asked = [part for part in prompt if not (isinstance(part, dict) and part.get("role") in ("system", "developer"))]
    return plain(asked or prompt)


def plain(content: object, depth: int = 0) -> str:
    """The text of a message, of messages, or of a content: a text, or a list of parts of which some are texts.

    Lines join the texts. Images, tool calls and whatever is nested too deeply have none.
    """
    if isinstance(content, str):
        return content
    if depth > _DEEPEST:
        return ""
    if isinstance(content, list):
        return "\n".join(filter(None, (plain(part, depth + 1) for part in content)))
    if isinstance(content, dict):
        inner = content.get("content")
        return plain(content.get("text") if inner is None else inner, depth + 1)
    return ""
