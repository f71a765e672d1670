"""The program inside the sandbox that scores answers: it loads third-party scorers once, and forks a process per answer.

The process that forks never reads an answer, a question or a gold. The child reads the request's second frame. It gets no
other frame, cannot start a process, cannot signal a process, can write only to its pipe, and has ended before the next
request. It sends a result of fixed size. So one answer leaves nothing for the next, and no answer sees another's gold.

It uses only the standard library and the scorers: a bare interpreter runs the text of this file.
Frames: 4-byte length, JSON.
"""

from __future__ import annotations

import asyncio
import base64
import concurrent.futures
import contextlib
import ctypes
import errno
import gc
import json
import math
import os
import random
import re
import resource
import select
import signal
import struct
import sys
import time
import types
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing import TypedDict

    class Start(TypedDict):
        """What the program is started with; ``filter`` is the system call filter in base64, ``safe_eval`` a file's text.

        ``library`` names the scorers, ``opening`` is what they are opened with, in JSON.
        """

        uid: int
        memory_bytes: int
        file_bytes: int
        processes: int
        filter: str
        safe_eval: str
        path: list[str]
        library: str
        opening: str


FRAME = struct.Struct("!I")
# How it ended, the score, whether it asked for what it may not have, and an error's text.
_REPLY = struct.Struct("!cd?200s")
_READ = b"r"  # the child has read the whole request: the pipe is at the next one
_ENDS = {b"e": "exception", b"m": "memory", b"l": "limit"}
_STARVED_FACTOR = 5
_SET_DUMPABLE, _SET_NO_NEW_PRIVILEGES, _SET_SECCOMP, _SECCOMP_FILTER = 4, 38, 22, 2
LOOSE = 20  # the first bit of the second set in a score of instructions; a float holds 53 bits
# Data of nltk that a check may need and that does not come with the package.
DATA = ("punkt_tab", "averaged_perceptron_tagger_eng", "stopwords")
_TIMEOUTS = (signal.SIGPROF, signal.SIGXCPU)
_REFUSED = (errno.EPERM, errno.EACCES, errno.EAGAIN, errno.EROFS, errno.ENETUNREACH, errno.EFBIG)

Score = Callable[[str, dict[str, object]], float]


