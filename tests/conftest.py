"""Shared fixtures. Real benchmark sets are in a mirror folder: RLVR_BENCH_DATA_DIR, or ../shared/data next to the checkout."""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rlvr_bench.cli import main
from rlvr_bench.records import Draw, DrawRequest, EngineInfo, Problem, Prompt, Rollout, SamplingParameters
from rlvr_bench.store import SCHEMA, Manifest, Session

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """Restore the log level: the command line lowers it for the whole process, which would affect later tests."""
    logger = logging.getLogger("rlvr_bench")
    level = logger.level
    yield
    logger.setLevel(level)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    folder = Path(os.environ.get("RLVR_BENCH_DATA_DIR") or ROOT.parent / "shared" / "data")
    if not (folder / "gsm8k.jsonl").is_file():
        pytest.skip("no mirror of the real benchmark sets here (set RLVR_BENCH_DATA_DIR)")
    return folder


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run files with long tests first, so that two workers end at the same time."""
    long = {item.path for item in items if item.get_closest_marker("slow") or item.get_closest_marker("vllm")}
    items.sort(key=lambda item: item.path not in long)


@pytest.fixture
def problems() -> list[Problem]:
    return [Problem(id=f"p{i}", question=f"What is {i} + 1?", answer=str(i + 1), tier="t") for i in range(4)]


def require(module: str, extra: str) -> None:
    """Skip the test if a module is missing. In CI fail instead: ``make test`` installs the module there."""
    if importlib.util.find_spec(module) is None:
        if os.environ.get("CI"):
            pytest.fail(f"{module} is not installed, and CI must not pass without its tests")
        pytest.skip(f"{module} is not installed: pip install 'rlvr-bench[{extra}]'", allow_module_level=True)


def info_of(engine: str = "fake", **changed: Any) -> EngineInfo:
    """The description of an invented engine, with these fields changed."""
    fields: dict[str, Any] = {
        "version": "1",
        "model": "m",
        "weights": "w",
        "context_tokens": None,
        "chat_template": None,
        "token_stats": "none",
        "dtype": "none",
        "device": "none",
    }
    return EngineInfo(engine=engine, **(fields | changed))


def run_verb(*arguments: str) -> int | str | None:
    """The exit status of the command line, run in this process."""
    try:
        main(list(arguments))
    except SystemExit as stopped:
        return stopped.code
    return None


def manifest_with(**changed: object) -> Manifest:
    """A manifest of a run of the fake engine, with these fields changed."""
    info = info_of()
    fields: dict[str, object] = {
        "schema": SCHEMA,
        "task": "t",
        "task_version": "1",
        "task_file": "",
        "source": "here",
        "problems_sha256": "0",
        "n_problems": 4,
        "prompt": "raw",
        "prompt_sha256": "0",
        "chat_template": None,
        "model": "m",
        "weights": "w",
        "engine": "fake",
        "dtype": "none",
        "token_stats": "none",
        "sampling": SamplingParameters(),
        "asked": {},
        "seed": 0,
        "draw_batch": 16,
        "stopping": None,
        "n": 16,
        "sessions": (Session.now(16, info),),
    }
    return Manifest(**{**fields, **changed})  # type: ignore[arg-type]


def draw_of(problem_id: str, start: int, n: int, text: Callable[[int], str] = lambda i: f"\\boxed{{{i}}}") -> Draw:
    """A finished draw of n rollouts, their texts made from their indices."""
    request = DrawRequest(prompt=Prompt(problem_id=problem_id, text="?"), start=start, n=n, seed=start)
    rollouts = tuple(
        Rollout(problem_id=problem_id, index=i, text=text(i), n_tokens=3, finish_reason="stop")
        for i in range(start, start + n)
    )
    return Draw(request=request, rollouts=rollouts)


@pytest.fixture
def make_manifest() -> Callable[..., Manifest]:
    return manifest_with


@pytest.fixture
def make_draw() -> Callable[..., Draw]:
    return draw_of
