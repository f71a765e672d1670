"""Rollouts of imported runs on which our verifier and the other program disagree, with the responses to read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from rlvr_bench.disagreements import Disagreement, read_disagreements
from rlvr_bench.reporting.browser import plain_table, shortened
from rlvr_bench.reporting.sources import Source
from rlvr_bench.store.run import Run

__all__ = ["PageDisagreement", "PageOpinion", "second_opinions", "texts_of"]

MOST = 100  # disagreements of a run on the page
MOST_CHARACTERS = 1_500_000  # of all responses of a task in this section
ANSWER_CHARACTERS = 500


class PageDisagreement(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One rollout that only one of the two calls correct; ``text`` lacks ``cut`` characters at position ``cut_at``."""

    problem: str
    index: int
    gold: str
    theirs: str
    their_answer: str | None
    ours: str
    our_answer: str | None
    reason: str | None
    text: str
    cut: int = 0
    cut_at: int = 0


class PageOpinion(msgspec.Struct, frozen=True, kw_only=True):
    """The disagreements in run number ``run``: the counts in words, the two judges, and the first rollouts."""

    run: int
    summary: str
    program: str
    verifier: str
    rows: list[PageDisagreement]
    note: str


def second_opinions(sources: Sequence[Source]) -> list[PageOpinion]:
    """An opinion for each run that another program and we have judged. Raises RunError where a shard is damaged."""
    opinions: list[PageOpinion] = []
    left = MOST_CHARACTERS
    for number, source in enumerate(sources):
        result = None if source.run is None else read_disagreements(source.run, MOST)
        if source.run is None or result is None:
            continue
        rows = []
        for row in _with_texts(source.run, result.rows):
            if left < len(row.text):
                break
            left -= len(row.text)
            rows.append(row)
        opinions.append(
            PageOpinion(
                run=number,
                summary=result.summary,
                program=result.program,
                verifier=result.verifier,
                rows=rows,
                note="" if len(rows) == result.differ else _note(len(rows), result.differ),
            )
        )
    return opinions


def _note(shown: int, total: int) -> str:
    return (
        f"The first {shown:,} of {total:,}, by problem; at most {MOST} of a run are shown. "
        "All of them: rlvr-bench grade RUN --disagreements FILE.csv"
    )


def _with_texts(run: Run, rows: Sequence[Disagreement]) -> list[PageDisagreement]:
    texts = texts_of(run, {(row.problem_id, row.index) for row in rows})
    return [
        PageDisagreement(
            problem=row.problem_id,
            index=row.index,
            gold=row.gold[:ANSWER_CHARACTERS],
            theirs=row.theirs,
            their_answer=_cut(row.their_answer),
            ours=row.ours,
            our_answer=_cut(row.our_answer),
            reason=row.reason,
            **shortened(texts.get((row.problem_id, row.index), "")),
        )
        for row in rows
    ]


def texts_of(run: Run, keys: set[tuple[str, int]]) -> Mapping[tuple[str, int], str]:
    """The responses of these rollouts; shards are read until all are there."""
    texts: dict[tuple[str, int], str] = {}
    for table in run.rollouts.read(["problem_id", "index", "text"]) if keys else ():
        plain = plain_table(table)
        named = zip(plain["problem_id"].to_pylist(), plain["index"].to_pylist(), strict=True)
        for row, key in enumerate(named):
            if key in keys:
                texts[key] = plain["text"][row].as_py() or ""
        if len(texts) == len(keys):
            break
    return texts


def _cut(answer: str | None) -> str | None:
    return None if answer is None else answer[:ANSWER_CHARACTERS]
