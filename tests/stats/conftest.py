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
from collections.abc import Callable
from typing import Any

import jaxtyping
import numpy.typing as npt
from beartype import BeartypeConf, beartype

import rlvr_bench.stats as package

CHECKER = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int is a float, as everywhere in Python
ARRAYS = types.SimpleNamespace(ArrayLike=object, NDArray=npt.NDArray)  # what "array-like" allows, the code checks
NAMES = {"npt": ARRAYS, "Callable": Callable} | {
    name: getattr(jaxtyping, name) for name in ("Bool", "Float64", "Int64")
}


def checked(function: types.FunctionType, module: types.ModuleType) -> Callable[..., Any]:
    hints = typing.get_type_hints(function, globalns={**NAMES, **vars(module)})
    function.__annotations__ = hints
    return jaxtyping.jaxtyped(function, typechecker=CHECKER)


def check_shapes() -> None:
    names = [f"{package.__name__}.{info.name}" for info in pkgutil.iter_modules(package.__path__)]
    modules = [importlib.import_module(name) for name in names]
    wrapped: dict[types.FunctionType, Callable[..., Any]] = {}
    for module in modules:
        functions = [value for value in vars(module).values() if inspect.isfunction(value)]
        wrapped |= {
            function: checked(function, module) for function in functions if function.__module__ == module.__name__
        }
    for module in [*modules, package]:
        for name, value in list(vars(module).items()):
            if inspect.isfunction(value) and value in wrapped:
                setattr(module, name, wrapped[value])


check_shapes()  # while tests are collected: before their modules import a function by name
