"""Rewards for training programs: one verifier that stays open, in the form in which each program calls it.

`Reward` has a method for each form; the functions of this module are the same with the default settings, for programs that
import a reward by its name. A reward is 1.0 for a correct response and 0.0 for a wrong one or one without an answer. Where
the verifier fails, it is ``error_value``, and one line in the log says so. Shaping is left to the trainer.

Forms: TRL 1.16 (``reward_funcs``), verl 0.9 (``custom_reward_function``, per sample and in batches), OpenRLHF
(``reward_func``), slime (``--custom-rm-path``), verifiers and prime-rl (functions of a ``Rubric``).
"""

from __future__ import annotations

import asyncio
import functools
import logging
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Any, Self

from rlvr_bench.datasets import HubDataset
from rlvr_bench.errors import BadArgument, RlvrBenchError, in_one_line
from rlvr_bench.importers.messages import plain
from rlvr_bench.records import Verdict
from rlvr_bench.task import list_tasks, read_task, task_verifier
from rlvr_bench.training.puzzle_data import PuzzleVerifier, as_gold
from rlvr_bench.verifiers import Verification, Verifier

__all__ = [
    "GOLD_COLUMNS",
    "Reward",
    "compute_score",
    "compute_score_batched",
    "environment_reward",
    "math_reward",
    "reward_func",
    "slime_reward",
    "task_reward",
    "verifiers_reward",
]

GOLD_COLUMNS = ("answer", "ground_truth", "solution", "gold", "label")
"""Columns that may hold the gold answers; the first one that a data set has is used."""

# What verl adds to the arguments of a reward function, in some of its configurations.
_OF_VERL = frozenset(
    (
        "concurrent_semaphore",
        "memory_limit_mb",
        "reward_model_tokenizer",
        "reward_router_address",
        "sandbox_fusion_url",
    )
)

logger = logging.getLogger(__name__)


