"""The command line as a user runs it: in a separate process, with exit statuses and one clear line for bad input."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

CLI = (sys.executable, "-m", "rlvr_bench")
EVALUATE = ("evaluate", "--model", "fake", "--task", "double_countdown")


def run(*args: str, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "COLUMNS": "120", **environment}
    env.pop("RLVR_BENCH_DATA_DIR", None) if "RLVR_BENCH_DATA_DIR" not in environment else None
    return subprocess.run([*CLI, *args], capture_output=True, text=True, cwd=cwd, env=env, timeout=120)


def test_evaluate_prints_the_curve_the_boundary_and_where_the_files_are(tmp_path: Path) -> None:
    shown = run(*EVALUATE, "-n", "64", "--limit", "50", "--out", str(tmp_path))
    assert shown.returncode == 0, shown.stderr
    for k in (1, 4, 16, 64):
        assert re.search(rf"pass@{k} +\d+\.\d% +\d+\.\d% to \d+\.\d%", shown.stdout)
    assert re.search(r"unsolved in 64 +\d+ of 50 +\d+ to \d+", shown.stdout)
    assert "truncation 0.0%" in shown.stdout
    assert f"{tmp_path}/fake/double_countdown/scorecard.json" in shown.stdout
    assert "3,200/3,200 rollouts" in shown.stderr


def test_stages_rerun_alone_and_agree_with_evaluate(tmp_path: Path) -> None:
    whole = run(*EVALUATE, "-n", "20", "--out", str(tmp_path / "a"), "--json")
    sampled = run("sample", *EVALUATE[1:], "-n", "20", "--out", str(tmp_path / "b"), "--json")
    folder = json.loads(sampled.stdout)["run"]
    before = run("score", folder)
    assert before.returncode == 2
    assert "not graded yet. Run `rlvr-bench grade" in before.stderr
    graded = json.loads(run("grade", folder, "--json").stdout)
    assert graded["grading"]["rollouts"] == 6000
    assert graded["flips"] == []
    scored = json.loads(run("score", folder, "--json").stdout)
    assert scored["estimates"] == json.loads(whole.stdout)["estimates"]
    assert scored["problems"] == json.loads(whole.stdout)["problems"]
    assert json.loads((Path(folder) / "scorecard.json").read_text()) == scored
    assert "6,000 rollouts by countdown" in run("grade", folder).stdout


def test_topping_up_draws_only_the_rest(tmp_path: Path) -> None:
    first = json.loads(run(*EVALUATE, "-n", "16", "--out", str(tmp_path), "--json").stdout)
    again = run(*EVALUATE, "-n", "40", "--out", str(tmp_path), "--json")
    counts = {problem["id"]: problem["c"] for problem in json.loads(again.stdout)["problems"]}
    assert all(problem["n"] == 40 for problem in json.loads(again.stdout)["problems"])
    assert all(counts[problem["id"]] >= problem["c"] for problem in first["problems"])
    fewer = json.loads(run(*EVALUATE, "-n", "16", "--out", str(tmp_path), "--json").stdout)
    assert all(problem["n"] == 40 for problem in fewer["problems"])


BAD_INPUT = [
    (
        ("evaluate", "--model", "fake", "--task", "double_countdwn"),
        "unknown task 'double_countdwn'. Did you mean 'double_cou",
    ),
    (
        ("evaluate", "--model", "zoo:bse", "--task", "double_countdown"),
        "unknown zoo checkpoint 'bse'. Did you mean 'base'?",
    ),
    (("evaluate", "--model", "./nowhere", "--task", "double_countdown"), "./nowhere: no such folder"),
    (("evaluate", "--model", "/", "--task", "double_countdown"), "no config.json in it"),
    (
        ("evaluate", "--model", "zoo:base", "--task", "double_countdown", "--engine", "vlm"),
        "unknown engine 'vlm'. Did you mean",
    ),
    (("evaluate", "--model", "fake:x", "--task", "double_countdown"), "unknown fake model"),
    ((*EVALUATE, "-n", "0"), "-n is 0: must be at least 1"),
    ((*EVALUATE, "--top-p", "1.5"), "--top-p is 1.5: must be in (0, 1]"),
    ((*EVALUATE, "--temperature", "-1"), "--temperature is -1.0"),
    (
        ("evaluate", "--model", "zoo:base", "--task", "double_countdown", "--engine", "vllm", "--temperature", "0.001"),
        "vLLM draws no temperature between 0 and 0.01",
    ),
    ((*EVALUATE, "--min-p", "1.2"), "--min-p is 1.2: must be in [0, 1]"),
    ((*EVALUATE, "--repetition-penalty", "0"), "--repetition-penalty is 0.0: must be above 0"),
    ((*EVALUATE, "--presence-penalty", "nan"), "--presence-penalty is nan: must be in [-2, 2]"),
    ((*EVALUATE, "--stop", ""), "--stop is ('',): must be texts, none of them empty"),
    ((*EVALUATE, "--stop", "x", "--tools", "python"), "--stop is ['x']: not with --tools"),
    (
        ("evaluate", "--model", "zoo:base", "--task", "double_countdown", "--stop", "Question:"),
        "--stop is 'Question:': this model's tokenizer cannot produce it",
    ),
    (
        ("evaluate", "--model", "zoo:base", "--task", "double_countdown", "--stop", "<eos>"),
        "--stop is '<eos>': <eos> is a special token of this model",
    ),
    ((*EVALUATE, "--limit", "0"), "--limit is 0"),
    ((*EVALUATE, "--max-tokens", "0"), "--max-tokens is 0"),
    ((*EVALUATE, "--max-tokens", "auto"), "--max-tokens is 'auto'"),
    ((*EVALUATE, "--prompt", "qwen"), "unknown prompt 'qwen'. Did you mean 'qwen-boxed'?"),
    ((*EVALUATE, "--engine-arg", "x"), "--engine-arg is 'x': must read NAME=VALUE"),
    (("evaluate", "--model", "fake", "--task", "gsm8k", "--data-dir", "/nowhere"), "no gsm8k.jsonl"),
    (("evaluate", "--model", "fake", "--task", "./mine.py"), "mine.py: no such task file"),
    (("score", "."), ": not a run"),
    (("grade", "/nowhere"), "not a run"),
    (("tasks", "show", "nothing"), "unknown task 'nothing'"),
    (("zoo", "train", "nothing"), "nothing"),
]


@pytest.mark.parametrize(
    ("args", "message"), BAD_INPUT, ids=lambda value: " ".join(value)[-40:] if isinstance(value, tuple) else ""
)
def test_bad_input_is_one_clear_line_and_status_2_and_writes_nothing(
    tmp_path: Path, args: tuple[str, ...], message: str
) -> None:
    shown = run(*args, cwd=tmp_path)
    assert shown.returncode == 2, shown.stderr
    lines = shown.stderr.strip().splitlines()
    assert len(lines) == 1, shown.stderr
    assert message in lines[0]
    assert not list(tmp_path.iterdir())


def test_another_run_in_the_same_folder_is_refused_naming_the_field(tmp_path: Path) -> None:
    run(*EVALUATE, "-n", "4", "--out", str(tmp_path))
    shown = run(*EVALUATE, "-n", "4", "--seed", "1", "--out", str(tmp_path))
    assert shown.returncode == 2
    assert "seed: run has 0, asked 1" in shown.stderr


def test_no_permission_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    shown = run(*EVALUATE, "-n", "4", "--out", str(tmp_path / "file"))
    assert shown.returncode == 2
    assert "cannot write to" in shown.stderr


def test_ctrl_c_keeps_what_was_drawn_and_says_how_to_go_on(tmp_path: Path) -> None:
    command = [*CLI, *EVALUATE, "-n", "4096", "--out", str(tmp_path)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    shards = tmp_path / "fake" / "double_countdown" / "rollouts"
    deadline = time.monotonic() + 60
    while not (shards.is_dir() and list(shards.glob("*.parquet"))) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "What was drawn is kept: the same command goes on from there." in stderr
    assert "Traceback" not in stderr
    resumed = run(*EVALUATE, "-n", "64", "--out", str(tmp_path), "--json")
    assert all(problem["n"] >= 64 for problem in json.loads(resumed.stdout)["problems"])


def test_tasks_are_listed_shown_and_validated() -> None:
    listed = json.loads(run("tasks", "list", "--json").stdout)
    assert {key: next(t for t in listed if t["name"] == "gsm8k")[key] for key in ("name", "problems")} == {
        "name": "gsm8k",
        "problems": 1319,
    }
    assert "double_countdown" in run("tasks", "list").stdout
    shown = json.loads(run("tasks", "show", "double_countdown", "--json").stdout)
    assert shown["problems"] == 300
    assert shown["first prompt"] == "15,14,6,7>29,42:"
    assert "300 problems, 7 cases, all right" in run("tasks", "validate", "double_countdown").stdout


def test_a_task_with_wrong_cases_fails_validation(tmp_path: Path) -> None:
    (tmp_path / "mine.jsonl").write_text('{"q":"1+1?","a":"2"}\n')
    (tmp_path / "mine.py").write_text(
        "from pathlib import Path\nfrom rlvr_bench import Case, LocalFile, Problem, Task\n"
        "TASK = Task(name='mine', version='1', summary='s', prompt='raw', verifier='integer', source=LocalFile("
        "file=Path(__file__).parent / 'mine.jsonl', to_problem=lambda r: Problem(id='a', question=r.text('q'), "
        "answer=r.text('a'))), cases=(Case('\\\\boxed{3}', 'correct'),))\n"
    )
    shown = run("tasks", "validate", str(tmp_path / "mine.py"))
    assert shown.returncode == 2
    assert "case 1" in shown.stdout
    assert "expected correct, got wrong" in shown.stdout


def test_the_zoo_lists_its_checkpoints() -> None:
    assert "zoo:base" in run("zoo", "list").stdout
    assert "base" in json.loads(run("zoo", "list", "--json").stdout)


def test_version_and_help() -> None:
    assert re.fullmatch(r"rlvr-bench \d+\.\d+\.\d+\S*", run("--version").stdout.strip())
    assert "evaluate" in run("--help").stdout


def test_a_dry_run_says_what_it_would_draw_and_writes_nothing(tmp_path: Path) -> None:
    shown = run(*EVALUATE, "-n", "1024", "--out", str(tmp_path), "--dry-run", "--json")
    (forecast,) = json.loads(shown.stdout)
    assert (forecast["problems"], forecast["rollouts"], forecast["drawn"]) == (300, 307_200, 0)
    assert "307,200" in run(*EVALUATE, "-n", "1024", "--out", str(tmp_path), "--dry-run").stdout
    assert not list(tmp_path.iterdir())


def test_a_series_reports_the_failed_checkpoint_and_ends_with_status_2(tmp_path: Path) -> None:
    task = ("--task", "double_countdown", "-n", "8", "--limit", "10", "--out", str(tmp_path))
    shown = run("evaluate", "--model", "fake:0.5", "--model", "./gone", "--model", "fake:0.1", *task)
    assert shown.returncode == 2
    assert shown.stdout.count("pass@8") == 2
    assert "rlvr-bench: ./gone on double_countdown: ./gone: no such folder" in shown.stderr


def test_an_adaptive_run_says_which_estimator_it_used(tmp_path: Path) -> None:
    task = ("--task", "double_countdown", "-n", "64", "--stop-after", "4", "--out", str(tmp_path), "--json")
    card = json.loads(run("evaluate", "--model", "fake", *task).stdout)
    assert min(problem["n"] for problem in card["problems"]) == 16
    assert max(problem["n"] for problem in card["problems"]) == 64
    assert "unbiased under stop-after 4" in next(e["method"] for e in card["estimates"] if e["name"] == "pass@k")


def test_score_takes_any_budgets_and_says_why_one_has_no_value(tmp_path: Path) -> None:
    folder = json.loads(run("sample", *EVALUATE[1:], "-n", "16", "--out", str(tmp_path), "--json").stdout)["run"]
    run("grade", folder)
    card = json.loads(run("score", folder, "--k", "3,16,17", "--json").stdout)
    curve = {e["k"]: e for e in card["estimates"] if e["name"] == "pass@k"}
    assert list(curve) == [3, 16, 17]
    assert curve[17]["value"] is None
    assert "fewer than 17 rollouts" in curve[17]["note"]
    shown = run("score", folder, "--k", "0")
    assert shown.returncode == 2
    assert "--k is '0': every budget must be at least 1" in shown.stderr


def test_two_runs_are_compared_and_unlike_ones_refused(tmp_path: Path) -> None:
    out = ("--out", str(tmp_path))
    for model in ("fake:0.1", "fake:0.6"):
        run("evaluate", "--model", model, "--task", "double_countdown", "-n", "32", *out)
    runs = [str(tmp_path / name / "double_countdown") for name in ("fake-0.1", "fake-0.6")]
    shown = run("compare", *runs)
    assert shown.returncode == 0, shown.stderr
    assert re.search(r"pass@1 +\d+\.\d% +\d+\.\d% +\+\d+\.\d pts", shown.stdout)
    assert "crossover" in shown.stdout
    assert json.loads(run("compare", *runs, "--k", "1,32", "--json").stdout)
    run("evaluate", *EVALUATE[1:], "-n", "8", "--prompt", "simple-boxed", *out)
    other = run("compare", runs[0], str(tmp_path / "fake" / "double_countdown"))
    assert other.returncode == 2
    assert "prompt" in other.stderr


def test_verdicts_are_audited(tmp_path: Path) -> None:
    (tmp_path / "sums.jsonl").write_text('{"q":"1+1?","a":"2"}\n{"q":"1/2+1/3?","a":"5/6"}\n')
    (tmp_path / "sums.py").write_text(
        "from pathlib import Path\nfrom rlvr_bench import LocalFile, Problem, Task\n"
        "TASK = Task(name='sums', version='1', summary='s', prompt='raw', verifier='math', source=LocalFile("
        "file=Path(__file__).parent / 'sums.jsonl', to_problem=lambda r: Problem(id=str(r.number), question=r.text('q'), "
        "answer=r.text('a'))))\n"
    )
    run(
        "evaluate",
        "--model",
        "fake:0.5",
        "--task",
        str(tmp_path / "sums.py"),
        "-n",
        "32",
        "--out",
        str(tmp_path / "runs"),
    )
    folder = str(tmp_path / "runs" / "fake-0.5" / "sums")
    task = ("--task", str(tmp_path / "sums.py"))
    audit = json.loads(run("grade", folder, *task, "--audit", "20", "--json").stdout)["audit"]
    assert (audit["sample"], audit["disagree"]) == (20, 0)
    card = json.loads(run("score", folder, "--json").stdout)
    assert card["quality"]["audit_disagreement_rate"] == 0.0
    assert "audit of 20 of" in run("grade", folder, *task, "--audit", "20").stdout
