"""The audit stage: a seeded sample of a run's verdicts, compared again by other means."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from rlvr_bench.auditing import Audit, audit_run, read_audit
from rlvr_bench.errors import BadArgument, RunError, VerifierError
from rlvr_bench.grading import grade_run
from rlvr_bench.records import Draw, Problem, Status, Verdict
from rlvr_bench.store import Manifest, Run, RunWriter
from rlvr_bench.store.verdicts import VerdictRow, Verdicts
from rlvr_bench.verifiers import open_verifier

Row = tuple[str, str | None, Status]  # answer's problem, answer, verdict


@pytest.fixture
def run(
    tmp_path: Path, problems: list[Problem], make_manifest: Callable[..., Manifest], make_draw: Callable[..., Draw]
) -> Run:
    """Four problems (answers 1 to 4), eight rollouts each, which answer 0 to 7."""
    with RunWriter(tmp_path / "run", make_manifest(), problems) as writer:
        for problem in problems:
            writer.add(make_draw(problem.id, 0, 8))
    return writer.run


def given(run: Run, rows: list[Row], verifier: str = "math") -> None:
    """Put these verdicts in force."""
    verdicts = Verdicts(run, verifier, "1", {})
    verdicts.append(
        [VerdictRow(name, i, i, Verdict(status=status, answer=text), 1) for i, (name, text, status) in enumerate(rows)]
    )
    verdicts.publish(len(rows), 0.0)


def test_a_sound_grading_has_no_disagreement(run: Run) -> None:
    grade_run(run, open_verifier("math"))
    audit = audit_run(run, sample=100)
    assert (audit.pairs, audit.sample, audit.agree, audit.disagree, audit.unknown) == (32, 32, 32, 0, 0)
    assert audit.rate == 0
    assert audit.low == 0
    assert audit.high == pytest.approx(1.959964**2 / (32 + 1.959964**2), abs=1e-6)  # Wilson's closed form at zero
    assert audit.disagreements == []
    assert read_audit(run) == audit


def test_planted_errors_are_found_and_counted_with_their_rollouts(run: Run) -> None:
    thrice: list[Row] = [("p0", "1", "correct")] * 3
    twice: list[Row] = [("p0", "\\frac{2}{2}", "wrong")] * 2
    once: list[Row] = [("p1", "3", "correct"), ("p2", "three", "wrong"), ("p3", "4.0", "correct")]
    given(run, [*thrice, *twice, *once, ("p3", "4", "error"), ("p3", None, "no_answer")])
    audit = audit_run(run, sample=50)
    assert (audit.pairs, audit.agree, audit.disagree, audit.unknown) == (5, 2, 2, 1)
    assert audit.rate == 0.5
    assert audit.low == pytest.approx(0.150, abs=1e-3)  # Wilson, 2 of 4
    assert audit.high == pytest.approx(0.850, abs=1e-3)
    result = {(item.problem_id, item.index, item.gold, item.answer): item for item in audit.disagreements}
    missed, passed = result["p0", 3, "1", "\\frac{2}{2}"], result["p1", 5, "2", "3"]
    assert (missed.verdict, missed.second_opinion, missed.rollouts) == ("wrong", "correct", 2)
    assert (passed.verdict, passed.second_opinion, passed.rollouts) == ("correct", "wrong", 1)


def test_the_sample_depends_on_seed_and_content_not_on_order(run: Run) -> None:
    rows: list[Row] = [("p0", str(i), "correct") for i in range(2, 60)]
    given(run, rows)
    first, other_seed = audit_run(run, sample=10, seed=1), audit_run(run, sample=10, seed=2)
    answers = {item.answer for item in first.disagreements}
    assert len(answers) == first.sample == first.disagree == 10
    assert answers != {item.answer for item in other_seed.disagreements}
    (run.path / "grading.json").unlink()
    for shard in (run.path / "verdicts").rglob("*.parquet"):
        shard.unlink()
    given(run, rows[::-1])
    assert {item.answer for item in audit_run(run, sample=10, seed=1).disagreements} == answers


def test_every_pair_is_drawn_as_often_as_any_other(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rlvr_bench.auditing.audit_many", lambda pairs, workers, timeout_s: ["disagree"] * len(pairs))
    given(run, [("p0", str(i), "correct") for i in range(10) for _ in range(1 + 20 * (i == 0))])
    drawn = [item.answer for seed in range(60) for item in audit_run(run, sample=4, seed=seed).disagreements]
    assert len(drawn) == 240
    for i in range(10):
        assert 9 <= drawn.count(str(i)) <= 39  # 24 expected, standard deviation 3.8


def test_what_cannot_be_read_leaves_the_rate_undefined(run: Run) -> None:
    given(run, [("p0", "north", "wrong")])
    audit = audit_run(run)
    assert (audit.unknown, audit.rate, audit.low, audit.high) == (1, None, None, None)


def test_an_audit_belongs_to_the_verdicts_it_was_made_for(run: Run) -> None:
    assert read_audit(run) is None
    given(run, [("p0", "1", "correct")])
    audit_run(run)
    given(run, [("p0", "1", "correct")], verifier="integer")
    assert read_audit(run) is None
    (run.path / "audit.json").write_text("{")
    with pytest.raises(RunError, match="damaged"):
        read_audit(run)


def test_the_file_is_plain_json(run: Run) -> None:
    given(run, [("p0", "2", "correct")])
    audit_run(run, sample=3, seed=9)
    written = msgspec.json.decode((run.path / "audit.json").read_bytes())
    assert (written["schema"], written["seed"], written["asked"], written["sample"]) == (1, 9, 3, 1)
    assert written["disagreements"][0]["answer"] == "2"
    assert msgspec.convert(written, Audit).disagree == 1


def test_what_cannot_be_audited_says_why(run: Run) -> None:
    with pytest.raises(RunError, match="not graded yet. Run `rlvr-bench grade"):
        audit_run(run)
    given(run, [("p0", "1", "correct")], verifier="code")
    with pytest.raises(VerifierError, match="the verifier 'code' cannot be audited.*exact, integer, math"):
        audit_run(run)
    with pytest.raises(BadArgument, match="sample is 0"):
        audit_run(run, sample=0)
