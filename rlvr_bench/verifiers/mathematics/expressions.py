r"""What an answer says, as a tree: a small grammar for the LaTeX that answers are written in, read to its end or not at all.

`read` knows numbers, terms, functions, equations, inequalities, sets, intervals, tuples, matrices, ratios and the words around
them. What it does not know raises `Unreadable`: nothing is skipped, and nothing is guessed. It calls no ``eval`` and takes time
linear in the text (nesting is limited by `limits`).

A node's ``op`` says what it is; ``parts`` are its children and ``name`` what distinguishes it:

======================  =====================================================================================
num, sym, letters       a number (``value``; ``name`` as written), a variable, capital letters side by side
const                   pi, e, i, oo
add, mul, div, pow      arithmetic; also neg, fact, percent, pm (``name`` is + for ± and - for ∓)
fun                     a known function of its parts; ``call``: an unknown one, or a product of a letter and a bracket
opaque                  something with parts that has no value here: a sum, a limit, a vector, a conjugate
tuple, list, set        parts in round or square brackets (``name``), without brackets (``name``: , or "or"), in braces
builder, setop, domain  {x | ...}; union, intersection, difference (``name``); a named set such as R
rel                     a chain of sides; ``name`` holds the relation signs between them, separated by blanks
matrix, row, cases      a matrix of rows, and a case distinction
ratio, mod, dots, text  a : b, "b modulo m", an ellipsis, words
phrase                  parts of text and mathematics in the order they were written
======================  =====================================================================================
"""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction
from typing import NamedTuple

from rlvr_bench.verifiers.mathematics.lexing import FUNCTIONS, Token, Unreadable, tokens

__all__ = ["Node", "Unreadable", "read"]


class Node(NamedTuple):
    """One node of what was read; see the module for the meaning of ``op``."""

    op: str
    parts: tuple[Node, ...] = ()
    name: str = ""
    value: Fraction = Fraction(0)


_RELATIONS = {
    "=": "=", "<": "<", ">": ">", "le": "<=", "leq": "<=", "leqslant": "<=", "ge": ">=", "geq": ">=", "geqslant": ">=",
    "lt": "<", "gt": ">", "ne": "!=", "neq": "!=", "in": "in", "notin": "notin", "subset": "sub", "subseteq": "sube",
    "equiv": "mod", "approx": "~", "simeq": "~", "doteq": "~", "cong": "cong", "to": "to", "rightarrow": "to", "perp": "perp",
    "parallel": "par", "sim": "sim", "mid": "mid", "propto": "propto",
}  # fmt: skip
_SET_SIGNS = {"cup": "union", "cap": "intersection", "setminus": "minus", "backslash": "minus"}
_MULTIPLY = frozenset(("*", "cdot", "times", "ast"))
_DIVIDE = frozenset(("/", "div"))
_SEPARATORS = frozenset((",", ";"))
_OPENERS = {"(": ")", "[": "]"}
_ACCENTS = frozenset(
    "overline bar hat widehat vec dot ddot tilde widetilde overrightarrow overleftarrow angle triangle square wideparen "
    "overset arc underline overarc measuredangle".split()
)
_BIG = frozenset("sum prod int iint iiint oint lim limsup liminf bigcup bigcap sup inf".split())
_CONSTANTS = {"pi": "pi", "infty": "oo", "emptyset": "emptyset", "varnothing": "emptyset"}
_DOTS = frozenset("ldots dots cdots dotsc dotsb vdots ddots".split())
_MATRICES = frozenset("matrix pmatrix bmatrix Bmatrix array smallmatrix".split())
_UNKNOWN_FUNCTIONS = frozenset("fghFGHPETVQ")
_CALLED_COMMANDS = frozenset("phi varphi psi sigma tau mu zeta eta chi xi Phi Psi Omega Theta Gamma rho lambda".split())
_UNARY_MINUS = frozenset(("-", "+"))


