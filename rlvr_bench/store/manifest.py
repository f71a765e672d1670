"""Reading the manifest of a run folder."""

from __future__ import annotations

from pathlib import Path

import msgspec

from rlvr_bench.errors import RunError
from rlvr_bench.manifest import SCHEMA, Manifest, Session, TaskFacts, installed_packages
from rlvr_bench.received import decode
from rlvr_bench.store.paths import read_if_there

__all__ = ["SCHEMA", "Manifest", "Session", "TaskFacts", "installed_packages", "read_manifest"]


def read_manifest(file: Path) -> Manifest | None:
    """The manifest; None without the file. Raises RunError where it is no manifest or has another schema version."""
    content = read_if_there(file)
    if content is None:
        return None
    try:
        schema = decode(content, dict).get("schema")
        if schema != SCHEMA:
            raise RunError(f"{file}: schema {schema!r}, this version of rlvr-bench reads {SCHEMA}")
        return decode(content, Manifest)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise RunError(f"{file}: not a run manifest ({error})") from error
