"""Runs a model's code where it can do no harm: in bubblewrap, or not at all unless the user insists.

Inside there is no network, no other process, no file but a read-only interpreter and a scratch folder of limited size, and no
privilege. CPU time, file size, open files and processes are limited for each process; memory, files and time for all of them
together (`process_limits`). System calls that would evade these limits are refused (`seccomp`). It does not stop kernel bugs
and timing measurements. Root needs care: RLIMIT_NPROC does not bind uid 0, even inside a user namespace. So the sandbox of a
privileged caller is set up without a user namespace, and the guest changes to another real uid before anything runs.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from rlvr_bench.errors import VerifierError
from rlvr_bench.verifiers import guest
from rlvr_bench.verifiers.bubblewrap import bubblewrap, guest_uid, own_processes, package_folders
from rlvr_bench.verifiers.memory_cgroup import MemoryCgroup
from rlvr_bench.verifiers.process_limits import GroupLimits, GroupWatch
from rlvr_bench.verifiers.seccomp import sandbox_filter
from rlvr_bench.verifiers.values import decode

__all__ = ["SampleFailure", "Sandbox", "SandboxLimits", "sandbox_problem"]

_log = logging.getLogger(__name__)
_MAX_FRAME = 64 << 20
_START_S = 60.0
_INSTALL = (
    "Install bubblewrap (`apt-get install bubblewrap`), or pass allow_unsafe=true to run model code without a sandbox."
)


class SandboxLimits(msgspec.Struct, frozen=True, kw_only=True):
    """The limits of one sample. For each process: ``cpu_s`` of CPU time, ``memory_bytes`` of address space, ``file_bytes`` of a
    file. For all processes together: ``memory_bytes`` resident with the scratch folder, ``scratch_bytes`` and ``files`` in that
    folder, twice ``cpu_s`` and 2 s of CPU time for each program run, and ``idle_s`` (default ``cpu_s`` and 2 s) without work.
    """

    cpu_s: float = 4.0
    memory_bytes: int = 1 << 30
    file_bytes: int = 16 << 20
    scratch_bytes: int = 64 << 20
    processes: int = 16
    output_bytes: int = 4 << 20
    files: int = 16_384
    idle_s: float | None = None

    def of_group(self) -> GroupLimits:
        return GroupLimits(
            memory_bytes=self.memory_bytes,
            scratch_bytes=self.scratch_bytes,
            files=self.files,
            cpu_s=2 * self.cpu_s + 2,
            idle_s=self.cpu_s + 2 if self.idle_s is None else self.idle_s,
        )


class SampleFailure(Exception):
    """The sample did not answer. ``kind``: timeout, memory, crashed, or protocol (a forged or malformed reply)."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


def _filter_to_read() -> list[int]:
    """The descriptor to read the system call filter from, in a list; an empty list for an unknown processor."""
    if (text := sandbox_filter()) is None:
        return []
    read_end, write_end = os.pipe()
    os.write(write_end, text)  # a few kilobytes fit into any pipe
    os.close(write_end)
    return [read_end]


@functools.lru_cache(maxsize=4)
def sandbox_problem() -> str | None:
    """Why bubblewrap cannot be used here, or None. Tried once: a guest must see that it is confined."""
    bwrap = shutil.which("bwrap")
    if bwrap is None:
        return "bubblewrap (bwrap) is not installed"
    probe = (
        "import os, resource, socket\n"
        "def forks():\n"
        "    children = []\n"
        "    try:\n"
        "        for _ in range(40):\n"
        "            pid = os.fork()\n"
        "            if not pid:\n"
        "                import time; time.sleep(5); os._exit(0)\n"
        "            children.append(pid)\n"
        "    except OSError:\n"
        "        pass\n"
        "    return len(children)\n"
        "def uid():\n"
        "    return os.getuid()\n"
    )
    try:
        with Sandbox(SandboxLimits(processes=8), bwrap=bwrap) as sandbox:
            sandbox.request({"op": "load", "code": probe}, _START_S)
            uid = sandbox.call("uid", [], 20.0)
            forks = sandbox.call("forks", [], 20.0)
    except (SampleFailure, OSError) as failure:
        return f"bubblewrap does not work here ({failure})"
    if uid == 0:
        return "bubblewrap leaves the guest as root here"
    if os.getuid() == 0 and forks >= 40:
        return "the process limit does not bind here"
    return None


