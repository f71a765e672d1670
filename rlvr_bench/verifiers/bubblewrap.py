"""The command line that confines a guest with bubblewrap: what it can see, its namespaces, and its user."""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import subprocess
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from pathlib import Path

__all__ = ["SCRATCH", "bubblewrap", "guest_uid", "own_processes", "package_folders"]

# Libraries that start a thread per core reserve address space for each.
_ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
SCRATCH = "/tmp"  # noqa: S108  the scratch folder inside the sandbox
_guests = itertools.count()


def guest_uid() -> int:
    """A uid that nothing else uses, so that process limits count only this sandbox; below 65536 for rootless containers."""
    return 40_000 + (257 * os.getpid() + next(_guests)) % 20_000


def package_folders() -> list[str]:
    """The folders of the packages installed here, for a guest that may read them."""
    return list(dict.fromkeys(str(Path(sysconfig.get_path(name)).resolve()) for name in ("purelib", "platlib")))


def own_processes() -> int:
    """How many processes this user has: where the guest keeps our uid, its process limit counts them too."""
    count = 0
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            count += entry.name.isdigit() and entry.stat().st_uid == os.getuid()
    return count


@functools.cache
def _knows_disable_userns(bwrap: str) -> bool:
    """Whether this is bubblewrap 0.8 or later."""
    return "--disable-userns" in subprocess.run([bwrap, "--help"], capture_output=True, text=True, check=False).stdout


def _identity(bwrap: str) -> list[str]:
    if os.getuid() == 0:
        return ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    within = ["--disable-userns"] if _knows_disable_userns(bwrap) else []
    return ["--unshare-user", *within, "--uid", "65534", "--gid", "65534"]


def _system_folders() -> list[str]:
    options = ["--ro-bind", "/usr", "/usr"]
    for name in ("lib", "lib64", "lib32", "bin"):
        path = Path("/", name)
        if path.is_symlink():
            options += ["--symlink", str(path.readlink()), str(path)]
        elif path.is_dir():
            options += ["--ro-bind", str(path), str(path)]
    return options


def _readable(interpreter: Path, folders: Sequence[str]) -> list[str]:
    options = []
    prefixes = dict.fromkeys(
        [Path(sys.base_prefix).resolve(), Path(sys.base_exec_prefix).resolve(), interpreter.parent.parent]
        + [Path(folder) for folder in folders]
    )
    for prefix in prefixes:
        if not prefix.is_relative_to("/usr"):
            # bubblewrap would copy a parent's mode, and the guest may not enter /root.
            parents = [str(parent) for parent in reversed(prefix.parents[:-1]) if str(parent) != SCRATCH]
            for parent in parents:
                options += ["--perms", "0755", "--dir", parent]
            options += ["--ro-bind", str(prefix), str(prefix)]
    return options


def bubblewrap(
    bwrap: str,
    *,
    scratch_bytes: int,
    readable: Sequence[str] = (),
    filter_fd: int | None = None,
    environment: Mapping[str, str] | None = None,
) -> list[str]:
    """The command to put before the arguments of a Python interpreter.

    ``scratch_bytes``: the size of its /tmp; ``readable``: folders it may read besides the interpreter; ``filter_fd``: the
    descriptor from which bubblewrap reads a system call filter.
    """
    interpreter = Path(sys._base_executable).resolve()  # type: ignore[attr-defined]
    namespaces = [f"--unshare-{name}" for name in ("ipc", "pid", "net", "uts", "cgroup-try")]
    command = [bwrap, "--die-with-parent", "--new-session", *namespaces, "--clearenv", "--cap-drop", "ALL"]
    command += [*_identity(bwrap), *_system_folders()]
    command += ["--size", str(scratch_bytes), "--perms", "1777", "--tmpfs", SCRATCH]
    command += _readable(interpreter, readable)  # after the scratch folder: an environment may be installed below /tmp
    # Not --dev, whose /dev/shm has no size limit. Not /dev/zero: its shared mappings count as no process's memory.
    command += ["--perms", "0755", "--dir", "/dev"]  # without this bubblewrap makes it unreadable for another uid
    for device in ("null", "urandom", "random"):
        command += ["--dev-bind", f"/dev/{device}", f"/dev/{device}"]
    command += ["--proc", "/proc"]
    for name, value in {
        "PATH": "/usr/bin:/bin",
        "HOME": SCRATCH,
        "LANG": "C.UTF-8",
        "PYTHONHASHSEED": "0",
        **_ONE_THREAD,
        **(environment or {}),
    }.items():
        command += ["--setenv", name, value]
    if filter_fd is not None:
        command += ["--seccomp", str(filter_fd)]
    return [*command, "--chdir", SCRATCH, "--remount-ro", "/", "--", str(interpreter)]
