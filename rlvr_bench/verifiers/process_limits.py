"""Limits on a group of processes: a thread reads their use from Linux's /proc, and ends them at a limit.

The kernel's limits (RLIMIT_AS and the like) are for each process. These are for all processes together: memory, files in the
scratch folder, CPU time, and the time in which no process works although an answer is awaited. Time counts as idle only while
no process runs or waits for a CPU, so a busy machine does not change a verdict.
"""

from __future__ import annotations

import contextlib
import functools
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

__all__ = ["GroupLimits", "GroupUse", "GroupWatch", "read_use"]

_TICKS, _PAGE = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
# Seconds between two looks; the second value where several processes could reach the limit before the next look.
_CALM_S, _ALERT_S = 0.02, 0.002
_ALERT_FRACTION = 8
_ALONE = 3  # processes: bubblewrap outside, its first process inside, the guest. The guest's address space limit holds.
_FILE_BYTES = 2048  # of kernel memory for an inode and its name
_SOCKET_BYTES = 256 << 10  # of kernel memory that a socket's buffers may hold
_MANY_DESCRIPTORS = 48
_COUNTED = ("RssAnon:", "RssShmem:", "VmSwap:", "VmPTE:")


class GroupLimits(msgspec.Struct, frozen=True, kw_only=True):
    """``memory_bytes`` of all processes, with their scratch files and buffers; ``cpu_s`` and ``idle_s`` see `GroupWatch`."""

    memory_bytes: int
    scratch_bytes: int
    files: int
    cpu_s: float
    idle_s: float


class GroupUse(msgspec.Struct, kw_only=True):
    """The use of a group at one moment; ``cpu_s`` includes ended children; ``busy`` if any thread runs or waits for a CPU.

    ``starved_s`` is how long the guest, since its start, could have run but got no CPU.
    """

    processes: int = 0
    memory_bytes: int = 0
    files: int = 0
    cpu_s: float = 0.0
    starved_s: float = 0.0
    busy: bool = False


def _members(root: int) -> Iterator[tuple[int, list[str]]]:
    """The processes that descend from ``root``, starting with ``root``, each with its threads."""
    waiting, known = [root], None if _lists_children() else _parents()
    while waiting:
        pid = waiting.pop()
        try:
            threads = _names(f"/proc/{pid}/task")
        except OSError:
            continue
        yield pid, threads
        if known is not None:
            waiting += [child for child, parent in known.items() if parent == pid]
            continue
        for thread in threads:
            with contextlib.suppress(OSError):
                waiting += map(int, _read(f"/proc/{pid}/task/{thread}/children").split())


@functools.cache
def _lists_children() -> bool:
    """Whether this kernel lists a process's children (CONFIG_PROC_CHILDREN)."""
    return Path(f"/proc/self/task/{threading.get_native_id()}/children").exists()


