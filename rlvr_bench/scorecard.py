"""The scorecard, typed: what one run is, how it was graded, counts per problem, and every estimate.

Reading and writing it happens here alone. A scorecard of an earlier version lacks fields, which are then empty; one of a
later version has fields that this version does not know, which are kept and written again where they were.
"""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, Any, Literal, Self

import msgspec

from rlvr_bench import scorecard_views
from rlvr_bench.errors import NotInScorecard, RunError
from rlvr_bench.json_format import format_json
from rlvr_bench.manifest import Manifest, Session
from rlvr_bench.received import decode
from rlvr_bench.records import Estimate, Restopped
from rlvr_bench.text_rules import RULES_VERSION

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "SCORECARD_SCHEMA",
    "AuditSummary",
    "ErrorCount",
    "Grading",
    "Judging",
    "ProblemScore",
    "Scorecard",
    "ScoredRun",
    "ScoredWith",
    "StopCounts",
    "decode_scorecard",
    "encode_scorecard",
    "scorecard_from",
]

SCORECARD_SCHEMA = 1
_BLANKS: tuple[object, ...] = (None, "", 0, [], {})
_PATH = re.compile(r"(.*) - at `\$\.([^`]*)`")


class ErrorCount(msgspec.Struct, frozen=True, kw_only=True):
    """How many verdicts are errors of one kind with one message, and a problem that has such a verdict."""

    kind: str | None
    message: str | None
    verdicts: int
    problem_id: str


class Grading(msgspec.Struct, frozen=True, kw_only=True):
    """Which verdicts are in force: of how many ``distinct`` answers, put in force by a pass of so many ``seconds``.

    What was verified while rollouts were still being drawn is not in the seconds. ``errors``: what the verifier said where
    it failed, the ten most frequent first; ``warnings``: where it failed so often that the scores suffer.
    """

    verifier: str
    version: str
    options: dict[str, Any]
    folder: str
    rollouts: int
    distinct: int
    seconds: float
    statuses: dict[str, int]
    text_rules: str = RULES_VERSION
    errors: tuple[ErrorCount, ...] = ()
    warnings: tuple[str, ...] = ()


class Judging(msgspec.Struct, frozen=True, kw_only=True):
    """Which judgements are in force, and what they say of the correct rollouts."""

    judge: str
    version: str
    options: dict[str, Any]
    folder: str
    rule: Literal["any", "all", "majority"]
    rollouts: int
    valid: int
    invalid: int
    error: int


class AuditSummary(msgspec.Struct, frozen=True, kw_only=True):
    """The counts of ``audit.json`` and the rate of disagreement with its interval; None where no pair could be read."""

    sample: int
    agree: int
    disagree: int
    unknown: int
    rate: float | None
    low: float | None
    high: float | None


class ScoredWith(msgspec.Struct, frozen=True, kw_only=True):
    """What decides a scorecard besides the run: the version of rlvr-bench, and the budgets asked for (None: by default)."""

    version: str
    ks: list[int] | None


class _ByName(msgspec.Struct, frozen=True, kw_only=True):
    """Reads a field by its name, as in the file, which is how version 0.1 had it."""

    def __getitem__(self, name: str) -> Any:
        """The field ``name`` as plain lists, dicts, numbers and text. Raises KeyError."""
        if name not in self.__struct_fields__:
            raise KeyError(name)
        return msgspec.to_builtins(getattr(self, name))


class ScoredRun(Manifest, _ByName, frozen=True, kw_only=True):
    """The manifest of a scored run, its grading, and what was added later: an audit, a judge, warnings.

    ``n_min`` and ``n_max``: fewest and most rollouts of a problem that has any; ``n_problems_drawn`` problems have some.
    ``sampling``, ``stopping`` and ``sessions`` are those of the manifest: how the rollouts were drawn. ``scored`` is None in
    a scorecard from counts alone. ``restopped``: the stopping rule looked at other verdicts than those in force.
    ``n_chosen``: the p-value at which the numbers of rollouts seem to depend on what was found, None where they do not.
    """

    grading: Grading
    scored: ScoredWith | None = None
    n_problems_drawn: int = 0
    n_min: int = 0
    n_max: int = 0
    audit: AuditSummary | None = None
    judging: Judging | None = None
    restopped: Restopped | None = None
    n_chosen: float | None = None
    warnings: tuple[str, ...] = ()

    @classmethod
    def of(cls, manifest: Manifest, grading: Grading, drawn: list[int], scored: ScoredWith | None = None) -> Self:
        """A run just scored. ``drawn``: rollouts of each problem that has any."""
        return cls(
            **msgspec.structs.asdict(manifest),
            grading=grading,
            scored=scored,
            n_problems_drawn=len(drawn),
            n_min=min(drawn, default=0),
            n_max=max(drawn, default=0),
        )

    def is_of(self, manifest: Manifest, grading: Grading, scored: ScoredWith | None) -> bool:
        """Whether this is what scoring that run again would say of it."""
        same = all(getattr(self, name) == value for name, value in msgspec.structs.asdict(manifest).items())
        return same and (self.grading, self.scored) == (grading, scored)


