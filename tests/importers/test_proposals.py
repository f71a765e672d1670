"""The mapping that is proposed for home-made files reads them as their own scripts would: n, c, responses and gold answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rlvr_bench.importers.guessing import Proposal, propose
from rlvr_bench.pipeline.importing import ImportOptions, import_run
from rlvr_bench.store.run import open_run
from tests.importers.made import jsonl

pd = pytest.importorskip("pandas")

QUESTIONS = ("What is 1 + 1?", "What is 2 + 1?", "What is 3 + 1?")
RIGHT = ((True, False, False, True), (False, False, False, False), (True, True, True, False))
TEXTS = [[f'It\'s "{k}",\nfor {q} [\\boxed{{{k}}}]' for k in range(4)] for q in range(3)]
EXPECTED = {
    question: (str(number + 2), 4, sum(right), sorted(texts))
    for number, (question, right, texts) in enumerate(zip(QUESTIONS, RIGHT, TEXTS, strict=True))
}


def problems(**lists: Callable[[int, int], Any]) -> list[dict[str, Any]]:
    """A row a problem: question, gold answer, and lists of four values that are made of the numbers of problem and rollout."""
    return [
        {"question": QUESTIONS[q], "answer": str(q + 2)}
        | {name: [of(q, k) for k in range(4)] for name, of in lists.items()}
        for q in range(3)
    ]


def rollouts(**values: Callable[[int, int], Any]) -> list[dict[str, Any]]:
    """A row a rollout."""
    return [
        {"question": QUESTIONS[q], "answer": str(q + 2)} | {name: of(q, k) for name, of in values.items()}
        for q in range(3)
        for k in range(4)
    ]


def text(q: int, k: int) -> str:
    return TEXTS[q][k]


def right(q: int, k: int) -> bool:
    return RIGHT[q][k]


def as_json(path: Path, value: object) -> Path:
    path.write_text(json.dumps(value))
    return path


def as_csv(path: Path, rows: list[dict[str, Any]], **options: Any) -> Path:
    pd.DataFrame(rows).to_csv(path, **options)
    return path


def with_count(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**row, "num_correct": sum(row["is_correct_list"])} for row in rows]


FILES: dict[str, Callable[[Path], Path]] = {
    "a count of the correct beside their list": lambda folder: jsonl(
        folder / "x.jsonl", with_count(problems(responses=text, is_correct_list=right))
    ),
    "lists of rollouts by id": lambda folder: as_json(
        folder / "x.json",
        {f"p{q}": rollouts(response=text, correct=right)[4 * q : 4 * q + 4] for q in range(3)},
    ),
    "rollouts by number": lambda folder: as_json(
        folder / "x.json",
        [
            {
                "question": QUESTIONS[q],
                "answer": str(q + 2),
                "rollouts": {str(k): {"text": text(q, k), "correct": right(q, k)} for k in range(4)},
            }
            for q in range(3)
        ],
    ),
    "rollouts by a name with a number": lambda folder: jsonl(
        folder / "x.jsonl",
        [
            {
                "question": QUESTIONS[q],
                "answer": str(q + 2),
                "generations": {f"sample_{k}": {"text": text(q, k), "ok": right(q, k)} for k in range(4)},
            }
            for q in range(3)
        ],
    ),
    "a list of one verdict": lambda folder: jsonl(
        folder / "x.jsonl", rollouts(response=text, scores=lambda q, k: [float(right(q, k))])
    ),
    "columns": lambda folder: as_json(
        folder / "x.json", pd.DataFrame(rollouts(response=text, correct=right)).to_dict(orient="list")
    ),
    "columns of pandas": lambda folder: as_json(
        folder / "x.json", json.loads(pd.DataFrame(rollouts(response=text, correct=right)).to_json())
    ),
    "lists as Python prints them in the cells of a CSV": lambda folder: as_csv(
        folder / "x.csv", problems(responses=text, correct=right)
    ),
    "lists as JSON in the cells of a CSV": lambda folder: as_csv(
        folder / "x.csv",
        [
            {name: json.dumps(value) if isinstance(value, list) else value for name, value in row.items()}
            for row in problems(responses=text, correct=right)
        ],
        sep=";",
        index=False,
    ),
    "rewards in the cells of a CSV": lambda folder: as_csv(
        folder / "x.csv", rollouts(response=text, reward=lambda q, k: 1.0 if right(q, k) else -1.0)
    ),
    "the number of the rollout, named index": lambda folder: jsonl(
        folder / "x.jsonl", rollouts(index=lambda _, k: k, model_output=text, is_correct=right)
    ),
    "the gold answer, named solution": lambda folder: jsonl(
        folder / "x.jsonl",
        [
            {("solution" if name == "answer" else name): value for name, value in row.items()}
            for row in rollouts(completion=text, accuracy_reward=lambda q, k: float(right(q, k)), format_reward=lambda *_: 1.0)
        ],
    ),
    "the gold answer in a list of one": lambda folder: jsonl(
        folder / "x.jsonl",
        [
            {**row, "answer": [row["answer"]]}
            for row in rollouts(candidate=text, judge=lambda q, k: "Yes" if right(q, k) else "No")
        ],
    ),
    "labels that are gold answers beside rewards": lambda folder: jsonl(
        folder / "x.jsonl",
        [
            {"input": row["question"], "label": row["answer"], "output": row["output"], "reward": row["reward"]}
            for row in rollouts(output=text, reward=lambda q, k: float(right(q, k)))
        ],
    ),
}  # fmt: skip


def proposed(file: Path) -> Proposal:
    proposal = propose(file)
    assert proposal is not None
    return proposal


@pytest.mark.parametrize("name", FILES)
def test_the_proposal_reads_what_the_script_wrote(name: str, tmp_path: Path) -> None:
    file = FILES[name](tmp_path)
    proposal = proposed(file)
    options = ImportOptions(model="m", task="t", out=tmp_path / "runs", map=proposal.pairs, correct=proposal.correct)
    result = import_run([file], options)
    run = open_run(result.run)
    held: dict[str, list[str]] = {}
    for shard in run.rollouts.read(["problem_id", "text"]):
        for problem, response in zip(shard["problem_id"].to_pylist(), shard["text"].to_pylist(), strict=True):
            held.setdefault(problem, []).append(response)
    counts = {entry["id"]: (entry["n"], entry["c"]) for entry in result.scorecard.problems}
    assert {
        problem.question: (problem.answer, *counts[problem.id], sorted(held[problem.id])) for problem in run.problems()
    } == EXPECTED


def test_keys_name_the_problems_where_no_question_does(tmp_path: Path) -> None:
    file = as_json(tmp_path / "x.json", {f"p{q}": {"n": 8, "c": q} for q in range(3)})
    assert proposed(file).pairs == "problem=#key,n=n,c=c"


def test_the_largest_reward_of_rows_that_are_all_wrong_is_not_called_correct(tmp_path: Path) -> None:
    for reward in (-1.0, 0.1):
        rows = rollouts(response=text, reward=lambda *_, value=reward: value)
        assert proposed(jsonl(tmp_path / f"{reward}.jsonl", rows)).correct == ">=1"


def test_one_problem_with_many_rollouts_has_an_id(tmp_path: Path) -> None:
    rows = [{"problem_id": "p1", "response": f"It is {k}", "correct": True} for k in range(64)]
    assert proposed(jsonl(tmp_path / "x.jsonl", rows)).pairs == "problem=problem_id,text=response,verdict=correct"


def test_a_model_may_answer_in_json(tmp_path: Path) -> None:
    rows = rollouts(response=lambda q, k: json.dumps({"answer": text(q, k)}), correct=right)
    assert (
        proposed(jsonl(tmp_path / "x.jsonl", rows)).pairs
        == "question=question,gold=answer,text=response,verdict=correct"
    )


def test_a_column_for_every_rollout_gets_no_proposal_of_one_of_them(tmp_path: Path) -> None:
    rows = [
        {"question": QUESTIONS[q]}
        | {f"response_{k}": text(q, k) for k in range(4)}
        | {f"correct_{k}": right(q, k) for k in range(4)}
        for q in range(3)
    ]
    assert propose(jsonl(tmp_path / "x.jsonl", rows)) is None
