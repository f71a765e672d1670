"""A memory control group for one sandbox, where this process may make one: the kernel's own limit for a group of processes.

It counts what no walk over the processes sees (kernel memory, buffers), and it does not depend on a watch being given a CPU.
Root may usually make one outside containers, and inside where the folder is writable; most users may not, and have the watch of
`process_limits` alone. Version 2 and version 1 of the kernel's interface.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import itertools
import os
import time
from pathlib import Path

__all__ = ["MemoryCgroup"]

_PREFIX = "rlvr-bench-"
_count = itertools.count()
_JOIN = 'echo 0 > "$1" || exit 1; shift; exec "$@"'


@functools.cache
def _parent() -> Path | None:
    """Where groups can be made; None where there is no such folder."""
    try:
        mounts = [line.split() for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()]
        lines = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()]
    except OSError:
        return None
    for _, controllers, own in lines:
        for _, place, kind, options, *_ in mounts:
            if kind == "cgroup" and "memory" in controllers.split(",") and "memory" in options.split(","):
                found = Path(place + own)
                return found if os.access(found, os.W_OK) else None
            if kind == "cgroup2" and not controllers and (unified := _unified(Path(place), Path(place + own))):
                return unified
    return None


def _unified(mount: Path, own: Path) -> Path | None:
    """A group with processes in it has no limited groups below: ours is made beside it, unless ours is the root."""
    for folder in (own, own.parent) if own != mount else (own,):
        with contextlib.suppress(OSError):
            controllers = (folder / "cgroup.subtree_control").read_text(encoding="ascii").split()
            if "memory" in controllers and os.access(folder, os.W_OK):
                return folder
    return None


def _remove_stale(parent: Path) -> None:
    """Groups of processes that ended before they could remove them."""
    for folder in parent.glob(f"{_PREFIX}*"):
        if not Path("/proc", folder.name.removeprefix(_PREFIX).partition("-")[0]).exists():
            with contextlib.suppress(OSError):
                folder.rmdir()


_left: list[Path] = []  # groups of ours whose processes were still ending when they were closed


def _sweep(parent: Path) -> None:
    if not _left and next(_count) == 0:
        _remove_stale(parent)
    for folder in list(_left):
        with contextlib.suppress(OSError):
            folder.rmdir()
            _left.remove(folder)


@atexit.register
def _remove_left() -> None:
    for _ in range(50):
        for folder in list(_left):
            with contextlib.suppress(OSError):
                folder.rmdir()
                _left.remove(folder)
        if not _left:
            return
        time.sleep(0.01)


class MemoryCgroup:
    """One group; `open` makes it, `command` starts a program in it, `close` removes it (now, or once it is empty)."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @classmethod
    def open(cls, memory_bytes: int) -> MemoryCgroup | None:
        """A group with this limit, and no swap; None where none can be made."""
        parent = _parent()
        if parent is None:
            return None
        _sweep(parent)
        folder = parent / f"{_PREFIX}{os.getpid()}-{next(_count)}"
        try:
            folder.mkdir()
        except OSError:
            return None
        unified = (folder / "memory.max").exists()
        limits = {"memory.max": memory_bytes, "memory.swap.max": 0, "memory.oom.group": 1}
        if not unified:
            limits = {"memory.limit_in_bytes": memory_bytes, "memory.swappiness": 0}
        for name, value in limits.items():
            try:
                (folder / name).write_text(str(value), encoding="ascii")
            except OSError:
                if value == memory_bytes:
                    folder.rmdir()
                    return None
        return cls(folder)

    def command(self) -> list[str]:
        """What to put before a command, so that it and all that descends from it are in the group."""
        return ["/bin/sh", "-c", _JOIN, "sh", str(self._folder / "cgroup.procs")]

    def exceeded(self) -> bool:
        """Whether the kernel ended a process of the group at the limit."""
        for name in ("memory.events", "memory.oom_control"):
            with contextlib.suppress(OSError):
                lines = (self._folder / name).read_text(encoding="ascii").splitlines()
                return any(line.startswith("oom_kill ") and line.split()[1] != "0" for line in lines)
        return False

    def close(self) -> None:
        """Remove the group: now, or with a later one if its processes are still ending."""
        try:
            self._folder.rmdir()
        except OSError:
            _left.append(self._folder)
