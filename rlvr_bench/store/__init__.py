"""Runs on disk: append-only shards of rollouts and verdicts, and a manifest that says how they were made."""

from rlvr_bench.store.manifest import SCHEMA, Manifest, Session
from rlvr_bench.store.names import run_folder
from rlvr_bench.store.run import Run, RunWriter, open_run

__all__ = ["SCHEMA", "Manifest", "Run", "RunWriter", "Session", "open_run", "run_folder"]
