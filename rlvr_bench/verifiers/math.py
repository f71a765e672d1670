r"""Mathematical answers: certain cheap comparisons first, math-verify for the rest (the only file that imports it).

The order: equal strings, lettered choices, plain numbers (exactly), bases, units; then limits; then math-verify on
``\boxed{}``-wrapped normal forms, gold first, because it is not symmetric and reads bare LaTeX wrong. Its "equal" is then
checked against what it is known to get wrong: tiny values, dropped tails, tuples and sets. Its "different" stands.

`MathVerifier.verify` sets no time limit of its own (math-verify's SIGALRM counts whole wall seconds and turns a timeout
into "wrong"): run it in a `VerifierPool`.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
import re
import zlib
from collections.abc import Callable
from typing import Any, ClassVar

from rlvr_bench.records import Problem, Verdict
from rlvr_bench.verifiers import guards
from rlvr_bench.verifiers.base import PolicyVerifier, check_option
from rlvr_bench.verifiers.limits import breaks_limits
from rlvr_bench.verifiers.normalise import lossless, normalise
from rlvr_bench.verifiers.rational import numbers_agree, read_number

__all__ = ["MathVerifier"]

_WARM_UP = (
    ("\\frac{1}{2}+x", "\\frac{x}{2}"), ("(1,2)", "(1,3)"), ("\\sqrt{2}", "2\\sqrt{3}"), ("x^2+2x+1", "(x+1)^2"),
    ("[0,1)\\cup(2,3]", "x<3"), ("\\{1,2\\}", "1,2"), ("\\sin{x}", "\\cos x"), ("y=2x+1", "2x-y+1=0"),
    ("\\begin{pmatrix}1&2\\\\3&4\\end{pmatrix}", "\\begin{pmatrix}1&2\\\\3&5\\end{pmatrix}"),
    ("\\text{east}", "\\text{west}"), ("\\pi e^{2}", "\\ln 2"), ("1+2i", "2-i"), ("5!", "\\binom{5}{2}"),
)  # fmt: skip
_POINTS = (1, 3, 10)
_SYNTAX_WORDS = re.compile(r"\\text\{[^{}]*\}|[A-Za-z]{2,}|[\s.,:;()\[\]$*_~'\"]|\\[,;!: ]")
_LONE_VALUE = re.compile(r"-?\d*(?:\\frac\{-?\d+\}\{-?\d+\}|/\d+)?\d*")


@functools.lru_cache(maxsize=1)
def _engine() -> Any:
    """math-verify's parts that are used here, imported once and only where needed."""
    import math_verify
    import sympy
    from latex2sympy2_extended import latex2sympy2
    from math_verify import parser
    from sympy.core.function import AppliedUndef

    for name in ("math_verify", "math_verify.parser", "math_verify.grader", "latex2sympy2_extended"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # it logs at warning level for every odd answer
    unevaluated = (
        sympy.Integral,
        sympy.Sum,
        sympy.Product,
        sympy.Derivative,
        sympy.Limit,
        AppliedUndef,
        sympy.MatrixBase,
    )
    return {
        "parse": math_verify.parse,
        "verify": math_verify.verify,
        "parser": parser,
        "latex": latex2sympy2,
        "sympy": sympy,
        "unevaluated": unevaluated,
    }


@functools.lru_cache(maxsize=8)
def _config(units: bool) -> Any:
    engine = _engine()
    normalization = engine["latex"].NormalizationConfig(
        basic_latex=True, units=units, malformed_operators=True, nits=True, boxed="all", equations=False
    )
    return engine["parser"].LatexExtractionConfig(normalization_config=normalization)


@functools.lru_cache(maxsize=8192)
def _parse(answer: str) -> list[Any]:
    """What math-verify makes of an answer: [expression, text], [text] or []. Cached: a gold is parsed once per worker."""
    engine = _engine()
    config = (_config(not guards.is_algebraic_tail(answer)), engine["parser"].ExprExtractionConfig())
    parsed: list[Any] = _strictly(
        engine["parse"], "\\boxed{" + answer + "}", extraction_config=config, parsing_timeout=None
    )
    return parsed


def _strictly(function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Call into math-verify so that running out of memory is an error, and every other failure its own verdict.

    With ``raise_on_error`` alone "nan cannot be compared" would be an error; without it a MemoryError would be "wrong".
    """
    try:
        return function(*arguments, raise_on_error=True, **options)
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001  whatever it raises becomes a result
        return function(*arguments, raise_on_error=False, **options)


@functools.lru_cache(maxsize=8192)
def _is_whole(answer: str) -> bool:
    """Whether the grammar reads all of the answer, not a prefix of it or the last number in it."""
    engine = _engine()
    config = dataclasses.replace(_config(not guards.is_algebraic_tail(answer)).normalization_config, boxed="none")
    text = engine["latex"].normalize_latex(answer, config)
    for candidate in dict.fromkeys((text, engine["parser"].get_last_eq(text))):
        try:
            reader = engine["latex"]._Latex2Sympy().create_parser(candidate)
            reader.math()
        except Exception:  # noqa: BLE001, S112  whatever it raises becomes a result
            continue
        return bool(reader.getCurrentToken().type == -1)
    return bool(_LONE_VALUE.fullmatch(_SYNTAX_WORDS.sub("", answer)))


def _values(expression: Any, precision: int) -> list[Any] | None:
    """An expression evaluated at fixed points, with i as the imaginary unit; None unless it is a plain function of symbols."""
    sympy = _engine()["sympy"]
    if not isinstance(expression, sympy.Expr) or expression.is_Matrix or expression.has(*_engine()["unevaluated"]):
        return None
    symbols = sorted(expression.free_symbols, key=str)
    values = []
    for offset in _POINTS:
        # A symbol's value depends on its name only, so that x means the same on both sides.
        point = {
            symbol: sympy.I
            if symbol.name == "i"
            else sympy.Rational(zlib.crc32(symbol.name.encode()) % 9973, 9973) + offset
            for symbol in symbols
        }
        value = expression.subs(point).evalf(precision)
        if not (value.is_number and value.is_finite and value.is_comparable is not None and not value.free_symbols):
            return None
        values.append(value)
    return values


def _gap(ours: Any, theirs: Any) -> float | None:
    """The relative difference of two values; None where both are so small that they may be rounding noise around 0."""
    largest = max(abs(ours), abs(theirs))
    if ours == theirs:
        return 0.0
    return None if largest < 1e-40 else float(abs(ours - theirs) / largest)


def _numerically(gold: Any, value: Any) -> bool | None:
    """Whether two expressions agree at fixed points to 50 digits (True) or clearly differ at one (False); None if unsure.

    Most of math-verify's time goes into simplifying differences that are not zero, and most of those are not zero at
    the first point tried.
    """
    sympy = _engine()["sympy"]
    if any(side.__class__ is sympy.Symbol and side.name != "i" for side in (gold, value)):
        return None  # words: math-verify compares e*a*s*t with the symbol "east"
    try:
        ours, theirs = _values(gold, 60), _values(value, 60)
        if ours is None or theirs is None:
            return None
        gaps = [_gap(a, b) for a, b in zip(ours, theirs, strict=True)]
        known = [gap for gap in gaps if gap is not None]
        if len(known) < len(gaps):
            exact = gold.doit(), value.doit()
            return bool(exact[0] == exact[1]) if exact[0].is_Rational and exact[1].is_Rational else None
        if any(gap > 1e-3 for gap in known):
            return False
        moderate = all(1e-20 < abs(a) < 1e20 for a in ours)  # else a difference of 1 would not show
        return True if moderate and all(gap < 1e-50 for gap in known) else None
    except (AttributeError, TypeError, ValueError, ArithmeticError, NotImplementedError, RecursionError):
        return None


@dataclasses.dataclass(frozen=True, kw_only=True)
class MathVerifier(PolicyVerifier):
    """Mathematical equality of an extracted answer and the gold answer.

    ``percent`` says what a percent sign on one side only means: ``either`` (25% is 25 and 0.25), ``value`` (0.25 only) or
    ``sign`` (25 only). ``units`` is ``strict`` (two different known units are wrong) or ``ignore``.
    Answers past the limits of `limits` are ``error`` of kind ``limit``. Raises VerifierError for other option values.
    """

    name: ClassVar[str] = "math"
    version: ClassVar[str] = "1"
    percent: str = "either"
    units: str = "strict"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_option(self.name, "percent", self.percent, ("either", "value", "sign"))
        check_option(self.name, "units", self.units, ("strict", "ignore"))

    def warm_up(self) -> None:
        """Import sympy and fill ANTLR's tables, whose first use of each shape costs 30 to 500 ms."""
        for gold, answer in _WARM_UP:
            self._by_engine(gold, answer)

    def key(self, answer: str) -> str:
        return lossless(answer)

    def verify(self, answer: str, problem: Problem) -> Verdict:
        right, kind = self._decide(problem.answer, answer)
        status = "error" if right is None else "correct" if right else "wrong"
        return Verdict(status=status, answer=answer, kind=kind)  # type: ignore[arg-type]

    def _decide(self, gold: str, answer: str) -> tuple[bool | None, str | None]:
        """(right, reason); right is None where the answer is past the limits."""
        if len(answer) > 100_000 or (len(answer) > 8192 and answer != gold):
            return None, "limit"
        ours, theirs = _normalised(gold), normalise(answer)
        decided = self._without_engine(ours, theirs)
        if decided is not None:
            return decided, None
        (ours, our_unit), (theirs, their_unit) = guards.split_unit(ours), guards.split_unit(theirs)
        if our_unit and their_unit and our_unit != their_unit and self.units == "strict":
            return False, "unit"
        decided = self._without_engine(ours, theirs) if our_unit or their_unit else None
        if decided is not None:
            return decided, None
        if breaks_limits(theirs) or breaks_limits(ours):
            return None, "limit"
        ours, theirs = guards.align_vectors(ours, theirs)
        return self._by_engine(ours, theirs)

    def _without_engine(self, gold: str, answer: str) -> bool | None:
        """What can be decided with certainty from the text alone."""
        if gold == answer and gold:
            return True
        if not answer:
            return False
        numbers = read_number(gold), read_number(answer)
        if numbers[0] is not None and numbers[1] is not None:
            return numbers_agree(numbers[0], numbers[1], self.percent)
        for compare in (guards.compare_choices, guards.compare_bases, guards.compare_texts):
            decided = compare(gold, answer)
            if decided is not None:
                return decided
        return None

    def _by_engine(self, gold: str, answer: str) -> tuple[bool, str | None]:
        """math-verify's verdict, with its "equal" checked against its known false positives."""
        ours, theirs = _parse(gold), _parse(answer)
        if not ours or not theirs:
            return False, None
        numerically = _numerically(ours[0], theirs[0])
        if numerically is False:
            return False, None
        verify = _engine()["verify"]
        if not _strictly(verify, ours, theirs, timeout_seconds=None, allow_set_relation_comp=True):
            return numerically is True and _is_whole(answer) and _is_whole(gold), None
        reason = guards.reject_by_shape(gold, answer)
        if reason is None and not (_is_whole(answer) and _is_whole(gold)) and not isinstance(theirs[0], str):
            reason = "unread"
        return reason is None, reason


_normalised = functools.lru_cache(maxsize=8192)(normalise)
