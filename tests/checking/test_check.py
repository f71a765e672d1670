"""Checks of hand-made scorecards: outcomes against enumeration and simulation, refusals, and what is written."""

from __future__ import annotations

from collections import Counter
from itertools import combinations_with_replacement
from math import comb, factorial, prod
from pathlib import Path
from xml.etree import ElementTree

import msgspec
import numpy as np
import pytest

from rlvr_bench import check, stats
from rlvr_bench.checking import Check, CheckOptions, NextLook, check_cards
from rlvr_bench.checking.evidence import about_these_problems
from rlvr_bench.checking.outputs import junit, summary, workflow_commands
from rlvr_bench.checking.rules import make_rules
from rlvr_bench.comparison.cards import Incomparable
from rlvr_bench.errors import BadArgument, RunError
from rlvr_bench.records import StoppingRule
from rlvr_bench.scorecard import Scorecard
from rlvr_bench.stats.sequential import ONE_LOOK, Looks
from tests.comparison.made import card

RNG = np.random.default_rng(7)
RATES = RNG.beta(0.4, 0.8, 200)
HOSTILE = 'a|b\n::error::x<script>\x00\x1b[31m,"q"]]>&`*_[l](javascript:x) @all http://x'


def drawn(name: str, rates: np.ndarray, n: int, seed: int, **changed: object) -> tuple[Path, Scorecard]:
    counts = np.random.default_rng(seed).binomial(n, rates).tolist()
    return card(name, counts, n, seed=seed, **changed)


def outcome_of(
    run: tuple[Path, Scorecard],
    baseline: tuple[Path, Scorecard],
    rises: dict[str, float] | None = None,
    options: CheckOptions | None = None,
    **drops: float,
) -> Check:
    tolerances = {name.replace("pass", "pass@"): value for name, value in drops.items()}
    return check_cards([run], [baseline], make_rules(tolerances, rises or {}), options)


def test_a_large_drop_is_a_regression_and_a_small_one_is_not() -> None:
    base = drawn("base", RATES, 256, 1)
    worse = outcome_of(drawn("worse", RATES * 0.8, 256, 2), base, pass1=0.02)
    same = outcome_of(drawn("same", RATES, 256, 3), base, pass1=0.02)
    better = outcome_of(drawn("better", RATES**0.8, 256, 4), base, pass1=0.02)
    assert [result.outcome for result in (worse, same, better)] == ["regression", "ok", "ok"]
    (item,) = worse.findings
    assert item.worse_by == pytest.approx(item.first - item.second)
    assert item.tolerance < item.low < item.worse_by < item.high
    assert item.source == "rollouts"


def test_too_few_rollouts_cannot_tell_and_the_number_named_settles_it() -> None:
    rates = RATES[:60]
    (item,) = outcome_of(drawn("worse", rates * 0.8, 4, 3), drawn("base", rates, 4, 1), pass1=0.02).findings
    assert item.outcome == "cannot_tell"
    assert item.needed is not None
    assert item.needed > 4
    # With what it names, a change of the size it estimated is found in most repetitions.
    factor = 1 - item.worse_by / rates.mean()
    results = [
        outcome_of(
            drawn("w", rates * factor, item.needed, 100 + i), drawn("b", rates, item.needed, 900 + i), pass1=0.02
        )
        for i in range(40)
    ]
    share = np.mean([one.outcome == ("regression" if item.worse_by > 0.02 else "ok") for one in results])
    assert 0.6 < share <= 1  # 80 % is aimed at


def test_the_same_draw_passes_exactly() -> None:
    base = drawn("base", RATES, 16, 1)
    result = outcome_of(base, base, pass1=0.0, pass16=0.0)
    assert result.outcome == "ok"
    assert all(item.worse_by == item.low == item.high == 0.0 for item in result.findings)
    assert any("one run, not two" in note for note in result.notes)
    other = card("base", [entry["c"] for entry in base[1].problems], 16, seed=2)
    assert outcome_of(other, base, pass1=0.0).outcome == "cannot_tell"  # equal counts of another draw are no proof


