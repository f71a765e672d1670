"""A graded run as flat arrays: rollouts joined with their current verdicts, without texts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from rlvr_bench.errors import RunError, StorageError
from rlvr_bench.received import decode
from rlvr_bench.records import STATUSES, Outcomes, Problem, ProfileSums
from rlvr_bench.samplers.summary import PROFILE_BINS
from rlvr_bench.store.paths import inside, read_if_there
from rlvr_bench.store.record_files import write_record
from rlvr_bench.store.run import Run
from rlvr_bench.store.shards import ShardFolder
from rlvr_bench.store.verdicts import VERDICT_SCHEMA, check_folder_name, current_grading
from rlvr_bench.text_rules import FLAGS
from rlvr_bench.verifiers.extraction import THOUGHTS
from rlvr_bench.verifiers.instructions import InstructionVerifier, read_followed

__all__ = ["other_verdicts", "read_outcomes", "record_stopping", "stopped_on"]

_STATISTICS = ("logprob_sum", "entropy_mean", "branching_mean", "high_entropy_share")
_BOUNDS = ("entropy_low", "entropy_high", "branching_low", "branching_high")
_TOOLS = ("tool_calls", "tool_errors")


def read_outcomes(run: Run) -> Outcomes:
    """Join the run's rollouts with its verdicts. Raises RunError where the run is not graded, or only in part.

    Shards are read one at a time into the arrays. Memory beyond the arrays is a few bytes per rollout.
    """
    grading = current_grading(run)
    if grading is None:
        raise RunError(f"{run.path}: not graded yet. Run `rlvr-bench grade {run.path}` first.")
    problems = run.problems()
    ids = pa.array([problem.id for problem in problems])
    bounds = _BOUNDS if run.manifest.token_stats == "bounds" else ()
    tools = _TOOLS if run.manifest.tools else ()
    rows = _RowOrder(run.rollouts, ids)
    rollouts = _rollouts(run.rollouts, rows, (*_STATISTICS, *bounds, *tools))
    shards = ShardFolder(inside(run.path, "verdicts", grading.folder), VERDICT_SCHEMA, run.largest_index)
    golds = [problem.answer.strip() for problem in problems]
    verdicts = _verdicts(shards, rows, rollouts.pop("text_hash"), run, golds)
    # Our wrong verdicts always have an answer; another program may give a verdict without one.
    nameless = bool((verdicts["answer"][verdicts["status"] == STATUSES.index("wrong")] < 0).any())
    unknown = [name for name, is_known in (*rollouts.pop("known"), *verdicts.pop("known")) if not is_known]
    unsaid = grading.verifier.startswith("imported:") and (nameless or "no_answer" in grading.unsaid)
    unknown += [name for name, missing in (("answer", nameless), ("no_answer", unsaid)) if missing]
    if grading.verifier == InstructionVerifier.name:
        verdicts["followed"] = _followed(shards, rows, verdicts["status"])
        verdicts["instructions"] = tuple(_length_of(problem, "instructions") for problem in problems)
    verdicts["flags"]["unclosed_thought"] = _unclosed(
        verdicts.pop("thought"), rollouts["truncated"], run.manifest.opens_thought, is_known="truncated" not in unknown
    )
    outcomes = Outcomes(
        problem_ids=tuple(problem.id for problem in problems),
        tiers=tuple(problem.tier for problem in problems),
        clusters=tuple(problem.cluster for problem in problems),
        problem=rows.problem,
        index=rows.index,
        asked=run.manifest.n,
        stopping=run.manifest.stopping,
        unknown=tuple(unknown),
        options=tuple(_length_of(problem, "order") for problem in problems),
        **rollouts,
        **verdicts,
    )
    return msgspec.structs.replace(outcomes, entropy_profile=_profile(run.rollouts, rows, outcomes))


def record_stopping(run: Run, folder: str) -> None:
    """Record in ``stopping.json`` which verdicts the stopping rule uses from now on. Raises StorageError."""
    write_record(run.path / "stopping.json", {"verdicts": folder})


def stopped_on(run: Run) -> str | None:
    """The folder of the verdicts that the stopping rule used last; None where that is not recorded."""
    content = read_if_there(run.path / "stopping.json")
    try:
        folder = decode(content, dict[str, str])["verdicts"] if content is not None else None
        if folder is not None:
            check_folder_name(folder)
    except (msgspec.DecodeError, KeyError, ValueError):  # damaged or written by another program: treated as missing
        return None
    return folder


def other_verdicts(
    run: Run, outcomes: Outcomes, only: str | None = None
) -> Iterator[tuple[str, npt.NDArray[np.bool_]]]:
    """Yields the run's verdicts that are not current: their folder's name, and which rollouts (R,) they call correct.

    Folders are in the order of their names; with ``only``, just that folder. A folder that lacks a verdict of any
    rollout is left out.
    """
    grading = current_grading(run)
    folder = inside(run.path, "verdicts")
    names = sorted(child.name for child in folder.iterdir() if child.is_dir()) if folder.is_dir() else []
    rows = _RowOrder(run.rollouts, pa.array(outcomes.problem_ids))
    hashes = np.empty(len(rows), np.int64)
    for at, table in rows.read(run.rollouts, ["text_hash"]):
        hashes[at] = table["text_hash"].to_numpy()
    for name in names:
        if grading is None or name == grading.folder or only not in (None, name):
            continue
        shards = ShardFolder(inside(run.path, "verdicts", name), VERDICT_SCHEMA, run.largest_index)
        try:
            status = _verdicts(shards, rows, hashes, run, [])["status"]
        except (RunError, StorageError):  # damaged, or not for all rollouts: cannot be used
            continue
        yield name, status == STATUSES.index("correct")


class _RowOrder:
    """The row of each rollout: by problem, in the order of ``ids``, then by index."""

    def __init__(self, shards: ShardFolder, ids: pa.Array) -> None:
        self._ids = ids
        parts = [keys[keys >= 0] for keys, _ in self._keys(shards, [])]
        if not any(map(len, parts)):
            raise RunError(f"{shards.path}: no rollouts in it yet")
        self._sorted = np.concatenate(parts)
        self._sorted.sort()
        if twice := int((self._sorted[1:] == self._sorted[:-1]).sum()):
            raise RunError(f"{shards.path}: {twice} rollouts are stored twice. Run the same evaluate or sample again.")

    def __len__(self) -> int:
        return len(self._sorted)

    @property
    def problem(self) -> npt.NDArray[np.int32]:
        return (self._sorted >> 32).astype(np.int32)

    @property
    def index(self) -> npt.NDArray[np.int32]:
        return (self._sorted & 0xFFFFFFFF).astype(np.int32)

    def read(self, shards: ShardFolder, columns: list[str]) -> Iterator[tuple[npt.NDArray[np.int64], pa.Table]]:
        """For each shard: the row numbers of its known rollouts, (m,), and their columns."""
        for keys, table in self._keys(shards, columns):
            at = np.searchsorted(self._sorted, keys)
            is_known = self._sorted[np.minimum(at, len(self) - 1)] == keys
            kept = table if is_known.all() else table.filter(pa.array(is_known))
            yield at[is_known], kept.combine_chunks()

    def _keys(self, shards: ShardFolder, columns: list[str]) -> Iterator[tuple[npt.NDArray[np.int64], pa.Table]]:
        for table in shards.read(["problem_id", "index", *columns]):
            number = pc.index_in(table["problem_id"].cast(pa.string()), value_set=self._ids)
            high = pc.fill_null(number, -1).to_numpy().astype(np.int64) << 32
            yield high | table["index"].to_numpy(), table


def _rollouts(shards: ShardFolder, rows: _RowOrder, statistics: Sequence[str]) -> dict[str, Any]:
    n = len(rows)
    columns: dict[str, Any] = {name: np.empty(n) for name in statistics}
    columns |= {"text_hash": np.empty(n, np.int64), "n_tokens": np.empty(n, np.int32), "truncated": np.empty(n, bool)}
    nulls = {"n_tokens": 0, "finish_reason": 0}
    for at, table in rows.read(shards, ["text_hash", *nulls, *statistics]):
        for name in statistics:
            columns[name][at] = table[name].to_numpy()
        for name in nulls:
            nulls[name] += table[name].null_count
        columns["text_hash"][at] = table["text_hash"].to_numpy()
        columns["n_tokens"][at] = pc.fill_null(table["n_tokens"], 0).to_numpy()
        cut = pc.equal(table["finish_reason"].cast(pa.string()), "length")
        columns["truncated"][at] = pc.fill_null(cut, False).to_numpy()
    known = [("n_tokens", not nulls["n_tokens"]), ("truncated", not nulls["finish_reason"])]
    text = np.unique(columns["text_hash"], return_inverse=True)[1].astype(np.int32)
    return columns | {"text": text, "known": known}


def _profile(shards: ShardFolder, rows: _RowOrder, outcomes: Outcomes) -> ProfileSums | None:
    """Sums of the profiles of the fair rollouts; None for a run without profiles."""
    shape = (len(outcomes.problem_ids), len(STATUSES), PROFILE_BINS)
    sums = ProfileSums(np.zeros(shape), np.zeros(shape, dtype=np.int64))
    total, count = sums.total.reshape(-1, PROFILE_BINS), sums.count.reshape(-1, PROFILE_BINS)
    is_fair = outcomes.is_fair
    for at, table in rows.read(shards, ["entropy_profile"]):
        used = table["entropy_profile"].is_valid().to_numpy() & is_fair[at]
        profiles = table["entropy_profile"].filter(pa.array(used)).combine_chunks()
        values = profiles.flatten().to_numpy(zero_copy_only=False)
        known, at = ~np.isnan(values), at[used]  # NaN in bins without tokens
        # Sums of the shard's cells first: the work must not grow with the number of problems.
        cells, row = np.unique(outcomes.problem[at] * len(STATUSES) + outcomes.status[at], return_inverse=True)
        bins = (row[:, None] * PROFILE_BINS + np.arange(PROFILE_BINS)).ravel()[known]
        size = len(cells) * PROFILE_BINS
        total[cells] += np.bincount(bins, weights=values[known], minlength=size).reshape(-1, PROFILE_BINS)
        count[cells] += np.bincount(bins, minlength=size).reshape(-1, PROFILE_BINS)
    return sums if count.any() else None


def _verdicts(
    shards: ShardFolder, rows: _RowOrder, text_hash: npt.NDArray[np.int64], run: Run, golds: Sequence[str]
) -> dict[str, Any]:
    """The verdict of each rollout, by row, given for the text that is stored now; and the ``golds``."""
    n = len(rows)
    columns: dict[str, Any] = {"status": np.full(n, -1, np.int8), "candidates": np.empty(n, np.int32)}
    answers = np.full(n, -1, np.int32)
    flags: dict[str, Any] = {name: np.zeros(n, bool) for name in FLAGS}
    thought = np.full(n, -1, np.int8)
    codes: dict[str, int] = {}
    nulls = 0
    for at, table in rows.read(shards, ["text_hash", "status", "answer", "candidates", "thought", *FLAGS]):
        same = text_hash[at] == table["text_hash"].to_numpy()
        at, table = at[same], table.filter(pa.array(same)).combine_chunks()
        columns["status"][at] = _codes(table["status"])
        nulls += table["candidates"].null_count
        columns["candidates"][at] = pc.fill_null(table["candidates"], 0).to_numpy()
        thought[at] = _codes(table["thought"], THOUGHTS)
        answers[at] = _shared_codes(table["answer"], codes)
        for name in FLAGS:
            if table[name].null_count and flags[name].dtype == bool:
                flags[name] = flags[name].astype(np.float32)  # NaN where unknown
            flags[name][at] = pc.cast(table[name], pa.float32()).to_numpy() if table[name].null_count else table[name]
    if missing := int((columns["status"] < 0).sum()):
        raise RunError(f"{run.path}: {missing} rollouts have no verdict. Run `rlvr-bench grade {run.path}` first.")
    numbered = _numbered(answers)
    distinct, first = np.unique(answers, return_index=True)
    number = dict(zip(distinct.tolist(), numbered[first].tolist(), strict=True))
    of_golds = tuple(number.get(codes.get(gold, -1), -1) for gold in golds)
    columns |= {"answer": numbered, "golds": of_golds, "flags": flags, "thought": thought}
    return columns | {"known": [("candidates", not nulls)]}


def _length_of(problem: Problem, name: str) -> int:
    """The length of a list in a problem's data; 0 without it, or if it is something else."""
    value = problem.data.get(name)
    return len(value) if isinstance(value, list) else 0