class ProblemScore(_ByName, frozen=True, kw_only=True):
    """One problem: ``n`` rollouts, ``c`` of them correct, so that k stays free for whoever reads the scorecard.

    ``no_answer``, ``error``, ``truncated`` and ``duplicates`` count rollouts; the means are over rollouts (tokens; nats;
    tokens in the 0.95 nucleus). ``solve_rate_high``: what 0 correct of n leaves possible (95 %). ``distinct_answers``:
    expected number of different answers among k of the problem's answers, by k; ``answer_entropy`` and ``wrong_entropy``:
    expected entropy of k answers, of k wrong ones, by k (nats); ``distinct_texts``: expected number of different responses
    among k, by k. None where not known.
    """

    id: str
    tier: str = ""
    cluster: str = ""
    n: int
    c: int
    no_answer: int | None = None
    error: int | None = None
    truncated: int | None = None
    duplicates: int | None = None
    tokens_mean: float | None = None
    entropy_mean: float | None = None
    branching_mean: float | None = None
    solve_rate_high: float | None = None
    distinct_answers: dict[int, float] | None = None
    answer_entropy: dict[int, float] | None = None
    wrong_entropy: dict[int, float] | None = None
    distinct_texts: dict[int, float] | None = None


class StopCounts(msgspec.Struct, frozen=True, kw_only=True):
    """A problem's rollouts by the verdicts that a stopping rule looked at, where others are in force.

    ``correct`` by those verdicts; of these, ``both``: correct by those in force too, ``undecided``: now without a verdict.
    """

    correct: int
    both: int
    undecided: int


