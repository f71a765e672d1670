"""verifiers: single-turn environments of the package of that name (version 0.4 or later), installed beside rlvr-bench.

``verifiers:gsm8k,size=100,threshold=1.0,reward=correct_answer`` names the environment, how many of its tasks are taken
(default: all), the reward from which a response counts as right, and which of its rewards that is (default: the weighted
sum). Any other ``KEY=VALUE`` is a setting of the environment. The environment brings its own prompt, so no answer is
extracted: its rewards read the whole response. They run in the sandbox: a reward that needs a judge, the network or a
program is refused. Environments with tools, several turns or several agents cannot be drawn here; import their rollouts. The
versions of verifiers and of the environment are part of the source and of the verifier, and every run keeps its problems.
"""

from __future__ import annotations

import importlib.util
import inspect
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlvr_bench.errors import DataError, TaskError, VerifierError, in_one_line
from rlvr_bench.records import Problem
from rlvr_bench.task import Task, join_parameters, split_parameters

# A list of tasks reads this file, and must not load the verifiers.
if TYPE_CHECKING:
    from rlvr_bench.verifiers.environments import VerifiersVerifier

OURS = ("size", "threshold", "reward")
JUDGED = "what the environment rewards"
IMPORT = "Import its rollouts: rlvr-bench import FILES --format verifiers-traces"


@dataclass(frozen=True, kw_only=True)
class Environment:
    """The tasks of one environment; None of ``verifier``: no environment is named. ``size`` None: all of them."""

    verifier: VerifiersVerifier | None
    settings: Mapping[str, Any]
    size: int | None = None
    rows: int | None = None
    sha256: str | None = None

    def describe(self) -> str:
        if self.verifier is None:
            return "NAME"
        return f"{self.verifier.release}, {join_parameters([], self.settings) or 'its defaults'}"

    def load(self, name: str, data_dir: Path | None) -> list[Problem]:
        """The environment's tasks as problems. Raises DataError or TaskError where they cannot be drawn or scored here."""
        from rlvr_bench.verifiers.environments import check_installed, module_of

        if self.verifier is None:
            raise TaskError("task 'verifiers' needs the name of an installed environment: --task verifiers:NAME")
        try:
            check_installed()
        except VerifierError as error:
            raise DataError(f"task {name!r}: {error}") from error
        module, tasks = module_of(self.verifier.environment), self._tasks(name, self.verifier.environment)
        if not tasks:
            raise DataError(f"task {name!r}: the environment has no tasks")
        _check_scoring(name, tasks[0], self.verifier.reward)
        problems = [_problem(name, f"{module}-{number}", task) for number, task in enumerate(tasks)]
        _check_sandbox(name, self.verifier, problems[0])
        return problems

    def _tasks(self, name: str, environment: str) -> list[Any]:
        """The environment's own tasks. Its code runs in this process, as it does in any program that trains on it."""
        import verifiers.v1 as vf

        from rlvr_bench.verifiers.environments import module_of

        module = module_of(environment)
        if not any(map(_exists, (f"verifiers.v1.tasksets.{module}", module))):
            raise DataError(f"task {name!r}: no package {module!r} is installed here, which this environment needs")
        try:
            config = vf.taskset_config_type(environment).model_validate({**self.settings, "id": environment})
            taskset = vf.load_taskset(config)
            _check_turns(name, environment, taskset)
            if not taskset.bounded and self.size is None:
                raise TaskError(f"task {name!r}: its tasks never end; say how many: size=100")
            return [*(taskset if self.size is None else taskset.take(self.size))]
        except TaskError:
            raise
        except Exception as error:
            raise TaskError(f"task {name!r}: the environment does not load: {_reason(error)}") from error


def make_task(parameters: str) -> Task:
    """The task of one environment: ``NAME[,size=][,threshold=][,reward=][,SETTING=...]``. Raises TaskError."""
    from rlvr_bench.verifiers.environments import VerifiersVerifier, release_of

    words, values = split_parameters(parameters)
    if len(words) != 1:
        raise TaskError(f"task verifiers: one environment at a time, as in verifiers:gsm8k; not {parameters!r}")
    size, threshold, reward = values.get("size"), values.get("threshold", 1.0), str(values.get("reward", ""))
    if size is not None and (type(size) is not int or size < 1):
        raise TaskError(f"task verifiers: size={size!r} is not a positive number")
    if type(threshold) not in (int, float):
        raise TaskError(f"task verifiers: threshold={threshold!r} is not a number")
    changed = {key: value for key, value in values.items() if (key, value) != ("threshold", 1.0)}
    settings = {key: value for key, value in values.items() if key not in OURS}
    options: dict[str, Any] = {
        "environment": words[0],
        "settings": json.dumps(settings, sort_keys=True),
        "reward": reward,
        "threshold": float(threshold),
    }
    try:
        options["release"] = release_of(words[0])
        verifier = VerifiersVerifier(**options)
    except VerifierError as error:
        raise TaskError(f"task verifiers: {error}") from error
    judged = f"its reward {reward!r}" if reward else "the sum of its rewards"
    return Task(
        name=f"verifiers:{join_parameters(words, changed)}",
        version="1",
        summary=f"The environment {words[0]} of verifiers; right where {judged} is at least {threshold:g}.",
        source=Environment(verifier=verifier, settings=settings, size=size),
        prompt="conversation",
        verifier="verifiers",
        options=options,
        gold=None,
    )