def read(text: str, *, tight_slash: bool = False, euler: bool = False) -> Node:
    """The tree of an answer.

    ``tight_slash`` reads a/bc as a/(bc), ``euler`` reads 2e-3 as 2·e - 3: the two notations that have two readings.
    Raises Unreadable where any part of the text is not in the grammar.
    """
    reader = _Reader(tokens(text, euler=euler), tight_slash)
    try:
        node = reader.answer()
    except (RecursionError, IndexError) as error:
        raise Unreadable(type(error).__name__) from error
    reader.finish()
    return node


class _Reader:
    """Recursive descent over the tokens; each method reads one kind of thing and leaves the position after it."""

    def __init__(self, found: list[Token], tight_slash: bool) -> None:
        self._tokens, self._at, self._tight = found, 0, tight_slash
        self._sums = 0  # sums around this place
        self._bars = 0  # open absolute values: a bar closes the last one
        self._plain_colon = self._rows = self._turned = False  # in braces; in a matrix; in ]a, b[

    # ------------------------------------------------------------------------------------------------- positions

    def _next(self) -> Token:
        return self._tokens[self._at] if self._at < len(self._tokens) else Token("end", "")

    def _is(self, kind: str, *texts: str) -> bool:
        token = self._next()
        return token.kind == kind and (not texts or token.text in texts)

    def _take(self, kind: str, *texts: str) -> Token | None:
        if not self._is(kind, *texts):
            return None
        self._at += 1
        return self._tokens[self._at - 1]

    def _expect(self, kind: str, *texts: str) -> None:
        if self._take(kind, *texts) is None:
            raise Unreadable(f"expected {texts}, found {self._next().text!r}")

    def finish(self) -> None:
        if self._at < len(self._tokens):
            raise Unreadable(f"not read: {self._next().text!r}")

    # --------------------------------------------------------------------------------------------- lists and items

    def answer(self) -> Node:
        """Items with separators between them; one item is itself."""
        return self._listed(lambda: self._is("end"), "list")

    def _separator(self) -> str | None:
        if self._take("op", ",", ";") or (not self._rows and self._take("cmd", "newline")):
            return self._separator_word() or ","
        return self._separator_word()

    def _separator_word(self) -> str | None:
        word = self._take("word", "and", "or") or self._take("cmd", "lor", "vee", "land", "wedge")
        if word is None:
            return None
        return "or" if word.text in ("or", "lor", "vee") else "and"

    def _listed(self, ends: Callable[[], bool], op: str) -> Node:
        items, signs = [], []
        while not ends():
            items.append(self._item())
            sign = self._separator()
            if sign is None:
                break
            signs.append(sign)
        if not ends():
            raise Unreadable(f"not read: {self._next().text!r}")
        if len(items) == 1 and not (op != "list" and signs):
            return items[0]
        if not items:
            raise Unreadable("empty")
        return Node("list", tuple(items), "or" if "or" in signs else ",")

    def _words(self) -> Node | None:
        words = []
        while self._is("word") and not self._is("word", "and", "or"):
            words.append(self._take("word").text)  # type: ignore[union-attr]
        return Node("text", name=" ".join(words)) if words else None

    def _item(self) -> Node:
        """A relation, or words and relations one after the other."""
        parts: list[Node] = []
        while True:
            if parts and parts[-1].op != "text" and self._take("word", "to"):
                parts[-1] = Node("ratio", (parts[-1], self._sum()))
            words = self._words()
            if words is not None:
                parts.append(words)
                if self._take("op", ":") or self._take("op", "=") or self._take("cmd", "approx"):
                    return Node("rel", (Node("phrase", tuple(parts)) if len(parts) > 1 else words, self._item()), "=")
            elif self._starts_side():
                parts.append(self._relation())
            else:
                break
        if not parts:
            raise Unreadable(f"nothing before {self._next().text!r}")
        return parts[0] if len(parts) == 1 else Node("phrase", tuple(parts))

    def _starts_side(self) -> bool:
        token = self._next()
        if token.kind in ("num", "sym", "letters", "frame"):
            return True
        if token.kind == "op":
            opens = token.text in "({-+" or self._opens_square(token.text)
            return opens or (token.text == "|" and not self._bars)
        return token.kind == "cmd" and (token.text in ("pm", "mp", "{") or self._starts_atom(token.text))

    def _opens_square(self, bracket: str) -> bool:
        """In the French form of an open interval, ]a, b[, square brackets are turned around."""
        if bracket == "]":
            return self._at == 0 or self._tokens[self._at - 1].text in ("cup", "in", "=", "cap")
        return bracket == "[" and not self._turned

    def _relation(self) -> Node:
        sides, signs = [self._set()], []
        while True:
            token = self._next()
            sign = _RELATIONS.get(token.text) if token.kind in ("op", "cmd") else None
            if sign is None or (sign == "mid" and self._bars):
                break
            self._at += 1
            signs.append(sign)
            words = self._words()
            sides.append(words if words is not None else self._set())
        sides, signs = _without_approximations(sides, signs)
        if self._is("cmd", "pmod", "mod", "bmod"):
            sides[-1] = self._modulus(sides[-1])
        return sides[0] if not signs else Node("rel", tuple(sides), " ".join(signs))

    def _modulus(self, side: Node) -> Node:
        self._at += 1
        return Node("mod", (side, self._atom()))

    def _set(self) -> Node:
        node = self._ratio()
        while self._is("cmd", *_SET_SIGNS):
            name = _SET_SIGNS[self._next().text]
            self._at += 1
            node = Node("setop", (node, self._ratio()), name)
        return node

    def _ratio(self) -> Node:
        parts = [self._sum()]
        while self._is("op", ":") and not self._plain_colon:
            self._at += 1
            parts.append(self._sum())
        return parts[0] if len(parts) == 1 else Node("ratio", tuple(parts))

    # ------------------------------------------------------------------------------------------------- arithmetic

    def _sum(self) -> Node:
        terms = [self._signed()]
        while True:
            if self._take("op", "+"):
                terms.append(self._signed())
            elif self._take("op", "-"):
                terms.append(Node("neg", (self._signed(),)))
            elif sign := self._take("cmd", "pm", "mp"):
                terms.append(Node("pm", (self._product(),), "+" if sign.text == "pm" else "-"))
            else:
                return terms[0] if len(terms) == 1 else Node("add", tuple(terms))

    def _signed(self) -> Node:
        if self._take("op", "-"):
            return Node("neg", (self._signed(),))
        if self._take("op", "+"):
            return self._signed()
        if sign := self._take("cmd", "pm", "mp"):
            return Node("pm", (self._product(),), "+" if sign.text == "pm" else "-")
        return self._product()

    def _product(self) -> Node:
        node = self._power()
        while True:
            token = self._next()
            if token.kind in ("op", "cmd") and token.text in _MULTIPLY:
                self._at += 1
                node = _times(node, self._factor(), cross=token.text == "times")
            elif token.kind in ("op", "cmd") and token.text in _DIVIDE:
                self._at += 1
                node = Node("div", (node, self._divisor()))
            elif self._juxtaposed():
                node = self._beside(node)
            elif token.kind == "cmd" and token.text in ("bmod", "mod") and not self._is("cmd", "pmod"):
                self._at += 1
                node = Node("fun", (node, self._power()), "mod")
            else:
                return node

    def _factor(self) -> Node:
        return Node("neg", (self._factor(),)) if self._take("op", "-") else self._power()

    def _divisor(self) -> Node:
        node = self._factor()
        while self._tight and self._juxtaposed():
            node = self._beside(node)
        return node

    def _juxtaposed(self) -> bool:
        token = self._next()
        if token.kind in ("sym", "letters", "num", "frame"):
            return True
        if token.kind == "op":
            return (
                token.text in "({" or (token.text == "[" and not self._turned) or (token.text == "|" and not self._bars)
            )
        return token.kind == "cmd" and self._starts_atom(token.text)

    def _starts_atom(self, name: str) -> bool:
        return not (
            name in _RELATIONS or name in _SET_SIGNS or name in _MULTIPLY or name in _DIVIDE
            or name in ("pm", "mp", "rfloor", "rceil", "}", "end", "newline", "pmod", "bmod", "mod", "lor", "vee", "land",
                        "wedge", "rangle", "rvert", "prime", "circ", "%", "amp")
        )  # fmt: skip

    def _beside(self, left: Node) -> Node:
        """Multiplication without a sign; two numbers side by side are a mixed number or not readable."""
        number = self._next()
        if left.op == "num" and "." not in left.name and self._is("cmd", "frac"):
            right = self._atom()
            is_plain = right.op == "div" and all(part.op == "num" and part.name.isdigit() for part in right.parts)
            return self._postfix(Node("add", (left, right))) if is_plain else _times(left, self._postfix(right))
        if number.kind == "num" and (left.op in ("num", "neg") or self._tokens[self._at - 1].kind == "num"):
            top, slash, bottom = self._take("num"), self._take("op", "/"), self._take("num")
            if left.op != "num" or not (top and slash and bottom) or "." in left.name + top.text + bottom.text:
                raise Unreadable("two numbers side by side")
            if not int(bottom.text):
                raise Unreadable("division by zero")
            return Node("add", (left, Node("div", (_number(top.text), _number(bottom.text)))))
        return _times(left, self._power())

    def _power(self) -> Node:
        return self._postfix(self._atom())

    def _postfix(self, node: Node) -> Node:
        while True:
            if self._is("op", "^"):
                self._at += 1
                node = self._raised(node)
            elif self._take("op", "!"):
                node = Node("opaque", (node,), "!!") if self._take("op", "!") else Node("fact", (node,))
            elif self._take("cmd", "%"):
                node = Node("percent", (node,))
            elif self._take("cmd", "circ"):
                node = Node("fun", (node,), "degree")
            else:
                return node

    def _raised(self, base: Node) -> Node:
        if self._take("cmd", "circ"):
            return Node("fun", (base,), "degree")
        if self._take("op", "*") or self._take("cmd", "ast"):
            return Node("opaque", (base,), "star")
        if self._is("cmd", "prime"):
            count = 0
            while self._take("cmd", "prime"):
                count += 1
            return Node("sym", name=f"{_named(base)}{chr(39) * count}")
        if self._is("op", "{"):
            self._at += 1
            if self._is("cmd", "circ", "prime") or (self._is("op", "*") and self._tokens[self._at + 1].text == "}"):
                node = self._raised(base)
            else:
                node = Node("pow", (base, self._sum()))
            self._expect("op", "}")
            return node
        exponent = Node("neg", (self._atom(),)) if self._take("op", "-") else self._atom()
        return Node("pow", (base, exponent))

    # ----------------------------------------------------------------------------------------------------- atoms

    def _atom(self) -> Node:
        token = self._next()
        self._at += 1
        if token.kind == "num":
            return _number(token.text)
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
        """Capital letters side by side; an exponent or a subscript belongs to the last of them."""
        if not self._is("op", "^", "_") and not self._is("cmd", "prime"):
            return Node("letters", name=letters)
        first = letters[:-1]
        last = self._postfix(self._symbol(letters[-1]))
        return _times(Node("letters", name=first) if len(first) > 1 else Node("sym", name=first), last)

    def _symbol(self, name: str) -> Node:
        if name == "e" and not self._is("op", "_"):
            return Node("const", name="e")
        if name == "i" and not self._is("op", "_"):
            return Node("const", name="i")
        name = self._subscripted(name)
        is_called = self._is("op", "(") and (name[0] in _UNKNOWN_FUNCTIONS or self._at_zero())
        return self._called(name) if is_called else Node("sym", name=name)

    def _at_zero(self) -> bool:
        """Whether ``(0)`` follows: a value at 0, since nobody multiplies by (0)."""
        return [token.text for token in self._tokens[self._at : self._at + 3]] == ["(", "0", ")"]

    def _subscripted(self, name: str) -> str:
        """A symbol's name with its subscript and primes, in one spelling."""
        if self._take("op", "_"):
            name += "_" + self._raw_group()
        while self._take("cmd", "prime"):
            name += "'"
            if self._is("op", "("):
                break
        return name

    def _raw_group(self) -> str:
        """The tokens of a subscript as they are: ``max`` for ``{\\text{max}}``, ``1`` for ``{1}``."""
        if not self._take("op", "{"):
            token = self._next()
            self._at += 1
            return token.text
        depth, texts = 1, []
        while depth:
            token = self._next()
            if token.kind == "end":
                raise Unreadable("unclosed subscript")
            depth += (token.text == "{") - (token.text == "}") if token.kind == "op" else 0
            self._at += 1
            texts.append(token.text)
        return "".join(texts[:-1])

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
        if name in ("frac", "binom", "choose"):
            top, bottom = self._argument(), self._argument()
            return _fraction(top, bottom) if name == "frac" else Node("fun", (top, bottom), "binom")
        if name == "sqrt":
            return self._root()
        if name in _CONSTANTS:
            return self._constant(_CONSTANTS[name])
        if name in ("lfloor", "lceil"):
            node = self._sum()
            self._expect("cmd", "rfloor" if name == "lfloor" else "rceil")
            return Node("fun", (node,), "floor" if name == "lfloor" else "ceil")
        if name == "lvert":
            node = self._sum()
            self._expect("cmd", "rvert")
            return Node("fun", (node,), "abs")
        if name == "{":
            return self._braces()
        if name == "langle":
            node = self._listed(lambda: self._is("cmd", "rangle"), "tuple")
            self._expect("cmd", "rangle")
            return Node("tuple", node.parts if node.op == "list" else (node,), "()")
        if name in _ACCENTS:
            return self._accented(name)
        if name in _BIG:
            return self._big(name)
        if name in _DOTS:
            return Node("dots")
        if name == "begin":
            return self._environment()
        if name == "mathbb":
            return Node("domain", name=self._subscripted(self._raw_group()))
        return self._named_command(name)

    def _named_command(self, name: str) -> Node:
        if not name.isalpha():
            raise Unreadable(f"unknown \\{name}")
        full = self._subscripted("\\" + name)
        is_called = name in _CALLED_COMMANDS and self._is("op", "(")
        return self._called(full) if is_called else Node("sym", name=full)

    def _constant(self, name: str) -> Node:
        if name == "pi" and self._is("op", "_"):
            return Node("sym", name=self._subscripted("\\pi"))
        return Node("domain", name=name) if name == "emptyset" else Node("const", name=name)

    def _argument(self) -> Node:
        """What a LaTeX command takes: a group, or the next single token (a digit of a longer number)."""
        if self._is("op", "{"):
            self._at += 1
            node = self._sum()
            self._expect("op", "}")
            return node
        token = self._next()
        if token.kind == "num" and len(token.text) > 1:
            self._tokens[self._at] = Token("num", token.text[1:])
            return _number(token.text[0])
        return self._atom()

    def _root(self) -> Node:
        degree = None
        if self._take("op", "["):
            degree = self._sum()
            self._expect("op", "]")
        inner = self._argument()
        return Node("fun", (inner,), "sqrt") if degree is None else Node("fun", (inner, degree), "root")

    def _function(self, name: str) -> Node:
        """A named function with its base or power, and its argument: a bracket, or the terms up to the next sign."""
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
            node = self._beside(node)
        return node

    def _is_greek(self) -> bool:
        return self._is("cmd") and self._next().text.isalpha() and self._next().text in (
            "alpha", "beta", "gamma", "delta", "theta", "lambda", "mu", "omega", "phi", "varphi", "psi", "rho", "tau"
        )  # fmt: skip

    def _accented(self, name: str) -> Node:
        if name in ("angle", "triangle", "measuredangle", "square") and not self._is("op", "{"):
            inner = self._atom()
        else:
            inner = self._argument()
        name = "vec" if name == "overrightarrow" and inner.op == "letters" else name
        if inner.op in ("sym", "letters"):
            return self._postfix_name(Node(inner.op, name=f"{name} {_undirected(name, inner.name)}"))
        return Node("opaque", (inner,), {"bar": "overline"}.get(name, name))

    def _postfix_name(self, node: Node) -> Node:
        return Node(node.op, name=self._subscripted(node.name))

    def _big(self, name: str) -> Node:
        """A sum, integral or limit as something without a value: its bounds and what follows, up to the next sign."""
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
        found = {}
        while self._is("op", "_", "^"):
            sign = self._next().text
            self._at += 1
            self._rows, rows = True, self._rows
            found[sign] = self._bound()
            self._rows = rows
        variable, first = found["_"].parts
        counter = Node("sym", name="@" + "+" * self._sums)
        self._sums += 1
        term = _renamed(self._product(), variable.name, counter)
        self._sums -= 1
        return Node(name, (counter, first, found["^"], term))

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
        return Node("builder", (inner, *(conditions.parts if conditions.op == "list" else (conditions,))))

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
        if name not in _MATRICES or len({len(each.parts) for each in rows}) > 1:
            raise Unreadable(f"environment {name}")
        return Node("matrix", tuple(rows))


