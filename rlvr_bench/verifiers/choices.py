r"""Lettered choices: which letter an answer names, and where a response states one.

A choice needs exactly one letter. A list (``A, B``), a hedge (``C. but maybe B``), a negation and an index are no choice, and
an article is no letter ("A person ..."). Linear in the text: the length of a statement and the number of statements read are
bounded.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from rlvr_bench.verifiers.protocol import Extraction

__all__ = ["read_choice", "take_choice"]

_MAX_ANSWER = 2000
_MAX_STATEMENT = 300
_MAX_STATEMENTS = 50
_FULL_WIDTH = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)} | {0x3001: 0x2C, 0x3002: 0x2E}  # with 、 and 。

_LAYOUT = re.compile(
    r"\\(?:text(?:bf|rm|it|sf|tt|up|normal)?|math(?:rm|bf|it|sf|tt|normal)|mbox|boldsymbol|bm|boxed|fbox|framebox|emph|underline"
    r"|operatorname|left|right|displaystyle|[Ll]arge|LARGE|[Hh]uge|bf|rm|it)(?![A-Za-z])"
    r"|</?[A-Za-z]{1,20}>|\\?[{}$]|[*_`\"“”„«»'‘’#]"
)
_SPACE = re.compile(r"\\(?:[,;:! ()\[\]]|q?quad(?![A-Za-z]))|[\[\]~\s]+")
_LEAD_IN = re.compile(
    r"(?i)(?:(?:the|my|so|thus|therefore|hence|then|clearly|definitely|simply|indeed|probably|most likely|correct|right|best|"
    r"final|it|is|its|answer|options?|choices?|letter|alternative|either|both|between|given by)\b[\s:,]*|[\s:=→⇒>–—-]+){0,12}"
)
_BETWEEN = re.compile(r"(?i)\b(?:either|both|between|options|choices)\b")
_LETTER = re.compile(r"(\(?)\s*([A-Za-z])(?!\w)(?:\s*(\)))?")
_EXPLANATION = re.compile(
    r"\s+(?:because|since|as|which|due|given|for|in|by|from|with|on|after|according|among|based|is|was|would|seems|so|and|but|while)\b"
)
_NEGATION = re.compile(
    r"(?i)[\s)]*(?:(?:is|was|seems|would be|can)\s+)?(?:not|isnt|wasnt|cannot|cant|wrong|incorrect|false)\b"
)
# A letter that names a choice in prose. "A metal" and "I think" have an article and a pronoun.
_LONE = r"(?<!\w)\(?(?:[B-HJ-Z](?!\w)|A(?!\w)(?!\s+(?!(?:and|or|nor|is|are)\b)[a-z]))\)?"
_PAIR = re.compile(  # "D) Both A and B" is the text of one option
    rf"\s*[).:]\s*(?:(?i:both|neither|either|only|all of|none of)\s+)?{_LONE}(?:,\s*{_LONE}){{0,9}}"
    rf",?\s+(?:and|or|nor)\s+{_LONE}"
)
_LISTED = re.compile(
    rf"""\s*(?:[,;/&+|–—-]|\\&)+\s*(?:(?:or|and)\s+)?\(?[A-Za-z](?!\w)(?!\s+(?!are\b)[a-z])
    |[\s).]*\(?[A-Za-z](?!\w)[\s).]*$
    |\W*(?i:or|maybe|perhaps|possibly)\b
    |\W*(?i:and|but|though|although|however|yet|unless)\b.*?{_LONE}
    |.*[,;]\s*\(?[A-Z][).:](?!\w)
    |.*\b(?i:or|and|but|maybe|perhaps|possibly)\W+(?:also\s+)?{_LONE}(?:\s*[).:]\s*\S|\W*$)""",
    re.DOTALL | re.VERBOSE,
)
_NONE, _SEVERAL = "", "several"


def read_choice(text: str) -> str | None:
    r"""The one letter that an answer names, upper case, or None: ``C``, ``(c)``, ``C. 42``, ``\text{(C) }42``, ``option C``."""
    stripped = text.strip()
    named = _read(stripped) if len(stripped) <= _MAX_ANSWER else _NONE
    return None if named in (_NONE, _SEVERAL) else named


def _read(text: str, *, line: bool = False) -> str:
    """The letter named at the start of a text, _NONE or _SEVERAL; a ``line`` must be a label (``C``, ``C. 42``)."""
    bare = _SPACE.sub(" ", _LAYOUT.sub("", text.translate(_FULL_WIDTH))).strip()
    lead = _LEAD_IN.match(bare)
    start = lead.end() if lead else 0
    letter = _LETTER.match(bare, start)
    if letter is None:
        return _NONE
    name, tail = letter[2], bare[letter.end() :]
    if line and (name.upper() > "J" or (name == "I" and tail)):
        return _NONE  # "I. Introduction"
    if name.islower() and not ("a" <= name <= "j" and _is_closed(letter, tail)):
        return _NONE
    if _LISTED.match(_PAIR.sub("", (letter[3] or "") + tail, count=1)) or _BETWEEN.search(bare, 0, start):
        return _SEVERAL
    if _NEGATION.match(tail) or tail.lstrip(").").startswith("?"):
        return _NONE
    return name.upper() if _is_closed(letter, tail) or (not line and _is_explained(name, tail)) else _NONE


def _is_closed(letter: re.Match[str], tail: str) -> bool:
    """Whether the letter ends as a label does: with a bracket, before a full stop or colon, or at the end of the text."""
    if letter[1]:
        return bool(letter[3])
    return (
        bool(letter[3]) or not tail.strip(" .!") or re.match(r"\s*[.:,;]\s|\s+[–—-]\s|\s*[.:]$|\s+\(", tail) is not None
    )


def _is_explained(name: str, tail: str) -> bool:
    """Whether an explanation follows: ``C because ...``, ``C 42``, ``C Paris``; but "A person" has an article."""
    if _EXPLANATION.match(tail) or re.match(r"\s+(?:\d|\\)", tail):
        return True
    return name not in "AI" and re.match(r"\s+[A-Z][a-z]", tail) is not None


# ---------------------------------------------------------------------------------------------------------- statements

_IS = r"(?:is|was|would\s+be|must\s+be|should\s+be|will\s+be|has\s+to\s+be|est|es|ist|é|è)\b(?!\s*n)"
# The ends of the words that statements begin with: str.rfind searches for them many times faster than a pattern.
_WORD_ENDS = (
    "nswer",
    "NSWER",
    "hoice",
    "HOICE",
    "ption",
    "PTION",
    "lternative",
    "olution",
    "esposta",
    "espuesta",
    "éponse",
    "ntwort",
)
_CHOOSING_ENDS = ("hoose", "hose", "ick", "elect", "o with", "pt for")
_SIGNS = ("答案", "选", "選", "[[")
_STATEMENT = re.compile(
    rf"""(?i:(?:answer|choice|option|alternative|solution|respuesta|resposta|r[ée]ponse|antwort)
        (?:\s+(?:choice|option|letter)\b)?(?:\s+(?:to|for|of)\s[^\n.:=]{{1,60}}?)?[*_"”)\]\s]{{0,6}}
        (?:,?\s*(?:then|therefore|thus|hence),?\s+)?(?:{_IS}|:|：|=|->|→))
    |答案\s*(?:应?该?[是为選选]|[:：])+ | [选選](?:择|擇|项|項)?\s*[:：]?(?=\s*[(（]?[A-JＡ-Ｊ])
    |(?<=<)(?i:answer)> | \[\[""",
    re.VERBOSE,
)
_CHOSEN = re.compile(r"(?i:choose|chose|pick(?:ed)?|select(?:ed)?|go with|opt for)\b")
_HEADING = re.compile(r"(?i)^[ \t#*_]*(?:(?:final|correct)\s+)?answer[ \t*_]*$")
_NAMED_RIGHT = re.compile(
    r"[A-J](?!\w)[).*_}$\s]{1,6}(?:is|seems|must be|would be)\s+(?:(?:clearly|definitely|indeed|therefore|thus)\s+)?"
    r"(?:the\s+)?(?:only\s+|most\s+)?(?:correct|right|best|the answer|answer)\b"
)
# "It is not A, not B, and not C, so it must be D."
_DEDUCED = re.compile(
    r"\b(?i:(?:so|therefore|thus|hence)\b,?\s{1,3}(?:it\s{1,3}(?:is|(?:must|has to|can only|should)\s{1,3}be)\s{1,3})?"
    r"|it\s{1,3}(?:must|has to|can only|should)\s{1,3}be\s{1,3})"
    r"(?i:option\s{1,3}|choice\s{1,3})?\(?([A-HJ])\)?(?=[.!]?\s{0,3}(?:\n|\Z))"
)
_IF = re.compile(r"(?i)\b(?:if|unless|were)\b[^.!?\n]{0,80}\Z")
_DOUBTED = re.compile(
    r"(?i)(?:\b(?:if|whether|not|neither|nor|or|and|suppose|assume|assuming|unless|why|how|when|is)\W+(?:option|choice|answer)?[^\w,]*|\w)$"
)
_OPTION_LINE = re.compile(r"^[ \t*_]{0,8}\(?([A-J])[).:][*_]*[ \t]", re.MULTILINE)


def take_choice(text: str, last_boxed: Callable[[str], str | None]) -> Extraction:
    """The letter that is boxed; else the last one stated; else the one alone on the last line, or on the first.

    A list or a hedge is returned as text, and equals no letter. ``last_boxed`` returns the content of the last box.
    """
    boxed = last_boxed(text)
    named = _NONE if boxed is None else _read(boxed[:_MAX_ANSWER])
    if named != _NONE:
        return Extraction(
            answer=boxed if named == _SEVERAL else named, candidates=text.count("\\boxed") + text.count("\\fbox")
        )
    stated = _last_statement(text)
    if stated is None:
        stated = _lone_line(text)
    if stated is not None:
        return stated
    return Extraction(answer=boxed, candidates=0 if boxed is None else 1)


def _last_statement(text: str) -> Extraction | None:
    statements = []  # (index, letter, text)
    for start in _starts(text):
        if stated := _STATEMENT.match(text, start) or _heading(text, start):
            statement = _line_after(text, stated.end())
            statements.append((start, _read(statement), statement))
        elif chosen := _CHOSEN.match(text, start):
            named = _read(_line_after(text, chosen.end()))
            # "Choose A, B, C or D." is the question.
            statements.append((start, _NONE if named == _SEVERAL else named, ""))
    for match in list(_NAMED_RIGHT.finditer(text))[-_MAX_STATEMENTS:]:
        doubted = _DOUBTED.search(text[max(0, match.start() - 30) : match.start()])
        statements.append((match.start(), _NONE if doubted else match.group()[0], ""))
    for match in list(_DEDUCED.finditer(text))[-_MAX_STATEMENTS:]:
        supposed = _IF.search(text, max(0, match.start() - 100), match.start())
        statements.append((match.start(1), _NONE if supposed else match[1], ""))
    readable = sorted(entry for entry in statements if entry[1] != _NONE)
    if not readable:
        return None
    _, named, statement = readable[-1]
    return Extraction(answer=statement if named == _SEVERAL else named, candidates=len(readable))


def _starts(text: str) -> list[int]:
    """Where a statement may begin: the last indices of each word."""
    starts = []
    for ends, back in ((_WORD_ENDS, 1), (_CHOOSING_ENDS, 1), (_SIGNS, 0)):
        for word in ends:
            index, count = text.rfind(word), 0
            while index >= 0 and count < _MAX_STATEMENTS:
                starts.append(max(0, index - back))
                index, count = text.rfind(word, 0, index), count + 1
    return starts


def _heading(text: str, at: int) -> re.Match[str] | None:
    """The match of a line that says only "Final Answer"."""
    start, end = text.rfind("\n", max(0, at - 40), at) + 1, text.find("\n", at, at + 40)
    return _HEADING.match(text[:end], start) if end >= 0 and (start or at < 40) else None


def _line_after(text: str, start: int) -> str:
    """The rest of the line; where it is empty, the next line."""
    for line in text[start : start + _MAX_STATEMENT].split("\n", 4)[:4]:
        if line.strip(" \t*_:#`"):
            return line.strip()
    return ""


def _lone_line(text: str) -> Extraction | None:
    """A letter alone, or a lettered option, on the last line; on the first if the other lines name no other option."""
    stripped = text.strip()
    last = stripped[-_MAX_STATEMENT:].rpartition("\n")[2].strip()
    named = _read(last, line=True)
    if named == _NONE:
        last = stripped[:_MAX_STATEMENT].partition("\n")[0].strip()
        named = _read(last, line=True) if len(set(_OPTION_LINE.findall(text))) <= 1 else _NONE
    if named == _NONE:
        return None
    return Extraction(answer=last if named == _SEVERAL else named, candidates=1)
