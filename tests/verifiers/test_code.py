# ruff: noqa: E501  the tables are easier to read in long rows
from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

import rlvr_bench.verifiers.sandbox as sandbox_module
from rlvr_bench.errors import VerifierError
from rlvr_bench.records import Problem, Verdict
from rlvr_bench.verifiers import VerifierPool, open_verifier
from rlvr_bench.verifiers.extraction import open_policy
from rlvr_bench.verifiers.sandbox import Sandbox, SandboxLimits, sandbox_problem

DATA = Path(__file__).parents[3] / "shared" / "data"


@pytest.fixture(autouse=True)
def _sandbox() -> None:
    """The escape tests mean nothing without the sandbox: absent, they fail where it is promised, and skip elsewhere."""
    problem = sandbox_problem()
    if problem and os.environ.get("CI"):
        pytest.fail(f"CI needs a working bubblewrap: {problem}")
    if problem:
        pytest.skip(problem)


def judge(code: str, **data: object) -> Verdict:
    return open_verifier("code", test_s=1.0, sample_s=5.0).verify(
        code, Problem(id="p", question="", answer="", data=data)
    )


SQUARE = {"test_list": ["assert square(3) == 9", "assert square(-2) == 4", "assert set(square_all([1, 2])) == {1, 4}"]}
GOOD = "def square(x):\n    return x * x\ndef square_all(xs):\n    return [square(x) for x in xs]\n"


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (GOOD, None), (GOOD + "print('noise')\n" * 10, None), (GOOD + "if __name__ == '__main__':\n    1 / 0\n", None),
        ("def square(x):\n    return x + 6\ndef square_all(xs): return xs\n", "failed"), ("def square(x):\n    return 1 / 0\n", "runtime_error"), ("def square(x):\n  return (", "syntax"),
        ("def cube(x):\n    return x\n", "no_function"), ("", "no_function"), ("def square(x):\n    while True: pass\n", "timeout"), ("import time\ntime.sleep(100)\n", "timeout"),
        ("def square(x):\n    return 'a' * (1 << 34)\n", "runtime_error"),
    ],
)  # fmt: skip
def test_asserts(code: str, kind: str | None) -> None:
    verdict = judge(code, **SQUARE)
    assert (verdict.status, verdict.kind) == ("wrong" if kind else "correct", kind)


ALWAYS_EQUAL = "class Yes:\n    def __eq__(self, other): return True\n    def __ne__(self, other): return False\n    def __hash__(self): return 1\n"
FORGERIES = {
    "exits well": "import sys\nsys.exit(0)\n",
    "exits hard": "import os\nos._exit(0)\n",
    "exits in the function": "import os\ndef square(x):\n    os._exit(0)\n",
    "raises SystemExit": "def square(x):\n    raise SystemExit(0)\n",
    "equals everything": ALWAYS_EQUAL + "def square(x): return Yes()\ndef square_all(x): return Yes()\n",
    "integer that equals": "class Int(int):\n    def __eq__(self, other): return True\n    __hash__ = int.__hash__\ndef square(x): return Int(5)\ndef square_all(x): return [Int(5)]\n",
    "list that equals": "class L(list):\n    def __eq__(self, other): return True\ndef square(x): return L()\n",
    "redefines set": "def square(x): return x * x\ndef set(x): return 1\ndef square_all(xs): return []\n",
    "patches builtins": "import builtins\nbuiltins.set = lambda *a: 1\nbuiltins.AssertionError = Exception\ndef square(x): return x * x\ndef square_all(x): return 0\n",
    "raises AssertionError like": "class AssertionError(BaseException): pass\ndef square(x): raise AssertionError\n",
    "prints success": "print('OK'); print('PASSED'); print('__SUCCESS__')\n",
    "writes to every descriptor": (
        "import os, json, struct\nbody = json.dumps({'value': 9, 'names': ['square', 'square_all'], 'args': []}).encode()\nfor fd in range(64):\n"
        "    for _ in range(50):\n        try: os.write(fd, struct.pack('!I', len(body)) + body)\n        except OSError: break\n"
    ),
    "writes garbage to every descriptor": "import os\nfor fd in range(64):\n    try: os.write(fd, b'\\xff' * 100)\n    except OSError: pass\ndef square(x): return 9\n",
    "replaces the protocol": "import sys\nframe = sys._getframe()\nwhile frame:\n    g = frame.f_globals\n    if 'encode' in g: g['encode'] = lambda value, keep: {'r': 0}\n    frame = frame.f_back\ndef square(x): return 1\ndef square_all(x): return 1\n",
    "reply nested deep": "import sys\nframe = sys._getframe()\nwhile frame:\n    g = frame.f_globals\n    if 'json' in g and 'encode' in g:\n        g['json'].dumps = lambda reply: '[' * 100000\n    frame = frame.f_back\ndef square(x): return 1\n",
    "reply of wrong shape": "import sys\nframe = sys._getframe()\nwhile frame:\n    g = frame.f_globals\n    if 'json' in g and 'encode' in g:\n        g['json'].dumps = lambda reply: '{\"names\": [\"square\"], \"value\": {\"x\": 1, \"y\": 2}}'\n    frame = frame.f_back\n",
    "searches for the answer": "import gc\ndef square(x):\n    found = [o for o in gc.get_objects() if isinstance(o, str) and 'square(3) ==' in o]\n    return 9 if found else 0\ndef square_all(x): return [1, 4]\n",
    "stops its process": "import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)\n",
    "returns a recursive list": "def square(x):\n    a = []\n    a.append(a)\n    return a\n",
    "ignores the CPU limit": "import signal\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\ndef square(x):\n    while True: pass\n",
}  # fmt: skip