def test_false_alarms_at_the_tolerance_by_enumeration_of_every_pair_of_runs() -> None:
    """Two problems, four rollouts: all 15 x 15 pairs of counts with their exact chances; the drop is the tolerance."""
    n, k, rates, lower = 4, 1, (0.9, 0.9), (0.7, 0.7)
    states = list(combinations_with_replacement(range(n + 1), len(rates)))

    def chance(state: tuple[int, ...], p: float) -> float:
        orders = factorial(len(state)) / prod(factorial(count) for count in Counter(state).values())
        return orders * prod(comb(n, c) * p**c * (1 - p) ** (n - c) for c in state)

    sizes, alarms = np.full(len(rates), n), 0.0
    for first in states:
        for second in states:
            weight = chance(first, rates[0]) * chance(second, lower[0])
            if weight > 1e-4:
                evidence = about_these_problems((np.array(first), sizes), (np.array(second), sizes), k, 0.2, 0.95)
                alarms += weight * (evidence.p_value <= 0.05)
    assert alarms <= 0.065


@pytest.mark.parametrize(("n", "k", "tolerance"), [(16, 1, 0.02), (16, 16, 0.03), (64, 8, 0.03)])
def test_error_rates_by_simulation(n: int, k: int, tolerance: float) -> None:
    """80 repetitions: a true rate of 5 % shows as more than 12.5 % in 0.3 % of cases, one of 30 % as less in 0.1 %."""
    rates = RATES[:100]

    def share(drop: float, seed: int, repeats: int) -> tuple[float, float]:
        rng = np.random.default_rng(seed)
        grid = np.linspace(0, 1, 2001)
        falls = np.mean(1 - (1 - rates) ** k) - np.mean(1 - (1 - rates[:, None] * grid) ** k, axis=0)
        factor = grid[int(np.argmin(np.abs(falls - drop)))]
        sizes, alarms, passes = np.full(rates.size, n), 0, 0
        for _ in range(repeats):
            runs = [(rng.binomial(n, p), sizes) for p in (rates, rates * factor)]
            evidence = about_these_problems(runs[0], runs[1], k, tolerance, 0.95)
            alarms += evidence.p_value <= 0.05
            passes += evidence.high <= tolerance
        return alarms / repeats, passes / repeats

    at_tolerance, far = share(tolerance, 1, 80), share(5 * tolerance, 2, 20)
    assert at_tolerance[0] <= 0.125
    assert at_tolerance[1] <= 0.125
    assert far[0] >= 0.75
    assert far[1] == 0


def test_the_p_value_inverts_the_limits() -> None:
    counts = [(np.random.default_rng(i).binomial(32, RATES * (1 - 0.1 * i)), np.full(RATES.size, 32)) for i in (0, 1)]
    evidence = about_these_problems(counts[0], counts[1], 4, 0.0, 0.95)
    for limit, p_value in ((evidence.low, 0.05), (evidence.high, 0.95), (evidence.value, 0.5)):
        at_limit = about_these_problems(counts[0], counts[1], 4, limit, 0.95)
        assert at_limit.p_value == pytest.approx(p_value, abs=2e-3)


def test_holm_is_over_all_rules_and_runs() -> None:
    base = drawn("base", RATES, 32, 1)
    runs = [drawn(f"r{i}", RATES * (1 - 0.02 * i), 32, 2 + i) for i in range(4)]
    result = check_cards(runs, [base], make_rules({"pass@1": 0.0, "pass@8": 0.0}, {}))
    assert len(result.findings) == 8
    assert [item.p_holm for item in result.findings] == pytest.approx(
        stats.holm([item.p_value for item in result.findings]).tolist()
    )


def test_rates_that_are_counted_are_tested_over_rollouts_and_means_over_problems() -> None:
    errors = np.random.default_rng(0).binomial(64, 0.05, 200).tolist()
    columns = {"error": [0] * 200, "no_answer": [1] * 200, "entropy_mean": np.linspace(0.4, 0.6, 200).tolist()}
    base = drawn("base", RATES, 64, 1, columns=columns)
    collapsed = [value - 0.1 + 0.001 * (i % 7) for i, value in enumerate(columns["entropy_mean"])]
    run = drawn("run", RATES, 64, 2, columns={**columns, "error": errors, "entropy_mean": collapsed})
    rules = make_rules({"token_entropy": 0.05}, {"error_rate": 0.01, "no_answer_rate": 0.01})
    entropy, error, silent = check_cards([run], [base], rules, CheckOptions(max_error_rate=0.1)).findings
    assert (entropy.outcome, entropy.source) == ("regression", "problems")
    assert (error.outcome, error.source) == ("regression", "rollouts")
    assert error.worse_by == pytest.approx(np.mean(errors) / 64)
    assert silent.outcome == "ok"
    with pytest.raises(BadArgument, match="tokens_per_response.*no problem has it in both runs, base and run"):
        check_cards([run], [base], make_rules({}, {"tokens_per_response": 5}), CheckOptions(max_error_rate=0.1))


