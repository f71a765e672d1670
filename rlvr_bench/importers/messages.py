"""The text of chat messages, which most programs store as a list of objects with ``role`` and ``content``."""

from __future__ import annotations

__all__ = ["plain"]

_DEEPEST = 16


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
