"""A run against a server: drawn, resumed after failures, and its statistics said to be bounds."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from rlvr_bench import pipeline
from rlvr_bench.errors import BadArgument, EngineError, RunMismatch
from rlvr_bench.pipeline import SampleOptions
from rlvr_bench.pipeline.forecast import forecast
from rlvr_bench.pipeline.options import Silent
from rlvr_bench.store import open_run, shards
from tests.samplers.scripted_server import Reply, ScriptedServer, probe_text, serving, settle

TASK = "double_countdown"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    settle(monkeypatch)


def options(out: Path, **changed: object) -> SampleOptions:
    fields: dict[str, Any] = {
        "n": 8,
        "limit": 5,
        "out": out,
        "draw_batch": 4,
        "engine_args": {"retries": "1"},
        **changed,
    }
    return SampleOptions(**fields)


def test_a_server_is_sampled_graded_and_scored(tmp_path: Path) -> None:
    with serving(ScriptedServer()) as server:
        run, card = pipeline.evaluate(server.url, TASK, options(tmp_path))
    manifest = open_run(run).manifest
    assert (manifest.engine, manifest.token_stats) == ("endpoint", "bounds")
    assert all(problem["n"] == 8 for problem in card.problems)
    assert sum(problem["c"] for problem in card.problems) == 0
    (table,) = open_run(run).rollouts.read(
        ["entropy_mean", "entropy_low", "entropy_high", "branching_low", "branching_high"]
    )
    for row in table.to_pylist():
        assert row["entropy_mean"] is None
        assert 0 <= row["entropy_low"] <= row["entropy_high"]
        assert 1 <= row["branching_low"] <= row["branching_high"]


def test_failed_requests_are_drawn_by_the_next_run(tmp_path: Path) -> None:
    broken = True

    def script(path: str, body: dict[str, Any]) -> Reply | None:
        drawing = "completions" in path and "robe" not in probe_text(body)  # not while getting acquainted
        fails = broken and drawing and body.get("seed", 0) % 3 == 0
        return Reply({"error": "overloaded"}, status=503) if fails else None

    with serving(ScriptedServer(script=script)) as server:
        with pytest.raises(EngineError, match=r"\d+ of \d+"):
            pipeline.evaluate(server.url, TASK, options(tmp_path))
        partly = sum(drawn.count() for drawn in open_run(next(tmp_path.glob("*/*"))).drawn().values())
        assert 0 < partly < 40
        broken = False
        run, card = pipeline.evaluate(server.url, TASK, options(tmp_path))
    assert [problem["n"] for problem in card.problems] == [8] * 5
    assert len(open_run(run).manifest.sessions) == 2


def test_a_kill_costs_the_batches_that_are_open_and_they_are_asked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One batch has no reply yet when the command ends: the others are on disk, and it is sent again as it was."""
    released, held = threading.Event(), list[tuple[int, int]]()

    class Killed(Exception):
        pass

    class Kill(Silent):
        drawn = 0

        def advance(self, rollouts: int, tokens: int = 0) -> None:
            self.drawn += rollouts if tokens else 0
            if self.drawn == 36:
                raise Killed

    def script(path: str, body: dict[str, Any]) -> Reply | None:
        if "completions" in path and "robe" not in probe_text(body) and (not held or held == [asked(body)]):
            held[:] = [asked(body)]
            released.wait(60)
        return None

    def asked(body: dict[str, Any]) -> tuple[int, int]:
        return body["seed"], body.get("n", 1)

    monkeypatch.setattr(shards, "SHARD_SECONDS", 0.0)
    with serving(ScriptedServer(script=script)) as server:
        with pytest.raises(Killed):
            pipeline.sample(server.url, TASK, options(tmp_path), progress=Kill())
        released.set()
        (run,) = tmp_path.glob("*/*")
        assert sum(drawn.count() for drawn in open_run(run).drawn().values()) == 36
        before = len(server.draws())
        pipeline.sample(server.url, TASK, options(tmp_path))
        assert [asked(body) for body in server.draws()[before:]] == held
    assert sum(drawn.count() for drawn in open_run(run).drawn().values()) == 40


def test_a_server_that_is_down_is_one_clear_line_and_nothing_is_written(tmp_path: Path) -> None:
    with serving(ScriptedServer()) as server:
        url = server.url
    with pytest.raises(EngineError, match="cannot reach") as error:
        pipeline.evaluate(url, TASK, options(tmp_path))
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_a_url_and_an_engine_that_do_not_go_together_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadArgument, match="a URL needs the endpoint engine"):
        pipeline.sample("http://127.0.0.1:1/v1", TASK, options(tmp_path, engine="vllm"))
    with pytest.raises(BadArgument, match="the endpoint engine needs a URL"):
        pipeline.sample("zoo:base", TASK, options(tmp_path, engine="endpoint"))


@pytest.mark.parametrize("kind", ["plain", "vllm"])
def test_a_run_against_a_server_is_continued_and_a_finished_one_needs_no_server(tmp_path: Path, kind: str) -> None:
    with serving(ScriptedServer(kind=kind)) as server:
        pipeline.evaluate(server.url, TASK, options(tmp_path, n=4))
        assert forecast(server.url, TASK, options(tmp_path, n=8)).drawn == 20
        run, card = pipeline.evaluate(server.url, TASK, options(tmp_path, n=8))
        assert len(server.draws()) in (10, 40)  # no draw was asked for twice
        url = server.url
    assert [problem["n"] for problem in card.problems] == [8] * 5
    for n in (8, 4):
        assert pipeline.evaluate(url, TASK, options(tmp_path, n=n))[0] == run
    with pytest.raises(EngineError, match="cannot reach"):
        pipeline.evaluate(url, TASK, options(tmp_path, n=12))


@pytest.mark.parametrize("changed", [{"token_stats": "off"}, {"token_stats": "full"}])
def test_what_only_the_server_can_say_is_left_to_it(tmp_path: Path, changed: dict[str, Any]) -> None:
    with serving(ScriptedServer(kind="vllm")) as server:
        pipeline.evaluate(server.url, TASK, options(tmp_path, n=4))
        url = server.url
    with pytest.raises((EngineError, RunMismatch)):
        pipeline.evaluate(url, TASK, options(tmp_path, n=4, **changed))


def test_a_server_that_takes_something_else_now_is_refused(tmp_path: Path) -> None:
    with serving(ScriptedServer(logprobs=True)) as server:
        pipeline.evaluate(server.url, TASK, options(tmp_path, n=4))
        server.logprobs = False
        with pytest.raises(RunMismatch, match="log-probabilities"):
            pipeline.evaluate(server.url, TASK, options(tmp_path, n=8))
