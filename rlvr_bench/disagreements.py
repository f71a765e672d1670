"""Rollouts of an imported run on which our verifier and the other program disagree.

A run keeps both verdicts of each rollout: the other program's in ``verdicts/imported:PROGRAM-...``, ours next to it.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from rlvr_bench.records import STATUSES, Problem, Status
from rlvr_bench.scorecard import THEIRS
from rlvr_bench.store.paths import inside, write_atomically
from rlvr_bench.store.run import Run
from rlvr_bench.store.shards import ShardFolder
from rlvr_bench.store.verdicts import VERDICT_SCHEMA, current_grading
from rlvr_bench.tables import no_formula

__all__ = ["Disagreement", "Disagreements", "read_disagreements", "write_disagreements"]

_CORRECT, _ERROR = STATUSES.index("correct"), STATUSES.index("error")
_Keys = npt.NDArray[np.int64]
_Codes = npt.NDArray[np.int8]


class Disagreement(msgspec.Struct, frozen=True, kw_only=True):
    """One rollout that only one of the two calls correct. ``reason``: the kind of our verdict, where it has one."""

    problem_id: str
    index: int
    gold: str
    theirs: Status
    their_answer: str | None
    ours: Status
    our_answer: str | None
    reason: str | None


class Disagreements(msgspec.Struct, frozen=True, kw_only=True):
    """How our verdicts and another program's differ on the same rollouts: correct or not.

    ``compared`` rollouts have a verdict of both. Of these ``only_ours`` are correct by ours alone, ``only_theirs`` by the
    program's alone. ``without_theirs`` and ``without_ours`` rollouts have no verdict, or an error. ``rows``: the rollouts
    on which the two differ, by problem and index; the first ones only, where a limit was asked for.
    """

    program: str
    verifier: str
    compared: int
    only_ours: int
    only_theirs: int
    without_theirs: int
    without_ours: int
    rows: tuple[Disagreement, ...]

    @property
    def differ(self) -> int:
        """How many rollouts the two differ on."""
        return self.only_ours + self.only_theirs

    @property
    def summary(self) -> str:
        """The counts in one line."""
        if not self.compared:
            text = "ours and theirs cannot be compared: no rollout has both verdicts"
        elif not self.differ:
            text = f"ours and theirs agree on all {self.compared:,}"
        else:
            text = (
                f"ours and theirs differ on {self.differ:,} of {self.compared:,} ({100 * self.differ / self.compared:.1f} %): "
                f"{self.only_ours:,} ours correct, theirs wrong; {self.only_theirs:,} ours wrong, theirs correct"
            )
        lacking = [(self.without_theirs, "theirs"), (self.without_ours, "ours")]
        missing = [f"{count:,} without a verdict of {whose}" for count, whose in lacking if count]
        return f"{text}; not compared: {', '.join(missing)}" if missing else text


def read_disagreements(run: Run, most: int | None = None) -> Disagreements | None:
    """Compare both verdicts of every rollout of an imported run; at most ``most`` rows.

    None where the run was not imported, has no verdicts of ours, or none of the other program's. Raises RunError where a
    shard is damaged.
    """
    grading, folder = current_grading(run), _their_folder(run)
    if grading is None or folder is None or grading.folder == folder:
        return None
    problems = run.problems()
    ids = pa.array([problem.id for problem in problems])
    layers = [
        ShardFolder(inside(run.path, "verdicts", name), VERDICT_SCHEMA, run.largest_index)
        for name in (folder, grading.folder)
    ]
    theirs, ours = _joined(*(_statuses(shards, ids) for shards in layers))
    keys, (their_codes, our_codes) = theirs[0], (theirs[1], ours[1])
    has_theirs, has_ours = their_codes != _ERROR, our_codes != _ERROR
    both = has_theirs & has_ours
    differs = both & ((their_codes == _CORRECT) != (our_codes == _CORRECT))
    chosen = keys[differs][:most]
    return Disagreements(
        program=_program(layers[0]),
        verifier=grading.judge,
        compared=int(both.sum()),
        only_ours=int((differs & (our_codes == _CORRECT)).sum()),
        only_theirs=int((differs & (their_codes == _CORRECT)).sum()),
        without_theirs=int((~has_theirs).sum()),
        without_ours=int((has_theirs & ~has_ours).sum()),
        rows=tuple(_rows(chosen, problems, *(_verdicts(shards, ids, chosen) for shards in layers))),
    )


def write_disagreements(file: Path, result: Disagreements) -> None:
    """Write all rows as a CSV file, which a spreadsheet opens without running anything in it. Raises StorageError."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(Disagreement.__struct_fields__)
    for row in result.rows:
        cells = msgspec.structs.astuple(row)
        writer.writerow(no_formula(cell) if isinstance(cell, str) else cell for cell in cells)
    write_atomically(file, text.getvalue().encode("utf-8", "backslashreplace"))


