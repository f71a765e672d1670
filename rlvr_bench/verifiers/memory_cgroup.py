"""A memory control group for one sandbox, where this process may make one: the kernel's limit for a group of processes.

It counts memory that no sum over the processes sees (kernel memory, buffers), and it does not need a CPU for a watching
thread. Root can usually make one outside containers, and inside where the folder is writable. Most users cannot; they have
only the watch of `process_limits`. Supports version 2 and version 1 of the kernel's interface.
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
    """The folder in which groups can be made; None where there is no such folder."""
    try:
        mounts = [line.split() for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()]
        lines = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()]
    except OSError:
        return None
    for _, controllers, group_path in lines:
        for _, mount_point, kind, options, *_ in mounts:
            if kind == "cgroup" and "memory" in controllers.split(",") and "memory" in options.split(","):
                folder = Path(mount_point + group_path)
                return folder if os.access(folder, os.W_OK) else None
            if (
                kind == "cgroup2"
                and not controllers
                and (unified := _unified(Path(mount_point), Path(mount_point + group_path)))
            ):
                return unified
    return None


def _unified(mount: Path, group: Path) -> Path | None:
    """The folder for a new group: next to our group unless ours is the root, as a group with processes has no subgroups."""
    for folder in (group, group.parent) if group != mount else (group,):
        with contextlib.suppress(OSError):
            controllers = (folder / "cgroup.subtree_control").read_text(encoding="ascii").split()
            if "memory" in controllers and os.access(folder, os.W_OK):
                return folder
    return None


def _remove_stale(parent: Path) -> None:
    """Remove groups whose process ended before it could remove them."""
    for folder in parent.glob(f"{_PREFIX}*"):
        if not Path("/proc", folder.name.removeprefix(_PREFIX).partition("-")[0]).exists():
            with contextlib.suppress(OSError):
                folder.rmdir()


_left: list[Path] = []  # our groups whose processes were still ending when they were closed


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
    """One group: `open` makes it, `command` starts a program in it, `close` removes it (now, or once it is empty)."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @classmethod
    def open(cls, memory_bytes: int) -> MemoryCgroup | None:
        """A group with this limit and no swap; None where none can be made."""
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
        """The command to put before another one, so that it and all its descendants are in the group."""
        return ["/bin/sh", "-c", _JOIN, "sh", str(self._folder / "cgroup.procs")]

    def exceeded(self) -> bool:
        """Whether the kernel ended a process of the group at the limit."""
        for name in ("memory.events", "memory.oom_control"):
            with contextlib.suppress(OSError):
                lines = (self._folder / name).read_text(encoding="ascii").splitlines()
                return any(line.startswith("oom_kill ") and line.split()[1] != "0" for line in lines)
        return False

    def close(self) -> None:
        """Remove the group; if its processes are still ending, a later call does it."""
        try:
            self._folder.rmdir()
        except OSError:
            _left.append(self._folder)
