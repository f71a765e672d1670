"""Which problem of a task each problem of another program's files is: by its id, or by the text of its question."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from rlvr_bench.errors import DataError, visible
from rlvr_bench.importers.entries import ImportedEntry
from rlvr_bench.importers.question_text import QuestionIndex, holds, is_specific, plain_question
from rlvr_bench.records import Problem
from rlvr_bench.task import LoadedTask

__all__ = ["Matching", "TaskProblems"]

_PIECE = re.compile(r"[^\W\d_]+|\d+")
_BEGINNING = 20  # characters of a question that identify it where a file holds only its beginning
_MOST_CACHED = 65_536
_MOST_MISSING = 1_000_000
_EXAMPLES = 3


class TaskProblems:
    """The problems of a task, by their ids, the numbers in them, their positions and their questions.

    A problem is that whose id is the file's, also where case, separators or leading zeros differ; else the one whose
    question has the same normal form, or is the only one contained in the file's question (a prompt), or is the only one
    that begins with it. A question that is another problem's comes before an id. A plain number counts as a number in an
    id, or as a position from 0, where the question agrees or, in a file without questions, the gold answer.
    """

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        self._questions = {problem.id: plain_question(problem.question) for problem in problems}
        self._exact = {problem.id: problem for problem in problems}
        self._canonical = _by_unique(problems, lambda problem: _canonical(problem.id))
        self._numbered = _by_unique(problems, lambda problem: _last_number(problem.id))
        self._by_question: dict[str, list[Problem]] = defaultdict(list)
        for problem in problems:
            self._by_question[self._questions[problem.id]].append(problem)
        self._index = QuestionIndex(list(self._by_question))

    def find(self, name: str, question: str, gold: str) -> Problem | None:
        """The problem with this id, question and gold answer as a file has them; None where none or several fit."""
        named = self._exact.get(name) or self._canonical.get(_canonical(name))
        listed = [named] if named else []
        is_number = name.isascii() and name.isdecimal() and len(name) < 10
        if is_number:
            at = int(name)
            listed += [other for other in (self._numbered.get(str(at)), *self.problems[at : at + 1]) if other]
        if text := plain_question(question):
            return self._by_text(text, listed) or (None if is_number else named)
        if named is not None:
            return named
        return next((other for other in listed if _same_gold(gold, other.answer)), None)

    def is_text_of(self, problem: Problem, question: str) -> bool:
        """Whether a file's question is this problem's, contains it, or is a part of it."""
        return self._agrees(plain_question(question), problem)

    def _by_text(self, text: str, listed: Sequence[Problem]) -> Problem | None:
        """The only problem with this question; of several with it, the first of ``listed``."""
        same = self._by_question.get(text, ())
        if not same:
            contained = self._index.contained(text)
            same = [problem for question in contained for problem in self._by_question[question]]
        if not same and len(text) >= _BEGINNING:
            same = [problem for problem in self.problems if self._questions[problem.id].startswith(text)]
        if len(same) == 1:
            return same[0]
        chosen = [problem for problem in listed if (problem in same if same else self._agrees(text, problem))]
        return chosen[0] if chosen else None

    def _agrees(self, text: str, problem: Problem) -> bool:
        question = self._questions[problem.id]
        contains = is_specific(question) and holds(text, question)
        return text == question or contains or (len(text) >= _BEGINNING and holds(question, text))


@dataclass
class _Known:
    """The file's problem that was matched first to one of the task's problems: its id and question, and its gold answer."""

    name: str
    text: bytes
    where: str
    gold: str


class Matching:
    """Matches the entries of one import to the problems of a task, and keeps account of what did not fit."""

    def __init__(self, loaded: LoadedTask) -> None:
        self.task = loaded
        self.problems = TaskProblems(loaded.problems)
        self._known: dict[str, _Known] = {}
        self._cache: dict[bytes, Problem | None] = {}
        self._missing: dict[bytes, None] = {}
        self._examples: list[str] = []
        self._bare_numbers = True
        self.other_texts: list[str] = []

    def resolve(self, entry: ImportedEntry) -> Problem | None:
        """The task's problem of this entry; None where the task does not have it, which ``check`` reports.

        Raises DataError where two different problems of the files are one problem of the task.
        """
        question = _question(entry)
        key = _digest(entry.problem, question, entry.gold)
        if key in self._cache:
            return self._cache[key]
        problem = self.problems.find(entry.problem.strip(), question, entry.gold)
        if problem is None:
            self._miss(entry, question)
        else:
            self._identify(entry, question, problem)
        if len(self._cache) >= _MOST_CACHED:
            self._cache.clear()
        self._cache[key] = problem
        return problem

    @property
    def golds(self) -> dict[str, str]:
        """The gold answers of the files, by the task's ids, without empty ones."""
        return {name: known.gold for name, known in self._known.items() if known.gold.strip()}

    def in_order(self, names: Collection[str]) -> list[str]:
        """These ids in the order of the task."""
        return [problem.id for problem in self.task.problems if problem.id in names]

    @property
    def is_empty(self) -> bool:
        """Whether no problem was matched."""
        return not self._known

    def check(self) -> None:
        """Raises DataError where problems of the files are not in the task: how many of how many, and three of them."""
        if not self._missing:
            return
        missing, name = len(self._missing), self.task.task.name
        hint = ""
        if self._bare_numbers:
            hint = ". A plain number does not say which problem it is, and these have neither question nor fitting gold answer"
        raise DataError(
            f"{missing:,} of {missing + len(self._known):,} problems are not in {name} ({'; '.join(self._examples)}{hint}). "
            "Import them under another name (--task NAME), or with the file of a task of your own (--task ./FILE.py)."
        )

    def _miss(self, entry: ImportedEntry, question: str) -> None:
        self._bare_numbers &= entry.problem.strip().isdecimal() and not question.strip()
        self._missing[_digest(entry.problem, question)] = None
        if len(self._missing) <= _EXAMPLES and len(self._examples) < len(self._missing):
            shown = f": {_short(question)}" if question.strip() else ""
            self._examples.append(f"{_short(entry.problem) if entry.problem else 'no id'}{shown}")
        if len(self._missing) > _MOST_MISSING:
            self.check()

    def _identify(self, entry: ImportedEntry, question: str, problem: Problem) -> None:
        """Note which problem of the files this is; the same one may come again under the same id or the same question."""
        text = _digest(plain_question(question)) if question.strip() else b""
        known = self._known.get(problem.id)
        if known is None:
            self._known[problem.id] = _Known(entry.problem, text, entry.where, entry.gold)
            if text and not self.problems.is_text_of(problem, question):
                self.other_texts.append(problem.id)
        elif not ((entry.problem and known.name == entry.problem) or (text and known.text == text)):
            raise DataError(
                f"{entry.where}: problem {_short(entry.problem or question)} and problem "
                f"{_short(known.name or 'without an id')} in {known.where} are both {problem.id!r} of {self.task.task.name}, "
                "but neither their ids nor their questions are equal. Import them separately."
            )


