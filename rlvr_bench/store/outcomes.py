"""A graded run as flat arrays: rollouts joined with the verdicts in force, texts left behind."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from rlvr_bench.errors import RunError
from rlvr_bench.records import STATUSES, Outcomes
from rlvr_bench.samplers.summary import PROFILE_BINS
from rlvr_bench.store.run import Run
from rlvr_bench.store.shards import ShardFolder
from rlvr_bench.store.verdicts import VERDICT_SCHEMA, current_grading
from rlvr_bench.text_rules import FLAGS

__all__ = ["read_outcomes"]

_STATISTICS = ("logprob_sum", "entropy_mean", "branching_mean", "high_entropy_share")
_BOUNDS = ("entropy_low", "entropy_high", "branching_low", "branching_high")
_TOOLS = ("tool_calls", "tool_errors")
_ROLLOUT_COLUMNS = ["problem_id", "index", "text_hash", "n_tokens", "finish_reason", *_STATISTICS, "entropy_profile"]


def read_outcomes(run: Run) -> Outcomes:
    """Join the run's rollouts with its verdicts. Raises RunError where it is not graded, or not to the end."""
    grading = current_grading(run)
    if grading is None:
        raise RunError(f"{run.path}: not graded yet. Run `rlvr-bench grade {run.path}` first.")
    problems = run.problems()
    ids = pa.array([problem.id for problem in problems])
    bounds = _BOUNDS if run.manifest.token_stats == "bounds" else ()
    tools = _TOOLS if run.manifest.tools else ()
    rollouts = _sorted_table(run.rollouts, [*_ROLLOUT_COLUMNS, *bounds, *tools], ids)
    shards = ShardFolder(run.path / "verdicts" / grading.folder, VERDICT_SCHEMA)
    columns = ["problem_id", "index", "text_hash", "status", "answer", "candidates", *FLAGS]
    verdicts = _sorted_table(shards, columns, ids)
    verdicts = _matching(rollouts, verdicts, run)
    problem, index = _int(rollouts["problem"]), _int(rollouts["index"])
    told = {
        "n_tokens": rollouts["n_tokens"],
        "truncated": rollouts["finish_reason"],
        "candidates": verdicts["candidates"],
    }
    unknown = [name for name, column in told.items() if column.null_count]
    # A wrong verdict of ours always has the answer it is for; another program may give the verdict alone.
    wrong = pc.equal(verdicts["status"].cast(pa.string()), "wrong")
    if pc.any(pc.and_(wrong, pc.is_null(verdicts["answer"]))).as_py():
        unknown.append("answer")
    return Outcomes(
        problem_ids=tuple(problem.id for problem in problems),
        tiers=tuple(problem.tier for problem in problems),
        clusters=tuple(problem.cluster for problem in problems),
        problem=problem,
        index=index,
        status=_codes(verdicts["status"]),
        answer=_numbered(verdicts["answer"]),
        text=_numbered(rollouts["text_hash"]),
        candidates=_int(pc.fill_null(verdicts["candidates"], 0)),
        n_tokens=_int(pc.fill_null(rollouts["n_tokens"], 0)),
        truncated=pc.fill_null(pc.equal(rollouts["finish_reason"].cast(pa.string()), "length"), False).to_numpy(),
        entropy_profile=_profiles(rollouts["entropy_profile"]),
        asked=run.manifest.n,
        stopping=run.manifest.stopping,
        unknown=tuple(unknown),
        flags={name: verdicts[name].to_numpy() for name in FLAGS},
        **{name: _float(rollouts[name]) for name in (*_STATISTICS, *bounds, *tools)},
    )


def _sorted_table(shards: ShardFolder, columns: list[str], ids: pa.Array) -> pa.Table:
    """All rows of the known problems, by problem and index; ``problem`` numbers the ids as given."""
    tables = []
    for table in shards.read(columns):
        number = pc.index_in(table["problem_id"].cast(pa.string()), value_set=ids)
        table = table.drop_columns(["problem_id"]).append_column("problem", number)
        tables.append(table.filter(pc.is_valid(number)))
    if not tables:
        raise RunError(f"{shards.path}: nothing in it yet")
    merged = pa.concat_tables(tables).unify_dictionaries().combine_chunks()
    return merged.sort_by([("problem", "ascending"), ("index", "ascending")])


def _matching(rollouts: pa.Table, verdicts: pa.Table, run: Run) -> pa.Table:
    """The verdict of each rollout, row by row: the one given for the very text that is stored."""
    if verdicts.num_rows != rollouts.num_rows or not verdicts["text_hash"].equals(rollouts["text_hash"]):
        keys = ["problem", "index", "text_hash"]
        numbered = rollouts.select(keys).append_column("row", pa.array(np.arange(rollouts.num_rows)))
        joined = numbered.join(verdicts, keys, join_type="inner").sort_by("row")
        if joined.num_rows != rollouts.num_rows:
            missing = rollouts.num_rows - joined.num_rows
            raise RunError(f"{run.path}: {missing} rollouts have no verdict. Run `rlvr-bench grade {run.path}` first.")
        return joined
    return verdicts


def _numbered(values: pa.ChunkedArray) -> npt.NDArray[np.int32]:
    """Number the distinct values in order of first appearance; -1 for null."""
    codes = pc.fill_null(values.combine_chunks().dictionary_encode().indices, -1).to_numpy(zero_copy_only=False)
    return np.asarray(codes, dtype=np.int32)


def _codes(status: pa.ChunkedArray) -> npt.NDArray[np.int8]:
    found = pc.index_in(status.cast(pa.string()), value_set=pa.array(STATUSES))
    return np.asarray(found.to_numpy(), dtype=np.int8)


def _profiles(column: pa.ChunkedArray) -> npt.NDArray[np.float32]:
    """(R, 20) mean entropy by relative position, NaN for bins without tokens and rollouts without statistics."""
    array = column.combine_chunks()
    profiles = np.full((len(array), PROFILE_BINS), np.nan, dtype=np.float32)
    valid = array.is_valid().to_numpy(zero_copy_only=False)
    if valid.any():
        profiles[valid] = array.drop_null().flatten().to_numpy(zero_copy_only=False).reshape(-1, PROFILE_BINS)
    return profiles


def _int(column: pa.ChunkedArray) -> npt.NDArray[np.int32]:
    return np.asarray(column.to_numpy(), dtype=np.int32)


def _float(column: pa.ChunkedArray) -> npt.NDArray[np.float64]:
    return np.asarray(column.to_numpy(), dtype=np.float64)
