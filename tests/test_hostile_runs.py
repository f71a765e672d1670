"""What a stranger's run folder can hold: shards that no version of ours writes, and names that a terminal would obey."""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rlvr_bench import pipeline
from rlvr_bench.cli.terminal import Terminal, plain, styled, write_json
from rlvr_bench.errors import ModelError, RunError, RunLocked, StorageError
from rlvr_bench.pipeline import GradeOptions, SampleOptions, intervening
from rlvr_bench.pipeline.run_models import named_model
from rlvr_bench.store import open_run
from rlvr_bench.store.locks import lock_folder
from rlvr_bench.store.paths import write_atomically
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
    with_first("entropy_mean", math.nan),
    with_first("entropy_mean", -1.0),
    with_first("branching_mean", math.inf),
    with_first("high_entropy_share", 1.5),
    with_first("logprob_sum", math.nan),
    with_first("logprob_sum", 5.0),
    with_first("finish_reason", "brilliant"),
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
    ("kind", "change"),
    [*(("rollouts", damage) for damage in ROLLOUTS), *(("verdicts/*", damage) for damage in VERDICTS)],
)
def test_impossible_content_is_one_line_naming_the_shard(
    run: Path, capsys: pytest.CaptureFixture[str], kind: str, change: Callable[[pa.Table], pa.Table | bytes]
) -> None:
    (folder,) = run.glob(kind)
    file = reshard(folder, change)
    messages = {}
    for verb in (("score",), ("grade", "--workers", "1"), ("select", "--out", str(run.parent / "chosen.jsonl"))):
        capsys.readouterr()
        status = run_verb(verb[0], str(run), *verb[1:])
        messages[verb[0]] = capsys.readouterr().err.strip()
        assert status in (None, 0, 2)
        assert "Traceback" not in messages[verb[0]]
    assert messages["score"].startswith("rlvr-bench: ")
    assert messages["score"].count("\n") == 0
    assert str(file) in messages["score"]


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


# ------------------------------------------------------------------------------------------------ links, pipes, odd files
VERBS = (
    ("score",),
    ("grade", "--workers", "1"),
    ("grade", "--audit", "4", "--workers", "1"),
    ("select", "--out", "{out}"),
    ("compare",),
    ("report", "--html", "{out}"),
    ("rescore", "--model", "zoo:base"),
    ("intervene",),
)


def refusals(run: Path, capsys: pytest.CaptureFixture[str], verbs: tuple[tuple[str, ...], ...] = VERBS) -> list[str]:
    """What each verb says of a run, one line each, when it refuses it."""
    messages = []
    for verb, *more in verbs:
        capsys.readouterr()
        status = run_verb(verb, str(run), *(word.format(out=run.parent / "written") for word in more))
        err = capsys.readouterr().err.strip()
        assert status in (None, 0, 2), verb
        assert "Traceback" not in err
        if status == 2:
            messages.append(err.splitlines()[-1])
    return messages