def _question(entry: ImportedEntry) -> str:
    """The question, or the prompt where the files hold only that."""
    if entry.question.strip() or entry.prompt is None:
        return entry.question
    parts = (
        [entry.prompt] if isinstance(entry.prompt, str) else [message.get("content", "") for message in entry.prompt]
    )
    return "\n".join(parts)


def _by_unique(problems: Iterable[Problem], key: Callable[[Problem], str]) -> dict[str, Problem]:
    """The problems by a key, without those that share one, and without those that have none."""
    keyed = [(key(problem), problem) for problem in problems]
    counts = Counter(name for name, _ in keyed)
    return {name: problem for name, problem in keyed if name and counts[name] == 1}


def _canonical(name: str) -> str:
    """An id without case, separators and leading zeros: ``HumanEval/007`` is ``humaneval-7``."""
    pieces = _PIECE.findall(unicodedata.normalize("NFKC", name[:500]).casefold())
    return "-".join(piece.lstrip("0") or "0" if piece.isdecimal() else piece for piece in pieces)


def _last_number(name: str) -> str:
    return next((piece for piece in reversed(_canonical(name).split("-")) if piece.isdecimal()), "")


def _same_gold(gold: str, answer: str) -> bool:
    """Whether two gold answers are written alike, leading zeros aside."""
    first, second = (plain_question(text).lstrip("0") or text.strip() for text in (gold, answer))
    return bool(first) and first == second


def _digest(*texts: str) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for text in texts:
        content = text.encode("utf-8", "surrogatepass")
        digest.update(len(content).to_bytes(8, "big") + content)
    return digest.digest()


def _short(text: str) -> str:
    line = visible(" ".join(text[:1000].split()))
    return f"'{line if len(line) <= 60 else f'{line[:57]}...'}'"
