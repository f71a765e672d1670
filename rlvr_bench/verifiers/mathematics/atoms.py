r"""The smallest parts of an expression: numbers, letters, brackets, roots, functions, sums, sets in braces, matrices."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from fractions import Fraction

from rlvr_bench.verifiers.mathematics.cursor import Cursor
from rlvr_bench.verifiers.mathematics.lexing import FUNCTIONS, Token, Unreadable, word_set
from rlvr_bench.verifiers.mathematics.trees import Node, renamed

__all__ = ["Atoms", "number", "times"]

_ACCENTS = word_set(
    "overline bar hat widehat vec dot ddot tilde widetilde overrightarrow overleftarrow angle triangle square wideparen "
    "overset arc underline overarc measuredangle"
)
_BIG = word_set("sum prod int iint iiint oint lim limsup liminf bigcup bigcap sup inf")
_CONSTANTS = {"pi": "pi", "infty": "oo", "emptyset": "emptyset", "varnothing": "emptyset"}
_CLOSERS = {"lfloor": ("rfloor", "floor"), "lceil": ("rceil", "ceil"), "lvert": ("rvert", "abs")}
_DOTS = word_set("ldots dots cdots dotsc dotsb vdots ddots")
_MATRICES = word_set("matrix pmatrix bmatrix Bmatrix array smallmatrix")
_UNKNOWN_FUNCTIONS = frozenset("fghFGHPETVQ")
_CALLED_COMMANDS = word_set("phi varphi psi sigma tau mu zeta eta chi xi Phi Psi Omega Theta Gamma rho lambda")


class Atoms(Cursor, ABC):
    """Reads atoms; a subclass reads what they may contain."""

    @abstractmethod
    def _sum(self) -> Node: ...

    @abstractmethod
    def _product(self) -> Node: ...

    @abstractmethod
    def _power(self) -> Node: ...

    @abstractmethod
    def _postfix(self, node: Node) -> Node: ...

    @abstractmethod
    def _juxtapose(self, left: Node) -> Node: ...

    @abstractmethod
    def _relation(self) -> Node: ...

    @abstractmethod
    def _listed(self, ends: Callable[[], bool], op: str) -> Node: ...

    def _atom(self) -> Node:
        token = self._next()
        self._at += 1
        if token.kind == "num":
            return number(token.text)
        if token.kind == "sym":
            return self._symbol(token.text)
        if token.kind == "letters":
            return self._capitals(token.text)
        if token.kind == "op":
            return self._bracketed(token.text)
        if token.kind == "cmd":
            return self._command(token.text)
        raise Unreadable(f"unexpected {token.text!r}")

    def _capitals(self, letters: str) -> Node:
        """Adjacent capital letters; an exponent or a subscript belongs to the last of them."""
        if not self._is("op", "^", "_") and not self._is("cmd", "prime"):
            return Node("letters", name=letters)
        first = letters[:-1]
        last = self._postfix(self._symbol(letters[-1]))
        return times(Node("letters", name=first) if len(first) > 1 else Node("sym", name=first), last)

    def _symbol(self, name: str) -> Node:
        if name == "e" and not self._is("op", "_"):
            return Node("const", name="e")
        if name == "i" and not self._is("op", "_"):
            return Node("const", name="i")
        name = self._subscripted(name)
        is_called = self._is("op", "(") and (name[0] in _UNKNOWN_FUNCTIONS or self._at_zero() or self._is_defined())
        return self._called(name) if is_called else Node("sym", name=name)

    def _called(self, name: str) -> Node:
        self._expect("op", "(")
        inner = self._listed(lambda: self._is("op", ")"), "list")
        self._expect("op", ")")
        return Node("call", inner.parts if inner.op == "list" else (inner,), name)

    def _bracketed(self, opener: str) -> Node:
        if opener == "{":
            node = self._sum()
            self._expect("op", "}")
            return node
        if opener == "|":
            self._bars += 1
            node = self._sum()
            self._expect("op", "|")
            self._bars -= 1
            return Node("fun", (node,), "abs")
        if opener not in ("(", "[", "]"):
            raise Unreadable(f"unexpected {opener!r}")
        state = self._bars, self._plain_colon, self._turned
        self._bars, self._plain_colon, self._turned = 0, False, opener == "]"
        inner = self._listed(lambda: self._is("op", ")", "]", "["), "tuple")
        closer = self._next().text
        self._at += 1
        self._bars, self._plain_colon, self._turned = state
        if opener == "]" or closer == "[":
            opener, closer = {"]": "("}.get(opener, opener), {"[": ")"}.get(closer, closer)
        if inner.op == "list":
            return Node("tuple", inner.parts, opener + closer)
        if opener + closer not in ("()", "[]") or inner.op in ("text", "phrase"):
            raise Unreadable("a bracket of one kind closed by another")
        return inner

    def _command(self, name: str) -> Node:
        if name in FUNCTIONS:
            return self._function(name)
        if name in _CLOSERS:
            return self._between(_CLOSERS[name])
        if name in _CONSTANTS:
            return self._constant(_CONSTANTS[name])
        if name in _ACCENTS:
            return self._accented(name)
        if name in _BIG:
            return self._big(name)
        if name in _DOTS:
            return Node("dots")
        special = {"frac": self._quotient, "binom": self._binomial, "sqrt": self._root, "{": self._braces,
                   "langle": self._angles, "begin": self._environment, "mathbb": self._domain}  # fmt: skip
        return special[name]() if name in special else self._named_command(name)

    def _quotient(self) -> Node:
        return _fraction(self._argument(), self._argument())

    def _binomial(self) -> Node:
        return Node("fun", (self._argument(), self._argument()), "binom")

    def _between(self, closing: tuple[str, str]) -> Node:
        """A function written by brackets: floor, ceiling, absolute value."""
        closer, function = closing
        node = self._sum()
        self._expect("cmd", closer)
        return Node("fun", (node,), function)

    def _angles(self) -> Node:
        node = self._listed(lambda: self._is("cmd", "rangle"), "tuple")
        self._expect("cmd", "rangle")
        return Node("tuple", node.parts if node.op == "list" else (node,), "()")

    def _domain(self) -> Node:
        return Node("domain", name=self._subscripted(self._raw_group()))

    def _named_command(self, name: str) -> Node:
        if not name.isalpha():
            raise Unreadable(f"unknown \\{name}")
        full = self._subscripted("\\" + name)
        is_called = self._is("op", "(") and (name in _CALLED_COMMANDS or self._at_zero())
        return self._called(full) if is_called else Node("sym", name=full)

    def _constant(self, name: str) -> Node:
        if name == "pi" and self._is("op", "_"):
            return Node("sym", name=self._subscripted("\\pi"))
        return Node("domain", name=name) if name == "emptyset" else Node("const", name=name)

    def _argument(self) -> Node:
        """The argument of a LaTeX command: a group, or the next single token (a digit of a longer number)."""
        if self._is("op", "{"):
            self._at += 1
            node = self._sum()
            self._expect("op", "}")
            return node
        token = self._next()
        if token.kind == "num" and len(token.text) > 1:
            self._tokens[self._at] = Token("num", token.text[1:])
            return number(token.text[0])
        return self._atom()

    def _root(self) -> Node:
        degree = None
        if self._take("op", "["):
            degree = self._sum()
            self._expect("op", "]")
        inner = self._argument()
        return Node("fun", (inner,), "sqrt") if degree is None else Node("fun", (inner, degree), "root")

    def _function(self, name: str) -> Node:
        """A named function with its base or power, and its argument: a bracket, or the factors up to the next sign."""
        base, power = None, None
        while self._is("op", "_", "^"):
            if self._take("op", "_"):
                base = self._argument()
            else:
                self._at += 1
                power = Node("neg", (self._argument(),)) if self._take("op", "-") else self._argument()
        argument = self._function_argument(name)
        inverse = power is not None and power.op == "neg" and power.parts[0].value == 1
        parts = argument.parts if argument.op in ("tuple", "list", "set") else (argument,)
        node = Node("fun", parts if base is None else (*parts, base), _function_name(name, inverse, base is not None))
        return node if power is None or inverse else Node("pow", (node, power))

    def _function_argument(self, name: str) -> Node:
        if self._is("op", "(") or self._is("op", "{") or self._is("op", "[") or self._is("cmd", "{"):
            node = self._atom()
            if name in ("max", "min", "gcd", "lcm") or node.op not in ("tuple", "set"):
                return node
            raise Unreadable(f"{name} of several values")
        if self._take("op", "-"):
            return Node("neg", (self._function_argument(name),))
        node = self._power()
        while self._is("num") or self._is("sym") or self._is("cmd", "pi", "frac", "sqrt") or self._is_greek():
            node = self._juxtapose(node)
        return node

    def _accented(self, name: str) -> Node:
        digits = self._letters_ahead() if name in ("overline", "bar") else ""
        if digits:
            return self._postfix_name(Node("sym", name=f"overline {digits}"))
        is_points = name in ("angle", "triangle", "measuredangle", "square") and not self._is("op", "{")
        inner = self._atom() if is_points else self._argument()
        name = "vec" if name == "overrightarrow" and inner.op == "letters" else name
        if inner.op in ("sym", "letters"):
            named = self._postfix_name(Node(inner.op, name=f"{name} {_undirected(name, inner.name)}"))
            return self._called(named.name) if self._is("op", "(") and self._at_zero() else named
        return Node("opaque", (inner,), {"bar": "overline"}.get(name, name))

    def _postfix_name(self, node: Node) -> Node:
        return Node(node.op, name=self._subscripted(node.name))

    def _big(self, name: str) -> Node:
        """A sum, integral or limit as an opaque node: its bounds, and the term up to the next sign."""
        start, bounds = self._at, {}
        while self._is("op", "_", "^"):
            sign = self._next().text
            self._at += 1
            bounds[sign] = self._raw_group()
        if name in ("sum", "prod") and re.fullmatch(r"[a-z]=.+", bounds.get("_", "")) and "^" in bounds:
            return self._finite(name, start)
        texts = (Node("text", name=sign + text) for sign, text in sorted(bounds.items()))
        return Node("opaque", (*texts, self._product()), name)

    def _finite(self, name: str, start: int) -> Node:
        """A sum or product over one variable: (variable, first, last, term)."""
        self._at = start
        bounds = {}
        while self._is("op", "_", "^"):
            sign = self._next().text
            self._at += 1
            self._rows, rows = True, self._rows
            bounds[sign] = self._bound()
            self._rows = rows
        variable, first = bounds["_"].parts
        counter = Node("sym", name="@" + "+" * self._sums)
        self._sums += 1
        term = renamed(self._product(), variable.name, counter)
        self._sums -= 1
        return Node(name, (counter, first, bounds["^"], term))

    def _bound(self) -> Node:
        if not self._take("op", "{"):
            return self._atom()
        node = self._relation()
        self._expect("op", "}")
        return node

    def _braces(self) -> Node:
        if self._take("cmd", "}"):
            return Node("domain", name="emptyset")
        state = self._bars, self._plain_colon
        self._bars, self._plain_colon = 1, True  # a bar or colon in braces separates
        inner = self._listed(lambda: self._is("cmd", "}", "mid") or self._is("op", "|", ":"), "set")
        is_set = self._is("cmd", "}")
        self._at += 1
        self._bars, self._plain_colon = state
        if is_set:
            return Node("set", inner.parts if inner.op == "list" else (inner,))
        conditions = self._listed(lambda: self._is("cmd", "}"), "list")
        self._expect("cmd", "}")
        several = conditions.op == "list" and conditions.name != "or"
        return Node("builder", (inner, *(conditions.parts if several else (conditions,))))

    def _environment(self) -> Node:
        name = self._raw_group()
        if name == "array" and self._is("op", "{"):
            self._raw_group()
        rows, row = [], []
        outer, self._rows = self._rows, True
        while not self._is("cmd", "end"):
            row.append(self._listed(lambda: self._is("cmd", "amp", "newline", "end"), "list"))
            if self._take("cmd", "amp"):
                continue
            if self._take("cmd", "newline") or self._is("cmd", "end"):
                rows.append(Node("row", tuple(row)))
                row = []
        self._rows = outer
        self._expect("cmd", "end")
        if self._raw_group() != name or not rows:
            raise Unreadable("an environment that is not closed")
        if name == "cases":
            return Node("cases", tuple(rows))
        if name == "vmatrix":
            return Node("fun", (Node("matrix", tuple(rows)),), "det")
        if name not in _MATRICES or len({len(row.parts) for row in rows}) > 1:
            raise Unreadable(f"environment {name}")
        return Node("matrix", tuple(rows))


def number(text: str) -> Node:
    return Node("num", name=text, value=Fraction(text if text[-1] != "." else text[:-1]))


def _undirected(accent: str, letters: str) -> str:
    """Points in one fixed order where their order has no meaning: an angle or segment from either end, a triangle."""
    if accent in ("angle", "measuredangle", "overline", "bar", "widehat") and letters.isupper():
        return min(letters, letters[::-1])
    return "".join(sorted(letters)) if accent == "triangle" else letters


_DIRECTED = ("vec ", "overrightarrow ")


def times(left: Node, right: Node, *, cross: bool = False) -> Node:
    if cross and left.name.startswith(_DIRECTED) and right.name.startswith(_DIRECTED):
        return Node("opaque", (left, right), "cross")
    return Node("mul", (left, right))


def _fraction(top: Node, bottom: Node) -> Node:
    """A quotient; or a derivative such as dy/dx, which is one name."""
    (order, of), (power, by) = _differential(top, below=False), _differential(bottom, below=True)
    if order and order == power and of and by:
        return Node("sym", name=f"D{order} {of}/{by}")
    return Node("div", (top, bottom))


def _differential(node: Node, *, below: bool) -> tuple[int, str]:
    """The order and variable of ``dy`` or ``d^2 y`` above and ``dx^2`` below; order 0 for anything else."""
    if node.op == "sym" and re.fullmatch(r"d[a-z]", node.name):
        return 1, node.name[1:]
    if below and node.op == "pow" and node.parts[1].op == "num" and node.parts[1].name.isdigit():
        order, name = _differential(node.parts[0], below=True)
        return order * int(node.parts[1].name), name
    if node.op != "mul" or node.parts[1].op not in ("sym", "pow", "call"):
        return 0, ""
    left, right = node.parts
    if left.op == "sym" and left.name == "d":
        if right.op == "pow" and not below:
            return 0, ""
        inner = right.parts[0] if right.op == "pow" else right
        order = int(right.parts[1].name) if right.op == "pow" and right.parts[1].name.isdigit() else 1
        return (order, inner.name) if inner.op in ("sym", "call") else (0, "")
    is_power = left.op == "pow" and left.parts[0].name == "d" and left.parts[1].name.isdigit()
    return (int(left.parts[1].name), right.name) if is_power and right.op == "sym" else (0, "")


_INVERSES = {"sin": "asin", "cos": "acos", "tan": "atan", "cot": "acot", "sec": "asec", "csc": "acsc"}
_SAME = {
    "arcsin": "asin", "arccos": "acos", "arctan": "atan", "arccot": "acot", "arcsec": "asec", "arccsc": "acsc", "lg": "log",
    "tg": "tan", "ctg": "cot", "arctg": "atan", "sign": "sgn",
}  # fmt: skip


def _function_name(name: str, inverse: bool, has_base: bool) -> str:
    if inverse:
        if name not in _INVERSES:
            raise Unreadable(f"{name} to the power -1")
        return _INVERSES[name]
    if has_base and name not in ("log", "ln"):
        raise Unreadable(f"{name} with a subscript")
    return "logbase" if has_base else _SAME.get(name, name)
