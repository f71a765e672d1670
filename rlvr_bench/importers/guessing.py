"""Proposes a mapping for a file of an unknown layout, from the names of its fields and the kinds of their values."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rlvr_bench.errors import DataError
from rlvr_bench.importers.correct_rules import plain_status
from rlvr_bench.importers.field_paths import UNFOLD, Step, written
from rlvr_bench.importers.tables import Row, read_rows

__all__ = ["Proposal", "first_fields", "propose"]

_NEVER = 10_000  # the rank of a name that does not fit

_ROWS = 20
_DEEPEST = 5
_WIDEST = 200  # fields that are looked at
_ELEMENTS = 8

# Names without case and punctuation, the surest first.
_NAMES: dict[str, tuple[str, ...]] = {
    field: tuple(names.split())
    for field, names in {
        "text": """
            completion completiontext response responsetext modelresponse generation generatedtext
            modeloutput output outputtext rollouttext rollout generatedcode code text sample content
            trajectory solution prediction resp reply pred
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
            label answerkey finalanswer answer
        """,
        "answer": """
            pred predanswer predictedanswer prediction extractedanswer parsedanswer modelanswer extracted
            parsed answerextracted finalanswer answer choice
        """,
        "verdict": """
            correct iscorrect correctness passed pass ispassed passedall graded verified success solved acc
            accuracy verdict grade judgement judgment label score reward outcomereward accuracyreward
            rewards result
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
_LAST_MESSAGE: tuple[Step, ...] = (-1, "content")
_ROLLOUT = ("answer", "verdict", "index", "tokens", "truncated")  # fields that may differ between rollouts of a problem
_LEAST_FUZZY = 4
_EXACT = ("cluster", "tier")  # fields that a part of a name does not show
_PER_NAME = 4  # by which a name on the way to a field lowers its rank
_MADE = re.compile("extract|pred|pars|model|generat")  # answers of the model, not gold ones


@dataclass(frozen=True)
class _Leaf:
    """A field, with its values in the first rows; ``sizes`` are the lengths of its lists, row by row.

    ``by_model``: the field is the last of a list of messages, and the model wrote it.
    """

    steps: tuple[Step, ...]
    values: tuple[object, ...]
    sizes: tuple[int, ...]
    by_model: bool = False

    @property
    def name(self) -> str:
        """The last name of the path, without case and punctuation."""
        if self.steps[-2:] == _LAST_MESSAGE:
            return "response" if self.by_model else "prompt"
        return _bare(next((step for step in reversed(self.steps) if isinstance(step, str)), ""))

    @property
    def depth(self) -> int:
        """How many names lead to the field."""
        return sum(isinstance(step, str) for step in self.steps)

    @property
    def in_list(self) -> tuple[Step, ...]:
        """The path up to the list that the field is in; empty for none."""
        last = max((number for number, step in enumerate(self.steps) if step is UNFOLD), default=-1)
        return self.steps[: last + 1]

    @property
    def lists(self) -> int:
        """How many lists the path unfolds."""
        return self.steps.count(UNFOLD)


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
    leaves = _leaves(rows)
    chosen: dict[str, _Leaf] = {}

    def take(field: str, fits: Callable[[_Leaf], bool]) -> None:
        free = [leaf for leaf in leaves if leaf not in chosen.values() and fits(leaf)]
        best = min(free, key=lambda leaf: _rank(field, leaf), default=None)
        if best is not None and _rank(field, best)[0] < _NEVER:
            chosen[field] = best

    take("text", lambda leaf: _texts(leaf) and _rank("text", leaf) <= _rank("question", leaf))
    text = chosen.get("text")
    take("verdict", lambda leaf: _yes_or_no(leaf) and _goes_with(leaf, text))
    if not text and not _take_counts(leaves, chosen, take):
        return None
    take("question", lambda leaf: _texts(leaf) and _above(leaf, text))
    repeated = _repeats(chosen.get("question"))
    take(
        "problem",
        lambda leaf: _names(leaf) and _above(leaf, text) and not _constant(leaf) and _repeats(leaf) >= repeated,
    )
    if "problem" not in chosen and "question" not in chosen:
        return None
    take("gold", lambda leaf: _single(leaf) and _above(leaf, text) and _MADE.search(leaf.name) is None)
    for field in _ROLLOUT:
        if text and field not in chosen:
            take(field, lambda leaf: _single(leaf) and _goes_with(leaf, text))
    for field in ("cluster", "tier"):
        take(field, lambda leaf: _names(leaf) and _above(leaf, text))
    return _proposal(chosen)


def first_fields(file: Path) -> list[str]:
    """The names of the fields of the first row, for a message; empty where there is none."""
    rows = _first_rows(file, whole=False)
    value = rows[0].value if rows else None
    return [str(name) for name in value] if isinstance(value, Mapping) else []


def _first_rows(file: Path, *, whole: bool) -> list[Row]:
    """The first rows of the file; none where it cannot be read."""
    try:
        return list(itertools.islice(read_rows(file, frozenset(), whole=whole), _ROWS))
    except DataError:
        return []


def _take_counts(
    leaves: Sequence[_Leaf], chosen: dict[str, _Leaf], take: Callable[[str, Callable[[_Leaf], bool]], None]
) -> bool:
    """Choose n and c, where both are there; else leave the verdict. False where neither is there."""
    verdict = chosen.pop("verdict", None)
    for field in ("n", "c"):
        take(field, lambda leaf: leaf.lists == 0 and _whole_numbers(leaf))
    if "n" in chosen and "c" in chosen:
        return True
    chosen.pop("n", None)
    chosen.pop("c", None)
    if verdict is not None:
        chosen["verdict"] = verdict
    return verdict is not None


