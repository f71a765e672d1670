"""The use of an import: grade it again, compare it with a run drawn here, export and import counts."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from rlvr_bench import RlvrBenchError, SampleOptions, evaluate
from rlvr_bench.comparison import Incomparable, compare
from rlvr_bench.errors import DataError, RunError
from rlvr_bench.pipeline import grade, sample, score
from rlvr_bench.pipeline.importing import ImportOptions, import_run
from rlvr_bench.store.outcomes import read_outcomes
from rlvr_bench.store.run import open_run
from tests.importers.made import WRITERS, counts_of, jsonl, nemo_line, table


def options(out: Path, **more: Any) -> ImportOptions:
    return ImportOptions(**{"model": "my/model", "task": "arithmetic", "out": out / "runs", **more})


def numbers(run: Path) -> list[tuple[int, int]]:
    """(n, c) by the number in the question."""
    questions = {problem.id: int(problem.question.split()[-1][:-1]) for problem in open_run(run).problems()}
    rows = {questions[problem["id"]]: (problem["n"], problem["c"]) for problem in score(run).problems}
    return [rows[i] for i in sorted(rows)]


def last_number(folder: Path) -> str:
    """A task whose verifier takes the last word, or what is boxed there, for the answer."""
    file = folder / "last_number.py"
    file.write_text(
        "from rlvr_bench import Case, Generated, Problem, Task, Verdict\n\n\n"
        "def judge(response, problem):\n"
        "    said = response.split()[-1].removeprefix('\\\\boxed{').rstrip('}')\n"
        "    return Verdict(status='correct' if said == problem.answer else 'wrong', answer=said)\n\n\n"
        "TASK = Task(name='last_number', version='1', summary='Numbers.', gold='It is {answer}', verifier=judge,\n"
        "    source=Generated(generate=lambda: [Problem(id='only', question='1?', answer='1')], rows=1, sha256=None),\n"
        "    cases=(Case('It is 1', 'correct'),))\n"
    )
    return str(file) if file.is_absolute() else f"./{file}"


def refusing(folder: Path) -> str:
    """A task whose verifier accepts no answer but that of its own problem."""
    file = folder / "strict.py"
    text = Path(last_number(folder)).read_text()
    file.write_text(text.replace("'last_number'", "'strict'").replace("problem.answer else", "'1?' else"))
    return str(file)


def test_the_same_responses_get_our_verdicts_with_regrade(tmp_path: Path) -> None:
    rows = table()
    # Their verdicts are all wrong; the responses and gold answers show what is right.
    folder = tmp_path / "files"
    for k in range(8):
        lines = [nemo_line(i, row[k], k, symbolic_correct=row[k] != "c") for i, row in enumerate(rows)]
        jsonl(folder / f"output-rs{k}.jsonl", lines)
    theirs = import_run([folder], options(tmp_path, model="theirs"))
    assert numbers(theirs.run) == [(n, n - c) for n, c in counts_of(rows)]
    ours = import_run([folder], options(tmp_path, model="ours", task=last_number(tmp_path), regrade=True))
    assert numbers(ours.run) == counts_of(rows)
    assert ours.scorecard.run["grading"]["verifier"] == "function"
    assert ours.scorecard.quality["several_answers_rate"] == 0.0, "our verifier tells it"


def test_an_import_under_a_task_of_ours_can_be_graded_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = table(seed=3)
    monkeypatch.chdir(tmp_path)
    run = import_run([WRITERS["nemo-skills"][0](tmp_path / "f", rows)], options(tmp_path, task=last_number(Path()))).run
    monkeypatch.chdir("/")
    before = score(run).run["grading"]["verifier"]
    with pytest.raises(RunError, match="Name its file to go on: --task FILE"):
        grade(run)
    _, flips = grade(run, task=last_number(tmp_path))
    assert (before, score(run).run["grading"]["verifier"], flips) == ("imported:nemo-skills", "function", [])
    assert numbers(run) == counts_of(rows)


@pytest.mark.parametrize(
    ("name", "task", "match"),
    [
        (
            "nemo-skills",
            "arithmetic",
            "its verdicts are those of nemo-skills. To grade it here, import it again with --task",
        ),
        ("counts", "last_number", "imported counts without responses"),
        ("evalplus", "last_number", "12 problems have no gold answer"),
        ("nemo-skills", "strict", "does not accept 12 of 12 gold answers"),
    ],
)
def test_what_cannot_be_graded_is_refused(name: str, task: str, match: str, tmp_path: Path) -> None:
    write, verdict = WRITERS[name]
    verdict = "plus" if name == "evalplus" else verdict
    named = {"last_number": last_number, "strict": refusing}.get(task, lambda _: task)(tmp_path)
    run = import_run([write(tmp_path / "files", table())], options(tmp_path, task=named, verdict=verdict)).run
    with pytest.raises(RunError, match=match):
        grade(run, task=named if named.endswith(".py") else None)
    card = score(run)
    assert card.run["grading"]["verifier"] == f"imported:{name}", "their verdicts stay in force"


def test_regrade_wants_a_task_of_ours_and_leaves_nothing_where_it_is_refused(tmp_path: Path) -> None:
    source = WRITERS["nemo-skills"][0](tmp_path / "files", table())
    with pytest.raises(RlvrBenchError, match="--task is 'arithmetic': must be a task whose verifier"):
        import_run([source], options(tmp_path, regrade=True))
    with pytest.raises(DataError, match="12 of 12 problems are not in double_countdown"):
        import_run([source], options(tmp_path, task="double_countdown", regrade=True))
    with pytest.raises(RunError, match="does not accept"):
        import_run([source], options(tmp_path, task=refusing(tmp_path), regrade=True))
    counts = WRITERS["counts"][0](tmp_path / "counts", table())
    with pytest.raises(RunError, match="counts without responses"):
        import_run([counts], options(tmp_path, task=last_number(tmp_path), regrade=True))
    assert not (tmp_path / "runs").exists() or not list((tmp_path / "runs").rglob("*"))


@pytest.mark.parametrize("name", ["lighteval", "lm-eval"])
def test_responses_without_a_verdict_each_are_graded_here(name: str, tmp_path: Path) -> None:
    rows = table(seed=4)
    source = WRITERS[name][0](tmp_path / "files", rows)
    if name == "lm-eval":
        for file in source.rglob("samples_*"):
            lines = [json.loads(line) for line in file.read_text().splitlines()]
            jsonl(file, [{**line, "resps": [[*line["resps"][0], *line["resps"][0]]]} for line in lines])
        rows = [row + row for row in rows]
    result = import_run([source], options(tmp_path, task=last_number(tmp_path), regrade=True))
    assert numbers(result.run) == counts_of(rows)


def test_counts_out_of_a_run_of_ours_and_in_again(tmp_path: Path) -> None:
    _, ours = evaluate("fake", "double_countdown", SampleOptions(n=16, limit=40, out=tmp_path / "runs"))
    with (tmp_path / "counts.csv").open("w", newline="") as out:
        writer = csv.DictWriter(out, ["problem_id", "n", "c", "tier"], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(
            {"problem_id": problem.id, "n": problem.n, "c": problem.c, "tier": problem.tier}
            for problem in ours.problems
        )
    again = import_run([tmp_path / "counts.csv"], options(tmp_path, task="double_countdown")).scorecard
    expected = {problem["id"]: (problem["n"], problem["c"]) for problem in ours.problems}
    assert {problem["id"]: (problem["n"], problem["c"]) for problem in again.problems} == expected
    named = {(estimate.name, estimate.k, estimate.group): estimate for estimate in ours.estimates}
    for estimate in again.estimates:
        twin = named[estimate.name, estimate.k, estimate.group]
        assert (estimate.value, estimate.low, estimate.high) == pytest.approx((twin.value, twin.low, twin.high)), (
            estimate.name
        )


def test_counts_with_clusters_widen_the_intervals(tmp_path: Path) -> None:
    rows = [(f"p{i}", 16, 12 if i < 20 else 2, f"paper {i // 5}") for i in range(40)]
    for name, width in (("alone", 3), ("grouped", 4)):
        lines = [",".join(map(str, row[:width])) for row in (("problem_id", "n", "c", "cluster"), *rows)]
        (tmp_path / f"{name}.csv").write_text("\n".join(lines) + "\n")
    alone, grouped = (
        import_run([tmp_path / f"{name}.csv"], options(tmp_path, model=name, task=name))
        for name in ("alone", "grouped")
    )
    assert [each.cluster for each in grouped.scorecard.problems] == [row[3] for row in sorted(rows)]
    first, second = (next(e for e in each.scorecard.estimates if e.name == "pass@k") for each in (alone, grouped))
    assert second.value == first.value
    assert (second.high or 0) - (second.low or 0) > 1.2 * ((first.high or 0) - (first.low or 0))
    assert "clusters of problems" in (second.note or "")
    assert score(grouped.run).problems == grouped.scorecard.problems


def test_problems_of_the_files_compare_with_a_run_of_ours_only_after_naming_what_differs(tmp_path: Path) -> None:
    ours, card = evaluate("fake", "double_countdown", SampleOptions(n=16, limit=40, out=tmp_path / "runs"))
    (tmp_path / "counts.csv").write_text(
        "problem_id,n,c\n" + "".join(f"{each['id']},{each['n']},{each['c']}\n" for each in card.problems)
    )
    theirs = import_run([tmp_path / "counts.csv"], options(tmp_path, task="countdown")).run
    with pytest.raises(
        Incomparable, match="task: fake has double_countdown, .* task_version: fake has 1, my/model has unknown; "
    ) as caught:
        compare([ours, theirs])
    comparison = compare([ours, theirs], allow=list(caught.value.differing))
    assert all(difference.value == 0 for difference in comparison.pairs[0].pass_at_k)
    assert any("task_version differs, as allowed" in note for note in comparison.notes)


def test_drawing_to_an_import_is_refused(tmp_path: Path) -> None:
    (tmp_path / "counts.csv").write_text("problem_id,n,c\ndc-0000,4,2\n")
    import_run([tmp_path / "counts.csv"], options(tmp_path, model="fake", task="double_countdown"))
    with pytest.raises(RunError, match="holds another run .*imported: run has 'counts', asked None"):
        sample("fake", "double_countdown", SampleOptions(n=16, limit=4, out=tmp_path / "runs"))


def test_the_problem_set_is_the_same_whatever_the_order(tmp_path: Path) -> None:
    rows = table(seed=7)
    digests = []
    for order in (1, -1):
        lines = [nemo_line(i, row[k], k) for k in range(8) for i, row in enumerate(rows)][::order]
        file = jsonl(tmp_path / f"{order}" / "output-rs0.jsonl", lines)
        result = import_run([file], options(tmp_path, model=f"m{order}"))
        digests.append(result.scorecard.run["problems_sha256"])
    other = jsonl(tmp_path / "other" / "output-rs0.jsonl", [nemo_line(i, "c", 0) for i in range(13)])
    digests.append(import_run([other], options(tmp_path, model="other")).scorecard.run["problems_sha256"])
    assert digests[0] == digests[1] != digests[2]


def test_votes_are_counted_where_every_answer_is_known_and_only_there(tmp_path: Path) -> None:
    rows = ["cccwwwww", "cwwwwwww"]
    write, _ = WRITERS["nemo-skills"]
    known = import_run([write(tmp_path / "known", rows)], options(tmp_path, model="known"))
    assert "maj@k" in {estimate.name for estimate in known.scorecard.estimates}
    folder = tmp_path / "unknown"
    for k in range(8):
        lines = [nemo_line(i, row[k], k, predicted_answer=None, id=i) for i, row in enumerate(rows)]
        judged = [{"is_correct": line.pop("symbolic_correct"), **line} for line in lines]
        jsonl(folder / f"output-rs{k}.jsonl", judged)
    unknown = import_run([folder], options(tmp_path, model="unknown"))
    assert "answer" in read_outcomes(open_run(unknown.run)).unknown
    names = {estimate.name for estimate in unknown.scorecard.estimates}
    assert not {"maj@k", "distinct_answers@k", "answer_entropy", "guess@k"} & names
    assert [problem["c"] for problem in unknown.scorecard.problems] == [3, 1]


def test_a_failed_import_leaves_no_folder(tmp_path: Path) -> None:
    (tmp_path / "counts.csv").write_text("problem_id,n,c\np1,4,4\np2,4,9\n")
    with pytest.raises(RlvrBenchError, match=r"line 3: c is 9"):
        import_run([tmp_path / "counts.csv"], ImportOptions(model="m", task="t", out=tmp_path / "new" / "runs"))
    assert [file.name for file in tmp_path.iterdir()] == ["counts.csv"]
