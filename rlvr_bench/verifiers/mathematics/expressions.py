r"""Reads an answer as a tree, with a small grammar for the LaTeX of answers; it reads all of the text or fails.

`read` knows numbers, terms, functions, equations, inequalities, sets, intervals, tuples, matrices, ratios and the words around
them. Anything else raises `Unreadable`: nothing is skipped or guessed. It calls no ``eval`` and takes time linear in the text
(`limits` bounds the nesting).

`trees` describes the trees.
"""

from __future__ import annotations

from collections.abc import Callable

from rlvr_bench.verifiers.mathematics.atoms import Atoms, number, times
from rlvr_bench.verifiers.mathematics.lexing import Unreadable, tokens
from rlvr_bench.verifiers.mathematics.trees import Node

__all__ = ["Unreadable", "read"]

_RELATIONS = {
    "=": "=", "<": "<", ">": ">", "le": "<=", "leq": "<=", "leqslant": "<=", "ge": ">=", "geq": ">=", "geqslant": ">=",
    "lt": "<", "gt": ">", "ne": "!=", "neq": "!=", "in": "in", "notin": "notin", "subset": "sub", "subseteq": "sube",
    "equiv": "mod", "approx": "~", "simeq": "~", "doteq": "~", "cong": "cong", "to": "to", "rightarrow": "to", "perp": "perp",
    "parallel": "par", "sim": "sim", "mid": "mid", "propto": "propto",
}  # fmt: skip
_SET_SIGNS = {"cup": "union", "cap": "intersection", "setminus": "minus", "backslash": "minus"}
_MULTIPLY = frozenset(("*", "cdot", "times", "ast"))
_DIVIDE = frozenset(("/", "div"))


def read(text: str, *, tight_slash: bool = False, euler: bool = False) -> Node:
    """The tree of an answer.

    Two notations have two readings: ``tight_slash`` reads a/bc as a/(bc), ``euler`` reads 2e-3 as 2·e - 3.
    Raises Unreadable where a part of the text is not in the grammar.
    """
    reader = _Reader(tokens(text, euler=euler), tight_slash)
    try:
        node = reader.answer()
    except (RecursionError, IndexError) as error:
        raise Unreadable(type(error).__name__) from error
    reader.finish()
    return node


class _Reader(Atoms):
    """Recursive descent over the tokens; each method reads one kind of part and moves the position past it."""

    # ------------------------------------------------------------------------------------------------ lists and items

    def answer(self) -> Node:
        """Items with separators between them; a single item is returned without a list."""
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
            if words is not None and words.name in ("is", "equals") and len(parts) == 1 and parts[0].op != "text":
                return Node("rel", (parts[0], self._item()), "=")
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
        """Whether a square bracket opens; the French open interval ]a, b[ has them turned around."""
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

    # --------------------------------------------------------------------------------------------------- arithmetic

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
                node = times(node, self._factor(), cross=token.text == "times")
            elif token.kind in ("op", "cmd") and token.text in _DIVIDE:
                self._at += 1
                node = Node("div", (node, self._divisor()))
            elif self._juxtaposed():
                node = self._juxtapose(node)
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
            node = self._juxtapose(node)
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

    def _juxtapose(self, left: Node) -> Node:
        """Multiplication without a sign; two adjacent numbers are a mixed number, else Unreadable."""
        following = self._next()
        if left.op == "num" and "." not in left.name and self._is("cmd", "frac"):
            right = self._atom()
            is_plain = right.op == "div" and all(part.op == "num" and part.name.isdigit() for part in right.parts)
            return self._postfix(Node("add", (left, right))) if is_plain else times(left, self._postfix(right))
        if following.kind == "num" and (left.op in ("num", "neg") or self._tokens[self._at - 1].kind == "num"):
            top, slash, bottom = self._take("num"), self._take("op", "/"), self._take("num")
            if left.op != "num" or not (top and slash and bottom) or "." in left.name + top.text + bottom.text:
                raise Unreadable("two adjacent numbers")
            if not int(bottom.text):
                raise Unreadable("division by zero")
            return Node("add", (left, Node("div", (number(top.text), number(bottom.text)))))
        return times(left, self._power())

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


def _named(node: Node) -> str:
    if node.op not in ("sym", "letters"):
        raise Unreadable("a prime on something that is not a name")
    return node.name


def _without_approximations(sides: list[Node], signs: list[str]) -> tuple[list[Node], list[str]]:
    """Reads a = b ~ c as a = b, and 2 sqrt 5 ~ 4.47 as 2 sqrt 5; x ~ 5 alone means x = 5."""
    if "~" not in signs:
        return sides, signs
    first = signs.index("~")
    if first or sides[0].op not in ("sym", "letters", "call", "text"):
        return sides[: first + 1], signs[:first]
    return sides, ["=" if sign == "~" else sign for sign in signs]
