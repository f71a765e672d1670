"""pass@k of guessing: for k in the hundreds, guesses alone reach many answers of a small answer space."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from rlvr_bench.errors import BadArgument
from rlvr_bench.records import Estimate, Outcomes
from rlvr_bench.scorers.answers import answer_counts, wrong_answers
from rlvr_bench.scorers.common import clusters_of, fewest, rate_estimates
from rlvr_bench.scorers.solve_rate import default_ks, largest_k, pass_at_k

__all__ = ["MEANINGLESS", "corrected", "guess_chances", "guessing"]

MEANINGLESS = 0.9  # pass@k of guesses from which pass@k says nothing about a model

LEGIBLE = 0.9  # share of solved problems whose gold answer, as written, must be an accepted answer


def guessing(outcomes: Outcomes, ks: Sequence[int] | None = None, answer_space: int | None = None) -> list[Estimate]:
    """``guess@k``: the pass@k of guesses made without knowledge of the problem.

    Group ``uniform``: all A = ``answer_space`` answers of the task are equally likely, 1 - (1 - 1/A)^k; this is exact,
    so there is no interval. For choice problems A is the number of a problem's options, and the mean over problems is
    taken. Group ``own answers``: guesses have the distribution of the run's wrong answers to other problems
    (``guess_chances``), averaged over problems. It is for answer spaces with a few likely answers: models guess 0, 1 and
    2 far more often than 617. A problem without a known probability is left out, so at every k it counts as the mean of
    the others. Raises BadArgument where ``answer_space`` is below 1.
    """
    if answer_space is not None and answer_space < 1:
        raise BadArgument("answer_space", answer_space, "must be at least 1")
    drawn = outcomes.n_samples > 0
    if not drawn.any():
        return []
    grid = list(ks) if ks is not None else default_ks(largest_k(outcomes))
    estimates = _among_options(outcomes, grid)
    if not estimates and answer_space is not None:
        estimates = _uniform(answer_space, grid, int(drawn.sum()))
    chances = guess_chances(outcomes)
    known = ~np.isnan(chances)
    if not known.any():
        return estimates
    note = None
    if unknown := int((drawn & ~known).sum()):
        note = f"{unknown} problems were never solved, and their gold answer is not one that the run gave: left out of guess@k"
    wrong = outcomes.has_status("wrong")
    labels = [
        Estimate(
            name="guess@k",
            k=k,
            value=None,
            group="own answers",
            method="wrong answers of other problems as guesses",
            n_samples=fewest(outcomes, wrong),
            note=note,
        )
        for k in grid
    ]
    values = -np.expm1(np.outer(np.log1p(-np.minimum(chances[drawn], 1 - 1e-12)), grid))
    return estimates + rate_estimates(labels, values, clusters_of(outcomes, drawn))


def corrected(outcomes: Outcomes, ks: Sequence[int] | None = None) -> list[Estimate]:
    """``corrected_pass@k`` of choice problems: (pass@k - g) / (1 - g), where g is the mean ``guess@k`` among the options.

    0 is what guessing reaches, 1 is everything; chance may give less than 0. If a model knows a share of the answers and
    guesses the others, it is that share (the classical correction for guessing, at k draws). The interval is that of
    pass@k under the same map. Where g reaches ``MEANINGLESS`` there is no value: what is left of pass@k is noise. Empty
    unless all problems have options. Raises the errors of ``pass_at_k``.
    """
    if not _all_have_options(outcomes):
        return []
    estimates = []
    for estimate in pass_at_k(outcomes, ks):
        luck = float(_luck(outcomes, [estimate.k or 1])[0])
        named = msgspec.structs.replace(
            estimate, name="corrected_pass@k", method=f"(pass@k - g) / (1 - g), g = {luck:.4g}; {estimate.method}"
        )
        if luck >= MEANINGLESS:
            limits = dict.fromkeys(("value", "low", "high", "at_least", "at_most"))
            note = f"guessing alone reaches {luck:.1%} at this k"
            estimates.append(msgspec.structs.replace(named, **limits, note=note))
            continue
        moved = {
            field: None if (value := getattr(estimate, field)) is None else (value - luck) / (1 - luck)
            for field in ("value", "low", "high", "at_least", "at_most")
        }
        estimates.append(msgspec.structs.replace(named, **moved))
    return estimates


def _all_have_options(outcomes: Outcomes) -> bool:
    drawn = outcomes.n_samples > 0
    return bool(outcomes.options) and bool(drawn.any()) and bool((np.array(outcomes.options)[drawn] > 1).all())


def _luck(outcomes: Outcomes, grid: Sequence[int]) -> npt.NDArray[np.float64]:
    """Mean over the drawn problems of 1 - (1 - 1/options)^k, (K,)."""
    options = np.array(outcomes.options)[outcomes.n_samples > 0]
    return np.asarray(np.mean(1 - (1 - 1 / options[:, None]) ** np.array(grid), axis=0))


def _among_options(outcomes: Outcomes, grid: Sequence[int]) -> list[Estimate]:
    if not _all_have_options(outcomes):
        return []
    return [
        Estimate(
            name="guess@k",
            k=k,
            value=float(luck),
            group="uniform",
            method=f"1 - (1 - 1/options)^{k}, mean over problems",
            n_problems=int((outcomes.n_samples > 0).sum()),
        )
        for k, luck in zip(grid, _luck(outcomes, grid), strict=True)
    ]


def guess_chances(outcomes: Outcomes) -> npt.NDArray[np.float64]:
    """Probability that one guess is right, (P,); NaN if the right answer is unknown or there are no wrong answers.

    A guess is a wrong answer to another problem (NaN if no other problem has one): a random problem among those with
    wrong answers, then a random wrong answer to it. So guesses have the format of answers, but no information on the
    problem. A guess is right if it equals a spelling that the verifier accepted for this problem or, for an unsolved
    problem, its gold answer as written (``_gold_answers``). A number in ``Outcomes.answer`` must mean the same text in
    all problems. Early stopping does not matter, because the distribution of wrong answers does not depend on the
    number of rollouts.
    """
    size = len(outcomes.problem_ids)
    correct = outcomes.is_correct & (outcomes.answer >= 0)
    base = int(outcomes.answer.max(initial=0)) + 1
    gold = np.unique(outcomes.problem[correct].astype(np.int64) * base + outcomes.answer[correct])
    more, impossible = _gold_answers(outcomes, gold, base)
    gold = np.union1d(gold, more)
    wrong = wrong_answers(answer_counts(outcomes))
    code = wrong.answer - 1  # classes of wrong answers are their numbers plus one
    totals = np.bincount(wrong.problem, weights=wrong.count, minlength=size)
    share = wrong.count / totals[wrong.problem]
    pooled = np.bincount(code, weights=share, minlength=base)
    owner, answer = gold // base, gold % base
    others = np.count_nonzero(totals) - (totals[owner] > 0)
    # A problem's contribution to the pool is subtracted; it is 0 unless the verifier contradicts itself.
    own_share = np.zeros(len(gold))
    position = np.searchsorted(gold, wrong.problem * base + code)
    inside = position < len(gold)
    match = inside.copy()
    match[inside] = gold[position[inside]] == (wrong.problem * base + code)[inside]
    own_share[position[match]] = share[match]
    hit = np.divide(pooled[answer] - own_share, others, out=np.full(len(gold), np.nan), where=others > 0)
    chances = np.full(size, np.nan)
    solved = np.unique(owner)
    chances[solved] = np.bincount(owner, weights=hit, minlength=size)[solved]
    chances[impossible] = 0.0
    return np.clip(chances, 0.0, 1.0)


def _gold_answers(
    outcomes: Outcomes, accepted: npt.NDArray[np.int64], base: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Unsolved problems: gold answers that the run gave (problem * base + answer), and problems without such.

    The second array is empty unless gold answers are written like answers: for a share of at least ``LEGIBLE`` of the
    solved problems the gold answer is an accepted answer. Otherwise a gold answer may be a worked solution or have
    another spelling, and it gives no information.
    """
    none = np.array([], dtype=np.int64)
    if not outcomes.golds:
        return none, none
    numbers, rows = np.array(outcomes.golds, dtype=np.int64), np.arange(len(outcomes.golds))
    solved = np.zeros(len(rows), dtype=bool)
    solved[accepted // base] = True
    unsolved = ~solved & (outcomes.n_samples > 0)
    given = rows[unsolved & (numbers >= 0)]
    read = np.isin(rows * base + numbers, accepted) & (numbers >= 0)
    legible = solved.any() and read[solved].mean() >= LEGIBLE
    return given * base + numbers[given], rows[unsolved & (numbers < 0)] if legible else none


def _uniform(answer_space: int, grid: Sequence[int], problems: int) -> list[Estimate]:
    miss = 1 - 1 / answer_space
    return [
        Estimate(
            name="guess@k",
            k=k,
            value=1 - miss**k,
            group="uniform",
            method=f"1 - (1 - 1/{answer_space})^{k}",
            n_problems=problems,
        )
        for k in grid
    ]
