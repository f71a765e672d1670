r"""Token categories: formal reasoning, logical structuring, metacognitive, semantic support.

The four classes are those of arXiv 2508.02260 and 2508.07534, which publish neither word lists nor a rule (the released
code loads a private table). The rules here are ours, small and versioned:

- *formal reasoning*: numbers, variables, operators, LaTeX commands, Greek letters, names of functions, and brackets that
  belong to a formula;
- *logical structuring*: words that link steps: condition, cause, contrast, conclusion, order, assumption;
- *metacognitive*: words with which a writer watches or steers the thinking: doubt, checks, recall, changes of plan;
- *semantic support*: everything else, punctuation and white space included.

Special tokens (end of text, of turn) are a fifth class. The rules find English words in the decoded text, and every token of
a word gets the word's category: they work with any tokenizer. Agreement with labels given by hand: docs/analysis.md.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from rlvr_bench.samplers.tokenizer import Tokenizer

__all__ = ["CATEGORIES", "RULES_VERSION", "TokenPieces", "categorise"]

RULES_VERSION = "1"
CATEGORIES = ("formal reasoning", "logical structuring", "metacognitive", "semantic support", "special")
"""The names of the numbers of ``categorise``."""

_FORMAL, _LOGICAL, _METACOGNITIVE, _SUPPORT, _SPECIAL = range(5)

_PHRASES = {
    _METACOGNITIVE: (
        "let me,let's,let us,hold on,on second thought,make sure,makes sense,make sense,what if,how about,"
        "i made a mistake,i made an error,go back,going back,start over,i think,i believe,i guess,i wonder,i notice,"
        "i recall,i remember,i realize,i realise,i'm not sure,i am not sure,not sure,double-check,"
        "double check,re-check,looks like,look back"
    ),
    _LOGICAL: (
        "it follows that,such that,so that,in order to,as a result,in other words,for example,for instance,that is why,"
        "on the other hand,in addition,in contrast,given that,assume that,suppose that,provided that,even though,i.e."
    ),
}
_WORDS = {
    _METACOGNITIVE: (
        "wait,hmm,hm,oh,ah,okay,ok,alright,actually,maybe,perhaps,alternatively,check,checks,checked,checking,verify,"
        "verifies,verified,verifying,verification,confirm,confirms,recheck,recall,remember,mistake,mistaken,error,"
        "reconsider,rethink,revisit,think,thinking,thought,guess,wonder,realize,realise,notice,try,trying,tried,unsure,"
        "confused,confusing,tricky,seems,seem,carefully,yes,no wait"
    ),
    _LOGICAL: (
        "therefore,thus,hence,so,because,since,but,however,if,then,else,otherwise,implies,imply,implying,suppose,assume,"
        "assuming,given,let,although,though,whereas,while,when,unless,whenever,either,neither,nor,moreover,furthermore,"
        "additionally,also,instead,consequently,accordingly,conversely,similarly,likewise,nevertheless,nonetheless,yet,"
        "first,firstly,second,secondly,third,thirdly,next,finally,lastly,step,case,cases,contradiction,contradicts,"
        "conclude,concludes,conclusion"
    ),
}
_FUNCTIONS = "sin|cos|tan|cot|sec|csc|arcsin|arccos|arctan|log|ln|exp|gcd|lcm|mod|max|min|lim|det|deg|sqrt"
_SYMBOL = r"=+*/^_<>≤≥≠≈≡±×÷·√"
# One letter is a variable; "a" and "A" only next to a sign of a formula, "I" never, and none in "i.e." or "it's".
_VARIABLE = "|".join(
    (
        r"(?<![A-Za-z'’.])[B-HJ-Zb-z](?![A-Za-z'’]|\.[a-z])",
        rf"(?<![A-Za-z'’.])[aA](?=\s*[{_SYMBOL}²³),])",
        rf"(?<=[\d({_SYMBOL}{{])[aA](?![A-Za-z])",
    )
)
_FORMULA = "|".join(
    (
        r"\\[A-Za-z]+|\\[()\[\]{},;:! ]",  # LaTeX commands
        r"\d+(?:[.,]\d+)*",
        rf"(?<![A-Za-z])(?:{_FUNCTIONS})(?![A-Za-z])",
        _VARIABLE,
        r"(?<![A-Za-z])(?:[A-Z]{2,3}(?![A-Za-z])|[a-z]{2}(?=\s?[\^=+*/_²³]))",  # segments and products: AB, ab = 6
        rf"[{_SYMBOL}∑∏∫∂∞∈∉⊂⊆∪∩∧∨¬→←⇒⇔∀∃°%$&{{}}\[\]|~²³α-ωΑ-Ω]",
        r"[-−](?=\s?[\d(\\]|\s?[B-HJ-Zb-z](?![A-Za-z'’]))|(?<=[\d)}])[-−]|(?<=[\d)}] )[-−]",
        r"\((?=[-−\d\\(√]|[A-Za-z][^A-Za-z'’.]?[-−+*/=<>,)\d^ ])|(?<=[\d}\])])\)|(?<=[^A-Za-z][A-Za-z])\)",
        r"(?<=[({,\d][A-Za-z\d]),(?=\s?[A-Za-z\d][,)}])",  # between arguments: gcd(a, b)
    )
)


def _alternatives(terms: dict[int, str], category: int) -> str:
    ordered = sorted(terms[category].split(","), key=len, reverse=True)
    return "|".join(re.escape(term).replace("'", "['’]").replace(r"\ ", r"\s+") for term in ordered)


def _pattern() -> re.Pattern[str]:
    """A pattern of all rules: phrases, then single words, then formulas. The name of the group gives the category."""
    edge, end = r"(?<![A-Za-z])", r"(?![A-Za-z])"
    parts = [
        rf"{edge}let(?=\s+[A-Za-z\\$](?![A-Za-z'’])|\s+[a-z]+\s+(?:be|denote)\b){end}",  # "let x be": an assumption
        rf"{edge}(?:{_alternatives(_PHRASES, _METACOGNITIVE)}){end}",
        rf"{edge}(?:{_alternatives(_PHRASES, _LOGICAL)})(?<=[.a-z]){end}",
        rf"{edge}(?:{_alternatives(_WORDS, _METACOGNITIVE)}){end}",
        rf"{edge}(?:{_alternatives(_WORDS, _LOGICAL)}){end}",
    ]
    names = ("L0", "M0", "L1", "M1", "L2")
    words = "|".join(f"(?P<{name}>(?i:{part}))" for name, part in zip(names, parts, strict=True))
    return re.compile(f"{words}|(?P<F>{_FORMULA})")


_RULES = _pattern()
_BY_GROUP = {"F": _FORMAL, "L0": _LOGICAL, "L1": _LOGICAL, "L2": _LOGICAL, "M0": _METACOGNITIVE, "M1": _METACOGNITIVE}


def categorise(pieces: Sequence[bytes]) -> npt.NDArray[np.int8]:
    """Category of each token of one response, (T,), as numbers of ``CATEGORIES``, from the tokens' bytes.

    The first character that is not white space decides the category; a token of white space is semantic support. An empty
    piece is a special token.
    """
    lengths = np.array([len(piece) for piece in pieces], dtype=np.int64)
    starts = np.cumsum(lengths) - lengths
    whole = b"".join(pieces)
    text = whole.decode("utf-8", "surrogateescape")
    marks = np.full(len(text) + 1, _SUPPORT, dtype=np.int8)
    for match in _RULES.finditer(text):
        marks[match.start() : match.end()] = _BY_GROUP[match.lastgroup or "F"]
    lead = np.array([len(piece) - len(piece.lstrip()) for piece in pieces], dtype=np.int64)
    first = starts + lead
    if len(text) != len(whole):
        widths = [len(character.encode("utf-8", "surrogateescape")) for character in text]
        first = np.repeat(np.arange(len(text) + 1), [*widths, 1])[first]
    categories = np.where(lead == lengths, np.int8(_SUPPORT), marks[np.minimum(first, len(text))])
    return np.where(lengths == 0, np.int8(_SPECIAL), categories).astype(np.int8)


class TokenPieces:
    """Bytes of a tokenizer's tokens within a text; special tokens have none.

    Each token is decoded after another token, whose text is then cut off: this keeps leading spaces (sentencepiece) and
    joins word pieces. A token that is a part of a character gives the bytes of that part.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._special = frozenset(int(i) for i in tokenizer.all_special_ids)
        self._known: dict[int, bytes] = {}
        self._anchor = self._find_anchor()

    def __call__(self, ids: npt.NDArray[np.integer]) -> list[bytes]:
        """The piece of each token, T of them."""
        numbers = ids.tolist()
        for token in set(numbers) - self._known.keys():
            self._known[token] = self._piece(token)
        return [self._known[token] for token in numbers]

    def _find_anchor(self) -> list[int]:
        for text in ("a", "1"):
            ids = self._tokenizer(text, add_special_tokens=False)["input_ids"]
            if ids and ids[-1] not in self._special:
                return [int(ids[-1])]
        return []

    def _piece(self, token: int) -> bytes:
        if token in self._special:
            return b""
        lead, whole = (self._text(ids) for ids in (self._anchor, [*self._anchor, token]))
        piece = whole[len(lead) :]
        if "\ufffd" in piece:
            return _bytes_of_name(self._tokenizer.convert_ids_to_tokens(token)) or piece.encode()
        return piece.encode()

    def _text(self, ids: list[int]) -> str:
        return str(self._tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))


def _bytes_of_name(token: str) -> bytes | None:
    """The bytes of a token's name: ``<0xE2>``, or the printable alphabet of byte-level tokenizers; else None."""
    if match := re.fullmatch(r"<0x([0-9A-Fa-f]{2})>", token):
        return bytes.fromhex(match.group(1))
    table = _byte_alphabet()
    return bytes(table[character] for character in token) if all(character in table for character in token) else None


def _byte_alphabet() -> dict[str, int]:
    """The alphabet of byte-level tokenizers (GPT-2): printable Latin-1 keeps its code, the rest follows from U+0100."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in plain]
    return {**{chr(byte): byte for byte in plain}, **{chr(256 + n): byte for n, byte in enumerate(rest)}}