def test_a_lock_that_is_a_link_leaves_the_file_it_leads_to(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    diary = run.parent / "diary"
    diary.write_text("mine")
    (run / "lock").unlink(missing_ok=True)
    (run / "lock").symlink_to(diary)
    assert "no regular file, so not a lock" in refusals(run, capsys, VERBS[1:2])[0]
    assert diary.read_text() == "mine"


@pytest.mark.parametrize("made", [os.mkfifo, os.mkdir])
def test_a_lock_that_is_no_file_is_refused(
    run: Path, capsys: pytest.CaptureFixture[str], made: Callable[[Path], None]
) -> None:
    (run / "lock").unlink(missing_ok=True)
    made(run / "lock")
    (message,) = refusals(run, capsys, VERBS[1:2])
    assert "lock" in message or "directory" in message


@pytest.mark.parametrize("name", ["rollouts", "verdicts", "verdicts/*", "rollouts/set-aside", "verdicts/*/set-aside"])
def test_nothing_is_written_or_moved_where_a_link_leads(
    run: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    outside = run.parent / "outside"
    if name.endswith("set-aside"):
        outside.mkdir()
        (parent,) = run.glob(name.rpartition("/")[0])
        (damaged,) = parent.glob("*.parquet")
        damaged.write_bytes(b"damaged")
        link = parent / "set-aside"
    else:
        (link,) = run.glob(name)
        shutil.move(link, outside)
    (outside / "000007-0123456789abcdef.parquet").write_bytes(b"mine")
    link.symlink_to(outside)
    before = {file: file.stat().st_mtime_ns for file in outside.rglob("*")}
    messages = refusals(run, capsys)
    assert {file: file.stat().st_mtime_ns for file in outside.rglob("*")} == before
    again = pipeline_again(run)
    assert run_verb(*again) == 2
    assert {file: file.stat().st_mtime_ns for file in outside.rglob("*")} == before
    assert any("a link, which can lead out of the run" in line for line in [*messages, capsys.readouterr().err])


def pipeline_again(run: Path) -> tuple[str, ...]:
    """The command that would top this run up."""
    target = run.parent.parent / "fake-0.5" / "double_countdown"
    target.parent.mkdir()
    run.rename(target)
    asked = ("-n", "8", "--limit", "4", "--workers", "1", "--out", str(run.parent.parent))
    return ("evaluate", "--model", "fake:0.5", "--task", "double_countdown", *asked)


def test_a_temporary_file_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "diary").write_text("mine")
    (tmp_path / f".scorecard.json.{os.getpid()}.tmp").symlink_to(tmp_path / "diary")
    with pytest.raises(StorageError):
        write_atomically(tmp_path / "scorecard.json", b"{}")
    assert (tmp_path / "diary").read_text() == "mine"


def test_a_run_reached_through_a_link_is_read_and_graded(run: Path) -> None:
    link = run.parent / "link"
    link.symlink_to(run)
    assert pipeline.grade(link, ONE)[0].rollouts == 16


@pytest.mark.parametrize("kind", ["pipe", "socket", "device"])
@pytest.mark.parametrize("name", ["manifest.json", "problems.jsonl", "grading.json", "audit.json", "judging.json"])
def test_only_regular_files_are_read(run: Path, capsys: pytest.CaptureFixture[str], name: str, kind: str) -> None:
    (run / name).unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as listener:
        if kind == "pipe":
            os.mkfifo(run / name)
        elif kind == "device":
            (run / name).symlink_to("/dev/zero")
        else:
            listener.bind(os.path.relpath(run / name))
        messages = refusals(run, capsys, VERBS[:1] if name in ("audit.json", "judging.json") else VERBS)
    assert any(str(run / name) in line for line in messages)


@pytest.mark.parametrize("name", ["manifest.json", "problems.jsonl", "grading.json", "audit.json", "judging.json"])
def test_json_nested_deeply_is_one_line(run: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    deep = "[" * 50_000 + "]" * 50_000
    old = json.loads((run / name).read_text()) if name in ("manifest.json", "grading.json") else {}
    (run / name).write_text(json.dumps({**old, "asked": 0, "options": 0}).replace(": 0", f": {deep}"))
    messages = refusals(run, capsys)
    assert any(str(run / name) in line for line in messages)


@pytest.mark.parametrize("name", ["x\0y", "x\ny", "x" * 300, "..", "a/b"])
def test_a_folder_of_verdicts_has_a_plain_name(run: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    grading = json.loads((run / "grading.json").read_text())
    for field in ("folder", "verifier"):
        (run / "grading.json").write_text(json.dumps({**grading, field: name}))
        assert "no plain folder name" in refusals(run, capsys, VERBS[:1])[0]


@pytest.mark.parametrize("kind", ["rollouts", "verdicts/*"])
def test_a_shard_without_rows_is_one_line(run: Path, capsys: pytest.CaptureFixture[str], kind: str) -> None:
    (folder,) = run.glob(kind)
    reshard(folder, lambda table: table.slice(0, 0))
    assert refusals(run, capsys)[0].startswith(f"rlvr-bench: {run}")


# ------------------------------------------------------------------------------------------------ the model that is named
def test_no_address_of_a_manifest_is_opened(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = json.loads((run / "manifest.json").read_text())
    monkeypatch.setattr(intervening, "read_sources", lambda *_: [])  # as if the tokens had been kept
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        address = f"http://127.0.0.1:{server.getsockname()[1]}/v1"
        changed = {"engine": "endpoint", "weights": "endpoint:x", "model": address}
        (run / "manifest.json").write_text(json.dumps({**manifest, **changed}))
        with pytest.raises(ModelError, match="which server is asked. Name .* with --model"):
            intervening.intervene(run)
        with pytest.raises(TimeoutError):
            server.accept()


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ({"pytorch_model.bin": ""}, "a pickle can run code"),
        ({"model.safetensors": "", "pytorch_model.bin": ""}, "a pickle can run code"),
        ({}, "no safetensors"),
        ({"model.safetensors": "", "tokenizer_config.json": '{"auto\\u005fmap": {}}'}, "code of its own"),
        ({"model.safetensors": "", "config.json": '{"_attn_implementation": "a/kernel"}'}, "code of its own"),
        ({"model.safetensors": "", "adapter_config.json": "{}"}, "names another model"),
        ({"model.safetensors": "", "training_args.bin": ""}, None),
    ],
)
def test_of_a_checkpoint_that_a_manifest_names_only_plain_weights_are_loaded(
    run: Path, tmp_path: Path, files: dict[str, str], why: str | None
) -> None:
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    for name, content in {"config.json": "{}", **files}.items():
        (folder / name).write_text(content)
    manifest = json.loads((run / "manifest.json").read_text())
    (run / "manifest.json").write_text(json.dumps({**manifest, "model": str(folder)}))
    if why is None:
        assert named_model(open_run(run)) == str(folder)
        return
    with pytest.raises(ModelError, match=why):
        named_model(open_run(run))


def test_a_hub_id_of_a_manifest_is_not_downloaded(run: Path) -> None:
    manifest = json.loads((run / "manifest.json").read_text())
    for name in ("owner/name", "fakeowner/name", "name"):
        (run / "manifest.json").write_text(json.dumps({**manifest, "model": name}))
        for cached in (False, True):
            with pytest.raises(ModelError, match="nothing is downloaded"):
                named_model(open_run(run), cached=cached)
