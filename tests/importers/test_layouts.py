"""Further layouts of a program's files: older ones, other kinds of verdicts, several files that are one evaluation."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rlvr_bench.errors import BadArgument, DataError
from rlvr_bench.pipeline import importing
from rlvr_bench.pipeline.importing import Imported, ImportOptions, import_run
from rlvr_bench.store.run import open_run
from tests.importers.made import WRITERS, Table, counts_of, eval_log, inspect_sample, jsonl, nemo_line, table
from tests.importers.programs import EVERY_WRITER, text_of
from tests.importers.test_formats import by_number
from tests.importers.test_use import last_number


def imported(*sources: Path, out: Path, **options: Any) -> Imported:
    return import_run(sources, ImportOptions(**{"model": "m", "task": "t", "out": out / "runs", **options}))


def real(*parts: str) -> Path:
    """A real file or folder of another program; the test is skipped where it is not on this machine."""
    root = Path(os.environ.get("RLVR_BENCH_DATA_DIR") or Path(__file__).resolve().parents[3] / "shared" / "data")
    path = root.joinpath("rollouts", *parts)
    if not path.exists():
        pytest.skip(f"{path}: not on this machine")
    return path


def inspect_json(file: Path, samples: list[dict[str, Any]], indent: int | None = 2) -> Path:
    """A log of ``--log-format json``: one object, whose header comes first."""
    facts = {"run_id": "x", "task": "arithmetic", "model": "my/model", "packages": {"inspect_ai": "0.3.285"}}
    log = {"version": 2, "status": "success", "eval": facts, "plan": {"steps": []}, "results": {}, "samples": samples}
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(log, indent=indent))
    return file


@pytest.mark.parametrize("indent", [2, None])
def test_json_logs_of_inspect_are_read_like_the_archives(indent: int | None, tmp_path: Path) -> None:
    rows = table(seed=5)
    samples = [inspect_sample(i, letter, k + 1) for i, row in enumerate(rows) for k, letter in enumerate(row)]
    file = inspect_json(tmp_path / "logs" / "2025_arithmetic.json", samples, indent)
    result = imported(file, out=tmp_path, model=None, task=None, verdict="match")
    assert by_number(result) == counts_of(rows)
    assert result.run.parts[-2:] == ("my--model", "arithmetic")
    assert result.scorecard.run["grading"]["version"] == "0.3.285"
    eval_log(tmp_path / "logs" / "2025_arithmetic.eval", {f"{s['id']}_epoch_{s['epoch']}": s for s in samples})
    both = imported(tmp_path / "logs", out=tmp_path, model="both", verdict="match")
    assert by_number(both) == counts_of(rows), "the same samples in both layouts count once"


def test_a_score_of_inspect_that_is_an_object_gives_a_verdict_per_key(tmp_path: Path) -> None:
    samples = [inspect_sample(i, "c", 1) for i in range(3)]
    for sample, value in zip(samples, ("C", 0, 0.5), strict=True):
        sample["scores"] = {"rubric": {"value": {"right": value, "style": 1}, "answer": "7"}}
    file = inspect_json(tmp_path / "a.json", samples)
    with pytest.raises(DataError, match=r"several verdicts \('rubric/right', 'rubric/style'\)"):
        imported(file, out=tmp_path)
    result = imported(file, out=tmp_path, verdict="rubric/right")
    assert by_number(result) == [(1, 1), (1, 0), (1, 0)]
    assert result.scorecard.quality["error_rate"] == pytest.approx(1 / 3)


def test_every_target_of_inspect_is_kept(tmp_path: Path) -> None:
    samples = [inspect_sample(i, "c", 1) for i in range(3)]
    samples[0]["target"], samples[1]["target"] = ["4", "four"], ["5"]
    run = imported(inspect_json(tmp_path / "a.json", samples), out=tmp_path, verdict="match").run
    assert {problem.id: problem.answer for problem in open_run(run).problems()} == {
        "0": '["4","four"]',
        "1": "5",
        "2": "2",
    }


def own_verifier(folder: Path) -> Path:
    """A task file that has none of the imported problems."""
    (folder / "mine.py").write_text(
        "from rlvr_bench import Generated, Problem, Task\n"
        "NONE = Problem(id='none', question='No problem of the files.', answer='0')\n"
        "TASK = Task(name='mine', version='1', summary='s', verifier='math',\n"
        "    source=Generated(generate=lambda: [NONE], rows=1, sha256=None))\n"
    )
    return folder / "mine.py"


def test_samples_of_inspect_that_failed_before_any_output_are_not_drawn(tmp_path: Path) -> None:
    samples = [inspect_sample(1, letter, k) for k, letter in enumerate("cwcw")]
    failed = {"message": "connection lost", "traceback": ""}
    samples[1] |= {"error": failed, "scores": None, "output": {"model": "", "choices": [], "completion": ""}}
    samples[3] |= {"error": failed, "scores": None}
    result = imported(inspect_json(tmp_path / "a.json", samples), out=tmp_path, verdict="match")
    assert by_number(result) == [(3, 2)]
    assert [problem.error for problem in result.scorecard.problems] == [1], "one failed after its output"
    assert "1 rollouts failed before any output: they count as not drawn" in result.notes
    twice = imported(tmp_path / "a.json", out=tmp_path, model="twice", task=str(own_verifier(tmp_path)), regrade=True)
    assert "1 rollouts failed before any output: they count as not drawn" in twice.notes, (
        "though read for its problems too"
    )
    again = imported(inspect_json(tmp_path / "b.json", samples[::2]), out=tmp_path, model="b", verdict="match")
    assert not any("not drawn" in note for note in again.notes)


@pytest.mark.parametrize(
    ("right", "wrong", "verdict"),
    [
        ({"strict_eval": {"follow_all_instructions": True}}, {"strict_eval": {"follow_all_instructions": False}}, None),
        (
            {"strict_eval": {"follow_all_instructions": True}, "loose_eval": {"follow_all_instructions": False}},
            {"strict_eval": {"follow_all_instructions": False}, "loose_eval": {"follow_all_instructions": True}},
            "strict_eval",
        ),
        ({"proof_status": "completed"}, {"proof_status": "timeout"}, None),
        ({"swe-bench-metrics": {"resolved": True}}, {"swe-bench-metrics": {"resolved": False}}, None),
        (
            {"eval_status": [{"process_status": "completed"}] * 2},
            {"eval_status": [{"process_status": "completed"}, {"process_status": "error"}]},
            None,
        ),
        ({"passed": True}, {"passed": False}, None),
        ({"graded_list": [True]}, {"graded_list": [False]}, None),
        (
            {"judgement": "Fine. Judgement: Yes", "expected_judgement": "Judgement: Yes"},
            {"judgement": "Judgement: No", "expected_judgement": "Judgement: Yes"},
            None,
        ),
        (
            {"judgement": "Judgement: No", "expected_judgement": "Judgement: No"},
            {"judgement": "**Judgment:** No", "expected_judgement": "Judgement: No"},
            None,
        ),
    ],
)
def test_verdicts_of_every_benchmark_of_nemo_skills(
    right: dict[str, Any], wrong: dict[str, Any], verdict: str | None, tmp_path: Path
) -> None:
    """Also without responses and ids, as the program's repository holds such files: lines are paired by their number."""
    rows = ["cwc", "wcw"]
    expected = counts_of(rows)
    for stripped in (False, True):
        folder = tmp_path / f"{stripped}"
        for k in range(3):
            made = [nemo_line(i, "m", k, id=f"p{i}", expected_answer="same") for i in range(2)]
            verdicts = [right if row[k] == "c" else wrong for row in rows]
            kept = [{"num_generated_tokens": 7 + k} if stripped else line for line in made]
            lines = [line | more for line, more in zip(kept, verdicts, strict=True)]
            jsonl(folder / f"output-rs{k}.jsonl", lines)
        result = imported(folder, out=tmp_path, model=f"{stripped}", verdict=verdict)
        assert [(row.n, row.c) for row in result.scorecard.problems] == expected
        assert ("counts only" in " ".join(result.notes)) == stripped


