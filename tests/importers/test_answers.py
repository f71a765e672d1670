"""What an answer is: marks for "no answer" are none, and a rate that a program's files do not give has no value."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rlvr_bench.pipeline.importing import Imported, ImportOptions, import_run
from rlvr_bench.store.outcomes import read_outcomes
from rlvr_bench.store.run import open_run
from tests.importers.made import WRITERS, jsonl, nemo_line, table

ROWS = ["cnnn", "ccnw", "nnnw"]


def imported(source: Path, out: Path, **options: Any) -> Imported:
    return import_run([source], ImportOptions(**{"model": "m", "task": "t", "out": out, **options}))


def estimate(result: Imported, name: str, k: int | None = None) -> float | None:
    values = [known.value for known in result.scorecard.estimates if known.name == name and k in (None, known.k)]
    assert len(values) == 1, (name, k)
    return values[0]


@pytest.mark.parametrize("name", ["lm-eval", "nemo-skills", "verl"])
def test_a_mark_for_no_answer_is_no_vote(name: str, tmp_path: Path) -> None:
    write, verdict = WRITERS[name]
    result = imported(write(tmp_path / "files", ROWS), tmp_path, verdict=verdict)
    assert estimate(result, "maj@k", 4) == pytest.approx(2 / 3)
    assert result.scorecard.quality["no_answer_rate"] == pytest.approx(7 / 12)
    assert estimate(result, "no_answer_rate") == pytest.approx(7 / 12)
    assert sorted(problem.no_answer or 0 for problem in result.scorecard.problems) == [1, 3, 3]


@pytest.mark.parametrize("mark", [None, "", "  "])
def test_an_empty_answer_of_nemo_skills_is_none(mark: str | None, tmp_path: Path) -> None:
    lines = [nemo_line(1, "w", k, predicted_answer=mark if k else "7") for k in range(4)]
    result = imported(jsonl(tmp_path / "output-rs0.jsonl", lines), tmp_path)
    assert result.scorecard.quality["no_answer_rate"] == 0.75


def test_an_answer_that_is_the_whole_long_response_was_not_extracted(tmp_path: Path) -> None:
    text = "First I add the numbers. " * 20
    lines = [nemo_line(1, "w", 0, generation=text, predicted_answer=text)]
    lines.append(nemo_line(2, "w", 0, generation="Paris", predicted_answer="Paris"))
    run = imported(jsonl(tmp_path / "output-rs0.jsonl", lines), tmp_path).run
    outcomes = read_outcomes(open_run(run))
    assert sorted(outcomes.answer) == [-1, 0]
    assert {"answer", "no_answer"} <= set(outcomes.unknown)


@pytest.mark.parametrize("name", ["evalplus", "inspect"])
def test_a_rate_that_is_not_known_has_no_value_anywhere(name: str, tmp_path: Path) -> None:
    write, verdict = WRITERS[name]
    result = imported(write(tmp_path / "files", table()), tmp_path, verdict=verdict)
    assert result.scorecard.quality["no_answer_rate"] is None
    rate = next(known for known in result.scorecard.estimates if known.name == "no_answer_rate")
    assert (rate.value, rate.low, rate.high) == (None, None, None)
    assert {problem.no_answer for problem in result.scorecard.problems} == {None}
    shown = {
        verb: subprocess.run(
            [sys.executable, "-m", "rlvr_bench", *verb.split(), str(result.run)],
            capture_output=True,
            text=True,
            env={"COLUMNS": "300", "PATH": "", "PYTHONPATH": str(Path.cwd())},
            check=True,
        ).stdout
        for verb in ("score", "leaderboard --format tsv")
    }
    assert "no answer" not in shown["score"]
    header, row = (line.split("\t") for line in shown["leaderboard --format tsv"].splitlines()[:2])
    assert dict(zip(header, row, strict=True)).get("no_answer_rate", "") in ("", "–")