def test_about_new_problems_limits_are_wider() -> None:
    base, run = drawn("base", RATES, 64, 1), drawn("run", RATES * RNG.uniform(0.5, 1.2, 200).clip(0, 1), 64, 2)
    here, elsewhere = (
        outcome_of(run, base, options=CheckOptions(new_problems=flag), pass1=0.02).findings[0] for flag in (False, True)
    )
    assert elsewhere.high - elsewhere.low > here.high - here.low
    assert elsewhere.worse_by == pytest.approx(here.worse_by)
    assert elsewhere.source == "problems"


def test_runs_under_a_stopping_rule_use_their_own_estimator() -> None:
    rule = StoppingRule(stop_after=1, batch=4)
    stopped = {"stopping": msgspec.to_builtins(rule)}
    base = card("base", [1, 1, 0, 2] * 10, [4, 8, 8, 4] * 10, **{**stopped, "n": 8})
    run = card("run", [1, 0, 0, 1] * 10, [4, 8, 8, 4] * 10, **{**stopped, "n": 8})
    (item,) = outcome_of(run, base, pass4=0.5).findings
    assert item.source == "problems"
    expected = [
        stats.pass_at_k_stopped(c * 10, [4, 8, 8, 4] * 10, [4], 1, 8, 4).mean() for c in ([1, 1, 0, 2], [1, 0, 0, 1])
    ]
    assert (item.first, item.second) == pytest.approx(tuple(expected))
    with pytest.raises(BadArgument, match="biased"):
        outcome_of(run, base, rises={"error_rate": 0.01})


def test_what_cannot_be_compared_is_refused_and_named() -> None:
    base = card("base", [1, 2, 3], 8)
    with pytest.raises(Incomparable, match="problems_sha256: base has s, other has other"):
        outcome_of(card("other", [1, 2, 3], 8, problems_sha256="other"), base, pass1=0.1)
    with pytest.raises(Incomparable, match="verifier_version: base has 1, other has 2"):
        outcome_of(card("other", [1, 2, 3], 8, grading={"version": "2"}), base, pass1=0.1)
    with pytest.raises(Incomparable, match="1 of its own"):
        outcome_of(card("other", [1, 2, 3], 8, ids=["p0", "p1", "new"]), base, pass1=0.1)
    allowed = CheckOptions(allow=("problems",))
    assert outcome_of(card("o", [1, 2, 3], 8, ids=["p0", "p1", "new"]), base, options=allowed, pass1=0.1).findings
    failing = (base[0], msgspec.structs.replace(base[1], quality={"error_rate": 0.011}))
    with pytest.raises(RunError, match=r"verifier failed on 1.10% of the rollouts, the limit is 1.00%"):
        outcome_of(card("run", [1, 2, 3], 8), failing, pass1=0.1)
    with pytest.raises(BadArgument, match="pass@16.*most rollouts of a problem are 8"):
        outcome_of(card("run", [1, 2, 3], 8), base, pass16=0.1)


def test_runs_find_their_baselines_by_task_then_by_model() -> None:
    cards = [card(model, [4, 4, 4], 8, task=task) for model in ("a", "b") for task in ("t", "u")]
    cards = [(Path(f"{one.run.model}-{one.run.task}.json"), one) for _, one in cards]
    result = check_cards(cards, cards, make_rules({"pass@1": 0.5}, {}))
    assert [(item.run, item.baseline) for item in result.findings] == [
        (f"{name}.json #2", f"{name}.json #1") for name in ("a-t", "a-u", "b-t", "b-u")
    ]
    renamed = card("step-200", [4, 4, 4], 8, task="t")
    assert check_cards([renamed], cards[:1], make_rules({"pass@1": 0.5}, {})).findings[0].baseline == "a"
    with pytest.raises(RunError, match=r"step-200 on t\): no baseline of this model among 2"):
        check_cards([renamed], cards, make_rules({"pass@1": 0.5}, {}))
    with pytest.raises(RunError, match=r"no baseline for it. Given: .*b on u"):
        check_cards([card("a", [4], 8, task="v")], cards, make_rules({"pass@1": 0.5}, {}))
    notes = check_cards(cards[:1], cards, make_rules({"pass@1": 0.5}, {})).notes
    assert sum("was held against no run" in note for note in notes) == 3