def _number(text: str) -> Node:
    return Node("num", name=text, value=Fraction(text if text[-1] != "." else text[:-1]))


def _named(node: Node) -> str:
    if node.op not in ("sym", "letters"):
        raise Unreadable("a prime on something that is not a name")
    return node.name


def _undirected(accent: str, letters: str) -> str:
    """Points in one order where the order says nothing: an angle or a segment read from either end, a triangle."""
    if accent in ("angle", "measuredangle", "overline", "bar", "widehat"):
        return min(letters, letters[::-1])
    return "".join(sorted(letters)) if accent == "triangle" else letters


def _renamed(node: Node, name: str, new: Node) -> Node:
    """An expression with another name for a letter, in subscripts too."""
    if node.op in ("sym", "const"):
        if node.name == name:
            return new
        head, mark, tail = node.name.rpartition("_")
        return node._replace(name=f"{head}_{new.name}") if mark and tail == name else node
    return node._replace(parts=tuple(_renamed(part, name, new) for part in node.parts)) if node.parts else node


def _without_approximations(sides: list[Node], signs: list[str]) -> tuple[list[Node], list[str]]:
    """a = b ~ c is a = b, and 2 sqrt 5 ~ 4.47 is 2 sqrt 5; x ~ 5 alone gives x the value 5."""
    if "~" not in signs:
        return sides, signs
    first = signs.index("~")
    if first or sides[0].op not in ("sym", "letters", "call", "text"):
        return sides[: first + 1], signs[:first]
    return sides, ["=" if sign == "~" else sign for sign in signs]


