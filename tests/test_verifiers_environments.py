"""``verifiers:NAME``: environments of the package verifiers, with the package itself and an environment in one file."""

from __future__ import annotations

import asyncio
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rlvr_bench import FakeSampler, GradeOptions, SampleOptions, pipeline
from rlvr_bench.cli import main
from rlvr_bench.errors import DataError, RlvrBenchError, RunError, TaskError
from rlvr_bench.prompts import open_prompt
from rlvr_bench.task import LoadedTask, load_task, read_task, validate
from rlvr_bench.verifiers.environments import module_of
from rlvr_bench.verifiers.sandbox import sandbox_problem

SUMS = """
import asyncio, os, socket, threading
import verifiers.v1 as vf

__all__ = ["SumTaskset"]

class SumData(vf.TaskData):
    answer: int

class SumTask(vf.Task[SumData]):
    @vf.reward(weight=0.8)
    async def correct(self, task, trace) -> float:
        last = trace.last_reply.split()[-1]
        if last == "sleep":
            await asyncio.sleep(1e6)
        while last == "spin":
            pass
        if last == "socket":
            socket.create_connection(("127.0.0.1", 9))
        if last == "exit":
            os._exit(0)
        if last == "raise":
            raise KeyError("no sum here")
        if last == "remember":
            SumTask.seen = getattr(SumTask, "seen", 0) + 1
            return float(SumTask.seen > 1)
        return float(last == str(task.answer))

    @vf.reward(weight=0.2)
    async def polite(self, trace) -> float:
        asked = [message.content for message in trace.messages if message.role == "user"]
        assert asked == [trace.task.data.prompt] and trace.num_turns == 1 and not trace.is_truncated
        return float("please" in await asyncio.to_thread(trace.last_reply.lower))

class SumConfig(vf.TasksetConfig):
    largest: int = 3

class SumTaskset(vf.Taskset[SumTask, SumConfig]):
    def load(self):
        for a in range(self.config.largest):
            yield SumTask(SumData(prompt=f"{a} + 2 = ?", system_prompt="Add.", answer=a + 2), self.config.task)
"""

# What makes an environment more than one response and rewards that compute, as lines in the class of its task.
REFUSED = {
    "tools": ("@classmethod\ndef toolsets(cls, config):\n    return [object()]", "has tools"),
    "machine": ("async def setup(self, trace, runtime):\n    pass", "prepares a machine"),
    "container": ("NEEDS_CONTAINER = True", "needs a container"),
    "intercepts": (
        "@vf.intercept\nasync def change(self, request: vf.Request):\n    pass",
        "rewrites what the model reads",
    ),
    "runtime": (
        "@vf.reward\nasync def runs(self, trace, runtime) -> float:\n    return 1.0",
        "reward 'runs' runs programs",
    ),
}
JUDGE = """
class JudgedConfig(vf.TaskConfig):
    judge: vf.JudgeConfig = vf.JudgeConfig()
"""


def environment(lines: str = "pass", prompt: str = "'1?'", before: str = "", config: str = "vf.TaskConfig") -> str:
    return f"""
import verifiers.v1 as vf
__all__ = ["Odd"]
{before}
class OddTask(vf.Task[vf.TaskData, vf.State, {config}]):
    @vf.reward
    async def right(self, trace) -> float:
        return 1.0
{textwrap.indent(lines, "    ")}
class Odd(vf.Taskset[OddTask, vf.TasksetConfig]):
    def load(self):
        yield OddTask(vf.TaskData(prompt={prompt}))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder of environments that can be imported, in this process and in the workers'."""
    pytest.importorskip("verifiers.v1", reason="the package verifiers is not installed")
    if without := sandbox_problem():
        pytest.skip(without)
    folder = tmp_path_factory.mktemp("environments")
    folder.chmod(0o755)  # the sandbox reads it as another user
    (folder / "plain_sums.py").write_text(SUMS)
    with pytest.MonkeyPatch.context() as patched:
        patched.syspath_prepend(str(folder))
        yield folder


@pytest.fixture(scope="module")
def sums(folder: Path) -> LoadedTask:
    return load_task("verifiers:plain-sums,size=2,reward=correct")


