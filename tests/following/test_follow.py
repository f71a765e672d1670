"""Following a folder of checkpoints: when one is whole, overwritten or deleted, and several followers at once."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import rlvr_bench
from rlvr_bench import GradeOptions, SampleOptions
from rlvr_bench.cli import main
from rlvr_bench.errors import BadArgument, RlvrBenchError, RunLocked
from rlvr_bench.following import Followed, FollowOptions, follow, follower
from rlvr_bench.following.checkpoints import Watch
from rlvr_bench.pipeline.batch import Result
from tests.samplers.tiny_llama import make_tiny_llama

ROOT = Path(__file__).parents[2]
TASK = "double_countdown"
ONCE = FollowOptions(once=True, settle_s=0, poll_s=0.01)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_llama(tmp_path_factory.mktemp("tiny") / "model")


def write(tiny: Path, folder: Path, *, age_s: float = 10_000) -> Path:
    """A checkpoint whose files are so old."""
    shutil.copytree(tiny, folder, dirs_exist_ok=True)
    for file in folder.iterdir():
        os.utime(file, (time.time() - age_s,) * 2)
    return folder


def look(watch: Watch) -> list[int]:
    return [point.step for point in watch.look()]


def test_a_checkpoint_is_whole_when_complete_and_unchanged(tiny: Path, tmp_path: Path) -> None:
    pattern = str(tmp_path / "global_step_*")
    write(tiny, tmp_path / "global_step_10")
    assert look(Watch(pattern, settle_s=5000)) == [10]
    fresh = write(tiny, tmp_path / "global_step_20", age_s=0)
    watch = Watch(pattern, settle_s=20_000)
    assert look(watch) == []  # not even the old one: it is younger than that
    assert "less than 20000 s ago" in watch.incomplete[fresh]
    watch = Watch(pattern, settle_s=5000)
    assert look(watch) == [10]
    (tmp_path / "global_step_30").mkdir()
    (tmp_path / "global_step_40").write_text("a file")
    (tmp_path / "global_step_new").mkdir()
    assert look(Watch(pattern, settle_s=0)) == [10, 20]
    assert look(Watch(pattern, every=20, settle_s=0)) == [20]


def test_what_is_missing_is_named(tiny: Path, tmp_path: Path) -> None:
    (cut,) = (file for file in write(tiny, tmp_path / "step_1").iterdir() if file.suffix == ".safetensors")
    cut.write_bytes(cut.read_bytes()[:-10])
    indexed = write(tiny, tmp_path / "step_2")
    index = {"weight_map": {"a": "model.safetensors", "b": "model-2.safetensors"}}
    (indexed / "model.safetensors.index.json").write_text(json.dumps(index))
    raw = tmp_path / "step_3" / "actor"
    raw.mkdir(parents=True)
    (raw / "model_world_size_2_rank_0.pt").write_bytes(b"x")
    bare = write(tiny, tmp_path / "step_4")
    (bare / "model.safetensors").unlink()
    watch = Watch(str(tmp_path / "step_*"), settle_s=0)
    assert watch.look() == []
    reasons = [watch.incomplete[tmp_path / f"step_{i}"] for i in (1, 2, 3, 4)]
    expected = ["shorter than its header says", "such as model-2.safetensors", "model_merger", "no weights in it yet"]
    for reason, part in zip(reasons, expected, strict=True):
        assert part in reason
        assert "\n" not in reason


def test_of_two_folders_with_one_step_the_first_is_followed(tiny: Path, tmp_path: Path) -> None:
    for name in ("step_5", "step_05"):
        write(tiny, tmp_path / name)
    watch = Watch(str(tmp_path / "step_*"), settle_s=0)
    assert [point.folder.name for point in watch.look()] == ["step_05"]
    assert "step_05 has this step too" in watch.incomplete[tmp_path / "step_5"]


def test_a_file_that_grows_is_waited_for(tiny: Path, tmp_path: Path) -> None:
    """By the clock of the look, because a shared disk's clock may be ahead."""
    folder = write(tiny, tmp_path / "step_1", age_s=-1000)
    watch = Watch(str(tmp_path / "step_*"), settle_s=0.2)
    assert look(watch) == []
    (folder / "notes.txt").write_text("more")
    os.utime(folder / "notes.txt", (time.time() + 1000,) * 2)
    time.sleep(0.3)
    assert look(watch) == []
    deadline = time.monotonic() + 60
    while look(watch) != [1]:
        assert time.monotonic() < deadline
        time.sleep(0.05)


