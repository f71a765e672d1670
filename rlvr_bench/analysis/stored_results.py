"""Reading the stored results of the analyses of a run, by name: rescorings, solve rates and interventions."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from rlvr_bench.analysis.intervention_results import INTERVENTIONS_SCHEMA, Interventions
from rlvr_bench.analysis.reach_results import REACH_SCHEMA, Reach
from rlvr_bench.analysis.shift_results import RESCORE_SCHEMA, Rescoring
from rlvr_bench.errors import RunError, StorageError
from rlvr_bench.store.record_files import read_record

__all__ = ["read_interventions", "read_reaches", "read_rescorings"]

T = TypeVar("T")


def read_rescorings(run: Path) -> dict[str, Rescoring]:
    """The finished rescorings of the run in folder ``run``, ``rescored/<name>/rescore.json``, by name.

    Raises RunError where a file is damaged or of another schema.
    """
    results = {}
    for file in sorted(run.glob("rescored/*/rescore.json")):
        result = _read(file, Rescoring)
        _check_schema(file, result.schema, RESCORE_SCHEMA)
        results[file.parent.name] = result
    return results


def read_reaches(run: Path) -> dict[str, Reach]:
    """The solve rates stored in the run in folder ``run``, ``reach/<name>.json``, by name.

    Raises RunError where a file is damaged or of another schema.
    """
    results = {}
    for file in sorted(run.glob("reach/*.json")):
        result = _read(file, Reach)
        _check_schema(file, result.schema, REACH_SCHEMA)
        results[file.stem] = result
    return results


def read_interventions(run: Path) -> dict[str, Interventions]:
    """The finished interventions of the run in folder ``run``, ``interventions/<name>/result.json``, by name.

    Raises RunError where a file is damaged or of another schema.
    """
    results = {}
    for file in sorted(run.glob("interventions/*/result.json")):
        result = _read(file, Interventions)
        _check_schema(file, result.design.schema, INTERVENTIONS_SCHEMA)
        results[file.parent.name] = result
    return results


def _read(file: Path, kind: type[T]) -> T:
    try:
        return read_record(file, kind, "Delete it and run the same command again.")
    except StorageError as error:
        raise RunError(str(error)) from error


def _check_schema(file: Path, schema: int, known: int) -> None:
    if schema != known:
        raise RunError(f"{file}: schema {schema}, this version of rlvr-bench reads {known}")
