"""A system call filter: the calls that a sandboxed process may not make, as a classic BPF program for bubblewrap.

It refuses calls that make or hold memory that no per-process limit and no sum over the processes counts (memfd, System V and
POSIX shared memory, shared anonymous mappings, enlarged pipe and socket buffers, pages lent to pipes, record locks, kernel
keys, timers, watches), every way into new namespaces, tracing of other processes, and interfaces known for kernel bugs. A
refused call fails with an error number. It does not kill the caller, so a library that only tries a call uses its fallback.

Numbers: Linux arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/asm-generic/unistd.h (aarch64).
"""

from __future__ import annotations

import errno
import functools
import platform
import struct

__all__ = ["sandbox_filter", "scorer_filter"]

_MACHINES = {"x86_64": 0, "aarch64": 1}
_AUDIT_ARCH = (0xC000003E, 0xC00000B7)
_X32 = 0x40000000
_Table = dict[str, tuple[int | None, int | None]]
# (x86_64, aarch64); None where the processor has no such call.
_CALLS: _Table = {
    "acct": (163, 89),
    "add_key": (248, 217),
    "bind": (49, 200),
    "bpf": (321, 280),
    "chroot": (161, 51),
    "clone": (56, 220),
    "clone3": (435, 435),
    "connect": (42, 203),
    "delete_module": (176, 106),
    "fanotify_init": (300, 262),
    "fcntl": (72, 25),
    "finit_module": (313, 273),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fsopen": (430, 430),
    "fspick": (433, 433),
    "init_module": (175, 105),
    "inotify_init": (253, None),
    "inotify_init1": (294, 26),
    "io_setup": (206, 0),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "io_uring_setup": (425, 425),
    "ioperm": (173, None),
    "iopl": (172, None),
    "kcmp": (312, 272),
    "kexec_file_load": (320, 294),
    "kexec_load": (246, 104),
    "keyctl": (250, 219),
    "listen": (50, 201),
    "lookup_dcookie": (212, 18),
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "mmap": (9, 222),
    "mount": (165, 40),
    "mount_setattr": (442, 442),
    "move_mount": (429, 429),
    "mq_open": (240, 180),
    "msgget": (68, 186),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "open_tree": (428, 428),
    "perf_event_open": (298, 241),
    "personality": (135, 92),
    "pidfd_getfd": (438, 438),
    "pivot_root": (155, 41),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "ptrace": (101, 117),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "reboot": (169, 142),
    "request_key": (249, 218),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    "semget": (64, 190),
    "setns": (308, 268),
    "setsockopt": (54, 208),
    "shmat": (30, 196),
    "shmctl": (31, 195),
    "shmget": (29, 194),
    "swapoff": (168, 225),
    "swapon": (167, 224),
    "syslog": (103, 116),
    "timer_create": (222, 107),
    "umount2": (166, 39),
    "unshare": (272, 97),
    "userfaultfd": (323, 282),
    "vmsplice": (278, 75),
}
# Calls that a process needs none of to decide one answer: other processes, signals, sockets, and changing files.
_SCORER_CALLS: _Table = {
    "clone": (56, 220),
    "creat": (85, None),
    "execve": (59, 221),
    "execveat": (322, 281),
    "fork": (57, None),
    "kill": (62, 129),
    "link": (86, None),
    "linkat": (265, 37),
    "mkdir": (83, None),
    "mkdirat": (258, 34),
    "mknod": (133, None),
    "mknodat": (259, 33),
    "open": (2, None),
    "openat": (257, 56),
    "openat2": (437, 437),
    "pidfd_open": (434, 434),
    "pidfd_send_signal": (424, 424),
    "rename": (82, None),
    "renameat": (264, 38),
    "renameat2": (316, 276),
    "setxattr": (188, 5),
    "socket": (41, 198),
    "socketpair": (53, 199),
    "symlink": (88, None),
    "symlinkat": (266, 36),
    "tgkill": (234, 131),
    "tkill": (200, 130),
    "truncate": (76, 45),
    "vfork": (58, None),
}
_NEW_NAMESPACES = 0x7E020000  # CLONE_NEWNS, CGROUP, UTS, IPC, USER, PID, NET
_SHARED_ANONYMOUS, _HUGE_PAGES = 0x21, 0x40000  # of mmap's flags
_SET_PIPE_SIZE, _RECORD_LOCKS = 1031, (6, 7, 37, 38)  # of fcntl's commands
_WRITING = 0x643  # O_WRONLY, O_RDWR, O_CREAT, O_TRUNC, O_APPEND
_SOCKET_LEVEL, _BUFFER_SIZES = 1, (7, 8, 32, 33)  # SO_SNDBUF, SO_RCVBUF and their privileged variants

