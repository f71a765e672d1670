r"""The answer in a formula: the end of its chain of equations, its last row, without the full stop of a sentence.

``7 + 7 = 14`` becomes 14 and ``AB^2 = 9 + 16 = 25`` becomes ``AB^2 = 25``. ``x = 14``, ``x = 1 \text{ or } x = 2``, matrices,
sets and intervals stay unchanged, because an equation can be the answer.
"""

from __future__ import annotations

import re

from rlvr_bench.verifiers.extraction.boxes import closing_brace

__all__ = ["is_name", "is_value", "reduce", "solved_name"]

_EDGE = re.compile(r"\A(?:\s|\\text\w*\s?\{[^{}]*[:=]\s*\}|\\[,;:! ]|\\displaystyle(?![A-Za-z])|\\q?quad(?![A-Za-z]))+")
_END = re.compile(
    r"(?:\s|(?<!\\)\\[,;:! ]|\\q?quad|[.,;:]|\\\\|\\tag\s?\{[^{}]*\}|\\(?:blacksquare|square|qed|checkmark)(?![A-Za-z]))+\Z"
)
_TAG = re.compile(r"\\(?:tag|label|hspace|vspace)\*?\s?\{[^{}]{0,60}\}|\\(?:nonumber|notag)(?![A-Za-z])")
_ROWS = re.compile(
    r"\A\s*\\begin\{(?:aligned|align\*?|split|gathered|gather\*?|alignedat|array)\}(?:\[[a-z]\])?(?:\s*\{[^{}]*\})?"
)
_ROWS_END = re.compile(r"\\end\{(?:aligned|align\*?|split|gathered|gather\*?|alignedat|array)\}\s*[.,]?\s*\Z")
_ENVIRONMENT = re.compile(r"\\(?:begin|end)\{")
_ARROW = re.compile(
    r"\\(?:implies|Rightarrow|Longrightarrow|therefore|iff|Leftrightarrow)(?![A-Za-z])|⇒|∴|=>(?!\s*=)|⟹"
)
_TOKEN = re.compile(
    r"\d{1,3}(?:(?:,\\?!?|\{,\}|\\,)\d{3})+(?!\d)|\\(?P<approx>approx|simeq|doteq)(?![A-Za-z])|(?P<similar>≈|≃)|\\(?:left|right|[bB]igg?[lr]?)\s*(?:\\[{}|]|.)|"
    r"\\text\w*\s?\{[^{}]*\}|\\begin\{|\\end\{|\\[A-Za-z]+|\\.|(?P<equals>(?<![<>:=])(?<!\s!)=(?![=>]))|[(\[{]|[)\]}]|[,;]",
    re.DOTALL,
)
_LIST_WORD = re.compile(r"\\text\w*\s?\{\s*,?\s*(?:or|and)\b|\\(?:lor|land|vee)(?![A-Za-z])")
_BOLD = re.compile(r"\\(?:mathbf|boldsymbol|textbf|bm)\s?\{\s*([-+]?[\d ,.]+|\\pi)\s*\}")
_TEXT = re.compile(r"\\(?:text\w*|mathrm|mbox|operatorname|mathbf|bf|rm)\s*\{([^{}]*)\}")
_LETTERS = re.compile(r"[A-Za-zα-ω]")
_COMMAND = re.compile(r"\\[A-Za-z]+")
_SYMBOL = (
    r"\\(?:alpha|beta|gamma|delta|theta|lambda|mu|rho|sigma|phi|varphi|omega|epsilon|varepsilon|tau|psi|xi|eta|zeta|kappa|ell|"
    r"Delta|Omega|Gamma|Phi|Psi|Sigma|Lambda|angle|triangle|overline|hat|vec|bar|tilde|widehat|mathcal|mathbb|mathbf|mathrm|"
    r"text|odot|overrightarrow|bigtriangleup|operatorname)(?![A-Za-z])"
)
_NAMES = re.compile(_SYMBOL)
_NAME = re.compile(
    rf"(?:[A-Za-zα-ω]|{_SYMBOL})(?:{_SYMBOL}|[A-Z]|_\w|['′ ]|_?\{{[\w,\\ ]*\}})*+(?:\([\w,\\ ^+-]{{1,20}}\))?"
)
_PRODUCT = re.compile(r"[ixyzet]\(")
_MEMBER = re.compile(r"\s*(.{1,40}?)\s*\\in(?![A-Za-z])\s*(.+)", re.DOTALL)
_THOUSANDS = re.compile(r"[-+]?\d{1,3}(?:,\d{3})+(?:\.\d+)?")
_NAMES_OF_TUPLE = re.compile(
    rf"(?:\\left)?\(\s*(?:[A-Za-z]\w?|{_SYMBOL})(?:_\{{?\w\}}?)?(?:\s*,\s*(?:[A-Za-z]\w?|{_SYMBOL})(?:_\{{?\w\}}?)?)+\s*(?:\\right)?\)"
)
_NUMERIC = re.compile(
    r"(?:[-+\d.,/^%() i]|\\(?:frac|sqrt|pi|circ|!|,|%|\$|text\w*\s?\{[^{}]*\}|cdot|times|left|right)|[{}])+"
)
_CURVE = re.compile(r"(?<![A-Za-z\\])[xyzrt](?![A-Za-z])")
_MATRIX = re.compile(r"(?:\\left\s?[(\[|])?\s?\\begin\{(?:[bpvBV]?matrix|array)\}")
_RELATION = re.compile(r"[=≈≃]|\\(?:approx|simeq|doteq)")
_BRACED_NUMBER = re.compile(r"\{\s*([-+]?[\d.]+(?:e[-+]?\d+)?)\s*\}(?!\s*[_^/{(])")
_EQUIVALENT = re.compile(r"\\equiv(?![A-Za-z])|≡")
_MODULUS = re.compile(r"\\pmod\s?(?:\{[^{}]*\}|\w)|\(?\\(?:bmod|mod)\b.*\Z")
_ITEM = re.compile(r"(.+?)\s*(?:=|<|>|≤|≥|\\(?:le|ge|leq|geq|neq|ne)(?![A-Za-z]))\s*(.+)", re.DOTALL)
_OPERATION = re.compile(r"\\(?:times|cdot|div)(?![A-Za-z])|[*×÷·]|\d\.\d")