def _followed(shards: ShardFolder, rows: _RowOrder, status: npt.NDArray[np.int8]) -> npt.NDArray[np.float64]:
    """How many instructions each response follows, strictly and loosely, (R, 2): none without an answer, NaN for an error."""
    followed = np.full((len(rows), 2), np.nan)
    followed[status == STATUSES.index("no_answer")] = 0.0
    for at, table in rows.read(shards, ["kind"]):
        kinds = pc.dictionary_encode(table["kind"].cast(pa.string()).combine_chunks())
        counts = [read_followed(kind) or (np.nan, np.nan) for kind in kinds.dictionary.to_pylist()]
        index = pc.fill_null(kinds.indices, -1).to_numpy(zero_copy_only=False)
        known = index >= 0
        if counts:
            followed[at[known]] = np.array(counts)[index[known]]
    return followed


def _unclosed(
    thought: npt.NDArray[np.int8], truncated: npt.NDArray[np.bool_], opened: bool | None, *, is_known: bool
) -> npt.NDArray[Any]:
    """The rollouts (R,) that were cut before they closed their thought; NaN where that is not known.

    ``opened``: whether the prompts open a thought. Where that was not recorded, a response that closes a thought which it
    did not open shows it.
    """
    none, open_, _, closed_only = range(len(THOUGHTS))
    if opened is None:
        opened = bool((thought == closed_only).any())
    unclosed: npt.NDArray[np.bool_] = truncated & ((thought == open_) | (opened & (thought == none)))
    if is_known and (thought >= 0).all():
        return unclosed
    return np.where((thought >= 0) & is_known, unclosed, np.nan).astype(np.float32)


def _shared_codes(values: pa.ChunkedArray, codes: dict[str, int]) -> npt.NDArray[np.int32]:
    """A number for each value, the same in every shard; -1 for null."""
    encoded = pc.dictionary_encode(values.combine_chunks())
    numbers = [codes.setdefault(value, len(codes)) for value in encoded.dictionary.to_pylist()]
    lookup = np.array([*numbers, -1], dtype=np.int32)  # index -1, for null, is the last entry
    return np.asarray(lookup[pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False)])


def _numbered(values: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """Distinct values numbered in order of first appearance; -1 (none) stays."""
    codes = pa.array(values, mask=values == -1).dictionary_encode().indices
    return np.asarray(pc.fill_null(codes, -1).to_numpy(zero_copy_only=False), dtype=np.int32)


def _codes(values: pa.ChunkedArray, names: Sequence[str] = STATUSES) -> npt.NDArray[np.int8]:
    """The number of each value among ``names``; -1 for null."""
    codes = pc.index_in(values.cast(pa.string()), value_set=pa.array(names))
    return np.asarray(pc.fill_null(codes, -1).to_numpy(), dtype=np.int8)
