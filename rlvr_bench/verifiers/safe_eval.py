"""A replacement of Python's ``eval`` for third-party scorers that call it on a model's text: arithmetic, nothing that runs.

reasoning-gym's scorers read an answer by ``eval(answer)`` or by sympy's ``parse_expr``, which calls ``eval``. `guard` replaces
``eval``, ``exec`` and ``compile`` by `evaluate` for all callers but the standard library. `evaluate` walks the syntax tree:
numbers, strings, brackets, operators on numbers and formulas, and calls of known mathematical functions. Attributes,
subscripts, lambdas, comprehensions and other calls raise `Refused`, and are counted. No model text is ever compiled to code.

It uses only the standard library: the interpreter in the sandbox gets the text of this file.
"""

from __future__ import annotations

import ast
import builtins
import operator
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

__all__ = ["Refused", "evaluate", "guard", "refusals"]

_OPERATORS: dict[type, Callable[..., object]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
    ast.BitAnd: operator.and_,
    ast.BitOr: operator.or_,
    ast.BitXor: operator.xor,
    ast.LShift: operator.lshift,
    ast.RShift: operator.rshift,
    ast.UAdd: operator.pos,
    ast.USub: operator.neg,
    ast.Invert: operator.invert,
}
_BRACKETS: dict[type, Callable[[Iterable[object]], object]] = {ast.List: list, ast.Tuple: tuple, ast.Set: set}
_NUMBERS = frozenset({bool, int, float, complex})
# Nodes that run something, or reach into an object. Any other unknown node only makes the answer wrong.
_RUNNING = (
    ast.Attribute,
    ast.Await,
    ast.Call,
    ast.DictComp,
    ast.GeneratorExp,
    ast.JoinedStr,
    ast.Lambda,
    ast.ListComp,
    ast.NamedExpr,
    ast.SetComp,
    ast.Subscript,
    ast.Yield,
    ast.YieldFrom,
)
_MADE_OF_TEXT = frozenset({"Float", "Function", "Integer", "Rational", "Symbol"})  # what sympy's parser writes
_PLAIN_TEXT = re.compile(r"[\w.+/-]{1,200}")
_CONSTANTS = frozenset(
    {"Catalan", "E", "EulerGamma", "GoldenRatio", "I", "e", "false", "nan", "oo", "pi", "true", "zoo"}
)
_FUNCTIONS = _MADE_OF_TEXT | frozenset(
    """
    Abs Add And Chi Ci Ei Eq Equivalent Ge Gt Heaviside Implies LambertW Le Lt Max Min Mod Mul Ne Not Or Piecewise Pow Shi Si
    Xor abs acos acosh acot acoth acsc acsch airyai airybi arg asec asech asin asinh atan atan2 atanh bell bernoulli besseli
    besselj besselk bessely beta binomial cbrt ceiling conjugate cos cosh cot coth csc csch digamma elliptic_e elliptic_f
    elliptic_k erf erfc erfi exp expint factorial factorial2 fibonacci floor frac fresnelc fresnels gamma gcd hyper im lcm li ln
    log loggamma lowergamma max min polygamma polylog re root sec sech sign sin sinc sinh sqrt subfactorial tan tanh uppergamma
    zeta
    """.split()  # noqa: SIM905  a list of a hundred strings takes a hundred lines
)


class Refused(Exception):
    """The text asks for more than arithmetic."""


refusals: list[str] = []
"""The node types refused since the start: scorers hide the exceptions."""


def _refuse(kind: str) -> Refused:
    refusals.append(kind)
    return Refused(f"{kind} is not evaluated")


def _is_formula(value: object) -> bool:
    return type(value) in _NUMBERS or type(value).__module__.partition(".")[0] == "sympy"


