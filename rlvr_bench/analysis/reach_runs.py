"""The input of ``reach``: runs that may be used together, and their distinct correct responses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rlvr_bench.analysis.law_scores import ResponseKey, response_digest
from rlvr_bench.errors import RunError
from rlvr_bench.records import STATUSES, Outcomes, SamplingParameters
from rlvr_bench.store import Run
from rlvr_bench.store.outcomes import read_outcomes
from rlvr_bench.store.verdicts import current_grading

__all__ = ["CorrectRollouts", "Response", "check_runs", "correct_rollouts", "sampling_of"]

_ALIKE = ("task", "task_version", "problems_sha256", "prompt_sha256", "chat_template", "chat_template_args")
_CORRECT, _ERROR = STATUSES.index("correct"), STATUSES.index("error")
_COLUMNS = ["problem_id", "index", "finish_reason", "logprob_sum", "token_ids"]


class Response(NamedTuple):
    """A distinct correct response: the number of its problem, its tokens (T,), and what ended it.

    ``limit``: the max_tokens that cut it, 0 for a response that ended. ``sampled_by``: number of a run that drew it.
    """

    problem: int
    ids: npt.NDArray[np.int32]
    limit: int
    sampled_by: int


class CorrectRollouts(NamedTuple):
    """The correct rollouts of S runs on P problems, R rollouts of D distinct responses.

    ``run``, ``response`` (R,): numbers of the run and of the response. ``is_counted`` (R,): among the rollouts whose number
    was fixed beforehand. ``logprob`` (R,): stored sums in nats, under the unchanged distribution of the checkpoint that drew.
    ``n``, ``c``, ``errors`` (P, S): counted rollouts, correct ones, and those without a verdict. ``keys``: of the responses.
    """

    responses: list[Response]
    keys: list[ResponseKey]
    run: npt.NDArray[np.int64]
    response: npt.NDArray[np.int64]
    is_counted: npt.NDArray[np.bool_]
    logprob: npt.NDArray[np.float64]
    n: npt.NDArray[np.int64]
    c: npt.NDArray[np.int64]
    errors: npt.NDArray[np.int64]

    def without(self, runs: npt.NDArray[np.bool_]) -> CorrectRollouts:
        """As if these runs (S,) had drawn nothing."""
        kept = ~runs[self.run]
        n, c, errors = (np.where(runs, 0, table) for table in (self.n, self.c, self.errors))
        rows = self._replace(run=self.run[kept], response=self.response[kept], is_counted=self.is_counted[kept])
        return rows._replace(logprob=self.logprob[kept], n=n, c=c, errors=errors)


def check_runs(runs: Sequence[Run]) -> None:
    """Check that each run has what ``reach`` needs, and that the others fit the first.

    Raises RunError, which names the run and the field.
    """
    for run in runs:
        _check_run(run)
    first = runs[0]
    for number, run in enumerate(runs[1:], 1):
        for name, mine, theirs in _must_agree(first, run):
            if mine != theirs:
                raise RunError(
                    f"{run.path}: {name} is {_short(theirs)}, but {_short(mine)} in {first.path}. Both runs must have the same"
                )
        for other in runs[:number]:
            if _random_numbers(other) == _random_numbers(run):
                raise RunError(
                    f"{run.path}: it was drawn from the random numbers of {other.path} (same seed), so the two are not "
                    "independent. Leave it out, or draw it with another --seed"
                )


def sampling_of(run: Run) -> SamplingParameters:
    """The sampling parameters of a run that ``check_runs`` accepts."""
    sampling = run.manifest.sampling
    if sampling is None:
        raise RunError(f"{run.path}: sampling is unknown, so the law of its rollouts cannot be computed")
    return sampling


def correct_rollouts(runs: Sequence[Run]) -> CorrectRollouts:
    """Read the correct rollouts of all runs. Raises RunError where a run is not graded, or a rollout has no tokens."""
    problems = [problem.id for problem in runs[0].problems()]
    shape = len(problems), len(runs)
    n, c, errors = (np.zeros(shape, dtype=np.int64) for _ in range(3))
    numbers: dict[tuple[int, bytes, int], int] = {}
    responses: list[Response] = []
    rows: list[tuple[int, int, bool, float]] = []
    for s, run in enumerate(runs):
        outcomes = read_outcomes(run)
        fair = _is_counted(run, outcomes.index)
        problem = _in_order(outcomes, problems)[outcomes.problem]
        for table, chosen in (
            (n, fair),
            (c, fair & (outcomes.status == _CORRECT)),
            (errors, fair & (outcomes.status == _ERROR)),
        ):
            table[:, s] = np.bincount(problem[chosen], minlength=len(problems))
        for response, index, logprob in _correct_of(run, s, outcomes, problem):
            key = response.problem, response.ids.tobytes(), response.limit
            number = numbers.setdefault(key, len(responses))
            if number == len(responses):
                responses.append(response)
            rows.append((s, number, bool(_is_counted(run, np.array([index]))[0]), logprob))
    run_of, response_of, counted, logprobs = zip(*rows, strict=True) if rows else ((), (), (), ())
    return CorrectRollouts(
        responses=responses,
        keys=[(problems[response.problem], response_digest(response.ids)) for response in responses],
        run=np.array(run_of, dtype=np.int64),
        response=np.array(response_of, dtype=np.int64),
        is_counted=np.array(counted, dtype=np.bool_),
        logprob=np.array(logprobs, dtype=np.float64),
        n=n,
        c=c,
        errors=errors,
    )


def _check_run(run: Run) -> None:
    manifest = run.manifest
    if manifest.imported is not None:
        raise RunError(
            f"{run.path}: imported from {manifest.imported}, so its tokens and the law it was drawn from are unknown"
        )
    if manifest.weights.startswith("endpoint:") or manifest.engine == "endpoint":
        raise RunError(f"{run.path}: engine is {manifest.engine!r}: a server does not say which law it draws from")
    if manifest.engine == "fake":
        raise RunError(f"{run.path}: engine is 'fake', which has no law of its tokens")
    if manifest.token_stats != "full":
        raise RunError(
            f"{run.path}: token_stats is {manifest.token_stats!r}, so the tokens themselves were not kept. Draw it with "
            "--token-stats full, into another --out folder"
        )
    if manifest.tools is not None:
        raise RunError(f"{run.path}: drawn with tools, whose output is between the model's tokens. It has no such law")
    sampling_of(run)


def _must_agree(first: Run, second: Run) -> Iterator[tuple[str, object, object]]:
    """Fields that must be equal: name, and both values."""
    for name in _ALIKE:
        yield name, getattr(first.manifest, name), getattr(second.manifest, name)
    yield "sampling.stop", sampling_of(first).stop, sampling_of(second).stop
    gradings = [current_grading(run) for run in (first, second)]
    for run, grading in zip((first, second), gradings, strict=True):
        if grading is None:
            raise RunError(f"{run.path}: not graded yet. Run `rlvr-bench grade {run.path}` first.")
    mine, theirs = (grading for grading in gradings if grading is not None)
    for name in ("verifier", "version", "options"):
        yield f"grading.{name}", getattr(mine, name), getattr(theirs, name)


def _random_numbers(run: Run) -> tuple[object, ...]:
    """What decides the random numbers of a run: its seed, and with newer seeds the model."""
    return run.manifest.seed, run.manifest.seed_scheme, run.manifest.drawn_by


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _is_counted(run: Run, index: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.bool_]:
    """Rollouts whose number was fixed beforehand: under a stopping rule the first draw batch of each problem."""
    rule = run.manifest.stopping
    return np.full(len(index), True) if rule is None else np.asarray(index < rule.batch)


def _in_order(outcomes: Outcomes, problems: Sequence[str]) -> npt.NDArray[np.int64]:
    """The number that each problem of ``outcomes`` has among ``problems``."""
    number = {name: i for i, name in enumerate(problems)}
    return np.array([number[name] for name in outcomes.problem_ids], dtype=np.int64)


def _correct_of(
    run: Run, number: int, outcomes: Outcomes, problem: npt.NDArray[np.int64]
) -> Iterator[tuple[Response, int, float]]:
    """Correct rollouts of a run: response, index in its problem, and stored log-probability."""
    correct = outcomes.status == _CORRECT
    keys = problem[correct] << 32 | outcomes.index[correct]
    ids = {name: i for i, name in enumerate(p.id for p in run.problems())}
    limit = sampling_of(run).max_tokens
    for table in run.rollouts.read(_COLUMNS):
        names = np.array([ids.get(name, -1) for name in table["problem_id"].to_pylist()], dtype=np.int64)
        chosen = table.filter(pa.array(np.isin(names << 32 | table["index"].to_numpy(), keys)))
        for row in chosen.to_pylist():
            if not row["token_ids"] or row["logprob_sum"] is None:
                raise RunError(f"{run.path}: rollout {row['index']} of problem {row['problem_id']} has no token_ids")
            tokens = np.array(row["token_ids"], dtype=np.int32)
            cut = limit if row["finish_reason"] == "length" else 0
            yield Response(ids[row["problem_id"]], tokens, cut, number), row["index"], row["logprob_sum"]
