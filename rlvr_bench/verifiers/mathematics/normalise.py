r"""Rewrites mathematical answers into forms that math-verify reads right; each rule is for a form that it reads wrong.

`lossless` changes only the spelling; its result is the key of the verdict cache. `tidied` and then `for_engine` go further
(units, e-notation, Unicode); they apply to the gold answer and the model's alike. All are linear in the text.
"""

from __future__ import annotations

import re
import unicodedata

__all__ = ["for_engine", "lossless", "tidied", "unwrap"]

_LEFT_RIGHT = re.compile(r"\\(?:left|right|bigl?|bigr|Bigl?|Bigr|biggl?|biggr)(?=\s*(?:[()\[\]|./<>]|\\[{}|lr]))")
_FRAC = re.compile(r"\\[dtc]frac(?![A-Za-z])")
_NO_SHAPE = re.compile(r"\\(?:displaystyle|textstyle|limits|nolimits)(?![A-Za-z])|\\!")
_THIN_COMMA = re.compile(r"(?<=\d)(?:\\!\s*)?,\s*\\!\s*(?=\d{3})|(?<=\d),\\!(?=\d{3})")
_SPACE_RUN = re.compile(r"\s+")
# Spaces next to these symbols have no meaning: "x + 1", "{ 2 }". Next to commas and between digits they do ("1, 234").
_IDLE_SPACE = re.compile(r"(?:(?<!\\) )?([+=^_{}()\[\]<>*]) ?")
_MATH_FENCE = re.compile(r"(\$+)([^$]*)\1|\\\((.*)\\\)|\\\[(.*)\\\]", re.DOTALL)


def lossless(answer: str) -> str:
    r"""A normal form that keeps the answer the same for every reader: spaces, ``\left``, ``\dfrac``, ``\!``, math fences."""
    text = answer.strip()
    fence = _MATH_FENCE.fullmatch(text)
    if fence:
        text = next(group for group in fence.groups()[1:] if group is not None).strip()
    if "\\" in text:
        text = _NO_SHAPE.sub("", _THIN_COMMA.sub(",", text)) if "\\!" in text else _NO_SHAPE.sub("", text)
        text = _FRAC.sub(r"\\frac", _LEFT_RIGHT.sub("", text))
    if " " in text or "\n" in text or "\t" in text:
        text = _IDLE_SPACE.sub(r"\1", _SPACE_RUN.sub(" ", text)).strip()
    return text


# ------------------------------------------------------------------------------------------------------------ Unicode

_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁼⁽⁾ⁿⁱˣʸ", "0123456789+-=()nixy")
_SUBSCRIPTS = str.maketrans("₀₁₂₃₄₅₆₇₈₉₊₋₌₍₎ₙₓᵢⱼₖₘ", "0123456789+-=()nxijkm")
_SUPERSCRIPT_RUN = re.compile(r"[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁼⁽⁾ⁿⁱˣʸ]+")
_SUBSCRIPT_RUN = re.compile(r"[₀₁₂₃₄₅₆₇₈₉₊₋₌₍₎ₙₓᵢⱼₖₘ]+")
_RADICAL = re.compile(r"([√∛∜])\s*(?:\(([^()]*)\)|\{([^{}]*)\}|(\d+(?:\.\d+)?|[A-Za-zα-ω]))")
_RADICAL_NAMES = {"√": "\\sqrt", "∛": "\\sqrt[3]", "∜": "\\sqrt[4]"}
_VULGAR = re.compile(r"(\d*)\s*(\d+)⁄(\d+)")
_SYMBOLS = {
    "−": "-", "–": "-", "—": "-", "‐": "-", "‑": "-", "×": "\\times ", "⋅": "\\cdot ", "·": "\\cdot ", "∙": "\\cdot ",
    "÷": "/", "∕": "/", "≤": "\\le ", "⩽": "\\le ", "≥": "\\ge ", "⩾": "\\ge ", "≠": "\\ne ", "≈": "\\approx ",
    "±": "\\pm ", "∓": "\\mp ", "∞": "\\infty ", "∪": "\\cup ", "∩": "\\cap ", "∅": "\\emptyset ", "∈": "\\in ",
    "∉": "\\notin ", "ℝ": "\\mathbb{R}", "ℤ": "\\mathbb{Z}", "ℕ": "\\mathbb{N}", "ℚ": "\\mathbb{Q}", "ℂ": "\\mathbb{C}",
    "°": "^\\circ ", "º": "^\\circ ", "˚": "^\\circ ", "¢": "\\text{ cent}",
    "π": "\\pi ", "α": "\\alpha ", "β": "\\beta ", "γ": "\\gamma ", "δ": "\\delta ",
    "θ": "\\theta ", "λ": "\\lambda ", "μ": "\\mu ", "ρ": "\\rho ", "σ": "\\sigma ", "τ": "\\tau ", "φ": "\\phi ",
    "ϕ": "\\phi ", "ω": "\\omega ", "ε": "\\epsilon ", "Δ": "\\Delta ", "′": "'", "’": "'", "“": '"', "”": '"',
    "…": "\\ldots ", "\u200b": "", "\u2061": "", "\ufeff": "", "⟨": "\\langle ", "⟩": "\\rangle ", "→": "\\to ",
    "∖": "\\setminus ", "⌊": "\\lfloor ", "⌋": "\\rfloor ", "⌈": "\\lceil ", "⌉": "\\rceil ",
}  # fmt: skip
_SYMBOL = re.compile("|".join(map(re.escape, _SYMBOLS)))


