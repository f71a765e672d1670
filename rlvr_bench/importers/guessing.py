"""Proposes a mapping for a file of an unknown layout, from the names of its fields and the kinds of their values."""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from rlvr_bench.errors import DataError
from rlvr_bench.importers.correct_rules import as_number, plain_status
from rlvr_bench.importers.field_paths import written
from rlvr_bench.importers.seen_fields import SeenField, seen_fields
from rlvr_bench.importers.tables import Row, read_rows

__all__ = ["Proposal", "first_fields", "propose"]

_NEVER = 10_000  # the rank of a name that does not fit

_ROWS = 20

# Names without case and punctuation, the surest first.
_NAMES: dict[str, tuple[str, ...]] = {
    field: tuple(names.split())
    for field, names in {
        "text": """
            completion completiontext response responsetext modelresponse generation generatedtext
            modeloutput output outputtext rollouttext rollout generatedcode code text sample content
            trajectory solution prediction candidate resp reply pred
        """,
        "question": """
            question questiontext problem problemtext problemstatement query instruction prompt prompttext
            input inputtext task q
        """,
        "problem": """
            problemid qid questionid problemidx problemindex questionidx promptid taskid exampleid
            instanceid docid uniqueid itemid problem question task idx pid id uid uuid name index key
        """,
        "gold": """
            gold goldanswer groundtruth groundtruthanswer gt gtanswer goldstandard goldlabel referenceanswer
            reference expectedanswer expected canonicalanswer canonical correctanswer trueanswer target gts
            label answerkey finalanswer answer solution
        """,
        "answer": """
            pred predanswer predictedanswer prediction extractedanswer parsedanswer modelanswer extracted
            parsed answerextracted finalanswer answer choice
        """,
        "verdict": """
            correct iscorrect correctness passed pass ispassed passedall graded verified success solved acc
            accuracy verdict grade judgement judgment judge score reward outcomereward accuracyreward
            rewards result ok right match label
        """,
        "index": """
            rolloutindex rolloutidx rolloutid sampleindex sampleidx sampleid candidateindex candidateidx
            candidateid completionindex completionidx completionid generationindex generationidx
            generationid responseindex responseidx attempt trial epoch repeat draw k
        """,
        "tokens": """
            ntokens numtokens numgeneratedtokens completiontokens outputtokens responsetokens
            generatedtokens tokencount responselength completionlength tokens
        """,
        "truncated": "truncated istruncated finishreason stopreason clipped",
        "n": "n numsamples nsamples numrollouts nrollouts rollouts samples attempts total count",
        "c": "c numcorrect ncorrect correctcount correct numpassed passed passes successes solved",
        "cluster": "cluster",
        "tier": "tier difficulty level",
    }.items()
}
_ROLLOUT = ("answer", "index", "tokens", "truncated")  # fields that may differ between rollouts of a problem
_LEAST_FUZZY = 4
_EXACT = ("cluster", "tier")  # fields that a part of a name does not show
_LEAST_REWARD = 0.5
_PER_NAME = 4  # by which a name on the way to a field lowers its rank
_MADE = re.compile("extract|pred|pars|model|generat")  # answers of the model, not gold ones


_Take: TypeAlias = Callable[[str, Callable[[SeenField], bool]], None]


@dataclass(frozen=True)
class Proposal:
    """``pairs`` as --map takes them, and ``correct`` as --correct does, where the verdicts need it."""

    pairs: str
    correct: str | None

    def __str__(self) -> str:
        return f"--map '{self.pairs}'" + (f" --correct '{self.correct}'" if self.correct else "")


def propose(file: Path) -> Proposal | None:
    """The most likely mapping of a file; None where nothing fits. Does not raise for a file that cannot be read."""
    return _proposed(_first_rows(file, whole=False)) or _proposed(_first_rows(file, whole=True))


