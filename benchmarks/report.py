"""How long a report takes to build, how large it is, and how soon its first chart is on screen.

    python benchmarks/report.py [--runs 12] [--problems 500] [--rollouts 1024] [--keep FOLDER]

Scorecards of simulated checkpoints of one training series: solve rates sharpen from run to run, entropy falls. Making them
is not timed. The build is timed in a fresh process, start-up included, in wall and in CPU seconds; the page in headless
Chromium where it is installed, from the start of loading to the first drawn chart, first with an empty cache and then
five times more. On a machine that does other things as well the CPU seconds are what to read.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import msgspec
import numpy as np

from rlvr_bench.records import EngineInfo, Outcomes, ProfileSums, SamplingParameters
from rlvr_bench.scorers.scorecard import make_scorecard
from rlvr_bench.store import SCHEMA, Manifest, Session
from rlvr_bench.store.verdicts import Grading


def simulated(number: int, ability: np.ndarray, n: int) -> Outcomes:
    """Rollouts of checkpoint ``number``: the later, the surer and the less varied."""
    rng = np.random.default_rng(number)
    size = len(ability)
    logit = (2.2 * ability - 2.6 + 0.25 * number) * (1 + 0.22 * number) + rng.normal(0, 0.4, size)
    problem = np.repeat(np.arange(size), n).astype(np.int32)
    correct = rng.random(size * n) < (1 / (1 + np.exp(-logit)))[problem]
    status = np.where(correct, 0, rng.choice([1, 2, 3], size * n, p=[0.96, 0.035, 0.005])).astype(np.int8)
    wrong = problem * 50 + np.minimum(rng.geometric(min(0.95, 0.15 + 0.05 * number), size * n), 49)
    entropy = np.abs(rng.normal(0.9 * np.exp(-0.18 * number) + 0.15 * ~correct, 0.15))
    n_tokens = np.exp(rng.normal(5 + 0.5 * ~correct, 0.4)).astype(np.int32)
    falling, cell = 1.5 - (np.arange(20) + 0.5) / 20, problem * 4 + status
    count = np.bincount(cell, minlength=4 * size).reshape(size, 4, 1)
    total = np.bincount(cell, entropy, 4 * size).reshape(size, 4, 1)
    return Outcomes(
        problem_ids=tuple(f"problem-{i:04d}" for i in range(size)),
        tiers=tuple(f"level {1 + int(4.999 * (ability > a).mean())}" for a in ability),
        clusters=("",) * size,
        problem=problem,
        index=np.tile(np.arange(n), size).astype(np.int32),
        status=status,
        answer=np.where(status == 0, problem * 50, np.where(status == 1, wrong, -1)).astype(np.int32),
        text=rng.integers(0, size * n, size * n).astype(np.int32),
        candidates=np.ones(size * n, np.int32),
        n_tokens=n_tokens,
        truncated=rng.random(size * n) < 0.01 + 0.004 * number,
        logprob_sum=-entropy * n_tokens,
        entropy_mean=entropy,
        branching_mean=1 + 2 * entropy,
        high_entropy_share=entropy / 4,
        entropy_profile=ProfileSums(total * falling + 0.05 * count, np.broadcast_to(count, (size, 4, 20))),
        asked=n,
    )


def write_card(folder: Path, number: int, outcomes: Outcomes) -> Path:
    name = f"simulated@{25 * number}"
    info = EngineInfo(
        engine="simulated",
        version="1",
        model=name,
        weights=name,
        context_tokens=None,
        chat_template=None,
        token_stats="exact",
        dtype="none",
        device="none",
    )
    manifest = Manifest(
        schema=SCHEMA,
        task="simulated",
        task_version="1",
        task_file="",
        source="benchmarks/report.py",
        problems_sha256="0" * 64,
        n_problems=len(outcomes.problem_ids),
        prompt="raw",
        prompt_sha256="0" * 64,
        chat_template=None,
        model=name,
        weights=name,
        engine="simulated",
        dtype="none",
        token_stats="exact",
        sampling=SamplingParameters(),
        asked={},
        seed=0,
        draw_batch=16,
        stopping=None,
        n=outcomes.asked,
        sessions=(Session.now(outcomes.asked, info),),
    )
    grading = Grading(
        verifier="none", version="1", options={}, folder="", rollouts=0, distinct=0, seconds=0.0, statuses={}
    )
    file = folder / f"{number:02d}.json"
    file.write_bytes(msgspec.json.encode(make_scorecard(manifest, grading, outcomes, answer_space=1000)))
    return file


def timed_build(files: list[Path], page: Path) -> tuple[float, float]:
    """Wall and CPU seconds of ``rlvr-bench report`` in a process of its own."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = [sys.executable, "-m", "rlvr_bench", "report", *map(str, files), "--html", str(page)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.perf_counter() - start, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def first_chart(page: Path, loads: int = 6) -> list[tuple[float, float]]:
    """Per load: seconds from its start to the first drawn chart, and the main thread's busy seconds in all."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (chromium and driver):
        return []
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    samples = []
    with tempfile.TemporaryDirectory() as profile:
        options = webdriver.ChromeOptions()
        options.binary_location = chromium
        for switch in (
            "headless=new",
            "no-sandbox",
            "disable-gpu",
            f"user-data-dir={profile}",
            "window-size=1400,1000",
        ):
            options.add_argument(f"--{switch}")
        browser = webdriver.Chrome(options=options, service=Service(driver))
        try:
            browser.execute_cdp_cmd("Performance.enable", {})
            for _ in range(loads):
                browser.get(page.as_uri())
                mark = browser.execute_script("return performance.getEntriesByName('first chart')[0].startTime")
                metrics = browser.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]
                busy = next(metric["value"] for metric in metrics if metric["name"] == "TaskDuration")
                samples.append((mark / 1000, busy))
        finally:
            browser.quit()
    return samples


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=12)
    parser.add_argument("--problems", type=int, default=500)
    parser.add_argument("--rollouts", type=int, default=1024)
    parser.add_argument("--keep", type=Path, help="Folder to keep the scorecards and the page in.")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        ability = np.random.default_rng(0).normal(size=arguments.problems)
        files = [write_card(folder, i, simulated(i, ability, arguments.rollouts)) for i in range(arguments.runs)]
        page = folder / "report.html"
        wall, cpu = timed_build(files, page)
        print(f"build: {wall:.1f} s wall, {cpu:.1f} s CPU; page {page.stat().st_size / 1e6:.1f} MB")
        loads = first_chart(page)
        if not loads:
            print("first chart: not measured (chromium and chromedriver are not installed)")
        else:
            print("first chart, s after the start of each load:", json.dumps([round(seen, 2) for seen, _ in loads]))
            print("main thread busy, s:", json.dumps([round(busy, 2) for _, busy in loads]))


if __name__ == "__main__":
    main()