_LOAD, _AND, _EQUAL, _ANY_BIT, _RETURN = 0x20, 0x54, 0x15, 0x45, 0x06
_ALLOW, _KILL, _ERROR = 0x7FFF0000, 0x80000000, 0x00050000
_NUMBER, _ARCH, _ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data


def _instruction(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)


def _refuse(number: int = errno.EPERM) -> bytes:
    return _instruction(_RETURN, _ERROR | number)


def _load_argument(position: int) -> bytes:
    return _instruction(_LOAD, _ARGUMENTS + 8 * position)  # the lower half, on a little-endian processor


def _only(call: int, body: bytes) -> bytes:
    """Run ``body`` for this call only; other calls jump over it. ``body`` must end in a return."""
    return _instruction(_EQUAL, call, 0, len(body) // 8) + body


def _equals(values: tuple[int, ...]) -> bytes:
    return b"".join(_instruction(_EQUAL, value, 0, 1) + _refuse() for value in values)


def _argument_rules() -> dict[str, bytes]:
    """Calls of the first table that are refused only for some arguments."""
    allow = _instruction(_RETURN, _ALLOW)
    both = _instruction(_AND, _SHARED_ANONYMOUS) + _instruction(_EQUAL, _SHARED_ANONYMOUS, 0, 1) + _refuse()
    huge = _instruction(_ANY_BIT, _HUGE_PAGES, 0, 1) + _refuse()
    level = _instruction(_EQUAL, _SOCKET_LEVEL, 1, 0) + allow
    return {
        # glibc falls back to clone where clone3 does not exist. The flags of clone3 are in memory and cannot be filtered.
        "clone3": _refuse(errno.ENOSYS),
        "connect": _refuse(errno.ENETUNREACH),  # the error of a network without routes
        "clone": _load_argument(0) + _instruction(_ANY_BIT, _NEW_NAMESPACES, 0, 1) + _refuse() + allow,
        "fcntl": _load_argument(1) + _equals((_SET_PIPE_SIZE, *_RECORD_LOCKS)) + allow,
        "mmap": _load_argument(3) + huge + both + allow,
        "setsockopt": _load_argument(1) + level + _load_argument(2) + _equals(_BUFFER_SIZES) + allow,
    }


def _scorer_rules() -> dict[str, bytes]:
    """Files may be opened for reading. openat2 is refused as unknown: its flags are in memory."""
    to_read = _instruction(_ANY_BIT, _WRITING, 0, 1) + _refuse() + _instruction(_RETURN, _ALLOW)
    return {
        "open": _load_argument(1) + to_read,
        "openat": _load_argument(2) + to_read,
        "openat2": _refuse(errno.ENOSYS),
    }


def _filter(*tables: tuple[_Table, dict[str, bytes]]) -> bytes | None:
    column = _MACHINES.get(platform.machine())
    if column is None:
        return None
    rules = [
        _instruction(_LOAD, _ARCH),
        _instruction(_EQUAL, _AUDIT_ARCH[column], 1, 0) + _instruction(_RETURN, _KILL),
        _instruction(_LOAD, _NUMBER),
    ]
    if column == 0:
        rules.append(_instruction(0x35, _X32, 0, 1) + _instruction(_RETURN, _KILL))  # the x32 table repeats the calls
    for calls, by_argument in tables:
        for name, numbers in calls.items():
            if (number := numbers[column]) is not None:
                rules.append(_only(number, by_argument.get(name, _refuse())))
    return b"".join([*rules, _instruction(_RETURN, _ALLOW)])


@functools.cache
def sandbox_filter() -> bytes | None:
    """The filter for programs; None for a processor with unknown numbers (then only namespaces confine)."""
    return _filter((_CALLS, _argument_rules()))


@functools.cache
def scorer_filter() -> bytes | None:
    """A second filter, for a process that scores one answer: it can compute, and read files."""
    return _filter((_SCORER_CALLS, _scorer_rules()))
