# ruff: noqa: E501  the tables are easier to read in long rows
"""Programs made to take memory, scratch space, processes or time beyond a sandbox's limits; each defines ``attack()``.

``REFUSED``: the kernel must say no, and ``attack`` then returns True. ``GREEDY``: whatever happens, it must end in time and
within the limits.
"""

from __future__ import annotations

_BEGIN = """
import ctypes, mmap, os, resource, signal, socket, struct, sys, threading, time
libc = ctypes.CDLL(None, use_errno=True)
MB = 1 << 20
def call(number, *arguments):
    return libc.syscall(ctypes.c_long(number), *[ctypes.c_long(a) if isinstance(a, int) else a for a in arguments])
def refused(action):
    try:
        value = action()
    except OSError:
        return True
    return isinstance(value, int) and value < 0
def children(work, count=64):
    made = 0
    for _ in range(count):
        try:
            pid = os.fork()
        except OSError:
            break
        if pid == 0:
            try:
                work()
            finally:
                os._exit(0)
        made += 1
    return made
def touch(size):
    kept = []
    try:
        while size > 0:
            kept.append(b'x' * (8 * MB)); size -= 8 * MB
    except MemoryError:
        pass
    time.sleep(100)
    return len(kept)
"""

_REFUSED = {
    "memfd": "return refused(lambda: os.memfd_create('a'))",
    "secret memory": "return refused(lambda: call(447, 0))",
    "shared anonymous mapping": "return refused(lambda: mmap.mmap(-1, 64 * MB))",
    "shared mapping of zeros": "return refused(lambda: mmap.mmap(os.open('/dev/zero', os.O_RDWR), 64 * MB))",
    "huge pages": "return refused(lambda: mmap.mmap(-1, 64 * MB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x40000))",
    "System V shared memory": "return refused(lambda: libc.shmget(0, ctypes.c_size_t(64 * MB), 0o1600))",
    "System V message queue": "return refused(lambda: libc.msgget(0, 0o1600))",
    "POSIX message queue": "return refused(lambda: libc.syscall(240, b'q', 0o102, 0o600, None))",
    "POSIX shared memory": "from multiprocessing import shared_memory\n    return refused(lambda: shared_memory.SharedMemory(create=True, size=64 * MB))",
    "unshare user": "return refused(lambda: libc.unshare(0x10000000))",
    "unshare mount": "return refused(lambda: libc.unshare(0x00020000))",
    "unshare user and mount": "return refused(lambda: libc.unshare(0x10020000))",
    "unshare process ids": "return refused(lambda: libc.unshare(0x20000000))",
    "clone with a user namespace": "return refused(lambda: call(56, 0x10000000 | 17, 0, 0, 0, 0))",
    "clone3": "return refused(lambda: call(435, ctypes.create_string_buffer(struct.pack('11Q', 0x10000000, 0, 0, 0, 17, 0, 0, 0, 0, 0, 0)), 88))",
    "unshare program": "import subprocess\n    return subprocess.run(['unshare', '-Urm', 'true'], capture_output=True).returncode != 0",
    "mount tmpfs": "return refused(lambda: libc.mount(b'none', b'/tmp', b'tmpfs', 0, b''))",
    "new mount interface": "return refused(lambda: call(430, ctypes.c_char_p(b'tmpfs'), 0))",
    "chroot": "return refused(lambda: os.chroot('/tmp'))",
    "enter a namespace": "return refused(lambda: libc.setns(os.open('/proc/self/ns/user', os.O_RDONLY), 0))",
    "trace the parent": "return refused(lambda: libc.ptrace(16, os.getppid(), 0, 0))",
    "write another's memory": "return refused(lambda: libc.process_vm_writev(os.getppid(), None, 0, None, 0, 0))",
    "kernel key": "return refused(lambda: call(248, ctypes.c_char_p(b'user'), ctypes.c_char_p(b'k'), ctypes.c_char_p(b'v'), 1, -3))",
    "io_uring": "return refused(lambda: call(425, 8, ctypes.create_string_buffer(256)))",
    "asynchronous io": "return refused(lambda: call(206, 8, ctypes.byref(ctypes.c_ulong())))",
    "userfaultfd": "return refused(lambda: call(323, 0))",
    "perf events": "return refused(lambda: call(298, ctypes.create_string_buffer(128), 0, -1, -1, 0))",
    "bpf": "return refused(lambda: call(321, 0, ctypes.create_string_buffer(128), 128))",
    "big pipe": "import fcntl\n    return refused(lambda: fcntl.fcntl(os.pipe()[0], 1031, MB))",
    "big socket buffer": "return refused(lambda: socket.socketpair()[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 * MB))",
    "pages lent to a pipe": "return refused(lambda: call(278, os.pipe()[1], 0, 0, 0))",
    "record locks": "import fcntl\n    return refused(lambda: fcntl.lockf(open('/tmp/a', 'w'), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 5))",
    "a server": "return refused(lambda: socket.socket().bind(('127.0.0.1', 0)))",
    "the other call table": "return children(lambda: call(0x40000000 | 39)) >= 0 and all(os.WIFSIGNALED(os.wait()[1]) for _ in range(1))",
}  # fmt: skip

