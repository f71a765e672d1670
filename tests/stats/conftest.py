"""Turns on run-time checks of every shape and type annotation in rlvr_bench.stats, for these tests only.

The package names jaxtyping only under TYPE_CHECKING, so a core install does without it. Here the annotations are
resolved after import and every function is wrapped, whichever module imported it first.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import types
import typing
from collections.abc import Callable, Iterator
from typing import Any

import beartype
import jaxtyping
import numpy.typing as npt
import pytest

import rlvr_bench.stats as package

NAMES = {"npt": npt, "Callable": Callable} | {name: getattr(jaxtyping, name) for name in ("Bool", "Float64", "Int64")}


def checked(function: types.FunctionType, module: types.ModuleType) -> Callable[..., Any]:
    hints = typing.get_type_hints(function, globalns={**NAMES, **vars(module)})
    function.__annotations__ = hints
    return typing.cast("Callable[..., Any]", jaxtyping.jaxtyped(function, typechecker=beartype.beartype))


@pytest.fixture(scope="session", autouse=True)
def check_shapes() -> Iterator[None]:
    modules = [importlib.import_module(f"{package.__name__}.{info.name}") for info in pkgutil.iter_modules(package.__path__)]
    wrapped: dict[types.FunctionType, Callable[..., Any]] = {}
    for module in modules:
        for function in vars(module).values():
            if inspect.isfunction(function) and function.__module__ == module.__name__:
                wrapped[function] = checked(function, module)
    with pytest.MonkeyPatch.context() as patch:
        for module in [*modules, package]:
            for name, value in list(vars(module).items()):
                if inspect.isfunction(value) and value in wrapped:
                    patch.setattr(module, name, wrapped[value])
        yield