@pytest.mark.parametrize("name", FORGERIES)
def test_success_cannot_be_forged(name: str) -> None:
    assert judge(FORGERIES[name], **SQUARE).status == "wrong"


@pytest.fixture(scope="module")
def listener() -> Iterator[int]:
    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base class names it so
            pass

    server = HTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


def inside(code: str, **limits: int) -> Any:
    """What ``attack()`` returns when it runs in the sandbox."""
    with Sandbox(SandboxLimits(**limits)) as sandbox:
        loaded = sandbox.request({"op": "load", "code": code}, 20)
        assert "raised" not in loaded, loaded
        return sandbox.call("attack", [], 20)


def test_no_network(listener: int) -> None:
    attack = "import socket\ndef attack():\n    out = []\n    for host in ('127.0.0.1', '10.0.0.1', '8.8.8.8'):\n        s = socket.socket(); s.settimeout(2)\n        try: s.connect((host, {port})); out.append(host)\n        except OSError: pass\n    return out\n"
    assert inside(attack.replace("{port}", str(listener))) == []


def test_no_file_outside_can_be_read_or_written(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("the answer")
    home = Path.home()
    paths = [
        str(secret),
        str(tmp_path / "new"),
        "/etc/passwd",
        "/etc/shadow",
        str(home / "new"),
        "/usr/new",
        "/new",
        "/dev/new",
        "/var/new",
        str(Path(__file__)),
        "/proc/1/environ_",
    ]
    attack = f"def attack():\n    out = []\n    for path in {paths!r}:\n        for mode in ('r', 'a'):\n            try:\n                open(path, mode).close(); out.append((path, mode))\n            except OSError: pass\n    return out\n"
    assert inside(attack) == []
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["secret"]


def test_the_scratch_folder_is_bounded() -> None:
    attack = "import os\ndef attack():\n    total = 0\n    for i in range(100):\n        try:\n            with open(f'/tmp/{i}', 'wb') as f:\n                for _ in range(64): f.write(b'x' * (1 << 20)); f.flush()\n        except OSError: pass\n    return sum(os.path.getsize('/tmp/' + n) for n in os.listdir('/tmp'))\n"
    written = inside(attack, scratch_bytes=32 << 20)
    assert isinstance(written, int)
    assert written <= 33 << 20


def test_a_fork_bomb_is_bounded_and_reaped() -> None:
    attack = "import os, time\ndef attack():\n    n = 0\n    try:\n        while n < 2000:\n            if os.fork() == 0:\n                time.sleep(1000); os._exit(0)\n            n += 1\n    except OSError: pass\n    return n\n"
    before = len([entry for entry in Path("/proc").iterdir() if entry.name.isdigit()])
    forks = inside(attack, processes=12)
    assert isinstance(forks, int)
    assert forks < 2000
    if os.getuid() == 0:
        assert forks <= 12
    after = len([entry for entry in Path("/proc").iterdir() if entry.name.isdigit()])
    assert after < before + 12 + 10


def test_other_processes_cannot_be_seen_signalled_or_read() -> None:
    attack = f"import os, signal\ndef attack():\n    seen = [int(n) for n in os.listdir('/proc') if n.isdigit()]\n    hit = []\n    for pid in range(2, 70000):\n        if pid not in seen:\n            try: os.kill(pid, 0); hit.append(pid)\n            except OSError: pass\n    try: open('/proc/{os.getpid()}/mem'); hit.append(-1)\n    except OSError: pass\n    return len(seen), hit, os.getuid() == 0\n"
    seen, hit, root = inside(attack)
    assert (hit, root) == ([], False)
    assert seen <= 4


def test_no_privilege_can_be_had() -> None:
    attack = "import os, ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\ndef attack():\n    out = []\n    for name, call in {'setuid': lambda: os.setuid(0), 'mount': lambda: libc.mount(b'none', b'/tmp', b'tmpfs', 0, b'') and 1 / 0, 'chroot': lambda: os.chroot('/tmp'), 'nice': lambda: os.nice(-5), 'chown': lambda: os.chown('/', 0, 0)}.items():\n        try: call(); out.append(name)\n        except (OSError, ZeroDivisionError): pass\n    return out\n"
    assert inside(attack) == []


def test_memory_is_bounded() -> None:
    attack = "def attack():\n    try:\n        kept = []\n        while True: kept.append(bytearray(1 << 24))\n    except MemoryError:\n        n = len(kept); del kept\n        return n\n"
    blocks = inside(attack, memory_bytes=512 << 20)
    assert isinstance(blocks, int)
    assert 0 < blocks < 32


def test_limits_cannot_be_raised_again() -> None:
    attack = "import resource\ndef attack():\n    out = []\n    for which in (resource.RLIMIT_AS, resource.RLIMIT_NPROC, resource.RLIMIT_CPU, resource.RLIMIT_FSIZE):\n        try: resource.setrlimit(which, (-1, -1)); out.append(which)\n        except (ValueError, OSError): pass\n    return out\n"
    assert inside(attack) == []


def program(code: str, *cases: tuple[str, str]) -> Verdict:
    return judge(code, tests=[{"input": given, "output": wanted, "testtype": "stdin"} for given, wanted in cases])


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("a, b = map(int, input().split())\nprint(a + b)", None), ("import sys\nprint(sum(map(int, sys.stdin.read().split())))", None), ("if __name__ == '__main__':\n    print(sum(map(int, input().split())))\n    exit(0)", None),
        ("print(float(sum(map(int, input().split()))))", None), ("print(3)", "failed"), ("1 / 0", "runtime_error"), ("while True: pass", "timeout"), ("while True: print('x' * 1000)", "timeout"), ("def f(:", "runtime_error"),
        ("import os, sys\nsum_ = sum(map(int, input().split()))\nsys.stdout.write(str(sum_))\nsys.stdout.flush()\nos._exit(0)", None), ("import os, signal\nos.kill(os.getppid(), signal.SIGKILL)", "crashed"),
    ],
)  # fmt: skip
def test_programs(code: str, kind: str | None) -> None:
    assert program(code, ("1 2\n", "3\n"), ("10 20\n", "30\n")).kind == kind