class LackingData(Exception):
    """A check needs data of nltk that are not installed: ``name``, one of `DATA`."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


def _read(descriptor: int, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = os.read(descriptor, min(size - len(data), 1 << 20))
        if not part:
            raise EOFError
        data += part
    return data


def _read_frame(descriptor: int) -> Any:
    return json.loads(_read(descriptor, FRAME.unpack(_read(descriptor, FRAME.size))[0]))


class _Kernel:
    """Calls that Python has no function for; the system call filter is prepared once."""

    def __init__(self, program: bytes) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        # Not os.fork: after it, Python and its libraries touch twice as many pages as scoring an answer does. That work is
        # needed only where there are threads, and there are none. PyDLL keeps the interpreter's lock meanwhile.
        self.fork = ctypes.PyDLL(None, use_errno=True).fork
        self._text = ctypes.create_string_buffer(program, len(program)) if program else None
        if self._text is not None:
            fields = struct.pack("@HP", len(program) // 8, ctypes.addressof(self._text))
            self._header = ctypes.create_string_buffer(fields, len(fields))

    def hide(self) -> None:
        """Forbid other processes of the same user to trace this one or to read its memory and descriptors."""
        self._libc.prctl(_SET_DUMPABLE, 0, 0, 0, 0)

    def apply(self) -> None:
        """Apply the filter from now on. Raises OSError where the kernel refuses it."""
        if self._text is None:
            return
        self._libc.prctl(_SET_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
        if self._libc.prctl(_SET_SECCOMP, _SECCOMP_FILTER, self._header, 0, 0):
            raise OSError(ctypes.get_errno(), "seccomp")


def _confine(spoken: Start) -> None:
    if os.getuid() == 0 and spoken["uid"]:
        os.setgroups([])
        os.setgid(spoken["uid"])
        os.setuid(spoken["uid"])
    # A sandbox that a worker starts again inherits what is left of its answer's CPU time.
    _, most = resource.getrlimit(resource.RLIMIT_CPU)
    for which, limit in (
        (resource.RLIMIT_CPU, most),
        (resource.RLIMIT_AS, spoken["memory_bytes"]),
        (resource.RLIMIT_FSIZE, spoken["file_bytes"]),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NPROC, spoken["processes"]),
    ):
        resource.setrlimit(which, (limit, limit))
    sys.set_int_max_str_digits(50_000)


def _confine_child(cpu_s: float, kernel: _Kernel) -> None:
    """Limit CPU time by two clocks, and forbid processes and files; nothing of it can be undone."""
    whole = int(cpu_s) + 1
    for which, soft, hard in (
        (resource.RLIMIT_CPU, whole, whole + 1),
        (resource.RLIMIT_NPROC, 0, 0),
        (resource.RLIMIT_FSIZE, 0, 0),
    ):
        resource.setrlimit(which, (soft, hard))
    signal.setitimer(signal.ITIMER_PROF, cpu_s)  # its signal has no handler, so it ends the process
    kernel.apply()


def _answer(score: Score, requests: int, reply: int, cpu_s: float, kernel: _Kernel, refusals: list[str]) -> None:
    """In the child: read the request, score it, send the result, end."""
    try:
        os.closerange(3, requests)
        os.closerange(requests + 1, reply)
        request = _read_frame(requests)
        os.close(requests)
        os.write(reply, _READ)
        _confine_child(cpu_s, kernel)
        end, value, refused, text = b"s", 0.0, False, ""
        try:
            value = float(score(request["answer"], request["entry"]))
        except MemoryError:
            end = b"m"
        except RecursionError:
            end = b"l"
        except BaseException as error:  # noqa: BLE001  any error becomes a result
            end, refused, text = b"e", _is_refusal(error), f"{type(error).__name__}: {error}"
        os.write(reply, _REPLY.pack(end, value, refused or bool(refusals), text.encode(errors="replace")[:200]))
    finally:
        os._exit(0)


def _is_refusal(error: BaseException | None) -> bool:
    """Whether an error comes from something that a scorer may not have: the network, a process, a thread, a file to write."""
    for _ in range(20):
        if error is None:
            return False
        number = error.errno if isinstance(error, OSError) else None
        if number is not None and (number in _REFUSED or number < 0):  # below 0: a name that cannot be looked up
            return True
        if isinstance(error, RuntimeError) and "start new thread" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def _collect(pid: int, reply: int, cpu_s: float) -> tuple[bytes, bool]:
    """The bytes that a child sent, and whether it ran out of time."""
    reply_bytes, late = b"", False
    started = time.monotonic()
    patience = 4 * cpu_s + 1
    while len(reply_bytes) <= len(_READ) + _REPLY.size:
        left = started + patience - time.monotonic()
        if left <= 0 and _runs(pid) and patience < _STARVED_FACTOR * (4 * cpu_s + 1):
            patience += cpu_s  # runnable, but the machine gives it no CPU
            continue
        if left <= 0 or not select.select([reply], [], [], left)[0]:
            late = left <= 0 or not _runs(pid)
            if late:
                break
            continue
        part = os.read(reply, 512)
        if not part:
            break
        reply_bytes += part
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    _, status, used = os.wait4(pid, 0)
    killed = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    # The hard limit of CPU time kills with SIGKILL, as this function does, and comes after the soft limit.
    return reply_bytes, late or killed in _TIMEOUTS or (
        killed == signal.SIGKILL and used.ru_utime + used.ru_stime >= cpu_s
    )


def _runs(pid: int) -> bool:
    with contextlib.suppress(OSError), open(f"/proc/{pid}/stat", errors="replace") as file:  # noqa: PTH123
        return file.read().rpartition(")")[2].split()[0] == "R"
    return False


def _decide(score: Score, requests: int, cpu_s: float, kernel: _Kernel, refusals: list[str]) -> dict[str, object]:
    read_end, write_end = os.pipe()
    pid = kernel.fork()
    if pid < 0:
        raise OSError(ctypes.get_errno(), "fork")
    if pid == 0:
        _answer(score, requests, write_end, cpu_s, kernel, refusals)
    os.close(write_end)
    try:
        reply_bytes, timed_out = _collect(pid, read_end, cpu_s)
    finally:
        os.close(read_end)
    if reply_bytes[:1] == _READ and len(reply_bytes) == len(_READ) + _REPLY.size:
        end, value, refused, text = _REPLY.unpack(reply_bytes[1:])
        if end == b"s":
            return {"score": value, "refused": refused}
        words = text.rstrip(b"\0").decode(errors="replace")
        return {"failed": _ENDS.get(end, "crash"), "lost": False, "refused": refused, "text": words}
    return {"failed": "timeout" if timed_out else "crash", "lost": reply_bytes[:1] != _READ}


class _ReasoningGym:
    """The scorers of reasoning-gym's data sets; each is made once."""

    def __init__(self) -> None:
        from reasoning_gym.factory import DATASETS, get_score_answer_fn

        self.names, self._make, self._made = DATASETS, get_score_answer_fn, {}  # type: ignore[var-annotated]

    def scorer(self, name: str) -> Score:
        if name not in self._made:
            self._made[name] = self._make(name)
        scorer: Score = self._made[name]
        return scorer


