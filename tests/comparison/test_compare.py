"""Comparisons of hand-made scorecards: values by enumeration, refusals, unequal n, stopping rules, the verb."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import msgspec
import numpy as np
import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from rlvr_bench import stats
from rlvr_bench.cli.compare import register
from rlvr_bench.cli.show_compare import show_comparison
from rlvr_bench.cli.terminal import Terminal
from rlvr_bench.comparison import Incomparable, compare, compare_cards
from rlvr_bench.errors import BadArgument, RunError
from rlvr_bench.tables import Format
from tests.comparison.made import card

BASE, RL = [0, 1, 2, 8, 0, 3], [0, 4, 0, 8, 1, 3]


def solved_share(c: int, n: int, k: int) -> float:
    rollouts = [1] * c + [0] * (n - c)
    return float(np.mean([any(subset) for subset in combinations(rollouts, k)]))


def test_differences_are_means_of_paired_differences() -> None:
    (pair,) = compare_cards([card("base", BASE, 8), card("rl", RL, 8)]).pairs
    assert [item.k for item in pair.pass_at_k] == [1, 2, 4, 8]
    for item in pair.pass_at_k:
        assert item.k is not None
        first, second = (np.mean([solved_share(c, 8, item.k) for c in run]) for run in (BASE, RL))
        assert item.first == pytest.approx(first)
        assert item.second == pytest.approx(second)
        assert item.value == pytest.approx(second - first)
        assert item.low is not None
        assert item.high is not None
        assert item.low < second - first < item.high
        assert item.n_problems == 6


def test_p_values_are_corrected_over_budgets_and_pairs() -> None:
    rng = np.random.default_rng(0)
    runs = [card(f"m{i}", rng.binomial(16, 0.1 + 0.2 * i, 60).tolist(), 16) for i in range(3)]
    comparison = compare_cards(runs, ks=[1, 4])
    items = [item for pair in comparison.pairs for item in pair.pass_at_k]
    assert len(items) == 4
    raw = [item.p_value for item in items if item.p_value is not None]
    assert [item.p_holm for item in items] == pytest.approx(stats.holm(raw).tolist())
    assert max(item.p_holm or 0 for item in items) > min(raw)


def test_enough_replicates_are_drawn_for_the_correction_to_reach_significance() -> None:
    runs = [card("base", [0] * 40, 64)] + [card(f"m{i}", [64] * 40, 64) for i in range(12)]
    comparison = compare_cards(runs)
    assert max(item.p_holm or 0 for pair in comparison.pairs for item in pair.pass_at_k) < 0.02


def test_boundary_sets_by_hand() -> None:
    (pair,) = compare_cards([card("base", BASE, 8), card("rl", RL, 8)]).pairs
    change = pair.boundary
    assert (change.k, change.gained, change.lost) == (8, ("p4",), ("p2",))
    assert (change.both, change.neither) == (("p1", "p3", "p5"), ("p0",))
    assert change.retention == pytest.approx(3 / 4)
    assert change.discovery == pytest.approx(1 / 4)
    assert change.p_net == 1.0


def test_the_overlap_of_three_runs_is_a_partition() -> None:
    comparison = compare_cards(
        [card("a", [1, 1, 0, 0, 1], 4), card("b", [1, 0, 1, 0, 1], 4), card("c", [1, 1, 1, 0, 0], 4)]
    )
    groups = {group.solved_by: group.ids for group in comparison.overlaps}
    assert groups == {
        ("a", "b", "c"): ("p0",),
        ("a", "c"): ("p1",),
        ("b", "c"): ("p2",),
        (): ("p3",),
        ("a", "b"): ("p4",),
    }


def test_problems_are_matched_by_name_not_by_place() -> None:
    other = card("rl", [4, 0], 4, ids=["p1", "p0"])
    (pair,) = compare_cards([card("base", [0, 4], 4), other]).pairs
    assert [item.value for item in pair.pass_at_k] == [0.0, 0.0, 0.0]
    assert pair.crossover.text == "no difference up to 4"
    assert pair.crossover.leader is None


def test_unequal_n_is_compared_at_what_all_have() -> None:
    comparison = compare_cards([card("base", [1, 4, 0], [8, 8, 8]), card("rl", [1, 1, 0], [8, 4, 8])])
    (pair,) = comparison.pairs
    assert pair.boundary.k == 4
    assert pair.crossover.largest_k == 4
    assert [item.k for item in pair.pass_at_k] == [1, 2, 4]
    assert any("k = 4" in note for note in comparison.notes)
    # 1 of 8: half of the 4-subsets hold it, which is not more than half.
    assert pair.boundary.neither == ("p0", "p2")


def test_budgets_that_only_some_problems_have_give_bounds() -> None:
    comparison = compare_cards([card("base", [1, 4], [8, 8]), card("rl", [1, 1], [4, 8])], ks=[1, 8])
    last = comparison.pairs[0].pass_at_k[-1]
    assert (last.k, last.n_problems, last.first, last.second, last.value) == (8, 2, None, None, None)
    assert (last.at_least, last.at_most) == (0.0, 0.0)  # one rollout of each was right: solved in 8
    with pytest.raises(BadArgument, match="--k is 9: must lie between 1 and 8"):
        compare_cards([card("base", [1, 4], [8, 8]), card("rl", [1, 1], [4, 8])], ks=[9])


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"task": "u"}, "task: base has t, rl has u"),
        ({"problems_sha256": "other"}, "problems_sha256"),
        ({"prompt": "plain"}, "prompt: base has qwen-boxed, rl has plain"),
        ({"prompt_sha256": "z"}, "prompt_sha256"),
        ({"chat_template": "abc"}, "chat_template: base has None, rl has abc"),
        ({"grading": {"verifier": "exact"}}, "verifier: base has math, rl has exact"),
        ({"grading": {"version": "2"}}, "verifier_version: base has 1, rl has 2"),
        ({"grading": {"options": {"policy": "auto"}}}, "verifier_options"),
        ({"ids": ["p0", "p1", "p7"]}, r"problems: base has 1 of its own \(p2\), rl has 1 of its own \(p7\)"),
    ],
)
def test_runs_that_answer_different_questions_are_refused_and_the_field_is_named(
    changed: dict[str, object], named: str
) -> None:
    runs = [card("base", [1, 2, 3], 4), card("rl", [1, 2, 3], 4, **changed)]
    with pytest.raises(Incomparable, match=named) as refusal:
        compare_cards(runs)
    (field,) = refusal.value.differing
    comparison = compare_cards(runs, allow=[field])
    assert any(note.startswith(f"{field} differs, as allowed") for note in comparison.notes)


def test_a_problem_without_rollouts_is_not_a_compared_problem() -> None:
    runs = [card("base", [1, 2, 0], [4, 4, 0]), card("rl", [1, 2, 3], 4)]
    with pytest.raises(Incomparable, match=r"rl has 1 of its own \(p2\)"):
        compare_cards(runs)
    assert compare_cards(runs, allow=["problems"]).n_problems == 2
    with pytest.raises(RunError, match="no problem has rollouts in all"):
        compare_cards([card("a", [1], 4), card("b", [1], 4, ids=["q"])], allow=["problems"])


def test_engine_arguments_that_differ_are_named_and_unknown_ones_said() -> None:
    base = card("base", [1, 2], 4, engine_args={"max_num_seqs": 8, "dtype": "float32"})
    changed = card("rl", [1, 2], 4, engine_args={"quantization": "fp8", "max_num_seqs": 4})
    assert compare_cards([base, changed]).notes == ("engine argument quantization differs: base None, rl fp8",)
    old = card("old", [1, 2], 4, engine_args=None, seed=1)
    changed_note, unsaid = compare_cards([changed, old]).notes
    assert changed_note == "engine argument quantization differs: rl fp8, old unknown"
    assert unsaid.startswith("engine arguments are unknown of old: drawn by an older version")
    assert not compare_cards([base, card("theirs", [1, 2], 4, engine_args=None, seed=None, imported="verl")]).notes


def test_equal_streams_of_older_runs_are_said() -> None:
    old = {"seed_scheme": 1}
    (note,) = compare_cards([card("base", [1, 2], 4, **old), card("rl", [1, 2], 4, **old)]).notes
    assert note.startswith("base, rl were drawn from the same random numbers (seed 0")
    assert not compare_cards([card("base", [1, 2], 4, **old), card("rl", [1, 2], 4, seed=1, **old)]).notes
    assert not compare_cards([card("base", [1, 2], 4, **old), card("rl", [1, 2], 4)]).notes
    assert not compare_cards([card("base", [1, 2], 4), card("rl", [1, 2], 4)]).notes


def test_what_may_differ_is_told() -> None:
    cooler = card("rl", [1, 2], 4, sampling={"temperature": 1.0})
    (note,) = compare_cards([card("base", [1, 2], 4), cooler]).notes
    assert re.fullmatch(r"sampling differs: base \{'temperature': 0\.6, .*, rl \{'temperature': 1\.0, .*", note)
    twice = card("copy", [1, 2], 4, weights="base")
    assert any("one run" in note for note in compare_cards([card("base", [1, 2], 4), twice]).notes)
    assert not compare_cards([card("base", [1, 2], 4), card("again", [1, 2], 4, weights="base", seed=1)]).notes


def test_policy_statistics_are_compared_where_both_runs_have_them() -> None:
    columns = {"entropy_mean": [0.2, 0.4, None], "branching_mean": [None] * 3}
    distinct = [{"4": 3.0, "16": 9.0}, {"4": 2.0, "16": 5.0}, {"4": 1.0}]
    first = card("base", [1, 2, 3], 16, columns={**columns, "distinct_answers": distinct})
    fewer = {"entropy_mean": [0.1, 0.1, 0.7], "distinct_answers": [{"4": 2.0}, {"4": 1.0}, {"4": 1.0}]}
    (pair,) = compare_cards([first, card("rl", [1, 2, 3], 16, columns=fewer)]).pairs
    differences = {item.name: item for item in pair.policy}
    assert set(differences) == {"token_entropy", "distinct_answers@k"}
    assert differences["token_entropy"].value == pytest.approx(-0.2)
    assert differences["token_entropy"].n_problems == 2
    assert differences["distinct_answers@k"].k == 4
    assert differences["distinct_answers@k"].value == pytest.approx(-2 / 3)


def test_intervals_of_policy_statistics_are_in_their_own_unit() -> None:
    """Ten times the branching factor gives ten times the difference and its limits."""
    differences = []
    for scale in (1.0, 10.0):
        runs = [
            card(name, [1] * 8, 4, columns={"branching_mean": [scale * (start + i % 3) for i in range(8)]})
            for name, start in (("base", 2.0), ("rl", 2.5))
        ]
        problems = runs[1][1].problems
        problems[0] = msgspec.structs.replace(problems[0], branching_mean=(problems[0].branching_mean or 0) + scale)
        (item,) = compare_cards(runs).pairs[0].policy
        differences.append([item.value, item.low, item.high])
    assert differences[1] == pytest.approx([10 * (number or 0) for number in differences[0]])
    assert differences[0][0] == pytest.approx(0.625)


def test_runs_under_a_stopping_rule_use_its_estimator() -> None:
    rule = {"stop_after": 1, "batch": 2}
    first = card("base", [1, 0, 2], [4, 8, 2], stopping=rule, n=8)
    second = card("rl", [2, 1, 3], 8)
    comparison = compare_cards([first, second])
    (pair,) = comparison.pairs
    want = stats.pass_at_k_stopped([1, 0, 2], [4, 8, 2], [1, 8], 1, 8, 2).mean(axis=0)
    assert [pair.pass_at_k[i].first for i in (0, -1)] == pytest.approx(want.tolist())
    assert pair.boundary.k == 8
    assert pair.boundary.gains is None
    assert (pair.boundary.gained, pair.boundary.lost) == (("p1",), ())
    unfinished = card("base", [1, 0, 2], [4, 6, 2], stopping=rule, n=8)
    with pytest.raises(RunError, match="1 problems are not drawn to the end"):
        compare_cards([unfinished, second])


def test_one_run_is_no_comparison() -> None:
    with pytest.raises(BadArgument, match="at least two"):
        compare_cards([card("base", [1], 4)])


def test_models_of_the_same_name_go_by_their_folders(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "scorecard.json").write_bytes(msgspec.json.encode(card("m", [1, 2], 4)[1]))
    comparison = compare([tmp_path / "one", tmp_path / "two" / "scorecard.json"])
    assert [run.label for run in comparison.runs] == [str(tmp_path / "one"), str(tmp_path / "two")]


def test_a_missing_or_foreign_scorecard_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"no scorecard\. Run `rlvr-bench score"):
        compare([tmp_path, tmp_path])
    for content, message in (("{", "not a scorecard"), ("{}", "not a scorecard")):
        (tmp_path / "scorecard.json").write_text(content)
        with pytest.raises(RunError, match=message):
            compare([tmp_path, tmp_path])
    bare = {**msgspec.to_builtins(card("m", [1], 4)[1]), "problems": [{"id": "p0"}]}
    (tmp_path / "scorecard.json").write_bytes(msgspec.json.encode(bare))
    with pytest.raises(RunError, match="a problem without id, n or c"):
        compare([tmp_path, tmp_path])
    old = msgspec.structs.replace(card("m", [1], 4)[1], schema=7)
    (tmp_path / "scorecard.json").write_bytes(msgspec.json.encode(old))
    with pytest.raises(RunError, match="scorecard schema 7, this version of rlvr-bench reads 1"):
        compare([tmp_path, tmp_path])


@pytest.fixture
def two_runs(tmp_path: Path) -> list[str]:
    rng = np.random.default_rng(2)
    paths = []
    for model, rate in (("base", 0.05), ("rl", 0.2)):
        file = tmp_path / f"{model}.json"
        file.write_bytes(msgspec.json.encode(card(model, rng.binomial(64, rate, 30).tolist(), 64)[1]))
        paths.append(str(file))
    return paths


def verb(arguments: list[str]) -> str:
    app = typer.Typer()
    register(app)
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def test_the_verb_prints_a_table_or_json(two_runs: list[str]) -> None:
    shown = verb([*two_runs, "--k", "1,16"])
    assert "B leads at small k, no crossing up to 64" in shown
    assert [line.split()[0] for line in shown.splitlines() if line.startswith("pass@")] == ["pass@1", "pass@16"]
    decoded = json.loads(verb([*two_runs, "--json"]))
    assert [item["k"] for item in decoded["pairs"][0]["pass_at_k"]] == [1, 2, 4, 8, 16, 32, 64]
    assert decoded["pairs"][0]["boundary"]["gains"]["expected"] >= 0


def test_a_budget_that_is_no_number_is_refused(two_runs: list[str]) -> None:
    with pytest.raises(BadArgument, match="--k is '1,x'"):
        verb([*two_runs, "--k", "1,x"])


def test_the_table_fits_a_terminal(two_runs: list[str]) -> None:
    output = (Path(two_runs[0]).parent / "out").open("w")
    console = Console(width=80, record=True, force_terminal=True, file=output)
    show_comparison(console, compare([Path(path) for path in two_runs]))
    output.close()
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= 80
    assert any(line.startswith("pass@64") and "pts" in line for line in lines)


def test_comparing_reads_scorecards_only() -> None:
    """No torch, no parquet, no verifier: only then is it quick and works on a bare install."""
    heavy = ["torch", "pyarrow", "math_verify", "rlvr_bench.store", "rlvr_bench.pipeline", "rlvr_bench.task"]
    code = f"import sys, rlvr_bench.comparison, rlvr_bench.cli.show_compare; print([m for m in {heavy!r} if m in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


@pytest.mark.parametrize("form", ["markdown", "latex", "plain", "tsv"])
def test_formats_name_the_runs_and_keep_their_rows(form: Format, capsys: pytest.CaptureFixture[str]) -> None:
    hostile = "a|b\n<i>\\x_1\t=1"
    comparison = compare_cards([card("base", [1, 2, 3, 0], 8), card(hostile, [2, 8, 3, 0], 8, seed=1)])
    show_comparison(Terminal(), comparison, form=form)
    out, err = capsys.readouterr()
    assert ("note" in err or not comparison.notes) if form == "tsv" else not err
    names = {"markdown": "a&#124;b &#60;i&#62;", "latex": r"a\textbar{}b \textless{}i\textgreater{}"}
    assert names.get(form, "a|b <i>") in out
    assert [line for line in out.splitlines() if "pass@8" in line and "75.0" in line] or form == "tsv"
    if form == "latex":
        assert r"$\mathbf{" in out
        assert out.count(r"\begin{tabular}") == out.count(r"\end{tabular}") == 2
    if form == "tsv":
        first, second = out.strip("\n").split("\n\n")
        for table in (first, second):
            assert len({line.count("\t") for line in table.split("\n")}) == 1


def test_looks_widen_intervals_and_raise_every_p_value() -> None:
    rng = np.random.default_rng(1)
    runs = [card(name, rng.binomial(64, rate, 60).tolist(), 64) for name, rate in (("a", 0.05), ("b", 0.09))]
    (one,), (every,) = (compare_cards(runs, looks=looks).pairs for looks in ("one", "any"))
    smallest = 1 / (1 + stats.REPLICATES)
    for first, second in zip((*one.pass_at_k, *one.policy), (*every.pass_at_k, *every.policy), strict=True):
        assert second.value == pytest.approx(first.value)
        assert (second.high or 0) - (second.low or 0) > 1.3 * ((first.high or 0) - (first.low or 0))
        # The p-value of one look is at least 1 / (1 + replicates), whatever the difference.
        assert (second.p_value or 0) >= (first.p_value or 0) or (first.p_value or 0) <= smallest + 1e-9
    assert every.boundary.gains is not None
    assert one.boundary.gains is not None
    assert every.boundary.gains.p_value > one.boundary.gains.p_value
    assert compare_cards(runs, looks="any").looks == "any"


def test_the_verb_takes_looks(two_runs: list[str]) -> None:
    assert "hold over any number of looks" in verb([*two_runs, "--looks"])
    assert "hold over" not in verb(two_runs)


def test_entropies_and_texts_are_compared_at_a_common_number() -> None:
    """Each run has budgets of its own; a tenth of the problems is enough for a pair of wrong answers."""
    n = 10
    wide = {"wrong_entropy": [{2: 0.6, 4: 1.1}] * n, "distinct_texts": [{4: 3.9, 16: 14.0, 64: 50.0}] * n}
    few = {"wrong_entropy": [{2: 0.5}] * 2 + [{}] * 8, "distinct_texts": [{4: 3.0, 16: 9.0}] * n}
    (pair,) = compare_cards([card("a", [1] * n, 64, columns=wide), card("b", [1] * n, 16, columns=few)]).pairs
    differences = {(item.name, item.k): item for item in pair.policy}
    assert differences.keys() == {("wrong_answer_entropy@k", 2), ("distinct_texts@k", 16)}
    assert differences["wrong_answer_entropy@k", 2].value == pytest.approx(-0.1)
    assert differences["wrong_answer_entropy@k", 2].n_problems == 2
    assert differences["distinct_texts@k", 16].value == pytest.approx(-5.0)


def clustered(rng: np.random.Generator, clusters: int, size: int) -> tuple[list[int], list[int], list[str]]:
    """Correct of 16 in two runs whose difference is that of the cluster: problems of one are alike."""
    names = [f"c{i}" for i in range(clusters) for _ in range(size)]
    shift = np.repeat(rng.normal(0, 0.15, clusters), size)
    base = np.full(clusters * size, 0.5)
    return (*(rng.binomial(16, np.clip(rate, 0, 1)).tolist() for rate in (base, base + shift)), names)


def test_a_cluster_is_taken_from_whichever_run_has_it_and_its_effect_is_said() -> None:
    first, second, names = clustered(np.random.default_rng(0), 8, 12)
    old = card("a", first, 16)
    new = card("b", second, 16, columns={"cluster": names})
    intervals = {}
    for what, runs in (("none", (old, card("b", second, 16))), ("one", (old, new)), ("other", (new, old))):
        comparison = compare_cards(runs, ks=[1])
        (item,) = comparison.pairs[0].pass_at_k
        intervals[what] = (item.high or 0) - (item.low or 0)
        assert any("clusters of problems" in note for note in comparison.notes) == (what != "none")
    assert intervals["one"] == pytest.approx(intervals["other"], rel=0.05)
    assert intervals["one"] > 1.5 * intervals["none"]


def test_three_clusters_are_too_few_to_measure() -> None:
    first, second, names = clustered(np.random.default_rng(0), 3, 12)
    columns = {"cluster": names}
    (alone,) = compare_cards([card("a", first, 16), card("b", second, 16)], ks=[1]).pairs
    (few,) = compare_cards(
        [card("a", first, 16, columns=columns), card("b", second, 16, columns=columns)], ks=[1]
    ).pairs
    assert few.pass_at_k == alone.pass_at_k


def test_a_large_difference_is_shown_at_every_look_whatever_the_number_of_comparisons() -> None:
    rng = np.random.default_rng(4)
    rates = rng.beta(1, 1, 200)
    runs = [card(name, rng.binomial(512, rates * share).tolist(), 512) for name, share in (("a", 0.3), ("b", 1.0))]
    (pair,) = compare_cards(runs, looks="any").pairs
    low_k = [item for item in pair.pass_at_k if (item.k or 0) <= 32]
    assert len(low_k) >= 4
    assert all((item.p_holm or 1) < 0.001 for item in low_k)
