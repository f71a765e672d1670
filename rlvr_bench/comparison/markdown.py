"""Text that others wrote, as it must stand in a Markdown table."""

from __future__ import annotations

import re

__all__ = ["as_markdown"]

# Inside a word @, # and _ mean nothing: pass@64 and error_rate stay as they are.
_SPECIAL = re.compile(r"[\\`*\[\]<>|~$&]|(?<!\w)[@#_]|_(?!\w)|:(?=//)|(?<=www)\.", re.IGNORECASE)
_BREAKS = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029]+")


def as_markdown(text: str) -> str:
    """``text`` on one line, what Markdown or HTML could read as theirs written as character references.

    Backslashes would do for most, but renderers disagree on which; and a name must neither link, mention nor format.
    """
    return _SPECIAL.sub(lambda found: f"&#{ord(found[0])};", _BREAKS.sub(" ", text))