class Evaluations:
    """Stands for the evaluation of a checkpoint: nothing, or the fake model, whose rate rises with the step."""

    def __init__(self) -> None:
        self.models: list[str] = []
        self.before: Callable[[str], object] = lambda model: None
        self.is_real = False

    def __call__(
        self, model: str, tasks: Sequence[str], options: SampleOptions, grading: GradeOptions, progress: object
    ) -> Iterator[Result]:
        self.before(model)
        self.models.append(Path(model).name)
        for task in tasks:
            if self.is_real:
                step = int(model.rpartition("_")[2])
                run, card = rlvr_bench.evaluate(f"fake:{0.1 + step / 1000}", task, options, grading)
                yield Result(model=model, task=task, run=run, scorecard=card)
            else:
                yield Result(model=model, task=task)


@pytest.fixture
def evaluations(monkeypatch: pytest.MonkeyPatch) -> Evaluations:
    evaluations = Evaluations()
    monkeypatch.setattr(follower, "_evaluated", evaluations)
    return evaluations


def options(out: Path) -> SampleOptions:
    return SampleOptions(n=4, limit=6, out=out)


def test_every_checkpoint_is_evaluated_once_and_published(tiny: Path, tmp_path: Path, evaluations: Evaluations) -> None:
    for step in (100, 20, 3):
        write(tiny, tmp_path / "ckpts" / f"global_step_{step}")
    seen: list[Followed] = []
    evaluations.is_real = True
    out = tmp_path / "runs"
    results = follow(
        str(tmp_path / "ckpts" / "global_step_*"), [TASK], options(out), following=ONCE, on_result=seen.append
    )
    assert evaluations.models == ["global_step_3", "global_step_20", "global_step_100"]
    assert [result.step for result in results] == [3, 20, 100] == [result.step for result in seen]
    folder = out / "followed" / TASK
    published = json.loads((folder / "series.json").read_text())
    assert [point["step"] for point in published["checkpoints"]] == [3, 20, 100]
    assert "<html" in (folder / "report.html").read_text()[:200]


def test_last_first_takes_the_newest_at_every_look(tiny: Path, tmp_path: Path, evaluations: Evaluations) -> None:
    for step in (1, 2, 3):
        write(tiny, tmp_path / f"step_{step}")
    evaluations.before = lambda model: write(tiny, tmp_path / "step_4") if model.endswith("step_3") else None
    following = FollowOptions(once=True, settle_s=0, last_first=True)
    follow(str(tmp_path / "step_*"), [TASK], options(tmp_path / "runs"), following=following)
    assert evaluations.models == ["step_3", "step_4", "step_2", "step_1"]


def test_an_overwritten_checkpoint_is_reported_and_left_out(
    tiny: Path, tmp_path: Path, evaluations: Evaluations
) -> None:
    for step in (1, 2, 3):
        write(tiny, tmp_path / f"step_{step}")

    def overwrite(model: str) -> None:
        if model.endswith("step_2") and "step_2" not in evaluations.models:
            write(tiny, Path(model), age_s=50)
        if model.endswith("step_3"):
            shutil.rmtree(model)

    evaluations.before = overwrite
    seen: list[Followed] = []
    follow(str(tmp_path / "step_*"), [TASK], options(tmp_path / "runs"), following=ONCE, on_result=seen.append)
    assert [(result.step, result.error is None) for result in seen] == [(1, True), (2, False), (2, True), (3, True)]
    assert "overwritten while it was evaluated" in str(seen[1].error)  # its new files are another checkpoint
    assert not (tmp_path / "step_3").exists()  # deleted after its weights were loaded: its results are kept


def test_a_checkpoint_on_which_another_process_works_waits(
    tiny: Path, tmp_path: Path, evaluations: Evaluations
) -> None:
    for step in (1, 2, 3):
        write(tiny, tmp_path / f"step_{step}")

    def fail(model: str) -> None:
        if model.endswith("step_2"):
            raise RunLocked("elsewhere", 7)

    evaluations.before = fail
    results = follow(str(tmp_path / "step_*"), [TASK], options(tmp_path / "runs"), following=ONCE)
    assert [result.step for result in results] == [1, 3]


