"""Verdicts, the arrays that scorers read, and estimates."""

from __future__ import annotations

from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt

from rlvr_bench.records.sampling import Restopped, StoppingRule

__all__ = ["ERROR_KINDS", "STATUSES", "Estimate", "Outcomes", "ProfileSums", "Status", "Verdict"]

Status = Literal["correct", "wrong", "no_answer", "error"]


STATUSES: tuple[Status, ...] = ("correct", "wrong", "no_answer", "error")


ERROR_KINDS = ("timeout", "crash", "limit", "memory", "exception", "gold")


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """A verifier's decision about one response.

    ``answer`` is the extracted answer (None where there is none), ``kind`` the error kind or the reason for a wrong
    answer, ``message`` an error in one line (the exception's type and text), ``seconds`` the duration of the decision
    (0 for a cached one).
    """

    status: Status
    answer: str | None = None
    kind: str | None = None
    seconds: float = 0.0
    message: str | None = None


class ProfileSums(msgspec.Struct, frozen=True):
    """Entropy by relative position, summed over the rollouts of each problem and status.

    ``total`` (P, 4, 20): the sum of the rollouts' mean entropies in each bin, in nats; ``count`` (P, 4, 20): how many
    rollouts have a token there.
    """

    total: npt.NDArray[np.float64]
    count: npt.NDArray[np.int64]


class Outcomes(msgspec.Struct, frozen=True, kw_only=True):
    """A graded run as flat arrays over R rollouts of P problems, sorted by problem, then by index: a scorer's input.

    ``problem`` (R,) indexes ``problem_ids`` (P,); ``status`` (R,) indexes STATUSES. Equal numbers in ``answer`` (R,)
    are equal extracted answers, also across problems (-1: none); in ``text`` (R,), equal responses. ``candidates`` (R,)
    counts the passages that the answer could have come from; ``truncated`` (R,): the response was cut. Token
    statistics (R,) are NaN where they were not measured; ``entropy_low`` to ``branching_high`` (R,) are bounds of the two
    means where a server gave truncated log-probabilities only. ``entropy_profile`` counts the rollouts of ``is_fair``; it
    is None where none was measured. ``tool_calls`` and ``tool_errors`` (R,) are None for a run without tools. ``unknown``
    names columns of which the run's source lacks values; they are filled with 0. ``flags`` has marks of rollouts (R,) by
    name: the text rules. ``golds`` (P,) are the numbers in ``answer`` of the problems' gold answers as written, -1 for one
    that no rollout gave; empty where they are not known. ``stopping`` is the rule the rollouts were drawn under, None for a
    fixed number; ``asked`` the largest n asked for. ``stopped_on`` (R,): correct by the verdicts that the rule looked at,
    None where they are those of ``status``; ``restopped`` says what that changes. ``options`` (P,): how many lettered options a
    problem has, 0 for another kind. ``instructions`` (P,): how many instructions a prompt has; ``followed`` (R, 2): how many of
    them a response follows, strictly and loosely, NaN without a verdict; both only where instructions were checked.
    """

    problem_ids: tuple[str, ...]
    tiers: tuple[str, ...]
    clusters: tuple[str, ...]
    problem: npt.NDArray[np.int32]
    index: npt.NDArray[np.int32]
    status: npt.NDArray[np.int8]
    answer: npt.NDArray[np.int32]
    text: npt.NDArray[np.int32]
    candidates: npt.NDArray[np.int32]
    n_tokens: npt.NDArray[np.int32]
    truncated: npt.NDArray[np.bool_]
    logprob_sum: npt.NDArray[np.float64]
    entropy_mean: npt.NDArray[np.float64]
    branching_mean: npt.NDArray[np.float64]
    high_entropy_share: npt.NDArray[np.float64]
    asked: int
    stopping: StoppingRule | None = None
    stopped_on: npt.NDArray[np.bool_] | None = None
    restopped: Restopped | None = None
    unknown: tuple[str, ...] = ()
    flags: dict[str, npt.NDArray[np.bool_]] = {}
    golds: tuple[int, ...] = ()
    entropy_profile: ProfileSums | None = None
    entropy_low: npt.NDArray[np.float64] | None = None
    entropy_high: npt.NDArray[np.float64] | None = None
    branching_low: npt.NDArray[np.float64] | None = None
    branching_high: npt.NDArray[np.float64] | None = None
    tool_calls: npt.NDArray[np.float64] | None = None
    tool_errors: npt.NDArray[np.float64] | None = None
    options: tuple[int, ...] = ()
    instructions: tuple[int, ...] = ()
    followed: npt.NDArray[np.float64] | None = None

    @property
    def n_samples(self) -> npt.NDArray[np.int64]:
        """Rollouts per problem, shape (P,)."""
        return np.bincount(self.problem, minlength=len(self.problem_ids))

    @property
    def is_correct(self) -> npt.NDArray[np.bool_]:
        """The correct rollouts, (R,)."""
        return self.has_status("correct")

    def has_status(self, status: Status) -> npt.NDArray[np.bool_]:
        """The rollouts with this verdict, (R,)."""
        return np.asarray(self.status == STATUSES.index(status))

    @property
    def n_correct(self) -> npt.NDArray[np.int64]:
        """Correct rollouts per problem, shape (P,)."""
        return np.bincount(self.problem[self.is_correct], minlength=len(self.problem_ids))

    @property
    def is_fair(self) -> npt.NDArray[np.bool_]:
        """The rollouts that no stopping rule chose, (R,): under a rule the first draw batch of each problem, else all."""
        return np.ones(len(self.index), dtype=bool) if self.stopping is None else self.index < self.stopping.batch

    def fair(self) -> Outcomes:
        """The outcomes of the rollouts of ``is_fair``. A rule looks at verdicts, so all its rollouts are a biased sample."""
        if self.stopping is None:
            return self
        asked = min(self.stopping.batch, self.asked)
        return msgspec.structs.replace(self.only(self.is_fair), asked=asked, stopping=None, stopped_on=None)

    def only(self, keep: npt.NDArray[np.bool_]) -> Outcomes:
        """The rollouts that ``keep`` (R,) marks."""
        columns = {
            name: value[keep] for name, value in msgspec.structs.asdict(self).items() if isinstance(value, np.ndarray)
        }
        flags = {name: flag[keep] for name, flag in self.flags.items()}
        return msgspec.structs.replace(self, **columns, flags=flags)


class Estimate(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One number with its interval: ``value`` in [``low``, ``high``] at confidence ``level``, and how it was computed.

    ``caveat``: why the interval may hold more or less often than ``level`` says, where that is known.
    Where rollouts or verdicts are missing, ``at_least`` and ``at_most`` are what the number would be at least and at most,
    whatever they would have been, and [``low``, ``high``] holds the error of both. ``value`` is None where rollouts are
    missing; where only verdicts are, it takes their rollouts as not correct.
    """

    name: str
    value: float | None
    low: float | None = None
    high: float | None = None
    at_least: float | None = None
    at_most: float | None = None
    level: float = 0.95
    method: str = ""
    n_problems: int = 0
    n_samples: int = 0
    k: int | None = None
    group: str | None = None
    note: str | None = None
    caveat: str | None = None
