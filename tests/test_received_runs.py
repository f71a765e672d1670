"""A run folder is data: nothing that it names or holds is run, and what it holds is what it says."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from rlvr_bench import pipeline
from rlvr_bench.datasets import content_digest
from rlvr_bench.errors import RlvrBenchError, RunError
from rlvr_bench.pipeline import GradeOptions, SampleOptions
from rlvr_bench.records import Problem
from rlvr_bench.store import RunWriter, open_run
from rlvr_bench.verifiers.sandbox import sandbox_problem
from tests.conftest import require, run_verb

ONE = GradeOptions(workers=1)
CANARY = "from pathlib import Path\nPath({canary!r}).write_text('ran')\n"
OWN_TASK = """
from rlvr_bench import Generated, Problem, Task
TASK = Task(name="mine", version="1", summary="s", prompt="raw", verifier="exact", options={{"policy": "boxed"}},
    answer_space=7, source=Generated(generate=lambda: [Problem(id=str(i), question="?", answer=str(i + {shift}))
    for i in range(4)], rows=4, sha256=None))
"""


def own_task(folder: Path, shift: int = 0) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "mine.py").write_text(OWN_TASK.format(shift=shift))
    return folder / "mine.py"


def draw(out: Path, task: str, **options: object) -> Path:
    chosen = {"n": 4, "out": out, **options}
    run, _ = pipeline.evaluate("fake:0.5", task, SampleOptions(**chosen), ONE)  # type: ignore[arg-type]
    return run


def rewrite(run: Path, **changed: object) -> None:
    """Change fields of a manifest; None takes one out."""
    manifest = json.loads((run / "manifest.json").read_text()) | changed
    known = {name: value for name, value in manifest.items() if name not in changed or value is not None}
    (run / "manifest.json").write_text(json.dumps(known))


def every_verb(run: Path, tmp_path: Path) -> None:
    """Run everything that takes a run folder; whether it succeeds does not matter here."""
    for verb in (
        ("score", str(run)),
        ("grade", str(run), "--workers", "1"),
        ("grade", str(run), "--audit", "4", "--workers", "1"),
        ("rescore", str(run), "--model", "fake"),
        ("intervene", str(run)),
        ("select", str(run), "--out", str(tmp_path / "chosen.jsonl")),
        ("series", str(run)),
        ("report", str(run), "--html", str(tmp_path / "page.html")),
        ("compare", str(run), str(run)),
        ("leaderboard", str(run)),
        ("check", str(run), "--against", str(run / "scorecard.json"), "--max-drop", "pass@1=1"),
    ):
        assert run_verb(*verb) in (None, 0, 1, 2), verb


@pytest.mark.parametrize(
    "names",
    [
        lambda file: {"task_file": str(file)},
        lambda file: {"task": str(file), "task_file": ""},
        lambda file: {"task": "../evil.py", "task_file": ""},
        lambda file: {"task": f"{file.with_suffix('')}", "task_file": ""},
        lambda file: {"imported": "lm-eval", "task_file": str(file)},
        lambda file: {"task": "evil", "task_file": "evil"},
    ],
)
def test_no_verb_runs_what_a_folder_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: Callable[[Path], dict[str, object]]
) -> None:
    run, canary = draw(tmp_path / "runs", "double_countdown", limit=4), tmp_path / "canary"
    for folder in (run, run.parent, tmp_path):
        (folder / "evil.py").write_text(CANARY.format(canary=str(canary)))
    rewrite(run, facts=None, **names(run / "evil.py"))
    for folder in (run, tmp_path):
        monkeypatch.chdir(folder)
        every_verb(run, tmp_path)
    assert not canary.exists()


@pytest.mark.parametrize("limit", [None, 3])
@pytest.mark.parametrize("task", ["humaneval", "mbpp"])
def test_tests_that_were_put_into_a_code_run_do_not_run(
    tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch, task: str, limit: int | None
) -> None:
    """Nor where the manifest was made to agree with them: what decides is what the shipped task pins."""
    monkeypatch.setenv("RLVR_BENCH_DATA_DIR", str(data_dir))
    run = pipeline.sample("fake:0.5", task, SampleOptions(n=1, out=tmp_path / "runs", limit=limit))
    canary = tmp_path / "canary"
    lines = [json.loads(line) for line in (run / "problems.jsonl").read_text().splitlines()]
    for line in lines:
        line["answer"] = "    import os\n" + line["answer"]
        for name in ("test", "tests", "setup", "test_setup"):
            if isinstance(line["data"].get(name), str):
                line["data"][name] = CANARY.format(canary=str(canary)) + line["data"][name]
            elif isinstance(line["data"].get(name), list):
                line["data"][name] = [CANARY.format(canary=str(canary))]
    (run / "problems.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(RunError, match="not the problems that this run was drawn on"):
        pipeline.grade(run, ONE)
    rewrite(run, problems_file_sha256=None)
    with pytest.raises(RlvrBenchError, match="problems"):
        pipeline.grade(run, ONE)
    every_verb(run, tmp_path)
    assert not canary.exists()


def test_a_part_of_a_code_task_is_graded_with_its_data_only(
    tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = pipeline.sample("fake:0.5", "mbpp", SampleOptions(n=1, out=tmp_path / "runs", limit=2, data_dir=data_dir))
    monkeypatch.setenv("RLVR_BENCH_DATA_DIR", str(tmp_path))  # no mirror in it
    with pytest.raises(RunError, match="only with the task's data, because their tests are run"):
        pipeline.grade(run, ONE)
    monkeypatch.delenv("RLVR_BENCH_DATA_DIR")
    assert pipeline.grade(run, ONE, data_dir=data_dir)[0].rollouts == 2


def test_a_run_of_a_users_task_scores_anywhere_and_is_graded_with_the_named_file(tmp_path: Path) -> None:
    task = own_task(tmp_path / "here")
    run = draw(tmp_path / "runs", str(task))
    first = (run / "scorecard.json").read_bytes()
    moved = tmp_path / "there" / "run"
    shutil.copytree(run, moved)
    shutil.rmtree(tmp_path / "here")
    assert {e.name for e in pipeline.score(moved).estimates} >= {"pass@k", "guess@k"}  # the answer space came along
    assert (moved / "scorecard.json").read_bytes() == first
    with pytest.raises(RunError, match="task of your own, 'mine'. Name its file to go on: --task FILE"):
        pipeline.grade(moved, ONE)
    again = own_task(tmp_path / "elsewhere")
    assert pipeline.grade(moved, ONE, task=str(again))[0].rollouts == 16
    assert run_verb("grade", str(moved), "--task", str(again), "--workers", "1") in (None, 0)


def test_a_named_task_must_be_the_runs_own(tmp_path: Path) -> None:
    run = draw(tmp_path / "runs", str(own_task(tmp_path / "here")))
    with pytest.raises(RunError, match="its problems are not those of the task 'mine'"):
        pipeline.grade(run, ONE, task=str(own_task(tmp_path / "changed", shift=1)))
    with pytest.raises(RunError, match="drawn with the task 'mine', not with 'double_countdown'"):
        pipeline.grade(run, ONE, task="double_countdown")
    own_task(tmp_path / "changed")
    assert pipeline.grade(run, ONE, task=str(tmp_path / "changed" / "mine.py"))[0].rollouts == 16


def test_a_task_with_parameters_is_graded_by_its_name(tmp_path: Path) -> None:
    require("reasoning_gym", "reasoning-gym")
    run = draw(tmp_path / "runs", "reasoning_gym:chain_sum,size=3")
    assert pipeline.grade(run, ONE)[0].rollouts == 12
    text = (run / "problems.jsonl").read_text()
    (run / "problems.jsonl").write_text(text.replace('"answer":"', '"answer":"1'))
    rewrite(run, problems_file_sha256=None, problems_sha256="0" * 64, n_problems=9)
    with pytest.raises(RunError, match="its problems are not those of the task"):
        pipeline.grade(run, ONE)


@pytest.mark.parametrize("field", ["folder", "verifier"])
def test_a_folder_of_verdicts_does_not_lead_out_of_the_run(tmp_path: Path, field: str) -> None:
    run = draw(tmp_path, "double_countdown", limit=4)
    grading = json.loads((run / "grading.json").read_text())
    (run / "grading.json").write_text(json.dumps({**grading, field: f"../../../{grading[field]}"}))
    for reader in (pipeline.score, lambda run: pipeline.grade(run, ONE)):
        with pytest.raises(RunError, match="grading.json: damaged .*no plain folder name"):
            reader(run)


# ------------------------------------------------------------------------------------------------ problems.jsonl
def doubled(lines: list[str]) -> list[str]:
    return [*lines, lines[0]]


def other_gold(lines: list[str]) -> list[str]:
    return [lines[0].replace('"answer":"', '"answer":"9'), *lines[1:]]


def other_tier(lines: list[str]) -> list[str]:
    return [lines[0].replace('"tier":"', '"tier":"x'), *lines[1:]]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> dict[int | None, Path]:
    """A run of all problems and one of eight."""
    return {limit: draw(tmp_path_factory.mktemp("drawn"), "double_countdown", limit=limit) for limit in (None, 8)}


@pytest.mark.parametrize("limit", [None, 8])
@pytest.mark.parametrize("is_old", [False, True])
@pytest.mark.parametrize(
    "change", [doubled, other_gold, other_tier, lambda lines: lines[1:], lambda lines: [], lambda lines: ["{"]]
)
def test_problems_that_were_changed_are_refused_by_every_reader(
    tmp_path: Path,
    drawn: dict[int | None, Path],
    change: Callable[[list[str]], list[str]],
    is_old: bool,
    limit: int | None,
) -> None:
    run = Path(shutil.copytree(drawn[limit], tmp_path / "run"))
    if is_old:
        if change is other_tier or (limit and change is other_gold):
            pytest.skip("an old run does not have what would show it")
        rewrite(run, problems_file_sha256=None, facts=None)
    file = run / "problems.jsonl"
    lines = file.read_text().splitlines(keepends=True)
    changed = change(lines)
    assert changed != lines
    file.write_text("".join(changed))
    for reader in (pipeline.score, lambda run: pipeline.grade(run, ONE)):
        with pytest.raises(RunError, match=r"problems\.jsonl: (not the problems|damaged)"):
            reader(run)
    assert run_verb("report", str(run), "--html", str(tmp_path / "page.html")) in (None, 0, 2)


@pytest.mark.parametrize("limit", [None, 8])
def test_an_old_run_opens_scores_and_is_topped_up(tmp_path: Path, limit: int | None) -> None:
    run = draw(tmp_path / "runs", "double_countdown", limit=limit)
    rewrite(run, problems_file_sha256=None, facts=None)
    assert pipeline.score(run).run["n"] == 4
    assert pipeline.grade(run, ONE)[0].rollouts == 4 * (limit or 300)
    assert draw(tmp_path / "runs", "double_countdown", limit=limit, n=8) == run
    assert open_run(run).manifest.problems_file_sha256 is not None


@pytest.mark.parametrize("n", [4, 8])
@pytest.mark.parametrize("limit", [4, 8, 12])
@pytest.mark.parametrize("change", [other_gold, other_tier, lambda lines: [lines[1], lines[0], *lines[2:]]])
def test_changed_problems_of_an_old_run_are_neither_topped_up_nor_recorded(
    tmp_path: Path, change: Callable[[list[str]], list[str]], limit: int, n: int
) -> None:
    run = draw(tmp_path, "double_countdown", limit=8)
    rewrite(run, problems_file_sha256=None, facts=None)
    file, manifest = run / "problems.jsonl", (run / "manifest.json").read_bytes()
    file.write_text("".join(change(file.read_text().splitlines(keepends=True))))
    before = file.read_bytes()
    with pytest.raises(RunError, match=r"problems\.jsonl: not the problems .*problem 1 is 'dc-") as error:
        draw(tmp_path, "double_countdown", limit=limit, n=n)
    assert "\n" not in str(error.value)
    assert (file.read_bytes(), (run / "manifest.json").read_bytes()) == (before, manifest)


def test_a_writer_refuses_changed_problems_by_itself(tmp_path: Path) -> None:
    run = draw(tmp_path, "double_countdown", limit=8)
    rewrite(run, problems_file_sha256=None)
    opened, file = open_run(run), run / "problems.jsonl"
    problems = opened.problems()
    file.write_text("".join(other_gold(file.read_text().splitlines(keepends=True))))
    for asked in (problems, problems[:3]):
        with pytest.raises(RunError, match=r"problems\.jsonl: not the problems"):
            RunWriter(run, opened.manifest, asked)


def test_a_kill_between_problems_and_manifest_is_mended_by_the_same_command(tmp_path: Path) -> None:
    run = draw(tmp_path, "double_countdown", limit=4)
    before = (run / "manifest.json").read_bytes()
    draw(tmp_path, "double_countdown", limit=6)
    (run / "manifest.json").write_bytes(before)
    with pytest.raises(RunError, match="not the problems"):
        pipeline.score(run)
    draw(tmp_path, "double_countdown", limit=6)
    assert len(open_run(run).problems()) == 6


def test_an_imported_runs_problems_are_checked_too(tmp_path: Path) -> None:
    (tmp_path / "counts.csv").write_text("problem_id,n,c\na,4,1\nb,4,2\n")
    command = ("import", str(tmp_path / "counts.csv"), "--model", "m", "--task", "t", "--out", str(tmp_path / "runs"))
    assert run_verb(*command) in (None, 0)
    run = open_run(tmp_path / "runs" / "m" / "t")
    assert [problem.id for problem in run.problems()] == ["a", "b"]
    file = run.path / "problems.jsonl"
    file.write_text(file.read_text().replace('"id":"a"', '"id":"c"'))
    with pytest.raises(RunError, match="not the problems"):
        run.problems()


# ------------------------------------------------------------------------------------------------ parameters of a task
@pytest.mark.parametrize("parameters", ["size=3,symbols=[{code}]", "size=300000000"])
def test_parameters_that_a_manifest_names_are_not_handed_to_a_generator(
    tmp_path: Path, parameters: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    require("reasoning_gym", "reasoning-gym")
    if without := sandbox_problem():
        pytest.skip(without)
    import reasoning_gym.factory

    run, canary = draw(tmp_path / "runs", "reasoning_gym:simple_integration,size=3"), tmp_path / "canary"
    shutil.rmtree(run / "verdicts")
    (run / "grading.json").unlink()
    code = json.dumps(f"__import__('os').system('touch {canary}')")
    task = f"reasoning_gym:simple_integration,{parameters.format(code=code)}"
    rewrite(run, task=task, task_file=task)

    def refuse(*args: object, **more: object) -> None:
        raise AssertionError("generated or scored in this process")

    with monkeypatch.context() as patched:
        patched.setattr(reasoning_gym.factory, "create_dataset", refuse)
        patched.setattr(reasoning_gym.factory, "get_score_answer_fn", refuse)
        with caplog.at_level("INFO"):
            assert pipeline.grade(run, ONE)[0].rollouts == 12
        assert "were not generated again" in caplog.text
        with pytest.raises(RunError, match="without a sandbox.*type --task '?reasoning_gym:simple_integration"):
            pipeline.grade(run, GradeOptions(workers=1, allow_unsafe_code=True))
        every_verb(run, tmp_path)
    assert not canary.exists()


def test_a_task_with_parameters_that_is_typed_is_generated_and_compared(tmp_path: Path) -> None:
    require("reasoning_gym", "reasoning-gym")
    task = "reasoning_gym:chain_sum,size=3"
    run = draw(tmp_path / "runs", task)
    assert pipeline.grade(run, ONE, task=task)[0].rollouts == 12
    text = (run / "problems.jsonl").read_text().replace('"answer":"', '"answer":"1')
    (run / "problems.jsonl").write_text(text)
    problems = [msgspec.json.decode(line, type=Problem) for line in text.splitlines()]
    rewrite(run, problems_file_sha256=None, problems_sha256=content_digest(problems))
    with pytest.raises(RunError, match="its problems are not those of the task"):
        pipeline.grade(run, ONE, task=task)
