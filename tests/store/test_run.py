from __future__ import annotations

import multiprocessing
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlvr_bench.errors import RunError, RunLocked, RunMismatch, StorageError
from rlvr_bench.grading import Grader, grade_run
from rlvr_bench.records import Draw, Problem, SamplingParameters
from rlvr_bench.store import Manifest, RunWriter, open_run
from rlvr_bench.store.marks import Drawn
from rlvr_bench.store.run import Span, text_hash
from rlvr_bench.store.shard_checks import LARGEST_INDEX
from rlvr_bench.verifiers import open_verifier
from tests.conftest import draw_of, manifest_with

MakeDraw = Callable[..., Draw]
MakeManifest = Callable[..., Manifest]


def indices(path: Path) -> dict[str, list[int]]:
    """The rollouts on disk, read without the package."""
    result: dict[str, list[int]] = {}
    for table in open_run(path).rollouts.read(["problem_id", "index"]):
        for row in table.to_pylist():
            result.setdefault(row["problem_id"], []).append(row["index"])
    return {name: sorted(values) for name, values in result.items()}


def write(path: Path, manifest: Manifest, problems: list[Problem], *draws: Draw) -> None:
    with RunWriter(path, manifest, problems) as writer:
        for draw in draws:
            writer.add(draw)


def test_what_is_added_is_on_disk_after_closing(
    tmp_path: Path, problems: list[Problem], make_manifest: MakeManifest, make_draw: MakeDraw
) -> None:
    write(tmp_path, make_manifest(), problems, make_draw("p0", 0, 16), make_draw("p1", 0, 16))
    assert indices(tmp_path) == {"p0": list(range(16)), "p1": list(range(16))}
    assert open_run(tmp_path).problems() == problems
    assert open_run(tmp_path).manifest.n == 16


def test_resume_and_top_up_ask_only_for_what_is_missing(
    tmp_path: Path, problems: list[Problem], make_manifest: MakeManifest, make_draw: MakeDraw
) -> None:
    ids = ["p0", "p1"]
    with RunWriter(tmp_path, make_manifest(n=24), problems) as writer:
        assert list(writer.missing(ids, 24, 16)) == [
            Span("p0", 0, 16),
            Span("p1", 0, 16),
            Span("p0", 16, 8),
            Span("p1", 16, 8),
        ]
        writer.add(make_draw("p0", 0, 16))
        writer.add(make_draw("p0", 16, 8))
    with RunWriter(tmp_path, make_manifest(n=40), problems) as writer:
        assert list(writer.missing(ids, 40, 16)) == [
            Span("p1", 0, 16),
            Span("p0", 24, 8),
            Span("p1", 16, 16),
            Span("p0", 32, 8),
            Span("p1", 32, 8),
        ]
        assert writer.n_drawn(ids, 40) == 24
        assert writer.n_drawn(ids, 10) == 10
    assert open_run(tmp_path).manifest.n == 40
    assert len(open_run(tmp_path).manifest.sessions) == 2


@given(
    plan=st.lists(st.tuples(st.integers(1, 70), st.integers(0, 12)), min_size=1, max_size=5),
    batch=st.integers(1, 20),
)
@settings(max_examples=40, deadline=None)
def test_any_sequence_of_interrupted_top_ups_ends_with_exactly_n(
    tmp_path_factory: pytest.TempPathFactory, plan: list[tuple[int, int]], batch: int
) -> None:
    """However often a run is stopped after a few draws, each rollout index is drawn once and none is missing."""
    path = tmp_path_factory.mktemp("run")
    manifest, problems = manifest_with(draw_batch=batch), [Problem(id=n, question="q", answer="a") for n in "ab"]
    largest = max(n for n, _ in plan)
    for n, steps in [*plan, (largest, 10**6)]:
        with RunWriter(path, manifest, problems) as writer:
            for span, _ in zip(list(writer.missing("ab", n, batch)), range(steps), strict=False):
                assert span.start // batch == (span.start + span.n - 1) // batch
                writer.add(draw_of(span.problem_id, span.start, span.n))
    assert indices(path) == {"a": list(range(largest)), "b": list(range(largest))}


