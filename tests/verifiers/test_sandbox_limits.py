"""No program takes more than its limits: memory, scratch space, processes and time of all its processes together."""

from __future__ import annotations

import os
import platform
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from rlvr_bench.verifiers.memory_cgroup import MemoryCgroup
from rlvr_bench.verifiers.process_limits import GroupWatch
from rlvr_bench.verifiers.sandbox import SampleFailure, Sandbox, SandboxLimits, sandbox_problem
from tests.verifiers.attacks import GREEDY, REFUSED

MB = 1 << 20
LIMITS = SandboxLimits(cpu_s=1.0, memory_bytes=256 * MB, scratch_bytes=16 * MB, processes=12)
SLACK = 64 * MB
AT_ONCE = 4
# 4 s of CPU time and 3 s of idleness at most, and the start: on a machine that is not busy with other things.
IN_TIME_S = 12.0
WALL_S = 120.0  # what would end an attack that no limit ends


@pytest.fixture(autouse=True, scope="module")
def _sandbox() -> None:
    problem = sandbox_problem()
    if problem and os.environ.get("CI"):
        pytest.fail(f"CI needs a working bubblewrap: {problem}")
    if problem:
        pytest.skip(problem)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the attacks name system calls by x86_64's numbers")
@pytest.mark.parametrize("name", REFUSED)
def test_what_no_limit_counts_is_refused(name: str) -> None:
    with Sandbox(LIMITS) as sandbox:
        sandbox.request({"op": "load", "code": REFUSED[name]}, 20)
        assert sandbox.call("attack", [], 20) is True


def test_a_program_can_start_others_and_wait_without_a_timer() -> None:
    code = (
        "import asyncio, subprocess\ndef attack():\n    async def main(): await asyncio.sleep(0.01); return 5\n"
        "    out = subprocess.run(['echo', 'a'], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout\n"
        "    return [out, asyncio.run(main())]\n"
    )
    with Sandbox(LIMITS) as sandbox:
        sandbox.request({"op": "load", "code": code}, 20)
        assert sandbox.call("attack", [], 20) == [b"a\n", 5]


def test_what_is_readable_may_be_installed_below_the_scratch_folder() -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        Path(folder, "installed.txt").write_text("here")
        code = (
            f"def read(): return open({folder!r} + '/installed.txt').read()\n"
            f"def write(): open({folder!r} + '/installed.txt', 'w')\n"
            "def scratch(): open('/tmp/mine', 'w').write('x'); return sorted(__import__('os').listdir('/tmp'))\n"
        )
        with Sandbox(LIMITS, readable=[folder]) as sandbox:
            sandbox.request({"op": "load", "code": code}, 20)
            assert sandbox.call("read", [], 20) == "here"
            assert Path(folder).name in sandbox.call("scratch", [], 20)
            with pytest.raises(SampleFailure):
                sandbox.call("write", [], 20)


class Meter(threading.Thread):
    """The most anonymous memory that the descendants of each child of this process had, read apart from what is tested."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.most: dict[int, int] = {}
        self.most_shared, self._shared_before = 0, shared_memory()
        self.stop = threading.Event()

    def run(self) -> None:
        while not self.stop.wait(0.005):
            for root, used in anonymous_by_root().items():
                self.most[root] = max(self.most.get(root, 0), used)
            self.most_shared = max(self.most_shared, shared_memory() - self._shared_before)


def shared_memory() -> int:
    line = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("Shmem:"))
    return int(line.split()[1]) << 10


def anonymous_by_root() -> dict[int, int]:
    parents, used = {}, {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                fields = Path(entry.path, "stat").read_text().rpartition(")")[2].split()
                size = Path(entry.path, "statm").read_text().split()
            except OSError:
                continue
            parents[int(entry.name)] = int(fields[1])
            used[int(entry.name)] = (int(size[1]) - int(size[2])) * os.sysconf("SC_PAGE_SIZE")
    sums: dict[int, int] = {}
    for pid, size_bytes in used.items():
        root = pid
        while parents.get(root, os.getpid()) != os.getpid():
            root = parents[root]
        if parents.get(root) == os.getpid():
            sums[root] = sums.get(root, 0) + size_bytes
    return sums


@pytest.fixture(scope="module")
def outcomes() -> tuple[dict[str, tuple[float, int]], Meter]:
    """Seconds and root process of each attack, and what was measured meanwhile: with the watch alone, as for most users."""
    meter = Meter()
    meter.start()

    def run(name: str) -> tuple[str, tuple[float, int]]:
        started = time.monotonic()
        with Sandbox(LIMITS) as sandbox:
            assert sandbox._process is not None
            root = sandbox._process.pid
            try:
                sandbox.request({"op": "load", "code": GREEDY[name]}, WALL_S)
                sandbox.call("attack", [], WALL_S)
                time.sleep(0.5)  # what it left behind has time to grow
            except SampleFailure:
                pass
        return name, (time.monotonic() - started, root)

    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(AT_ONCE) as pool:
        patch.setattr(MemoryCgroup, "open", lambda memory_bytes: None)
        outcomes = dict(pool.map(run, GREEDY))
    meter.stop.set()
    meter.join()
    return outcomes, meter


@pytest.mark.parametrize("name", GREEDY)
def test_an_attack_ends_in_time_and_within_the_memory_limit(
    name: str, outcomes: tuple[dict[str, tuple[float, int]], Meter]
) -> None:
    seconds, root = outcomes[0][name]
    busy = max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
    assert seconds < min(IN_TIME_S * busy, WALL_S)
    # Where many processes share the memory, a watch ends them, which comes later on a busy machine.
    assert outcomes[1].most.get(root, 0) <= LIMITS.memory_bytes + SLACK * busy


def test_shared_memory_of_all_attacks_stays_within_the_scratch_folders(
    outcomes: tuple[dict[str, tuple[float, int]], Meter],
) -> None:
    assert outcomes[1].most_shared <= AT_ONCE * LIMITS.scratch_bytes + SLACK


@pytest.mark.parametrize("name", ["memory of many processes", "memory of daemons"])
def test_a_cgroup_holds_without_the_watch(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    group = MemoryCgroup.open(LIMITS.memory_bytes)
    if group is None:
        pytest.skip("no memory cgroup can be made here")
    group.close()
    monkeypatch.setattr(GroupWatch, "start", lambda self: None)
    monkeypatch.setattr(GroupWatch, "close", lambda self: None)
    with Sandbox(LIMITS) as sandbox:
        assert sandbox._process is not None
        assert sandbox._cgroup is not None
        sandbox.request({"op": "load", "code": GREEDY[name]}, WALL_S)
        with pytest.raises(SampleFailure):
            sandbox.call("attack", [], 6.0)
        assert sandbox._exceeded() == "memory"
        assert anonymous_by_root().get(sandbox._process.pid, 0) <= LIMITS.memory_bytes


def test_no_process_outlives_its_sandbox(outcomes: tuple[dict[str, tuple[float, int]], Meter]) -> None:
    roots = {root for _, root in outcomes[0].values()}
    until = time.monotonic() + 10
    while roots & anonymous_by_root().keys() and time.monotonic() < until:
        time.sleep(0.05)
    assert not roots & anonymous_by_root().keys()
