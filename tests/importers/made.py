"""Files as other programs write them, made from a table of verdicts: one string per problem, one letter per rollout.

c is correct, w wrong, n no answer, m no verdict. Field names and layout were taken from files that the programs themselves
wrote (inspect_ai 0.3.285, lm-eval 0.4.13) and from their writers (NeMo-Skills, lighteval 0.13, EvalPlus 0.3.1, verl).
"""

from __future__ import annotations

import io
import json
import random
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

__all__ = ["WRITERS", "counts_of", "eval_log", "jsonl", "nemo_line", "table", "zstd_zip"]

Table = Sequence[str]


def table(seed: int = 0, problems: int = 12, n: int = 8, letters: str = "cw") -> list[str]:
    """Verdicts at random, a solve rate per problem."""
    rng = random.Random(seed)
    weights = [(rng.random(), *[1.0 / len(letters)] * (len(letters) - 1)) for _ in range(problems)]
    return ["".join(rng.choices(letters, w, k=n)) for w in weights]


def counts_of(rows: Table) -> list[tuple[int, int]]:
    """(n, c) by problem, from the letters alone."""
    return [(len(row), row.count("c")) for row in rows]


def jsonl(file: Path, lines: Sequence[object]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return file


def answer_of(letter: str, problem: int, rollout: int) -> str | None:
    """The answer of a rollout; wrong answers differ, though some are equal."""
    return {"c": str(problem), "w": f"-{rollout % 3 + 1}"}.get(letter)


def nemo_line(number: int, letter: str, rollout: int, **more: Any) -> dict[str, Any]:
    line: dict[str, Any] = {
        "problem": f"What is {number}?",
        "expected_answer": str(number),
        "generation": f"Rollout {rollout}: \\boxed{{{answer_of(letter, number, rollout)}}}",
        "predicted_answer": answer_of(letter, number, rollout),
        "num_generated_tokens": 10 + rollout,
        "generation_time": 0.5,
    }
    if letter != "m":
        line["symbolic_correct"] = letter == "c"
    return {**line, **more}


def nemo_skills(folder: Path, rows: Table) -> Path:
    """One seed per rollout; asynchronous generation writes the lines of a file in random order."""
    rng = random.Random(5)
    for rollout in range(max(map(len, rows))):
        lines = [nemo_line(i, row[rollout], rollout) for i, row in enumerate(rows) if rollout < len(row)]
        rng.shuffle(lines)
        jsonl(folder / "eval-results" / "arithmetic" / f"output-rs{rollout}.jsonl", lines)
    return folder


def lm_eval(folder: Path, rows: Table) -> Path:
    """An evaluation per rollout, each with two filters."""
    for rollout in range(len(rows[0])):
        date = f"2025-11-22T02-{rollout:02}-35.054852"
        lines: list[dict[str, Any]] = []
        for name in ("strict-match", "flexible-extract"):
            for i, row in enumerate(rows):
                right = row[rollout] == "c" if name == "strict-match" else True
                lines.append(
                    {
                        "doc_id": i,
                        "doc": {"question": f"What is {i}?", "answer": f"Count. #### {i}"},
                        "target": f"Count. #### {i}",
                        "arguments": {
                            "gen_args_0": {"arg_0": f"{rollout} shots: What is {i}?", "arg_1": {"until": []}}
                        },
                        "resps": [[f"Rollout {rollout}: {answer_of(row[rollout], i, rollout)}"]],
                        "filtered_resps": [answer_of(row[rollout], i, rollout) or "[invalid]"],
                        "filter": name,
                        "metrics": ["exact_match"],
                        "doc_hash": f"{i:064}",
                        "prompt_hash": "0",
                        "target_hash": "1",
                        "exact_match": float(right),
                    }
                )
        jsonl(folder / "my-model" / f"samples_arithmetic_{date}.jsonl", lines)
        results = {"results": {}, "model_name": "my/model", "lm_eval_version": "0.4.13"}
        (folder / "my-model" / f"results_{date}.json").write_text(json.dumps(results, indent=2))
    return folder


def lighteval(folder: Path, rows: Table) -> Path:
    """All rollouts of a problem in one row, with their mean."""
    records = [
        {
            "doc": {
                "query": f"What is {i}?",
                "choices": [str(i)],
                "gold_index": [0],
                "id": str(i),
                "task_name": "arithmetic",
                "specific": None,
            },
            "metric": {f"avg@n:n={len(row)}": row.count("c") / len(row)},
            "model_response": {
                "input": f"What is {i}?",
                "text": [f"Rollout {k}: {answer_of(letter, i, k)}" for k, letter in enumerate(row)],
                "output_tokens": [[1, 2, 3] for _ in row],
                "logprobs": [],
            },
        }
        for i, row in enumerate(rows)
    ]
    file = (
        folder / "details" / "my" / "model" / "2025-11-22T02-29" / "details_arithmetic|0_2025-11-22T02-29-35.05.parquet"
    )
    file.parent.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(records), file)
    return folder