def test_the_environment_s_tasks_are_the_problems(sums: LoadedTask) -> None:
    assert [(problem.id, problem.question, problem.answer) for problem in sums.problems] == [
        ("plain_sums-0", "0 + 2 = ?", "2"),
        ("plain_sums-1", "1 + 2 = ?", "3"),
    ]
    assert "verifiers 0." in sums.task.source.describe()
    prompt = sums.template.render(sums.problems[0])
    assert prompt.text == "Add.\n\n0 + 2 = ?"
    assert [message["role"] for message in prompt.messages] == ["system", "user"]
    other = sums.template.with_system("Think.").render(sums.problems[0])
    assert [message["content"] for message in other.messages] == ["Think.", "0 + 2 = ?"]
    assert validate(sums) == []


def score(sums: LoadedTask, response: str, problem: int = 0) -> tuple[str, str | None]:
    verdict = sums.open_verifier().verify(response, sums.problems[problem])
    return verdict.status, verdict.kind


def test_the_chosen_reward_decides(sums: LoadedTask) -> None:
    assert score(sums, "It is 2") == ("correct", None)
    assert score(sums, "It is 2", problem=1) == ("wrong", None)
    assert score(sums, "please 7") == ("wrong", None)


@pytest.mark.parametrize(("response", "message"), [("raise", "KeyError: 'no sum here'"), ("socket", "PermissionError")])
def test_a_reward_that_fails_is_an_error_that_says_why(sums: LoadedTask, response: str, message: str) -> None:
    verdict = sums.open_verifier().verify(response, sums.problems[0])
    assert (verdict.status, verdict.kind) == ("error", "exception")
    assert message in (verdict.message or "")