def _proposed(rows: Sequence[Row]) -> Proposal | None:
    fields = seen_fields(rows)
    chosen: dict[str, SeenField] = {}

    def take(field: str, fits: Callable[[SeenField], bool]) -> None:
        free = [seen for seen in fields if seen not in chosen.values() and fits(seen) and not _inside(seen, chosen)]
        best = min(free, key=lambda seen: _rank(field, seen), default=None)
        if best is not None and _rank(field, best)[0] < _NEVER:
            chosen[field] = best

    take("text", lambda seen: _texts(seen) and _rank("text", seen) <= _rank("question", seen))
    text = chosen.get("text")
    if text is not None and any(_is_numbered_like(seen, text) for seen in fields):
        return None
    take("verdict", lambda seen: _yes_or_no(seen) and (_goes_with(seen, text) or _is_one(seen, text)))
    if not text and not _take_counts(fields, chosen, take):
        return None

    def of_problem(seen: SeenField) -> bool:
        return _above(seen, text) or _repeated_beside(seen, text, len(rows))

    take("question", lambda seen: _texts(seen) and of_problem(seen))
    question = chosen.get("question")
    take("problem", lambda seen: _names(seen) and of_problem(seen) and not _constant(seen) and _decides(seen, question))
    if "problem" not in chosen and question is None:
        take("problem", lambda seen: _names(seen) and of_problem(seen) and not _is_keyed(rows, text))
    is_keyed = "problem" not in chosen and _is_keyed(rows, text)
    if "problem" not in chosen and question is None and not is_keyed:
        return None
    take("gold", lambda seen: _gives_gold(seen, text) or (_single(seen) and of_problem(seen) and not _is_made(seen)))
    if text is not None:
        _take_of_rollouts(text, chosen, take)
    for field in ("cluster", "tier"):
        take(field, lambda seen: _names(seen) and _above(seen, text))
    return _proposal(chosen, is_keyed=is_keyed)


def _take_of_rollouts(text: SeenField, chosen: Mapping[str, SeenField], take: _Take) -> None:
    """Choose the fields that may differ between the rollouts of a problem, beside their responses."""
    for field in _ROLLOUT:
        take(field, lambda seen: _single(seen) and _goes_with(seen, text))
    if "verdict" not in chosen:
        take("verdict", lambda seen: _words(seen) and _goes_with(seen, text))
    if "tokens" not in chosen:
        take("tokens", lambda seen: seen.kind == "list" and _goes_with(seen, text))


def first_fields(file: Path) -> list[str]:
    """The names of the fields of the first row, for a message; empty where there is none."""
    rows = _first_rows(file, whole=False)
    value = rows[0].value if rows else None
    return [str(name) for name in value] if isinstance(value, Mapping) else []


def _first_rows(file: Path, *, whole: bool) -> list[Row]:
    """The first rows of the file, as far as it can be read."""
    rows: list[Row] = []
    with contextlib.suppress(DataError):
        rows.extend(itertools.islice(read_rows(file, frozenset(), whole=whole), _ROWS))
    return rows


def _take_counts(fields: Sequence[SeenField], chosen: dict[str, SeenField], take: _Take) -> bool:
    """Choose n and c, where both are there; else leave the verdict. False where neither is there."""
    verdict = chosen.pop("verdict", None)
    for field in ("n", "c"):
        take(field, lambda seen: seen.lists == 0 and _whole_numbers(seen))
    if "n" in chosen and "c" in chosen:
        return True
    chosen.pop("n", None)
    chosen.pop("c", None)
    if verdict is not None:
        chosen["verdict"] = verdict
    return verdict is not None


def _proposal(chosen: Mapping[str, SeenField], *, is_keyed: bool) -> Proposal:
    correct = None
    fields = dict(chosen)
    verdict = fields.get("verdict")
    if verdict is not None and not _plain(verdict.values) and not _words(verdict):
        correct = _threshold(verdict)
        fields["reward"] = fields.pop("verdict")
    order = ("problem", "question", "gold", "text", "answer", "verdict", "reward", "n", "c")
    names = [*(name for name in order if name in fields), *(name for name in fields if name not in order)]
    pairs = [f"{name}={written(fields[name].steps)}" for name in names]
    return Proposal(",".join(["problem=#key", *pairs] if is_keyed else pairs), correct)


def _threshold(reward: SeenField) -> str:
    """The rule that the largest reward is correct; a small one may be for a format alone, where nothing was correct."""
    numbers = [number for value in reward.values if (number := as_number(value)) is not None and number == number]
    best = max(numbers)
    return f">={best:g}" if best >= _LEAST_REWARD else ">=1"


def _rank(field: str, seen: SeenField) -> tuple[int, int, int]:
    """How well a name fits a field, the best first; then paths that unfold for what differs between rollouts."""
    names, name = _NAMES[field], seen.name
    singular, depth = name.removesuffix("s"), _PER_NAME * (seen.depth - 1)
    for number, known in enumerate(names):
        if known in (name, singular):
            return number + depth, len(seen.steps), 0
    for number, known in enumerate(names):
        if len(known) >= _LEAST_FUZZY and known in name and field not in _EXACT:
            return len(names) + number + depth, len(seen.steps), len(name)
    return _NEVER, 0, 0


def _present(seen: SeenField) -> list[object]:
    """The values that are there; none for lists as a whole, whose elements are another field."""
    return [] if seen.kind == "list" else [value for value in seen.values if value is not None and value != ""]


def _texts(seen: SeenField) -> bool:
    """Texts of more than one word: a response or a question."""
    values = _present(seen)
    return (
        bool(values) and all(isinstance(value, str) for value in values) and any(" " in str(v).strip() for v in values)
    )


