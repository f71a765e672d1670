"""What a stranger's run folder can hold: shards that no version of ours writes, and names that a terminal would obey."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rlvr_bench import pipeline
from rlvr_bench.cli.terminal import Terminal, plain, styled, write_json
from rlvr_bench.errors import RunError, RunLocked
from rlvr_bench.pipeline import GradeOptions, SampleOptions
from rlvr_bench.store.locks import lock_folder
from tests.conftest import run_verb

ONE = GradeOptions(workers=1)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sound")
    return pipeline.evaluate("fake:0.5", "double_countdown", SampleOptions(n=4, limit=4, out=out), ONE)[0]


@pytest.fixture
def run(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "runs" / "m" / "t"))


def reshard(folder: Path, change: Callable[[pa.Table], pa.Table | bytes]) -> Path:
    """Put a changed shard in the place of a folder's only one, its checksum right."""
    (old,) = folder.glob("*.parquet")
    changed = change(pq.read_table(old))
    if isinstance(changed, pa.Table):
        sink = io.BytesIO()
        pq.write_table(changed, sink)
        changed = sink.getvalue()
    old.unlink()
    file = folder / f"000000-{hashlib.sha256(changed).hexdigest()[:16]}.parquet"
    file.write_bytes(changed)
    return file


def with_first(name: str, value: Any) -> Callable[[pa.Table], pa.Table]:
    def change(table: pa.Table) -> pa.Table:
        column = table.schema.get_field_index(name)
        plain_type = table.schema.field(name).type
        stored = plain_type.value_type if pa.types.is_dictionary(plain_type) else plain_type
        values = pa.array([value, *table[name].to_pylist()[1:]], type=stored)
        return table.set_column(column, table.schema.field(name), values.cast(plain_type))

    return change


def without(name: str) -> Callable[[pa.Table], pa.Table]:
    return lambda table: table.drop_columns([name])


def as_text(name: str) -> Callable[[pa.Table], pa.Table]:
    return lambda table: table.set_column(table.schema.get_field_index(name), name, table[name].cast(pa.string()))


ROLLOUTS = [
    with_first("text", None),
    with_first("text_hash", None),
    with_first("problem_id", None),
    with_first("index", None),
    with_first("index", 2**31 - 1),
    with_first("index", -1),
    with_first("index", 70_000),
    with_first("index", 1),
    with_first("n_tokens", -5),
    with_first("entropy_profile", [0.5, 0.5]),
    without("text"),
    without("index"),
    without("problem_id"),
    as_text("index"),
    lambda table: pa.concat_tables([table, table]),
    lambda table: b"PAR1 and no more",
    lambda table: b"",
]
VERDICTS = [
    with_first("status", "brilliant"),
    with_first("status", None),
    with_first("index", 2**31 - 1),
    with_first("index", -7),
    with_first("text_hash", None),
    with_first("candidates", -1),
    without("status"),
    without("answer"),
    as_text("index"),
    lambda table: pa.concat_tables([table, table]),
]


@pytest.mark.parametrize(
    ("kind", "change"), [*(("rollouts", each) for each in ROLLOUTS), *(("verdicts/*", each) for each in VERDICTS)]
)
def test_impossible_content_is_one_line_naming_the_shard(
    run: Path, capsys: pytest.CaptureFixture[str], kind: str, change: Callable[[pa.Table], pa.Table | bytes]
) -> None:
    (folder,) = run.glob(kind)
    file = reshard(folder, change)
    told = {}
    for verb in (("score",), ("grade", "--workers", "1"), ("select", "--out", str(run.parent / "chosen.jsonl"))):
        capsys.readouterr()
        status = run_verb(verb[0], str(run), *verb[1:])
        told[verb[0]] = capsys.readouterr().err.strip()
        assert status in (None, 0, 2)
        assert "Traceback" not in told[verb[0]]
    assert told["score"].startswith("rlvr-bench: ")
    assert told["score"].count("\n") == 0
    assert str(file) in told["score"]