def test_functional_cases() -> None:
    data = {"fn_name": "add", "tests": [{"input": "1\n[2, 3]", "output": "[3, 4]", "testtype": "functional"}]}
    assert (
        judge("class Solution:\n    def add(self, a, b):\n        return tuple(a + x for x in b)", **data).status
        == "correct"
    )
    assert judge("def add(a, b):\n    return [a + x for x in b]", **data).status == "correct"
    assert judge("def add(a, b):\n    return b", **data).kind == "failed"
    assert judge("def other(a, b):\n    return b", **data).kind == "no_function"


def test_objects_of_the_sample_stay_in_the_sandbox() -> None:
    code = "class Node:\n    def __init__(self, v):\n        self.v = v; self.next = None\ndef total(node):\n    return 0 if node is None else node.v + total(node.next)\ndef sort_in_place(xs):\n    xs.sort()\n"
    data = {
        "test_setup_code": "head = Node(1)\nhead.next = Node(2)\nxs = [3, 1]\nsort_in_place(xs)",
        "test_list": ["assert total(head) == 3", "assert head.next.v == 2", "assert xs == [1, 3]"],
    }
    assert judge(code, **data).kind is None


@pytest.mark.parametrize("name", ["humaneval", "mbpp"])
def test_reference_solutions_pass_and_stubs_fail(name: str) -> None:
    path = DATA / f"{name}.jsonl"
    if not path.is_file():
        pytest.skip(f"no data file {path.name}")
    items = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines()):
        row = json.loads(line)
        if number % (8 if name == "humaneval" else 40):
            continue
        fields = ("prompt", "test", "entry_point") if name == "humaneval" else ("test_list", "test_setup_code")
        problem = Problem(id=str(number), question="", answer="", data={field: row[field] for field in fields})
        items.append(((number, True), row["canonical_solution"] if name == "humaneval" else row["code"], problem))
        if name == "humaneval":
            items.append(((number, False), row["prompt"] + "    return None\n", problem))
    with VerifierPool[tuple[int, bool]](open_verifier("code"), workers=2) as pool:
        for (number, right), verdict in pool.verify(items):
            assert (verdict.status, number) == ("correct" if right else "wrong", number)


