"""The audit by labels: the sample, label files, what score makes of them, and the page to label on."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlvr_bench import pipeline
from rlvr_bench.errors import DataError, RlvrBenchError, RunError
from rlvr_bench.grading import grade_run
from rlvr_bench.labelling.cells import CELLS, cell_of_rollouts
from rlvr_bench.labelling.labels import read_labels
from rlvr_bench.labelling.sampling import read_sample, sampling_chances
from rlvr_bench.pipeline.labelling import audit_labels
from rlvr_bench.records import Problem, Verdict
from rlvr_bench.store import RunWriter
from rlvr_bench.store.outcomes import read_outcomes
from rlvr_bench.store.run import Run, open_run
from rlvr_bench.store.verdicts import VerdictRow, Verdicts
from rlvr_bench.verifiers import open_verifier
from tests.conftest import draw_of, manifest_with, run_verb

N = 16
HOSTILE = "</script><img src=x onerror=alert(1)><!--"
PROBLEMS = [Problem(id=f"p{i}", question=f"What is 1 + 1? {HOSTILE}", answer="2") for i in range(6)]


def text_of(name: str, index: int) -> str:
    """Problem p0 is right once, p1 to p4 half of the time, p5 never; some wrong answers are common, some rare."""
    right = index == 0 if name == "p0" else index % 2 == 0 and name != "p5"
    if index == 15:
        return f"no idea {HOSTILE}"
    return f"so \\boxed{{{2 if right else 7 if index < 8 else 100 + index}}}"


@pytest.fixture
def run(tmp_path: Path) -> Run:
    path = tmp_path / "run"
    with RunWriter(path, manifest_with(n=N, task="math500"), PROBLEMS) as writer:
        for problem in PROBLEMS:
            writer.add(draw_of(problem.id, 0, N, functools.partial(text_of, problem.id)))
    opened = open_run(path)
    grade_run(opened, open_verifier("integer"))
    return opened


def write_labels(run: Run, file: Path, right: Callable[[str, int], bool | None], by: str = "ann") -> Path:
    """Labels of the whole sample."""
    sample = read_sample(run)
    assert sample is not None
    rows = [
        {"problem_id": r.problem_id, "index": r.index, "right": right(r.problem_id, r.index), "by": by}
        for r in sample.rollouts
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def is_right(name: str, index: int) -> bool:
    return "{2}" in text_of(name, index)


def test_cells_are_by_verdict_rarity_and_what_hangs_on_a_rollout(run: Run) -> None:
    outcomes = read_outcomes(run)
    names = [CELLS[cell].name for cell in cell_of_rollouts(outcomes)]
    by_rollout = dict(zip(zip(outcomes.problem.tolist(), outcomes.index.tolist(), strict=True), names, strict=True))
    assert by_rollout[0, 0] == "correct, the problem's only one"
    assert by_rollout[1, 0] == "correct, other"
    assert by_rollout[1, 1] == "wrong, other"
    assert by_rollout[1, 9] == "wrong, rare answer"
    assert by_rollout[1, 15] == "no answer"


def test_a_larger_sample_contains_a_smaller_one_and_chances_add_up_to_the_cells(run: Run) -> None:
    outcomes = read_outcomes(run)
    few, many = (sampling_chances(outcomes, size) for size in (10, 40))
    assert 10 <= np.count_nonzero(few) <= 12
    assert (many[few > 0] >= few[few > 0]).all()
    cell = cell_of_rollouts(outcomes)
    for chances in (few, many):
        for kind in np.unique(cell[cell >= 0]).tolist():
            sampled = chances[(cell == kind) & (chances > 0)]
            assert (1 / sampled).sum() == pytest.approx((cell == kind).sum())
    assert (sampling_chances(outcomes, 10, seed=1) > 0).tolist() != (few > 0).tolist()


def test_labels_that_agree_leave_every_number_as_it_is(run: Run, tmp_path: Path) -> None:
    audit_labels(run.path, 60)
    state = audit_labels(run.path, labels=[write_labels(run, tmp_path / "l.jsonl", is_right)])
    assert state.missing == ()
    assert all(rate.value == 0 for rate in state.rates)
    card = pipeline.score(run.path, verifier_error="labels")
    error = card.verifier_error
    assert error is not None
    for estimate in error.pass_at_k:
        plain = card.pass_at(estimate.k or 0)
        assert estimate.value == pytest.approx(plain.value)
        assert plain.low is not None
        assert (estimate.low or 0) <= plain.low + 1e-9
    assert error.by == {"ann": state.labelled}
    assert pipeline.score(run.path).verifier_error is None


def test_false_positives_lower_pass_at_k_and_the_only_correct_rollout_falls(run: Run, tmp_path: Path) -> None:
    """Everything is labelled: p0 was accepted once by mistake."""
    audit_labels(run.path, 1000)
    truth = lambda name, index: is_right(name, index) and name != "p0"  # noqa: E731
    audit_labels(run.path, labels=[write_labels(run, tmp_path / "l.jsonl", truth)])
    card = pipeline.score(run.path, verifier_error="labels")
    error = card.verifier_error
    assert error is not None
    assert error.pass_at_k[-1].k == N
    assert error.pass_at_k[-1].value == pytest.approx(4 / 6)
    assert card.pass_at(N).value == pytest.approx(5 / 6)
    assert error.false_positives[0].value == pytest.approx(1 / (6 * N - 32))
    assert error.explained == ("p0",)


def test_labels_stay_after_new_verdicts_and_count_in_the_new_cells(run: Run, tmp_path: Path) -> None:
    audit_labels(run.path, 1000)
    audit_labels(run.path, labels=[write_labels(run, tmp_path / "l.jsonl", is_right)])
    outcomes = read_outcomes(run)
    verdicts = Verdicts(run, "integer", "2", {})
    texts = {(t["problem_id"], t["index"]): t["text_hash"] for table in run.rollouts.read() for t in table.to_pylist()}
    verdicts.append(
        [
            VerdictRow(name, i, text_hash, Verdict(status="wrong", answer=str(i)), 1)
            for (name, i), text_hash in texts.items()
        ]
    )
    verdicts.publish(len(texts), 0.0)
    state = audit_labels(run.path)
    assert {cell.name for cell in state.cells} == {"wrong, rare answer"}
    assert state.cells[0].misjudged == outcomes.n_correct.sum()
    assert state.rates[3].value == 1  # every right rollout is called wrong


def test_unsure_is_no_label_and_unlabelled_kinds_are_refused(run: Run, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no labels"):
        pipeline.score(run.path, verifier_error="labels")
    audit_labels(run.path, 40)
    state = audit_labels(run.path, labels=[write_labels(run, tmp_path / "l.jsonl", lambda name, index: None)])
    assert (state.labelled, state.unsure) == (0, state.sampled)
    assert state.rates == ()
    with pytest.raises(RunError, match="no label of a sampled rollout for: correct, the problem's only one; "):
        pipeline.score(run.path, verifier_error="labels")


def line(**changed: Any) -> str:
    return json.dumps({"problem_id": "p0", "index": 0, "right": True, "by": "ann"} | changed) + "\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (line(problem_id="q"), "has no rollout 0 of problem 'q'"),
        (line(index=99), "has no rollout 99 of problem 'p0'"),
        (line(text_hash="12"), "has another response"),
        (line() + line(right=False), "is right by ann and wrong by ann"),
        (line() + line(right=False, by="bob"), "is right by ann and wrong by bob"),
        (line(right="yes"), "line 1: not a label"),
        (line(by=" "), "needs a name in `by`"),
        ("\n" + "{" * 5000, "line 2: not a label"),
        ("", "no labels in it"),
        ("x" * 200_000, "line 1: too large"),
    ],
)
def test_labels_that_cannot_be_used_are_one_line_and_none_is_stored(
    run: Run, tmp_path: Path, content: str, message: str
) -> None:
    file = tmp_path / "labels.jsonl"
    file.write_text(content)
    with pytest.raises(DataError) as caught:
        audit_labels(run.path, labels=[file])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert read_labels(run).labels == ()


def test_a_changed_mind_replaces_a_label_and_another_person_may_not_contradict_it(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "labels.jsonl"
    for right in (True, False):
        file.write_text(line(right=right))
        audit_labels(run.path, labels=[file])
        assert [label.right for label in read_labels(run).labels] == [right]
    file.write_text(line(right=True, by="bob"))
    with pytest.raises(DataError, match="with the labels stored before: rollout 0 of problem 'p0' is wrong by ann"):
        audit_labels(run.path, labels=[file])


@pytest.mark.parametrize("rates", [(-0.1, 0.0), (0.7, 0.4)])
def test_impossible_rates_are_refused(run: Run, rates: tuple[float, float]) -> None:
    with pytest.raises(RlvrBenchError, match="two rates of at least 0 with a sum below 1"):
        pipeline.score(run.path, verifier_error=rates)


def test_given_rates_of_zero_give_the_plain_numbers(run: Run) -> None:
    card = pipeline.score(run.path, verifier_error=(0.0, 0.0))
    assert card.verifier_error is not None
    for estimate in card.verifier_error.pass_at_k:
        plain = card.pass_at(estimate.k or 0)
        assert (estimate.value, estimate.low, estimate.high) == pytest.approx((plain.value, plain.low, plain.high))


def test_the_verbs_print_the_state_and_the_page_holds_hostile_texts_as_data(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.html"
    assert run_verb("audit", str(run.path), "--sample", "50", "--html", str(page), "--json") == 0
    assert json.loads(capsys.readouterr().out)["missing"]
    html = page.read_text()
    assert "onerror" in html
    assert "<img" not in html
    assert html.count("</script>") == 2
    assert "script-src &#39;sha256-" in html
    labels = write_labels(run, tmp_path / "l.jsonl", is_right)
    assert run_verb("audit", str(run.path), "--label", str(labels)) == 0
    assert "false positive rate: 0.00%" in capsys.readouterr().out
    assert run_verb("score", str(run.path), "--verifier-error", "labels") == 0
    assert "with its error" in capsys.readouterr().out
    assert run_verb("score", str(run.path), "--verifier-error", "1,2,3") == 2