def _proposal(chosen: Mapping[str, _Leaf]) -> Proposal:
    correct = None
    fields = dict(chosen)
    verdict = fields.get("verdict")
    if verdict is not None and not _plain(verdict.values):
        numbers = [value for value in verdict.values if isinstance(value, int | float)]
        correct = f">={max(numbers):g}" if numbers else None
        fields["reward"] = fields.pop("verdict")
    order = ("problem", "question", "gold", "text", "answer", "verdict", "reward", "n", "c")
    names = [*(name for name in order if name in fields), *(name for name in fields if name not in order)]
    return Proposal(",".join(f"{name}={written(fields[name].steps)}" for name in names), correct)


def _leaves(rows: Sequence[Row]) -> list[_Leaf]:
    values: dict[tuple[Step, ...], list[object]] = {}
    sizes: dict[tuple[Step, ...], list[int]] = {}
    by_model: set[tuple[Step, ...]] = set()
    for row in rows:
        counted: dict[tuple[Step, ...], int] = {}
        for steps, value, role in _walked((), row.value, 0):
            if role == "assistant":
                by_model.add(steps)
            if steps in values or len(values) < _WIDEST:
                values.setdefault(steps, []).append(value)
                counted[steps] = counted.get(steps, 0) + 1
        for steps, size in counted.items():
            sizes.setdefault(steps, []).append(size)
    return [_Leaf(steps, tuple(listed), tuple(sizes[steps]), steps in by_model) for steps, listed in values.items()]


def _walked(steps: tuple[Step, ...], value: object, depth: int) -> Iterator[tuple[tuple[Step, ...], object, str]]:
    """The fields in a value: path, value, and who wrote it, for the last of a list of messages."""
    if isinstance(value, Mapping) and depth < _DEEPEST:
        for name, inner in itertools.islice(value.items(), _WIDEST):
            yield from _walked((*steps, str(name)), inner, depth + 1)
    elif (
        isinstance(value, list) and value and isinstance(value[-1], Mapping) and {"role", "content"} <= value[-1].keys()
    ):
        yield (*steps, *_LAST_MESSAGE), value[-1]["content"], str(value[-1]["role"])
    elif isinstance(value, list) and depth < _DEEPEST:
        for element in value[:_ELEMENTS]:
            yield from _walked((*steps, UNFOLD), element, depth + 1)
    else:
        yield steps, value, ""


def _rank(field: str, leaf: _Leaf) -> tuple[int, int, int]:
    """How well a name fits a field, the best first; then paths that unfold for what differs between rollouts."""
    names, name = _NAMES[field], leaf.name
    singular, depth = name.removesuffix("s"), _PER_NAME * (leaf.depth - 1)
    for number, known in enumerate(names):
        if known in (name, singular):
            return number + depth, len(leaf.steps), 0
    for number, known in enumerate(names):
        if len(known) >= _LEAST_FUZZY and known in name and field not in _EXACT:
            return len(names) + number + depth, len(leaf.steps), len(name)
    return _NEVER, 0, 0


def _bare(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.casefold())


def _present(leaf: _Leaf) -> list[object]:
    return [value for value in leaf.values if value is not None and value != ""]


def _texts(leaf: _Leaf) -> bool:
    """Texts of more than one word: a response or a question."""
    values = _present(leaf)
    return (
        bool(values) and all(isinstance(value, str) for value in values) and any(" " in str(v).strip() for v in values)
    )


def _names(leaf: _Leaf) -> bool:
    """Whole numbers, or short texts without line breaks."""
    values = _present(leaf)
    return bool(values) and all(
        (isinstance(value, int) and not isinstance(value, bool))
        or (isinstance(value, float) and value.is_integer())
        or (isinstance(value, str) and len(value) <= 100 and " " not in value.strip())
        for value in values
    )


def _single(leaf: _Leaf) -> bool:
    return bool(_present(leaf))


def _whole_numbers(leaf: _Leaf) -> bool:
    values = _present(leaf)
    return bool(values) and all(
        not isinstance(value, bool) and re.fullmatch(r"\d{1,9}(\.0*)?", str(value)) is not None for value in values
    )


def _yes_or_no(leaf: _Leaf) -> bool:
    values = _present(leaf)
    return bool(values) and (all(isinstance(value, bool | int | float) for value in values) or _plain(values))


def _plain(values: Sequence[object]) -> bool:
    try:
        for value in values:
            plain_status(value)
    except ValueError:
        return False
    return True


def _repeats(leaf: _Leaf | None) -> bool:
    """Whether some rows have the same value, as the rollouts of one problem have."""
    return leaf is not None and len({str(value) for value in leaf.values}) < len(leaf.values)


def _constant(leaf: _Leaf) -> bool:
    """Whether several rows have one value: a name of the task, and not of the problem."""
    return len(leaf.values) > 1 and len({str(value) for value in leaf.values}) == 1


def _above(leaf: _Leaf, text: _Leaf | None) -> bool:
    """Whether a field is the same for the rollouts that are together in a list: in no list, or in one around it."""
    around = () if text is None else text.in_list
    return leaf.in_list == around[: len(leaf.in_list)] and (not leaf.in_list or leaf.in_list != around)


def _goes_with(leaf: _Leaf, text: _Leaf | None) -> bool:
    """Whether a field can be unfolded beside the responses: not in a list, in the same list, or in one as long."""
    if leaf.lists == 0:
        return True
    return text is not None and leaf.lists == text.lists and leaf.sizes == text.sizes
