r"""Sentences that state no answer although they may hold numbers: checks, remarks, closings, questions, refusals, givens.

Each function reads one sentence of `spans.flatten`.
"""

from __future__ import annotations

import re

__all__ = ["BOUND", "asks", "concludes", "gives", "is_aside", "points_back", "refuses", "sets_a_task", "turns"]

# Words that make the number after them a bound, not a value.
BOUND = (
    r"(?:(?:more|less|fewer|greater|smaller|larger|bigger|higher|lower)\s+than|at\s+(?:most|least)|no\s+(?:more|less|"
    r"fewer)\s+than|up\s+to|over|under|above|below)\b"
)
_BOUNDED = re.compile(rf"(?i)\banswers?\b[^.\n\d]{{0,30}}?\b(?:is|are|be)\s+{BOUND}")
_CONCLUDES = re.compile(
    r"(?i)\A\W*(?:therefore|thus|hence|consequently|in conclusion|to conclude|in summary|finally|altogether|in total|"
    r"so|we conclude|this means|final result|result|因此|所以|故|综上|总共|"
    r"daher|somit|folglich|donc|ainsi|par conséquent|por (?:lo )?tanto|así que|portanto|quindi|dunque|"
    r"следовательно|поэтому|итак|таким образом|よって|したがって|ゆえに|따라서|그러므로)(?=\W|[^\x00-\x7f]|\Z)"
)
_CHECKS = re.compile(
    r"(?i)\A\W*(?:let['’]?s |let us |to |(?:we|you|one) (?:can |may |could |might )?(?:also )?|now,? |as a |a |quick |"
    r"sanity |(?:very )?(?:common|frequent|typical|usual) )*"
    r"(?:check|verif|double.check|confirm|note\b|recall|remember|remark\b|proof\s*[:.]|tip\s*:|p\.?s\b|for example|"
    r"for reference|(?:for|by|in) (?:comparison|contrast)|compare\b|alternative|by the way|incidentally|"
    r"have (?:also )?(?:recogni|used|done|paired)|mistake|error|pitfall|(?:plugg|substitut|putt)ing (?:(?:this|it|"
    r"that|them|these|the \w+) )?back|(?:plug|substitute|put) (?:\w+ )?back)|✓|✔|✅"
)
_REASONABLE = re.compile(
    r"(?i)\A\W*(?:this|that|it|which|the (?:answer|result|value)|our (?:answer|result))\s+(?:also\s+)?(?:(?:is|seems|"
    r"looks|sounds)\s+(?:\w+ly\s+)?(?:reasonable|plausible|consistent|correct|right|sensible|expected|in line)|"
    r"makes sense|checks out|agrees|matches)\b"
)
# What was not done, or what other people do wrong.
_OTHERWISE = re.compile(
    r"(?i)\A\W*(?:if (?:we|you|one) (?:had|did|forgot|ignored)\b.*\bwould\b|had (?:we|you|he|she|they|it)\b.*\bwould\b|"
    r"(?:many|some|most) (?:people|students|of us)\b|an? (?:naive|wrong|careless|mistaken|incorrect)\b|one (?:might|may|"
    r"could) (?:think|guess)|you (?:might|may) (?:think|guess))"
)
_MATCHES = re.compile(
    r"(?i)(?:\b(?:which|and this|and that)\s+(?:matches|agrees|checks out|works)|\bmatch(?:es)? the "
    r"(?:given|original|problem|condition))"
)
# What a page prints about a solution, in addition to it.
_DATA = re.compile(
    r"(?i)\A\W*(?:time(?: taken)?|difficulty|source|level|topic|confidence|reference|tags?|points|keywords|category|"
    r"chapter|page)\s*:"
)
_INDEED = re.compile(r"(?i)\A\W*indeed\b")
_CLOSES = re.compile(
    r"(?i)\b(?:rate (?:my|this|the|our|\d)|was this helpful|let me know|feel free|hope (?:this|that|it)|would you like|"
    r"do you (?:have|want|"
    r"need|understand)|(?:any|more|other|further) questions?\b|thanks?(?: you)?\b|(?:glad|happy) to\b|good luck|"
    r"i (?:can|could|will) (?:also )?help|if you(?:['’]d| would) like|please (?:let|type|provide|give|ask|rate|share|"
    r"feel)|score (?:my|this) (?:answer|solution))"
)
_IN_PARENTHESES = re.compile(r"\s*\[\d{1,3}\]\s*|\s*\([^()]*(?:\([^()]*\)[^()]*)*\)?\s*")
_POINTS_BACK = re.compile(
    r"(?i)\A\W*(?:this|that|it|each|these|those|they)\s+(?:is|are|was|were|because|shows|satisf|match|agree|hold)"
)
_TURNS = re.compile(
    r"(?i)\A\W*(?:(?:oh|ah|but|hmm+|no|so)\b[,.… ]*)*(?:wait|hold on|actually|correction|sorry|oops|scratch that|hmm+|no,|"
    r"on second thought|let me (?:correct|redo|re-?think)|I (?:made|missed|forgot|mis\w+)|that(?:['’]s| is|"
    r" was) (?:wrong|incorrect|not right))\b"
)
_REFUSES = re.compile(
    r"(?i)\bI(?:['’]m| am| was)?\s+(?:\w+,?\s+){0,4}?(?:can(?:['’]t|not| not)|could(?:n['’]t| not)|unable to|not able to|"
    r"do(?:n['’]t| not))\s+(?:\w+\s+){0,2}?(?:solve|answer|determine|help|know|say|tell|give|provide|see|view|find|compute|"
    r"calculate|assist|continue|complete|finish|have)\b|\bnot enough (?:information|data)\b|"
    r"\binsufficient (?:information|data)\b|\b(?:impossible to|can(?:no|['’])t be)\s(?:determine|solve|answer|"
    r"calculate)d?\b|"
    r"\bneed more (?:information|details|context)\b|\bplease (?:provide|clarify|specify|share|upload)\b|"
    r"\bnot sure\b.*\b(?:may|might|could) be\b"
)
_ASKS = re.compile(
    r"(?i)\b(?:how (?:many|much|far|long|old|tall|fast|often)|what|which|who|when|where|find|calculate|determine)\b"
)
_SETS_A_TASK = re.compile(r"(?i)\A\W*(?:(?:find|determine)\b[^:]*|(?:calculate|compute|evaluate|solve)\b[^:=]*)\Z")
_ADDRESSES = re.compile(r"(?i)\b(?:you|i|we|me|us|else)\b")
_GIVES = re.compile(
    r"(?i)\A\W*(?:(?:first|now|so|then|and),?\s+)?(?:let(?!['’]s| us| me)|let(?:['’]s| us| me)\s+(?:denote|call|say|"
    r"assume|let|suppose|define|set|use|take)|suppose|assume|assuming|denote|define|say|given(?: that)?|"
    r"we are (?:given|told)|it is given)\b"
)


