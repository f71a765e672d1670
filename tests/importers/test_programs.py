"""What is special in the files of single programs: sessions, copies, failures, missing verdicts, fractional rewards."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rlvr_bench.errors import BadArgument, DataError
from rlvr_bench.importers import FORMATS, Response
from rlvr_bench.importers.files import choose_files
from rlvr_bench.importers.messages import sent
from rlvr_bench.pipeline.importing import Imported, ImportOptions, import_run
from rlvr_bench.store.prompt_files import read_prompts
from rlvr_bench.store.run import open_run
from tests.importers.made import counts_of, jsonl, table
from tests.importers.programs import EVERY_WRITER, episode, qwen_line, verl_generation, verl_sessions
from tests.importers.test_formats import by_number
from tests.importers.test_use import last_number


def imported(*sources: Path, out: Path, **options: Any) -> Imported:
    return import_run(sources, ImportOptions(**{"model": "m", "task": "t", "out": out / "runs", **options}))


def responses(source: Path, verdict: str | None = None) -> list[Response]:
    """The entries of the files, before they are stored."""
    chosen, files, _ = choose_files([source], FORMATS, None)
    _, files = chosen.survey(files)
    entries = [entry for file in files for entry in chosen.read(file, verdict, False)]
    assert all(isinstance(entry, Response) for entry in entries)
    return [entry for entry in entries if isinstance(entry, Response)]


def test_a_session_of_verl_is_one_rollout_its_last_output(tmp_path: Path) -> None:
    rows = ["ccww", "wwwc"]
    result = imported(verl_sessions(tmp_path / "files", rows), out=tmp_path)
    assert by_number(result) == counts_of(rows) == [(4, 2), (4, 1)]
    entries = responses(tmp_path / "files")
    assert {entry.question for entry in entries} == {f"user\nWhat is {i}?\nassistant\n" for i in (0, 1)}
    assert all(entry.text.startswith("Rollout") for entry in entries)


def test_sessions_of_verl_that_are_torn_apart_are_refused(tmp_path: Path) -> None:
    file = verl_sessions(tmp_path / "files", ["cw"], outputs=2) / "40.jsonl"
    lines = file.read_text().splitlines()
    file.write_text("\n".join([lines[0], lines[2], lines[1], lines[3]]))
    with pytest.raises(DataError, match=r"line 3: session '0+-0000-4000-8000-0+_0' again"):
        responses(file)
    file.write_text("\n".join([lines[0], lines[0]]))
    with pytest.raises(DataError, match="has one output twice"):
        responses(file)


@pytest.mark.parametrize("uid", ["plain", "a_b_c", "x_1", "x_1_-2", "x_1_\u0663", 7, None])
def test_other_ids_of_verl_are_no_sessions(uid: object, tmp_path: Path) -> None:
    lines = [{"input": "What is 1?", "output": str(k), "score": 1, "step": 1, "gts": "1", "uid": uid} for k in range(3)]
    assert len(responses(jsonl(tmp_path / "1.jsonl", lines))) == 3


@pytest.mark.parametrize(("pred", "uid", "answer"), [(None, "u", ""), (None, "u_0_0", None), ("7", "u", "7")])
def test_a_null_of_verl_is_no_answer_but_not_where_the_trainer_pads(
    pred: str | None, uid: str, answer: str | None, tmp_path: Path
) -> None:
    line = {"input": "What is 1?", "output": "x", "score": 0, "step": 1, "gts": "1", "uid": uid, "pred": pred}
    assert responses(jsonl(tmp_path / "1.jsonl", [line]))[0].answer == answer


def test_files_without_verdicts_are_graded_by_a_task(tmp_path: Path) -> None:
    rows = table(seed=4)
    folder = verl_generation(tmp_path / "verl", rows)
    for options in ({}, {"task": "t", "model": None}):
        with pytest.raises(
            BadArgument, match=r"must name a task whose verifier .*: verl-generation files hold no verdicts"
        ):
            imported(folder, out=tmp_path, **options)
    with pytest.raises(DataError, match="no verdict 'acc'"):
        imported(folder, out=tmp_path, task=last_number(tmp_path), verdict="acc")
    ours = imported(folder, out=tmp_path, task=last_number(tmp_path))
    assert by_number(ours) == counts_of(rows)
    tora = [{name: value for name, value in qwen_line(i, row).items() if name != "score"} for i, row in enumerate(rows)]
    again = imported(
        jsonl(tmp_path / "tora.jsonl", tora), out=tmp_path, model="tora", task=last_number(tmp_path), regrade=True
    )
    assert by_number(again) == counts_of(rows)
    assert sorted(problem.answer for problem in open_run(again.run).problems()) == sorted(map(str, range(12)))


@pytest.mark.parametrize(("name", "values"), [("pred", 3), ("score", 1), ("score", 0)])
def test_unequal_lists_of_qwen_are_refused(name: str, values: int, tmp_path: Path) -> None:
    line = qwen_line(1, "cw")
    line[name] = (line[name] * 2)[:values]
    with pytest.raises(DataError, match=rf"line 1: {values} values in {name}, but 2 responses in code"):
        responses(jsonl(tmp_path / "test.jsonl", [line]))


def test_what_qwen_writes_again_after_a_restart_counts_once(tmp_path: Path) -> None:
    long = [qwen_line(i, "cw", code=[f"Long {i} {k}. " * 50 for k in range(2)]) for i in range(3)]
    jsonl(tmp_path / "test_cot_-1_seed0_t1.0_s0_e2.jsonl", long[:2])
    jsonl(tmp_path / "test_cot_-1_seed0_t1.0_s0_e3.jsonl", long)
    result = imported(tmp_path, out=tmp_path)
    assert by_number(result) == [(2, 1)] * 3
    assert any("4 responses are copies" in note for note in result.notes)
    short = [qwen_line(0, "cw")]
    jsonl(tmp_path / "short" / "test_cot_-1_seed0_t1.0_s0_e1.jsonl", short)
    jsonl(tmp_path / "short" / "test_cot_-1_seed1_t1.0_s0_e1.jsonl", [{**short[0], "report": []}])
    assert by_number(imported(tmp_path / "short", out=tmp_path, model="short")) == [(4, 2)], "equal by chance"


def test_data_sets_of_qwen_are_imported_one_at_a_time(tmp_path: Path) -> None:
    for name in ("aime24", "math500"):
        jsonl(tmp_path / name / "test_cot_-1_seed0_t1.0_s0_e-1.jsonl", [qwen_line(1 + len(name), "cw")])
    with pytest.raises(DataError, match=r"several data sets \(aime24, math500\)"):
        imported(tmp_path, out=tmp_path)
    assert imported(tmp_path / "aime24", out=tmp_path, task=None).run.name == "aime24"


def test_rollouts_that_failed_before_anything_was_drawn_are_missing_not_wrong(tmp_path: Path) -> None:
    source = EVERY_WRITER["verifiers"][0](tmp_path / "files", ["cw", "cc"])
    lines = [json.loads(line) for line in (source / "results.jsonl").read_text().splitlines()]
    lines[1] |= {"completion": None, "reward": 0.0, "error": {"error": "ModelError"}}
    jsonl(source / "results.jsonl", lines)
    assert by_number(imported(source, out=tmp_path)) == [(1, 1), (2, 2)]
    failed = episode(0, "w", 1)
    failed["traces"][0]["nodes"].pop()
    empty = {**episode(0, "w", 2), "traces": [], "ok": False}
    traces = jsonl(tmp_path / "traces.jsonl", [episode(0, "c", 0), failed, empty])
    assert by_number(imported(traces, out=tmp_path, model="traces")) == [(1, 1)]
    gym = EVERY_WRITER["nemo-gym"][0](tmp_path / "gym", ["cw"])
    attempts = [json.loads(line) for line in (gym / "rollouts.jsonl").read_text().splitlines()]
    jsonl(gym / "rollouts_failures.jsonl", [{**line, "_ng_failure_class": "timeout"} for line in attempts])
    result = imported(gym, out=tmp_path, model="gym")
    assert by_number(result) == [(2, 1)]
    assert any("attempts that failed" in note for note in result.notes)


def test_weighted_rewards_of_verifiers_are_summed_and_single_ones_can_be_chosen(tmp_path: Path) -> None:
    line = episode(0, "c", 0)
    line["traces"][0]["rewards"] = {"correct": {"score": 1.0, "weight": 0.9}, "format": {"score": 1.0, "weight": 0.1}}
    file = jsonl(tmp_path / "traces.jsonl", [line])
    assert (responses(file)[0].status, responses(file)[0].reward) == ("correct", 1.0)
    line["traces"][0]["rewards"]["format"]["score"] = 0.0
    jsonl(file, [line])
    assert (responses(file)[0].status, responses(file)[0].reward) == (None, 0.9)
    assert responses(file, "correct")[0].status == "correct"
    with pytest.raises(DataError, match="no verdict 'nonsense'"):
        responses(file, "nonsense")
    line["traces"][0]["rewards"] = {"correct": None}
    jsonl(file, [line])
    assert (responses(file)[0].status, responses(file)[0].verdict) == (None, "")


def test_the_trace_of_a_judge_is_no_rollout(tmp_path: Path) -> None:
    line = episode(0, "c", 0)
    judge = {**episode(0, "w", 1)["traces"][0], "agent": {"config": {}, "name": "judge"}, "rewards": {}}
    line["traces"].append(judge)
    entries = responses(jsonl(tmp_path / "traces.jsonl", [line]))
    assert [entry.status for entry in entries] == ["correct"]


def test_what_prime_rl_trained_on_is_not_read_twice(tmp_path: Path) -> None:
    lines = [episode(0, letter, k) for k, letter in enumerate("cw")]
    for subset in ("all", "effective"):
        jsonl(tmp_path / "step_4" / "eval" / subset / "traces.jsonl", lines[: 2 if subset == "all" else 1])
    result = imported(tmp_path, out=tmp_path)
    assert by_number(result) == [(2, 1)]
    assert any("the same episodes are in all/" in note for note in result.notes)


def test_predictions_of_evalscope_alone_have_no_verdicts(tmp_path: Path) -> None:
    source = EVERY_WRITER["evalscope"][0](tmp_path / "files", ["cw", "wc"])
    with pytest.raises(DataError, match="predictions without verdicts.*reviews/"):
        imported(source / "predictions", out=tmp_path)
    result = imported(source, out=tmp_path, model=None, task=None)
    assert result.run.parts[-2:] == ("my-model", "arithmetic")


def test_a_score_of_evalscope_that_failed_is_no_verdict(tmp_path: Path) -> None:
    source = EVERY_WRITER["evalscope"][0](tmp_path / "files", ["cw", "wc"]) / "reviews"
    file = source / "my-model" / "arithmetic_easy.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    lines[0]["sample_score"]["score"] |= {"value": {}, "status": "judge_error"}
    jsonl(file, lines)
    result = imported(source, out=tmp_path)
    assert sorted(problem.error or 0 for problem in result.scorecard.problems) == [0, 1]
    lines[0]["sample_score"]["score"] |= {"value": {"strict": 1.0, "loose": 0.0}, "main_score_name": "strict"}
    jsonl(file, lines[:1])
    assert responses(file)[0].status == "correct"
    lines[0]["sample_score"]["score"]["main_score_name"] = None
    jsonl(file, lines[:1])
    with pytest.raises(DataError, match="several verdicts .'strict', 'loose'"):
        responses(file)


def test_rewards_other_than_0_and_1_need_a_rule_which_the_message_names(tmp_path: Path) -> None:
    """Rewards as verl's geo3k gives them: 0.9 for the answer and 0.1 for the format."""
    rewards = {"c": (0.9, 1.0), "w": (0.1, 0.0)}
    rows = table(seed=3)
    lines = [
        {"input": f"What is {i}?", "output": f"{k}", "gts": str(i), "score": rewards[letter][k % 2], "step": 1}
        for i, row in enumerate(rows)
        for k, letter in enumerate(row)
    ]
    folder = jsonl(tmp_path / "files" / "1.jsonl", lines).parent
    assert by_number(imported(folder, out=tmp_path, correct=">=0.9")) == counts_of(rows)
    partly = imported(folder, out=tmp_path, model="partly")
    assert any("have no verdict" in note and "--correct '>=0.9'" in note for note in partly.notes)
    jsonl(folder / "1.jsonl", [line for line in lines if line["score"] in (0.1, 0.9)])
    with pytest.raises(DataError, match=r"a verdict of its own. Its rewards such as 0.*--correct '>=0.9'"):
        imported(folder, out=tmp_path, model="none")