def _vulgar(match: re.Match[str]) -> str:
    whole, top, bottom = match.groups()
    return f"{whole}\\frac{{{top}}}{{{bottom}}}"


def _to_latex(text: str) -> str:
    """Unicode mathematics as LaTeX; superscripts first, because NFKC would turn x² into x2."""
    text = _SUPERSCRIPT_RUN.sub(lambda run: "^{" + run.group().translate(_SUPERSCRIPTS) + "}", text)
    text = _SUBSCRIPT_RUN.sub(lambda run: "_{" + run.group().translate(_SUBSCRIPTS) + "}", text)
    text = _SYMBOL.sub(lambda symbol: _SYMBOLS[symbol.group()], text)
    if any("VULGAR FRACTION" in unicodedata.name(char, "") for char in text):
        text = re.sub(r"(?<=\d)(?=[¼-¾⅐-⅞])", " ", text)
    text = unicodedata.normalize("NFKC", text)
    text = _VULGAR.sub(_vulgar, text) if "⁄" in text else text
    text = _RADICAL.sub(lambda m: f"{_RADICAL_NAMES[m[1]]}{{{m[2] or m[3] or m[4]}}}", text)
    return _SYMBOL.sub(lambda symbol: _SYMBOLS[symbol.group()], text)


# -------------------------------------------------------------------------------------------------------- decoration

_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{(.*)\}", re.DOTALL)
_INNER_BOX = re.compile(r"\\(?:boxed|fbox)\{([^{}]*)\}")
_EMPHASIS = re.compile(r"(\*\*|__|`)(.+?)\1", re.DOTALL)
_COLOR = re.compile(r"\\(?:textcolor|color)\s*\{[^{}]*\}\s*\{([^{}]*)\}|\\color\s*\{[^{}]*\}")
_UNDERLINE = re.compile(r"\\(?:underline|uline)\s*\{([^{}]*)\}")
_WIDE_SPACE = re.compile(
    r"(?<!\\)\\(?:quad|qquad|enspace|hfill)(?![A-Za-z])|\\hspace\*?\{[^{}]*\}|(?<!\\)\\[;:, ]|(?<!\\)~|&nbsp;"
)
_DIGIT_GAP = re.compile(
    r"(?<=\d)(?:\\thinspace\s*|\\,|\\!|\{,\}|,\\!|\\ |\\;|\\:|~|,\s*\\,| \\! ?|,\s?\\! ?)(?=\d{3}(?!\d))"
)
_TEXT_FRAME = re.compile(
    r"\\(?:text|textbf|textit|textrm|mathbf|mathrm|mathit|mbox|operatorname|bm|boldsymbol)\s*\{([^{}]*)\}"
)
_RM_E = re.compile(r"\\(?:mathrm|text|rm|operatorname|mathit)\s*\{\s*(e|i)\s*\}")
_LEADING_EQUALS = re.compile(r"^\s*(?:=|\\approx|\\sim|~|\\therefore(?![A-Za-z]))\s*(?=[-+\w\\(])")


def unwrap(text: str) -> str:
    r"""The text without frames that have no meaning: math fences, ``\boxed{}``, bold, colour, a closing full stop."""
    for _ in range(4):
        before = text
        fence = _MATH_FENCE.fullmatch(text.strip())
        if fence:
            text = next(group for group in fence.groups()[1:] if group is not None)
        text = _INNER_BOX.sub(r"\1", text) if "boxed" in text else text
        box = _BOX.fullmatch(text.strip())
        if box and box.group(1).count("{") == box.group(1).count("}"):
            text = box.group(1)
        text = _EMPHASIS.sub(r"\2", text) if "*" in text or "`" in text else text
        if "\\" in text:
            text = _UNDERLINE.sub(r"\1", _COLOR.sub(lambda m: m.group(1) or "", text))
        text = _strip_end(text)
        if text == before:
            break
    return text


