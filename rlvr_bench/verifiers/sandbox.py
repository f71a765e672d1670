"""Running a model's code where it can do no harm: bubblewrap, or nothing unless the user insists.

Inside there is no network, no process but its own, no file but a read-only interpreter and a scratch folder of bounded size,
and no privilege; memory, CPU time, file size, open files and processes are limited. What it does not stop: bugs of the
kernel, and measuring time. Root needs care: RLIMIT_NPROC does not bind uid 0 whatever a user namespace calls it, so a
privileged caller's sandbox is set up without a user namespace and the guest changes to another real uid before anything runs.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import logging
import os
import select
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from rlvr_bench.errors import VerifierError
from rlvr_bench.verifiers import guest
from rlvr_bench.verifiers.values import decode

__all__ = ["SampleFailure", "Sandbox", "SandboxLimits", "sandbox_problem"]

_log = logging.getLogger(__name__)
# Libraries that start a thread per core reserve address space for each.
_ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
_MAX_FRAME = 64 << 20
_START_S = 60.0
_INSTALL = (
    "Install bubblewrap (`apt-get install bubblewrap`), or pass allow_unsafe=true to run model code without a sandbox."
)


class SandboxLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What one sample may use: CPU seconds per process, address space per process, and so on; ``scratch_bytes`` in all."""

    cpu_s: float = 4.0
    memory_bytes: int = 1 << 30
    file_bytes: int = 16 << 20
    scratch_bytes: int = 64 << 20
    processes: int = 16
    output_bytes: int = 4 << 20


class SampleFailure(Exception):
    """The sample did not answer: ``kind`` is timeout, crashed, or the forged or malformed reply's ``protocol``."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


_guests = itertools.count()


def _guest_uid() -> int:
    """A uid that nothing else uses, so that process limits count this sandbox only; below 65536 for rootless containers."""
    return 40_000 + (257 * os.getpid() + next(_guests)) % 20_000


def _package_folders() -> list[str]:
    """Where the packages installed here lie, for a guest that may read them."""
    return list(dict.fromkeys(str(Path(sysconfig.get_path(name)).resolve()) for name in ("purelib", "platlib")))


def _own_processes() -> int:
    """How many processes this user has: where the guest keeps our uid its process limit counts them too."""
    count = 0
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            count += entry.name.isdigit() and entry.stat().st_uid == os.getuid()
    return count


def _bubblewrap(bwrap: str, limits: SandboxLimits, readable: Sequence[str] = ()) -> list[str]:
    interpreter = Path(sys._base_executable).resolve()  # type: ignore[attr-defined]
    prefixes = dict.fromkeys(
        [Path(sys.base_prefix).resolve(), Path(sys.base_exec_prefix).resolve(), interpreter.parent.parent]
        + [Path(folder) for folder in readable]
    )
    command = [
        bwrap,
        "--die-with-parent",
        "--new-session",
        "--unshare-ipc",
        "--unshare-pid",
        "--unshare-net",
        "--unshare-uts",
    ]
    command += ["--unshare-cgroup-try", "--clearenv", "--cap-drop", "ALL"]
    if os.getuid() == 0:
        command += ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    else:
        command += ["--unshare-user", "--uid", "65534", "--gid", "65534"]
    command += ["--ro-bind", "/usr", "/usr"]
    for name in ("lib", "lib64", "lib32", "bin"):
        path = Path("/", name)
        if path.is_symlink():
            command += ["--symlink", str(path.readlink()), str(path)]
        elif path.is_dir():
            command += ["--ro-bind", str(path), str(path)]
    for prefix in prefixes:
        if not prefix.is_relative_to("/usr"):
            for folder in reversed(
                prefix.parents[:-1]
            ):  # bwrap would copy a parent's mode, and /root is closed to the guest
                command += ["--perms", "0755", "--dir", str(folder)]
            command += ["--ro-bind", str(prefix), str(prefix)]
    for device in ("null", "zero", "urandom", "random"):  # not --dev, whose /dev/shm has no size limit
        command += ["--dev-bind", f"/dev/{device}", f"/dev/{device}"]
    command += ["--proc", "/proc", "--size", str(limits.scratch_bytes), "--perms", "1777", "--tmpfs", "/tmp"]  # noqa: S108  the sandbox's own scratch folder
    for name, value in {
        "PATH": "/usr/bin:/bin",
        "HOME": "/tmp",  # noqa: S108  the sandbox's own scratch folder
        "LANG": "C.UTF-8",
        "PYTHONHASHSEED": "0",
        **_ONE_THREAD,
    }.items():
        command += ["--setenv", name, value]
    return [*command, "--chdir", "/tmp", "--remount-ro", "/", "--", str(interpreter)]  # noqa: S108  the sandbox's own scratch folder


@functools.lru_cache(maxsize=4)
def sandbox_problem() -> str | None:
    """Why bubblewrap cannot be used here, or None: tried once, by running a guest that must find itself confined."""
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

    ``packages``: the guest may import the packages installed here. Raises VerifierError, with what to install, when there
    is no bubblewrap and ``allow_unsafe`` is False.
    """

    def __init__(
        self,
        limits: SandboxLimits,
        *,
        allow_unsafe: bool = False,
        bwrap: str | None = None,
        packages: bool = False,
    ) -> None:
        self._limits = limits
        self._packages = _package_folders() if packages else []
        if bwrap is None:
            problem = sandbox_problem()
            if problem and not allow_unsafe:
                raise VerifierError(f"cannot run model code: {problem}. {_INSTALL}")
            if problem:
                _warn_unsafe(problem)
            bwrap = None if problem else shutil.which("bwrap")
        self._bwrap = bwrap
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        limits = self._limits
        root = os.getuid() == 0
        spoken = {
            "uid": _guest_uid() if root and self._bwrap else 0,
            "cpu_s": limits.cpu_s,
            "memory_bytes": limits.memory_bytes,
            "file_bytes": limits.file_bytes,
            "processes": limits.processes + (0 if root else _own_processes()),
            "path": self._packages,
        }
        start = _bubblewrap(self._bwrap, limits, self._packages) if self._bwrap else [sys._base_executable]  # type: ignore[attr-defined]
        self._process = subprocess.Popen(
            [*start, "-s", "-P", "-B", "-c", guest.source(), json.dumps(spoken)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env={"PATH": "/usr/bin:/bin", "PYTHONHASHSEED": "0"},
            start_new_session=not self._bwrap,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        process = self._process
        if process is None:
            return
        if not self._bwrap:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()

    def request(self, message: dict[str, Any], wall_s: float) -> dict[str, Any]:
        """Send a request and wait for its reply. Raises SampleFailure where none comes, or one that is no reply."""
        process = self._process
        assert process is not None and process.stdin is not None and process.stdout is not None  # noqa: PT018
        deadline = time.monotonic() + wall_s
        body = json.dumps(message).encode()
        self._write(process.stdin.fileno(), guest.FRAME.pack(len(body)) + body, deadline)
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

    def call(self, name: str, arguments: list[Any], wall_s: float) -> Any:
        """Call a function of the loaded code with plain data; its plain result. Raises SampleFailure if it raised."""
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
        """How the guest ended: the CPU limit is a timeout, everything else a crash (bwrap reports 128 + signal)."""
        assert self._process is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=2)
        code = self._process.returncode
        return "timeout" if code in (128 + signal.SIGXCPU, -signal.SIGXCPU) else "crashed"


@functools.lru_cache(maxsize=1)
def _warn_unsafe(problem: str) -> None:
    _log.warning("UNSAFE: model code runs with your own rights, without a sandbox, because %s", problem)
