"""Deprecation warnings of engines' libraries stay inside; ours, and every other kind, go out."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import warnings

import pytest

from rlvr_bench.samplers.quiet import for_processes, without_deprecations

SCRIPT = """
import sys, types, warnings
from rlvr_bench.samplers.quiet import without_deprecations
def warn(module, category):
    exec(compile("import warnings; warnings.warn('from %s', c)" % module, module, "exec"), {"__name__": module, "c": category})
with without_deprecations():
    for module in ("transformers.cache_utils", "torch", "vllm.config", "rlvr_bench.samplers.transformers"):
        warn(module, FutureWarning)
        warn(module, DeprecationWarning)
    warn("transformers.cache_utils", UserWarning)
    warn("numpy", FutureWarning)
    warn("rlvr_bench.grading", DeprecationWarning)
    warn("transformersx", FutureWarning)
warn("torch", FutureWarning)
"""


def test_only_deprecations_of_engines_are_held_back() -> None:
    said = subprocess.run([sys.executable, "-W", "default", "-c", SCRIPT], capture_output=True, text=True, check=True)
    shown = [line.split(": ", 1)[1] for line in said.stderr.splitlines() if "Warning: " in line]
    assert shown == [
        "UserWarning: from transformers.cache_utils",
        "FutureWarning: from numpy",
        "DeprecationWarning: from rlvr_bench.grading",
        "FutureWarning: from transformersx",
        "FutureWarning: from torch",
    ]


def test_a_library_that_logs_them_is_held_back_too(capsys: pytest.CaptureFixture[str]) -> None:
    logger, handler = logging.getLogger("transformers"), logging.StreamHandler()
    logger.addHandler(handler)
    try:
        with without_deprecations():
            logging.getLogger("transformers.x").warning("`torch_dtype` is deprecated! Use `dtype` instead!")
            logging.getLogger("transformers.x").warning("the weights are odd")
        logging.getLogger("transformers.x").warning("`y` is deprecated")
    finally:
        logger.removeHandler(handler)
    assert capsys.readouterr().err.splitlines() == ["the weights are odd", "`y` is deprecated"]


def test_the_state_is_put_back_after_an_error() -> None:
    before = list(warnings.filters)
    with pytest.raises(KeyError), without_deprecations():
        raise KeyError
    assert list(warnings.filters) == before


def test_processes_are_told_and_the_users_wish_comes_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONWARNINGS", "default::DeprecationWarning")
    code = "import warnings; warnings.warn('a', FutureWarning); warnings.warn('b', DeprecationWarning)"
    environment = {**os.environ, "PYTHONWARNINGS": for_processes()}
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert "DeprecationWarning: b" in said.stderr
    assert "FutureWarning" not in said.stderr