def test_several_verdicts_of_nemo_skills_ask_for_a_choice(tmp_path: Path) -> None:
    both = {"strict_eval": {"follow_all_instructions": True}, "loose_eval": {"follow_all_instructions": True}}
    file = jsonl(tmp_path / "output-rs0.jsonl", [nemo_line(1, "m", 0, **both)])
    with pytest.raises(DataError, match=r"several verdicts \('strict_eval', 'loose_eval'\)"):
        imported(file, out=tmp_path)


@pytest.mark.parametrize(
    ("benchmark", "verdict", "n", "c"),
    [
        ("answer-judge", None, 48, 21),
        ("gpqa", None, 16, 8),
        ("hendrycks_math", None, 21, 15),
        ("ifeval", "strict_eval", 9, 3),
        ("minif2f", None, 12, 4),
    ],
)
def test_real_files_of_nemo_skills(benchmark: str, verdict: str | None, n: int, c: int, tmp_path: Path) -> None:
    """c counted with the program's own rules (nemo_skills/evaluation/metrics at commit 0b012df)."""
    result = imported(real("nemo_skills", benchmark), out=tmp_path, verdict=verdict)
    problems = result.scorecard.problems
    assert (sum(row.n for row in problems), sum(row.c for row in problems)) == (n, c)