def test_a_count_of_rollouts_that_no_memory_holds_is_refused(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = json.loads((run / "manifest.json").read_text())
    for n in (-1, "many"):
        (run / "manifest.json").write_text(json.dumps({**manifest, "n": n}))
        assert run_verb("score", str(run)) == 2
    assert capsys.readouterr().err.count("not a run manifest") == 2
    asked = ("sample", "--model", "fake", "--task", "double_countdown", "--out", str(run.parent))
    assert run_verb(*asked, "-n", str(2**30)) == 2


def test_two_gradings_at_once_are_refused(run: Path) -> None:
    with lock_folder(run), pytest.raises(RunLocked):
        pipeline.grade(run, ONE)
    assert pipeline.grade(run, ONE)[0].rollouts == 16


def test_scoring_needs_no_lock(run: Path) -> None:
    with lock_folder(run):
        pipeline.score(run)


# ------------------------------------------------------------------------------------------------ the terminal
EVIL = "\x1b[2J\x1b]0;owned\x07 [/] [bold red]m[/v2] \x9b31m \u202e:smile: \r"


def test_everything_printed_passes_through_one_place() -> None:
    out = io.StringIO()
    console = Terminal(file=out, width=400, force_terminal=True)
    console.print(EVIL)
    console.print(styled((EVIL, "bold"), EVIL))
    from rlvr_bench.cli.show import show_table

    show_table(console, EVIL, [EVIL], [[EVIL]])
    shown = out.getvalue()
    for name in ("\x1b[2J", "\x1b]0", "\x07", "\x9b", "\u202e", "\r", "😄"):
        assert name not in shown
    assert shown.count("[bold red]m[/v2]") == 6
    assert "\x1b[1m" in shown  # our own style
    assert plain("a\nb\tc é 🧮") == "a\nb\tc é 🧮"


def test_json_holds_no_control_character_and_reads_back(capsys: pytest.CaptureFixture[str]) -> None:
    write_json(json.dumps(EVIL, ensure_ascii=False).encode())
    shown = capsys.readouterr().out
    assert shown.isprintable()
    assert json.loads(shown) == EVIL


def test_no_verb_lets_a_name_reach_the_terminal(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = json.loads((run / "manifest.json").read_text())
    (run / "manifest.json").write_text(json.dumps({**manifest, "model": EVIL, "source": EVIL}))
    assert run_verb("score", str(run)) in (None, 0)
    other = Path(shutil.copytree(run, tmp_path / "runs" / "m" / "u[v2]"))
    for verb in (
        ("score", str(other)),
        ("compare", str(run), str(other)),
        ("leaderboard", str(run), str(other)),
        ("check", str(run), "--against", str(other / "scorecard.json"), "--max-drop", "pass@1=1"),
        ("report", str(run), "--html", str(tmp_path / "page[v2].html")),
        ("series", str(run), str(other)),
        ("select", str(run), "--out", str(tmp_path / "x[/].jsonl")),
        ("grade", str(tmp_path / EVIL.replace("/", ""))),
        ("score", str(run), "--json"),
        ("compare", str(run), str(other), "--json"),
    ):
        assert run_verb(*verb) in (None, 0, 2), verb
        shown = capsys.readouterr()
        for stream in (shown.out, shown.err):
            assert not any(sign in stream for sign in ("\x1b", "\x07", "\x9b", "\u202e", "\r")), verb
    assert run_verb("score", str(other)) in (None, 0)
    assert "u[v2]/scorecard.json" in capsys.readouterr().out


def test_a_folder_that_looks_like_markup_is_named_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = (
        "evaluate",
        "--model",
        "fake:0.5",
        "--task",
        "double_countdown",
        "-n",
        "2",
        "--limit",
        "2",
        "--workers",
        "1",
    )
    for name in ("out[v2]", "a[/v2]"):
        assert run_verb(*asked, "--out", str(tmp_path / name)) in (None, 0)
        assert f"{name}/fake-0.5/double_countdown/scorecard.json" in capsys.readouterr().out


def test_an_error_is_one_line_with_its_escapes_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_verb("score", str(tmp_path / "a\nb\x1b[31m")) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "a\\nb\\x1b[31m" in err
    with pytest.raises(RunError):
        pipeline.score(tmp_path / "nowhere")
