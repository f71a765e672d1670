"""The order of what the verbs take: their subject, options, grading, progress, engines; and the order it was before."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from rlvr_bench.pipeline.options import GradeOptions

__all__ = ["grading_before_progress"]

P = ParamSpec("P")
R = TypeVar("R")
_GRADING, _PROGRESS = 3, 4  # where ``sample`` takes them


def grading_before_progress(verb: Callable[P, R]) -> Callable[P, R]:
    """A verb that for one more version takes its fourth and fifth argument in the old order too, with a DeprecationWarning."""

    @functools.wraps(verb)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        grading, progress = (args[at] if len(args) > at else None for at in (_GRADING, _PROGRESS))
        if (grading is None or isinstance(grading, GradeOptions)) and not isinstance(progress, GradeOptions):
            return verb(*args, **kwargs)
        order = "(model, task, options, grading, progress, engines)"
        warnings.warn(f"{verb.__name__} takes {order}, and no longer progress before grading", DeprecationWarning, 2)
        given = {"progress": grading, "grading": progress, "engines": args[_PROGRESS + 1] if len(args) > 5 else None}
        named = {name: value for name, value in given.items() if value is not None}
        return verb(*args[:_GRADING], **{**named, **kwargs})  # type: ignore[arg-type]

    return run
