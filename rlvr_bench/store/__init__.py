"""Runs on disk: append-only shards of rollouts and verdicts, and a manifest that records how they were made.

Modules are loaded on first use: paths and manifests need no pyarrow.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

__all__ = ["SCHEMA", "Manifest", "Run", "RunWriter", "Session", "open_run", "run_folder"]

if TYPE_CHECKING:
    from rlvr_bench.store.manifest import SCHEMA, Manifest, Session
    from rlvr_bench.store.names import run_folder
    from rlvr_bench.store.run import Run, RunWriter, open_run

_HOMES = {
    "SCHEMA": "manifest",
    "Manifest": "manifest",
    "Run": "run",
    "RunWriter": "run",
    "Session": "manifest",
    "open_run": "run",
    "run_folder": "names",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
