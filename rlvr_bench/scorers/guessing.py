"""What lucky guesses would reach: at k in the hundreds, a small answer space is searched rather than solved."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from rlvr_bench.errors import BadArgument
from rlvr_bench.records import Estimate, Outcomes
from rlvr_bench.scorers.answers import answer_counts, wrong_answers
from rlvr_bench.scorers.common import clusters_of, fewest, rate_estimates
from rlvr_bench.scorers.solve_rate import default_ks, largest_k

__all__ = ["guess_chances", "guessing"]

LEGIBLE = 0.9  # share of solved problems whose gold answer, as written, is an accepted answer: others match too then


def guessing(outcomes: Outcomes, ks: Sequence[int] | None = None, answer_space: int | None = None) -> list[Estimate]:
    """``guess@k``: the pass@k that guesses without knowledge of the problem would reach, beside pass@k.

    Group ``uniform``: every guess is one of the task's ``answer_space`` answers with equal chance, 1 - (1 - 1/A)^k; a
    number without error, so without interval. Group ``own answers``: guesses have the distribution of the run's wrong
    answers to other problems (``guess_chances``), averaged over problems, for answer spaces that are small in effect:
    models guess 0, 1 and 2 far more often than 617. A problem whose chance is not known is left out, that is, at every k it
    counts as the mean of the others. Raises BadArgument where ``answer_space`` is below 1.
    """
    if answer_space is not None and answer_space < 1:
        raise BadArgument("answer_space", answer_space, "must be at least 1")
    drawn = outcomes.n_samples > 0
    if not drawn.any():
        return []
    grid = list(ks) if ks is not None else default_ks(largest_k(outcomes))
    estimates = [] if answer_space is None else _uniform(answer_space, grid, int(drawn.sum()))
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


def guess_chances(outcomes: Outcomes) -> npt.NDArray[np.float64]:
    """Chance that one guess is right, (P,); NaN where the right answer is not known or no other problem has a wrong one.

    A guess is a wrong answer to another problem: first a problem at random among those with wrong answers, then one of its
    wrong answers. It knows what answers look like and nothing of the problem, as if the run's wrong answers were shuffled
    between problems. It is right where it equals one of the spellings the verifier accepted for this problem, for an
    unsolved problem its gold answer as written (``_gold_answers``). Needs ``Outcomes.answer`` numbers that mean the same text
    in every problem. Rollouts that stopped early do not matter: what a wrong answer says does not depend on how many were
    drawn.
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
    # What a problem itself contributes to the pool is taken out; it is 0 unless the verifier contradicts itself.
    own = np.zeros(len(gold))
    position = np.searchsorted(gold, wrong.problem * base + code)
    inside = position < len(gold)
    match = inside.copy()
    match[inside] = gold[position[inside]] == (wrong.problem * base + code)[inside]
    own[position[match]] = share[match]
    hit = np.divide(pooled[answer] - own, others, out=np.full(len(gold), np.nan), where=others > 0)
    chances = np.full(size, np.nan)
    solved = np.unique(owner)
    chances[solved] = np.bincount(owner, weights=hit, minlength=size)[solved]
    chances[impossible] = 0.0
    return np.clip(chances, 0.0, 1.0)


def _gold_answers(
    outcomes: Outcomes, accepted: npt.NDArray[np.int64], base: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Of the unsolved problems: their golds that the run gave (problem * base + answer), and problems whose gold it never gave.

    The second are empty unless the golds are written as answers are: at least ``LEGIBLE`` of the solved problems have theirs
    among the accepted answers. Else a gold may be a worked solution, or be spelled otherwise, and says nothing.
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