@pytest.mark.parametrize("name", ["qwen-math", "verifiers", "verifiers-traces", "nemo-gym", "evalscope", "verl"])
def test_a_rule_decides_in_every_format_whose_verdicts_are_numbers(name: str, tmp_path: Path) -> None:
    write, verdict = EVERY_WRITER[name]
    source = write(tmp_path / "files", ["cw", "wc"])
    asked = "score" if name == "verl" else verdict
    result = imported(source, out=tmp_path, verdict=asked, correct=">=-10")
    assert by_number(result) == [(2, 2), (2, 2)]


@pytest.mark.parametrize("name", ["lm-eval", "verifiers", "nemo-gym", "verl-generation"])
def test_what_the_model_was_sent_is_kept_where_the_files_hold_it(name: str, tmp_path: Path) -> None:
    if name == "verl-generation":
        source = verl_generation(tmp_path / "files", ["c", "w"])
        run = imported(source, out=tmp_path, task=last_number(tmp_path), regrade=True).run
    else:
        write, verdict = EVERY_WRITER[name]
        run = imported(write(tmp_path / "files", ["c", "w"]), out=tmp_path, verdict=verdict).run
    asked = [{"role": "user", "content": "What is 0?"}]
    expected = {
        "lm-eval": "0 shots: What is 0?",
        "verifiers": [{"role": "system", "content": "Be brief."}, *asked],
        "nemo-gym": [{"role": "developer", "content": "Be brief."}, *asked],
        "verl-generation": asked,
    }
    prompts = read_prompts(open_run(run))
    assert len(prompts) == 2
    assert expected[name] in prompts.values()


@pytest.mark.parametrize("prompt", [None, "", [], [7], [{"role": "user"}], [{"role": 1, "content": "x"}], {"a": 1}])
def test_a_prompt_that_is_no_text_and_no_messages_is_none(prompt: object) -> None:
    assert sent(prompt) is None


def test_hostile_names_of_several_models_stay_in_one_line(tmp_path: Path) -> None:
    gym = EVERY_WRITER["nemo-gym"][0](tmp_path / "files", ["cw"])
    line = json.loads((gym / "rollouts.jsonl").read_text().splitlines()[0])
    line["response"]["model"] = "a\n\x1b[2J" + "m" * 10_000
    jsonl(gym / "others.jsonl", [line])
    with pytest.raises(DataError, match="rollouts of several models") as caught:
        imported(gym, out=tmp_path)
    assert "\n" not in str(caught.value)
    assert "\x1b" not in str(caught.value)
    assert len(str(caught.value)) < 600