_GREEDY = {
    "memory of one process": "touch(4096 * MB)",
    "memory of many processes": "children(lambda: touch(4096 * MB)); touch(0)",
    "memory of many, a little each": "children(lambda: touch(64 * MB)); touch(0)",
    "memory of daemons": "def daemon():\n        os.setsid()\n        if os.fork() == 0: touch(4096 * MB)\n    children(daemon, 8); touch(0)",
    "memory copied after a fork": "kept = [bytearray(b'x' * MB) for _ in range(100)]\n    def copy():\n        for part in kept: part[:] = b'y' * MB\n        time.sleep(100)\n    children(copy); touch(0)",
    "memory of threads": "[threading.Thread(target=touch, args=(1024 * MB,), daemon=True).start() for _ in range(4)]; touch(0)",
    "big files": "for i in range(64):\n        with open(f'/tmp/{i}', 'wb') as f:\n            for _ in range(64): f.write(b'x' * MB)",
    "deleted files kept open": "kept = []\n    for i in range(40):\n        kept.append(open(f'/tmp/{i}', 'wb')); os.unlink(f'/tmp/{i}'); kept[-1].write(b'x' * (4 * MB)); kept[-1].flush()",
    "sparse files": "for i in range(64):\n        with open(f'/tmp/{i}', 'wb') as f: f.truncate(15 * MB)\n    m = mmap.mmap(os.open('/tmp/0', os.O_RDWR), 15 * MB); m[:] = b'x' * (15 * MB); touch(0)",
    "many small files": "i = 0\n    while True:\n        os.close(os.open(f'/tmp/{i}', os.O_CREAT)); i += 1",
    "many folders": "i = 0\n    while True:\n        os.mkdir(f'/tmp/{i}'); i += 1",
    "many links": "open('/tmp/a', 'w').close()\n    i = 0\n    while True:\n        os.symlink('x' * 4000, f'/tmp/{i}'); i += 1",
    "small files of many processes": "def fill():\n        i = 0\n        while True:\n            os.close(os.open(f'/tmp/{os.getpid()}-{i}', os.O_CREAT)); i += 1\n    children(fill); touch(0)",
    "full pipes": "def fill():\n        kept = []\n        while True:\n            try: kept.append(os.pipe())\n            except OSError: break\n        for _, w in kept:\n            os.set_blocking(w, False)\n            try:\n                while True: os.write(w, b'x' * 65536)\n            except OSError: pass\n        time.sleep(100)\n    children(fill); fill()",
    "full socket buffers": "def fill():\n        kept = []\n        try:\n            while True: kept.append(socket.socketpair())\n        except OSError: pass\n        for pair in kept:\n            for end in pair:\n                end.setblocking(False)\n                try:\n                    while True: end.send(b'x' * 65536)\n                except OSError: pass\n        time.sleep(100)\n    children(fill); fill()",
    "fork bomb": "while True:\n        try: os.fork()\n        except OSError: pass",
    "fork bomb of sleepers": "children(lambda: time.sleep(1000)); time.sleep(1000)",
    "fork bomb of daemons": "def daemon():\n        os.setsid(); os.fork(); os.fork()\n        while True: pass\n    children(daemon); time.sleep(1000)",
    "a process that moves on": "children(lambda: [os._exit(0) if os.fork() else None for _ in range(10**9)], 4); time.sleep(1000)",
    "children that are not awaited": "signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n    while True: children(lambda: None)",
    "zombies": "children(lambda: None); time.sleep(1000)",
    "thread bomb": "while True:\n        try: threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()\n        except RuntimeError: time.sleep(1000)",
    "sleeper": "time.sleep(1000)",
    "sleeper that deafens itself": "[signal.signal(s, signal.SIG_IGN) for s in range(1, 32) if s not in (9, 19, 32, 33)]; time.sleep(1000)",
    "sleeper that wakes up": "while True: time.sleep(0.005)",
    "waits for a lock": "lock = threading.Lock(); lock.acquire(); lock.acquire()",
    "stopped": "os.kill(os.getpid(), signal.SIGSTOP)",
    "burner that deafens itself": "signal.signal(signal.SIGXCPU, signal.SIG_IGN)\n    while True: pass",
    "burning children": "def burn():\n        while True: pass\n    children(burn); os.waitpid(-1, 0); os.waitpid(-1, 0); os.waitpid(-1, 0)\n    time.sleep(1000)",
    "deep recursion": "sys.setrecursionlimit(10**9)\n    def f(): return f() + 1\n    f()",
    "big number": "return len(str(9 ** (9 ** 9)))",
    "big stack": "resource.setrlimit(resource.RLIMIT_STACK, (200 * MB, 200 * MB)); threading.stack_size(200 * MB); threading.Thread(target=touch, args=(0,)).start(); touch(0)",
    "flood of output": "while True: print('x' * MB); os.write(1, b'x' * MB)",
    "flood of replies": "for fd in range(3, 64):\n        try:\n            while True: os.write(fd, struct.pack('!I', 64 << 20) + b' ' * (8 * MB))\n        except OSError: pass",
    "many mappings": "kept = []\n    try:\n        while True: kept.append(mmap.mmap(-1, 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=1 + len(kept) % 2))\n    except (OSError, MemoryError): pass\n    touch(0)",
    "leaves a child at work": "children(lambda: touch(4096 * MB), 4)",
}  # fmt: skip


def _program(body: str) -> str:
    return f"{_BEGIN}\ndef attack():\n    {body}\n"


REFUSED = {name: _program(body) for name, body in _REFUSED.items()}
GREEDY = {name: _program(body) for name, body in _GREEDY.items()}