class _Verifiers:
    """The rewards of one environment of the package verifiers, for a conversation with one response."""

    def __init__(self, environment: str, settings: dict[str, object], reward: str) -> None:
        import verifiers.v1 as vf
        from verifiers.v1.state import state_cls

        self.names, self._vf, self._reward = (environment,), vf, reward
        self._task = vf.task_type(environment)
        self._state = state_cls(self._task)
        config = vf.taskset_config_type(environment).model_validate({**settings, "id": environment})
        self._config = config.task

    def scorer(self, name: str) -> Score:
        return self._score

    def _score(self, answer: str, entry: dict[str, object]) -> float:
        task = self._task(self._task.data_type().model_validate(entry), self._config)
        trace = self._trace(task, answer)
        _Loop().run_until_complete(task.score(trace))
        if self._reward and self._reward not in trace.rewards:
            raise LookupError(f"no reward {self._reward!r}; there are: {', '.join(trace.rewards)}")
        value = float(trace.rewards[self._reward].score if self._reward else trace.reward)
        if not -math.inf < value < math.inf:
            raise ValueError(f"the reward is {value}")
        return value

    def _trace(self, task: Any, answer: str) -> Any:
        """The trace of a finished rollout as the package records it: the prompt's messages and one response."""
        vf, data = self._vf, task.data
        messages = [vf.UserMessage(content=data.prompt)] if isinstance(data.prompt, str) else [*data.prompt]
        if data.system_prompt is not None:
            messages.insert(0, vf.SystemMessage(content=data.system_prompt))
        messages.append(vf.AssistantMessage(content=answer))
        nodes = [
            vf.MessageNode(message=message, parent=number - 1 if number else None, sampled=number == len(messages) - 1)
            for number, message in enumerate(messages)
        ]
        record = vf.TraceTask(type=type(task).__name__, data=data, key=task.key, hash=task.hash)
        trace = vf.Trace(task=record, agent=vf.AgentInfo(config=vf.AgentConfig()), nodes=nodes, state=self._state())
        trace.stop("agent_completed")
        return trace


class _InThisThread(concurrent.futures.ThreadPoolExecutor):
    """Runs at once what a coroutine gives to a thread: a scorer may not start one."""

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **named: Any) -> concurrent.futures.Future[Any]:
        future: concurrent.futures.Future[Any] = concurrent.futures.Future()
        try:
            future.set_result(function(*arguments, **named))
        except Exception as error:  # noqa: BLE001  whoever awaits the future gets it
            future.set_exception(error)
        return future


class _Loop(asyncio.SelectorEventLoop):
    """An event loop without the pair of sockets by which another thread or a signal would wake it."""

    def __init__(self) -> None:
        super().__init__()
        self.set_default_executor(_InThisThread())

    def _make_self_pipe(self) -> None:
        self._ssock = self._csock = None

    def _write_to_self(self) -> None:
        pass