def _strip_end(text: str) -> str:
    """The text without punctuation at its end (after abbreviations it stays): math-verify reads "5." in a box as a string."""
    text = text.strip()
    if text.endswith(".") and re.search(r"(?:[a-z]\.[a-z]|\.\.)\.?$", text):
        return text
    while text and (text[-1] in "\\,;: \t\n" or (text[-1] == "." and not text.endswith(".."))):
        text = text[:-1]
    return text.strip()


# ----------------------------------------------------------------------------------------------------------- numbers

_CURRENCY = re.compile(r"(?:\\\$|\$|€|£|¥|₹|\\pounds|\\euro|\\texteuro(?:\{\})?|USD|US\s?\$)\s*(?=[-\d.])")
_CURRENCY_END = re.compile(r"(?<=\d)\s*(?:\\\$|\$|€|£|¥|₹)\s*$")
_E_NOTATION = re.compile(
    r"(?<![A-Za-z\\_^{\d.])(\d+\.?\d*|\.\d+)\s?(?:\\?e|E)\s?([+\-]?)\{?(\d{1,4})\}?(?![\d.A-Za-z^])"
)
_SPACED_THOUSANDS = re.compile(r"[-+]?\d{1,3}(?: \d{3})+(?:\.\d+)?")
_SLASH_MIXED = re.compile(r"([-+]?)\s*(\d+)\s+(\d+)\s*/\s*(\d+)")
_OVER = re.compile(r"\{([^{}]*?)\\over(?![A-Za-z])([^{}]*?)\}")
_CHOOSE = re.compile(r"\{([^{}]*?)\s*\\choose\s*(?![A-Za-z])([^{}]*?)\}")
_OVER_WHOLE = re.compile(r"([^{}]*?)\\over(?![A-Za-z])([^{}]*)")
_DEGREE = (
    r"(?:\^\s*\{?\s*\\circ\s*\}?|\\degree(?:s)?(?![A-Za-z])|\s*\\?(?:text|mathrm)?\s*\{?\s*\b(?:degrees?|deg)\b\s*\}?)"
)
_TRIG_DEGREES = re.compile(
    r"(\\(?:sin|cos|tan|cot|sec|csc)\s*(?:\^\s*\{?\d\}?)?)\s*[({]?\s*(\d+(?:\.\d+)?)\s*" + _DEGREE + r"\s*[)}]?"
)
_DEGREES = re.compile(r"(?<=[\d})\w])\s*" + _DEGREE)
_TEMPERATURE = re.compile(r"\^\s*\{?\s*\\circ\s*\}?\s*(?:\\(?:text|mathrm)\s*\{\s*)?[CF]\b")
_PLAIN_ROOT = re.compile(r"(?:\\|(?<![A-Za-z\\]))sqrt\s*\(([^()]*)\)")
_PERCENT_WORD = re.compile(
    r"(?<=[\d}])\s*(?:\\(?:text|mathrm)\s*\{\s*(?:percent|per cent|pct|\\?%)\s*\}|(?:percent|per cent|pct)\b|%)"
)


def _e_notation(match: re.Match[str]) -> str:
    mantissa, sign, exponent = match.groups()
    return f"{mantissa} \\times 10^{{{'-' if sign == '-' else ''}{int(exponent)}}}"


_CURRENCIES = {
    "$": "dollar",
    "€": "euro",
    "£": "pound sterling",
    "¥": "yen",
    "₹": "rupee",
    "S": "dollar",
    "D": "dollar",
}
_AMOUNT = re.compile(r"-?[\d.,]*\d[\d.,]*")


def _money(text: str) -> str:
    """An amount of money as a number and its currency; elsewhere the currency is removed."""
    match = _CURRENCY.match(text) or _CURRENCY_END.search(text)
    if match is None:
        return _CURRENCY.sub("", text)
    rest = text[: match.start()] + text[match.end() :]
    symbol = next((_CURRENCIES[letter] for letter in match[0][::-1] if letter in _CURRENCIES), "")
    if symbol and _AMOUNT.fullmatch(rest.strip()):
        return f"{rest.strip().removesuffix('.')} \\text{{ {symbol}}}"
    return _CURRENCY_END.sub("", _CURRENCY.sub("", text))