def eval_log(file: Path, samples: Mapping[str, object], header: dict[str, Any] | None = None) -> Path:
    """A log of inspect_ai with these samples, its members zstd-compressed as the program writes them."""
    facts = {"task": "arithmetic", "model": "my/model", "packages": {"inspect_ai": "0.3.285"}}
    head = {"version": 2, "status": "success", "eval": facts} if header is None else header
    members = {f"samples/{name}.json": json.dumps(sample).encode() for name, sample in samples.items()}
    members["header.json"] = json.dumps(head).encode()
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(zstd_zip(members))
    return file


def zstd_zip(members: dict[str, bytes]) -> bytes:
    """A zip archive whose members have compression type 93; Python's zipfile writes it only from 3.14 on."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, bytes(pa.Codec("zstd").compress(data, asbytes=True)))
    raw = bytearray(content.getvalue())
    with zipfile.ZipFile(content) as archive:
        infos = archive.infolist()
    at = archive.start_dir
    for info in infos:
        data = members[info.filename]
        facts = struct.pack("<III", zlib.crc32(data), info.compress_size, len(data))
        raw[info.header_offset + 8 : info.header_offset + 10] = struct.pack("<H", 93)
        raw[info.header_offset + 14 : info.header_offset + 26] = facts
        raw[at + 10 : at + 12] = struct.pack("<H", 93)
        raw[at + 16 : at + 28] = facts
        at += 46 + len(info.filename.encode()) + len(info.extra) + len(info.comment)
    return bytes(raw)


def inspect_sample(problem: int, letter: str, epoch: int) -> dict[str, Any]:
    text = f"Rollout {epoch}: {answer_of(letter, problem, epoch)}"
    scores = {
        "match": {
            "value": {"c": "C", "w": "I", "n": "N"}[letter],
            "answer": answer_of(letter, problem, epoch),
            "history": [],
        },
        "includes": {"value": "C", "answer": text},
    }
    return {
        "id": problem,
        "epoch": epoch,
        "input": f"What is {problem}?",
        "target": str(problem),
        "messages": [],
        "output": {
            "model": "my/model",
            "choices": [{"message": {"role": "assistant", "content": text}, "stop_reason": "stop"}],
            "completion": text,
            "usage": {"input_tokens": 3, "output_tokens": 7, "total_tokens": 10},
        },
        "scores": scores,
        "events": [{"event": "model"}],
        "uuid": f"{problem}-{epoch}",
        "attachments": {},
    }


def inspect(folder: Path, rows: Table) -> Path:
    samples = {
        f"{i}_epoch_{k + 1}": inspect_sample(i, letter, k + 1)
        for i, row in enumerate(rows)
        for k, letter in enumerate(row)
    }
    eval_log(folder / "2025-11-22T02-28-22-00-00_arithmetic_3uQg.eval", samples)
    return folder


def evalplus(folder: Path, rows: Table) -> Path:
    """Results next to their samples. A rollout that passes only the base tests is wrong by the extra ones."""
    graded = {
        f"HumanEval/{i}": [
            {
                "task_id": f"HumanEval/{i}",
                "solution": f"def f():\n    return {answer_of(letter, i, k)}\n",
                "base_status": "pass" if letter == "c" or k % 2 else "fail",
                "plus_status": "pass" if letter == "c" else ("timeout" if k % 3 else "fail"),
                "base_fail_tests": [],
                "plus_fail_tests": [[1, 2]],
            }
            for k, letter in enumerate(row)
        ]
        for i, row in enumerate(rows)
    }
    samples = [
        {"task_id": sample["task_id"], "solution": sample["solution"]} for row in graded.values() for sample in row
    ]
    jsonl(folder / "samples.jsonl", samples)
    results = {"date": "2025-11-22 02:29", "hash": "abc", "eval": graded}
    (folder / "samples_eval_results.json").write_text(json.dumps(results))
    return folder


def verl(folder: Path, rows: Table) -> Path:
    lines = [
        {
            "input": f"user\nWhat is {i}?\nassistant\n",
            "output": f"Rollout {k}: {answer_of(letter, i, k)}",
            "gts": str(i),
            "score": 1.0 if letter == "c" else -0.5 - k / 100,
            "step": 40,
            "acc": letter == "c",
            "pred": answer_of(letter, i, k) or "[INVALID]",
        }
        for i, row in enumerate(rows)
        for k, letter in enumerate(row)
    ]
    jsonl(folder / "40.jsonl", lines)
    return folder


def counts(folder: Path, rows: Table) -> Path:
    lines = [f"{i},{len(row)},{row.count('c')}" for i, row in enumerate(rows)]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "counts.csv").write_text("\n".join(["problem_id,n,c", *lines]) + "\n")
    return folder


# Format, writer, and the verdict to choose where its files hold several.
WRITERS: dict[str, tuple[Callable[[Path, Table], Path], str | None]] = {
    "nemo-skills": (nemo_skills, None),
    "lm-eval": (lm_eval, "exact_match,strict-match"),
    "lighteval": (lighteval, None),
    "inspect": (inspect, "match"),
    "evalplus": (evalplus, "plus"),
    "verl": (verl, None),
    "counts": (counts, None),
}
