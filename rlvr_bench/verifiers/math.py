r"""Mathematical equality: decided by our grammar, and by math-verify where the grammar does not reach.

The order: equal texts, plain numbers (exactly), lettered choices, bases and times; then the limits; then `mathematics`, which
reads both answers completely and compares them by kind, or says that it cannot. The rest goes to math-verify, which only this
file imports. The gold goes first, because math-verify is not symmetric, and in ``\boxed{}``, because it reads bare LaTeX wrong.
Its "equal" counts only where its grammar read all of both answers; its "different" always counts.

`MathVerifier.verify` sets no time limit: run it in a `VerifierPool`. math-verify's limit uses SIGALRM, which counts whole
seconds of wall time and turns a timeout into "wrong".
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import logging
import re
from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

from rlvr_bench.errors import GoldError, VerifierError
from rlvr_bench.records import Problem, Verdict
from rlvr_bench.verifiers.base import PolicyVerifier, check_option, worked_answer
from rlvr_bench.verifiers.extraction import open_policy
from rlvr_bench.verifiers.mathematics import guards
from rlvr_bench.verifiers.mathematics.equality import Equality
from rlvr_bench.verifiers.mathematics.limits import breaks_limits
from rlvr_bench.verifiers.mathematics.normalise import for_engine, lossless, tidied
from rlvr_bench.verifiers.mathematics.rational import Tolerance, numbers_agree, read_number
from rlvr_bench.verifiers.mathematics.readings import readings, same_unit

__all__ = ["MathVerifier"]

_WARM_UP = (
    ("\\frac{1}{2}+x", "\\frac{x}{2}"), ("(1,2)", "(1,3)"), ("\\sqrt{2}", "2\\sqrt{3}"), ("x^2+2x+1", "(x+1)^2"),
    ("[0,1)\\cup(2,3]", "x<3"), ("\\{1,2\\}", "1,2"), ("\\sin{x}", "\\cos x"), ("y=2x+1", "2x-y+1=0"),
    ("\\begin{pmatrix}1&2\\\\3&4\\end{pmatrix}", "\\begin{pmatrix}1&2\\\\3&5\\end{pmatrix}"),
    ("\\text{east}", "\\text{west}"), ("\\pi e^{2}", "\\ln 2"), ("1+2i", "2-i"), ("5!", "\\binom{5}{2}"),
)  # fmt: skip
_BOX = re.compile(r"\\(?:boxed|fbox|framebox)")
_WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{2,}")
_MAX_WORDS = 40
_SYNTAX_WORDS = re.compile(r"\\text\{[^{}]*\}|[A-Za-z]{2,}|[\s.,:;()\[\]$*_~'\"]|\\[,;!: ]")
T = TypeVar("T")

_LONE_VALUE = re.compile(r"-?\d*(?:\\frac\{-?\d+\}\{-?\d+\}|/\d+)?\d*")


@functools.lru_cache(maxsize=1)
def _engine() -> Any:
    """The functions of math-verify that are used here; imported once, and only when needed."""
    import math_verify
    from latex2sympy2_extended import latex2sympy2
    from math_verify import parser

    for name in ("math_verify", "math_verify.parser", "math_verify.grader", "latex2sympy2_extended"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # it logs at warning level for every odd answer
    return {
        "parse": math_verify.parse,
        "verify": math_verify.verify,
        "parser": parser,
        "latex": latex2sympy2,
    }


@functools.lru_cache(maxsize=8)
def _config(units: bool) -> Any:
    engine = _engine()
    normalization = engine["latex"].NormalizationConfig(
        basic_latex=True, units=units, malformed_operators=True, nits=True, boxed="all", equations=False
    )
    return engine["parser"].LatexExtractionConfig(normalization_config=normalization)


@functools.lru_cache(maxsize=8192)
def _parse(answer: str) -> list[object]:
    """What math-verify reads in an answer: [expression, text], [text] or []. Cached: a gold is parsed once per worker."""
    engine = _engine()
    config = (_config(not guards.is_algebraic_tail(answer)), engine["parser"].ExprExtractionConfig())
    parsed: list[object] = _strictly(
        engine["parse"], "\\boxed{" + answer + "}", extraction_config=config, parsing_timeout=None
    )
    return parsed


def _strictly(function: Callable[..., T], *arguments: object, **options: object) -> T:
    """Call math-verify so that a MemoryError is raised, and every other failure becomes math-verify's result.

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
    """Whether the grammar reads all of the answer, and not just a prefix or the last number."""
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class MathVerifier(PolicyVerifier):
    """Mathematical equality of an extracted answer and the gold answer.

    ``percent`` is the meaning of a percent sign on one side only: ``either`` (25% is 25 and 0.25), ``value`` (0.25 only) or
    ``sign`` (25 only). ``units`` is ``strict`` (two different known units are wrong) or ``ignore``. ``decimals`` and
    ``tolerance`` say how close a decimal number must be (`Tolerance`). Answers past the limits of `limits` are ``error`` of
    kind ``limit``. Raises VerifierError for other option values.
    """

    name: ClassVar[str] = "math"
    version: ClassVar[str] = "2"
    percent: str = "either"
    units: str = "strict"
    decimals: int = 6
    tolerance: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_option(self.name, "percent", self.percent, ("either", "value", "sign"))
        check_option(self.name, "units", self.units, ("strict", "ignore"))
        check_option(self.name, "decimals", self.decimals, range(1, 51))
        if not isinstance(self.tolerance, int | float) or not 0 <= self.tolerance < 1:
            raise VerifierError(
                f"verifier 'math': option tolerance={self.tolerance!r} is not a number from 0 to below 1"
            )

    @property
    def _equality(self) -> Equality:
        return _equality(self.percent, self.decimals, self.tolerance)

    def warm_up(self) -> None:
        """Import sympy and fill ANTLR's tables: the first use of each kind of expression costs 30 to 500 ms."""
        for gold, answer in _WARM_UP:
            self._by_reading(gold, answer)
            self._by_engine(gold, answer)

    def read_gold(self, answer: str) -> str:
        """The gold answer; of a worked solution what follows ``####``, or the only box.

        Raises GoldError for a gold answer that is empty, has several boxes in prose, or is prose without a marked answer.
        """
        gold = super().read_gold(answer)
        if "####" in gold or _BOX.search(gold):
            gold = worked_answer(gold) or self._gold_of_boxes(gold)
        if not tidied(gold):
            raise GoldError(f"the gold answer {answer[:80]!r} is empty without its decoration")
        if len(_WORD.findall(gold)) > _MAX_WORDS:
            raise GoldError(f"the gold answer {answer[:80]!r} is a text: mark its answer with \\boxed{{}} or ####")
        return gold

    def _gold_of_boxes(self, gold: str) -> str:
        extraction = open_policy("boxed")(gold)
        if extraction.answer is None:
            raise GoldError(f"the gold answer {gold[:80]!r} has nothing after #### or in its box")
        if not (extraction.candidates == 1 or extraction.joined):
            raise GoldError(f"the gold answer {gold[:80]!r} has several boxes: which one is it?")
        return extraction.answer

    def key(self, answer: str) -> str:
        return lossless(answer)

    def verify(self, answer: str, problem: Problem) -> Verdict:
        right, kind = self._decide(self.gold_of(problem), answer)
        status = "error" if right is None else "correct" if right else "wrong"
        return Verdict(status=status, answer=answer, kind=kind)  # type: ignore[arg-type]

    def _decide(self, gold: str, answer: str) -> tuple[bool | None, str | None]:
        """(right, reason); right is None where the answer is past the limits."""
        if len(answer) > 100_000 or (len(answer) > 8192 and answer != gold):
            return None, "limit"
        ours, theirs = _tidied(gold), tidied(answer)
        decided = self._by_text(ours, theirs)
        if decided is not None:
            return decided, None
        if breaks_limits(theirs) or breaks_limits(ours):
            return None, "limit"
        try:
            decided, reason = self._by_reading(ours, theirs)
        except RecursionError:  # hundreds of nested terms
            return None, "limit"
        if decided is not None:
            return decided, reason
        ours, theirs = guards.align_vectors(for_engine(ours), for_engine(theirs))
        return self._by_engine(ours, theirs)

    def _by_text(self, gold: str, answer: str) -> bool | None:
        """The verdict where the text alone is certain, else None."""
        if gold == answer and gold:
            return True
        if not answer:
            return False
        numbers = read_number(gold), read_number(answer)
        if numbers[0] is not None and numbers[1] is not None:
            return numbers_agree(numbers[0], numbers[1], self.percent, self._equality.tolerance)
        for compare in (guards.compare_choices, guards.compare_bases, guards.compare_times, guards.compare_texts):
            decided = compare(gold, answer)
            if decided is not None:
                return decided
        return None

    def _by_reading(self, gold: str, answer: str) -> tuple[bool | None, str | None]:
        """Equal if a reading of one equals a reading of the other; different if none does and all were compared."""
        ours, theirs = readings(gold), readings(answer)
        if not ours or not theirs:
            return None, None
        verdicts: list[bool | None] = []
        reason = None
        for mine, yours in itertools.product(ours, theirs):
            if self.units == "strict" and not same_unit(mine, yours):
                verdicts.append(False)
                reason = "unit"
                continue
            verdicts.append(self._equality.same(mine.node, yours.node))
            if verdicts[-1]:
                return True, None
        return (None, None) if None in verdicts else (False, reason)

    def _by_engine(self, gold: str, answer: str) -> tuple[bool, str | None]:
        """math-verify's verdict; its "equal" is checked for the parts that math-verify is known to drop."""
        ours, theirs = _parse(gold), _parse(answer)
        if not ours or not theirs:
            return False, None
        if not _strictly(_engine()["verify"], ours, theirs, timeout_seconds=None, allow_set_relation_comp=True):
            return False, None
        reason = guards.reject_by_shape(gold, answer)
        if reason is None and not (_is_whole(answer) and _is_whole(gold)):
            reason = "unread"
        return reason is None, reason


@functools.lru_cache(maxsize=8)
def _equality(percent: str, decimals: int, tolerance: float) -> Equality:
    return Equality(Tolerance(decimals, tolerance), percent)


_tidied = functools.lru_cache(maxsize=8192)(tidied)
