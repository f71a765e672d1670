"""What programs report of their rollouts is compared with the unbiased values; known biases are named."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rlvr_bench.pipeline.importing import Imported, ImportOptions, import_run
from tests.importers.made import Table, counts_of, eval_log, inspect_sample, jsonl, table
from tests.importers.programs import EVERY_WRITER
from tests.importers.test_layouts import inspect_json

ROWS = table(seed=2, problems=10, n=8)


def unbiased(rows: Table, k: int) -> float:
    """pass@k by enumeration of the subsets of k rollouts."""
    return sum(1 - math.comb(n - c, k) / math.comb(n, k) for n, c in counts_of(rows)) / len(rows)


def notes_of(source: Path, out: Path, verdict: str | None = None, **options: Any) -> list[str]:
    """The notes about numbers that the program reports."""
    chosen = ImportOptions(**{"model": "m", "task": "t", "out": out / "runs", "verdict": verdict, **options})
    result: Imported = import_run([source], chosen)
    return [note for note in result.notes if "unbiased value" in note or "the unbiased " in note]


def nemo_skills(source: Path, shift: float) -> Path:
    folder = next(source.rglob("output-rs0.jsonl")).parent
    modes = {f"pass@{k}": {"symbolic_correct": 100 * (unbiased(ROWS, k) + shift)} for k in range(1, 9)}
    modes |= {f"pass@1[avg-of-{k}]": {"symbolic_correct": 100 * (unbiased(ROWS, 1) + shift)} for k in (8,)}
    (folder / "metrics.json").write_text(json.dumps({folder.name: modes, "other": {}}))
    return source


def lm_eval(source: Path, shift: float) -> Path:
    for i, file in enumerate(sorted(source.rglob("results_*.json"))):
        value = sum(row[i] == "c" for row in ROWS) / len(ROWS) + shift
        facts = json.loads(file.read_text()) | {"results": {"arithmetic": {"exact_match,strict-match": value}}}
        file.write_text(json.dumps(facts))
    return source


def evalplus(source: Path, shift: float) -> Path:
    file = source / "samples_eval_results.json"
    values = {"plus": {"pass@1": unbiased(ROWS, 1) + shift}, "base": {"pass@1": 0.0}}
    file.write_text(json.dumps(json.loads(file.read_text()) | {"pass_at_k": values}))
    return source


def livecodebench(source: Path, shift: float) -> Path:
    file = next(source.rglob("*_eval_all.json"))
    values = {f"pass@{k}": unbiased(ROWS, k) + shift for k in (1, 5)}
    file.with_name(file.name.replace("_eval_all", "_eval")).write_text(json.dumps([{**values, "detail": {}}, {}, []]))
    return source


def verifiers(source: Path, shift: float) -> Path:
    file = source / "metadata.json"
    values = {str(k): unbiased(ROWS, k) + shift for k in (1, 2, 4, 8)}
    file.write_text(json.dumps(json.loads(file.read_text()) | {"pass_at_k": values, "pass_threshold": 0.5}))
    return source


def evalscope(source: Path, shift: float) -> Path:
    value = round(unbiased(ROWS, 1) + shift, 4)
    older = {"name": "mean_acc", "num": 80, "score": value, "categories": []}
    newer = {"identity": {"name": "acc", "aggregation": "pass_at_k", "dimensions": {"k": 4}}, "num": 10}
    newer["score"] = round(unbiased(ROWS, 4) + shift, 4)
    folder = source / "reports" / "my-model"
    folder.mkdir(parents=True)
    (folder / "arithmetic.json").write_text(json.dumps({"name": "x", "metrics": [older, newer]}))
    (folder / "other.json").write_text(json.dumps({"name": "x", "metrics": [{**older, "score": 0.123}]}))
    return source


def inspect(source: Path, shift: float) -> Path:
    for log in source.glob("*.eval"):
        log.unlink()
    samples = [inspect_sample(i, letter, k) for i, row in enumerate(ROWS) for k, letter in enumerate(row)]
    scores = [
        {"name": "match", "reducer": None, "metrics": {"accuracy": {"value": unbiased(ROWS, 1) + shift}}},
        {"name": "match", "reducer": "pass_at_4", "metrics": {"accuracy": {"value": unbiased(ROWS, 4) + shift}}},
    ]
    file = inspect_json(source / "a.json", samples)
    file.write_text(json.dumps(json.loads(file.read_text()) | {"results": {"scores": scores}}))
    return source


REPORTERS: dict[str, Callable[[Path, float], Path]] = {
    "nemo-skills": nemo_skills,
    "lm-eval": lm_eval,
    "evalplus": evalplus,
    "livecodebench": livecodebench,
    "verifiers": verifiers,
    "evalscope": evalscope,
    "inspect": inspect,
}


@pytest.mark.parametrize("name", REPORTERS)
def test_an_unbiased_number_is_recognised_and_another_is_not(name: str, tmp_path: Path) -> None:
    write, verdict = EVERY_WRITER[name]
    source = REPORTERS[name](write(tmp_path / "files", ROWS), 0.0)
    (note,) = notes_of(source, tmp_path, verdict)
    assert note.endswith(("the unbiased value, as here", "unbiased values, as here"))
    assert f"{unbiased(ROWS, 1):.2%}" in note
    shifted = REPORTERS[name](write(tmp_path / "shifted", ROWS), -0.02)
    notes = notes_of(shifted, tmp_path, verdict, model="shifted")
    assert notes
    assert all("not the unbiased value" in note for note in notes)
    assert any(
        f"{unbiased(ROWS, 1) - 0.02:.2%}, the unbiased pass@1 is {unbiased(ROWS, 1):.2%}" in note for note in notes
    )


def test_the_log_of_an_archive_of_inspect_has_its_results_in_the_header(tmp_path: Path) -> None:
    samples = {
        f"{i}_epoch_{k}": inspect_sample(i, letter, k) for i, row in enumerate(ROWS) for k, letter in enumerate(row)
    }
    scores = [{"name": "match", "metrics": {"accuracy": {"value": unbiased(ROWS, 1)}}}]
    facts = {"task": "arithmetic", "model": "my/model", "packages": {}}
    header = {"version": 2, "status": "success", "eval": facts, "results": {"scores": scores}}
    (note,) = notes_of(eval_log(tmp_path / "a.eval", dict(samples), header), tmp_path, "match")
    assert "match (mean)" in note


def test_the_first_rollout_alone_is_named_in_qwens_accuracy(tmp_path: Path) -> None:
    (note,) = notes_of(EVERY_WRITER["qwen-math"][0](tmp_path / "files", ROWS), tmp_path)
    first = sum(row[0] == "c" for row in ROWS) / len(ROWS)
    assert f"acc {first:.2%}, the unbiased pass@1 is {unbiased(ROWS, 1):.2%}: it counts the first rollout" in note


def test_the_bootstrap_of_verl_is_named(tmp_path: Path) -> None:
    source = EVERY_WRITER["verl"][0](tmp_path / "validation", ROWS)
    best = unbiased(ROWS, 8) - 0.03
    data = {
        "val-core/math/acc/mean@8": unbiased(ROWS, 1),
        "val-core/math/acc/best@8/mean": best,
        "val-core/math/acc/best@8/std": 0.1,
        "val-aux/math/score/mean@8": 0.99,
        "actor/loss": 0.5,
    }
    log = [{"step": 30, "data": {**data, "val-core/math/acc/mean@8": 0.0}}, {"step": 40, "data": data}]
    jsonl(tmp_path / "experiment.jsonl", log)
    same, biased = notes_of(source, tmp_path)
    assert "mean@8" in same
    assert f"best@8/mean {best:.2%}, the unbiased pass@8 is {unbiased(ROWS, 8):.2%}: a bootstrap estimate" in biased
    assert "drawn with replacement: biased low" in biased


def test_what_evalscope_left_out_is_said(tmp_path: Path) -> None:
    source = evalscope(EVERY_WRITER["evalscope"][0](tmp_path / "files", ROWS), 0.05)
    notes = notes_of(source, tmp_path)
    assert any("over 80 of them; it leaves out what it could not score" in note for note in notes)


def test_votes_over_the_first_rollouts_alone_are_named(tmp_path: Path) -> None:
    source = EVERY_WRITER["nemo-skills"][0](tmp_path / "files", ROWS)
    folder = next(source.rglob("output-rs0.jsonl")).parent
    modes = {f"majority@{k}": {"symbolic_correct": 50.0} for k in (4, 8)}
    (folder / "metrics.json").write_text(json.dumps({"arithmetic": modes}))
    notes = notes_of(source, tmp_path)
    assert any("majority@4 50.00%" in note and "over the first 4 rollouts alone" in note for note in notes)


SUMMARIES = [
    "nothing", "[]", "{}", '{"arithmetic": 7}', '{"results": [], "pass_at_k": {"x": 1, "1": "a", "2": 7, "4": null}}',
    '{"arithmetic": {"pass@4": {"symbolic_correct": "a"}, "pass@1[avg-of-0]": {"symbolic_correct": 3}}, "x": 1}',
    '{"metrics": [7, {"name": 3, "score": []}, {"identity": 1}]}', "[" * 100_000, '{"acc": NaN}', '{"acc": 1e999}',
]  # fmt: skip


@pytest.mark.parametrize("content", SUMMARIES)
@pytest.mark.parametrize("name", ["nemo-skills", "qwen-math", "verifiers", "evalscope", "livecodebench"])
def test_a_summary_that_says_nothing_is_passed_over(name: str, content: str, tmp_path: Path) -> None:
    from tests.importers.test_hostile_programs import rollout_files

    source = EVERY_WRITER[name][0](tmp_path / "files", ROWS[:2])
    file = rollout_files(source, name)[0]
    reports = source / "reports" / "my-model"
    reports.mkdir(parents=True)
    targets = {
        "nemo-skills": file.with_name("metrics.json"),
        "qwen-math": file.with_name(f"{file.stem}_cot_metrics.json"),
        "verifiers": file.with_name("metadata.json"),
        "evalscope": reports / "arithmetic.json",
        "livecodebench": file.with_name(file.name.replace("_eval_all", "_eval")),
    }
    for old in file.parent.glob("*metrics.json"):
        old.unlink()
    targets[name].write_text(content)
    from rlvr_bench.importers import FORMATS

    chosen = next(known for known in FORMATS if known.name == name)
    assert list(chosen.printed([file], {"nemo-skills": "symbolic_correct"}.get(name, "acc"))) == []


def test_a_hostile_name_is_shown_in_one_line(tmp_path: Path) -> None:
    source = EVERY_WRITER["evalscope"][0](tmp_path / "files", ROWS)
    folder = source / "reports" / "my-model"
    folder.mkdir(parents=True)
    metric = {"name": "mean_acc\x1b[2J\n" + "x" * 10_000, "num": ["\x1b"] * 1000, "score": 0.01}
    (folder / "arithmetic.json").write_text(json.dumps({"metrics": [metric]}))
    (note,) = notes_of(source, tmp_path)
    assert "\x1b" not in note
    assert "\n" not in note
    assert len(note) < 500
