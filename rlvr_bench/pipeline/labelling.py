"""The verb ``audit``: a random sample of rollouts for a person or a judge to label, and how often the verifier errs by it."""

from __future__ import annotations

import collections
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from rlvr_bench.errors import RunError
from rlvr_bench.importers.counted_runs import holds_counts
from rlvr_bench.labelling.labels import Label, add_labels, labels_of_responses, read_label_file, read_labels
from rlvr_bench.labelling.sampling import AuditSample, draw_sample, read_sample, rollout_keys
from rlvr_bench.measured_error import AuditCell, MeasuredError
from rlvr_bench.pipeline.judging import judged_rollouts
from rlvr_bench.records import Estimate, Outcomes
from rlvr_bench.reporting.label_page import write_label_page
from rlvr_bench.scorecard import Scorecard
from rlvr_bench.scorers.audited_rates import audit_cells, rate_estimates
from rlvr_bench.scorers.common import clusters_of
from rlvr_bench.scorers.counts import depends_on_results
from rlvr_bench.scorers.solve_rate import default_ks
from rlvr_bench.scorers.table import Given
from rlvr_bench.scorers.true_solves import error_of_labels, error_of_rates
from rlvr_bench.store import open_run
from rlvr_bench.store.outcomes import read_outcomes
from rlvr_bench.store.run import Run

__all__ = ["LabelAudit", "audit_labels", "labelled_error", "rated_error"]

SAMPLE = 300


class LabelAudit(msgspec.Struct, frozen=True, kw_only=True):
    """The state of an audit: ``sampled`` rollouts, of which ``labelled`` have a label and ``unsure`` none but "unsure".

    ``cells``: the labels by kind of verdict. ``rates``: the rates of false positives and of false negatives; empty while
    a kind of verdict has no label (``missing`` names them). ``html``: the page that was written.
    """

    run: str
    seed: int
    sampled: int
    labelled: int
    unsure: int
    outside: int
    by: dict[str, int]
    cells: tuple[AuditCell, ...]
    missing: tuple[str, ...]
    rates: tuple[Estimate, ...]
    html: Path | None = None


def audit_labels(
    run: str | Path,
    sample: int | None = None,
    seed: int = 0,
    *,
    labels: Sequence[Path] = (),
    judged: bool = False,
    html: Path | None = None,
) -> LabelAudit:
    """Sample rollouts of a graded run to be labelled, store labels, and estimate how often its verifier errs.

    ``sample``: how many rollouts to sample, the same number of each kind of verdict; None keeps the sample that there is,
    and draws 300 where there is none. ``labels``: JSONL files to store (``labelling.read_label_file``). ``judged``: take
    the decisions of the run's judge (``judge``) on sampled rollouts without a label. ``html``: a page to label the
    sample on. Raises RunError where the run is not graded or has no rollouts, DataError for labels that are damaged, of
    another run, or contradict each other, BadArgument, StorageError.
    """
    opened = open_run(run)
    if holds_counts(opened):
        raise RunError(f"{run}: it has counts alone, no rollouts to label")
    outcomes = read_outcomes(opened)
    plan = read_sample(opened)
    if sample is not None or plan is None:
        plan = draw_sample(opened, outcomes, SAMPLE if sample is None else sample, seed)
    for file in labels:
        add_labels(opened, outcomes, read_label_file(file), str(file))
    if judged:
        _add_judged(opened, outcomes, plan)
    if html is not None:
        write_label_page(opened, plan, html)
    return _state(opened, outcomes, plan, html)


def labelled_error(run: Run, outcomes: Outcomes, ks: Sequence[int] | None = None) -> MeasuredError:
    """The verifier's error on a run from its stored labels. Raises RunError where there are too few."""
    plan = read_sample(run)
    if plan is None or not read_labels(run).labels:
        raise RunError(
            f"{run.path}: no labels. `rlvr-bench audit {run.path} --html FILE` makes a page to label a sample on, "
            "`--label FILE` reads the labels."
        )
    fair = Given(outcomes=outcomes).fair().outcomes
    n = fair.n_samples
    by = _counted_names(run, fair, plan)
    try:
        return error_of_labels(
            fair,
            labels_of_responses(run, fair),
            _chances(fair, plan),
            default_ks(int(n[n > 0].min())) if ks is None else ks,
            by,
            clusters_of(fair),
        )
    except RunError as error:
        raise RunError(f"{run.path}: {error}") from error


