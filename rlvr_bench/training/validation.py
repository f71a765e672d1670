"""Numbers for the validation hook of a training program: those of a scorecard, from arrays, as a flat dictionary.

The functions are the scorers of an evaluation, so a value and its interval equal those of a scorecard of the same counts.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from rlvr_bench import stats
from rlvr_bench.errors import BadArgument
from rlvr_bench.records import STATUSES, Estimate, Outcomes
from rlvr_bench.scorers.common import fewest, mean_estimate, problem_means, with_intervals
from rlvr_bench.scorers.counts import Counts
from rlvr_bench.scorers.diversity import distinct_at
from rlvr_bench.scorers.solve_rate import pass_of_counts

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["validation_metrics", "verifiers_validation_metrics", "verl_validation_metrics"]


def validation_metrics(
    problem_ids: Iterable[Hashable],
    correct: Any,
    *,
    tokens: Any = None,
    entropy: Any = None,
    truncated: Any = None,
    answers: Iterable[Hashable] | None = None,
    ks: Sequence[int] = (1, 4, 16),
    prefix: str = "val",
) -> dict[str, float]:
    """Unbiased pass@k and what belongs beside it, with 95 % intervals, for a logger: ``val/pass@16``, ``val/pass@16/low``.

    ``problem_ids`` (R,) and ``correct`` (R,): a rollout each, in any order; or ``problem_ids`` (P,) and ``correct`` (P, N).
    ``correct`` is true or false, 1 or 0; None or NaN is a rollout without a verdict, which leads to bounds. The others have
    the shape of ``correct``: response ``tokens``, mean token ``entropy`` in nats, ``truncated``, and ``answers`` as text or
    number, None for no answer. ``prefix`` begins every name.

    Names: ``pass@K``; ``unsolved_share``, the problems without a correct rollout; ``error_rate``; ``tokens_per_response``,
    ``token_entropy``, ``truncation_rate`` and ``distinct_answers@K`` where they are given; ``problems`` and ``rollouts``, the
    smallest number for a problem. Each but the last two and ``error_rate`` has ``/low`` and ``/high`` where there is an
    interval. Where a problem has fewer than K rollouts, or rollouts lack verdicts, there are ``/at_least`` and ``/at_most``;
    without the rollouts there is no value.

    Raises BadArgument: shapes differ, nothing there, a value that is not allowed.
    """
    outcomes = _outcomes(problem_ids, correct, tokens, entropy, truncated, answers)
    budgets = _budgets(ks)
    counts = Counts.of_outcomes(outcomes)
    metrics = {"problems": float(len(counts.n)), "rollouts": float(counts.n.min())}
    passes = {estimate.k: estimate for estimate in pass_of_counts(counts, budgets)}
    for k, estimate in passes.items():
        metrics |= _named(f"pass@{k}", estimate)
    most = counts.largest_k
    reach = passes.get(most) or pass_of_counts(counts, [most])[0]
    metrics |= _named("unsolved_share", _complement(reach))
    metrics["error_rate"] = float(np.mean(problem_means(outcomes, outcomes.has_status("error"))))
    if truncated is not None:
        metrics |= _named("truncation_rate", _rate(outcomes, outcomes.truncated))
    for name, values in (("tokens_per_response", tokens), ("token_entropy", entropy)):
        if values is not None:
            column = outcomes.n_tokens if name == "tokens_per_response" else outcomes.entropy_mean
            label = Estimate(name=name, value=None, n_samples=fewest(outcomes))
            metrics |= _named(name, mean_estimate(label, problem_means(outcomes, column), floor=0.0))
    for estimate in distinct_at(outcomes, budgets) if answers is not None else ():
        metrics |= _named(f"distinct_answers@{estimate.k}", estimate)
    return {f"{prefix}/{name}": value for name, value in metrics.items()}


def verl_validation_metrics(
    data_sources: Iterable[object],
    sample_uids: Iterable[Hashable],
    infos_dict: Mapping[str, Any],
    *,
    ks: Sequence[int] = (1, 4, 16),
    correct_above: float = 0.5,
    prefix: str = "val",
) -> dict[str, float]:
    """``validation_metrics`` for each data source, ``val/SOURCE/pass@16``, from the arguments of verl's validation.

    The arguments are those of verl 0.9's ``process_validation_metrics``; names in ``infos_dict``: ``acc``, or else ``score`` or
    ``reward``, above ``correct_above`` is correct; ``pred``, where it is there, is the answer. Raises BadArgument where
    none of the three is there, or as ``validation_metrics``.
    """
    sources, uids = [str(source) for source in data_sources], [*sample_uids]
    name = next((name for name in ("acc", "score", "reward") if len(infos_dict.get(name, ())) == len(sources)), None)
    if name is None:
        raise BadArgument("infos_dict", sorted(infos_dict), "needs acc, score or reward, one value for each sample")
    values = _above(infos_dict[name], correct_above)
    answers = infos_dict.get("pred")
    metrics: dict[str, float] = {}
    for source in dict.fromkeys(sources):
        rows = [i for i, other in enumerate(sources) if other == source]
        metrics |= validation_metrics(
            [uids[i] for i in rows],
            values[rows],
            answers=None if answers is None or len(answers) != len(values) else [_hashable(answers[i]) for i in rows],
            ks=ks,
            prefix=f"{prefix}/{source}",
        )
    return metrics


def verifiers_validation_metrics(
    rollouts: Iterable[Mapping[str, Any]],
    *,
    ks: Sequence[int] = (1, 4, 16),
    correct_above: float = 0.5,
    prefix: str = "val",
) -> dict[str, float]:
    """``validation_metrics`` from evaluation rollouts of verifiers or prime-rl, mappings with ``example_id`` and ``reward``.

    A reward above ``correct_above`` is correct. A rollout with an ``error``, or without a reward, has no verdict.
    ``is_truncated`` is used where all have it. Raises BadArgument for a rollout without ``example_id``, or as
    ``validation_metrics``.
    """
    rows = list(rollouts)
    lacking = next((i for i, row in enumerate(rows) if row.get("example_id") is None), None)
    if lacking is not None:
        raise BadArgument("rollouts", sorted(rows[lacking]), f"rollout {lacking} has no example_id")
    rewards = _above([None if row.get("error") else row.get("reward") for row in rows], correct_above)
    cut = [row.get("is_truncated") for row in rows]
    return validation_metrics(
        [row["example_id"] for row in rows],
        rewards,
        truncated=None if None in cut else cut,
        ks=ks,
        prefix=prefix,
    )


def _outcomes(
    problem_ids: Iterable[Hashable], correct: Any, tokens: Any, entropy: Any, truncated: Any, answers: Any
) -> Outcomes:
    """The arrays as a scorer reads them, sorted by problem. Columns that are not given are unknown."""
    right = _floats("correct", correct)
    shape = right.shape
    code: dict[Hashable, int] = {}
    try:
        problem = np.array([code.setdefault(name, len(code)) for name in problem_ids], dtype=np.int32)
    except TypeError as error:
        raise BadArgument("problem_ids", "of another kind", f"must be texts or numbers ({error})") from error
    if right.ndim == 2 and len(problem) == shape[0]:
        problem = np.repeat(problem, shape[1])
    if right.ndim not in (1, 2) or len(problem) != right.size or not right.size:
        needed = f"must be one for each rollout of correct, {shape}, at least one"
        raise BadArgument("problem_ids", f"of {len(problem)}", needed)
    right = right.ravel()
    wrong = right[~np.isin(right, (0.0, 1.0)) & ~np.isnan(right)]
    if wrong.size:
        raise BadArgument("correct", float(wrong[0]), "must be 0 or 1, or NaN for no verdict")
    is_sorted = (problem[1:] >= problem[:-1]).all()
    order = slice(None) if is_sorted else np.argsort(problem, kind="stable")
    sizes = np.bincount(problem)
    zeros, nan = np.zeros(len(problem), dtype=np.int32), np.full(len(problem), np.nan)
    given = {"answer": answers, "n_tokens": tokens, "truncated": truncated}
    return Outcomes(
        problem_ids=tuple(map(str, code)),
        tiers=("",) * len(code),
        clusters=("",) * len(code),
        problem=problem[order],
        index=(np.arange(len(problem)) - np.repeat(np.cumsum(sizes) - sizes, sizes)).astype(np.int32),
        status=np.where(np.isnan(right), STATUSES.index("error"), right == 0)[order].astype(np.int8),
        answer=zeros if answers is None else _answer_codes(answers, shape)[order],
        text=zeros,
        candidates=zeros,
        n_tokens=zeros if tokens is None else _column("tokens", tokens, shape)[order].astype(np.int32),
        truncated=zeros.astype(bool) if truncated is None else (_column("truncated", truncated, shape)[order] != 0),
        logprob_sum=nan,
        entropy_mean=nan if entropy is None else _column("entropy", entropy, shape, may_lack=True)[order],
        branching_mean=nan,
        high_entropy_share=nan,
        asked=int(sizes.max()),
        unknown=("candidates", *(name for name, values in given.items() if values is None)),
    )


def _floats(name: str, values: Any) -> npt.NDArray[np.float64]:
    if hasattr(values, "detach"):  # a tensor, perhaps on a GPU
        values = values.detach().float().cpu()
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise BadArgument(name, type(values).__name__, f"must be an array of numbers ({error})") from error


def _column(name: str, values: Any, shape: tuple[int, ...], *, may_lack: bool = False) -> npt.NDArray[np.float64]:
    column = _floats(name, values)
    if column.shape != shape:
        raise BadArgument(name, column.shape, f"must have the shape of correct, {shape}")
    known = column[~np.isnan(column)] if may_lack else column
    if not (np.isfinite(known).all() and (known >= 0).all()):
        raise BadArgument(
            name, float(known[~(np.isfinite(known) & (known >= 0))][0]), "must be finite and not negative"
        )
    return column.ravel()


def _answer_codes(answers: Iterable[Any], shape: tuple[int, ...]) -> npt.NDArray[np.int32]:
    """A number for each distinct answer, -1 for None."""
    listed = [*answers]
    if len(shape) == 2 and len(listed) == shape[0] and isinstance(listed[0], list | tuple | np.ndarray):
        listed = [answer for row in listed for answer in row]
    if len(listed) != math.prod(shape):
        raise BadArgument("answers", f"of {len(listed)}", f"must have the shape of correct, {shape}")
    code: dict[Hashable, int] = {}
    try:
        return np.array([-1 if a is None else code.setdefault(a, len(code)) for a in listed], dtype=np.int32)
    except TypeError as error:
        raise BadArgument("answers", "of another kind", f"must be texts or numbers ({error})") from error


def _budgets(ks: Sequence[int]) -> list[int]:
    budgets = sorted(set(ks))
    if not budgets or any(isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1 for k in budgets):
        raise BadArgument("ks", ks, "must be whole numbers from 1 on, at least one")
    return [int(k) for k in budgets]


def _named(name: str, estimate: Estimate) -> dict[str, float]:
    parts = {
        "": estimate.value,
        **{f"/{part}": getattr(estimate, part) for part in ("low", "high", "at_least", "at_most")},
    }
    return {f"{name}{part}": float(value) for part, value in parts.items() if value is not None}


def _complement(reach: Estimate) -> Estimate:
    """1 - an estimate: its bounds change places."""
    swapped = {"value": "value", "low": "high", "high": "low", "at_least": "at_most", "at_most": "at_least"}
    values = {new: getattr(reach, old) for new, old in swapped.items()}
    return msgspec.structs.replace(reach, **{name: None if v is None else 1 - v for name, v in values.items()})


def _rate(outcomes: Outcomes, flag: npt.NDArray[np.bool_]) -> Estimate:
    """The share of rollouts, mean over problems: as pass@1 of another verdict."""
    marked = np.bincount(outcomes.problem[flag], minlength=len(outcomes.problem_ids))
    interval = stats.bootstrap(marked, outcomes.n_samples, [1], rng=stats.fresh_rng())
    return with_intervals([Estimate(name="rate", value=None)], interval)[0]


def _above(values: Sequence[Any], threshold: float) -> npt.NDArray[np.float64]:
    rewards = _floats("reward", values)
    return np.where(np.isnan(rewards), np.nan, rewards > threshold)


def _hashable(value: object) -> Hashable:
    return value if isinstance(value, Hashable) else str(value)