def _numbers(text: str) -> str:
    """Forms of numbers: thousands, mixed numbers, currency, percent."""
    text = _DIGIT_GAP.sub("", text)
    text = _money(text)
    text = _PERCENT_WORD.sub(r"\\%", re.sub(r"(?<!\\)%", r"\\%", text))
    if _SPACED_THOUSANDS.fullmatch(text):
        text = text.replace(" ", "")
    mixed = _SLASH_MIXED.fullmatch(text)
    if mixed:
        text = f"{mixed[1]}{mixed[2]}\\frac{{{mixed[3]}}}{{{mixed[4]}}}"
    if "\\choose" in text:
        text = _CHOOSE.sub(r"\\binom{\1}{\2}", text)
    if "\\over" in text:
        text = _OVER.sub(r"\\frac{\1}{\2}", text)
        whole = _OVER_WHOLE.fullmatch(text)
        text = f"\\frac{{{whole[1].strip()}}}{{{whole[2].strip()}}}" if whole else text
    return text


def _degrees(text: str) -> str:
    r"""Degrees as radians inside a trigonometric function; elsewhere without the sign: 74^\circ is 74."""
    if "circ" not in text and "deg" not in text:
        return text
    text = _TRIG_DEGREES.sub(r"\1{(\\frac{\2 \\pi}{180})}", text)
    return text if _TEMPERATURE.search(text) else _DEGREES.sub("", text)


_EMPTY_SET = re.compile(
    r"(?:there (?:is|are) )?no (?:real )?solutions?(?: exist)?|none exist|\\varnothing|\\\{\s*\\\}|\{\\\s*\}",
    re.IGNORECASE,
)
_ANGLES = re.compile(r"\\langle\s*([^<>]*?,[^<>]*?)\\rangle")


_ALL_REALS = re.compile(r"(?:the set of )?(?:all )?real(?:s| numbers?)", re.IGNORECASE)
_INFINITY = re.compile(r"([-+]?)(?:positive )?infinity", re.IGNORECASE)
_NUMBER_WORDS = {
    word: str(number)
    for number, word in enumerate(
        ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
    )
}
_MULTIPLES = {"thousand": 3, "million": 6, "billion": 9, "trillion": 12}
_MULTIPLE = re.compile(r"(-?[\d,]*\.?\d+)\s*(thousand|million|billion|trillion)", re.IGNORECASE)
_ORDINAL = re.compile(r"(\d+)\s*(?:\^\s*\{?\s*(?:\\(?:text|mathrm)\{)?\s*(?:st|nd|rd|th)\s*\}?\}?|(?:st|nd|rd|th))")
_ARTICLE = re.compile(r"(?:an?|[Tt]he|An) (?!and\b|or\b)([a-z]{3,}(?: [a-z]+)*)")


def _words(text: str) -> str:
    """Words for mathematics, where they are the whole answer: no solution, all real numbers, 1.5 million, two."""
    bare = _TEXT_FRAME.sub(r"\1", text).strip().strip("{}").strip()
    if _EMPTY_SET.fullmatch(bare) or _EMPTY_SET.fullmatch(text):
        return "\\emptyset"
    if _ALL_REALS.fullmatch(bare):
        return "\\mathbb{R}"
    infinity = _INFINITY.fullmatch(bare)
    if infinity:
        return infinity[1] + "\\infty"
    if bare.lower() in _NUMBER_WORDS:
        return _NUMBER_WORDS[bare.lower()]
    multiple = _MULTIPLE.fullmatch(bare) if bare[-1:] in "dnDN" else None
    if multiple:
        return f"{multiple[1]} \\times 10^{{{_MULTIPLES[multiple[2].lower()]}}}"
    ordinal = _ORDINAL.fullmatch(bare)
    if ordinal:
        return ordinal[1]
    article = _ARTICLE.fullmatch(bare)
    return article[1] if article else text