def _strip(text: str) -> str:
    text = _TAG.sub("", text) if "\\" in text else text
    return _END.sub("", _EDGE.sub("", text)).strip()


def _sides(text: str) -> tuple[list[str], str, bool]:
    """The sides of the equations at the top level, the last relation ("=", "≈" or ""), and whether they form a list."""
    sides, start, depth, last = [], 0, 0, ""
    listed = spaced = False
    for token in _TOKEN.finditer(text):
        symbol = token.group()
        if symbol in "([{" or symbol == "\\{" or symbol == "\\begin{" or symbol.startswith("\\left"):
            depth += 1
        elif symbol in ")]}" or symbol == "\\}" or symbol.startswith(("\\right", "\\end{")):
            if not (symbol.startswith("\\right") and symbol[6:7].isalpha()):
                depth -= 1
        elif depth <= 0 and (token["equals"] or token["approx"] or token["similar"]):
            sides.append(text[start : token.start()])
            start, last = token.end(), "=" if token["equals"] else "≈"
            listed = listed or spaced
        elif depth <= 0 and (symbol in ",;" or _LIST_WORD.match(symbol)):
            listed = True
        elif depth <= 0 and symbol in ("\\quad", "\\qquad"):
            spaced = True
    return [*sides, text[start:]], last, listed


def is_name(side: str) -> bool:
    r"""Whether a side only names something: ``x``, ``f(x)``, ``AB``, ``\angle ABC``."""
    bare = side.strip()
    return bool(bare) and len(bare) <= 60 and _NAME.fullmatch(bare) is not None and not _PRODUCT.match(bare)


def _is_calculation(side: str) -> bool:
    """Whether a side consists of numbers, apart from units and words."""
    bare = _TEXT.sub("", side)
    return not _NAMES.search(bare) and not _LETTERS.search(_COMMAND.sub("", bare))


def _unbraced(side: str) -> str:
    """A side without braces around all of it, which TeX does not print."""
    number = _BRACED_NUMBER.match(side)
    if number:
        return f"{number[1]}{side[number.end() :]}"
    if side.startswith("{") and closing_brace(side, 0, len(side)) == len(side) - 1:
        return side[1:-1].strip()
    return side


def _end_of_chain(text: str) -> str:
    sides, last, listed = _sides(text)
    sides = [_unbraced(_strip(side)) for side in sides]
    if len(sides) < 2 or not sides[-1] or (listed and not _same_value(sides)):
        return text
    if is_name(sides[-1]) and _is_number(sides[-2]):
        sides.pop()  # 36 - 19 = 17 = x
    if last == "≈" and sides[-2] and not is_name(sides[-2]) and not _OPERATION.search(sides[-2]):
        sides.pop()  # 2/3, about 0.667: the exact value is the answer
    first, end = sides[0], sides[-1]
    if len(sides) == 1:
        return end
    if len(sides) > 2 and all(map(is_name, sides[:-1])) and last == "=" and len(set(sides)) == len(sides):
        return text
    if is_name(first) and not _TEXT.fullmatch(first) and last == "=":
        end = end.replace(",", "") if _THOUSANDS.fullmatch(end) else end
        return text if len(sides) == 2 and text.endswith(end) else f"{first} = {end}"
    if _NAMES_OF_TUPLE.fullmatch(first):
        return end
    if len(sides) == 2 and _MATRIX.match(end) and not _MATRIX.search(first):
        return end  # A^{-1} = a matrix
    if len(sides) == 2 and last == "=" and not _is_calculation(first) and not _evaluates(first, end):
        return text
    return end