@pytest.mark.parametrize(
    ("metric", "tolerance", "message"),
    [
        ("pass@0", 0.1, "no metric"),
        ("pass", 0.1, "no metric"),
        ("pass@1", 2, "a fraction, such as 0.02"),
        ("pass@1", -0.1, "a fraction"),
        ("error_rate", float("nan"), "a fraction"),
        ("token_entropy", float("inf"), "at least 0"),
    ],
)
def test_bad_rules_are_refused(metric: str, tolerance: float, message: str) -> None:
    with pytest.raises(BadArgument, match=message):
        make_rules({metric: tolerance}, {})


def test_no_rule_and_no_run_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadArgument, match="name at least one"):
        check([tmp_path], [tmp_path], {})
    with pytest.raises(RunError, match="no scorecard in this folder"):
        check([tmp_path], [tmp_path], {"pass@1": 0.1})


def hostile() -> Check:
    """A regression, a doubt and a pass of a model with a hostile name."""
    base = drawn("base", RATES, 8, 1)
    columns = {"error": [0] * 200}
    base = (base[0], drawn("base", RATES, 8, 1, columns=columns)[1])
    run = drawn(HOSTILE, RATES * 0.6, 8, 2, columns=columns)
    result = check_cards([run], [base], make_rules({"pass@1": 0.02, "pass@8": 0.135}, {"error_rate": 0.2}))
    assert [item.outcome for item in result.findings] == ["regression", "cannot_tell", "ok"]
    return result


@pytest.mark.parametrize("strict", [False, True])
def test_junit_is_xml_whatever_a_model_is_called(strict: bool) -> None:
    root = ElementTree.fromstring(junit(hostile(), strict=strict))
    (suite,) = root.iter("testsuite")
    cases = list(suite.iter("testcase"))
    assert [len(case.findall("failure")) for case in cases] == [1, int(strict), 0]
    assert [len(case.findall("skipped")) for case in cases] == [0, int(not strict), 0]
    assert (suite.get("tests"), suite.get("failures")) == ("3", str(1 + strict))
    assert suite.get("skipped") == str(int(not strict))
    assert "<script>" in (cases[0].get("name") or "")
    assert "\x00" not in (cases[0].get("name") or "")


def test_the_job_summary_keeps_its_table_and_formats_nothing_of_a_name() -> None:
    text = summary(hostile())
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len(table) == 5
    assert {line.count("|") for line in table} == {12}
    for piece in ("<script>", "[l](", "`", "@all", "http://", "*", "\x00"):
        assert piece not in text


def test_workflow_commands_stay_on_their_line() -> None:
    lines = workflow_commands(hostile())
    assert [line.split(" ")[0] for line in lines] == ["::error", "::warning"]
    assert all("\n" not in line for line in lines)
    title = lines[0].removeprefix("::error title=").partition("::")[0]
    assert not set(title) & set(":,\n\r")
    assert "%0A%3A%3Aerror%3A%3A" in title
    assert all(line.startswith("::error") for line in workflow_commands(hostile(), strict=True))


def test_eight_looks_hold_the_level_and_the_limits_of_one_look_do_not() -> None:
    """At a drop of the tolerance, looks at 32, 64, ..., 4,096 rollouts until something is shown; 20 replicates, seeded."""
    rng = np.random.default_rng(8)
    sizes = (32 * 2 ** np.arange(8)).tolist()
    rates = RATES[:12]
    lower = rates - 0.02 * rates / rates.mean()
    wrong = {"any": 0, "one": 0}
    for _ in range(20):
        steps = np.diff(sizes, prepend=0)
        runs = [np.cumsum([rng.binomial(step, p) for step in steps], axis=0) for p in (rates, lower)]
        shown = {"any": False, "one": False}
        for n, *counts in zip(sizes, *runs, strict=True):
            for name, looks in (("any", Looks(stats.information(n, n))), ("one", ONE_LOOK)):
                pair = [(correct, np.full(12, n)) for correct in counts]
                evidence = about_these_problems(pair[0], pair[1], 1, 0.02, 0.95, looks)
                shown[name] |= evidence.p_value <= 0.05 or evidence.high <= 0.02
        for name, flag in shown.items():
            wrong[name] += flag
    assert wrong["any"] <= 4  # both errors together: at most 10 %
    assert wrong["one"] >= 6