def old_lighteval(folder: Path, rows: list[str], *, as_text: bool, metric: str) -> Path:
    """Details before ``doc`` and ``model_response``; the oldest have every field as the text of a Python value."""
    records = [
        {
            "example": f"What is {i}?",
            "instruction": "",
            "full_prompt": f"Question: What is {i}?",
            "predictions": [text_of(letter, i, k) for k, letter in enumerate(row)],
            "gold": [str(i)],
            "choices": [],
            "gold_index": [],
            "metrics": {metric.format(n=len(row)): row.count("c") / len(row)},
        }
        for i, row in enumerate(rows)
    ]
    if as_text:
        kept = ("example", "instruction", "full_prompt")
        records = [{name: value if name in kept else str(value) for name, value in row.items()} for row in records]
    file = folder / "details" / "my" / "model" / "2024-11-22T02-29" / "details_math|0_2024-11-22T02-29-35.05.parquet"
    file.parent.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(records), file)
    return folder


@pytest.mark.parametrize("as_text", [False, True])
def test_older_details_of_lighteval(as_text: bool, tmp_path: Path) -> None:
    rows = table(seed=8)
    folder = old_lighteval(tmp_path / "files", rows, as_text=as_text, metric="math_pass@1:{n}_samples")
    result = imported(folder, out=tmp_path, model=None, task=None)
    assert by_number(result) == counts_of(rows)
    assert (result.scorecard.run["model"], result.scorecard.run["task"]) == ("my/model", "math|0")
    single = [row[:1] for row in rows]
    folder = old_lighteval(tmp_path / "single", single, as_text=as_text, metric="extractive_match")
    run = imported(folder, out=tmp_path, model="single").run
    assert by_number(imported(folder, out=tmp_path, model="again")) == counts_of(single)
    assert {problem.answer for problem in open_run(run).problems()} == set(map(str, range(12)))
    ours = imported(folder, out=tmp_path, model="ours", task=last_number(tmp_path), regrade=True)
    assert by_number(ours) == counts_of(single)


@pytest.mark.parametrize("metric", ["math_pass@1:4_samples", "math_pass@8:{n}_samples", "maj@8"])
def test_numbers_of_older_lighteval_that_give_no_count(metric: str, tmp_path: Path) -> None:
    folder = old_lighteval(tmp_path, table(), as_text=False, metric=metric)
    with pytest.raises(DataError, match="is no mean over the 8 responses"):
        imported(folder, out=tmp_path)


@pytest.mark.parametrize("value", ["[open('x')]", "[1", "__import__('os')", "(" * 5000, "1" * 5000])
def test_texts_that_are_no_python_values_are_refused(value: str, tmp_path: Path) -> None:
    row = {"example": "x", "full_prompt": "x", "predictions": value, "gold": "['1']", "metrics": "{'em': 1}"}
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "details.parquet")
    with pytest.raises(DataError, match=r"details\.parquet, row 1: (predictions is a text|no generated responses)"):
        imported(tmp_path / "details.parquet", out=tmp_path)


def old_evalplus(folder: Path, rows: Table, name: str = "samples_eval_results.json", right: str = "success") -> Path:
    """Results before February 2024: an object per task, without the samples."""
    graded = {
        f"HumanEval/{i}": {
            "nfiles": len(row),
            "base": [[right if letter == "c" or k % 2 else "failed", [True]] for k, letter in enumerate(row)],
            "plus": [[right if letter == "c" else "timeout", []] for letter in row],
        }
        for i, row in enumerate(rows)
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps({"date": "2023-11-22 02:29", "hash": "abc", "eval": graded}))
    return folder


