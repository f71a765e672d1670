"""Following checkpoints on object storage: copied whole and once, pinned, and removed here."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rlvr_bench import SampleOptions
from rlvr_bench.errors import StorageError
from rlvr_bench.following import follow
from rlvr_bench.following.stored import StoredWatch
from rlvr_bench.storage import as_path
from tests.conftest import require
from tests.following.test_follow import ONCE, TASK, Evaluations, evaluations, tiny  # noqa: F401  fixtures
from tests.store.object_storage import Refusal, s3_server


@pytest.fixture(params=["memory", "s3"])
def bucket(request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of an empty folder."""
    require("upath", "s3")
    if request.param == "memory":
        yield f"memory://{uuid.uuid4().hex}/run"
        return
    with s3_server() as address:
        yield f"{address}/run"


@pytest.fixture
def memory() -> str:
    require("upath", "s3")
    return f"memory://{uuid.uuid4().hex}/run"


def put(model: Path, address: str, more: dict[str, bytes] | None = None) -> None:
    """Write a checkpoint, with more files, to an address."""
    folder = as_path(address)
    files = {file.name: file.read_bytes() for file in model.iterdir() if file.is_file()}
    for name, content in (files | (more or {})).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def options(out: Path) -> SampleOptions:
    return SampleOptions(n=4, limit=6, out=out)


def test_a_whole_checkpoint_is_copied_once_and_removed(
    bucket: str,
    tiny: Path,  # noqa: F811
    tmp_path: Path,
    evaluations: Evaluations,  # noqa: F811
) -> None:
    put(tiny, f"{bucket}/global_step_10", {"optimizer.pt": b"large"})
    put(tiny, f"{bucket}/global_step_20/actor/huggingface")
    evaluations.is_real = True
    copied: dict[str, list[str]] = {}

    def note(model: str) -> None:
        folder = Path(model)
        copied[folder.name] = sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())
        assert {file.read_bytes() for file in folder.rglob("*.safetensors")} == {
            (tiny / "model.safetensors").read_bytes()
        }

    evaluations.before = note
    results = follow(f"{bucket}/global_step_*", [TASK], options(tmp_path), following=ONCE)
    assert [(result.step, result.error) for result in results] == [(10, None), (20, None)]
    names = sorted(file.name for file in tiny.iterdir())
    assert copied == {"global_step_10": names, "global_step_20": [f"actor/huggingface/{name}" for name in names]}
    assert not [*(tmp_path / "followed" / "copies").rglob("*.safetensors")]
    again = follow(f"{bucket}/global_step_*", [TASK], options(tmp_path), following=ONCE)
    assert evaluations.models == ["global_step_10", "global_step_20"]  # a second follower reads the results
    assert [(result.step, result.run) for result in again] == [(result.step, result.run) for result in results]
    follow(f"{bucket}/global_step_*", [TASK], SampleOptions(n=5, limit=6, out=tmp_path), following=ONCE)
    assert evaluations.models[2:] == ["global_step_10", "global_step_20"]  # other settings need the weights again


def test_an_overwritten_checkpoint_is_copied_again(
    memory: str,
    tiny: Path,  # noqa: F811
    tmp_path: Path,
    evaluations: Evaluations,  # noqa: F811
) -> None:
    evaluations.is_real = True
    for notes in (b"1", b"2", None):
        if notes is not None:
            put(tiny, f"{memory}/step_1", {"notes.txt": notes})
        follow(f"{memory}/step_*", [TASK], options(tmp_path), following=ONCE)
    assert evaluations.models == ["step_1", "step_1"]


def test_what_is_missing_is_named_by_its_address(memory: str, tiny: Path, tmp_path: Path) -> None:  # noqa: F811
    index = json.dumps({"weight_map": {"a": "model.safetensors", "b": "model-2.safetensors"}}).encode()
    put(tiny, f"{memory}/step_1")
    (as_path(f"{memory}/step_1") / "model.safetensors").unlink()
    put(tiny, f"{memory}/step_2", {"model.safetensors.index.json": index})
    raw = as_path(f"{memory}/step_3/actor/model_world_size_2_rank_0.pt")
    raw.parent.mkdir(parents=True)
    raw.write_bytes(b"x")
    (as_path(memory) / "step_4.txt").write_text("a file")
    watch = StoredWatch(f"{memory}/step_*", tmp_path, settle_s=0)
    assert watch.look() == []
    reasons = [watch.incomplete[as_path(f"{memory}/step_{i}")] for i in (1, 2, 3)]
    for reason, part in zip(reasons, ("no weights", "such as model-2.safetensors", "model_merger"), strict=True):
        assert part in reason
        assert "memory://" in reason
        assert "\n" not in reason
    put(tiny, f"{memory}/step_2", {"model-2.safetensors": b"x"})
    assert [point.step for point in watch.look()] == [2]
    assert StoredWatch(f"{memory}/step_*", tmp_path, settle_s=1000).look() == []


def test_a_copy_that_is_cut_or_mixed_is_never_evaluated(
    memory: str,
    tiny: Path,  # noqa: F811
    tmp_path: Path,
    evaluations: Evaluations,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    put(tiny, f"{memory}/step_1", {"model.safetensors": (tiny / "model.safetensors").read_bytes()[:-10]})
    put(tiny, f"{memory}/step_2")
    copy = StoredWatch._copy

    def overwritten(watch: StoredWatch, folder: Path, *arguments: Any) -> None:
        copy(watch, folder, *arguments)
        if folder.name == "step_2":
            put(tiny, str(folder), {"notes.txt": b"new"})

    monkeypatch.setattr(StoredWatch, "_copy", overwritten)
    with caplog.at_level("INFO"):
        assert follow(f"{memory}/step_*", [TASK], options(tmp_path), following=ONCE) == []
    assert evaluations.models == []
    assert "shorter than its header says" in caplog.text
    assert "step_2: changed while it was copied" in caplog.text
    assert not [*(tmp_path / "followed" / "copies").rglob("*.safetensors")]


def test_an_address_that_leads_out_of_the_copy_is_left_out(memory: str, tiny: Path, tmp_path: Path) -> None:  # noqa: F811
    put(tiny, f"{memory}/step_1")
    watch = StoredWatch(f"{memory}/step_*", tmp_path / "copies", settle_s=0)
    (point,) = watch.look()
    root = watch._path(point.folder)
    listed = watch._fs.fs.find(root, detail=True)
    listed[f"{root}/../../outside.json"] = {"size": 1}
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(type(watch._fs.fs), "find", lambda *_, **__: listed)
        (point,) = watch.look()
        with watch.here(point) as copy:
            assert (copy / "model.safetensors").is_file()
    assert not [*tmp_path.rglob("outside.json")]


def test_a_storage_that_cannot_be_reached_is_a_line(tmp_path: Path) -> None:
    require("upath", "s3")
    with s3_server() as address:
        watch = StoredWatch(f"{address}/step_*", tmp_path, settle_s=0)
        with Refusal(0):
            assert watch.look() == []
        assert "cannot reach s3://" in next(iter(watch.incomplete.values()))
    with pytest.raises(StorageError, match="there is no bucket"), s3_server():
        follow("s3://nowhere/step_*", [TASK], options(tmp_path), following=ONCE)
