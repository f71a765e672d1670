"""The rollouts that the page shows: chosen by a rule, shortened, with entropy where it is stored."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from rlvr_bench.records import STATUSES
from rlvr_bench.reporting.shading import split_tokens
from rlvr_bench.store.paths import inside
from rlvr_bench.store.run import TOKEN_COLUMNS, Run
from rlvr_bench.store.shards import ShardFolder
from rlvr_bench.store.verdicts import VERDICT_SCHEMA, current_grading

__all__ = ["MOST_ROLLOUTS", "Browser", "PageRollout", "browse", "plain_table", "shortened"]

MOST_ROLLOUTS = 20
PROBLEMS = 100
SHARDS = 32  # rollout shards read per run, since texts are most of a run
CHARACTERS = 3_000  # shown of one response: the first HEAD, and the last ones
HEAD = 2_000
ALL_CHARACTERS = 3_000_000
STRIP = 60  # cells of an entropy strip
_IDS, _, _ENTROPY, _ = TOKEN_COLUMNS
_COLUMNS = [
    *("problem_id", "index", "text", "n_tokens", "finish_reason"),
    *("entropy_mean", "entropy_profile", _IDS, _ENTROPY),
]


class PageRollout(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One response as shown: ``text`` lacks ``cut`` characters at position ``cut_at``.

    ``pieces``: the lengths of its tokens in characters, and ``entropy`` their entropies (nats), where the tokens could be
    matched with the text; ``strip``: entropy along the response, in equal parts, where it is stored.
    """

    run: int
    problem: int
    index: int
    status: str
    answer: str | None
    kind: str | None
    n_tokens: int | None
    truncated: bool
    text: str
    entropy_mean: float | None = None
    cut: int = 0
    cut_at: int = 0
    pieces: list[int] | None = None
    entropy: list[float] | None = None
    strip: list[float | None] | None = None


class Browser(msgspec.Struct, frozen=True, kw_only=True):
    """The rollouts of the page, and the rule by which they were chosen."""

    rollouts: list[PageRollout] = []
    note: str = ""


def browse(
    runs: Sequence[Run | None], ids: Sequence[str], difficulty: npt.NDArray[np.float64], per_status: int
) -> Browser:
    """The first ``per_status`` rollouts of each verdict, for problems spread evenly over ``difficulty`` (P,).

    At most ``PROBLEMS`` problems, fewer where their texts exceed ``ALL_CHARACTERS``. The first ``SHARDS`` shards of
    rollouts of each run are read. The same runs give the same choice. Raises RunError at a damaged shard.
    """
    if not per_status or not any(runs):
        return Browser()
    order = _spread(difficulty)[:PROBLEMS]
    wanted = {ids[i]: i for i in order}
    by_problem: dict[int, list[PageRollout]] = {i: [] for i in order}
    for number, run in enumerate(runs):
        for rollout in () if run is None else _of_run(run, number, wanted, per_status):
            by_problem[rollout.problem].append(rollout)
    sizes = np.cumsum([sum(len(rollout.text) for rollout in by_problem[i]) for i in order])
    kept = sorted(order[: max(1, int(np.searchsorted(sizes, ALL_CHARACTERS, side="right")))])
    chosen = list(itertools.chain.from_iterable(by_problem[i] for i in kept))
    if not chosen:
        return Browser()
    count = len({rollout.problem for rollout in chosen})
    note = (
        f"The first {per_status} rollouts of each verdict, of {count} of {len(ids)} problems spread over difficulty; "
        f"responses above {CHARACTERS:,} characters are shown without their middle."
    )
    return Browser(rollouts=chosen, note=note)


def _spread(difficulty: npt.NDArray[np.float64]) -> list[int]:
    """Problems in an order whose first m entries, for every m, are spread evenly over difficulty.

    It is van der Corput's sequence over the ranks.
    """
    size = len(difficulty)
    ranked = np.argsort(difficulty, kind="stable")
    bits = max(size - 1, 1).bit_length()
    ranks = (int(f"{i:0{bits}b}"[::-1], 2) for i in range(2**bits))
    return [int(ranked[rank]) for rank in ranks if rank < size]


def _of_run(run: Run, number: int, wanted: Mapping[str, int], per_status: int) -> list[PageRollout]:
    verdicts = _chosen_verdicts(run, wanted, per_status)
    rows = _rows(run, verdicts)
    with_tokens = [row for row in rows if row[_IDS] is not None]
    pieces = split_tokens([(row["text"] or "", row[_IDS]) for row in with_tokens]) if with_tokens else None
    by_row = dict(zip(map(_key, with_tokens), pieces or [], strict=False))
    return [_shown(row, verdicts[_key(row)], number, wanted, by_row.get(_key(row))) for row in rows]


def _key(row: Mapping[str, Any]) -> tuple[str, int]:
    return row["problem_id"], row["index"]


