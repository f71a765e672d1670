"""Engines' own deprecation warnings are their authors' affair: the user of an evaluation can mend none of them."""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from collections.abc import Iterator

__all__ = ["for_processes", "without_deprecations"]

_CATEGORIES = (FutureWarning, DeprecationWarning, PendingDeprecationWarning)
_LIBRARIES = ("torch", "transformers", "vllm")
# A warning is put down to whoever called what is deprecated: the library itself, or the one file of ours that calls it.
_MODULES = r"(torch|transformers|vllm|rlvr_bench\.samplers)(\.|$)"


@contextlib.contextmanager
def without_deprecations() -> Iterator[None]:
    """Within it, no deprecation warning of an engine's library goes out; every other warning does."""
    handlers = [handler for name in _LIBRARIES for handler in logging.getLogger(name).handlers]
    with warnings.catch_warnings():
        for category in _CATEGORIES:
            warnings.filterwarnings("ignore", category=category, module=_MODULES)
        for handler in handlers:
            handler.addFilter(_is_news)
        try:
            yield
        finally:
            for handler in handlers:
                handler.removeFilter(_is_news)


def for_processes() -> str:
    """The same for processes that are started: a value of PYTHONWARNINGS, in which what the user has set comes last."""
    own = [f"ignore::{category.__name__}" for category in _CATEGORIES]
    return ",".join([*own, *filter(None, [os.environ.get("PYTHONWARNINGS")])])


def _is_news(record: logging.LogRecord) -> bool:
    return "deprecated" not in record.getMessage().lower()