class Reward:
    """A reward function for every training program; TRL calls the object itself.

    ``verifier`` is the name of a verifier with its ``options``, or a verifier; ``extract`` the policy that takes the answer
    from a response (None: the verifier's). With ``task``, the name or file of a task, both are those of the task. A task
    that is judged by numbers of each puzzle takes these as the gold answer: an object with ``numbers`` and ``targets``,
    or its JSON. ``column`` is the column of gold answers in TRL (None: the first of ``GOLD_COLUMNS``). Where the verifier
    fails, the reward is ``error_value``: NaN makes TRL leave it out, other programs need a number. The other arguments are
    those of `Verification`: each distinct answer is decided once, a hang costs its item ``timeout_s`` CPU seconds.

    Threads may share one object. It can be pickled, and forked processes start workers of their own.
    Raises BadArgument, UnknownName, TaskError or VerifierError for arguments that no reward can be made of.
    """

    def __init__(
        self,
        verifier: str | Verifier = "math",
        *,
        task: str | None = None,
        extract: str | None = None,
        column: str | None = None,
        error_value: float = 0.0,
        workers: int = 1,
        timeout_s: float = 5.0,
        **options: Any,
    ) -> None:
        if isinstance(error_value, bool) or not isinstance(error_value, int | float):
            raise BadArgument("error_value", error_value, "must be a number")
        if task is not None and (verifier != "math" or options):
            raise BadArgument("task", task, "a task brings its verifier and its options: name one or the other")
        judge = verifier if task is None else _verifier_of(task)
        self._verification = Verification(judge, extract=extract, workers=workers, timeout_s=timeout_s, **options)
        self._column, self._error_value = column, float(error_value)
        self._again = functools.partial(
            type(self),
            verifier,
            task=task,
            extract=extract,
            column=column,
            error_value=error_value,
            workers=workers,
            timeout_s=timeout_s,
            **options,
        )
        self.__name__ = "math_reward" if verifier == "math" and task is None else f"{task or _name(verifier)}_reward"
        self.counts: Counter[str] = Counter()
        """Number of verdicts by status since the start."""

    def verdicts(self, responses: Sequence[object], golds: Sequence[object]) -> list[Verdict]:
        """The verdicts on responses (texts or messages), given their gold answers; both (R,).

        Never raises because of what they hold: what cannot be judged is an ``error``. Raises BadArgument where the numbers
        of responses and gold answers differ.
        """
        if len(responses) != len(golds):
            raise BadArgument("golds", len(golds), f"there must be one for each of the {len(responses)} responses")
        readable = [_pair(response, gold) for response, gold in zip(responses, golds, strict=True)]
        pairs = [pair for pair in readable if not isinstance(pair, Verdict)]
        decided = iter(self._decided(pairs))
        verdicts = [pair if isinstance(pair, Verdict) else next(decided) for pair in readable]
        self.counts.update(verdict.status for verdict in verdicts)
        _log_errors(verdicts, self._error_value)
        return verdicts

    def rewards(self, responses: Sequence[object], golds: Sequence[object]) -> list[float]:
        """A reward for each response, (R,). As ``verdicts``."""
        return [self.value_of(verdict) for verdict in self.verdicts(responses, golds)]

    def __call__(
        self, prompts: Sequence[object] | None = None, completions: Sequence[object] = (), **columns: Any
    ) -> list[float]:
        """Rewards of ``completions`` (R,), texts or message lists: TRL's form of a reward function.

        ``columns``: those of the data set, one value for each completion. Raises BadArgument where no column has gold
        answers.
        """
        verdicts = self.verdicts(completions, columns[self._gold_column(columns)])
        log_metric = columns.get("log_metric")
        if callable(log_metric) and verdicts:
            log_metric(f"{self.__name__}/error_rate", sum(v.status == "error" for v in verdicts) / len(verdicts))
        return [self.value_of(verdict) for verdict in verdicts]

    def compute_score(
        self, data_source: object, solution_str: str, ground_truth: object, extra_info: object = None, **more: object
    ) -> float:
        """The reward of one response: verl's form. Raises BadArgument for an argument that verl does not send."""
        _check_more(more)
        return self.rewards([solution_str], [ground_truth])[0]

    def compute_score_batched(
        self,
        data_sources: Iterable[object],
        solution_strs: Iterable[str],
        ground_truths: Iterable[object],
        extra_infos: object = None,
        **more: object,
    ) -> list[float]:
        """Rewards of responses (R,): the form of verl's reward manager ``batch``. As ``compute_score``."""
        _check_more(more)
        return self.rewards(list(solution_strs), list(ground_truths))

    def reward_func(
        self, queries: Sequence[str], prompts: Sequence[str], labels: Sequence[object], **more: object
    ) -> dict[str, Any]:
        """OpenRLHF's form: ``queries`` are prompt and response together. Tensors of ``rewards`` and ``scores``, (R,)."""
        import torch

        rewards = torch.tensor(self.rewards(responses_of(queries, prompts), labels), dtype=torch.float32)
        return {"rewards": rewards, "scores": rewards, "extra_logs": {}}

    async def slime_reward(self, args: object, sample: Any, **more: object) -> Any:
        """Form of slime: the reward of a sample, or of a list of samples, from their ``response`` and ``label``."""
        samples = sample if isinstance(sample, list) else [sample]
        rewards = await self.arewards([s.response for s in samples], [s.label for s in samples])
        return rewards if isinstance(sample, list) else rewards[0]

    async def verifiers_reward(self, completion: object, answer: object) -> float:
        """The form of verifiers and prime-rl: a function for ``Rubric(funcs=[...])``."""
        return (await self.arewards([completion], [answer]))[0]

    async def arewards(self, responses: Sequence[object], golds: Sequence[object]) -> list[float]:
        """``rewards`` in a thread, for an event loop."""
        return await asyncio.to_thread(self.rewards, responses, golds)

    def close(self) -> None:
        """End the workers. Later rewards are errors."""
        self._verification.close()

    def __enter__(self) -> Self:
        self._verification.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[object, ...]:
        return self._again, ()

    def _decided(self, pairs: list[tuple[str, str]]) -> list[Verdict]:
        try:
            return self._verification.verify(pairs)
        except (RlvrBenchError, OSError) as error:  # no memory for a worker, or closed: training goes on
            return [Verdict(status="error", kind="crash", message=in_one_line(str(error)))] * len(pairs)

    def value_of(self, verdict: Verdict) -> float:
        """The reward that a verdict gives."""
        return self._error_value if verdict.status == "error" else float(verdict.status == "correct")

    def _gold_column(self, columns: dict[str, Any]) -> str:
        wanted = GOLD_COLUMNS if self._column is None else (self._column,)
        for name in wanted:
            if name in columns:
                return name
        remedy = f"none has gold answers: {' or '.join(wanted)} must be there, or name yours with Reward(column=...)"
        raise BadArgument("columns", sorted(columns), remedy)


def task_reward(task: str, **settings: Any) -> Reward:
    """A `Reward` with the verifier and the extraction of a task, by its name or file."""
    return Reward(task=task, **settings)


def math_reward(
    prompts: Sequence[object] | None = None, completions: Sequence[object] = (), **columns: Any
) -> list[float]:
    """TRL: ``GRPOTrainer(reward_funcs=math_reward)``. See `Reward`; the verifier is ``math``, the answer is in a box."""
    return _shared()(prompts, completions, **columns)


def compute_score(
    data_source: object, solution_str: str, ground_truth: object, extra_info: object = None, **settings: Any
) -> float:
    """verl: ``custom_reward_function.path=pkg://rlvr_bench.training.rewards``, ``name=compute_score``.

    ``settings`` (``reward_kwargs`` in verl) are those of `Reward`. Where they name neither verifier nor task,
    ``data_source`` may: a shipped task, or the data set of one. All other responses are judged by ``math``.
    """
    return _for_source(data_source, settings).rewards([solution_str], [ground_truth])[0]