def test_a_damaged_shard_is_set_aside_and_its_rollouts_asked_for_again(
    tmp_path: Path, problems: list[Problem], make_manifest: MakeManifest, make_draw: MakeDraw
) -> None:
    for draw in (make_draw("p0", 0, 16), make_draw("p1", 0, 16), make_draw("p2", 0, 16)):
        write(tmp_path, make_manifest(), problems, draw)
    shards = open_run(tmp_path).rollouts.files()
    shards[0].write_bytes(shards[0].read_bytes()[:-40])
    flipped = bytearray(shards[2].read_bytes())
    flipped[len(flipped) // 2] ^= 1
    shards[2].write_bytes(flipped)
    with pytest.raises(RunError, match=r"000000-.* is damaged .*redraws"):
        indices(tmp_path)
    with RunWriter(tmp_path, make_manifest(), problems) as writer:
        aside = tmp_path / "rollouts" / "set-aside"
        assert {file.name for file in aside.iterdir()} == {shards[0].name, shards[2].name}
        assert list(writer.missing(["p0", "p1", "p2"], 16, 16)) == [Span("p0", 0, 16), Span("p2", 0, 16)]
        writer.add(make_draw("p0", 0, 16))
        writer.add(make_draw("p2", 0, 16))
    assert indices(tmp_path) == {name: list(range(16)) for name in ("p0", "p1", "p2")}


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"weights": "other"}, "weights: run has 'w', asked 'other'"),
        ({"prompt_sha256": "1"}, "prompt_sha256"),
        ({"problems_sha256": "1"}, "problems_sha256"),
        ({"seed": 1}, "seed: run has 0, asked 1"),
        ({"sampling": SamplingParameters(temperature=1.0)}, "sampling.temperature: run has 0.6, asked 1.0"),
        ({"engine": "vllm"}, "engine"),
        ({"draw_batch": 8}, "draw_batch"),
        ({"chat_template": "abc"}, "chat_template"),
    ],
)
def test_a_run_drawn_differently_is_refused_and_left_alone(
    tmp_path: Path,
    problems: list[Problem],
    make_manifest: MakeManifest,
    make_draw: MakeDraw,
    changed: dict[str, object],
    field: str,
) -> None:
    write(tmp_path, make_manifest(), problems, make_draw("p0", 0, 16))
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file() and file.name != "lock"}
    with pytest.raises(RunMismatch) as error:
        RunWriter(tmp_path, make_manifest(**changed), problems)
    assert field in str(error.value)
    assert len(error.value.differing) == 1
    assert before == {file: file.read_bytes() for file in before}


def test_another_name_for_the_same_weights_is_the_same_run(
    tmp_path: Path, problems: list[Problem], make_manifest: MakeManifest
) -> None:
    write(tmp_path, make_manifest(), problems)
    write(tmp_path, make_manifest(model="elsewhere", n=99), problems)
    assert open_run(tmp_path).manifest.n == 99


def _try_to_write(
    path: Path, manifest: Manifest, problems: list[Problem], answer: multiprocessing.SimpleQueue[object]
) -> None:
    try:
        RunWriter(path, manifest, problems)
    except RunLocked as error:
        answer.put((error.pid, str(error)))
    else:
        answer.put("opened")


def test_a_second_writer_is_refused_with_the_pid_of_the_first(
    tmp_path: Path, problems: list[Problem], make_manifest: MakeManifest
) -> None:
    context = multiprocessing.get_context("spawn")
    answer: multiprocessing.SimpleQueue[object] = context.SimpleQueue()
    arguments = (tmp_path, make_manifest(), problems, answer)
    with RunWriter(tmp_path, make_manifest(), problems):
        other = context.Process(target=_try_to_write, args=arguments)
        other.start()
        result = answer.get()
        other.join()
    assert isinstance(result, tuple)
    assert result[0] == os.getpid()
    assert f"process {os.getpid()}" in result[1]
    other = context.Process(target=_try_to_write, args=arguments)
    other.start()
    assert answer.get() == "opened"
    other.join()


def test_a_full_disk_stops_with_one_line_and_keeps_what_was_written(
    tmp_path: Path,
    problems: list[Problem],
    make_manifest: MakeManifest,
    make_draw: MakeDraw,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write(tmp_path, make_manifest(), problems, make_draw("p0", 0, 16))
    writer = RunWriter(tmp_path, make_manifest(), problems)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    writer.add(make_draw("p1", 0, 16))
    with pytest.raises(StorageError, match="No space left on device. What was written before is kept"):
        writer.__exit__(None, None, None)
    monkeypatch.undo()
    assert indices(tmp_path) == {"p0": list(range(16))}
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, make_manifest: MakeManifest) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot write to"):
        RunWriter(tmp_path / "file" / "run", make_manifest(), [])