@pytest.mark.parametrize("right", ["success", "pass"])
def test_older_results_of_evalplus_and_those_in_a_folder_of_samples(right: str, tmp_path: Path) -> None:
    rows = table(seed=9)
    alone = imported(old_evalplus(tmp_path / "alone", rows, "eval_results.json", right), out=tmp_path, verdict="plus")
    assert by_number(alone) == counts_of(rows)
    assert "counts only" in " ".join(alone.notes)
    folder = old_evalplus(tmp_path / "files", rows, right=right)
    samples = [{"task_id": f"HumanEval/{i}", "completion": f"{i}, {k}"} for k in range(8) for i in range(12)]
    jsonl(folder / "samples.jsonl", samples)
    result = imported(folder, out=tmp_path, verdict="plus", model="samples")
    assert by_number(result) == counts_of(rows)
    tables = open_run(result.run).rollouts.read(["problem_id", "index", "text"])
    stored = {(row["problem_id"], row["index"], row["text"]) for part in tables for row in part.to_pylist()}
    assert stored == {(f"HumanEval/{i}", k, f"{i}, {k}") for k in range(8) for i in range(12)}
    base = imported(folder, out=tmp_path, verdict="base", model="base")
    expected = [sum(letter == "c" or k % 2 for k, letter in enumerate(row)) for row in rows]
    assert [c for _, c in by_number(base)] == expected


def test_results_of_evalplus_whose_samples_are_others_are_counts(tmp_path: Path) -> None:
    folder = old_evalplus(tmp_path / "files", ["cw", "wc"])
    jsonl(folder / "samples.jsonl", [{"task_id": "HumanEval/0", "completion": "one of two"}])
    result = imported(folder, out=tmp_path, verdict="plus")
    assert by_number(result) == [(2, 1), (2, 1)]
    assert "counts only" in " ".join(result.notes)


def lm_eval_tasks(folder: Path, names: list[str], groups: dict[str, list[str]] | None) -> Path:
    """One evaluation of several tasks, three times: a file of samples per task and date."""
    for seed, name in enumerate(names):
        made = WRITERS["lm-eval"][0](folder / name, table(seed=seed, problems=4, n=3))
        for file in made.rglob("samples_arithmetic_*.jsonl"):
            (folder / file.name.replace("arithmetic", name)).write_bytes(file.read_bytes() + b"\n" * seed)
            file.unlink()
        for file in made.rglob("results_*.json"):
            facts = json.loads(file.read_text()) | ({} if groups is None else {"group_subtasks": groups})
            (folder / file.name).write_text(json.dumps(facts))
            file.unlink()
    return folder


@pytest.mark.parametrize(
    ("names", "groups", "task"),
    [
        (["math_algebra", "math_geometry", "math_precalc", "math_number"], None, "math"),
        (["gsm8k", "aime"], {"all": ["gsm8k", "aime", "x"], "two": ["gsm8k", "aime"], "x": []}, "two"),
        (["gsm8k", "aime"], {"outer": ["inner", "y"], "inner": ["gsm8k", "aime"], "loop": ["loop"]}, "inner"),
    ],
)
def test_subtasks_of_lm_eval_are_one_run(
    names: list[str], groups: dict[str, list[str]] | None, task: str, tmp_path: Path
) -> None:
    folder = lm_eval_tasks(tmp_path / "files", names, groups)
    result = imported(folder, out=tmp_path, model=None, task=None, verdict="exact_match,strict-match")
    assert result.run.parts[-2:] == ("my--model", task)
    rows = {row.id: row for row in result.scorecard.problems}
    for seed, name in enumerate(names):
        for i, (n, c) in enumerate(counts_of(table(seed=seed, problems=4, n=3))):
            assert (rows[f"{name}/{i}"].n, rows[f"{name}/{i}"].c, rows[f"{name}/{i}"].cluster) == (n, c, name)
    assert any(f"one run of {task}" in note for note in result.notes)
    single = imported(*folder.glob(f"samples_{names[0]}_2025*"), out=tmp_path, verdict="exact_match,strict-match")
    assert {row.id for row in single.scorecard.problems} == set("0123")


def test_tasks_of_lm_eval_that_are_no_group_are_refused(tmp_path: Path) -> None:
    folder = lm_eval_tasks(tmp_path / "files", ["gsm8k", "gsm8k_cot"], None)
    with pytest.raises(DataError, match=r"samples of several tasks \(gsm8k, gsm8k_cot\)"):
        imported(folder, out=tmp_path, verdict="exact_match,strict-match")


