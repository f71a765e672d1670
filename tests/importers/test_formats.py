"""Each program's files end to end: the scorecard's n and c are those of the table the files were made from."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlvr_bench.comparison import compare
from rlvr_bench.errors import DataError, RlvrBenchError
from rlvr_bench.pipeline import score
from rlvr_bench.pipeline.importing import Imported, ImportOptions, import_run
from rlvr_bench.store.outcomes import read_outcomes
from rlvr_bench.store.run import open_run
from tests.importers.made import counts_of, eval_log, inspect_sample, jsonl, nemo_line, table
from tests.importers.programs import EVERY_WRITER as WRITERS

RESPONSES = [name for name in WRITERS if name not in ("counts", "lighteval")]


def imported(source: Path, out: Path, **options: Any) -> Imported:
    return import_run([source], ImportOptions(**{"model": "my/model", "task": "arithmetic", "out": out, **options}))


def by_number(result: Imported) -> list[tuple[int, int]]:
    """(n, c) in the order of the number that problem id or question names."""
    problems = [json.loads(line) for line in (result.run / "problems.jsonl").read_text().splitlines()]
    number = {problem["id"]: int(re.findall(r"\d+", problem["question"] or problem["id"])[0]) for problem in problems}
    rows = {number[entry["id"]]: (entry["n"], entry["c"]) for entry in result.scorecard.problems}
    return [rows[i] for i in sorted(rows)]


@pytest.mark.parametrize("name", WRITERS)
def test_counts_are_those_of_the_files(name: str, tmp_path: Path) -> None:
    write, verdict = WRITERS[name]
    rows = table(seed=len(name))
    result = imported(write(tmp_path / "files", rows), tmp_path, verdict=verdict)
    assert by_number(result) == counts_of(rows)
    run = result.scorecard.run
    assert run["imported"] == name
    assert run["grading"]["verifier"] == f"imported:{name}"
    pass_at_1 = next(
        estimate.value for estimate in result.scorecard.estimates if estimate.name == "pass@k" and estimate.k == 1
    )
    assert pass_at_1 == pytest.approx(np.mean([c / n for n, c in counts_of(rows)]))
    assert score(result.run).problems == result.scorecard.problems


@pytest.mark.parametrize("name", WRITERS)
def test_what_the_files_do_not_say_is_unknown_and_not_zero(name: str, tmp_path: Path) -> None:
    write, verdict = WRITERS[name]
    card = imported(write(tmp_path / "files", table()), tmp_path, verdict=verdict).scorecard
    assert [card.run[field] for field in ("sampling", "seed", "draw_batch", "chat_template")] == [None] * 4
    assert {card.run[field] for field in ("engine", "weights", "dtype", "prompt", "task_version")} == {"unknown"}
    assert not card.run["sessions"]
    values = {estimate.name: estimate.value for estimate in card.estimates}
    assert values.get("token_entropy") is None
    assert card.quality["several_answers_rate"] is None
    known = ("inspect", "verifiers", "verifiers-traces", "nemo-gym", "evalscope")
    assert card.quality["truncation_rate"] == (0.0 if name in known else None)
    tokens = dict.fromkeys(("nemo-skills", *known), 13.5) | {"inspect": 7.0}
    tokens_per_response = tokens.get(name)
    assert card.quality["tokens_per_response"] == tokens_per_response
    if name in ("counts", "lighteval"):
        assert set(card.quality.values()) == {None}
        assert not {"maj@k", "tokens_per_response", "answer_entropy", "error_rate", "guess@k"} & values.keys()


@pytest.mark.parametrize("name", WRITERS)
def test_two_imports_of_the_same_problems_compare(name: str, tmp_path: Path) -> None:
    write, verdict = WRITERS[name]
    runs = [
        imported(write(tmp_path / f"files{seed}", table(seed)), tmp_path, model=f"model{seed}", verdict=verdict).run
        for seed in (1, 2)
    ]
    comparison = compare(runs)
    assert comparison.n_problems == 12
    expected = [np.mean([c / n for n, c in counts_of(table(seed))]) for seed in (1, 2)]
    assert comparison.pairs[0].pass_at_k[0].first == pytest.approx(expected[0])
    assert comparison.pairs[0].pass_at_k[0].second == pytest.approx(expected[1])
    assert not any("they are one run" in note for note in comparison.notes)


@pytest.mark.parametrize("name", ["lm-eval", "inspect", "verifiers"])
def test_model_and_task_come_from_the_files_that_name_them(name: str, tmp_path: Path) -> None:
    write, verdict = WRITERS[name]
    result = imported(write(tmp_path / "files", table()), tmp_path, model=None, task=None, verdict=verdict)
    assert result.run == tmp_path / "my--model" / "arithmetic"
    assert result.scorecard.run["grading"]["version"] in ("0.4.13", "0.3.285", "unknown")


def test_lighteval_names_model_and_task_by_its_folders(tmp_path: Path) -> None:
    result = imported(WRITERS["lighteval"][0](tmp_path / "files", table()), tmp_path, model=None, task=None)
    assert (result.scorecard.run["model"], result.scorecard.run["task"]) == ("my/model", "arithmetic|0")


@pytest.mark.parametrize("name", ["nemo-skills", "evalplus", "verl", "qwen-math", "counts"])
def test_a_model_that_no_file_names_must_be_named(name: str, tmp_path: Path) -> None:
    source = WRITERS[name][0](tmp_path / "files", table())
    with pytest.raises(RlvrBenchError, match="--model is missing: must name the model"):
        imported(source, tmp_path, model=None)


@pytest.mark.parametrize(("name", "choices"), [("lm-eval", 2), ("inspect", 2), ("evalplus", 2)])
def test_several_verdicts_ask_for_a_choice(name: str, choices: int, tmp_path: Path) -> None:
    source = WRITERS[name][0](tmp_path / "files", table())
    with pytest.raises(DataError, match="several verdicts .* Choose one: --verdict") as caught:
        imported(source, tmp_path)
    assert str(caught.value).partition("Choose")[0].count("'") == 2 * choices + ("member '" in str(caught.value)) * 2
    with pytest.raises(DataError, match="no verdict 'nonsense'"):
        imported(source, tmp_path, verdict="nonsense")
    assert not list(tmp_path.glob("**/manifest.json"))


@pytest.mark.parametrize("name", RESPONSES)
def test_rollouts_keep_their_order(name: str, tmp_path: Path) -> None:
    write, verdict = WRITERS[name]
    rows = ["cw" * 6, "wc" * 6]  # twelve: file 10 comes after file 9
    outcomes = read_outcomes(open_run(imported(write(tmp_path / "files", rows), tmp_path, verdict=verdict).run))
    outcomes_by_problem = sorted(
        "".join("cwne"[code] for code in outcomes.status[outcomes.problem == i]) for i in range(2)
    )
    assert outcomes_by_problem == sorted(rows)


def test_half_points_partial_credit_and_silent_judges_are_no_verdicts(tmp_path: Path) -> None:
    judged = [
        nemo_line(0, "m", 0, judgement="Reasoning: fine.\n**Judgement**: Yes"),
        nemo_line(1, "m", 0, judgement="Judgement: no."),
        nemo_line(2, "m", 0, judgement="I would rather not say."),
    ]
    result = imported(jsonl(tmp_path / "output-rs0.jsonl", judged), tmp_path, model="judge")
    assert by_number(result) == [(1, 1), (1, 0), (1, 0)]
    assert [entry["error"] for entry in result.scorecard.problems].count(1) == 1
    assert result.notes == ("1 of 3 responses have no verdict: counted as errors, which are not correct",)
    log = {f"{i}_epoch_1": inspect_sample(i, "c", 1) for i in range(3)}
    for i, value in enumerate(("P", 0.5, 1)):
        log[f"{i}_epoch_1"]["scores"]["match"]["value"] = value
    partial = imported(eval_log(tmp_path / "a.eval", dict(log)), tmp_path, model="partial", verdict="match")
    assert by_number(partial) == [(1, 0), (1, 0), (1, 1)]
    assert "2 of 3 responses have no verdict" in partial.notes[0]


def test_repeats_of_lm_eval_have_no_verdict_each(tmp_path: Path) -> None:
    source = WRITERS["lm-eval"][0](tmp_path / "files", ["c", "w"])
    file = next(source.rglob("samples_*.jsonl"))
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    jsonl(file, [{**line, "resps": [["one", "two"]]} for line in lines])
    with pytest.raises(DataError, match="no response has a verdict of its own"):
        imported(source, tmp_path, verdict="exact_match,strict-match")


@pytest.mark.parametrize("metric", ["maj@n:n=8", "pass@k:k=4&n=8", "avg@n:n=16"])
def test_numbers_of_lighteval_that_give_no_count_of_right_responses(metric: str, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    source = WRITERS["lighteval"][0](tmp_path / "files", table())
    file = next(source.rglob("*.parquet"))
    rows = pq.read_table(file).to_pylist()
    pq.write_table(pa.Table.from_pylist([{**row, "metric": {metric: 0.5}} for row in rows]), file)
    with pytest.raises(DataError, match="is no mean over the 8 responses"):
        imported(source, tmp_path)
