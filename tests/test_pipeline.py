"""Stages joined: what is drawn, resumed and reported is exactly what was asked, and errors come before anything is written."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rlvr_bench import pipeline
from rlvr_bench.comparison.cards import read_card
from rlvr_bench.errors import BadArgument, DataError, ModelError, RunError, StorageError
from rlvr_bench.pipeline import GradeOptions, SampleOptions, models
from rlvr_bench.pipeline.batch import evaluate_all, expand_models
from rlvr_bench.pipeline.forecast import forecast
from rlvr_bench.pipeline.options import Silent
from rlvr_bench.records import Draw, DrawRequest, EngineInfo, Prompt, SamplingParameters
from rlvr_bench.samplers.fake import FakeSampler
from rlvr_bench.samplers.protocol import Sampler
from rlvr_bench.samplers.seeds import draw_seed
from rlvr_bench.scorecard import Scorecard
from rlvr_bench.store import open_run, shards
from rlvr_bench.store.verdicts import Verdicts, current_grading
from rlvr_bench.task import load_task

TASK = "double_countdown"


def options(tmp_path: Path, **changed: object) -> SampleOptions:
    return SampleOptions(**{"n": 16, "limit": 20, "out": tmp_path, **changed})  # type: ignore[arg-type]


def estimates(scorecard: Scorecard, name: str) -> dict[int | None, float | None]:
    return {e.k: e.value for e in scorecard.estimates if e.name == name and e.group is None}


def test_a_known_solve_rate_is_found(tmp_path: Path) -> None:
    """300 problems at p = 0.1, n = 64: pass@k must be 1 - 0.9^k within its interval's reach."""
    _, scorecard = pipeline.evaluate("fake:0.1", TASK, options(tmp_path, n=64, limit=None))
    for k, value in estimates(scorecard, "pass@k").items():
        assert k is not None
        assert value is not None
        truth = 1 - 0.9**k
        assert abs(value - truth) < 5 * max(np.sqrt(truth * (1 - truth) / 300), 1e-3)
    estimate = next(e for e in scorecard.estimates if e.name == "pass@k" and e.k == 1)
    assert estimate.low is not None
    assert estimate.high is not None
    assert estimate.low < 0.1 < estimate.high
    assert estimate.n_problems == 300


def test_topped_up_resumed_and_straight_runs_hold_the_same_rollouts(tmp_path: Path) -> None:
    straight = pipeline.sample("fake", TASK, options(tmp_path / "a", n=64))
    for n in (16, 32, 64):
        stepped = pipeline.sample("fake", TASK, options(tmp_path / "b", n=n))
    assert rows(straight) == rows(stepped)


def rows(run: Path) -> set[tuple[str, int, str, int]]:
    stored = [row for table in open_run(run).rollouts.read() for row in table.to_pylist()]
    keyed = {(row["problem_id"], row["index"], row["text"], row["draw_seed"]) for row in stored}
    assert len(keyed) == len(stored)
    return keyed


def test_no_rollout_stream_is_used_twice(tmp_path: Path) -> None:
    """n = 64, then 72, then 256: every (seed + place in its draw) is distinct, also between the children of an engine."""
    for n in (64, 72, 256):
        run = pipeline.sample("fake", TASK, options(tmp_path, n=n))
    streams = [
        row["draw_seed"] + row["index"] - row["draw_start"]
        for table in open_run(run).rollouts.read(["draw_seed", "index", "draw_start"])
        for row in table.to_pylist()
    ]
    assert len(streams) == 256 * 20
    assert len(set(streams)) == len(streams)


def test_seeds_depend_on_run_task_problem_and_place() -> None:
    seeds = {draw_seed(r, t, p, s) for r in (0, 1) for t in ("a", "b") for p in ("x", "y") for s in (0, 16)}
    assert len(seeds) == 16
    assert all(0 <= seed < 2**62 for seed in seeds)
    assert draw_seed(0, "a", "x", 0) == draw_seed(0, "a", "x", 0)