def _parents() -> dict[int, int]:
    """Every visible process, and its parent."""
    parents = {}
    for name in _names("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError, IndexError, ValueError):
                parents[int(name)] = int(_read(f"/proc/{name}/stat").rpartition(")")[2].split()[1])
    return parents


# With `os`, not `Path`: this is read many times a second while every sample runs.
def _names(folder: str) -> list[str]:
    return os.listdir(folder)  # noqa: PTH208


def _read(path: str) -> str:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return os.read(descriptor, 1 << 16).decode("ascii", "replace")
    finally:
        os.close(descriptor)


def _add_process(use: GroupUse, pid: int, threads: list[str]) -> None:
    fields = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    use.cpu_s += sum(map(int, fields[11:15])) / _TICKS
    use.busy = use.busy or fields[0] in "RD" or (len(threads) > 1 and any(_runs(pid, thread) for thread in threads))
    for line in _read(f"/proc/{pid}/status").splitlines():
        if line.startswith(_COUNTED):
            use.memory_bytes += int(line.split()[1]) << 10
    use.processes += 1


def _runs(pid: int, thread: str) -> bool:
    try:
        return _read(f"/proc/{pid}/task/{thread}/stat").rpartition(")")[2].split()[0] in "RD"
    except OSError:
        return False


def _starved_s(pid: int) -> float:
    """Linux's run_delay in seconds; 0 where the kernel does not count it."""
    try:
        return int(_read(f"/proc/{pid}/schedstat").split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return 0.0


def _sockets(pids: list[int]) -> int:
    """How many sockets these processes hold, or 0 where they have few descriptors: no process's memory counts buffers."""
    names = []
    for pid in pids:
        with contextlib.suppress(OSError):
            names += [f"/proc/{pid}/fd/{name}" for name in _names(f"/proc/{pid}/fd")]
    if len(names) < _MANY_DESCRIPTORS:
        return 0
    targets = set()
    for name in names:
        with contextlib.suppress(OSError):
            targets.add(os.readlink(name))  # noqa: PTH115
    return sum(target.startswith("socket:") for target in targets)


def _add_scratch(use: GroupUse, pid: int, scratch_bytes: int) -> None:
    """Add the files of the scratch folder as ``pid`` sees it. Its size identifies it: before setup /tmp is another one."""
    try:
        seen = os.statvfs(f"/proc/{pid}/root/tmp")
    except OSError:
        return
    if abs(seen.f_blocks * seen.f_frsize - scratch_bytes) < seen.f_frsize:
        use.files = seen.f_files - seen.f_ffree
        use.memory_bytes += (seen.f_blocks - seen.f_bfree) * seen.f_frsize + use.files * _FILE_BYTES


def _read_alone(init: int, guest: int, scratch_bytes: int) -> GroupUse | None:
    """The use of a group that is one process with one thread; None if it is more, or large. A quarter of `read_use`'s work.

    The resident size may include code, which is memory of the page cache, not of the process.
    """
    try:
        fields = _read(f"/proc/{guest}/stat").rpartition(")")[2].split()
        children = [_read(f"/proc/{pid}/task/{pid}/children").split() for pid in (init, guest)]
    except OSError:
        return None
    if fields[17] != "1" or children != [[str(guest)], []]:
        return None
    use = GroupUse(processes=_ALONE, busy=fields[0] in "RD", memory_bytes=int(fields[21]) * _PAGE)
    use.cpu_s = sum(map(int, fields[11:15])) / _TICKS
    use.starved_s = _starved_s(guest)
    _add_scratch(use, guest, scratch_bytes)
    return use


def read_use(root: int, scratch_bytes: int) -> GroupUse:
    """The use of the process ``root`` and all its descendants; a process that ends meanwhile counts as far as it was read."""
    use, pids = GroupUse(), []
    for pid, threads in _members(root):
        pids.append(pid)
        with contextlib.suppress(OSError, ValueError, IndexError):
            _add_process(use, pid, threads)
    if len(pids) > 1:
        _add_scratch(use, pids[-1], scratch_bytes)
        use.starved_s = _starved_s(pids[min(len(pids), _ALONE) - 1])
    use.memory_bytes += _SOCKET_BYTES * _sockets(pids[1:])
    return use


class GroupWatch:
    """Watches the group of ``root`` from `start` to `close`. At a limit it sets `exceeded` and calls ``end`` once.

    ``confined``: ``root`` is bubblewrap, which starts the guest; otherwise ``root`` is the guest.

    `exceeded` is ``memory`` (bytes or files) or ``timeout``. It is ``timeout`` after more than ``cpu_s`` of CPU time since
    `renew`. Between `expect` and `answered` it is also ``timeout`` after ``idle_s`` in all without work, or after the sum of
    both limits in elapsed time since `renew`, without the time in which the guest waited for a CPU. (The elapsed time counts
    because the CPU time of children that nobody waits for is counted nowhere.)
    """

    def __init__(self, root: int, limits: GroupLimits, end: Callable[[], None], *, confined: bool) -> None:
        self.exceeded: str | None = None
        self._confined = confined
        self._root, self._limits, self._end = root, limits, end
        self._stop = threading.Event()
        self._awaited = False
        self._guest: tuple[int, int] | None = None  # the first process inside, and the guest that it waits for
        self._idle_s = self._cpu_s = self._cpu_before_s = self._awaited_s = self._starved_s = 0.0
        self._thread = threading.Thread(target=self._watch, name="sandbox-watch", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Stop watching, without ending the group."""
        self._stop.set()
        self._thread.join()

    def expect(self) -> None:
        """From now on an answer is awaited."""
        self._awaited = True

    def answered(self) -> None:
        """From now on no answer is awaited: the group may be idle."""
        self._awaited = False

    def renew(self, *, idle: bool = False) -> None:
        """Start the CPU time of another program, and with ``idle`` its idle time."""
        self._cpu_before_s, self._awaited_s = self._cpu_s, 0.0
        if idle:
            self._idle_s = 0.0

    def _watch(self) -> None:
        pause, before = _CALM_S, time.monotonic()
        while not self._stop.wait(pause):
            use = self._look()
            now = time.monotonic()
            self._account(use, now - before)
            before = now
            self.exceeded = self._verdict(use)
            if self.exceeded:
                self._end()
                return
            near = use.processes > _ALONE and use.memory_bytes > self._limits.memory_bytes // _ALERT_FRACTION
            pause = _ALERT_S if near else _CALM_S

    def _look(self) -> GroupUse:
        if self._confined and self._guest is None and _lists_children():
            members = [pid for pid, _ in _members(self._root)]
            if len(members) < _ALONE:  # bubblewrap is still starting: the guest does not run yet
                return GroupUse(busy=True)
            self._guest = (members[1], members[2]) if len(members) == _ALONE else None
        use = self._guest and _read_alone(*self._guest, self._limits.scratch_bytes)
        if use and use.memory_bytes < self._limits.memory_bytes // 2:
            return use
        return read_use(self._root, self._limits.scratch_bytes)

    def _account(self, use: GroupUse, elapsed_s: float) -> None:
        if self._awaited:
            self._awaited_s += max(0.0, elapsed_s - max(0.0, use.starved_s - self._starved_s))
            if not use.busy and use.cpu_s <= self._cpu_s:
                # After a longer pause of this thread it is unknown whether the group worked.
                self._idle_s += min(elapsed_s, 2 * _CALM_S)
        self._cpu_s = max(self._cpu_s, use.cpu_s)
        self._starved_s = max(self._starved_s, use.starved_s)

    def _verdict(self, use: GroupUse) -> str | None:
        limits = self._limits
        if use.memory_bytes > limits.memory_bytes or use.files > limits.files:
            return "memory"
        if self._idle_s > limits.idle_s or self._cpu_s - self._cpu_before_s > limits.cpu_s:
            return "timeout"
        if self._awaited_s > limits.idle_s + limits.cpu_s:
            return "timeout"
        return None
