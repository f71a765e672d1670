"""The declared surface: sorted, complete, documented, importable."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path

import pytest

import rlvr_bench

PACKAGE = Path(rlvr_bench.__file__).parent


def test_exported_names_are_sorted_and_exist() -> None:
    assert rlvr_bench.__all__ == sorted(rlvr_bench.__all__)
    for name in rlvr_bench.__all__:
        assert getattr(rlvr_bench, name) is not None
        assert name in dir(rlvr_bench)


def test_no_submodule_stands_in_the_way_of_an_exported_name() -> None:
    """Importing ``rlvr_bench.x`` puts the module in the place of an exported function ``x``: so no name may be both."""
    modules = {path.stem for path in PACKAGE.iterdir()}
    assert set(rlvr_bench.__all__) & modules == {"stats"}


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'evalute'"):
        rlvr_bench.evalute  # noqa: B018


@pytest.mark.parametrize("name", [name for name in rlvr_bench.__all__ if name != "stats"])
def test_every_exported_name_has_a_docstring(name: str) -> None:
    assert inspect.getdoc(getattr(rlvr_bench, name))


@pytest.mark.parametrize(
    "module",
    [
        ".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
        for file in sorted(PACKAGE.rglob("*.py"))
        if "vllm" not in file.name and "_tasks" not in file.parts
    ],
)
def test_every_module_says_what_it_is_and_what_it_offers(module: str) -> None:
    imported = importlib.import_module(module)
    assert imported.__doc__
    names = getattr(imported, "__all__", [])
    assert len(names) == len(set(names))
    for name in names:
        assert hasattr(imported, name), f"{module}.__all__ names {name}"
