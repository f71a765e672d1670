"""The program inside the sandbox, in the same process as a model's code: it runs requests and never gets an expected value.

It uses only the standard library: a bare interpreter runs the text of this file and of `values`. All its replies are
untrusted, because the code that it runs can reach every object here. That is harmless: a forger can only send a return value
or an output, and only the grader outside knows what these should be.

Frames: 4-byte length, JSON.
"""

from __future__ import annotations

import ast
import atexit
import contextlib
import functools
import json
import os
import resource
import select
import signal
import struct
import sys
import time
import traceback
from typing import TYPE_CHECKING, Any, BinaryIO

with contextlib.suppress(ImportError):  # inside the sandbox these are defined already
    from rlvr_bench.verifiers.values import decode, encode

if TYPE_CHECKING:
    from typing import TypedDict

    class Limits(TypedDict, total=False):
        """What the program is started with."""

        uid: int
        cpu_s: float
        memory_bytes: int
        file_bytes: int
        processes: int
        path: list[str]

    class Request(TypedDict, total=False):
        """The fields of a request; each operation reads its own."""

        code: str
        on: int
        path: list[str]
        instantiate: bool
        args: list[object]
        named: dict[str, object]
        name: str
        set: object
        header: str
        input: str
        output_bytes: int
        run_s: float
        most: int
        call: int


FRAME = struct.Struct("!I")


@functools.lru_cache(maxsize=1)
def source() -> str:
    """The program for a bare interpreter: the text of `values`, then of this file, run in one namespace."""
    from pathlib import Path

    files = (Path(__file__).with_name("values.py"), Path(__file__))
    return "".join(f"exec(compile({file.read_text(encoding='utf-8')!r}, {file.name!r}, 'exec'))\n" for file in files)


def read_exactly(stream: BinaryIO, size: int) -> bytes:
    """``size`` bytes of a stream; raises EOFError when it ends before that."""
    data = stream.read(size)
    if len(data) < size:
        raise EOFError
    return data


class _Kept:
    """Objects that stay in the sandbox, by number."""

    def __init__(self) -> None:
        self.objects: list[object] = []
        self.instances: dict[str, object] = {}

    def keep(self, value: object) -> int:
        self.objects.append(value)
        return len(self.objects) - 1

    def look_up(self, number: int) -> object:
        return self.objects[number]

    def instance(self, scope: dict[str, object], name: str) -> object:
        """The one instance of a class, made at its first use; a function is returned unchanged."""
        if name not in self.instances:
            value = scope[name]
            self.instances[name] = value() if isinstance(value, type) else value
        return self.instances[name]


def _confine(limits: Limits) -> None:
    """Give up root, then set hard limits, which cannot be raised again."""
    if os.getuid() == 0 and limits["uid"]:
        os.setgroups([])
        os.setgid(limits["uid"])
        os.setuid(limits["uid"])  # RLIMIT_NPROC does not bind uid 0
    cpu = int(limits["cpu_s"]) + 1
    for which, soft, hard in (
        (resource.RLIMIT_CPU, cpu, cpu + 1),
        (resource.RLIMIT_AS, limits["memory_bytes"], limits["memory_bytes"]),
        (resource.RLIMIT_FSIZE, limits["file_bytes"], limits["file_bytes"]),
        (resource.RLIMIT_NOFILE, 64, 64),
        (resource.RLIMIT_CORE, 0, 0),
        (resource.RLIMIT_NPROC, limits["processes"], limits["processes"]),
    ):
        resource.setrlimit(which, (soft, hard))
    sys.set_int_max_str_digits(50_000)


def _load(request: Request, scope: dict[str, object], kept: _Kept) -> dict[str, object]:
    exec(
        compile(request["code"], "sample.py", "exec"), scope
    )  # the data set's own tests, or the sample inside the sandbox
    return {"names": sorted(name for name, value in scope.items() if callable(value))}


def _call(request: Request, scope: dict[str, object], kept: _Kept) -> dict[str, object]:
    target: Any = kept.look_up(request["on"]) if "on" in request else None
    for name in request["path"]:
        if target is None:
            target = kept.instance(scope, name) if request.get("instantiate") else scope[name]
        else:
            target = target.__getattribute__(name)
    arguments = [decode(argument, kept.look_up) for argument in request["args"]]
    named = {name: decode(argument, kept.look_up) for name, argument in request["named"].items()}
    value = target(*arguments, **named)
    return {"value": encode(value, kept.keep), "args": [encode(argument, kept.keep) for argument in arguments]}


def _attribute(request: Request, scope: dict[str, object], kept: _Kept) -> dict[str, object]:
    target = kept.look_up(request["on"])
    if "set" in request:
        setattr(target, request["name"], decode(request["set"], kept.look_up))
        return {}
    return {"value": encode(getattr(target, request["name"]), kept.keep)}


