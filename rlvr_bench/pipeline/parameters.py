"""The order of the verbs' parameters: subject, options, grading, progress, engines; accepts the old order as well."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from rlvr_bench.pipeline.options import GradeOptions

__all__ = ["grading_before_progress"]

P = ParamSpec("P")
R = TypeVar("R")
_GRADING, _PROGRESS = 3, 4  # positions of these parameters in ``sample``


def grading_before_progress(verb: Callable[P, R]) -> Callable[P, R]:
    """The verb, which also accepts its 4th and 5th argument in the old order, with a DeprecationWarning.

    The old order is accepted for one more version.
    """

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
