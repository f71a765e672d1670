"""Limits on a whole group of processes: a thread that sums what they use from Linux's /proc, and ends them at the limit.

The kernel's own limits (RLIMIT_AS and the like) are for each process. Here are those of all processes together: memory, files
in the scratch folder, CPU time, and the time in which none of them does anything although an answer is awaited. Time counts as
idle only while no process runs or waits for a CPU, so a busy machine does not change a verdict.
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
# Seconds between two looks; the second where several processes could reach the limit before the next.
_CALM_S, _ALERT_S = 0.02, 0.002
_ALERT_FRACTION = 8
_ALONE = 3  # bubblewrap outside, its first process inside, the guest: the guest's own address space limit holds
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
    """What a group uses at one moment; ``cpu_s`` includes ended children; ``busy`` if any thread runs or waits for a CPU.

    ``starved_s`` is how long the guest, of all its life, could have run and got no CPU.
    """

    processes: int = 0
    memory_bytes: int = 0
    files: int = 0
    cpu_s: float = 0.0
    starved_s: float = 0.0
    busy: bool = False


def _members(root: int) -> Iterator[tuple[int, list[str]]]:
    """The processes that descend from ``root``, itself first, each with its threads."""
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
    """Every process that can be seen, and its parent."""
    found = {}
    for name in _names("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError, IndexError, ValueError):
                found[int(name)] = int(_read(f"/proc/{name}/stat").rpartition(")")[2].split()[1])
    return found


# By `os` and not by `Path`: this is read many times a second beside every sample.
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
    """Linux's run_delay; 0 where the kernel does not count it."""
    try:
        return int(_read(f"/proc/{pid}/schedstat").split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return 0.0


def _sockets(pids: list[int]) -> int:
    """How many sockets these processes hold, where they are many: their buffers are no process's memory."""
    names = []
    for pid in pids:
        with contextlib.suppress(OSError):
            names += [f"/proc/{pid}/fd/{name}" for name in _names(f"/proc/{pid}/fd")]
    if len(names) < _MANY_DESCRIPTORS:
        return 0
    found = set()
    for name in names:
        with contextlib.suppress(OSError):
            found.add(os.readlink(name))  # noqa: PTH115
    return sum(target.startswith("socket:") for target in found)


def _add_scratch(use: GroupUse, pid: int, scratch_bytes: int) -> None:
    """The files of the scratch folder as ``pid`` sees it: known by its size, because during the start it is another's."""
    try:
        seen = os.statvfs(f"/proc/{pid}/root/tmp")
    except OSError:
        return
    if abs(seen.f_blocks * seen.f_frsize - scratch_bytes) < seen.f_frsize:
        use.files = seen.f_files - seen.f_ffree
        use.memory_bytes += (seen.f_blocks - seen.f_bfree) * seen.f_frsize + use.files * _FILE_BYTES


def _read_alone(init: int, guest: int, scratch_bytes: int) -> GroupUse | None:
    """What a group uses that is one process of one thread; None if it is more, or large: a quarter of `read_use`'s work.

    Its resident size may count code too, which is no use of memory but of the page cache.
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
    """What the process ``root`` and all that descend from it use; one that ends meanwhile counts as far as it was read."""
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
    """Watches the group of ``root`` from `start` to `close`; calls ``end`` once when `exceeded` is set.

    ``confined``: ``root`` is bubblewrap, which starts the guest, and not the guest itself.

    The kinds: ``memory`` (bytes or files) and ``timeout``: more than ``cpu_s`` of CPU time in all since `renew`; or, between
    `expect` and `answered`, ``idle_s`` in all without work, or the sum of both since `renew` in elapsed time, without the time
    in which the machine let the guest wait for a CPU (children that nobody waits for take CPU time that is nowhere counted).
    """

    def __init__(self, root: int, limits: GroupLimits, end: Callable[[], None], *, confined: bool) -> None:
        self.exceeded: str | None = None
        self._confined = confined
        self._root, self._limits, self._end = root, limits, end
        self._stop = threading.Event()
        self._awaited = False
        self._guest: tuple[int, int] | None = None  # the first process inside, and the guest that it waits for
        self._idle_s = self._cpu_s = self._cpu_before_s = self._own_s = self._starved_s = 0.0
        self._thread = threading.Thread(target=self._watch, name="sandbox-watch", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Stop watching; nothing is ended by it."""
        self._stop.set()
        self._thread.join()

    def expect(self) -> None:
        """From now on the group owes an answer."""
        self._awaited = True

    def answered(self) -> None:
        """From now on the group may be idle."""
        self._awaited = False

    def renew(self, *, idle: bool = False) -> None:
        """Another program: it gets its own CPU time, and with ``idle`` its own idle time."""
        self._cpu_before_s, self._own_s = self._cpu_s, 0.0
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
            if len(members) < _ALONE:  # bubblewrap is not done yet: nothing of the guest's runs
                return GroupUse(busy=True)
            self._guest = (members[1], members[2]) if len(members) == _ALONE else None
        use = self._guest and _read_alone(*self._guest, self._limits.scratch_bytes)
        if use and use.memory_bytes < self._limits.memory_bytes // 2:
            return use
        return read_use(self._root, self._limits.scratch_bytes)

    def _account(self, use: GroupUse, elapsed_s: float) -> None:
        if self._awaited:
            self._own_s += max(0.0, elapsed_s - max(0.0, use.starved_s - self._starved_s))
            if not use.busy and use.cpu_s <= self._cpu_s:
                self._idle_s += min(elapsed_s, 2 * _CALM_S)  # a watch that was kept waiting itself knows no more
        self._cpu_s = max(self._cpu_s, use.cpu_s)
        self._starved_s = max(self._starved_s, use.starved_s)

    def _verdict(self, use: GroupUse) -> str | None:
        limits = self._limits
        if use.memory_bytes > limits.memory_bytes or use.files > limits.files:
            return "memory"
        if self._idle_s > limits.idle_s or self._cpu_s - self._cpu_before_s > limits.cpu_s:
            return "timeout"
        if self._own_s > limits.idle_s + limits.cpu_s:
            return "timeout"
        return None