class Scorecard(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The whole result of one run: what ``compare``, ``leaderboard``, ``report`` and ``check`` read.

    ``extrapolated`` holds pass@k beyond n by a fitted curve, where that was asked for: no estimate like the others.
    ``print(card)`` is a short table, a notebook shows it as one. ``card.pass_at(64)`` and ``card["token_entropy"]`` are
    estimates, ``card.table()`` and ``card.problems_table()`` all of them as tables for pandas and the like.

    ``quality`` holds rates by name, None where not known. ``left_out`` says by name of an estimate why it could not be
    computed: it is missing, or has no value. ``stopped_on``: counts by problem id where ``run.restopped`` uses all rollouts
    or those up to the stop, and the rule looked at other verdicts. ``unknown`` holds what a later version wrote and this one
    has no field for, nested as in the file.
    """

    schema: int
    run: ScoredRun
    problems: list[ProblemScore]
    estimates: list[Estimate]
    quality: dict[str, float | None]
    left_out: dict[str, str] = {}
    extrapolated: list[Estimate] = []
    stopped_on: dict[str, StopCounts] = {}
    unknown: dict[str, Any] = {}

    def pass_at(self, k: int) -> Estimate:
        """The estimate of pass@k. Raises NotInScorecard (a KeyError), which names the budgets that there are."""
        return scorecard_views.find_estimate(self, "pass@k", k)

    def __getitem__(self, key: str | tuple[str, str | None]) -> Estimate:
        """An estimate by its name, ``card["token_entropy"]`` or ``card["maj@16"]``, or by name and group,
        ``card["token_entropy", "correct"]``.

        Raises NotInScorecard (a KeyError): says why it is missing or has no value, or which names, budgets and groups
        there are.
        """
        name, group = key if isinstance(key, tuple) and len(key) == 2 else (key, None)
        return scorecard_views.find_estimate(self, *scorecard_views.split_budget(name), group)

    def __contains__(self, key: object) -> bool:
        """Whether ``card[key]`` is an estimate."""
        try:
            self[key]  # type: ignore[index]
        except NotInScorecard:
            return False
        return True

    def __iter__(self) -> Any:
        raise TypeError("a scorecard is not iterated over: card.estimates and card.problems are lists")

    def table(self) -> pa.Table:
        """All estimates, one a row: the fields of ``Estimate``, and its ``unit``. ``.to_pandas()`` gives a data frame."""
        return scorecard_views.estimates_table(self.estimates)

    def problems_table(self) -> pa.Table:
        """All problems, one a row: the fields of ``ProblemScore``, with a column ``distinct_answers@K`` for each k."""
        return scorecard_views.problems_table(ProblemScore, self.problems)

    def __repr__(self) -> str:
        return scorecard_views.as_text(self)

    def _repr_html_(self) -> str:
        return scorecard_views.as_html(self)


def decode_scorecard(content: bytes, source: str) -> Scorecard:
    """The scorecard in a file's ``content``. Raises RunError, which names ``source``, where it is not one of ours."""
    try:
        found = scorecard_from(decode(content, object))
    except msgspec.ValidationError as error:
        what, where = path.groups() if (path := _PATH.fullmatch(str(error))) else (str(error), "")
        if where.startswith("run."):
            raise RunError(f"{source}: damaged at {where} ({what}). Run `rlvr-bench score` again.") from error
        if where.startswith("problems[") and "missing required field" in what:
            raise RunError(f"{source}: not a scorecard (a problem without id, n or c)") from error
        raise RunError(f"{source}: not a scorecard ({error})") from error
    except msgspec.DecodeError as error:
        raise RunError(f"{source}: not a scorecard ({error})") from error
    if found.schema != SCORECARD_SCHEMA:
        raise RunError(
            f"{source}: scorecard schema {found.schema}, this version of rlvr-bench reads {SCORECARD_SCHEMA}"
        )
    return found


def scorecard_from(fields: Any) -> Scorecard:
    """A scorecard from decoded JSON; fields of the run that it lacks are empty. Raises msgspec.ValidationError."""
    if isinstance(fields, dict) and isinstance(fields.get("run"), dict):
        fields = {**fields, "run": _completed_run(fields["run"])}
    card = msgspec.convert(fields, Scorecard, str_keys=True)
    return msgspec.structs.replace(card, unknown=_unknown(fields, card) or {})


def encode_scorecard(card: Scorecard) -> bytes:
    """The file's content: JSON with an indent of one, and what a later version had written in its place."""
    content: Any = card
    if card.unknown:
        content = _merged(msgspec.to_builtins(msgspec.structs.replace(card, unknown={})), card.unknown)
    return format_json(content)


def _completed_run(run: dict[str, Any]) -> dict[str, Any]:
    """``run`` with empty values for what versions before, or other programs, did not write."""
    run = {**_blank(ScoredRun), **run}
    grading, sessions = run["grading"] or {}, run["sessions"] or ()
    if isinstance(grading, dict):
        run["grading"] = {**_blank(Grading), **grading}
    if isinstance(sessions, list | tuple):
        run["sessions"] = [{**_blank(Session), **each} if isinstance(each, dict) else each for each in sessions]
    return run


@functools.cache
def _blank(kind: type[msgspec.Struct]) -> dict[str, Any]:
    """An empty value for every required field: None where its type has it, else empty text, 0, an empty list or dict."""
    return {
        each.encode_name: next((value for value in _BLANKS if _fits(value, each.type)), None)
        for each in msgspec.structs.fields(kind)
        if each.required
    }


def _fits(value: object, kind: Any) -> bool:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError:
        return False
    return True


def _unknown(raw: Any, value: object) -> Any:
    """The parts of decoded JSON that the structs made of it have no field for, nested alike; None without any."""
    if isinstance(value, msgspec.Struct):
        fields = set(value.__struct_fields__)
        found = {name: item for name, item in raw.items() if name not in fields}
        for name in fields & raw.keys():
            if isinstance(raw[name], dict | list) and (more := _unknown(raw[name], getattr(value, name))):
                found[name] = more
        return found or None
    if isinstance(value, list | tuple) and any(isinstance(item, msgspec.Struct) for item in value[:1]):
        parts = [_unknown(item, made) for item, made in zip(raw, value, strict=True)]
        return parts if any(parts) else None
    return None


def _merged(known: Any, unknown: Any) -> Any:
    """``known`` with the parts of ``unknown`` where they were."""
    if unknown is None:
        return known
    if isinstance(known, list) and isinstance(unknown, list):
        return [_merged(item, more) for item, more in zip(known, unknown, strict=True)]
    if isinstance(known, dict) and isinstance(unknown, dict):
        return {**known, **{name: _merged(known.get(name), more) for name, more in unknown.items()}}
    return unknown