class Failing(FakeSampler):
    """Dies after some draws, like a machine that loses power between them."""

    def __init__(self, inner: Sampler, after: int) -> None:
        self._inner, self._after = inner, after

    @property
    def info(self) -> EngineInfo:
        return self._inner.info

    def draw(self, requests: Iterable[DrawRequest | None], sampling: SamplingParameters) -> Iterator[Draw]:
        for number, draw in enumerate(self._inner.draw(requests, sampling)):
            if number == self._after:
                raise RuntimeError("the machine died")
            yield draw


def test_a_run_that_dies_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    straight = pipeline.sample("fake", TASK, options(tmp_path / "a", n=48))
    honest = models.open_fake
    for after in (0, 7, 31):
        monkeypatch.setattr(models, "open_fake", lambda model, loaded, k=after: Failing(honest(model, loaded), k))
        with pytest.raises(RuntimeError, match="died"):
            pipeline.sample("fake", TASK, options(tmp_path / "b", n=48))
    monkeypatch.undo()
    assert rows(pipeline.sample("fake", TASK, options(tmp_path / "b", n=48))) == rows(straight)


class Short(FakeSampler):
    """A model with a context of 40 tokens and prompts of a token per character."""

    @property
    def info(self) -> EngineInfo:
        import msgspec

        return msgspec.structs.replace(super().info, context_tokens=40)

    def prompt_tokens(self, prompt: Prompt) -> int:
        return len(prompt.text)


def test_max_tokens_are_cut_to_the_context_unless_they_were_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "FakeSampler", Short)
    run = pipeline.sample("fake", TASK, options(tmp_path, limit=3))
    longest = max(len(problem.question) for problem in load_task(TASK).problems)  # whatever the limit
    sampling = open_run(run).manifest.sampling
    assert sampling is not None
    assert sampling.max_tokens == min(32, 40 - longest)
    with pytest.raises(
        BadArgument, match=r"--max-tokens is 39: the model's context of 40 leaves \d+ after the longest"
    ):
        pipeline.sample("fake", TASK, options(tmp_path / "other", limit=3, max_tokens=39))
    assert not (tmp_path / "other").exists()


def test_max_tokens_auto_is_what_the_context_leaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(BadArgument, match="--max-tokens is 'auto': the model's context is not known"):
        pipeline.sample("fake", TASK, options(tmp_path, limit=3, max_tokens="auto"))
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(models, "FakeSampler", Short)
    longest = max(len(problem.question) for problem in load_task(TASK).problems)
    for n in (16, 32):  # the same command goes on
        run = pipeline.sample("fake", TASK, options(tmp_path, limit=3, n=n, max_tokens="auto"))
        manifest = open_run(run).manifest
        assert manifest.asked == {"max_tokens": "auto"}
        assert manifest.sampling is not None
        assert manifest.sampling.max_tokens == 40 - longest
    assert "max_tokens is" not in caplog.text, "it was asked for"
    pipeline.sample("fake", TASK, options(tmp_path / "cut", limit=3))
    assert "not the task's 32: the model's context has no more room" in caplog.text


def test_asked_and_resolved_sampling_are_both_in_the_manifest(tmp_path: Path) -> None:
    run = pipeline.sample("fake", TASK, options(tmp_path, temperature=0.5))
    manifest = open_run(run).manifest
    assert manifest.asked == {"temperature": 0.5}
    assert manifest.sampling == SamplingParameters(temperature=0.5, top_p=1.0, max_tokens=32)  # the rest: the task's