def concludes(sentence: str) -> bool:
    """Whether a sentence begins with "therefore" or the like."""
    return _CONCLUDES.match(sentence) is not None


def is_aside(sentence: str) -> bool:
    """Whether a sentence is a check, a remark, a comparison, the closing of a chat, or in parentheses."""
    return (
        _CHECKS.search(sentence) is not None
        or _REASONABLE.match(sentence) is not None
        or _INDEED.match(sentence) is not None
        or _DATA.match(sentence) is not None
        or _OTHERWISE.match(sentence) is not None
        or (_MATCHES.search(sentence) is not None and not concludes(sentence))
        or _CLOSES.search(sentence) is not None
        or _IN_PARENTHESES.fullmatch(sentence) is not None
    )


def points_back(sentence: str) -> bool:
    """Whether a sentence is about a value that was stated before: "This is ..."."""
    return _POINTS_BACK.match(sentence) is not None


def turns(sentence: str) -> bool:
    """Whether a sentence withdraws what was said before it: "Wait, ..."."""
    return _TURNS.match(sentence) is not None


def refuses(sentence: str) -> bool:
    """Whether a sentence says that there is no answer, or only bounds the answer: "I can't solve Problem 14"."""
    return _REFUSES.search(sentence) is not None or _BOUNDED.search(sentence) is not None


def asks(question: str) -> bool:
    """Whether a question belongs to the problem, and is not put to the reader of the answer."""
    return _ASKS.search(question) is not None and _ADDRESSES.search(question) is None


def sets_a_task(sentence: str) -> bool:
    """Whether a sentence repeats the problem in other words: "Find x if 2x = 5"."""
    return _SETS_A_TASK.match(sentence) is not None


def gives(sentence: str) -> bool:
    """Whether a sentence begins with something given or defined: "Let m = 8"."""
    return _GIVES.match(sentence) is not None
