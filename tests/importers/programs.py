"""Files of further programs, from the same tables of verdicts as ``made``, in the layout of their writers.

Field names and order are those of Qwen2.5-Math's ``math_eval.py``, verl's ``trainer/ppo/v1/trainer_base.py`` and
``main_generation_server.py``, verifiers' ``save_utils.py`` and ``v1/episode.py``, NeMo Gym's ``rollout_collection.py`` and
evalscope's ``api/evaluator/cache.py``.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.importers.made import WRITERS, Table, answer_of, jsonl

__all__ = ["EVERY_WRITER", "episode", "qwen_line", "verl_generation", "verl_sessions"]


def text_of(letter: str, problem: int, rollout: int) -> str:
    return f"Rollout {rollout}: \\boxed{{{answer_of(letter, problem, rollout)}}}"


def qwen_line(number: int, row: str, **more: Any) -> dict[str, Any]:
    return {
        "idx": number,
        "question": f"What is {number}?",
        "gt_cot": f"It is {number}.",
        "gt": str(number),
        "type": "Arithmetic",
        "code": [text_of(letter, number, k) for k, letter in enumerate(row)],
        "pred": [answer_of(letter, number, k) or "" for k, letter in enumerate(row)],
        "report": [None for _ in row],
        "score": [letter == "c" for letter in row],
        **more,
    }


def qwen_math(folder: Path, rows: Table) -> Path:
    lines = [qwen_line(i, row) for i, row in enumerate(rows)]
    stem = "test_qwen25-math-cot_-1_seed0_t0.6_s0_e-1"
    jsonl(folder / "arithmetic" / f"{stem}.jsonl", lines)
    metrics = {"num_samples": len(rows), "acc": round(100 * sum(row[0] == "c" for row in rows) / len(rows), 1)}
    (folder / "arithmetic" / f"{stem}_qwen25-math-cot_metrics.json").write_text(json.dumps(metrics, indent=4))
    return folder


def verl_sessions(folder: Path, rows: Table, outputs: int = 3) -> Path:
    """A session has several outputs; each has the session's score and what came before it as input."""
    lines = []
    for i, row in enumerate(rows):
        for k, letter in enumerate(row):
            for turn in range(outputs):
                last = turn == outputs - 1
                lines.append(
                    {
                        "input": f"user\nWhat is {i}?\nassistant\n"
                        + "".join(f"turn {t} of {k}\n" for t in range(turn)),
                        "output": text_of(letter, i, k) if last else f"turn {turn} of {k}",
                        "gts": str(i),
                        "score": float(letter == "c"),
                        "step": 40,
                        "reward": float(letter == "c"),
                        "uid": f"{i:08x}-0000-4000-8000-000000000000_{k}_{turn}",
                    }
                )
    jsonl(folder / "40.jsonl", lines)
    return folder


def verl_generation(folder: Path, rows: Table) -> Path:
    """Parquet without verdicts."""
    records = [
        {
            "data_source": "arithmetic",
            "prompt": [{"content": f"What is {i}?", "role": "user"}],
            "ability": "math",
            "reward_model": {"ground_truth": str(i), "style": "rule"},
            "extra_info": {"index": i, "split": "test"},
            "responses": [text_of(letter, i, k) for k, letter in enumerate(row)],
        }
        for i, row in enumerate(rows)
    ]
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(records), folder / "output.parquet")
    return folder


def verifiers_results(folder: Path, rows: Table) -> Path:
    lines = [
        {
            "example_id": i,
            "prompt": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": f"What is {i}?"}],
            "completion": [{"role": "assistant", "content": text_of(letter, i, k)}],
            "answer": str(i),
            "reward": float(letter == "c"),
            "error": None,
            "timing": {"total_ms": 4.0},
            "is_completed": True,
            "is_truncated": False,
            "stop_condition": "has_final_env_response",
            "metrics": {"correct": float(letter == "c")},
            "token_usage": {"input_tokens": 9.0, "output_tokens": 10.0 + k},
            "correct": float(letter == "c"),
        }
        for i, row in enumerate(rows)
        for k, letter in enumerate(row)
    ]
    jsonl(folder / "results.jsonl", lines)
    facts = {
        "env_id": "arithmetic",
        "model": "my/model",
        "num_examples": len(rows),
        "rollouts_per_example": len(rows[0]),
    }
    (folder / "metadata.json").write_text(json.dumps(facts))
    return folder


def episode(problem: int, letter: str, rollout: int) -> dict[str, Any]:
    """A line of traces.jsonl: one agent, one turn, two rewards of which the second is a format point of weight 0."""
    task = {"type": "Sum", "data": {"idx": problem, "prompt": f"What is {problem}?", "answer": str(problem)}}
    task |= {"key": f"key-{problem}", "hash": f"hash-{problem}"}
    trace = {
        "version": 1,
        "id": f"{problem}-{rollout}",
        "task": task,
        "agent": {"config": {}, "name": "agent", "trainable": True},
        "nodes": [
            {"message": {"role": "user", "content": f"What is {problem}?"}, "sampled": False},
            {
                "parent": 0,
                "message": {"role": "assistant", "content": text_of(letter, problem, rollout)},
                "sampled": True,
                "token_ids": [1, 2, 3],
            },
        ],
        "calls": [
            {
                "node": 1,
                "model": "my/model",
                "finish_reason": "stop",
                "usage": {"prompt_tokens": 9, "completion_tokens": 10 + rollout},
            }
        ],
        "rewards": {"correct": {"score": float(letter == "c"), "weight": 1.0}, "format": {"score": 1.0, "weight": 0.0}},
        "metrics": {},
        "is_completed": True,
        "ok": True,
        "stop_condition": "agent_completed",
        "errors": [],
    }
    env, run = {"id": "arithmetic"}, {"type": "eval", "id": "1"}
    return {
        "id": f"e-{problem}-{rollout}",
        "env": env,
        "task": task,
        "run": run,
        "ok": True,
        "errors": [],
        "traces": [trace],
    }


