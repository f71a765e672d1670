# ruff: noqa: E501  the tables are easier to read in long rows
from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from math_verify import parse, verify

from rlvr_bench.errors import VerifierError
from rlvr_bench.records import Problem
from rlvr_bench.verifiers import VerifierPool, open_verifier
from rlvr_bench.verifiers.math import MathVerifier
from rlvr_bench.verifiers.mathematics.normalise import for_engine, lossless, tidied
from tests.verifiers.hostile import GOLD, HOSTILE
from tests.verifiers.probes import PROBES

DATA = Path(__file__).parents[3] / "shared" / "data"


def status(gold: str, answer: str, **options: Any) -> str:
    return MathVerifier(**options).verify(answer, Problem(id="p", question="", answer=gold)).status


@pytest.mark.parametrize(("group", "gold", "answer", "label"), PROBES)
def test_probes(group: str, gold: str, answer: str, label: bool) -> None:
    assert status(gold, answer) == ("correct" if label else "wrong")


def test_probes_are_many_and_plain_math_verify_fails_a_good_part_of_them() -> None:
    """The probes are useful only while math-verify alone gets them wrong."""
    wrong = 0
    for _, gold, answer, label in PROBES:
        wrong += verify(parse(f"\\boxed{{{gold}}}"), parse(f"\\boxed{{{answer}}}")) != label
    assert len(PROBES) > 500
    assert wrong > 80


def test_hostile_answers_end_within_their_limit_and_harm_no_other() -> None:
    assert len(HOSTILE) >= 80
    problem = Problem(id="p", question="", answer=GOLD)
    items = [(name, answer, problem) for name, answer in HOSTILE.items()]
    for position in range(0, 2 * len(HOSTILE), 2):
        items.insert(position, (f"honest {position}", f"x + \\frac{{{14 + position}}}{{6}}", problem))
    with VerifierPool[str](open_verifier("math"), workers=2, timeout_s=0.3) as pool:
        verdicts = dict(pool.verify(items))
    assert len(verdicts) == len(items)
    for position in range(0, 2 * len(HOSTILE), 2):
        assert verdicts[f"honest {position}"].status == ("correct" if position == 0 else "wrong")
    for name in HOSTILE:
        assert verdicts[name].status in ("wrong", "error"), name
        assert verdicts[name].kind != "crash", name
    assert verdicts["e-notation 1e6"].kind == "limit"
    assert sum(verdict.kind == "timeout" for verdict in verdicts.values()) < 25


def test_percent_and_units_are_per_task() -> None:
    assert [status("0.09", "9\\%", percent=rule) for rule in ("either", "value", "sign")] == [
        "correct",
        "correct",
        "wrong",
    ]
    assert [status("9\\%", "9", percent=rule) for rule in ("either", "value", "sign")] == [
        "correct",
        "wrong",
        "correct",
    ]
    assert status("5 cm", "5 m") == "wrong"
    assert status("5 cm", "5 m", units="ignore") == "correct"
    with pytest.raises(VerifierError, match="percent"):
        MathVerifier(percent="maybe")


@pytest.mark.parametrize("name", ["math500", "minerva_math", "olympiadbench", "amc23", "aime24", "aime25"])
def test_every_gold_equals_itself_and_its_display_form(name: str) -> None:
    path = DATA / f"{name}.jsonl"
    if not path.is_file():
        pytest.skip(f"no data file {path.name}")
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        answer = row.get("answer") or row.get("final_answer")
        if answer is None:
            answer = MathVerifier().extract(row["solution"]).answer or ""
        for gold in map(str, answer if isinstance(answer, list) else [answer]):
            display = gold.replace("\\frac", "\\dfrac").replace("(", "\\left( ").replace(")", " \\right)")
            assert status(gold, gold) == "correct", gold
            if not any(mark in gold for mark in ("\\left", "_", "$")):
                assert status(gold, f"${display}$.") == "correct", gold


@given(st.integers(-(10**30), 10**30), st.integers(-(10**30), 10**30))
def test_integers_are_exact(a: int, b: int) -> None:
    assert status(str(a), f"{b:,}") == ("correct" if a == b else "wrong")
    assert status(str(a), f"{a:,}") == "correct"
    assert status(f"{a}.0", str(a)) == "correct"


@settings(deadline=None)
@given(st.text(alphabet="0123456789.,+-eE\\frac{}^/ x()%$", max_size=30))
def test_equal_keys_get_equal_verdicts_and_normal_forms_are_stable(text: str) -> None:
    assert lossless(lossless(text)) == lossless(text)
    assert for_engine(tidied(lossless(text))) == for_engine(tidied(text))


def test_importing_the_package_imports_no_sympy() -> None:
    code = "import sys, rlvr_bench.verifiers as v; v.open_verifier('math'); print('sympy' in sys.modules, 'math_verify' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]
    )
    assert done.stdout.split() == ["False", "False"]