_RELATIONS = {
    "<=": "\\le ",
    ">=": "\\ge ",
    "=<": "\\le ",
    "=>": "\\ge ",
    "!=": "\\ne ",
    "\\not=": "\\ne ",
    "\\not =": "\\ne ",
}
_RELATION = re.compile("|".join(map(re.escape, _RELATIONS)))
_REPEATING = re.compile(r"(?<![\d.])(\d*)\.(\d*)\\(?:overline|bar|dot)\{(\d{1,12})\}(?!\d)")
_LOG_E, _LG = re.compile(r"\\log_\{?e\}?(?![A-Za-z])"), re.compile(r"\\lg(?![A-Za-z])")
_GEOMETRY = re.compile(r"\\(?:angle|triangle|overline|overrightarrow|widehat)(?![A-Za-z])\s*\{?\s*([A-Z]{1,4})\s*\}?")
_HALF_LINE = re.compile(r"([a-zA-Z])\s*(<|>|\\leq?(?![A-Za-z])|\\geq?(?![A-Za-z]))\s*([^<>,=]+?)")
_OR = re.compile(r"\s*,?\s*(?:\\text\{\s*or\s*\}|\bor\b|\\vee|\\lor)\s*")


def _repeating(match: re.Match[str]) -> str:
    r"""A repeating decimal such as 0.3\\overline{6} as a fraction."""
    whole, fixed, period = match.groups()
    bottom = (10 ** len(period) - 1) * 10 ** len(fixed)
    top = int((whole or "0") + fixed + period) - int((whole or "0") + fixed)
    return f"\\frac{{{top}}}{{{bottom}}}"


def _union(text: str) -> str:
    r"""``x < 1 or x > 2`` as the union of intervals; any other text unchanged."""
    parts = _OR.split(text)
    matches = [_HALF_LINE.fullmatch(part.strip()) for part in parts]
    if len(parts) < 2 or not all(matches) or len({match[1] for match in matches if match}) > 1:
        return text
    intervals = []
    for match in filter(None, matches):
        closed = "e" in match[2]
        if match[2].startswith((">", "\\g")):
            intervals.append(f"{'[' if closed else '('}{match[3]},\\infty)")
        else:
            intervals.append(f"(-\\infty,{match[3]}{']' if closed else ')'}")
    return "\\cup".join(intervals)


def _notations(text: str) -> str:
    """Notations that math-verify's grammar lacks: <=, repeating decimals, log base e, named geometric objects."""
    text = _RELATION.sub(lambda relation: _RELATIONS[relation.group()], text)
    if "\\" in text:
        text = _LG.sub(r"\\log_{10}", _LOG_E.sub(r"\\ln", text))
        named = _GEOMETRY.fullmatch(text)
        text = named[1] if named else text
    return _union(text)


_POWER = re.compile(r"(?<=[\w)}])\*\*(?=[\w({-][^*]*$)")
_ENDLESS = re.compile(r"(\d*)\.(\d{0,12}?)(\d)\3{2,12}(?:\.{3}|\\(?:ldots|dots|cdots)(?![A-Za-z]))")
_COLON = re.compile(r"(?<=\d)\{:\}(?=\d)")
_COMBINATIONS = re.compile(r"(?:\{\}\s*_\s*|\{\}\s*\^\s*|^\^)\{?(\w+)\}?\s*C\s*_\s*\{?(\w+)\}?")
_ROW_GAP = re.compile(r"(\\\\)\s*\[\s*-?[\d.]+\s*(?:pt|em|ex|mm|cm)\s*\]")
_JUNK = re.compile(r"(?<!\\)\$\s*\$|(?<![A-Za-z\\.])(?:np|numpy|math)\.(?=[a-z])")


def tidied(answer: str) -> str:
    """An answer without decoration, as LaTeX: the form that `expressions` reads."""
    text = unwrap(lossless(answer))
    if not text.isascii():
        text = _to_latex(text)
    text = _POWER.sub("^", text) if "**" in text else text
    text = _LEADING_EQUALS.sub("", _JUNK.sub("", _ROW_GAP.sub(r"\1", text)))
    text = _numbers(text)
    if "C" in text:
        text = _COMBINATIONS.sub(r"\\binom{\1}{\2}", text)
    text = _REPEATING.sub(_repeating, text) if "\\" in text else text
    text = _ENDLESS.sub(_repeating, text) if "..." in text or "dots" in text else text
    text = _WIDE_SPACE.sub(" ", text) if "\\" in text or "~" in text else text
    return lossless(unwrap(_words(_COLON.sub(":", text))))


def for_engine(text: str) -> str:
    """The result of `tidied` in notations that math-verify reads right."""
    if "\\" in text:
        text = _ANGLES.sub(r"(\1)", _RM_E.sub(r"{\1}" if "mathrm{i" in text else r"\1", text))
    text = _degrees(_E_NOTATION.sub(_e_notation, text))
    text = _PLAIN_ROOT.sub(r"\\sqrt{\1}", text)
    return lossless(unwrap(_notations(text)))