def test_a_reward_that_waits_for_ever_is_a_timeout(sums: LoadedTask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rlvr_bench.verifiers.environments._CPU_S", 0.2)
    assert score(sums, "sleep") == ("error", "timeout")


def test_no_response_leaves_anything_for_the_next(sums: LoadedTask) -> None:
    assert [score(sums, "remember") for _ in range(2)] == [("wrong", None)] * 2


def test_a_run_is_drawn_graded_and_scored_and_a_hang_costs_its_own_response(sums: LoadedTask, tmp_path: Path) -> None:
    hangs = iter(["spin", "exit", *["please 0"] * 100])
    sampler = FakeSampler({"plain_sums-0": 1.0, "plain_sums-1": 0.0}, {"plain_sums-0": "2"}, lambda rng: next(hangs))
    grading = GradeOptions(workers=1, timeout_s=0.5)
    run, scorecard = pipeline.evaluate(sampler, sums.task.name, SampleOptions(n=4, out=tmp_path), grading)
    assert [(problem.n, problem.c) for problem in scorecard.problems] == [(4, 4), (4, 0)]
    graded = pipeline.grade(run, grading)[0]
    assert {(failure.kind, failure.verdicts) for failure in graded.errors} == {("timeout", 1), ("crash", 1)}


def test_a_run_folder_makes_nothing_be_imported_in_this_process(
    sums: LoadedTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sampler = FakeSampler({"plain_sums-0": 1.0}, {"plain_sums-0": "2"})
    run = pipeline.sample(sampler, sums.task.name, SampleOptions(n=2, limit=1, out=tmp_path))
    for module in ("plain_sums", "verifiers.v1"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(RunError, match="without a sandbox"):
        pipeline.grade(run, GradeOptions(workers=1, allow_unsafe_code=True))
    assert pipeline.grade(run, GradeOptions(workers=1))[0].statuses["correct"] == 2


def test_the_weighted_sum_and_the_threshold(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rlvr_bench.verifiers.sandbox.sandbox_problem", lambda: "not now")  # one start fewer
    summed, lower = (load_task(f"verifiers:plain_sums{more}") for more in ("", ",threshold=0.2"))
    monkeypatch.undo()
    assert [score(summed, text) for text in ("2", "please 2", "please 7")] == [
        ("wrong", "partial"),
        ("correct", None),
        ("wrong", "partial"),
    ]
    assert summed.digest == lower.digest
    assert lower.task.options["threshold"] == 0.2
    assert len(summed.problems) == 3


@pytest.mark.parametrize("name", REFUSED)
def test_an_environment_that_is_no_single_response_says_how_to_import_it(folder: Path, name: str) -> None:
    lines, message = REFUSED[name]
    (folder / f"odd_{name}.py").write_text(environment(lines))
    with pytest.raises(TaskError, match=f"{message}.*rlvr-bench import FILES --format verifiers-traces"):
        load_task(f"verifiers:odd-{name}")


OTHER = {
    "opens": (environment(prompt="None"), {}, "has no question of the user"),
    "judged": (environment(before=JUDGE, config="JudgedConfig"), {}, "ask a judge model"),
    "pictures": (
        environment(prompt="[vf.UserMessage(content=[vf.TextContentPart(text='a')])]"),
        {},
        "images or parts",
    ),
    "played": (
        environment(before="class Two(vf.SingleAgentEnv):\n    pass\n").replace('["Odd"]', '["Odd", "Two"]'),
        {},
        "played by its own program Two",
    ),
    "endless": (environment().replace("vf.TasksetConfig]):", "vf.TasksetConfig]):\n    INFINITE = True"), {}, "size=100"),
    "broken": ("raise RuntimeError('no key')", {}, "does not load: RuntimeError: no key"),
    "setting": (environment(), {"largest": "7"}, "does not load: largest: Extra inputs"),
    "reward": (environment("@vf.reward\nasync def b(self):\n    pass"), {"reward": "a"}, "It has: b, right"),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHER)
def test_what_cannot_be_drawn_is_one_line(folder: Path, name: str) -> None:
    source, settings, message = OTHER[name]
    (folder / f"other_{name}.py").write_text(source)
    with pytest.raises((TaskError, DataError), match=message) as error:
        load_task(",".join([f"verifiers:other_{name}", *(f"{key}={value}" for key, value in settings.items())]))
    assert "\n" not in str(error.value)


def test_a_reward_that_needs_the_network_is_found_before_anything_is_drawn(folder: Path) -> None:
    lines = (
        "@vf.reward\nasync def asks(self) -> float:\n    import socket\n    socket.create_connection(('127.0.0.1', 9))"
    )
    (folder / "needy.py").write_text(environment(lines))
    with pytest.raises(TaskError, match="needs the network, a program.*PermissionError"):
        load_task("verifiers:needy")


def test_our_reward_is_plugged_into_a_task() -> None:
    vf = pytest.importorskip("verifiers.v1", reason="the package verifiers is not installed")

    class Data(vf.TaskData):  # type: ignore[misc,name-defined]
        answer: str

    config = vf.TaskConfig(rewards={"math": {"fn": "rlvr_bench.training.rewards:environment_reward"}})
    data = Data(prompt="?", answer="1/2")
    for response, reward in (("\\boxed{0.5}", 1.0), ("\\boxed{2}", 0.0)):
        nodes = [vf.MessageNode(message=vf.AssistantMessage(content=response), sampled=True)]
        record, agent = vf.TraceTask(type="Task", data=data), vf.AgentInfo(config=vf.AgentConfig())
        trace = vf.Trace(task=record, agent=agent, nodes=nodes)
        asyncio.run(vf.Task(data, config).score(trace))
        assert trace.reward == reward


# ------------------------------------------------------------------------------------------------ without the package
@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ("", "one environment at a time"),
        ("a,b", "one environment at a time"),
        ("a,size=0", "size=0 is not a positive number"),
        ("a,threshold=high", "threshold='high' is not a number"),
        ("a.b", "'a.b' is not the name of an environment"),
        ("../a", "is not the name of an environment"),
    ],
)
def test_bad_parameters_are_one_line(parameters: str, message: str) -> None:
    with pytest.raises(TaskError, match=message):
        read_task(f"verifiers:{parameters}")


def test_names_of_the_hub_are_modules() -> None:
    assert [module_of(name) for name in ("gsm8k", "owner/Reverse-Text", "wordle@0.1.3")] == [
        "gsm8k",
        "reverse_text",
        "wordle",
    ]


def test_without_a_name_or_the_package_the_message_says_what_is_needed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["tasks", "show", "verifiers"])
    assert "--task verifiers:NAME" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "verifiers", None)
    with pytest.raises(RlvrBenchError, match=r"pip install 'verifiers>=0.4'"):
        load_task("verifiers:gsm8k")


def test_an_environment_that_is_not_installed_is_named(folder: Path) -> None:
    with pytest.raises(DataError, match="no package 'never_seen' is installed here"):
        load_task("verifiers:never-seen")


def test_a_conversation_of_a_hostile_run_is_read_as_text() -> None:
    from rlvr_bench.records import Problem

    values: list[Any] = ["x", 3, [1, {"role": 5}], {"role": "user"}, [{"role": "user", "content": ["a"], "tool": 1}]]
    for value in values:
        prompt = open_prompt("conversation").render(
            Problem(id="p", question="q?", answer="a", data={"messages": value})
        )
        assert prompt.text.endswith("q?")
        assert {*map(type, prompt.messages[0].values())} == {str}
        assert all(message.keys() == {"role", "content"} for message in prompt.messages)