def _run(request: Request, scope: dict[str, object], kept: _Kept) -> dict[str, object]:
    """Run a program in a child process, with ``input`` on its stdin; its output is captured up to a limit."""
    import tempfile  # here, because it takes a tenth of the start and few samples need it

    read_end, write_end = os.pipe()
    with tempfile.TemporaryFile() as file:  # memfd is refused in the sandbox: no limit counts its memory
        file.write(request["input"].encode("utf-8", "surrogateescape"))
        file.flush()
        given = os.dup(file.fileno())
    os.lseek(given, 0, os.SEEK_SET)
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        os.dup2(given, 0)
        os.dup2(write_end, 1)
        os.closerange(3, 64)
        _run_program(request["code"], request.get("header", ""))
    os.close(write_end)
    os.close(given)
    output, ended = _drain(read_end, request["output_bytes"], time.monotonic() + request["run_s"])
    os.close(read_end)
    if not ended:
        for kill in (os.killpg, os.kill):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return {"stdout": output.decode("utf-8", "replace"), "status": os.waitstatus_to_exitcode(status), "ended": ended}


def _run_program(code: str, header: str) -> None:
    """Run a program to its end, with its threads and exit functions; status 1 if it raises anything but SystemExit."""
    status = 1
    try:
        sys.stdin, sys.stdout = open(0), open(1, "w")  # noqa: SIM115  the process ends with them
        scope = {"__name__": "__main__", "__builtins__": __builtins__}
        exec(header, scope)  # the task's imports
        with contextlib.suppress(SystemExit):
            exec(
                compile(code, "sample.py", "exec"), scope
            )  # the data set's own tests, or the sample inside the sandbox
        status = 0
        if "threading" in sys.modules:
            sys.modules["threading"]._shutdown()  # waits for the threads
        atexit._run_exitfuncs()
        sys.stdout.flush()
    finally:
        os._exit(status)


def _drain(descriptor: int, most: int, deadline: float) -> tuple[bytes, bool]:
    """The bytes from a pipe until it closes; False if that took too long or was too much."""
    output = bytearray()
    while len(output) <= most:
        patience = deadline - time.monotonic()
        if patience <= 0 or not select.select([descriptor], [], [], patience)[0]:
            return bytes(output), False
        part = os.read(descriptor, 1 << 16)
        if not part:
            return bytes(output), True
        output += part
    return bytes(output[:most]), False


class _Printed:
    """A stream for ``sys.stdout`` that keeps the first ``most`` characters, so that it cannot fill the memory."""

    encoding = "utf-8"

    def __init__(self, most: int) -> None:
        self._most, self._parts, self._length = most, [], 0  # type: ignore[var-annotated]

    def write(self, text: object) -> int:
        kept = str(text)[: max(0, self._most - self._length)]
        if kept:
            self._parts.append(kept)
        self._length += len(str(text))
        return len(str(text))

    def flush(self) -> None:
        """Nothing is buffered."""

    def isatty(self) -> bool:
        return False

    def text(self) -> str:
        cut = self._length - self._most
        return "".join(self._parts) + (f"\n[{cut} more characters]" if cut > 0 else "")


def _interact(request: Request, scope: dict[str, object], kept: _Kept) -> dict[str, object]:
    """Run a block as a notebook would; returns what it prints, and the end of its traceback where it fails."""
    printed, failed, process = _Printed(request["most"]), False, os.getpid()
    before = sys.stdout, sys.stderr
    sys.stdout = sys.stderr = printed
    try:
        tree = ast.parse(request["code"], "block.py")
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, "block.py", "exec"), scope)  # the sample inside the sandbox
        if isinstance(last, ast.Expr):
            value = eval(
                compile(ast.Expression(last.value), "block.py", "eval"), scope
            )  # the sample inside the sandbox
            if value is not None:
                printed.write(f"{value!r}\n")
    except BaseException as error:  # any error becomes a result
        failed = True
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == "block.py"]
        where = f" (line {lines[-1]})" if lines else ""
        printed.write("".join(traceback.format_exception_only(error)).rstrip()[-1000:] + where)
    finally:
        if os.getpid() != process:  # a child that the block forked must not answer for its parent
            os._exit(0)
        sys.stdout, sys.stderr = before
    return {"output": printed.text(), "failed": failed, "call": request["call"]}


def _allow(cpu_s: float) -> None:
    """Allow this request so much CPU time, within the hard limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (min(hard, int(time.process_time() + cpu_s) + 1), hard))


OPERATIONS = {"load": _load, "call": _call, "attribute": _attribute, "run": _run, "interact": _interact}


def main(limits: Limits) -> None:
    """Serve requests until the grader closes the pipe."""
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nowhere = os.open("/dev/null", os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)
    _confine(limits)
    sys.path.extend(limits.get("path", ()))
    scope: dict[str, object] = {"__name__": "sample", "__builtins__": __builtins__}
    kept = _Kept()
    while True:
        try:
            request = json.loads(read_exactly(requests, FRAME.unpack(read_exactly(requests, FRAME.size))[0]))
        except EOFError:
            return
        try:
            if "cpu_s" in request:
                _allow(request["cpu_s"])
            reply = OPERATIONS[request["op"]](request, scope, kept)
        except BaseException as error:  # any error becomes a result
            reply = {"raised": type(error).__name__, "text": str(error)[:500]}
        body = json.dumps(reply).encode()
        replies.write(FRAME.pack(len(body)) + body)
        replies.flush()


if __name__ == "__main__" and len(sys.argv) > 1:
    main(json.loads(sys.argv[1]))
