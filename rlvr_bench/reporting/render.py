"""The page: template, charting library, data and style in one file, which runs only its own two scripts."""

from __future__ import annotations

import base64
import functools
import hashlib
from collections.abc import Mapping, Sequence
from importlib import resources

import msgspec

from rlvr_bench import __version__
from rlvr_bench.reporting.content import PageTask

__all__ = ["render", "render_labels", "script_json"]

# One script, in this order.
SCRIPTS = (
    "core.js",
    "look.js",
    "charts.js",
    "reach.js",
    "caps.js",
    "sets.js",
    "policy.js",
    "training.js",
    "shifts.js",
    "rates.js",
    "reasoning.js",
    "rollouts.js",
    "opinions.js",
    "verifier.js",
    "summary.js",
    "main.js",
)
# In JSON these characters occur in strings only, where their escapes mean the same. Without < and & no text can end the
# script element or open a comment in it; U+2028 and U+2029 end lines in older JavaScript.
_ESCAPES = str.maketrans({char: f"\\u{ord(char):04x}" for char in "<>&\u2028\u2029"})


def render(tasks: Sequence[PageTask]) -> str:
    """The page. Its content security policy allows its two scripts, by their hashes, and no network."""
    names = ", ".join(task.task for task in tasks)
    title = f"{names}: {sum(len(task.runs) for task in tasks)} runs"
    scripts = {"library": _library(), "program": "".join(_asset(name) for name in SCRIPTS)}
    return _filled("page", title, scripts, tasks)


def render_labels(title: str, data: object) -> str:
    """The page to label rollouts on, with the same policy."""
    return _filled("label", title, {"program": _asset("label.js")}, data)


def _filled(name: str, title: str, scripts: Mapping[str, str], data: object) -> str:
    """The template ``name`` with its style, its scripts by name, and data."""
    import jinja2
    from markupsafe import Markup

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(_asset(f"{name}.html.j2")).render(
        title=title,
        version=__version__,
        policy=f"default-src 'none'; script-src {' '.join(map(_hash, scripts.values()))}; style-src 'unsafe-inline'; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'",
        style=Markup(_asset(f"{name}.css")),  # noqa: S704  our own file
        data=Markup(script_json(data)),  # noqa: S704  escaped there
        **{key: Markup(script) for key, script in scripts.items()},  # noqa: S704
    )


def script_json(value: object) -> str:
    """JSON that is safe inside a script element, with any texts."""
    return msgspec.json.encode(value).decode().translate(_ESCAPES)


@functools.cache
def _library() -> str:
    """The charting library as plotly ships it."""
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs())


def _asset(name: str) -> str:
    return (resources.files("rlvr_bench.reporting") / "assets" / name).read_text("utf-8")


def _hash(script: str) -> str:
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return f"'sha256-{digest}'"