def test_folders_that_are_no_run_point_to_those_below(
    tmp_path: Path, problems: list[Problem], make_manifest: MakeManifest
) -> None:
    with pytest.raises(RunError, match="not a run"):
        open_run(tmp_path / "nowhere")
    write(tmp_path / "m" / "t", make_manifest(), problems)
    with pytest.raises(RunError, match="Runs below it: .*m/t"):
        open_run(tmp_path)
    (tmp_path / "m" / "t" / "manifest.json").write_text('{"schema": 99}')
    with pytest.raises(RunError, match="schema 99, this version of rlvr-bench reads 1"):
        open_run(tmp_path / "m" / "t")
    (tmp_path / "m" / "t" / "manifest.json").write_text("{")
    with pytest.raises(RunError, match="not a run manifest"):
        open_run(tmp_path / "m" / "t")


def test_hostile_text_survives_the_disk(
    tmp_path: Path, problems: list[Problem], make_manifest: MakeManifest, make_draw: MakeDraw
) -> None:
    texts = ["a\0b", "\ud800 lone", "</script>", "🧮" * 1000, "", "\\boxed{" * 50_000, "line\u2028separator\r\n"]
    write(tmp_path, make_manifest(), problems, make_draw("p0", 0, len(texts), lambda i: texts[i]))
    (table,) = open_run(tmp_path).rollouts.read()
    stored = table["text"].to_pylist()
    assert stored == [text if text != "\ud800 lone" else "\\ud800 lone" for text in texts]
    assert table["text_hash"].to_pylist() == [text_hash(text) for text in stored]


def test_a_larger_limit_adds_problems_and_a_smaller_one_takes_none_away(
    tmp_path: Path, problems: list[Problem], make_manifest: MakeManifest
) -> None:
    write(tmp_path, make_manifest(), problems[:2])
    write(tmp_path, make_manifest(), problems)
    write(tmp_path, make_manifest(), problems[:1])
    assert open_run(tmp_path).problems() == problems


def test_drawn_marks_sparse_indices(
    tmp_path: Path, problems: list[Problem], make_manifest: MakeManifest, make_draw: MakeDraw
) -> None:
    write(tmp_path, make_manifest(), problems, make_draw("p0", 1000, 5))
    drawn = open_run(tmp_path).drawn()["p0"]
    assert np.flatnonzero(drawn.between(0, 2000)).tolist() == [1000, 1001, 1002, 1003, 1004]
    assert (drawn.count(), drawn.count(1002), drawn.end) == (5, 2, 1005)


def test_memory_grows_with_the_rollouts_and_not_with_their_indices(
    tmp_path: Path, make_manifest: MakeManifest, make_draw: MakeDraw
) -> None:
    last = LARGEST_INDEX - 1
    many = [Problem(id=f"p{i}", question="?", answer="1") for i in range(300)]
    write(tmp_path, make_manifest(n=LARGEST_INDEX), many, *(make_draw(problem.id, last, 1) for problem in many))
    tracemalloc.start()
    try:
        run = open_run(tmp_path)
        drawn = run.drawn()
        assert grade_run(run, open_verifier("integer")).rollouts == 300
        with Grader(run, open_verifier("integer")) as grader:
            assert grader.correct(drawn).keys() == drawn.keys()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert sum(have.count() for have in drawn.values()) == 300
    assert peak < 64 * 2**20


@pytest.mark.parametrize("seed", range(5))
def test_marks_are_what_an_array_would_be(seed: int) -> None:
    rng = np.random.default_rng(seed)
    size = 2000
    dense, drawn = np.zeros(size, dtype=bool), Drawn()
    for _ in range(20):
        indices = rng.integers(0, size, rng.integers(1, 40)) % rng.integers(1, size)
        assert drawn.has_any(indices) == dense[indices].any()
        drawn.mark(indices)
        dense[indices] = True
        low, high = np.sort(rng.integers(0, size, 2)).tolist()
        assert (drawn.between(low, high) == dense[low:high]).all()
        assert drawn.count(high) == dense[:high].sum()
        assert drawn.end == np.flatnonzero(dense).max() + 1
    assert drawn.common(drawn) == drawn.count() == dense.sum()