def test_two_followers_share_the_work(tiny: Path, tmp_path: Path, evaluations: Evaluations) -> None:
    for step in range(1, 7):
        write(tiny, tmp_path / f"step_{step}")
    at_work: set[str] = set()
    twice: list[str] = []

    def work(model: str) -> None:
        if model in at_work:
            twice.append(model)
        at_work.add(model)
        time.sleep(0.05)
        at_work.discard(model)

    evaluations.before = work
    results: list[list[Followed]] = []
    following = FollowOptions(settle_s=0, poll_s=0.05, idle_s=2.0)
    threads = [
        threading.Thread(
            target=lambda: results.append(
                follow(str(tmp_path / "step_*"), [TASK], options(tmp_path / "runs"), following=following)
            )
        )
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert twice == []
    assert {result.step for shown in results for result in shown} == {1, 2, 3, 4, 5, 6}


@pytest.mark.parametrize(
    ("pattern", "more", "match"),
    [
        ("ckpts/model*", {}, "needs steps in the names"),
        ("s3://bucket/model*", {}, "needs steps in the names"),
        ("step_*", {"tasks": []}, "--task"),
        ("step_*", {"tasks": ["math501"]}, "unknown task 'math501'"),
        ("step_*", {"options": SampleOptions(out="s3://bucket/runs")}, "--out"),
    ],
)
def test_bad_arguments_are_one_line(pattern: str, more: dict[str, Any], match: str) -> None:
    with pytest.raises(RlvrBenchError, match=match):
        follow(pattern, **{"tasks": [TASK], "following": ONCE, **more})
    for fields in ({"every": 0}, {"settle_s": -1}, {"poll_s": 0}, {"idle_s": 0}):
        with pytest.raises(BadArgument):
            FollowOptions(**fields)  # type: ignore[arg-type]


def test_nothing_to_follow_is_a_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert follow(str(tmp_path / "step_*"), [TASK], options(tmp_path / "runs"), following=ONCE) == []
    assert "no whole checkpoint matches" in caplog.text


def command(pattern: str, out: Path) -> list[str]:
    drawn = ["-n", "4", "--limit", "6", "--max-tokens", "8", "--draw-batch", "2", "--workers", "1"]
    return [
        "follow",
        pattern,
        "--task",
        TASK,
        *drawn,
        "--engine",
        "transformers",
        "--out",
        str(out),
        "--once",
        "--settle",
        "0",
    ]


def counts(out: Path) -> dict[str, list[tuple[str, int, int]]]:
    cards = {file.parent.parent.name: rlvr_bench.read_scorecard(file) for file in out.glob("*/*/scorecard.json")}
    return {name: [(entry.id, entry.n, entry.c) for entry in card.problems] for name, card in cards.items()}


def test_a_killed_follower_goes_on_where_it_was(tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With the real engine, on a checkpoint that is overwritten at the end."""
    write(tiny, tmp_path / "step_1")
    write(make_tiny_llama(tmp_path / "other", seed=1), tmp_path / "step_2")
    pattern, out = str(tmp_path / "step_*"), tmp_path / "killed"
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, "-m", "rlvr_bench", *command(pattern, out)], env=env)
    deadline = time.monotonic() + 200
    while not [*out.glob("*/*/rollouts/*.parquet")]:
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    main_ends(command(pattern, out), 0)
    main_ends(command(pattern, tmp_path / "undisturbed"), 0)
    assert counts(out) == counts(tmp_path / "undisturbed")
    assert len(counts(out)) == 2
    assert "step 2 on double_countdown: pass@1" in capsys.readouterr().out
    shutil.copy(tmp_path / "other" / "model.safetensors", tmp_path / "step_1")
    main_ends(command(pattern, out), 2)
    shown = capsys.readouterr()
    assert "step 1 on double_countdown" in shown.err
    assert "weights" in shown.err
    assert "step 2 on double_countdown: pass@1" in shown.out


def main_ends(arguments: list[str], status: int) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert (caught.value.code or 0) == status