_DIRECTED = ("vec ", "overrightarrow ")


def _times(left: Node, right: Node, *, cross: bool = False) -> Node:
    if cross and left.name.startswith(_DIRECTED) and right.name.startswith(_DIRECTED):
        return Node("opaque", (left, right), "cross")
    return Node("mul", (left, right))


def _fraction(top: Node, bottom: Node) -> Node:
    """A quotient, or a derivative: dy/dx is one name."""
    (order, of), (power, by) = _differential(top), _differential(bottom)
    if order and order == power and of and by:
        return Node("sym", name=f"D{order} {of}/{by}")
    return Node("div", (top, bottom))


def _differential(node: Node) -> tuple[int, str]:
    """The order and the variable of ``dy``, ``d^2 y``, ``dx^2``; order 0 for anything else."""
    if node.op == "sym" and re.fullmatch(r"d[a-z]", node.name):
        return 1, node.name[1:]
    if node.op == "pow" and node.parts[1].op == "num" and node.parts[1].name.isdigit():
        order, name = _differential(node.parts[0])
        return order * int(node.parts[1].name), name
    if node.op != "mul" or node.parts[1].op not in ("sym", "pow", "call"):
        return 0, ""
    left, right = node.parts
    if left.op == "sym" and left.name == "d":
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