def _check_sandbox(name: str, verifier: VerifiersVerifier, problem: Problem) -> None:
    """Score a response once, so that a reward that cannot run in the sandbox is found before anything is drawn."""
    from rlvr_bench.verifiers.environments import score_response
    from rlvr_bench.verifiers.sandbox import sandbox_problem

    if sandbox_problem():
        return
    scored = score_response(verifier, "I cannot solve this one.", problem)
    if scored.missing:
        raise TaskError(
            f"task {name!r}: its reward needs the network, a program, a thread or a file to write, which it cannot have "
            f"in the sandbox ({scored.message}). {IMPORT}"
        )


def _check_turns(name: str, environment: str, taskset: Any) -> None:
    """Raises TaskError where a rollout is more than one response to a prompt."""
    import verifiers.v1 as vf

    kind = type(taskset).task_type()
    player = vf.environment_class(environment)
    reasons = {
        f"is played by its own program {player.__name__}": player is not vf.SingleAgentEnv,
        "brings a harness of its own": vf.default_harness_id(environment) == environment,
        "has tools": bool(type(taskset).toolsets(taskset.config) or kind.toolsets(taskset.config.task)),
        "needs a container": kind.NEEDS_CONTAINER,
        "prepares a machine for each rollout": (kind.setup, kind.finalize) != (vf.Task.setup, vf.Task.finalize),
        "rewrites what the model reads or says": any(
            hasattr(value, "intercept") for _, value in inspect.getmembers(kind)
        ),
    }
    for reason, holds in reasons.items():
        if holds:
            raise TaskError(f"task {name!r}: the environment {reason}, so a rollout is no single response. {IMPORT}")


def _check_scoring(name: str, task: Any, reward: str) -> None:
    """Raises TaskError where the rewards need more than a response, or where the one that is asked for is not there."""
    import verifiers.v1 as vf

    fields = [getattr(task.config, field) for field in type(task.config).model_fields]
    if task.config.judges or any(isinstance(value, vf.JudgeConfig) for value in fields):
        raise TaskError(f"task {name!r}: its rewards ask a judge model, which needs the network. {IMPORT}")
    rewards = {function.__name__: inspect.signature(function).parameters for function in task.hooks("reward")}
    for function, parameters in rewards.items():
        if "runtime" in parameters and parameters["runtime"].default is inspect.Parameter.empty:
            raise TaskError(f"task {name!r}: its reward {function!r} runs programs in a runtime. {IMPORT}")
    if not rewards:
        raise TaskError(f"task {name!r}: the environment has no rewards")
    if reward and len(rewards) > 1 and reward not in rewards:
        raise TaskError(
            f"task {name!r}: the environment has no reward {reward!r}. It has: {', '.join(sorted(rewards))}"
        )


def _problem(name: str, identity: str, task: Any) -> Problem:
    data = task.data
    entry = _kept(name, identity, type(task).data_type(), data)
    messages = [{"role": "user", "content": data.prompt}] if isinstance(data.prompt, str) else _plain(name, data.prompt)
    if data.system_prompt is not None:
        messages = [{"role": "system", "content": data.system_prompt}, *messages]
    if not messages or messages[-1]["role"] != "user":
        raise TaskError(
            f"task {name!r}: {identity} has no question of the user to answer, so it has several turns. {IMPORT}"
        )
    answer = getattr(data, "answer", None)
    return Problem(
        id=identity,
        question=messages.pop()["content"],
        answer=str(answer) if isinstance(answer, str | int | float) and str(answer).strip() else JUDGED,
        data={"task": entry, "messages": messages},
    )


def _kept(name: str, identity: str, kind: Any, data: Any) -> dict[str, Any]:
    """What a run keeps of a task: the fields that differ from their defaults. Raises DataError where JSON changes them."""
    fields = type(data).model_fields.items()
    usual = {key for key, field in fields if getattr(data, key) == field.get_default(call_default_factory=True)}
    try:
        entry: dict[str, Any] = json.loads(json.dumps(data.model_dump(mode="json", exclude=usual)))
        same = kind.model_validate(entry) == data
    except ValueError as error:
        raise DataError(f"task {name!r}: {identity} cannot be kept with a run: {_reason(error)}") from error
    if not same:
        raise DataError(f"task {name!r}: {identity} cannot be kept with a run: it is not the same after JSON")
    return entry


def _plain(name: str, prompt: Any) -> list[dict[str, str]]:
    messages = [{"role": message.role, "content": message.content} for message in prompt or ()]
    if not all(isinstance(message["content"], str) for message in messages):
        raise TaskError(f"task {name!r}: its prompts have images or parts; only text can be drawn here")
    return messages


def _exists(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _reason(error: Exception) -> str:
    """An error in one line; of a refused setting, which one and why."""
    listed = getattr(error, "errors", None)
    if callable(listed) and (first := next(iter(listed()), None)):
        return in_one_line(f"{'.'.join(map(str, first.get('loc', ())))}: {first.get('msg')}")
    return in_one_line(f"{type(error).__name__}: {error}")


TASK = Task(
    name="verifiers",
    version="1",
    summary="Single-turn environments of verifiers, installed here: verifiers:NAME,size=100,threshold=1,KEY=VALUE.",
    source=Environment(verifier=None, settings={}),
    prompt="conversation",
    verifier="verifiers",
    gold=None,
)
