"""Tables of rollouts as people write them: one table of verdicts in every container, packing and layout.

Letters as in ``made``: c is correct, w wrong, n without an answer.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.importers.made import answer_of

__all__ = ["CONTAINERS", "LAYOUTS", "PACKINGS", "pack", "written"]

Rows = list[dict[str, Any]]


def a_row_a_rollout(rows: Sequence[str]) -> tuple[Rows, str]:
    """One row per rollout; rollouts of a problem are not next to each other."""
    lines = [
        {
            "qid": f"p{i}",
            "question": f'What is {i}, "exactly"?\nSay it.',
            "gold": str(i),
            "reply": text_of(letter, i, k),
            "said": answer_of(letter, i, k),
            "ok": letter == "c",
        }
        for k in range(max(map(len, rows)))
        for i, row in enumerate(rows)
        for letter in row[k : k + 1]
    ]
    return lines, "problem=qid,question=question,gold=gold,text=reply,answer=said,verdict=ok"


def lists_of_objects(rows: Sequence[str]) -> tuple[Rows, str]:
    lines = [
        {
            "qid": f"p{i}",
            "question": f'What is {i}, "exactly"?\nSay it.',
            "gold": str(i),
            "rollouts": [
                {"text": text_of(letter, i, k), "pred": answer_of(letter, i, k), "correct": float(letter == "c")}
                for k, letter in enumerate(row)
            ],
        }
        for i, row in enumerate(rows)
    ]
    return lines, (
        "problem=qid,question=question,gold=gold,text=rollouts[].text,answer=rollouts[].pred,verdict=rollouts[].correct"
    )


def parallel_lists(rows: Sequence[str]) -> tuple[Rows, str]:
    lines = [
        {
            "qid": f"p{i}",
            "question": f'What is {i}, "exactly"?\nSay it.',
            "gold": str(i),
            "code": [text_of(letter, i, k) for k, letter in enumerate(row)],
            "pred": [answer_of(letter, i, k) for k, letter in enumerate(row)],
            "score": [letter == "c" for letter in row],
        }
        for i, row in enumerate(rows)
    ]
    return lines, "problem=qid,question=question,gold=gold,text=code[],answer=pred[],verdict=score[]"


def counts(rows: Sequence[str]) -> tuple[Rows, str]:
    lines = [
        {"qid": f"p{i}", "question": f"What is {i}?", "gold": str(i), "drawn": float(len(row)), "right": row.count("c")}
        for i, row in enumerate(rows)
    ]
    return lines, "problem=qid,question=question,gold=gold,n=drawn,c=right"


def text_of(letter: str, problem: int, rollout: int) -> str:
    return f"Rollout {rollout} of {problem}:\n\\boxed{{{answer_of(letter, problem, rollout)}}} é \U0001f600"


LAYOUTS: dict[str, Callable[[Sequence[str]], tuple[Rows, str]]] = {
    "row per rollout": a_row_a_rollout,
    "lists of objects": lists_of_objects,
    "parallel lists": parallel_lists,
    "counts": counts,
}


def delimited(character: str) -> Callable[[Rows], bytes]:
    def write(rows: Rows) -> bytes:
        content = io.StringIO(newline="")
        writer = csv.writer(content, delimiter=character)
        writer.writerow(rows[0])
        for row in rows:
            cells = ["" if cell is None else cell for cell in row.values()]
            writer.writerow([json.dumps(cell) if isinstance(cell, list) else cell for cell in cells])
        return content.getvalue().encode()

    return write


def parquet(rows: Rows) -> bytes:
    content = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), content, row_group_size=5)
    return content.getvalue()


CONTAINERS: dict[str, Callable[[Rows], bytes]] = {
    "rows.jsonl": lambda rows: "".join(json.dumps(row) + "\n" for row in rows).encode(),
    "array.json": lambda rows: json.dumps(rows).encode(),
    "pretty.json": lambda rows: json.dumps(rows, indent=2, ensure_ascii=False).encode(),
    "keyed.json": lambda rows: json.dumps({f"k{i}": row for i, row in enumerate(rows)}).encode(),
    "one_list.json": lambda rows: json.dumps(
        {"model": "m", "config": {"n": 1}, "results": rows, "done": True}
    ).encode(),
    "nested.json": lambda rows: json.dumps(
        {"date": "today", "eval": {f"k{i}": row for i, row in enumerate(rows)}}
    ).encode(),
    "rows.csv": delimited(","),
    "rows.tsv": delimited("\t"),
    "semicolons.csv": delimited(";"),
    "rows.parquet": parquet,
}
PACKINGS = ("", ".gz", ".zst")


def pack(content: bytes, packing: str) -> bytes:
    if packing == ".gz":
        return gzip.compress(content)
    return bytes(pa.Codec("zstd").compress(content, asbytes=True)) if packing == ".zst" else content


def written(folder: Path, container: str, packing: str, layout: str, rows: Sequence[str]) -> tuple[Path, str]:
    """The file, and the mapping that reads it."""
    lines, mapping = LAYOUTS[layout](rows)
    file = folder / f"{container}{packing}"
    folder.mkdir(parents=True, exist_ok=True)
    file.write_bytes(pack(CONTAINERS[container](lines), packing))
    return file, mapping