def test_cannot_tell_names_the_next_look_and_what_it_costs() -> None:
    columns = {"tokens_mean": [100.0] * 60}
    rates = RATES[:60]
    base, run = (
        drawn(name, p, 16, i, columns=columns) for i, (name, p) in enumerate((("b", rates), ("r", rates * 0.9)))
    )
    result = outcome_of(run, base, pass1=0.02)
    (item,) = result.findings
    assert (item.outcome, item.looks) == ("cannot_tell", "any")
    assert item.needed is not None
    assert item.next_look is not None
    n = min(item.needed, 32)
    assert item.next_look == NextLook(n=n, rollouts=2 * 60 * (n - 16), tokens=2 * 60 * (n - 16) * 100)
    text = summary(result)
    assert f"Draw {n - 16} more per problem, to {n} in both runs ({120 * (n - 16):,} new rollouts" in text
    assert "the level holds over any number of looks" in text
    # Only what the baseline lacks is counted where the run has it already.
    ahead = drawn("r", rates * 0.9, 32, 5, columns=columns)
    (item,) = outcome_of(ahead, base, pass1=0.02).findings
    if item.next_look is not None:
        assert item.next_look.rollouts == 60 * (item.next_look.n - 16) + 60 * max(0, item.next_look.n - 32)


def test_one_look_has_narrower_limits_and_advises_no_other() -> None:
    base, run = drawn("base", RATES[:60], 16, 1), drawn("run", RATES[:60] * 0.9, 16, 2)
    any_, one = (
        outcome_of(run, base, options=CheckOptions(looks=looks), pass1=0.02).findings[0] for looks in ("any", "one")
    )
    assert one.high - one.low < any_.high - any_.low
    assert one.p_value < any_.p_value
    assert one.next_look is None
    wide, narrow = (
        outcome_of(run, base, options=CheckOptions(looks=looks, new_problems=True), pass1=0.02).findings[0]
        for looks in ("any", "one")
    )
    assert narrow.high - narrow.low < wide.high - wide.low


def text_card(name: str, n: int, seed: int, rng: np.random.Generator) -> tuple[Path, Scorecard]:
    """60 problems whose texts are drawn from the same 200: the columns as a scorecard has them."""
    tables = rng.multinomial(n, np.full(200, 1 / 200), size=60)
    ks = [k for k in (1, 4, 16, 64, 256) if k <= n]
    by_k = [dict(zip(ks, row, strict=True)) for row in stats.rarefied_distinct(tables, ks).tolist()]
    columns = {"duplicates": (n - np.count_nonzero(tables, axis=1)).tolist(), "distinct_texts": by_k}
    return card(name, [0] * 60, n, seed=seed, columns=columns)


def test_more_rollouts_are_no_rise_of_duplicates() -> None:
    rng = np.random.default_rng(6)
    rules = make_rules({}, {"duplicate_rate": 0.01})
    results = [check_cards([text_card("r", 256, i, rng)], [text_card("b", 16, -i, rng)], rules) for i in range(1, 21)]
    findings = [result.findings[0] for result in results]
    assert not any(one.outcome == "regression" for one in findings)
    assert np.mean([one.worse_by for one in findings]) == pytest.approx(0, abs=0.004)
    assert all(one.second < 0.1 for one in findings)  # of all 256 more than a third repeat another
    assert all("at 16 rollouts" in one.method for one in findings)
    bare = [card(name, [0] * 5, n, columns={"duplicates": [0] * 5}) for name, n in (("b", 16), ("r", 256))]
    with pytest.raises(BadArgument, match="depends on the number of rollouts, which differs"):
        check_cards([bare[1]], [bare[0]], rules)
    assert check_cards([text_card("r", 16, 1, rng)], [text_card("b", 16, 2, rng)], rules).findings[0].first > 0