def compute_score_batched(
    data_sources: Iterable[object],
    solution_strs: Iterable[str],
    ground_truths: Iterable[object],
    extra_infos: object = None,
    **settings: Any,
) -> list[float]:
    """For verl with the reward manager ``batch``: as ``compute_score``, for responses (R,)."""
    sources, responses, golds = list(data_sources), list(solution_strs), list(ground_truths)
    if not len(sources) == len(responses) == len(golds):
        raise BadArgument(
            "data_sources", len(sources), f"there are {len(responses)} responses, {len(golds)} gold answers"
        )
    by_reward: dict[Reward, list[int]] = {}
    for index, source in enumerate(sources):
        by_reward.setdefault(_for_source(source, settings), []).append(index)
    rewards = [math.nan] * len(responses)
    for reward, rows in by_reward.items():
        values = reward.rewards([responses[i] for i in rows], [golds[i] for i in rows])
        for index, value in zip(rows, values, strict=True):
            rewards[index] = value
    return rewards


def reward_func(
    queries: Sequence[str], prompts: Sequence[str], labels: Sequence[object], **more: object
) -> dict[str, Any]:
    """OpenRLHF: a file with ``from rlvr_bench.training.rewards import reward_func``, named as the remote URL."""
    return _shared().reward_func(queries, prompts, labels)


async def slime_reward(args: object, sample: Any, **more: object) -> Any:
    """slime: ``--custom-rm-path rlvr_bench.training.rewards.slime_reward``, also with ``--group-rm``."""
    return await _shared().slime_reward(args, sample)


async def verifiers_reward(completion: object, answer: object) -> float:
    """For verifiers before 0.4 and prime-rl: ``Rubric(funcs=[verifiers_reward])``."""
    return await _shared().verifiers_reward(completion, answer)


async def environment_reward(task: Any, trace: Any) -> float:
    """For verifiers 0.4: the reward of a task with an ``answer``, plugged in by ``TaskConfig(rewards=...)``."""
    return await _shared().verifiers_reward(trace.last_reply, task.answer)


def responses_of(queries: Sequence[str], prompts: Sequence[str]) -> list[str]:
    """The responses in texts that begin with their prompts; a text that does not is taken whole."""
    return [query.removeprefix(prompt) for query, prompt in zip(queries, prompts, strict=True)]


@functools.lru_cache(maxsize=64)
def _shared(**settings: Any) -> Reward:
    """One reward for each set of settings in a process. Two threads may make it twice; both are right."""
    return Reward(**settings)


def _for_source(source: object, settings: dict[str, Any]) -> Reward:
    chosen = {name: value for name, value in settings.items() if name not in _OF_VERL}
    if not chosen.keys() & {"verifier", "task"} and (task := _tasks_by_source().get(str(source))) is not None:
        chosen["task"] = task
    try:
        return _shared(**chosen)
    except TypeError as error:
        raise BadArgument("reward_kwargs", chosen, f"cannot be used: {error}") from error


@functools.cache
def _tasks_by_source() -> dict[str, str]:
    """Shipped tasks whose verifier compares gold answers, by their names and by the names of their data sets."""
    names: dict[str, str] = {}
    for name in list_tasks():
        task, _ = read_task(name)
        if not task.runs_problems:
            names[name] = name
            if isinstance(task.source, HubDataset):
                names.setdefault(task.source.path, name)
    return names


def _verifier_of(name: str) -> Verifier:
    task, file = read_task(name)
    if task.runs_problems or task.gold is None:
        raise BadArgument(
            "task", name, "it is judged by tests that come with its problems; a reward has a gold answer only"
        )
    judge = task_verifier(task, file)
    return PuzzleVerifier(judge) if judge.name == "countdown" else judge


def _name(verifier: str | Verifier) -> str:
    return verifier if isinstance(verifier, str) else verifier.name


def _check_more(more: dict[str, object]) -> None:
    unknown = sorted(more.keys() - _OF_VERL)
    if unknown:
        raise BadArgument("reward_kwargs", unknown[0], "is no argument of this reward")


def _pair(response: object, gold: object) -> tuple[str, str] | Verdict:
    text, answer = _response_text(response), as_gold(gold)
    if text is None:
        message = f"the response is {type(response).__name__}, neither a text nor messages"
        return Verdict(status="error", kind="exception", message=message)
    if answer is None:
        return Verdict(status="error", kind="gold", message=f"the gold answer is {type(gold).__name__}, not a text")
    return text, answer


def _response_text(response: object) -> str | None:
    """The text of a response: a text, or the last message of the assistant. None for anything else."""
    if isinstance(response, str):
        return response
    if isinstance(response, dict):
        response = [response]
    if not isinstance(response, list | tuple):
        return None
    for message in reversed(response):
        if _field(message, "role") == "assistant":
            return plain(_field(message, "content"))
    return ""


def _field(message: object, name: str) -> object:
    return message.get(name) if isinstance(message, dict) else getattr(message, name, None)


def _log_errors(verdicts: Sequence[Verdict], value: float) -> None:
    errors = [verdict for verdict in verdicts if verdict.status == "error"]
    if not errors:
        return
    kinds = ", ".join(f"{n} {kind}" for kind, n in Counter(verdict.kind for verdict in errors).most_common())
    message = errors[0].message or "no message"
    text = "%d of %d rewards are errors (%s) and count as %g. The first: %s"
    logger.warning(text, len(errors), len(verdicts), kinds, value, message)
