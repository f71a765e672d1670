"""A node reads a checkpoint once, and never believes a digest of files that have changed since."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from rlvr_bench.errors import ModelError
from rlvr_bench.samplers import digest_store, model_files
from rlvr_bench.samplers.model_files import weights_digest

NAMES = ("model-1.safetensors", "model-2.safetensors")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(digest_store, "_SETTLED_S", -3600.0)  # files made here count as old
    return tmp_path / "cache" / "rlvr-bench" / "digests"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "ckpt"
    made.mkdir()
    for name in NAMES:
        (made / name).write_bytes(name.encode())
    return made


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The checkpoints' files whose content is read."""
    files: list[Path] = []
    honest = model_files._file_digest

    def read(path: Path) -> str:
        files.append(path)
        return honest(path)

    monkeypatch.setattr(model_files, "_file_digest", read)
    return files


def as_another_process() -> None:
    """Forget what this process knows."""
    model_files._known_digests.clear()


def test_another_process_reads_nothing(folder: Path, read: list[Path]) -> None:
    digest = weights_digest(str(folder))
    assert sorted(path.name for path in read) == sorted(NAMES)
    as_another_process()
    assert weights_digest(str(folder)) == digest
    assert len(read) == len(NAMES)


def test_it_is_the_digest_without_a_cache(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: list[Path]
) -> None:
    digest = weights_digest(str(folder))
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    as_another_process()
    assert weights_digest(str(folder)) == digest
    assert len(read) == 2 * len(NAMES)


def rewrite(file: Path) -> None:
    file.write_bytes(b"x" * file.stat().st_size)


def rewrite_with_old_time(file: Path) -> None:
    before = file.stat()
    time.sleep(0.02)  # longer than a tick of the clock of the file system
    rewrite(file)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def replace_with_old_time(file: Path) -> None:
    other = file.with_name("other")
    other.write_bytes(b"y" * file.stat().st_size)
    os.utime(other, ns=(file.stat().st_atime_ns, file.stat().st_mtime_ns))
    other.replace(file)


def rename(file: Path) -> None:
    file.rename(file.with_name("model-3.safetensors"))


def swap(file: Path) -> None:
    second = file.with_name(NAMES[1])
    file.rename(file.with_name("third"))
    second.rename(file)
    file.with_name("third").rename(second)


@pytest.mark.parametrize("change", [rewrite, rewrite_with_old_time, replace_with_old_time, rename, swap, Path.unlink])
def test_a_checkpoint_that_was_overwritten_is_read_again(folder: Path, change: object) -> None:
    digest = weights_digest(str(folder))
    time.sleep(0.02)
    assert callable(change)
    change(folder / NAMES[0])
    as_another_process()
    assert weights_digest(str(folder)) != digest


def test_links_to_one_file_with_two_names_are_two_checkpoints(tmp_path: Path, folder: Path) -> None:
    digests = set()
    for name in ("model.safetensors", "weights.safetensors"):
        linked = tmp_path / name.removesuffix(".safetensors")
        linked.mkdir()
        (linked / name).symlink_to(folder / NAMES[0])
        digests.add(weights_digest(str(linked)))
    assert len(digests) == 2


def test_files_that_changed_just_now_are_not_stored(
    folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, read: list[Path]
) -> None:
    """A further change within one tick of a coarse clock could not be seen."""
    monkeypatch.setattr(digest_store, "_SETTLED_S", 10.0)
    weights_digest(str(folder))
    assert [file.read_bytes() for file in cache.iterdir()] == [b""]
    weights_digest(str(folder))
    assert len(read) == 2 * len(NAMES)
    assert not model_files._known_digests.keys() & set(map(digest_store.identity, folder.iterdir()))


def test_a_file_that_changes_while_it_is_read_is_not_stored(folder: Path, cache: Path) -> None:
    def compute() -> str:
        time.sleep(0.02)
        rewrite(folder / NAMES[0])
        return "sha256:" + "0" * 64

    digest_store.shared_digest([folder / NAMES[0]], compute)
    assert [file.read_bytes() for file in cache.iterdir()] == [b""]


@pytest.mark.parametrize("content", [b"", b"sha256:12", b"\xff\xfe", b"sha256:" + b"0" * 64 + b"\n", b"x" * 10_000])
def test_a_damaged_entry_is_written_again(folder: Path, cache: Path, content: bytes) -> None:
    digest = weights_digest(str(folder))
    (entry,) = cache.iterdir()
    entry.write_bytes(content)
    as_another_process()
    assert weights_digest(str(folder)) == digest
    assert entry.read_bytes() == digest.encode()


def test_eight_engines_that_start_at_once_read_it_once(folder: Path) -> None:
    """Each opens the entry itself, as a process would: the lock is one of open files."""
    files, start = sorted(folder.iterdir()), threading.Barrier(8)
    readers: list[int] = []

    def compute() -> str:
        readers.append(threading.get_ident())
        time.sleep(0.2)
        return "sha256:" + "a" * 64

    def engine(_: int) -> str:
        start.wait()
        return digest_store.shared_digest(files, compute)

    with ThreadPoolExecutor(8) as engines:
        assert set(engines.map(engine, range(8))) == {"sha256:" + "a" * 64}
    assert len(readers) == 1


def test_a_suspended_process_does_not_block_others_for_ever(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digest_store, "_PATIENCE_S", 0.1)
    files = sorted(folder.iterdir())
    with digest_store._entry([path.name for path in files], [digest_store.identity(path) for path in files]):
        assert weights_digest(str(folder)).startswith("sha256:")


def test_an_error_while_reading_is_raised_and_nothing_stored(folder: Path, cache: Path) -> None:
    def fail() -> str:
        raise ModelError("the disk is broken")

    with pytest.raises(ModelError, match="broken"):
        digest_store.shared_digest([folder / NAMES[0]], fail)
    assert [file.read_bytes() for file in cache.iterdir()] == [b""]