def _names(seen: SeenField) -> bool:
    """Whole numbers, or short texts without line breaks."""
    values = _present(seen)
    return bool(values) and all(
        (isinstance(value, int) and not isinstance(value, bool))
        or (isinstance(value, float) and value.is_integer())
        or (isinstance(value, str) and len(value) <= 100 and " " not in value.strip())
        for value in values
    )


def _inside(seen: SeenField, chosen: Mapping[str, SeenField]) -> bool:
    """Whether a field is within the response, which happens to be JSON."""
    text = chosen.get("text")
    return text is not None and len(seen.steps) > len(text.steps) and seen.steps[: len(text.steps)] == text.steps


def _words(seen: SeenField) -> bool:
    """Short texts of which some are no numbers: a verdict in words that the user has to explain."""
    return _names(seen) and any(as_number(value) is None for value in _present(seen))


def _single(seen: SeenField) -> bool:
    return bool(_present(seen))


def _is_made(seen: SeenField) -> bool:
    """Whether the name says that the model made the value: it is no gold answer."""
    return _MADE.search(seen.name) is not None


def _gives_gold(seen: SeenField, text: SeenField | None) -> bool:
    """Whether a list can be the gold answer: no list of rollouts, one of whose answers it would else hold."""
    if seen.kind != "list" or _is_made(seen) or not _above(seen, text):
        return False
    return text is None or text.lists == 0 or all(isinstance(value, list) and len(value) == 1 for value in seen.values)


def _whole_numbers(seen: SeenField) -> bool:
    values = _present(seen)
    return bool(values) and all(
        not isinstance(value, bool) and re.fullmatch(r"\d{1,9}(\.0*)?", str(value)) is not None for value in values
    )


def _yes_or_no(seen: SeenField) -> bool:
    """Verdicts, or rewards; a label is a gold answer where it is another number."""
    values = _present(seen)
    is_reward = seen.name != "label" and all(as_number(value) is not None for value in values)
    return bool(values) and (is_reward or _plain(values))


def _plain(values: Sequence[object]) -> bool:
    try:
        for value in values:
            plain_status(value)
    except ValueError:
        return False
    return True


def _is_numbered_like(seen: SeenField, text: SeenField) -> bool:
    """Whether this is the column of another rollout: ``response_1`` beside ``response_0``. No mapping reads both."""
    first, second = (re.sub(r"\d+", "", written(field.steps)) for field in (seen, text))
    return seen.steps != text.steps and first == second and _texts(seen)


def _decides(problem: SeenField, question: SeenField | None) -> bool:
    """Whether every name has one question, and names repeat where questions do, as the rollouts of one problem have them."""
    if question is None or len(problem.values) != len(question.values):
        return True
    names, questions = ([str(value) for value in seen.values] for seen in (problem, question))
    pairs = len(set(zip(names, questions, strict=True)))
    return pairs == len(set(names)) and (pairs < len(names) or len(set(questions)) == len(names))


def _constant(seen: SeenField) -> bool:
    """Whether several rows have one value: a name of the task, and not of the problem."""
    return len(seen.values) > 1 and len({str(value) for value in seen.values}) == 1


def _above(seen: SeenField, text: SeenField | None) -> bool:
    """Whether a field is the same for the rollouts that are together in a list: in no list, or in one around it."""
    around = () if text is None else text.in_list
    return seen.in_list == around[: len(seen.in_list)] and (not seen.in_list or seen.in_list != around)


def _repeated_beside(seen: SeenField, text: SeenField | None, rows: int) -> bool:
    """Whether a field is in the list of the rollouts and yet the problem's: it repeats, or one row holds whole columns."""
    if text is None or not text.lists or seen.lists != text.lists or seen.sizes != text.sizes:
        return False
    repeats = all(len({str(value) for value in values}) == 1 for values in seen.by_row)
    return max(seen.sizes) > 1 and (repeats or (rows == 1 and seen.in_list != text.in_list))


def _is_keyed(rows: Sequence[Row], text: SeenField | None) -> bool:
    """Whether the keys of the rows can name the problems: each row holds all rollouts of one."""
    return all(row.key for row in rows) and (text is None or text.lists > 0)


def _goes_with(seen: SeenField, text: SeenField | None) -> bool:
    """Whether a field is one of the rollouts: in the same list as the responses, in one as long, or in none as they."""
    if text is None or text.lists == 0 or (seen.lists == 0 and max(text.sizes) == 1):
        return seen.lists == 0
    return seen.lists == text.lists and seen.sizes == text.sizes


def _is_one(seen: SeenField, text: SeenField | None) -> bool:
    """Whether a field is the only element of a list beside a single response."""
    return text is not None and text.lists == 0 and seen.lists == 1 and max(seen.sizes) == 1
