r"""The tokens of an answer: numbers, letters, words, commands and signs.

It decides whether a run of letters is a word or a product of variables. Inside ``\text{}`` and the like it is a word. Outside
it is a word if it is long enough and has a vowel, or is in a short list.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

__all__ = ["FUNCTIONS", "Token", "Unreadable", "tokens", "word_set"]


def word_set(words: str) -> frozenset[str]:
    """The words of a text, as a set."""
    return frozenset(words.split())


class Unreadable(Exception):
    """The text is not in the grammar."""


class Token(NamedTuple):
    """``kind``: num, sym (one letter), letters (adjacent capitals), word, cmd (a LaTeX command) or op (a sign)."""

    kind: str
    text: str


FUNCTIONS = word_set(
    "sin cos tan cot sec csc arcsin arccos arctan arccot arcsec arccsc sinh cosh tanh ln log lg exp max min gcd lcm "
    "det sgn sign abs floor ceil tg ctg arctg arg Re Im asin acos atan cis"
)
_TEXT = word_set("text mbox hbox textrm textbf textit textsf texttt textnormal textsc emph")
_FONTS = word_set("mathrm mathbf mathit mathsf mathtt boldsymbol bm operatorname mathcal mathfrak mathscr pmb rm")
_IGNORED = word_set(
    "left right big Big bigl bigr Bigl Bigr displaystyle textstyle limits nolimits quad qquad cdotp rm bf it "
    "mathstrut checkmark blacksquare square Box bigstar star qed hfill thinspace medspace thickspace large Large "
    "LARGE huge Huge small normalsize"
)
_TOKEN = re.compile(
    r"\s+|(?P<num>\d+(?:\.\d*)?|\.\d+)|\\(?P<cmd>[A-Za-z]+)\*?|\\(?P<esc>.)|(?P<run>[A-Za-z]+)|(?P<op>.)", re.DOTALL
)
_SCIENTIFIC = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(?:\\?e|E)([+-]?)\{?(\d{1,4})\}?(?![\d.A-Za-z^])")
_TEXT_TOKEN = re.compile(r"(\d+(?:\.\d+)?|\.\d+)|([^\W\d_]+(?:[.'’-][^\W\d_]+)*)|(\S)")
_IN_BRACKETS = re.compile(r"\s*\(([^()]*)\)\s*")
_GROUP = re.compile(r"\s*\{([^{}]*)\}")
_SIGNS = {"lt": "<", "gt": ">", "colon": ":", "lbrace": "{", "rbrace": "}", "lbrack": "[", "rbrack": "]", "vert": "|"}
_ESCAPES = {"{": "{", "}": "}", "%": "%", "\\": "newline"}
_SHORT_WORDS = word_set("or no on to of is if in at by as an be it so not and all for odd yes one two six ten any")
_VOWEL = re.compile(r"[aeiouyAEIOUY]")
_DIFFERENTIAL = re.compile(r"d[xyztuvrsw]")
_GLUED = re.compile(r"(arcsin|arccos|arctan|sinh|cosh|tanh|sin|cos|tan|cot|sec|csc|log|ln)([a-z]{1,2})")
_PREFIX = {"sqrt": "sqrt", "pi": "pi", "infinity": "infty", "inf": "infty", "theta": "theta", "alpha": "alpha"}
_SAME_COMMAND = {
    "dfrac": "frac", "tfrac": "frac", "cfrac": "frac", "dbinom": "binom", "tbinom": "binom", "And": "land", "degree": "circ",
    "lbrace": "{", "rbrace": "}", "Vert": "|", "lVert": "|", "rVert": "|",
}  # fmt: skip


def tokens(text: str, *, euler: bool = False) -> list[Token]:
    """The tokens of ``text``. Raises Unreadable for an unknown character."""
    return list(_tokens(text, euler))


def _tokens(text: str, euler: bool) -> Iterator[Token]:
    position, size = 0, len(text)
    while position < size:
        scientific = None if euler else _SCIENTIFIC.match(text, position)
        if scientific and not _is_euler(scientific) and not _continues(text, position):
            yield Token("num", _plain(scientific))
            position = scientific.end()
            continue
        match = _TOKEN.match(text, position)
        if match is None:
            raise Unreadable(text[position])
        position = match.end()
        if match["cmd"]:
            name = match["cmd"]
            group = _GROUP.match(text, position) if name in _TEXT or name in _FONTS else None
            if group:
                position = group.end()
                yield from _text_tokens(group[1]) if name in _TEXT else _font_tokens(name, group[1])
            elif name == "forall":
                yield from (Token("word", "for"), Token("word", "all"))
            elif name not in _IGNORED:
                yield _command(name)
        elif match["num"]:
            yield Token("num", match["num"])
        elif match["run"]:
            yield from _run_tokens(match["run"], _is_alone(text, match.start(), position))
        elif match["esc"]:
            yield from _escaped(match["esc"])
        elif match["op"]:
            yield from _sign(match["op"])


def _continues(text: str, position: int) -> bool:
    """Whether a number here continues what comes before it: a name, a subscript, an exponent."""
    return position > 0 and (text[position - 1].isalpha() or text[position - 1] in "_^")


def _is_euler(scientific: re.Match[str]) -> bool:
    """Whether it is a product: 2e+1 is 2·e + 1, as nobody writes a one-digit exponent with a plus sign."""
    return "e" in scientific[0] and scientific[2] == "+" and "." not in scientific[1] and len(scientific[3]) == 1


def _plain(scientific: re.Match[str]) -> str:
    """A number in scientific notation in the form that Fraction reads."""
    mantissa, sign, exponent = scientific.groups()
    return f"{mantissa.rstrip('.') or '0'}e{sign}{exponent}"


def _command(name: str) -> Token:
    if name in _SIGNS and name not in ("lbrace", "rbrace"):
        return Token("op", _SIGNS[name])
    return Token("cmd", _SAME_COMMAND.get(name, name))


def _escaped(symbol: str) -> Iterator[Token]:
    if symbol in _ESCAPES:
        yield Token("cmd", _ESCAPES[symbol])
    elif symbol == "|":
        yield Token("op", "|")
    elif symbol not in ",;:! ":
        raise Unreadable(f"\\{symbol}")


def _sign(symbol: str) -> Iterator[Token]:
    if symbol == "'":
        yield Token("cmd", "prime")
    elif symbol == "%":
        yield Token("cmd", "%")
    elif symbol == "&":
        yield Token("cmd", "amp")
    elif symbol in "+-*/^_=<>()[]{}|,;:!":
        yield Token("op", symbol)
    elif symbol.isalpha():
        yield Token("word", symbol)
    elif symbol not in "~$":
        raise Unreadable(symbol)


def _text_tokens(inner: str) -> Iterator[Token]:
    """Words and numbers inside a text command."""
    framed = _IN_BRACKETS.fullmatch(inner)
    for number, word, sign in _TEXT_TOKEN.findall(framed[1] if framed else inner):
        if number:
            yield Token("num", number)
        elif word in ("degree", "degrees"):
            yield Token("cmd", "circ")
        elif word:
            is_letter = len(word) == 1 and word not in "aI" and word.isascii() and word not in "mshgl"
            yield Token("sym", word) if is_letter else Token("word", word.lower())
        elif sign in ",;:()=+-<>[]":
            yield Token("op", sign)
        elif sign == "%":
            yield Token("cmd", "%")
        elif sign not in ".~\\$'\"":
            yield Token("word", sign)


def _font_tokens(name: str, inner: str) -> Iterator[Token]:
    bare = inner.strip().strip("~").replace("\\", "")
    if bare in FUNCTIONS:
        yield Token("cmd", bare)
    elif name in ("mathbf", "boldsymbol", "bm") and bare in ("i", "j", "k"):
        yield Token("sym", f"hat {bare}")
    elif name in ("mathcal", "mathfrak", "mathscr") and len(bare) == 1:
        yield Token("cmd", f"{name}{bare}")
    elif len(bare) == 1 or not bare.isalpha():
        yield from _tokens(inner, False)
    elif bare.isupper() and name != "operatorname":
        yield Token("letters", bare)
    else:
        yield from _text_tokens(bare)


def _is_alone(text: str, start: int, end: int) -> bool:
    """Whether a run of letters has blanks or nothing around it, like a word."""
    return (start == 0 or text[start - 1] in " ,;.") and (end == len(text) or text[end] in " ,;.")


def _run_tokens(run: str, alone: bool) -> Iterator[Token]:
    """The most likely tokens for a bare run of letters."""
    lower = run.lower()
    if len(run) == 1:
        yield Token("sym", run)
    elif run in FUNCTIONS:
        yield Token("cmd", run)
    elif lower in _PREFIX:
        yield Token("cmd", _PREFIX[lower])
    elif run.isupper():
        yield Token("letters", run)
    elif alone and lower in _SHORT_WORDS:
        yield Token("word", lower)
    elif glued := _GLUED.fullmatch(run):
        yield Token("cmd", glued[1])
        yield from (Token("sym", letter) for letter in glued[2])
    elif _DIFFERENTIAL.fullmatch(run):
        yield Token("sym", run)
    elif len(run) > 3 and _VOWEL.search(run):
        yield Token("word", lower)
    else:
        yield from (Token("sym", letter) for letter in run)