def _evaluates(left: str, right: str) -> bool:
    """Whether an equation computes a number (``m + n = 29``, ``x + 1 = 15``) and does not describe a curve or a root."""
    return _is_number(right) and right.strip("0. ") != "" and len(set(_CURVE.findall(left))) < 2


def _same_value(sides: list[str]) -> bool:
    """Whether a comma belongs to the last side's tuple of values: ``(x, y) = (1, 2)``."""
    return len(sides) == 2 and _NAMES_OF_TUPLE.fullmatch(sides[0]) is not None and sides[1][:1] in "(\\["


def _congruence(text: str) -> str:
    r"""``129^{34} \equiv 81 \equiv 4 \pmod{11}`` becomes 4; ``x \equiv 4 \pmod{11}`` stays unchanged."""
    sides = _EQUIVALENT.split(text)
    if len(sides) < 2 or (len(sides) == 2 and is_name(sides[0])):
        return text
    return _unbraced(_strip(_MODULUS.sub("", sides[-1]))) or text


def _rows(text: str) -> str:
    """The last row of an aligned display; all rows as a list where each row gives a different name a value."""
    body = _ROWS_END.sub("", _ROWS.sub("", text, count=1)) if _ROWS.match(text) else text
    if "\\\\" not in body:
        return body.replace("&", " ") if body is not text or not _ENVIRONMENT.search(body) else body
    if _ENVIRONMENT.search(body):
        return text
    rows = [row.strip() for row in re.split(r"\\\\(?:\[[^\]]{0,9}\])?", re.sub(r"\s*&\s*", " ", body)) if _strip(row)]
    if not rows:
        return text
    ends = [_sides(row) for row in rows]
    heads = {sides[0].strip() for sides, _, _ in ends if len(sides) == 2 and is_name(sides[0]) and is_value(sides[1])}
    if 1 < len(rows) == len(heads):
        return ", ".join(map(_strip, rows))
    head = ends[0][0][0].strip()
    if len(rows) > 1 and len(ends[-1][0]) > 1 and not _strip(ends[-1][0][0]):
        return f"{head} = {rows[-1].lstrip('= ')}" if is_name(head) else rows[-1].lstrip("= ")
    return rows[-1]


def _unspaced(bold: re.Match[str]) -> str:
    r"""``\mathbf{6 0 6}`` becomes 606: machines read such spaces in typeset books."""
    return re.sub(r"(?<=\d)[ ,]+(?=\d(?:\D|\Z))", "", bold[1]).strip()


def reduce(formula: str) -> str:
    """The answer in a formula: its last row, the text after its last arrow, the value at the end of its chain."""
    text = _strip(_BOLD.sub(_unspaced, formula) if "bf" in formula or "bold" in formula else formula)
    text = _strip(_rows(text)) if "\\\\" in text or "&" in text or _ROWS.match(text) else text
    if _ARROW.search(text):
        text = _strip(_ARROW.split(text)[-1]) or text
    text = text.lstrip("= ") if text.startswith("=") else text
    member = _MEMBER.fullmatch(text) if "\\in" in text else None
    if member and is_name(member[1]):
        return f"{member[1]} \\in {_unbraced(_strip(member[2]))}"
    if "\\equiv" in text or "≡" in text:
        text = _congruence(text)
    return _strip(_end_of_chain(text)) if _RELATION.search(text) else _unbraced(text)


def _is_number(text: str) -> bool:
    return any(map(str.isdigit, text)) and _NUMERIC.fullmatch(text) is not None


def solved_name(text: str) -> tuple[str, bool]:
    """The name that an equation or inequality gives a value, and whether that is a number (``x = 3``); else "", False."""
    item = _ITEM.fullmatch(text.strip())
    if item is None or not is_name(item[1]):
        return "", False
    return item[1].replace(" ", ""), _is_number(item[2].strip().rstrip(",.;"))


def is_value(text: str) -> bool:
    """Whether a formula is more than a name: a number, an expression, an equation."""
    return bool(text) and not is_name(text) and any(symbol.isalnum() for symbol in text)