def test_without_a_sandbox_nothing_runs_unless_the_user_insists(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    sandbox_problem.cache_clear()
    sandbox_module._warn_unsafe.cache_clear()  # it warns once a process, and another test may have come first
    monkeypatch.setattr(shutil, "which", lambda name: None)
    try:
        with pytest.raises(VerifierError, match="apt-get install bubblewrap"):
            judge(GOOD, **SQUARE)
        verifier = open_verifier("code", allow_unsafe=True, test_s=1.0, sample_s=5.0)
        problem = Problem(id="p", question="", answer="", data=dict(SQUARE))
        assert verifier.verify(GOOD, problem).status == "correct"
        assert "UNSAFE" in caplog.text
    finally:
        sandbox_problem.cache_clear()


@pytest.mark.parametrize(
    ("response", "code"),
    [
        ("```python\na = 1\n```", "a = 1"), ("```python\na\n```\nbetter:\n```python\nb\n```\ndone", "b"), ("```py\na\n```\n```\noutput\n```", "a"), ("```\nb\n```", "b"), ("```bash\nls\n```", None), ("no fence at all", "no fence at all"),
        ("```python\ncut off", "cut off"), ("<think>```python\na\n```</think>```python\nb\n```", "b"), ("    return 1", "    return 1"), ("", None), ("text\n  ```python\n  x\n  ```", "x"),
    ],
)  # fmt: skip
def test_code_extraction(response: str, code: str | None) -> None:
    assert open_policy("code")(response).answer == code


@pytest.mark.parametrize(
    "rest",
    [
        "",
        "\n\n\ndef other(x):\n    return (",
        "\n\nif __name__ == '__main__':\n    assert add(1, 1) == 3\n",
        "\n\nprint(add(1,",
        "\n# Another task: write a function",
    ],
)
def test_what_a_base_model_writes_after_the_function_does_not_count(rest: str) -> None:
    problem = Problem(
        id="p",
        question="?",
        answer="?",
        data={
            "prompt": 'def add(a, b):\n    """Add."""\n',
            "entry_point": "add",
            "test": "def check(candidate):\n    assert candidate(1, 2) == 3\n",
        },
    )
    verifier = open_verifier("code")
    answer = verifier.extract("    return a + b" + rest).answer
    assert answer is not None
    with VerifierPool[int](verifier) as pool:
        assert dict(pool.verify([(1, answer, problem)]))[1].status == "correct"


def test_programs_that_differ_in_layout_only_are_run_once() -> None:
    key = open_verifier("code").key
    plain = "def f(x):\n    return x + 1"
    for same in ("def f(x):  # adds\n    return x+1\n", "def f( x ):\n\n\n    return (x + 1)", plain + "\n\n# done"):
        assert key(same) == key(plain)
    for other in (
        "def f(x):\n    return x + 2",
        "def f(x):\n    return '# x'",
        "def f(x):\n    return x +",
        "",
        "    return x + 1",
    ):
        assert key(other) != key(plain)
    assert key('x = """\n# a\n"""') != key('x = """\n"""')


@pytest.mark.parametrize(
    "code",
    [
        "(" * 10_000,
        "-" * 15_000 + "1",
        "+".join(["a"] * 9_000),
        "x" * 10**6,
        "\ud800",
        "a\0b",
        "not " * 4_000 + "1",
        "1" * 5_000,
    ],
)
def test_hostile_programs_have_a_key_too(code: str) -> None:
    assert len(open_verifier("code").key(code)) == 64
