"""A position in a list of tokens, and what is open around it."""

from __future__ import annotations

from rlvr_bench.verifiers.mathematics.lexing import Token, Unreadable

__all__ = ["Cursor"]


class Cursor:
    """Reads tokens one by one; the fields say what is open around the position."""

    def __init__(self, tokens: list[Token], tight_slash: bool) -> None:
        self._tokens, self._at, self._tight = tokens, 0, tight_slash
        self._sums = 0  # sums around this position
        self._bars = 0  # open absolute values: a bar closes the last one
        self._plain_colon = self._rows = self._turned = False  # in braces; in a matrix; in ]a, b[

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

    def _at_zero(self) -> bool:
        """Whether ``(0)`` or ``(t)`` follows: a value at a time, since nobody multiplies by (0)."""
        following = [token.text for token in self._tokens[self._at : self._at + 3]]
        return following in (["(", "0", ")"], ["(", "t", ")"])

    def _subscripted(self, name: str) -> str:
        """A symbol's name with its subscript and primes; equal names are spelled equally."""
        if self._take("op", "_"):
            name += "_" + self._raw_group()
        while self._take("cmd", "prime"):
            name += "'"
            if self._is("op", "("):
                break
        return name

    def _raw_group(self) -> str:
        """The tokens of a group as one text: ``max``, ``1``, ``n+1``."""
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

    def _is_greek(self) -> bool:
        return self._is("cmd") and self._next().text.isalpha() and self._next().text in (
            "alpha", "beta", "gamma", "delta", "theta", "lambda", "mu", "omega", "phi", "varphi", "psi", "rho", "tau"
        )  # fmt: skip

    def _is_defined(self) -> bool:
        """Whether a bracket and an equals sign follow a letter that begins an item: N(n) = ..."""
        if self._at > 1 and self._tokens[self._at - 2].text not in (",", ";", "and", "or"):
            return False
        depth, index = 0, self._at
        while index < len(self._tokens):
            depth += (self._tokens[index].text == "(") - (self._tokens[index].text == ")")
            index += 1
            if not depth:
                return index < len(self._tokens) and self._tokens[index].text in ("=", "equiv")
        return False

    def _letters_ahead(self) -> str:
        """Two or more letters in braces, which it reads (the digits of a number in an overline); else ""."""
        index, letters = self._at + 1, ""
        while self._is("op", "{") and index < len(self._tokens) and self._tokens[index].kind in ("sym", "num"):
            letters += self._tokens[index].text
            index += 1
        if len(letters) < 2 or letters.isdigit() or index >= len(self._tokens) or self._tokens[index].text != "}":
            return ""
        self._at = index + 1
        return letters
