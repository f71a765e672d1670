"""Hides the deprecation warnings of engines' libraries: users of an evaluation cannot do anything about them."""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from collections.abc import Iterator

__all__ = ["for_processes", "without_deprecations"]

_CATEGORIES = (FutureWarning, DeprecationWarning, PendingDeprecationWarning)
_LIBRARIES = ("torch", "transformers", "vllm")
# Python attributes a warning to the module that called the deprecated function: the library, or our file that calls it.
_MODULES = r"(torch|transformers|vllm|rlvr_bench\.samplers)(\.|$)"


@contextlib.contextmanager
def without_deprecations() -> Iterator[None]:
    """A context that hides deprecation warnings of engines' libraries; all other warnings are shown."""
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
    """A value of PYTHONWARNINGS that does the same in new processes. The user's value is last, so it has priority."""
    filters = [f"ignore::{category.__name__}" for category in _CATEGORIES]
    return ",".join([*filters, *filter(None, [os.environ.get("PYTHONWARNINGS")])])


def _is_news(record: logging.LogRecord) -> bool:
    return "deprecated" not in record.getMessage().lower()
