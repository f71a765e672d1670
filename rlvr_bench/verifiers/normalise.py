r"""Rewriting mathematical answers into what math-verify reads right; each rule exists because it reads that form wrong.

`lossless` changes spelling only and is the key of the verdict cache; `normalise` goes further (units of notation, e-notation,
Unicode) and is applied to the gold answer and to the model's alike. Both are linear in the text.
"""

from __future__ import annotations

import re
import unicodedata

__all__ = ["lossless", "normalise", "unwrap"]

_LEFT_RIGHT = re.compile(r"\\(?:left|right|bigl?|bigr|Bigl?|Bigr|biggl?|biggr)(?=\s*(?:[()\[\]|./<>]|\\[{}|lr]))")
_FRAC = re.compile(r"\\[dtc]frac(?![A-Za-z])")
_NO_SHAPE = re.compile(r"\\(?:displaystyle|textstyle|limits|nolimits)(?![A-Za-z])|\\!")
_SPACE_RUN = re.compile(r"\s+")
# Spaces beside these symbols say nothing: "x + 1", "{ 2 }". Beside commas and between digits they do ("1, 234" is a pair).
_IDLE_SPACE = re.compile(r"(?:(?<!\\) )?([+=^_{}()\[\]<>*]) ?")
_MATH_FENCE = re.compile(r"(\$+)([^$]*)\1|\\\((.*)\\\)|\\\[(.*)\\\]", re.DOTALL)


def lossless(answer: str) -> str:
    r"""A normal form that no reader would call a different answer: spaces, ``\left``, ``\dfrac``, ``\!``, math fences."""
    text = answer.strip()
    fence = _MATH_FENCE.fullmatch(text)
    if fence:
        text = next(group for group in fence.groups()[1:] if group is not None).strip()
    if "\\" in text:
        text = _NO_SHAPE.sub("", _FRAC.sub(r"\\frac", _LEFT_RIGHT.sub("", text)))
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
    "−": "-", "–": "-", "—": "-", "‐": "-", "‑": "-", "×": "\\times ", "⋅": "\\cdot ", "·": "\\cdot ", "∙": "\\cdot ", "÷": "/",
    "∕": "/", "≤": "\\le ", "⩽": "\\le ", "≥": "\\ge ", "⩾": "\\ge ", "≠": "\\ne ", "≈": "\\approx ", "±": "\\pm ", "∓": "\\mp ",
    "∞": "\\infty ", "∪": "\\cup ", "∩": "\\cap ", "∅": "\\emptyset ", "∈": "\\in ", "∉": "\\notin ", "ℝ": "\\mathbb{R}",
    "ℤ": "\\mathbb{Z}", "ℕ": "\\mathbb{N}", "ℚ": "\\mathbb{Q}", "ℂ": "\\mathbb{C}", "°": "^\\circ ", "º": "^\\circ ",
    "π": "\\pi ", "α": "\\alpha ", "β": "\\beta ", "γ": "\\gamma ", "δ": "\\delta ", "θ": "\\theta ", "λ": "\\lambda ", "μ": "\\mu ",
    "ρ": "\\rho ", "σ": "\\sigma ", "τ": "\\tau ", "φ": "\\phi ", "ϕ": "\\phi ", "ω": "\\omega ", "ε": "\\epsilon ", "Δ": "\\Delta ",
    "′": "'", "’": "'", "“": '"', "”": '"', "…": "\\ldots ", "\u200b": "", "\u2061": "", "\ufeff": "", "⟨": "\\langle ", "⟩": "\\rangle ",
    "→": "\\to ", "∖": "\\setminus ", "⌊": "\\lfloor ", "⌋": "\\rfloor ", "⌈": "\\lceil ", "⌉": "\\rceil ",
}  # fmt: skip
_SYMBOL = re.compile("|".join(map(re.escape, _SYMBOLS)))


def _vulgar(match: re.Match[str]) -> str:
    whole, top, bottom = match.groups()
    return f"{whole}\\frac{{{top}}}{{{bottom}}}"


def _to_latex(text: str) -> str:
    """Unicode mathematics as LaTeX; superscripts before NFKC, which would turn x² into x2."""
    text = _SUPERSCRIPT_RUN.sub(lambda run: "^{" + run.group().translate(_SUPERSCRIPTS) + "}", text)
    text = _SUBSCRIPT_RUN.sub(lambda run: "_{" + run.group().translate(_SUBSCRIPTS) + "}", text)
    text = _SYMBOL.sub(lambda symbol: _SYMBOLS[symbol.group()], text)
    if any("VULGAR FRACTION" in unicodedata.name(char, "") for char in text):
        text = re.sub(r"(?<=\d)(?=[¼-¾⅐-⅞])", " ", text)
    text = _VULGAR.sub(_vulgar, unicodedata.normalize("NFKC", text))
    text = _RADICAL.sub(lambda m: f"{_RADICAL_NAMES[m[1]]}{{{m[2] or m[3] or m[4]}}}", text)
    return _SYMBOL.sub(lambda symbol: _SYMBOLS[symbol.group()], text)


# -------------------------------------------------------------------------------------------------------- decoration