def test_nothing_is_written_before_the_input_is_known_to_be_good(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        pipeline.evaluate("fake", "gsm8k", options(tmp_path, data_dir=tmp_path / "none"))
    assert not list(tmp_path.iterdir())


def test_a_partly_graded_run_is_not_scored(tmp_path: Path) -> None:
    run, _ = pipeline.evaluate("fake", TASK, options(tmp_path))
    pipeline.sample("fake", TASK, options(tmp_path, n=32))
    with pytest.raises(RunError, match=r"320 rollouts have no verdict. Run `rlvr-bench grade"):
        pipeline.score(run)
    grading, flips = pipeline.grade(run, GradeOptions(workers=1))
    assert (grading.rollouts, flips) == (640, [])
    assert pipeline.score(run).run["n_min"] == 32


def test_a_verifier_that_changed_grades_again_and_lists_the_flips(tmp_path: Path) -> None:
    task = tmp_path / "mine.py"
    source = """
from rlvr_bench import Case, Generated, Problem, Task, Verdict
def judge(response, problem):
    return Verdict(status="correct" if response == {accepted!r} else "wrong")
TASK = Task(name="mine", version="{version}", summary="s", prompt="raw", verifier=judge, gold="{{answer}}",
    source=Generated(generate=lambda: [Problem(id="a", question="?", answer="yes")], rows=1, sha256=None))
"""
    task.write_text(source.format(accepted="yes", version="1"))
    run, first = pipeline.evaluate("fake:1", str(task), options(tmp_path / "runs", n=8))
    assert estimates(first, "pass@k")[1] == 1.0
    task.write_text(source.format(accepted="no", version="1"))  # the file's content counts, version or not
    _, flips = pipeline.grade(run, GradeOptions(workers=1), task=str(task))
    assert flips == [("a", i, "correct", "wrong") for i in range(8)]
    assert estimates(pipeline.score(run), "pass@k")[1] == 0.0


def test_a_redrawn_rollout_loses_its_old_verdict(tmp_path: Path) -> None:
    """A damaged shard is redrawn; where the text differs this time, the verdict of the lost text must not stick to it."""
    run, _ = pipeline.evaluate("fake:0.5", TASK, options(tmp_path))
    shard = open_run(run).rollouts.files()[0]
    shard.write_bytes(shard.read_bytes()[:-1])
    manifest = json.loads((run / "manifest.json").read_text())
    pipeline.sample("fake:0.5", TASK, options(tmp_path))
    assert json.loads((run / "manifest.json").read_text())["seed"] == manifest["seed"]
    truth = pipeline.evaluate("fake:0.5", TASK, options(tmp_path))[1]
    assert truth.problems == pipeline.evaluate("fake:0.5", TASK, options(tmp_path / "fresh"))[1].problems


def test_a_verdict_that_outlived_its_rollout_is_not_doubled(tmp_path: Path) -> None:
    """A crash can take rollouts whose verdicts are on disk already: drawn again, they have one verdict each."""
    run, first = pipeline.evaluate("fake:0.5", TASK, options(tmp_path))
    for shard in open_run(run).rollouts.files():
        shard.unlink()
    assert pipeline.evaluate("fake:0.5", TASK, options(tmp_path))[1].problems == first.problems
    graded = [row for table in [pq.read_table(next((run / "verdicts").iterdir()))] for row in table.to_pylist()]
    assert len({(row["problem_id"], row["index"]) for row in graded}) == len(graded) == 320


def test_texts_that_have_verdicts_are_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, _ = pipeline.evaluate("fake:0.5", TASK, options(tmp_path))
    read: list[str] = []
    plain = shards._table

    def noted(content: bytes, columns: Sequence[str] | None) -> pa.Table:
        read.extend(columns or ["all"])
        return plain(content, columns)

    monkeypatch.setattr(shards, "_table", noted)
    before = current_grading(open_run(run))
    grading, _ = pipeline.grade(run)
    assert before is not None
    assert (grading.rollouts, grading.distinct, grading.statuses) == (320, before.distinct, before.statuses)
    assert 0 < grading.distinct <= 320
    assert read
    assert "text" not in read


def test_unreadable_shards_are_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, _ = pipeline.evaluate("fake", TASK, options(tmp_path))

    def refuse(_: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("rlvr_bench.store.paths.read_regular", refuse)
    with pytest.raises(StorageError, match="Permission denied"):
        pipeline.score(run)


def test_a_forecast_counts_what_is_left_and_writes_nothing(tmp_path: Path) -> None:
    asked = options(tmp_path, n=64)
    before = forecast("fake", TASK, asked)
    assert (before.problems, before.rollouts, before.drawn, before.tokens) == (20, 1280, 0, 1280 * 32)
    assert before.disk_bytes > 1280 * 32
    assert not list(tmp_path.iterdir())
    run = pipeline.sample("fake", TASK, options(tmp_path, n=16))
    after = forecast("fake", TASK, asked)
    assert (after.run, after.drawn, after.tokens) == (run, 320, 960 * 32)
    used = sum(file.stat().st_size for file in (run / "rollouts").iterdir())
    assert used < before.disk_bytes / 4


def test_checkpoints_of_a_series_come_in_natural_order(tmp_path: Path) -> None:
    for step in (5, 20, 100):
        (tmp_path / f"global_step_{step}").mkdir()
    (tmp_path / "global_step_7.json").write_text("")
    names = expand_models([f"{tmp_path}/global_step_*", "zoo:base", f"{tmp_path}/global_step_5"])
    assert [Path(name).name for name in names] == ["global_step_5", "global_step_20", "global_step_100", "zoo:base"]
    with pytest.raises(ModelError, match="no checkpoint folder matches"):
        expand_models([f"{tmp_path}/nothing_*"])


def test_a_checkpoint_that_fails_does_not_stop_the_others(tmp_path: Path) -> None:
    (tmp_path / "broken").mkdir()
    heard: list[str] = []
    results = evaluate_all(
        ["fake:0.5", str(tmp_path / "broken"), "fake:0.2"],
        [TASK],
        options(tmp_path / "runs"),
        GradeOptions(workers=1),
        Silent(),
        lambda result: heard.append(result.model),
    )
    assert [result.error is None for result in results] == [True, False, True]
    assert "no config.json" in str(results[1].error)
    assert heard == [result.model for result in results]


def test_a_model_that_is_nowhere_lists_the_shipped_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise ModelError("cannot load 'nobody/nothing'")

    monkeypatch.setattr(models, "resolve_engine", lambda name: "transformers")
    monkeypatch.setattr(models, "open_sampler", refuse)
    with pytest.raises(ModelError, match=r"no folder 'nobody/nothing' here either; shipped checkpoints: zoo:base"):
        pipeline.sample("nobody/nothing", TASK, options(tmp_path))
    assert not list(tmp_path.iterdir())


def test_a_scorecard_of_other_verdicts_is_said_to_be_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run, _ = pipeline.evaluate("fake:0.5", "double_countdown", SampleOptions(n=4, limit=3, out=tmp_path))
    pipeline.grade(run)
    read_card(run)
    assert "other verdicts" not in caplog.text
    pipeline.sample("fake:0.5", "double_countdown", SampleOptions(n=8, limit=3, out=tmp_path))
    pipeline.grade(run)
    assert caplog.text.count(f"scorecard.json is of other verdicts than grading.json: rlvr-bench score {run}") == 1
    read_card(run / "scorecard.json")
    assert caplog.text.count("other verdicts") == 2
    pipeline.score(run)
    read_card(run)
    assert caplog.text.count("other verdicts") == 2


def test_superseded_verdicts_are_not_counted(tmp_path: Path) -> None:
    run, _ = pipeline.evaluate("fake:0.5", "double_countdown", SampleOptions(n=4, limit=3, out=tmp_path))
    opened = open_run(run)
    grading = current_grading(opened)
    assert grading is not None
    verdicts = Verdicts(opened, grading.verifier, grading.version, grading.options)
    first = next(verdicts.rows())
    verdicts.append([msgspec.structs.replace(first, text_hash=first.text_hash ^ 1)])
    verdicts.append([first])
    again, _ = pipeline.grade(run)
    assert (again.rollouts, again.statuses) == (12, grading.statuses)
