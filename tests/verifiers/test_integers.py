# ruff: noqa: E501  the tables are easier to read in long rows
r"""The integer reader: notations of 73, what is not 73, and sums that are built with their value."""

from __future__ import annotations

import time
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlvr_bench.records import Problem
from rlvr_bench.verifiers import open_verifier
from rlvr_bench.verifiers.integers import read_integer

SEVENTY_THREE = [
    "73", "073", "+73", "73.", "73.0", "73.00", "(73)", "{73}", "$73$", "$73", "\\$73", "**73**", "`73`", "73°", "73 units", "73 cm", "73 km/h", "73 ways", "= 73", "７３",
    r"\text{073}", r"\mathbf{73}", r"\boxed{73}", r"$\mathbf{73}$", r"\boldsymbol{73}", r"\bf 73", r"\Large 73", r"\displaystyle 73", r"\left(73\right)", r"\(73\)", r"\[73\]", r"73\,", r"73^\circ", r"73^{\circ}", r"73\degree", r"73\%",
    r"73 \text{ units}", r"73\text{ m}", r"73\text{ cm}^2", r"73 \text{ square units}", r"73\mathrm{ cm}", r"73\;\text{ways}", r"73 \text{ km/h}", r"73 (units)", r"73^\circ\mathrm{C}",
    "n = 73", "m+n=73", "n~=~73", "73 = n", "100a+b=73", "S = m+n = 70+3 = 73", r"\angle ABC = 73^\circ", r"\text{n = 73}", r"\text{Area} = 73\text{ cm}^2", "f(1,2)=73", "70 + 3 = 73", r"\lfloor x \rfloor = 73", r"\frac{146}{2}=73",
    "70+3", "-3+76", "146/2", "8^2+9", "2**6+9", r"2^{6}+9", r"\dfrac{146}{2}", r"\frac{146}2", r"\frac12(146)", r"7\cdot 10+3", r"2 \times 36.5", "2(30)+13", r"7.3 \times 10^{1}", r"30^\circ+43^\circ", "2^10-951",
]  # fmt: skip
NOT_SEVENTY_THREE = [
    "", "five", "73.5", "72.9999", "7 3", "7,3", "73,74", "73; 74", "73\n74", r"73\\74", "73 or 74", "73 to 74", "73-74", "73x", "73 x", "73xy", "73i", r"73\mathrm{i}", r"73\pi", "x^{73}", "73!", "73?", "73...", r"73\ldots", "73e0", "(73", "[73,73]", r"\{73\}", r"73_{8}", "73 mod 5", r"73 \pmod{100}", "73%5",
    "n=73, m=2", "n=73 m=2", "x=73 or x=74", "43=73", "43=42=73", "2=73", "n>=73", "n < 73", r"n\ne 73", "n != 73", r"\approx 73", r"\pm 73", "≈73", "about 73", "not 73", r"\text{not }n=73",
    r"73\text{ not}", r"73\text{ or more}", r"73\text{ (or 74)}", r"73 \text{ or } 74", r"73\text{ thousand}", "73 and a half", r"73\frac12", r"\frac{73}{0}", "1/0", r"9^{9^{9}}", "73^{1000000}", "2^{73.5}",
]  # fmt: skip


@pytest.mark.parametrize("text", SEVENTY_THREE)
def test_notations_of_one_integer(text: str) -> None:
    assert read_integer(text) == 73


@pytest.mark.parametrize("text", NOT_SEVENTY_THREE)
def test_what_is_not_that_integer(text: str) -> None:
    assert read_integer(text) != 73


@pytest.mark.parametrize(
    ("text", "value"), [("1,234,567", 1234567), (r"1\,234", 1234), ("70{,}000", 70000), ("−3", -3), ("-2^2", -4), ("(-2)^2", 4), ("2^3^2", 512), ("12-3-4", 5), ("12/3/2", 2), ("12,34", None), ("1234,567", None), ("\\frac12", None)]
)  # fmt: skip
def test_numbers_and_precedence(text: str, value: int | None) -> None:
    assert read_integer(text) == value


Term = tuple[str, Fraction]


def _joined(left: Term, operator: str, right: Term) -> Term | None:
    (a, x), (b, y) = left, right
    if operator == "+":
        return f"({a}+{b})", x + y
    if operator == "-":
        return rf"\left({a} - {b}\right)", x - y
    if operator == "*":
        return rf"{a} \cdot {b}", x * y
    return (rf"\frac{{{a}}}{{{b}}}", x / y) if y else None


def _operation(terms: st.SearchStrategy[Term]) -> st.SearchStrategy[Term]:
    joined = st.builds(_joined, terms, st.sampled_from("+-*/"), terms)
    return joined.filter(lambda term: term is not None).map(lambda term: term or ("0", Fraction(0)))


LEAVES = st.integers(0, 999).map(lambda value: (str(value), Fraction(value)))


@given(st.recursive(LEAVES, _operation, max_leaves=8))
def test_sums_and_products_have_their_value(term: Term) -> None:
    text, value = term
    assert read_integer(text) == (int(value) if value.denominator == 1 else None)


@pytest.mark.parametrize(
    "text", ["(" * 2000, "-" * 2000, "1+" * 999 + "1", "9^" * 900 + "9", "=" * 2000, "\\text{" * 300, "2^{3300}*" * 100 + "1", "a=" * 900 + "73", "9" * 10**6, "\\frac" * 300, "1,111" * 400, "73 " + "\\text{a" * 250]
)  # fmt: skip
def test_hostile_text_costs_little(text: str) -> None:
    started = time.process_time()
    read_integer(text)
    assert time.process_time() - started < 0.2


@pytest.mark.parametrize("text", [*SEVENTY_THREE, *NOT_SEVENTY_THREE, "9" * 1000, "9" * 1001, f"{'9' * 999}*9"])
def test_answers_of_one_key_have_one_verdict(text: str) -> None:
    verifier = open_verifier("integer")
    key = verifier.key(text)
    for gold in ("73", "9" * 1000):
        problem = Problem(id="p", question="", answer=gold)
        assert verifier.verify(text, problem).status == verifier.verify(key, problem).status
    assert verifier.key(key) == key