def test_generations_of_bigcode_are_graded_by_a_task(tmp_path: Path) -> None:
    rows = ["cw", "cc", "ww"]
    texts = [[text_of(letter, i, k) for k, letter in enumerate(row)] for i, row in enumerate(rows)]
    file = tmp_path / "generations_humaneval.json"
    file.write_text(json.dumps(texts))
    with pytest.raises(BadArgument, match="must name a task whose verifier .*: bigcode files hold no verdicts"):
        imported(file, out=tmp_path)
    from tests.importers.test_programs import responses

    assert [entry.problem for entry in responses(file)] == [f"HumanEval/{i}" for i in (0, 0, 1, 1, 2, 2)]
    assert [entry.text for entry in responses(file)] == [text for part in texts for text in part]
    file.rename(tmp_path / "generations_mbpp.json")
    assert {entry.problem for entry in responses(tmp_path / "generations_mbpp.json")} == {"0", "1", "2"}


def test_code_that_livecodebench_did_not_find_is_no_answer(tmp_path: Path) -> None:
    rows = ["cnw", "nnc"]
    result = imported(EVERY_WRITER["livecodebench"][0](tmp_path / "files", rows), out=tmp_path, model=None)
    assert by_number(result) == [(3, 1), (3, 1)]
    assert result.run.parts[-2] == "my-model"
    assert [row.tier for row in sorted(result.scorecard.problems, key=lambda row: row.id)] == ["hard", "easy"]
    statuses = result.scorecard.run["grading"]["statuses"]
    assert (statuses["no_answer"], statuses["wrong"], statuses["correct"]) == (3, 1, 2)


@pytest.mark.parametrize(
    ("file", "n", "c"),
    [
        ("nemo_gym/code_gen.jsonl", 5, 1),
        ("nemo_gym/instruction_following.jsonl", 5, 2),
        ("nemo_gym/mcqa.jsonl", 5, 3),
        ("nemo_gym/reasoning_gym.jsonl", 5, 2),
        ("evalscope/reviews_gsm8k_main.jsonl", 8, 8),
        ("evalscope/reviews_ifeval_default.jsonl", 8, 6),
        ("inspect/log_formats.json", 1, 0),
        ("inspect/log_read_sample.json", 1, 1),
        ("inspect/popularity.json", 3, 2),
    ],
)
def test_real_files_of_other_programs(file: str, n: int, c: int, tmp_path: Path) -> None:
    """n and c counted by hand."""
    problems = imported(real(*file.split("/")), out=tmp_path).scorecard.problems
    assert (sum(row.n for row in problems), sum(row.c for row in problems)) == (n, c)


def test_a_real_file_of_tora_is_graded_by_our_verifier(tmp_path: Path, data_dir: Path) -> None:
    file = real("tora", "gsm8k_first20.jsonl")
    result = imported(file, out=tmp_path, task="gsm8k", regrade=True, data_dir=data_dir)
    assert {row.n for row in result.scorecard.problems} == {1}
    assert len(result.scorecard.problems) == 20
    assert "20 of the 1319 problems of gsm8k" in result.notes
    assert next(iter(open_run(result.run).problems())).answer == "18"


def test_a_task_whose_problems_are_not_at_hand_grades_those_of_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def not_at_hand(*_: object) -> None:
        raise DataError("cannot load the problems from the hub.")

    monkeypatch.setattr(importing, "load_task", not_at_hand)
    result = imported(real("tora", "gsm8k_first20.jsonl"), out=tmp_path, task="gsm8k", regrade=True)
    assert any("not matched to those of gsm8k" in note and "from the hub" in note for note in result.notes)
    answers = {problem.id: problem.answer for problem in open_run(result.run).problems()}
    assert (answers["0"], len(answers)) == ("18", 20)


@pytest.mark.parametrize("name", EVERY_WRITER)
def test_every_format_may_be_packed(name: str, tmp_path: Path) -> None:
    """With gzip, in the program's folders; only an archive of inspect_ai and parquet of verl are packed by themselves."""
    write, verdict = EVERY_WRITER[name]
    rows = table(seed=12)
    source = write(tmp_path / "files", rows)
    for file in [path for path in source.rglob("*") if path.is_file() and "results_" not in path.name]:
        if name != "inspect" and file.name != "metadata.json":
            Path(f"{file}.gz").write_bytes(gzip.compress(file.read_bytes()))
            file.unlink()
    assert by_number(imported(source, out=tmp_path, verdict=verdict)) == counts_of(rows)