def rated_error(card: Scorecard, rates: tuple[float, float], ks: Sequence[int] | None = None) -> MeasuredError:
    """The same for rates that are given, from a scorecard's counts. Raises RunError where n depends on the verdicts."""
    drawn = [entry for entry in card.problems if entry.n]
    n, c = (np.array([getattr(entry, name) for entry in drawn], dtype=np.int64) for name in ("n", "c"))
    if card.run.stopping is not None or depends_on_results(c, n, [entry.id for entry in drawn]) is not None:
        raise RunError(
            "given rates need a number of rollouts that no verdict decided; with labels (`--verifier-error labels`) the "
            "first rollouts of each problem are used"
        )
    counts = {entry.id: (entry.n, entry.c, min(entry.error or 0, entry.n - entry.c)) for entry in drawn}
    return error_of_rates(counts, rates, default_ks(int(n.min())) if ks is None else ks)


def _chances(outcomes: Outcomes, plan: AuditSample) -> dict[int, float]:
    """The chance of each sampled rollout, by row."""
    number = {name: i for i, name in enumerate(outcomes.problem_ids)}
    row = {key: i for i, key in enumerate(rollout_keys(outcomes).tolist())}
    rows = [row.get(number.get(rollout.problem_id, -1) << 32 | rollout.index) for rollout in plan.rollouts]
    return {at: rollout.chance for at, rollout in zip(rows, plan.rollouts, strict=True) if at is not None}


def _counted_names(run: Run, outcomes: Outcomes, plan: AuditSample) -> dict[str, int]:
    """The decided labels of sampled rollouts, by who gave them."""
    sampled = {(rollout.problem_id, rollout.index) for rollout in plan.rollouts}
    stored = read_labels(run).labels
    return dict(
        collections.Counter(
            label.by for label in stored if label.right is not None and (label.problem_id, label.index) in sampled
        )
    )


def _add_judged(run: Run, outcomes: Outcomes, plan: AuditSample) -> None:
    result = judged_rollouts(run, outcomes)
    if result is None:
        raise RunError(f"{run.path}: no judge has seen every correct rollout. Run `rlvr-bench judge {run.path}` first.")
    judging, judged = result
    by_row = labels_of_responses(run, outcomes)
    name = f"judge {judging.judge}"
    add_labels(
        run,
        outcomes,
        [
            Label(
                problem_id=outcomes.problem_ids[outcomes.problem[row]],
                index=int(outcomes.index[row]),
                right=None if judged.undecided[row] else bool(judged.valid[row]),
                by=name,
            )
            for row in _chances(outcomes, plan)
            if outcomes.is_correct[row] and by_row.get(row) is None
        ],
        name,
    )


def _state(run: Run, outcomes: Outcomes, plan: AuditSample, html: Path | None) -> LabelAudit:
    fair = Given(outcomes=outcomes).fair().outcomes
    labels, chances = labels_of_responses(run, fair), _chances(fair, plan)
    known = {row: right for row, right in labels.items() if right is not None}
    cells = audit_cells(fair, known, chances)
    missing = tuple(cell.name for cell in cells if not cell.labelled)
    return LabelAudit(
        run=str(run.path),
        seed=plan.seed,
        sampled=len(chances),
        labelled=sum(row in chances for row in known),
        unsure=sum(right is None and row in chances for row, right in labels.items()),
        outside=sum(row not in chances for row in known),
        by=_counted_names(run, fair, plan),
        cells=cells,
        missing=missing,
        rates=() if missing else rate_estimates(cells),
        html=html,
    )
