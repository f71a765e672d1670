"""Tests of whether a run is worse than its baseline by more than a tolerance, on the same problems, from scorecards."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from rlvr_bench import stats
from rlvr_bench.checking.evidence import Evidence, about_new_problems, about_these_problems
from rlvr_bench.checking.more_data import needed, next_look
from rlvr_bench.checking.pairing import accept, pair_up
from rlvr_bench.checking.results import Acceptance, Check, Finding, NextLook, Outcome
from rlvr_bench.checking.rules import CheckOptions, Rule, make_rules
from rlvr_bench.comparison.cards import RunCounts, align, clusters, common_k
from rlvr_bench.comparison.folders import read_cards
from rlvr_bench.comparison.undecided import refuse_errors
from rlvr_bench.errors import BadArgument
from rlvr_bench.scorecard import Scorecard
from rlvr_bench.scorers.solve_rate import gaps
from rlvr_bench.stats.sequential import ONE_LOOK, Looks

__all__ = ["Acceptance", "Check", "CheckOptions", "Finding", "NextLook", "Outcome", "accept", "check", "check_cards"]

SCHEMA = 1
SAME_DRAW = ("model", "weights", "seed", "sampling", "prompt_sha256", "chat_template_args")
WORST_FIRST: tuple[Outcome, ...] = ("regression", "cannot_tell", "ok")


def check(
    runs: Sequence[str | Path],
    against: Sequence[str | Path],
    max_drop: Mapping[str, float],
    max_rise: Mapping[str, float] | None = None,
    options: CheckOptions | None = None,
) -> Check:
    """Compare runs with baselines, given as run folders, scorecard files, or folders of them.

    ``max_drop`` and ``max_rise``: tolerances by metric, {"pass@64": 0.03}, {"error_rate": 0.01}. A finding is

    - ``regression`` if the change is shown to exceed the tolerance: the p-value of a change of at most the tolerance,
      after Holm's correction over all findings, is at most 1 - level. If all runs are within the tolerance, a check has
      a regression with probability at most 1 - level;
    - ``ok`` if the change is shown to be within the tolerance by its one-sided limit. This is not corrected, because a
      run passes only if it passes every rule (Berger 1982): a run that is worse passes with probability at most 1 -
      level. Both error rates are over all checks of growing runs together (``CheckOptions.looks``,
      ``stats.sequential``);
    - ``cannot_tell`` otherwise. If run and baseline are the same draw the finding is ``ok``, because their difference
      is exactly 0.

    Raises RunError: a scorecard is missing, has no baseline, or has too high an error rate; Incomparable (a RunError)
    where run and baseline answer different questions; BadArgument for a bad rule or a budget above the rollouts drawn.
    """
    rules = make_rules(max_drop, max_rise or {})
    return check_cards(read_cards(runs), read_cards(against), rules, options)


def check_cards(
    runs: Sequence[tuple[Path, Scorecard]],
    baselines: Sequence[tuple[Path, Scorecard]],
    rules: Sequence[Rule],
    options: CheckOptions | None = None,
) -> Check:
    """``check`` for scorecards already read, each with its file."""
    options = options or CheckOptions()
    if not runs:
        raise BadArgument("runs", 0, "name at least one")
    pairs, notes = pair_up(runs, baselines)
    refuse_errors([card for pair in pairs for card in pair], options.max_error_rate, "raise --max-error-rate")
    findings: list[tuple[Finding, Looks, _Asked]] = []
    for baseline, run in pairs:
        _, counts, differences = align([baseline, run], options.allow)
        notes += differences
        asked = _Asked(counts[0], counts[1], options, len(pairs) * len(rules), _same_draw(baseline[1], run[1]))
        findings += [(*_finding(rule, asked, run[1].run.task), asked) for rule in rules]
    if not options.new_problems and any(finding.source == "problems" for finding, *_ in findings):
        notes.append(
            "some limits are also for new problems (source: problems): a scorecard keeps no rollout error of those metrics"
        )
    return _decided(findings, options.level, notes)


@dataclasses.dataclass(frozen=True)
class _Asked:
    """A baseline and a run on the same problems, with the options of all rules."""

    baseline: RunCounts
    run: RunCounts
    options: CheckOptions
    tests: int
    same: bool

    @property
    def stopped(self) -> bool:
        return self.baseline.stopping is not None or self.run.stopping is not None


def _finding(rule: Rule, asked: _Asked, task: str) -> tuple[Finding, Looks]:
    """The finding of one rule before correction: ``p_holm`` is ``p_value``, and ``outcome`` is set later."""
    runs = (asked.baseline, asked.run)
    if rule.of.column == "c" and rule.k is not None and _is_open(runs, rule.k) and not asked.same:
        return _bounded_finding(rule, asked, task)
    values, basis = _values(rule, asked)
    known = ~np.isnan(values[0]) & ~np.isnan(values[1])
    if not known.any():
        fewest = max(int(run.n.max()) for run in runs)
        more = f"; the most rollouts of a problem are {fewest}" if rule.of.column == "c" else ""
        raise BadArgument(f"--{rule.kind}", rule.metric, f"no problem has it in both runs, {_labels(asked)}{more}")
    evidence = _evidence(rule, asked, [table[known] for table in values], known)
    finding = Finding(
        task=task,
        run=asked.run.label,
        baseline=asked.baseline.label,
        rule=rule.text,
        metric=rule.metric,
        tolerance=rule.tolerance,
        first=float(values[0][known].mean()),
        second=float(values[1][known].mean()),
        worse_by=evidence.value,
        low=evidence.low,
        high=evidence.high,
        p_value=evidence.p_value,
        p_holm=evidence.p_value,
        outcome="ok",
        n_problems=evidence.n_problems,
        n_samples=min(int(run.n[known].min()) for run in runs),
        source=evidence.source,
        method=f"{evidence.method}{basis}",
        looks=asked.options.looks,
    )
    return finding, evidence.looks


def _is_open(runs: Sequence[RunCounts], k: int) -> bool:
    """Whether rollouts or verdicts are missing at this budget."""
    return any(gaps(run.counts, [k])[0] is not None or run.counts.errors.any() for run in runs)


def _bounded_finding(rule: Rule, asked: _Asked, task: str) -> tuple[Finding, Looks]:
    """The finding of a rule on pass@k where rollouts or verdicts are missing; it is valid for any values of them.

    The change is tested twice, with the missing values most favourable and least favourable to the run. A regression
    must be shown in the first test, ``ok`` in the second. ``first``, ``second`` and ``worse_by`` are those of the
    first.
    """
    assert rule.k is not None
    most = max(int(run.counts.most) for run in (asked.baseline, asked.run))
    if rule.k > most:
        more = f"; the most rollouts of a problem are {most}"
        raise BadArgument(f"--{rule.kind}", rule.metric, f"no problem has it in both runs, {_labels(asked)}{more}")
    before, now = (run.pass_bounds([rule.k]) for run in (asked.baseline, asked.run))
    kind, unkind = (before.low[:, 0], now.high[:, 0]), (before.high[:, 0], now.low[:, 0])
    if rule.kind == "max-rise":
        kind, unkind = unkind, kind
    looks = _looks(rule, asked, np.ones(len(before.low), dtype=bool))
    evidence = _errors_evidence(rule, asked, looks) or [
        about_new_problems(
            *(pair if rule.kind == "max-drop" else pair[::-1]),
            rule.tolerance,
            asked.options.level,
            clusters(asked.baseline),
            asked.tests,
            looks,
        )
        for pair in (kind, unkind)
    ]
    finding = Finding(
        task=task,
        run=asked.run.label,
        baseline=asked.baseline.label,
        rule=rule.text,
        metric=rule.metric,
        tolerance=rule.tolerance,
        first=float(kind[0].mean()),
        second=float(kind[1].mean()),
        worse_by=evidence[0].value,
        at_most=evidence[1].value,
        low=evidence[0].low,
        high=evidence[1].high,
        p_value=evidence[0].p_value,
        p_holm=evidence[0].p_value,
        outcome="ok",
        n_problems=evidence[0].n_problems,
        n_samples=min(int(run.n.min()) for run in (asked.baseline, asked.run)),
        source=evidence[0].source,
        method=f"{evidence[0].method}; bounds: rollouts or verdicts are missing",
        looks=asked.options.looks,
    )
    return finding, looks


def _errors_evidence(rule: Rule, asked: _Asked, looks: Looks) -> list[Evidence] | None:
    """The two tests about these same problems if only verdicts are missing; None if rollouts are also missing."""
    runs, k = (asked.baseline, asked.run), rule.k or 1
    if asked.options.new_problems or asked.stopped or any(gaps(run.counts, [k])[0] is not None for run in runs):
        return None
    wrong = [(run.c, run.n) for run in runs]
    right = [(run.c + run.counts.errors, run.n) for run in runs]
    drops = [(wrong[0], right[1]), (right[0], wrong[1])]
    pairs = drops if rule.kind == "max-drop" else [(now, before) for before, now in drops[::-1]]
    level = asked.options.level
    return [about_these_problems(first, second, k, rule.tolerance, level, looks) for first, second in pairs]


def _values(rule: Rule, asked: _Asked) -> tuple[list[npt.NDArray[np.float64]], str]:
    """The metric of each problem in baseline and run, each (P,), NaN where unknown, and a note on the common number."""
    runs = (asked.baseline, asked.run)
    if rule.k is not None:
        return [run.budget_values(rule.of, rule.k) for run in runs], ""
    if asked.stopped and not rule.of.of_first_batch:
        raise BadArgument(f"--{rule.kind}", rule.metric, "is biased in a run that stopped early on solved problems")
    if rule.of.by_k is None or np.array_equal(runs[0].n, runs[1].n):
        return [run.values(rule.of) for run in runs], ""
    k = common_k(*runs, rule.of.by_k)
    if k is None:
        why = "depends on the number of rollouts, which differs, and these scorecards do not have it at a common number"
        raise BadArgument(f"--{rule.kind}", rule.metric, f"{why}: run `rlvr-bench score` again on both runs")
    return [run.repeats(k) for run in runs], f"; at {k} rollouts, which both have"


def _evidence(
    rule: Rule, asked: _Asked, values: Sequence[npt.NDArray[np.float64]], known: npt.NDArray[np.bool_]
) -> Evidence:
    """The test of a rule: a drop is the baseline minus the run, a rise is the run minus the baseline."""
    order = (0, 1) if rule.kind == "max-drop" else (1, 0)
    if asked.same:
        return Evidence(0.0, 0.0, 0.0, 1.0, int(known.sum()), "none", "run and baseline are the same draw")
    level, looks = asked.options.level, _looks(rule, asked, known)
    if not asked.options.new_problems and not asked.stopped and rule.of.gate == "rollouts":
        counts = [_counts(rule, (asked.baseline, asked.run)[i], known) for i in order]
        return about_these_problems(counts[0], counts[1], rule.k or 1, rule.tolerance, level, looks)
    groups = clusters(asked.baseline)
    first, second = (values[i] for i in order)
    labels = None if groups is None else groups[known]
    return about_new_problems(first, second, rule.tolerance, level, labels, asked.tests, looks)


def _looks(rule: Rule, asked: _Asked, known: npt.NDArray[np.bool_]) -> Looks:
    if asked.options.looks == "one":
        return ONE_LOOK
    sizes = [float(run.n[known].mean()) for run in (asked.baseline, asked.run)]
    return Looks(stats.information(sizes[0], sizes[1], rule.k or 1))


def _counts(
    rule: Rule, run: RunCounts, known: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    return run.column(str(rule.of.column))[known].astype(np.int64), run.n[known]


def _same_draw(first: Scorecard, second: Scorecard) -> bool:
    """Whether these are the same rollouts, and not only equal counts: then the difference has no error."""
    return first.problems == second.problems and all(
        getattr(first.run, key) == getattr(second.run, key) for key in SAME_DRAW
    )


def _decided(undecided: Sequence[tuple[Finding, Looks, _Asked]], level: float, notes: Iterable[str]) -> Check:
    adjusted = stats.holm([finding.p_value for finding, *_ in undecided]).tolist()
    findings = []
    for (finding, looks, asked), p_holm in zip(undecided, adjusted, strict=True):
        outcome: Outcome = "cannot_tell"
        if finding.worse_by > finding.tolerance and p_holm <= 1 - level:
            outcome = "regression"
        elif finding.high <= finding.tolerance:
            outcome = "ok"
        decided = msgspec.structs.replace(finding, p_holm=p_holm, outcome=outcome)
        if outcome == "cannot_tell" and finding.at_most is None:  # more rollouts would not make the bounds equal
            enough = needed(finding, looks, level, len(undecided))
            more = next_look(finding, enough, (asked.baseline, asked.run))
            decided = msgspec.structs.replace(decided, needed=enough, next_look=more)
        findings.append(decided)
    outcomes = {finding.outcome for finding in findings}
    worst: Outcome = next((name for name in WORST_FIRST if name in outcomes), "ok")
    return Check(schema=SCHEMA, outcome=worst, level=level, findings=tuple(findings), notes=tuple(dict.fromkeys(notes)))


def _labels(asked: _Asked) -> str:
    return f"{asked.baseline.label} and {asked.run.label}"
