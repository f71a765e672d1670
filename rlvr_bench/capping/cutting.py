"""Cuts stored responses to a smaller budget: to tokens, by their ids or by the tokenizer, or to calls of a tool."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from rlvr_bench.errors import RunError
from rlvr_bench.records import SamplingParameters
from rlvr_bench.samplers.model_files import cut_at_stop, detokenise
from rlvr_bench.samplers.summary import TokenSummary, summarise
from rlvr_bench.samplers.tokenizer import Tokenizer
from rlvr_bench.store.run import ROLLOUT_SCHEMA, TOKEN_COLUMNS, stored_text, text_hash
from rlvr_bench.verifiers.transcript import call_ends

__all__ = ["CallCutter", "Cutter", "TokenCutter", "cut_table"]

STATISTICS = (*TokenSummary.__struct_fields__, "entropy_low", "entropy_high", "branching_low", "branching_high")
_BROKEN = "\ufffd"  # what a tokenizer writes for a character whose last token is cut off
Row = dict[str, Any]


class CutText(NamedTuple):
    """The beginning of a response; ``is_doubtful``: as far as can be seen, it may be other tokens than were drawn."""

    text: str
    is_doubtful: bool = False


class Cutter(Protocol):
    """Cuts the rollouts above a budget.

    ``doubtful`` counts those whose tokens may be others than were drawn, and ``by`` the ways of cutting.
    """

    doubtful: int
    by: set[str]

    def is_over(self, table: pa.Table) -> npt.NDArray[np.bool_]:
        """Which rollouts (R,) are above the budget."""
        ...

    def cut(self, rows: Sequence[Row]) -> list[Row]:
        """These rollouts, which are above the budget, cut to it. Raises RunError where one cannot be cut."""
        ...


def cut_table(table: pa.Table, cutter: Cutter, *, keeps_statistics: bool) -> pa.Table:
    """The rollouts of one shard, with those above the budget cut. Raises RunError where one cannot be cut.

    Without ``keeps_statistics`` no rollout has token statistics: a mean over those that were not cut would be one over
    short responses.
    """
    over = cutter.is_over(table)
    kept, rows = table.filter(pa.array(~over)), table.filter(pa.array(over)).to_pylist()
    if not keeps_statistics:
        for name in (*STATISTICS, "tool_errors"):
            nulls = pa.nulls(kept.num_rows, ROLLOUT_SCHEMA.field(name).type)
            kept = kept.set_column(kept.column_names.index(name), name, nulls)
    cut = pa.Table.from_pylist(cutter.cut(rows), schema=ROLLOUT_SCHEMA)
    return pa.concat_tables([kept.cast(ROLLOUT_SCHEMA), cut]).unify_dictionaries()


class TokenCutter:
    """Cuts responses to ``cap`` tokens: by their stored ids, else by what ``tokenizer`` makes of their text."""

    def __init__(
        self,
        cap: int,
        tokenizer: Tokenizer,
        prompts: Mapping[str, Sequence[int]],
        sampling: SamplingParameters,
        where: str,
    ) -> None:
        """``prompts``: token ids of each problem's prompt. ``where``: names the run in messages."""
        self._cap, self._tokenizer, self._prompts = cap, tokenizer, prompts
        self._stops, self._where = sampling.stop, where
        self.doubtful, self.by = 0, set[str]()

    def is_over(self, table: pa.Table) -> npt.NDArray[np.bool_]:
        if table["n_tokens"].null_count:
            raise RunError(
                f"{self._where}: n_tokens is unknown of {table['n_tokens'].null_count} rollouts: they cannot be cut"
            )
        return np.asarray(table["n_tokens"].to_numpy() > self._cap)

    def cut(self, rows: Sequence[Row]) -> list[Row]:
        return [self._cut(row) for row in rows]

    def _cut(self, row: Row) -> Row:
        known = row["token_ids"] is not None
        cut = self._by_ids(row) if known else self._by_text(row)
        self.doubtful += cut.is_doubtful
        self.by.add("token ids" if known else "tokenizer")
        text = stored_text(cut.text)
        changed = {"text": text, "text_hash": text_hash(text), "n_tokens": self._cap, "finish_reason": "length"}
        return row | changed | dict.fromkeys(STATISTICS) | self._arrays(row)

    def _by_ids(self, row: Row) -> CutText:
        """Raises RunError where the ids are not those of the text: it is another tokenizer, or the run is damaged."""
        ids = row["token_ids"]
        if len(ids) != row["n_tokens"] or not 0 <= min(ids) <= max(ids) < len(self._tokenizer):
            raise self._refused(row, "token_ids are not the tokens of this model")
        text = self._text(row, ids[: self._cap])
        if not self._begins(row["text"], text):
            raise self._refused(row, "token_ids are not those of its text for this tokenizer")
        return CutText(text)

    def _by_text(self, row: Row) -> CutText:
        whole = row["text"]
        readings = [ids for ids, length in self._readings(row) if length == row["n_tokens"]]
        certain = {self._text(row, ids[: self._cap]) for ids in readings}
        text = next(iter(sorted(certain)), None) or self._text(row, self._ids(whole)[: self._cap])
        if not self._begins(whole, text):
            return CutText(whole[: len(text)], is_doubtful=True)
        return CutText(text, is_doubtful=len(certain) != 1)

    def _readings(self, row: Row) -> Iterator[tuple[list[int], int]]:
        """Tokens that the response may have had, each with their number: with the end token, or with a stop string."""
        ids = self._ids(row["text"])
        if row["finish_reason"] == "length":
            yield ids, len(ids)
            return
        yield ids, len(ids) + 1
        for stop in self._stops:  # it is no part of the stored text
            with_stop = self._ids(row["text"] + stop)
            yield with_stop, len(with_stop)

    def _ids(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def _text(self, row: Row, ids: Sequence[int]) -> str:
        (text,) = detokenise(self._tokenizer, self._prompts[row["problem_id"]], [ids])
        return cut_at_stop(text, (), self._stops)[0]

    def _begins(self, whole: str, text: str) -> bool:
        """Whether a response begins with ``text``: its last character may be broken, its last blanks may differ, and
        the beginning of a stop string may follow the response.
        """
        text = text.rstrip(_BROKEN).rstrip()
        more = text[len(whole) :]
        return whole.startswith(text) or (text.startswith(whole) and any(stop.startswith(more) for stop in self._stops))

    def _arrays(self, row: Row) -> Row:
        """The arrays of the first tokens and the statistics computed from them; both empty where they are not stored."""
        if any(row[name] is None for name in TOKEN_COLUMNS):
            return dict.fromkeys(TOKEN_COLUMNS)
        arrays = {name: row[name][: self._cap] for name in TOKEN_COLUMNS}
        if any(len(values) != self._cap for values in arrays.values()):
            raise self._refused(row, "its arrays differ in length")
        logprob, entropy, nucleus = (np.array(arrays[name], dtype=np.float64) for name in TOKEN_COLUMNS[1:])
        return arrays | msgspec.structs.asdict(summarise(logprob, entropy, nucleus))

    def _refused(self, row: Row, why: str) -> RunError:
        return RunError(f"{self._where}: rollout {row['index']} of problem {row['problem_id']} cannot be cut: {why}")


class CallCutter:
    """Cuts transcripts before the output of the call that follows ``cap`` calls: there a run with that limit ends."""

    def __init__(self, cap: int, where: str) -> None:
        self._cap, self._where = cap, where
        self.doubtful, self.by = 0, {"transcript"}

    def is_over(self, table: pa.Table) -> npt.NDArray[np.bool_]:
        if table["tool_calls"].null_count:
            raise RunError(f"{self._where}: tool_calls is unknown of some rollouts: they cannot be cut")
        return np.asarray(pc.greater(table["tool_calls"], self._cap))

    def cut(self, rows: Sequence[Row]) -> list[Row]:
        return [self._cut(row) for row in rows]

    def _cut(self, row: Row) -> Row:
        ends = call_ends(row["text"])
        if len(ends) != row["tool_calls"]:
            raise RunError(
                f"{self._where}: rollout {row['index']} of problem {row['problem_id']} cannot be cut: its text shows "
                f"{len(ends)} calls, tool_calls is {row['tool_calls']}"
            )
        text = row["text"][: ends[self._cap]]
        unknown = dict.fromkeys(("n_tokens", "tool_errors", *STATISTICS, *TOKEN_COLUMNS))
        changed = {"text": text, "text_hash": text_hash(text), "finish_reason": "length", "tool_calls": self._cap}
        return row | unknown | changed