_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{(.*)\}", re.DOTALL)
_EMPHASIS = re.compile(r"(\*\*|__|`)(.+?)\1", re.DOTALL)
_COLOR = re.compile(r"\\(?:textcolor|color)\s*\{[^{}]*\}\s*\{([^{}]*)\}|\\color\s*\{[^{}]*\}")
_UNDERLINE = re.compile(r"\\(?:underline|uline)\s*\{([^{}]*)\}")
_WIDE_SPACE = re.compile(
    r"(?<!\\)\\(?:quad|qquad|enspace|hfill)(?![A-Za-z])|\\hspace\*?\{[^{}]*\}|(?<!\\)\\[;:, ]|(?<!\\)~|&nbsp;"
)
_DIGIT_GAP = re.compile(r"(?<=\d)(?:\\,|\\!|\{,\}|,\\!|\\ |\\;|\\:|~|,\s*\\,| \\! ?|,\s?\\! ?)(?=\d{3}(?!\d))")
_END = re.compile(r"(?:\\\\|\\|[\s,;:]|(?<![.\s])\.(?!\d))+$")
_TEXT_FRAME = re.compile(
    r"\\(?:text|textbf|textit|textrm|mathbf|mathrm|mathit|mbox|operatorname|bm|boldsymbol)\s*\{([^{}]*)\}"
)
_RM_E = re.compile(r"\\(?:mathrm|text|rm|operatorname|mathit)\s*\{\s*(e|i)\s*\}")
_LEADING_EQUALS = re.compile(r"^\s*(?:=|\\approx|\\sim|~)\s*(?=[-+\d\\(])")


def unwrap(text: str) -> str:
    r"""Without the frames that carry no meaning: math fences, ``\boxed{}``, bold, colour, a closing full stop."""
    for _ in range(4):
        before = text
        fence = _MATH_FENCE.fullmatch(text.strip())
        if fence:
            text = next(group for group in fence.groups()[1:] if group is not None)
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
    """Without trailing punctuation: a full stop inside a box makes math-verify compare strings. Abbreviations keep theirs."""
    text = text.strip()
    if text.endswith(".") and re.search(r"(?:[a-z]\.[a-z]|\.\.)\.?$", text):
        return text
    return _END.sub("", text).strip()


# ----------------------------------------------------------------------------------------------------------- numbers

_CURRENCY = re.compile(r"(?:\\\$|\$|€|£|¥|₹|\\pounds|\\euro|\\texteuro(?:\{\})?|USD|US\s?\$)\s*(?=[-\d.])")
_CURRENCY_END = re.compile(r"(?<=\d)\s*(?:\\\$|\$|€|£|¥|₹)\s*$")
_E_NOTATION = re.compile(
    r"(?<![A-Za-z\\_^{\d.])(\d+\.?\d*|\.\d+)\s?(?:\\?e|E)\s?([+\-]?)\{?(\d{1,4})\}?(?![\d.A-Za-z^])"
)
_SPACED_THOUSANDS = re.compile(r"[-+]?\d{1,3}(?: \d{3})+(?:\.\d+)?")
_SLASH_MIXED = re.compile(r"([-+]?)\s*(\d+)(?:\s+|-| and )(\d+)\s*/\s*(\d+)")
_OVER = re.compile(r"\{([^{}]*?)\\over(?![A-Za-z])([^{}]*?)\}")
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


def _numbers(text: str) -> str:
    """Number forms: thousands, e-notation (math-verify reads 4.5e33 as 4.5 * E * 33), mixed numbers, currency, percent."""
    text = _DIGIT_GAP.sub("", text)
    text = _CURRENCY_END.sub("", _CURRENCY.sub("", text))
    text = _PERCENT_WORD.sub(r"\\%", re.sub(r"(?<!\\)%", r"\\%", text))
    text = _E_NOTATION.sub(_e_notation, text)
    if _SPACED_THOUSANDS.fullmatch(text):
        text = text.replace(" ", "")
    mixed = _SLASH_MIXED.fullmatch(text)
    if mixed:
        text = f"{mixed[1]}{mixed[2]}\\frac{{{mixed[3]}}}{{{mixed[4]}}}"
    if "\\over" in text:
        text = _OVER.sub(r"\\frac{\1}{\2}", text)
        whole = _OVER_WHOLE.fullmatch(text)
        text = f"\\frac{{{whole[1].strip()}}}{{{whole[2].strip()}}}" if whole else text
    return text


def _degrees(text: str) -> str:
    r"""Degrees as radians inside a trigonometric function, and dropped elsewhere: 74^\circ is 74."""
    if "circ" not in text and "deg" not in text:
        return text
    text = _TRIG_DEGREES.sub(r"\1{(\\frac{\2 \\pi}{180})}", text)
    return text if _TEMPERATURE.search(text) else _DEGREES.sub("", text)


_EMPTY_SET = re.compile(
    r"(?:there (?:is|are) )?no (?:real )?solutions?(?: exist)?|none exist|\\varnothing|\\\{\s*\\\}|\{\\\s*\}",
    re.IGNORECASE,
)
_ANGLES = re.compile(r"\\langle\s*([^<>]*?,[^<>]*?)\\rangle")


def _words(text: str) -> str:
    """Words that stand for mathematics: no solution, all real numbers, infinity."""
    bare = _TEXT_FRAME.sub(r"\1", text).strip().strip("{}").strip()
    if _EMPTY_SET.fullmatch(bare) or _EMPTY_SET.fullmatch(text):
        return "\\emptyset"
    return text


def normalise(answer: str) -> str:
    """The form that is compared: what `lossless` does, and every rewriting of this module."""
    text = unwrap(lossless(answer))
    if not text.isascii():
        text = _to_latex(text)
    text = _LEADING_EQUALS.sub("", text)
    if "\\" in text:
        text = _ANGLES.sub(r"(\1)", _RM_E.sub(r"{\1}" if "mathrm{i" in text else r"\1", text))
    text = _degrees(_numbers(text))
    text = _WIDE_SPACE.sub(" ", text) if "\\" in text or "~" in text else text
    text = _PLAIN_ROOT.sub(r"\\sqrt{\1}", text)
    return lossless(unwrap(_words(text)))