def _chosen_verdicts(run: Run, wanted: Mapping[str, int], per_status: int) -> dict[tuple[str, int], dict[str, Any]]:
    """The verdicts of the lowest indices of each problem and status, by (problem, index)."""
    grading = current_grading(run)
    if grading is None:
        return {}
    shards = ShardFolder(inside(run.path, "verdicts", grading.folder), VERDICT_SCHEMA)
    ids = pa.array(list(wanted))
    tables = []
    for table in shards.read(["problem_id", "index", "status", "answer", "kind"]):
        plain = plain_table(table)
        tables.append(plain.filter(pc.is_in(plain["problem_id"], value_set=ids)))
    if not tables:
        return {}
    table = pa.concat_tables(tables)
    table = table.append_column("code", pc.index_in(table["status"], value_set=pa.array(STATUSES)))
    table = table.sort_by([("problem_id", "ascending"), ("code", "ascending"), ("index", "ascending")])
    group = pc.index_in(table["problem_id"], value_set=ids).to_numpy() * len(STATUSES) + table["code"].to_numpy()
    start = np.flatnonzero(np.diff(group, prepend=-1))
    rank = np.arange(len(group)) - np.repeat(start, np.diff(start, append=len(group)))
    return {_key(row): row for row in table.filter(pa.array(rank < per_status)).to_pylist()}


def _rows(run: Run, verdicts: Mapping[tuple[str, int], Any]) -> list[dict[str, Any]]:
    """The stored rollouts of these verdicts, sorted, as far as they are in the first ``SHARDS`` shards."""
    ids = pa.array(sorted({name for name, _ in verdicts}), pa.string())
    last = max((index for _, index in verdicts), default=-1)
    missing, rows = set(verdicts), []
    for table in itertools.islice(run.rollouts.read(_COLUMNS), SHARDS):
        plain = plain_table(table)
        near = plain.filter(pc.and_(pc.is_in(plain["problem_id"], value_set=ids), pc.less_equal(plain["index"], last)))
        keys = list(zip(near["problem_id"].to_pylist(), near["index"].to_pylist(), strict=True))
        rows += near.filter(pa.array([key in missing for key in keys], pa.bool_())).to_pylist()
        missing.difference_update(keys)
        if not missing:
            break
    return sorted(rows, key=_key)


def plain_table(table: pa.Table) -> pa.Table:
    """The table with dictionary columns as plain strings."""
    names = [field.name for field in table.schema if pa.types.is_dictionary(field.type)]
    for name in names:
        table = table.set_column(table.schema.get_field_index(name), name, table[name].cast(pa.string()))
    return table


def _shown(
    row: Mapping[str, Any],
    verdict: Mapping[str, Any],
    run: int,
    wanted: Mapping[str, int],
    pieces: Sequence[str] | None,
) -> PageRollout:
    text, entropy = row["text"] or "", row[_ENTROPY]
    aligned = pieces is not None and entropy is not None
    return PageRollout(
        run=run,
        problem=wanted[row["problem_id"]],
        index=row["index"],
        status=verdict["status"],
        answer=None if verdict["answer"] is None else verdict["answer"][:200],
        kind=verdict["kind"],
        n_tokens=row["n_tokens"],
        truncated=row["finish_reason"] == "length",
        entropy_mean=_rounded(row["entropy_mean"]),
        strip=None if aligned else _strip(row["entropy_profile"], entropy),
        **(_shaded(pieces or (), entropy) if aligned else shortened(text)),
    )


def shortened(text: str) -> dict[str, Any]:
    """The fields of a text without tokens; a long text is shortened."""
    if len(text) <= CHARACTERS:
        return {"text": text}
    return {"text": text[:HEAD] + text[HEAD - CHARACTERS :], "cut": len(text) - CHARACTERS, "cut_at": HEAD}


def _shaded(pieces: Sequence[str], entropy: Sequence[float]) -> dict[str, Any]:
    """The fields of a text in tokens; a long one is shortened by whole tokens.

    ``entropy`` may have one value more than ``pieces``, that of the end token.
    """
    lengths = np.array([len(piece) for piece in pieces], dtype=np.int64)
    ends, size = np.cumsum(lengths), int(lengths.sum())
    first = ends <= HEAD
    keep = first | (ends > size - (CHARACTERS - HEAD)) | (size <= CHARACTERS)
    text = "".join(itertools.compress(pieces, keep))
    return {
        "text": text,
        "cut": size - len(text),
        "cut_at": int(lengths[first].sum()) if len(text) < size else 0,
        "pieces": lengths[keep].tolist(),
        "entropy": [round(float(value), 2) for value in itertools.compress(entropy, keep)],
    }


def _strip(profile: Sequence[float] | None, entropy: Sequence[float] | None) -> list[float | None] | None:
    """Entropy along the response: means over up to ``STRIP`` equal parts of its tokens, else the stored profile."""
    if entropy:
        parts = np.array_split(np.asarray(entropy, dtype=np.float64), min(STRIP, len(entropy)))
        return [_rounded(float(part.mean())) for part in parts]
    return None if not profile else [_rounded(value) for value in profile]


def _rounded(value: float | None) -> float | None:
    return None if value is None or np.isnan(value) else round(float(value), 3)
