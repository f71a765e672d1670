"""What a mapping says: paths, verdicts and rewards, answers, order and copies, conditions, proposals, files of mappings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rlvr_bench.errors import BadArgument, DataError, RlvrBenchError, UnknownName
from rlvr_bench.importers import Count, Format, Origin, Response
from rlvr_bench.importers.correct_rules import CorrectRule, plain_status
from rlvr_bench.importers.entries import binary
from rlvr_bench.importers.field_paths import UNFOLD, FieldPath, written
from rlvr_bench.importers.guessing import propose
from rlvr_bench.importers.mapping import FieldMapping
from rlvr_bench.importers.reading import Reading
from rlvr_bench.pipeline.importing import Imported, ImportOptions, import_run
from rlvr_bench.pipeline.previewing import preview_import
from rlvr_bench.store.run import open_run
from tests.importers.made import WRITERS, jsonl, table
from tests.importers.made_tables import CONTAINERS, LAYOUTS
from tests.importers.test_tables import entries_of

BASE = "problem=id,text=t,verdict=ok"


def imported(file: Path, out: Path, mapping: Any, **options: Any) -> Imported:
    return import_run(
        [file], ImportOptions(**{"map": mapping, "model": "m", "task": "t", "out": out / "runs", **options})
    )


def read(tmp_path: Path, rows: list[Any], mapping: str, **more: Any) -> list[Any]:
    return entries_of(jsonl(tmp_path / "x.jsonl", rows), mapping, **more)


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("a", ("a",)),
        (" a.b ", ("a", "b")),
        ("a[].b[0].c", ("a", UNFOLD, "b", 0, "c")),
        ("[][-1]", (UNFOLD, -1)),
        ('"a.b".c', ("a.b", "c")),
        (r"a\.b\[\]", ("a.b[]",)),
        (r'"say \"x\"".é', ('say "x"', "é")),
        (r"\#row", ("#row",)),
        ("two words[]", ("two words", UNFOLD)),
    ],
)
def test_paths(text: str, steps: tuple[object, ...]) -> None:
    path = FieldPath.parse(text)
    assert path.steps == steps
    assert FieldPath.parse(written(path.steps)).steps == steps


@pytest.mark.parametrize("text", ["", ".", "a.", ".a", "a..b", "a]", "a[", "a[x]", "a.[]", "a[]b", '"a', "a[0", "a\\"])
def test_what_is_no_path_is_refused(text: str) -> None:
    with pytest.raises(RlvrBenchError) as caught:
        FieldMapping.parse(f"problem=id,verdict={text}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("problm=id,text=t", "unknown field in --map 'problm'. Did you mean 'problem'"),
        ("problem=id,problem=x,text=t", "maps problem twice"),
        ("text=t,verdict=ok", "must map problem= or question="),
        ("problem=id", "must map text= "),
        ("problem=id,n=n", "both n= and c="),
        ("problem=id,n=n,c=c,text=t", "maps counts .* and single rollouts"),
        ("problem=id,verdict=a,reward=b", "maps verdict= and reward="),
        ("problem=id,text=t,reward=b", "say which rewards are correct, such as --correct '>=1'"),
        ("problem", "must be field=path pairs between commas; 'problem' is none"),
        ('problem="id', "quotation mark"),
    ],
)
def test_what_is_no_mapping_is_refused(text: str, match: str) -> None:
    with pytest.raises((BadArgument, UnknownName), match=match):
        FieldMapping.parse(text)


@pytest.mark.parametrize(
    ("value", "status"),
    [
        *(
            (value, "correct")
            for value in (True, 1, 1.0, "true", "True", "correct", "PASS", "passed", "1", "1.0", "yes")
        ),
        *((value, "wrong") for value in (False, 0, 0.0, "false", "incorrect", "failed", "0", "no", "wrong")),
        *((value, None) for value in (None, "", float("nan"), "None", "nan", "NaN", "null")),
    ],
)
def test_plain_verdicts(value: object, status: str | None) -> None:
    assert plain_status(value) == status


@pytest.mark.parametrize("value", [0.9, -1, 2, 10**400, "C", "maybe", [1], {"a": 1}])
def test_other_verdicts_need_a_rule(value: object, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"x\.jsonl, line 2: ok is .*(--correct '>=1'|no single value)"):
        read(tmp_path, [{"id": 1, "t": "x", "ok": 1}, {"id": 1, "t": "x", "ok": value}], BASE)


@pytest.mark.parametrize(
    ("rule", "right", "wrong"),
    [
        (">=0.9", (0.9, 1, "0.95", True), (0.89, 0, "-1", False, "1e-3")),
        ("> 0", (0.001, "5"), (0, -1)),
        ("==2", (2, 2.0, "2"), (1, 3)),
        ("1", (1, 1.0, True, "1.0"), (0, 2)),
        ("C", ("C", "c"), ("I", "N", 1)),
        ("== true", (True, "true"), (False, "no")),
        ("pass", ("pass", "PASS "), ("fail", "passed")),
    ],
)
def test_rules_for_correct(rule: str, right: tuple[object, ...], wrong: tuple[object, ...]) -> None:
    made = CorrectRule.parse(rule)
    assert [made.status(value) for value in right] == ["correct"] * len(right)
    assert [made.status(value) for value in wrong] == ["wrong"] * len(wrong)
    assert made.status(None) is None


def test_a_rule_leaves_what_is_not_there_without_a_verdict() -> None:
    for rule in (">=1", "C"):
        assert {CorrectRule.parse(rule).status(value) for value in (None, "", "nan", "None", float("nan"))} == {None}
    assert CorrectRule.parse("none").status("None") == "correct"


def test_a_number_too_large_for_a_float_compares_with_nothing() -> None:
    with pytest.raises(ValueError, match="is not a number"):
        CorrectRule.parse(">=1").status(10**400)


@pytest.mark.parametrize("rule", ["", ">=", ">=x", "<1", "<=1", "!=0", ">nan", "===1", "score>=1", "1<2"])
def test_what_is_no_rule_is_refused(rule: str) -> None:
    with pytest.raises(BadArgument, match="must be a threshold"):
        CorrectRule.parse(rule)


def test_rewards_become_verdicts_by_a_threshold_that_the_run_keeps(tmp_path: Path) -> None:
    rows = [{"id": 1, "t": f"say {reward}", "r": reward} for reward in (0.9, 1.0, 0.1, 0.0)]
    file = jsonl(tmp_path / "x.jsonl", rows)
    result = imported(file, tmp_path, "problem=id,text=t,reward=r", correct=">=0.9")
    (problem,) = result.scorecard.problems
    assert (problem["n"], problem["c"]) == (4, 2)
    run = open_run(result.run)
    assert run.manifest.asked == {"map": "problem=id,text=t,reward=r", "correct": ">=0.9"}
    assert result.scorecard.run["grading"]["options"] == {"verdict": "r", "correct": ">= 0.9"}
    assert "correct is r >= 0.9" in result.notes
    with pytest.raises(DataError, match="line 3: r is 'much', which is not a number, which --correct '>=0.9' needs"):
        read(tmp_path, [*rows[:2], {"id": 1, "t": "x", "r": "much"}], "problem=id,text=t,reward=r", correct=">=0.9")


def test_a_rule_replaces_the_verdicts_of_a_known_format(tmp_path: Path) -> None:
    rewards = (1.0, 0.9, 0.5, 0.0)
    entries = [
        Response(
            where="x", problem="p", question="", gold="", text="t", reward=reward, status=binary(reward), answer="no"
        )
        for reward in rewards
    ]
    known = Format(name="known", fits=bool, survey=lambda files: (Origin(), list(files)), read=lambda *_: iter(entries))
    plain, ruled = (Reading(known, correct=rule) for rule in (None, CorrectRule.parse(">=0.9")))
    assert [entry.status for entry in responses(plain)] == ["correct", None, None, "wrong"]
    assert [entry.status for entry in responses(ruled)] == ["correct", "correct", "wrong", "wrong"]
    marked = Reading(known, no_answer=("no",))
    assert [(entry.status, entry.answer) for entry in responses(marked)] == [
        ("correct", None),
        (None, None),
        (None, None),
        ("no_answer", None),
    ]
    write, _ = WRITERS["evalplus"]
    options = ImportOptions(model="m", task="t", verdict="plus", correct=">=1", out=tmp_path / "runs")
    with pytest.raises(DataError, match="--correct does not go with evalplus files"):
        import_run([write(tmp_path / "plus", table())], options)


def responses(reading: Reading) -> list[Response]:
    return [entry for entry in reading.entries(Path("x")) if isinstance(entry, Response)]


def test_answers_that_mean_none_and_the_kinds_of_golds(tmp_path: Path) -> None:
    answers = ["7", "", None, "[invalid]", " [INVALID] ", 7, 7.5, ["a", 1], True]
    rows = [{"id": 1, "t": "x", "ok": False, "a": answer} for answer in answers]
    entries = read(tmp_path, rows, f"{BASE},answer=a", no_answer=("[invalid]", "[INVALID]"))
    assert [entry.answer for entry in entries] == ["7", None, None, None, None, "7", "7.5", '["a",1]', "true"]
    assert [entry.status for entry in entries] == ["wrong", *["no_answer"] * 4, *["wrong"] * 4]
    golds = [{"id": 1, "t": "x", "ok": 1, "g": gold} for gold in (18, ["4"], ["4", "5"], None)]
    assert [entry.gold for entry in read(tmp_path, golds, f"{BASE},gold=g")] == ["18", "4", '["4","5"]', ""]


def test_the_response_at_the_end_of_a_conversation_is_no_part_of_the_prompt(tmp_path: Path) -> None:
    sent = [{"role": "user", "content": "What is it?"}, {"role": "assistant", "content": "Which one?"}]
    whole = [*sent, {"role": "user", "content": "That one."}, {"role": "assistant", "content": "4"}]
    rows = [{"id": 1, "t": "4", "ok": 1, "m": whole}, {"id": 1, "t": "5", "ok": 0, "m": sent}]
    first, second = read(tmp_path, rows, f"{BASE},prompt=m")
    assert first.prompt == whole[:-1]
    assert second.prompt == sent


def test_names_numbers_tokens_and_finish_reasons(tmp_path: Path) -> None:
    rows = [
        {"id": identity, "t": "x", "ok": 1, "n": tokens, "f": finish}
        for identity, tokens, finish in (
            (3, 5, True),
            (3.0, 5.0, "length"),
            ("3 ", "5.0", "stop"),
            ("3", [1, 2, 3, 4, 5], "tool_calls"),
            (3, None, None),
        )
    ]
    entries = read(tmp_path, rows, f"{BASE},tokens=n,truncated=f")
    assert {entry.problem for entry in entries} == {"3"}
    assert [entry.n_tokens for entry in entries] == [5, 5, 5, 5, None]
    assert [entry.truncated for entry in entries] == [True, True, False, None, None]


def test_nested_lists_and_lists_over_problems(tmp_path: Path) -> None:
    row = {"problems": [{"id": "a", "out": [["x", "y"], ["z"]]}, {"id": "b", "out": [["w"]]}], "ok": 1}
    entries = read(tmp_path, [row], "problem=problems[].id,text=problems[].out[][],verdict=ok")
    assert [(entry.problem, entry.text) for entry in entries] == [("a", "x"), ("a", "y"), ("a", "z"), ("b", "w")]


def test_objects_unfold_as_lists_of_their_values(tmp_path: Path) -> None:
    row = {"problem": {"0": "a", "1": "b"}, "out": {"0": "x", "1": "y"}, "ok": [1, 0]}
    entries = read(tmp_path, [row], "problem=problem[],text=out[],verdict=ok[]")
    assert [(entry.problem, entry.text, entry.status) for entry in entries] == [
        ("a", "x", "correct"),
        ("b", "y", "wrong"),
    ]


def test_row_key_and_file_names(tmp_path: Path) -> None:
    file = tmp_path / "seed7.json"
    file.write_text(json.dumps({"p/1": ["x", "y"], "p/2": ["z"]}))
    entries = entries_of(file, "problem=#key,text=[],verdict=[],tier=#file", correct="x")
    assert [
        (entry.problem, entry.text, entry.status, entry.tier) for entry in entries if isinstance(entry, Response)
    ] == [
        ("p/1", "x", "correct", "seed7"),
        ("p/1", "y", "wrong", "seed7"),
        ("p/2", "z", "wrong", "seed7"),
    ]


def test_json_in_a_cell_is_read_only_where_the_path_goes_on(tmp_path: Path) -> None:
    rows = [{"id": 1, "t": '["a", "b"]', "ok": "[1, 0]"}]
    unfolded = read(tmp_path, rows, "problem=id,text=t[],verdict=ok[]")
    assert [entry.text for entry in unfolded] == ["a", "b"]
    (whole,) = read(tmp_path, [{**rows[0], "ok": 1}], BASE)
    assert whole.text == '["a", "b"]'
    with pytest.raises(DataError, match=r"line 1: t is a text, and the path 't\[\]' goes on below it"):
        read(tmp_path, [{"id": 1, "t": "['a'", "ok": "[1]"}], "problem=id,text=t[],verdict=ok[]")


def test_a_cell_that_python_printed_is_read_too(tmp_path: Path) -> None:
    texts = ['It\'s "a",\nor \\(x\\) \\n \x07\xe9\U0001f600', 'only "double"', "True, None", ""]
    row = {"id": 1, "t": repr(texts), "ok": "[True, False, None, nan]", "gold": repr({"answer": [1.5e-3, -2]})}
    entries = read(tmp_path, [row], "problem=id,text=t[],verdict=ok[],gold=gold.answer")
    assert [entry.text for entry in entries] == texts
    assert [entry.status for entry in entries] == ["correct", "wrong", None, None]
    assert {entry.gold for entry in entries} == {"[0.0015,-2]"}


@pytest.mark.parametrize(
    "cell", ["['a' 'b']", "[f(1)]", "['a', b]", "[" * 100_000, "['a'] + ['b']", "[array(['a'])]", "{1: 'a'}", "['\\"]
)
def test_a_cell_that_is_no_list_of_plain_values_is_one_line(cell: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"line 1: t is a text, and the path 't\[\]' goes on below it"):
        read(tmp_path, [{"id": 1, "t": cell, "ok": "[1]"}], "problem=id,text=t[],verdict=ok[]")


def test_an_empty_cell_holds_no_rollouts(tmp_path: Path) -> None:
    rows = [{"id": 1, "t": "['a']", "ok": "[1]"}, {"id": 2, "t": "", "ok": ""}]
    assert [entry.text for entry in read(tmp_path, rows, "problem=id,text=t[],verdict=ok[]")] == ["a"]


def test_index_orders_the_rollouts_and_recognises_copies(tmp_path: Path) -> None:
    order = [3, 1, 0, 3, 2]
    rows = [{"id": p, "k": k * 10, "t": f"{p} {k}", "ok": k == 0} for k in order for p in ("a", "b")]
    result = imported(jsonl(tmp_path / "x.jsonl", rows), tmp_path, f"{BASE},index=k")
    (shard,) = open_run(result.run).rollouts.read(["problem_id", "index", "text"])
    held = sorted(zip(*(shard[name].to_pylist() for name in ("problem_id", "index", "text")), strict=True))
    assert held == [(p, k, f"{p} {k}") for p in ("a", "b") for k in range(4)]
    assert [(problem["n"], problem["c"]) for problem in result.scorecard.problems] == [(4, 1), (4, 1)]
    assert "2 rollouts are copies of others, by their index: left out" in result.notes
    changed = jsonl(tmp_path / "y.jsonl", [*rows, {"id": "b", "k": 20, "t": "another", "ok": 1}])
    with pytest.raises(DataError, match=r"y\.jsonl, line 11: problem 'b' has rollout 20 twice, with different texts"):
        imported(changed, tmp_path, f"{BASE},index=k", model="other")
    mixed = jsonl(tmp_path / "z.jsonl", [*rows, {"id": "b", "k": "x20", "t": "another", "ok": 1}])
    with pytest.raises(DataError, match="line 11: index is a number for some rollouts .* and a text for others"):
        imported(mixed, tmp_path, f"{BASE},index=k", model="other")


def test_names_order_rollouts_too(tmp_path: Path) -> None:
    rows = [{"id": 1, "k": name, "t": name, "ok": 1} for name in ("b", "c", "a", "b")]
    run = open_run(imported(jsonl(tmp_path / "x.jsonl", rows), tmp_path, f"{BASE},index=k").run)
    (shard,) = run.rollouts.read(["index", "text"])
    assert sorted(zip(shard["index"].to_pylist(), shard["text"].to_pylist(), strict=True)) == [
        (0, "a"),
        (1, "b"),
        (2, "c"),
    ]


def test_conditions_keep_rollouts_at_every_level(tmp_path: Path) -> None:
    rows = [
        {"id": 1, "split": split, "out": [{"t": f"{split} {m}", "m": m, "ok": 1} for m in ("x", "y")]}
        for split in ("train", "test")
    ]
    mapping = "problem=id,text=out[].t,verdict=out[].ok"
    file = jsonl(tmp_path / "x.jsonl", rows)
    result = imported(file, tmp_path, mapping, where=("split=test", "out[].m=y"))
    assert [problem["n"] for problem in result.scorecard.problems] == [1]
    assert "--where split=test and out[].m=y keeps 1 of 4" in result.notes
    assert open_run(result.run).manifest.asked["where"] == ["split=test", "out[].m=y"]
    ordered = imported(file, tmp_path, f"{mapping},index=out[].m", model="ordered", where=("split=test",))
    assert "--where split=test keeps 2 of 4" in ordered.notes
    with pytest.raises(DataError, match=r"--where split=dev keeps none of 4 rollouts \(split is 'train', 'test'\)"):
        imported(file, tmp_path, mapping, model="other", where=("split=dev",))
    with pytest.raises(BadArgument, match="goes with --map"):
        imported(file, tmp_path, None, where=("split=dev",))
    numbers = read(
        tmp_path, [{"id": 1, "t": "x", "ok": 1, "v": v} for v in (2, 2.0, True, "2", None)], BASE, where=("v=2",)
    )
    assert len(numbers) == 3


def test_conditions_count_once_where_an_index_needs_a_second_pass(tmp_path: Path) -> None:
    rows = [{"id": 1, "k": k, "t": f"{k}", "ok": 1, "m": "xy"[k % 2]} for k in range(6)]
    result = imported(jsonl(tmp_path / "x.jsonl", rows), tmp_path, f"{BASE},index=k", where=("m=x",))
    assert "--where m=x keeps 3 of 6" in result.notes


def test_rollouts_without_responses_become_counts(tmp_path: Path) -> None:
    files = [jsonl(tmp_path / f"{k}.jsonl", [{"id": i, "ok": (i + k) % 3 == 0} for i in range(4)]) for k in range(3)]
    result = import_run(files, ImportOptions(map="problem=id,verdict=ok", model="m", task="t", out=tmp_path / "runs"))
    assert [(problem["n"], problem["c"]) for problem in result.scorecard.problems] == [(3, 1)] * 4
    assert any("counts only" in note for note in result.notes)


def test_a_rollout_that_was_never_drawn_is_no_wrong_one(tmp_path: Path) -> None:
    rows = [{"id": 1, "t": "x", "ok": 1}, {"id": 1, "t": None, "ok": None}, {"id": 1, "t": None, "ok": 0}]
    result = imported(jsonl(tmp_path / "x.jsonl", rows), tmp_path, BASE)
    assert [(problem["n"], problem["c"]) for problem in result.scorecard.problems] == [(2, 1)]
    assert "1 rollouts have neither a response nor a verdict: they count as not drawn" in result.notes


def test_one_rollout_a_problem_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [{"uid": i, "q": "What?", "t": "x", "ok": 1} for i in range(3)]
    imported(jsonl(tmp_path / "x.jsonl", rows), tmp_path, "problem=uid,question=q,text=t,verdict=ok")
    assert "every problem has one rollout (3 problems)" in caplog.text
    assert "Is uid different in every rollout?" in caplog.text


def test_tiers_clusters_and_counts_as_floats(tmp_path: Path) -> None:
    rows = [{"id": i, "n": 4.0, "c": "1.0", "subject": f"s{i % 2}", "level": 5} for i in range(4)]
    entries = read(tmp_path, rows, "problem=id,n=n,c=c,cluster=subject,tier=level")
    assert [(entry.n, entry.c, entry.cluster, entry.tier) for entry in entries if isinstance(entry, Count)] == [
        (4, 1, f"s{i % 2}", "5") for i in range(4)
    ]


def test_counts_of_pandas_and_of_a_spreadsheet_are_known(tmp_path: Path) -> None:
    for name, text in {
        "pandas.csv": ",problem_id,n,c\n0,a,8.0,3.0\n1,b,8.0,0.0\n",
        "sheet.csv": "problem_id;n;c\r\na;8;3\r\nb;8;0\r\n",
        "tabs.tsv": "problem_id\tn\tc\na\t8\t3\nb\t8\t0\n",
    }.items():
        (tmp_path / name).write_text(text)
        result = import_run([tmp_path / name], ImportOptions(model=name, task="t", out=tmp_path / "runs"))
        assert [(problem["n"], problem["c"]) for problem in result.scorecard.problems] == [(8, 3), (8, 0)]


def test_an_optional_field_may_be_absent(tmp_path: Path) -> None:
    assert len(read(tmp_path, [{"id": 1, "t": "x", "ok": 1}], f"{BASE},cluster?=subject")) == 1
    with pytest.raises(DataError, match="unknown field 'subject'"):
        read(tmp_path, [{"id": 1, "t": "x", "ok": 1}], f"{BASE},cluster=subject")


def test_a_mapping_is_kept_in_a_file_and_read_again(tmp_path: Path) -> None:
    rows = [{"a.b": 1, 'say "x"': f"t{k}", "r": k / 2, "said": "none\x7f" if k else "7", "m": "x"} for k in range(3)]
    file, kept = jsonl(tmp_path / "x.jsonl", [*rows, {**rows[0], "m": "y"}]), tmp_path / "map.toml"
    mapping = r'problem="a.b",text="say \"x\"",reward=r,answer=said,tier?=level'
    first = imported(
        file,
        tmp_path,
        mapping,
        correct=">=0.5",
        where=("m=x",),
        no_answer=("none\x7f",),
        save_map=kept,
        model='é \\ "m"',
    )
    again = import_run([file], ImportOptions(map=kept, out=tmp_path / "again"))
    assert again.scorecard.problems == first.scorecard.problems
    assert open_run(again.run).manifest.asked == open_run(first.run).manifest.asked
    assert again.scorecard.run["model"] == 'é \\ "m"'
    other = import_run([file], ImportOptions(map=kept, correct=">=1", model="n", out=tmp_path / "again"))
    assert [problem["c"] for problem in other.scorecard.problems] == [1]
    with pytest.raises(BadArgument, match="exists already"):
        imported(file, tmp_path, mapping, correct=">=0.5", save_map=kept)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("map = 1", "Expected `object`"),
        ("[map]\nproblem = 1", "Expected `str`"),
        ("[map", "not a TOML file"),
        ("[map]\nproblem='a'\n[more]\n", "unknown field `more`"),
        ("x = " + "[" * 100_000, "not a TOML file|Expected"),
    ],
)
def test_a_broken_file_of_a_mapping_is_one_line(text: str, match: str, tmp_path: Path) -> None:
    (tmp_path / "m.toml").write_text(text)
    with pytest.raises(DataError, match=match) as caught:
        imported(jsonl(tmp_path / "x.jsonl", [{"id": 1}]), tmp_path, tmp_path / "m.toml")
    assert "\n" not in str(caught.value)


def test_without_a_verdict_a_task_of_ours_is_asked_for(tmp_path: Path) -> None:
    file = jsonl(tmp_path / "x.jsonl", [{"id": 1, "t": "x"}])
    for options in ({"task": "mine"}, {"task": None, "model": None}):
        with pytest.raises(BadArgument, match="must name a task whose verifier grades these responses"):
            imported(file, tmp_path, "problem=id,text=t", **options)


def test_the_task_has_the_name_of_the_files_where_none_is_given(tmp_path: Path) -> None:
    rows = [{"id": 1, "t": text, "ok": 1} for text in ("x", "y")]
    file = jsonl(tmp_path / "eval.v2.jsonl", rows)
    result = imported(file, tmp_path, BASE, task=None)
    assert open_run(result.run).manifest.task == "eval.v2"
    assert "the task has the name of the files, eval.v2: --task gives it another" in result.notes
    folder = tmp_path / "seeds of step 40"
    folder.mkdir()
    for number in (1, 2):
        jsonl(folder / f"rs{number}.jsonl", [*rows, {"id": 1, "t": f"{number}", "ok": 0}])
    assert open_run(imported(folder, tmp_path, BASE, task=None).run).manifest.task == "seeds of step 40"
    with pytest.raises(BadArgument, match="--task is missing: must name a task whose verifier"):
        imported(file, tmp_path, "problem=id,text=t", task=None)


def test_model_and_task_are_asked_for_together(tmp_path: Path) -> None:
    file = jsonl(tmp_path / "x.jsonl", [{"id": 1, "t": "x", "ok": 1}])
    with pytest.raises(BadArgument, match="--model and --task is missing: must name the model and the task"):
        imported(file, tmp_path, BASE, model=None, task=None)


PROPOSALS: dict[str, tuple[dict[str, Any], str]] = {
    "home-made": (
        {"problem_id": "p1", "prompt": "What is it?", "completion_text": "It is 4", "canonical_answer": "4",
         "canonical_correct": True, "candidate_index": 0},
        "problem=problem_id,question=prompt,gold=canonical_answer,text=completion_text,verdict=canonical_correct,"
        "index=candidate_index",
    ),
    "qwen": (
        {"idx": 0, "question": "What is it?", "gt_cot": "It is 4", "gt": "4", "level": 5, "solution": "So 4.",
         "code": ["It is 4", "It is 5"], "pred": ["4", "5"], "score": [True, False]},
        "problem=idx,question=question,gold=gt,text=code[],answer=pred[],verdict=score[],tier=level",
    ),
    "nested": (
        {"qid": 3, "problem": "What is it?", "ground_truth": "4",
         "rollouts": [{"response": "It is 4", "extracted_answer": "4", "reward": 1.0, "n_tokens": 3}]},
        "problem=qid,question=problem,gold=ground_truth,text=rollouts[].response,answer=rollouts[].extracted_answer,"
        "verdict=rollouts[].reward,tokens=rollouts[].n_tokens",
    ),
    "messages": (
        {"task_id": "t/1",
         "messages": [{"role": "user", "content": "What is it?"}, {"role": "assistant", "content": "It is 4"}],
         "reference": "4", "is_correct": 1},
        "problem=task_id,gold=reference,text=messages[-1].content,verdict=is_correct",
    ),
    "counts": ({"problem": "p1", "num_samples": 8, "num_correct": 3}, "problem=problem,n=num_samples,c=num_correct"),
    "fractions": (
        {"id": 1, "input": "What is it?", "output": "It is 4", "score": 0.9},
        "problem=id,question=input,text=output,reward=score",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PROPOSALS)
def test_a_mapping_is_proposed_that_can_be_used(name: str, tmp_path: Path) -> None:
    row, expected = PROPOSALS[name]
    file = jsonl(tmp_path / "x.jsonl", [row])
    proposal = propose(file)
    assert proposal is not None
    assert proposal.pairs == expected
    assert proposal.correct == (">=0.9" if name == "fractions" else None)
    if name != "qwen":  # a format by itself
        with pytest.raises(DataError, match="Looks like: --map 'problem=") as caught:
            import_run([file], ImportOptions(model="m", task="t", out=tmp_path / "runs"))
        assert str(caught.value).endswith("; try it with --preview")
    assert preview_import([file], ImportOptions(map=proposal.pairs, correct=proposal.correct)).rollouts >= 1


@pytest.mark.parametrize("container", CONTAINERS)
def test_the_proposal_for_a_table_is_the_mapping_that_reads_it(container: str, tmp_path: Path) -> None:
    for layout in ("lists of objects", "parallel lists"):
        lines, mapping = LAYOUTS[layout](table(letters="cwn"))
        file = tmp_path / container
        file.write_bytes(CONTAINERS[container](lines))
        proposal = propose(file)
        assert proposal is not None
        assert proposal.pairs == mapping


def test_an_id_of_the_rollout_is_not_proposed_for_the_problem(tmp_path: Path) -> None:
    rows = [{"id": k, "question": f"What is {k // 4}?", "response": "It is", "correct": True} for k in range(8)]
    proposal = propose(jsonl(tmp_path / "x.jsonl", rows))
    assert proposal is not None
    assert proposal.pairs == "question=question,text=response,verdict=correct"


def test_what_nothing_is_known_of_gets_no_proposal(tmp_path: Path) -> None:
    for rows in ([{"a": 1}], [{"text": "some words"}], [[1, 2]], []):
        assert propose(jsonl(tmp_path / "x.jsonl", rows)) is None