def _their_folder(run: Run) -> str | None:
    """The name of the folder with the other program's verdicts."""
    folder = inside(run.path, "verdicts")
    if run.manifest.imported is None or not folder.is_dir():
        return None
    return min((child.name for child in folder.iterdir() if child.name.startswith(THEIRS)), default=None)


def _program(shards: ShardFolder) -> str:
    """The program that gave these verdicts, with its version where that is known."""
    for table in shards.read(["verifier", "version"]):
        if table.num_rows:
            name, version = (str(table[column][0].as_py()) for column in ("verifier", "version"))
            return f"{name.removeprefix(THEIRS)}{'' if version == 'unknown' else f' {version}'}"
    return ""


def _keys(table: pa.Table, ids: pa.Array) -> _Keys:
    """A number for each rollout, (m,), ordered by problem, then by index; negative for a problem that is not in ``ids``."""
    number = pc.fill_null(pc.index_in(table["problem_id"].cast(pa.string()), value_set=ids), -1)
    return np.asarray(number.to_numpy().astype(np.int64) << 32 | table["index"].to_numpy())


def _statuses(shards: ShardFolder, ids: pa.Array) -> tuple[_Keys, _Codes]:
    """The last verdict of every rollout: sorted numbers and status codes, both (R,)."""
    keys, codes = [np.empty(0, np.int64)], [np.empty(0, np.int8)]
    for table in shards.read(["problem_id", "index", "status"]):
        code = pc.index_in(table["status"].cast(pa.string()), value_set=pa.array(STATUSES))
        keys.append(_keys(table, ids))
        codes.append(pc.fill_null(code, _ERROR).to_numpy().astype(np.int8))
    every, code = np.concatenate(keys)[::-1], np.concatenate(codes)[::-1]
    distinct, last = np.unique(every, return_index=True)  # the first of the reversed ones is the last written
    return distinct[distinct >= 0], code[last][distinct >= 0]


def _joined(theirs: tuple[_Keys, _Codes], ours: tuple[_Keys, _Codes]) -> tuple[tuple[_Keys, _Codes], ...]:
    """Both over the rollouts of either, (R,); a missing verdict is an error."""
    every = np.union1d(theirs[0], ours[0])
    joined = []
    for keys, codes in (theirs, ours):
        filled = np.full(len(every), _ERROR, np.int8)
        filled[np.searchsorted(every, keys)] = codes
        joined.append((every, filled))
    return tuple(joined)


def _verdicts(shards: ShardFolder, ids: pa.Array, chosen: _Keys) -> dict[int, dict[str, Any]]:
    """Status, answer and kind of the chosen rollouts, by their numbers."""
    verdicts: dict[int, dict[str, Any]] = {}
    for table in shards.read(["problem_id", "index", "status", "answer", "kind"]):
        keys = _keys(table, ids)
        at = np.isin(keys, chosen)
        rows = table.filter(pa.array(at)).select(["status", "answer", "kind"]).to_pylist()
        verdicts |= zip(keys[at].tolist(), rows, strict=True)
    return verdicts


def _rows(
    chosen: _Keys, problems: list[Problem], theirs: Mapping[int, Any], ours: Mapping[int, Any]
) -> Iterator[Disagreement]:
    for key in chosen.tolist():
        problem = problems[key >> 32]
        yield Disagreement(
            problem_id=problem.id,
            index=key & 0xFFFFFFFF,
            gold=problem.answer,
            theirs=theirs[key]["status"],
            their_answer=theirs[key]["answer"],
            ours=ours[key]["status"],
            our_answer=ours[key]["answer"],
            reason=ours[key]["kind"],
        )