class _IfVerifiable:
    """The checks of if-verifiable: which instructions of a prompt a response follows, strictly and loosely.

    The random numbers that a check draws where its arguments are incomplete are seeded with the prompt. A score is two sets of
    bits: below `LOOSE`, the instructions that the response follows as it is; from there on, those that one of its variants
    follows.
    """

    def __init__(self, data: Sequence[str]) -> None:
        # The package loads its own data sets with this package, which takes seconds and memory; the checks do not use it.
        sys.modules.setdefault("datasets", types.ModuleType("datasets")).load_dataset = None  # type: ignore[attr-defined]
        import langdetect
        import nltk

        nltk.data.path[:] = list(data)
        nltk.download = lambda *words, **options: False  # a check whose data are missing must say so
        from if_verifiable.common import get_loose_transformations
        from if_verifiable.ifbench.instructions_registry import INSTRUCTION_DICT as IFBENCH
        from if_verifiable.ifeval.instructions_registry import INSTRUCTION_DICT as IFEVAL

        langdetect.DetectorFactory.seed = 0
        self._variants = get_loose_transformations
        self._checks: dict[str, Mapping[str, Any]] = {"ifbench": IFBENCH, "ifeval": IFEVAL}
        self.names = self._checks
        langdetect.detect("Load the profiles before the answers come.")
        with contextlib.suppress(LookupError):
            nltk.word_tokenize("Load the data.")

    def scorer(self, name: str) -> Score:
        checks = self._checks[name]

        def score(response: str, entry: dict[str, Any]) -> float:
            try:
                return self._followed(checks, response, entry)
            except LookupError as error:
                missing = [name for name in DATA if re.search(rf"\b{name}\b", str(error))]
                if type(error) is LookupError and missing:  # nltk's; a KeyError comes from the check
                    raise LackingData(missing[0]) from error
                raise

        return score

    def _followed(self, checks: Mapping[str, Any], response: str, entry: dict[str, Any]) -> float:
        strict = loose = 0
        for number, (name, given) in enumerate(zip(entry["instructions"], entry["arguments"], strict=True)):
            random.seed(f"{number}/{entry['question']}")
            check = checks[name](name)
            check.build_description(**{key: value for key, value in given.items() if value is not None})
            if "prompt" in (check.get_instruction_args() or {}):
                check.build_description(prompt=entry["question"])
            if response.strip() and check.check_following(response):
                strict |= 1 << number
            if any(text.strip() and check.check_following(text) for text in self._variants(response)):
                loose |= 1 << number
        return float(strict + (loose << LOOSE))


_LIBRARIES: dict[str, Callable[..., Any]] = {
    "instructions": _IfVerifiable,
    "reasoning_gym": _ReasoningGym,
    "verifiers": _Verifiers,
}


def _serve(requests: int, replies: int, library: Any, kernel: _Kernel, refusals: list[str]) -> None:
    while True:
        request = _read_frame(requests)
        try:
            if request["dataset"] not in library.names:
                reply: dict[str, object] = {"unknown": sorted(library.names), "lost": True}
            else:
                score = library.scorer(request["dataset"])
                gc.freeze()  # so that garbage collection in a child does not write to the shared pages
                reply = _decide(score, requests, request["cpu_s"], kernel, refusals)
        except (OSError, ValueError, LookupError, TypeError, MemoryError, AttributeError, ImportError) as error:
            reply = {"failed": "exception", "text": f"{type(error).__name__}: {error}"[:500], "lost": True}
        _send(replies, {**reply, "number": request["number"]})
        if reply.get("lost"):
            return


def _send(descriptor: int, reply: dict[str, object]) -> None:
    body = json.dumps(reply).encode()
    with os.fdopen(os.dup(descriptor), "wb") as stream:
        stream.write(FRAME.pack(len(body)) + body)


def main(spoken: Start) -> None:
    """Load the scorers, then serve requests until the grader closes the pipe."""
    requests, replies = os.dup(0), os.dup(1)
    nowhere = os.open("/dev/null", os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)
    os.close(nowhere)
    _confine(spoken)
    kernel = _Kernel(base64.b64decode(spoken["filter"]))
    safe_eval = types.ModuleType("safe_eval")
    exec(compile(spoken["safe_eval"], "safe_eval.py", "exec"), vars(safe_eval))  # noqa: S102  our own file's text
    # The packages of the interpreter that the grader's environment was made from may be other versions.
    standard = [entry for entry in sys.path if not entry.endswith(("site-packages", "dist-packages"))]
    sys.path[:] = standard + spoken["path"]
    greeting = _read_frame(requests)
    try:
        library = _LIBRARIES[spoken["library"]](**json.loads(spoken["opening"]))
        reply = {"ready": True}
    except Exception as error:  # noqa: BLE001  a package may raise anything when it is loaded
        reply = {"missing": f"{type(error).__name__}: {error}"[:500]}  # type: ignore[dict-item]
    kernel.hide()
    safe_eval.guard()
    gc.collect()
    gc.disable()
    _send(replies, {**reply, "number": greeting["number"]})
    if "ready" in reply:
        with contextlib.suppress(EOFError):
            _serve(requests, replies, library, kernel, safe_eval.refusals)


if __name__ == "__main__" and len(sys.argv) > 1:
    main(json.loads(sys.argv[1]))
