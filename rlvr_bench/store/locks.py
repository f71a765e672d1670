"""One writer per run: a file lock that ends with its process, or on object storage a lease that must be renewed.

The lock file names its owner. A replica on another node, which writes for the owner, first checks whether the owner still
holds the lock.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import socket
import stat
import threading
import time
import uuid
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from rlvr_bench.errors import RunLocked, StorageError
from rlvr_bench.received import decode
from rlvr_bench.storage import is_remote, reason
from rlvr_bench.store.paths import create, listed_in, make_folder, read_if_there, remove, write_atomically

__all__ = ["Lock", "Owner", "is_held", "lock_folder", "owner_of"]

logger = logging.getLogger(__name__)

# A lease is renewed every BEAT_S. A process that has seen no change for DEAD_S, by its own clock, takes the lease over.
BEAT_S = 5.0
DEAD_S = 20.0
_SEEN_S = 60.0  # a lease renewed within this time is held: the clocks of two machines may differ by less
_LOOKS_S, _RETRY_S = 10.0, 0.01  # ``is_held`` has a shared lock for an instant; a busy machine may suspend it there
SETTLE_S = 1.0  # where two processes take over at once, both wait so long; the one that was overwritten gives up


class Owner(msgspec.Struct, frozen=True):
    """The holder of a lock. ``token`` is unique even within one process; ``beat`` counts the renewals."""

    pid: int
    host: str
    token: str
    beat: int = 0


class Lock:
    """The lock of a folder, held until ``release``."""

    def __init__(self, owner: Owner) -> None:
        self.token = owner.token
        self.is_lost = False  # to another process

    def check(self) -> None:
        """Raises StorageError if another process has taken the lock."""

    def release(self) -> None:
        """Free the lock."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.release()


class _FileLock(Lock):
    """An exclusive lock of the open file. It ends with the process, however the process ends."""

    def __init__(self, file: Path, owner: Owner) -> None:
        super().__init__(owner)
        try:
            self._handle = os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o644)
        except OSError as error:
            is_ours = error.errno not in (errno.ELOOP, errno.ENXIO)  # a link, a socket
            where = f"cannot write to {file.parent}: {reason(error)}" if is_ours else _unfit(file)
            raise StorageError(where) from error
        if not stat.S_ISREG(os.fstat(self._handle).st_mode):
            os.close(self._handle)
            raise StorageError(_unfit(file))
        if not self._acquire():
            os.close(self._handle)
            raise _locked(file)
        os.ftruncate(self._handle, 0)
        os.write(self._handle, msgspec.json.encode(owner))
        os.fsync(self._handle)  # replicas on other machines read it

    def release(self) -> None:
        os.close(self._handle)

    def _acquire(self) -> bool:
        """Lock, waiting for those who only look. False as soon as another writer has the lock."""
        since = time.monotonic()
        while not _flock(self._handle, fcntl.LOCK_EX):
            if not _flock(self._handle, fcntl.LOCK_SH) or time.monotonic() - since > _LOOKS_S:
                return False
            fcntl.flock(self._handle, fcntl.LOCK_UN)
            time.sleep(_RETRY_S)
        return True


class _Lease(Lock):
    """An object that only its creator renews. A conditional write creates it, so of two processes one succeeds."""

    def __init__(self, file: Path, owner: Owner) -> None:
        super().__init__(owner)
        self._file, self._owner = file, owner
        self._over = threading.Event()
        self._acquire()
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Reads the lease: a process that was suspended may get here before its thread has noticed the loss."""
        if self.is_lost or not self._is_mine():
            raise StorageError(f"{self._file.parent}: another process has taken this run over; what was drawn is kept")

    def release(self) -> None:
        self._over.set()
        self._thread.join()
        with contextlib.suppress(StorageError):  # if it cannot be removed, the next process takes it over
            if not self.is_lost and self._is_mine():
                remove(self._file)

    def _acquire(self) -> None:
        if self._create():
            return
        seen, since = owner_of(self._file.parent), time.monotonic()
        if seen is not None:
            logger.info(
                "%s: process %d on %s was writing here; waiting up to %.0f s to see whether it still does",
                self._file.parent,
                seen.pid,
                seen.host,
                DEAD_S,
            )
        while time.monotonic() - since < DEAD_S:
            time.sleep(min(BEAT_S / 2, DEAD_S / 4))
            now = owner_of(self._file.parent)
            if now is None and self._create():
                return
            if now != seen:
                raise _locked(self._file)
        write_atomically(self._file, msgspec.json.encode(self._owner))
        time.sleep(SETTLE_S)
        if not self._is_mine():
            raise _locked(self._file)

    def _create(self) -> bool:
        return create(self._file, msgspec.json.encode(self._owner))

    def _is_mine(self) -> bool:
        """Without an owner it is not mine: another process took it over and has finished."""
        now = owner_of(self._file.parent)
        return now is not None and now.token == self.token

    def _renew(self) -> None:
        while not self._over.wait(BEAT_S):
            with contextlib.suppress(StorageError):  # the storage may come back before the lease is dead
                if not self._is_mine():
                    self.is_lost = True
                    return
                self._owner = msgspec.structs.replace(self._owner, beat=self._owner.beat + 1)
                write_atomically(self._file, msgspec.json.encode(self._owner))


def lock_folder(path: Path) -> Lock:
    """Lock a folder, which is created if it does not exist. Raises RunLocked, StorageError."""
    make_folder(path)
    owner = Owner(os.getpid(), socket.gethostname(), uuid.uuid4().hex)
    kind = _Lease if is_remote(path) else _FileLock
    return kind(path / "lock", owner)


def owner_of(path: Path) -> Owner | None:
    """The process that holds, or last held, a folder's lock; None if there is no lock. Raises StorageError."""
    content = read_if_there(path / "lock")
    try:
        return decode(content or b"", Owner)
    except msgspec.DecodeError:
        return None


def is_held(path: Path) -> bool:
    """Whether a process writes to the folder now. It changes nothing. Raises StorageError."""
    file = path / "lock"
    if is_remote(path):
        return any(time.time() - lease.written < _SEEN_S for lease in listed_in(path, "lock") if lease.path == file)
    try:
        handle = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        return stat.S_ISREG(os.fstat(handle).st_mode) and not _flock(handle, fcntl.LOCK_SH)
    except OSError:  # a file system without locks
        return False
    finally:
        os.close(handle)


def _flock(handle: int, kind: int) -> bool:
    """Take a file lock, unless another lock excludes it. Returns whether it was taken."""
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _unfit(file: Path) -> str:
    return f"{file}: no regular file, so not a lock of a run. Remove it and run the same command again."


def _locked(file: Path) -> RunLocked:
    owner = owner_of(file.parent)
    return RunLocked(str(file.parent), owner.pid if owner else 0, owner.host if owner else "")