def verifiers_traces(folder: Path, rows: Table) -> Path:
    lines = [episode(i, letter, k) for k in range(len(rows[0])) for i, letter in enumerate(row[k] for row in rows)]
    jsonl(folder / "traces.jsonl", lines)
    return folder


def nemo_gym(folder: Path, rows: Table) -> Path:
    lines = [
        {
            "responses_create_params": {
                "input": [
                    {"role": "developer", "content": "Be brief.", "type": "message"},
                    {"role": "user", "content": f"What is {i}?", "type": "message"},
                ],
                "temperature": None,
            },
            "response": {
                "id": f"resp_{i}_{k}",
                "model": "my/model",
                "object": "response",
                "output": [
                    {"id": "rs", "summary": [{"text": "Let me think.", "type": "summary_text"}], "type": "reasoning"},
                    {
                        "id": "msg",
                        "content": [{"annotations": [], "text": text_of(letter, i, k), "type": "output_text"}],
                        "role": "assistant",
                        "status": "completed",
                        "type": "message",
                    },
                ],
                "incomplete_details": None,
                "usage": {"input_tokens": 9, "output_tokens": 10 + k, "total_tokens": 19 + k},
            },
            "reward": float(letter == "c"),
            "expected_answer": str(i),
            "extracted_answer": answer_of(letter, i, k),
            "_ng_task_index": i,
            "_ng_rollout_index": k,
        }
        for i, row in enumerate(rows)
        for k, letter in enumerate(row)
    ]
    jsonl(folder / "rollouts.jsonl", lines)
    return folder


def evalscope(folder: Path, rows: Table) -> Path:
    """Reviews and predictions of two subsets, whose ids start again; n samples of a problem are one group."""
    half = len(rows) // 2
    for subset, start, part in (("easy", 0, rows[:half]), ("hard", half, rows[half:])):
        reviews, predictions = [], []
        for group, row in enumerate(part):
            for k, letter in enumerate(row):
                index, number = group * len(row) + k, start + group
                text = text_of(letter, number, k)
                asked = [
                    {"role": "user", "content": f"What is {number}?"},
                    {"role": "assistant", "content": [{"type": "text", "text": text}]},
                ]
                score = {
                    "value": {"acc": float(letter == "c")},
                    "extracted_prediction": answer_of(letter, number, k) or "",
                    "prediction": text,
                    "explanation": None,
                    "metadata": {},
                    "main_score_name": None,
                }
                sample = {"score": score, "sample_id": index, "group_id": group, "sample_metadata": {}}
                reviews.append({"index": index, "target": str(number), "messages": asked, "sample_score": sample})
                choice = {"message": {"content": text, "role": "assistant"}, "stop_reason": "stop"}
                usage = {"input_tokens": 9, "output_tokens": 10 + k, "total_tokens": 19 + k}
                output = {"model": "my-model", "choices": [choice], "usage": usage, "error": None}
                predictions.append(
                    {"index": index, "model": "my-model", "model_output": output, "messages": asked, "metadata": {}}
                )
        for kind, lines in (("reviews", reviews), ("predictions", predictions)):
            jsonl(folder / kind / "my-model" / f"arithmetic_{subset}.jsonl", lines[::-1])
    return folder


def livecodebench(folder: Path, rows: Table) -> Path:
    """With and without verdicts, in the folder of the model."""
    problems = [
        {
            "question_title": f"Sum {i}",
            "question_content": f"What is {i}?",
            "platform": "atcoder",
            "question_id": f"abc{i}_a",
            "contest_id": f"abc{i}",
            "contest_date": "2024-01-01T00:00:00",
            "starter_code": "",
            "difficulty": "easy" if i % 2 else "hard",
            "output_list": [text_of(letter, i, k) for k, letter in enumerate(row)],
            "code_list": ["" if letter == "n" else f"print({answer_of(letter, i, k)})" for k, letter in enumerate(row)],
        }
        for i, row in enumerate(rows)
    ]
    graded = [
        {
            **problem,
            "graded_list": [letter == "c" for letter in row],
            "pass@1": row.count("c") / len(row),
            "metadata": [json.dumps({"error_code": -2}) for _ in row],
        }
        for problem, row in zip(problems, rows, strict=True)
    ]
    target = folder / "output" / "my-model"
    target.mkdir(parents=True)
    (target / "Scenario.codegeneration_8_0.2.json").write_text(json.dumps(problems, indent=4))
    (target / "Scenario.codegeneration_8_0.2_eval_all.json").write_text(json.dumps(graded, indent=4))
    return folder


# Format, writer, and the verdict to choose where its files hold several; made.WRITERS and those of this file.
EVERY_WRITER: dict[str, tuple[Callable[[Path, Table], Path], str | None]] = {
    **WRITERS,
    "qwen-math": (qwen_math, None),
    "verifiers": (verifiers_results, None),
    "verifiers-traces": (verifiers_traces, None),
    "nemo-gym": (nemo_gym, None),
    "evalscope": (evalscope, None),
    "livecodebench": (livecodebench, None),
}