class Sandbox:
    """One guest process for one sample, and the conversation with it. A context manager; leaving it ends the guest.

    ``packages``: the guest may import the packages installed here. ``readable``: folders that it may read. ``program``: the
    guest's source (None: the program that runs samples). ``spoken``: what the guest gets in addition to its limits.
    ``purpose``: for the error message. Raises VerifierError, with the package to install, when there is no bubblewrap and
    ``allow_unsafe`` is False.
    """

    def __init__(
        self,
        limits: SandboxLimits,
        *,
        allow_unsafe: bool = False,
        bwrap: str | None = None,
        packages: bool = False,
        program: str | None = None,
        spoken: Mapping[str, object] | None = None,
        environment: Mapping[str, str] | None = None,
        readable: Sequence[str] = (),
        purpose: str = "run model code",
    ) -> None:
        self._limits = limits
        self._packages = package_folders() if packages else []
        self._readable = [*self._packages, *(folder for folder in readable if Path(folder).is_dir())]
        self._program, self._spoken, self._environment = program or guest.source(), spoken or {}, environment or {}
        if bwrap is None:
            problem = sandbox_problem()
            if problem and not allow_unsafe:
                raise VerifierError(f"cannot {purpose}: {problem}. {_INSTALL}")
            if problem:
                _warn_unsafe(problem)
            bwrap = None if problem else shutil.which("bwrap")
        self._bwrap = bwrap
        self._process: subprocess.Popen[bytes] | None = None
        self._watch: GroupWatch | None = None
        self._cgroup: MemoryCgroup | None = None

    def __enter__(self) -> Self:
        limits = self._limits
        root = os.getuid() == 0
        spoken = {
            "uid": guest_uid() if root and self._bwrap else 0,
            "cpu_s": limits.cpu_s,
            "memory_bytes": limits.memory_bytes,
            "file_bytes": limits.file_bytes,
            "processes": limits.processes + (0 if root else own_processes()),
            "path": self._packages,
            **self._spoken,
        }
        self._process = self._start(["-s", "-P", "-B", "-c", self._program, json.dumps(spoken)])
        self._watch = GroupWatch(self._process.pid, limits.of_group(), self._end_all, confined=self._bwrap is not None)
        self._watch.start()
        return self

    def _start(self, arguments: list[str]) -> subprocess.Popen[bytes]:
        start, passed = [sys._base_executable], []  # type: ignore[attr-defined]
        if self._bwrap:
            passed = _filter_to_read()
            start = bubblewrap(
                self._bwrap,
                scratch_bytes=self._limits.scratch_bytes,
                readable=self._readable,
                filter_fd=passed[0] if passed else None,
                environment=self._environment,
            )
            self._cgroup = MemoryCgroup.open(self._limits.memory_bytes)
            start = [*(self._cgroup.command() if self._cgroup else ()), *start]
        try:
            return subprocess.Popen(
                [*start, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd="/",
                env={"PATH": "/usr/bin:/bin", "PYTHONHASHSEED": "0", **({} if self._bwrap else self._environment)},
                start_new_session=not self._bwrap,
                pass_fds=passed,
            )
        finally:
            for descriptor in passed:
                os.close(descriptor)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        process = self._process
        if process is None:
            return
        if self._watch:
            self._watch.close()
        self._end_all()
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()
        if self._cgroup:
            self._cgroup.close()

    @property
    def alive(self) -> bool:
        """Whether the guest has not ended."""
        return self._process is not None and self._process.poll() is None

    def _end_all(self) -> None:
        """End the guest and all that it started; bubblewrap's processes end with it."""
        assert self._process is not None
        if not self._bwrap:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()

    def request(
        self, message: Mapping[str, object], wall_s: float, *, attached: object = None, fresh: bool = False
    ) -> dict[str, Any]:
        """Send a request and wait for its reply. Raises SampleFailure where there is no reply, or a malformed one.

        ``attached`` goes in a second frame, after the request. ``fresh``: the group's earlier use does not count.
        """
        assert self._watch is not None
        if fresh or message["op"] == "run":
            self._watch.renew(idle=fresh)
        self._watch.expect()
        try:
            return self._exchange([message] if attached is None else [message, attached], wall_s)
        except SampleFailure as failure:
            raise SampleFailure(self._exceeded() or failure.kind) from None
        finally:
            self._watch.answered()

    def _exceeded(self) -> str | None:
        """The limit of the whole group that was reached, if any."""
        if self._watch and self._watch.exceeded:
            return self._watch.exceeded
        return "memory" if self._cgroup and self._cgroup.exceeded() else None

    def _exchange(self, messages: Sequence[object], wall_s: float) -> dict[str, Any]:
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        deadline = time.monotonic() + wall_s
        bodies = [json.dumps(message).encode() for message in messages]
        self._write(process.stdin.fileno(), b"".join(guest.FRAME.pack(len(body)) + body for body in bodies), deadline)
        (size,) = guest.FRAME.unpack(self._read(process.stdout.fileno(), guest.FRAME.size, deadline))
        if size > _MAX_FRAME:
            raise SampleFailure("protocol")
        try:
            reply = json.loads(self._read(process.stdout.fileno(), size, deadline))
        except (ValueError, RecursionError) as error:
            raise SampleFailure("protocol") from error
        if not isinstance(reply, dict):
            raise SampleFailure("protocol")
        return reply

    def call(self, name: str, arguments: Sequence[object], wall_s: float) -> Any:
        """Call a function of the loaded code with plain data; returns plain data. Raises SampleFailure if it raised."""
        reply = self.request({"op": "call", "path": [name], "args": arguments, "named": {}}, wall_s)
        if "raised" in reply:
            raise SampleFailure(str(reply["raised"]))
        return decode(reply["value"], lambda number: number)

    def _write(self, descriptor: int, data: bytes, deadline: float) -> None:
        os.set_blocking(descriptor, False)
        view = memoryview(data)
        while view:
            self._await(descriptor, deadline, write=True)
            try:
                view = view[os.write(descriptor, view) :]
            except BlockingIOError:
                continue
            except BrokenPipeError as error:
                raise SampleFailure("crashed") from error

    def _read(self, descriptor: int, size: int, deadline: float) -> bytes:
        data = bytearray()
        while len(data) < size:
            self._await(descriptor, deadline, write=False)
            part = os.read(descriptor, min(size - len(data), 1 << 16))
            if not part:
                raise SampleFailure(self._end())
            data += part
        return bytes(data)

    def _await(self, descriptor: int, deadline: float, *, write: bool) -> None:
        patience = deadline - time.monotonic()
        ends = ([], [descriptor]) if write else ([descriptor], [])
        if patience <= 0 or not any(select.select(*ends, [], patience)):
            raise SampleFailure("timeout")

    def _end(self) -> str:
        """How the guest ended: the CPU limit is a timeout, anything else a crash (bwrap reports 128 + signal)."""
        assert self._process is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=2)
        code = self._process.returncode
        return "timeout" if code in (128 + signal.SIGXCPU, -signal.SIGXCPU) else "crashed"


@functools.lru_cache(maxsize=1)
def _warn_unsafe(problem: str) -> None:
    _log.warning("UNSAFE: model code runs with your rights, without a sandbox, because %s", problem)