class _Evaluation:
    """The value of one syntax tree; it looks up only the ``names`` known as mathematics, and variables that are formulas."""

    def __init__(self, names: Mapping[str, Any], local: Mapping[str, object]) -> None:
        self._names, self._local = names, local

    def value(self, node: ast.AST) -> object:
        if isinstance(node, ast.Constant) and (type(node.value) in _NUMBERS or isinstance(node.value, str | None)):
            return node.value
        if type(node) in _BRACKETS:
            return _BRACKETS[type(node)](self.value(part) for part in node.elts)  # type: ignore[attr-defined]
        if isinstance(node, ast.Dict) and None not in node.keys:
            keys = [self.value(key) for key in node.keys if key is not None]
            return dict(zip(keys, map(self.value, node.values), strict=True))
        if isinstance(node, ast.UnaryOp | ast.BinOp) and type(node.op) in _OPERATORS:
            return self._operation(node)
        if isinstance(node, ast.Name):
            return self._look_up(node.id)
        if isinstance(node, ast.Call):
            return self._call(node)
        if isinstance(node, _RUNNING):
            raise _refuse(type(node).__name__)
        raise ValueError(f"{type(node).__name__} is not a value")

    def _operation(self, node: ast.UnaryOp | ast.BinOp) -> object:
        parts = [node.operand] if isinstance(node, ast.UnaryOp) else [node.left, node.right]
        operands = [self.value(part) for part in parts]
        if not all(map(_is_formula, operands)):
            raise ValueError("an operator takes numbers and formulas only")
        return _OPERATORS[type(node.op)](*operands)

    def _look_up(self, name: str) -> object:
        if name in self._local and _is_formula(self._local[name]) and not callable(self._local[name]):
            return self._local[name]
        if name in _CONSTANTS and name in self._names:
            return self._names[name]
        raise NameError(name)

    def _call(self, node: ast.Call) -> object:
        if node.keywords:
            raise _refuse("Call")
        if isinstance(node.func, ast.Name) and node.func.id in _FUNCTIONS and node.func.id in self._names:
            if node.func.id in _MADE_OF_TEXT and self._is_plain(node.args):
                return self._names[node.func.id](*[argument.value for argument in node.args])  # type: ignore[attr-defined]
            function = self._names[node.func.id]
        elif isinstance(node.func, ast.Call) and getattr(node.func.func, "id", "") == "Function":
            function = self._call(node.func)
        else:
            raise _refuse("Call")
        arguments = [self.value(argument) for argument in node.args]
        if not all(map(_is_formula, arguments)):
            raise ValueError("a function takes numbers and formulas only")
        return function(*arguments)

    @staticmethod
    def _is_plain(arguments: list[ast.expr]) -> bool:
        for argument in arguments:
            value = argument.value if isinstance(argument, ast.Constant) else None
            if type(value) not in _NUMBERS and not (isinstance(value, str) and _PLAIN_TEXT.fullmatch(value)):
                return False
        return True


def evaluate(text: str, names: Mapping[str, object] | None = None, local: Mapping[str, object] | None = None) -> object:
    """The value of ``text``; ``names`` hold the mathematics that it may use (sympy's), ``local`` its variables.

    Raises SyntaxError, ValueError or NameError where it has no such value, Refused where it would run something.
    """
    tree = ast.parse(text.strip(), mode="eval")
    return _Evaluation(names or {}, local or {}).value(tree.body)


# --------------------------------------------------------------------------------------------- replacements of built-ins

_eval, _exec, _compile = builtins.eval, builtins.exec, builtins.compile
_PARSER_STATEMENTS = frozenset({"from sympy import *"})  # sympy's parser fills its names with this statement
# A module that compiles functions for multiplying monomials; their code depends only on the number of variables.
_WITHOUT_TEXT = frozenset({"sympy.polys.monomials"})


def _is_trusted(scope: Mapping[str, object]) -> bool:
    """Whether a caller is the standard library, or a module known to compile no part of an answer."""
    name = str(scope.get("__name__", ""))
    return name in _WITHOUT_TEXT or name.partition(".")[0] in sys.stdlib_module_names


def _guarded_eval(source: Any, names: Any = None, local: Any = None, /) -> Any:
    caller = sys._getframe(1)
    if _is_trusted(caller.f_globals):
        return _eval(source, caller.f_globals if names is None else names, caller.f_locals if local is None else local)
    if not isinstance(source, str):
        raise _refuse("code")
    return evaluate(source, names, local)


def _guarded_exec(source: Any, names: Any = None, local: Any = None, /, **options: Any) -> None:
    caller = sys._getframe(1)
    if not _is_trusted(caller.f_globals) and source not in _PARSER_STATEMENTS:
        raise _refuse("code")
    names = caller.f_globals if names is None else names
    _exec(source, names, names if local is None else local, **options)


def _guarded_compile(source: Any, filename: Any, mode: str, flags: int = 0, *rest: Any, **options: Any) -> Any:
    if not _is_trusted(sys._getframe(1).f_globals) and not flags & ast.PyCF_ONLY_AST:
        raise _refuse("code")
    return _compile(source, filename, mode, flags, *rest, **options)


def guard() -> None:
    """From now on ``eval``, ``exec`` and ``compile`` run nothing that a third-party package passes to them."""
    builtins.eval, builtins.exec, builtins.compile = _guarded_eval, _guarded_exec, _guarded_compile
