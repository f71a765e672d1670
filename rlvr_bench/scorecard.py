"""The types of a scorecard: what a run is, how it was graded, counts per problem, and every estimate.

Only this module reads and writes scorecards. Fields that an earlier version did not write are empty. Fields of a later
version, unknown here, are kept and written again at the same path in the file.
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
from rlvr_bench.measured_error import MeasuredError
from rlvr_bench.received import decode
from rlvr_bench.records import Estimate, Restopped
from rlvr_bench.text_rules import RULES_VERSION

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "SCORECARD_SCHEMA",
    "THEIRS",
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
THEIRS = "imported:"  # begins the name of a verifier that is another program
_BLANKS: tuple[object, ...] = (None, "", 0, [], {})
_PATH = re.compile(r"(.*) - at `\$\.([^`]*)`")


class ErrorCount(msgspec.Struct, frozen=True, kw_only=True):
    """The number of verdicts that are errors of one kind with one message, and one problem with such a verdict."""

    kind: str | None
    message: str | None
    verdicts: int
    problem_id: str


class Grading(msgspec.Struct, frozen=True, kw_only=True):
    """Which verdicts are current: the verifier, the ``distinct`` answers it judged, and the ``seconds`` of the last
    pass.

    ``unsaid``: statuses that the verdicts of another program do not distinguish from "wrong", such as ``no_answer``.
    The seconds do not include verification during sampling. ``errors``: the ten most frequent failures of the verifier,
    the most frequent first; ``warnings``: failures so frequent that they distort the scores.
    """

    verifier: str
    version: str
    options: dict[str, Any]
    folder: str
    rollouts: int
    distinct: int
    seconds: float
    statuses: dict[str, int]
    unsaid: tuple[str, ...] = ()
    text_rules: str = RULES_VERSION
    errors: tuple[ErrorCount, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def is_theirs(self) -> bool:
        """Whether another program gave the verdicts."""
        return self.verifier.startswith(THEIRS)

    @property
    def judge(self) -> str:
        """The verifier or the other program, with its version where that is known: ``math 5``, ``lm-eval 0.4.13``."""
        version = "" if self.version == "unknown" else f" {self.version}"
        return f"{self.verifier.removeprefix(THEIRS)}{version}"


class Judging(msgspec.Struct, frozen=True, kw_only=True):
    """Which judgements are current, and how many correct rollouts they call valid or invalid."""

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
    """The counts of ``audit.json``, the disagreement rate and its interval; None where nothing could be compared."""

    sample: int
    agree: int
    disagree: int
    unknown: int
    rate: float | None
    low: float | None
    high: float | None


class ScoredWith(msgspec.Struct, frozen=True, kw_only=True):
    """What a scorecard depends on besides the run: the rlvr-bench version, and the budgets passed (None: default)."""

    version: str
    ks: list[int] | None


class _ByName(msgspec.Struct, frozen=True, kw_only=True):
    """Allows reading a field as an item, ``run["task"]``, as in version 0.1."""

    def __getitem__(self, name: str) -> Any:
        """The field ``name`` as plain lists, dicts, numbers and text. Raises KeyError."""
        if name not in self.__struct_fields__:
            raise KeyError(name)
        return msgspec.to_builtins(getattr(self, name))


class ScoredRun(Manifest, _ByName, frozen=True, kw_only=True):
    """The manifest of a scored run, its grading, and what was added later: an audit, a judging, warnings.

    ``n_problems_drawn`` problems have rollouts; ``n_min`` and ``n_max``: the fewest and most rollouts of such a
    problem. ``sampling``, ``stopping`` and ``sessions`` come from the manifest: how the rollouts were drawn. ``scored``
    is None in a scorecard made from counts. ``restopped`` is set where the stopping rule used other verdicts than the
    current ones. ``n_chosen``: the p-value if the numbers of rollouts seem to depend on the outcomes, else None.
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
        """A new scored run. ``drawn``: the number of rollouts of each problem that has any."""
        return cls(
            **msgspec.structs.asdict(manifest),
            grading=grading,
            scored=scored,
            n_problems_drawn=len(drawn),
            n_min=min(drawn, default=0),
            n_max=max(drawn, default=0),
        )

    def is_of(self, manifest: Manifest, grading: Grading, scored: ScoredWith | None) -> bool:
        """Whether this has the same manifest fields, grading and ``scored``: scoring again would change none."""
        same = all(getattr(self, name) == value for name, value in msgspec.structs.asdict(manifest).items())
        return same and (self.grading, self.scored) == (grading, scored)


class ProblemScore(_ByName, frozen=True, kw_only=True):
    """One problem: ``n`` rollouts, ``c`` of them correct. A reader can compute pass@k for any k from these counts.

    ``no_answer``, ``error``, ``truncated`` and ``duplicates`` count rollouts. The means are over rollouts: tokens,
    entropy in nats, and tokens in the 0.95 nucleus (branching). ``solve_rate_high``: the 95 % upper limit of the solve
    rate if 0 of n are correct. By k: ``distinct_answers``, the expected number of different answers among k of the
    problem's answers; ``answer_entropy`` and ``wrong_entropy``, the expected entropy of k answers and of k wrong
    answers (nats); ``distinct_texts``, the expected number of different responses among k. None where not known.
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
    """Counts of a problem's rollouts, where the stopping rule used other verdicts than the current ones.

    ``correct``: correct by the rule's verdicts. Of these, ``both`` are also correct by the current verdicts, and
    ``undecided`` have no current verdict.
    """

    correct: int
    both: int
    undecided: int


class Scorecard(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The whole result of one run: what ``compare``, ``leaderboard``, ``report`` and ``check`` read.

    ``print(card)`` prints a short table; a notebook shows the same. ``card.pass_at(64)`` and ``card["maj@16"]``
    return one estimate. ``card.table()`` returns all estimates and ``card.problems_table()`` all problems, as Arrow
    tables that pandas can read.

    ``extrapolated``: pass@k beyond n from a fitted curve, if requested. It is not measured, unlike the other estimates.
    ``quality``: rates by name, None where not known. ``left_out``: the reason, by name, why an estimate is missing or
    has no value. ``stopped_on``: counts by problem id where ``run.restopped`` uses all rollouts or those up to the
    stop, and the rule used other verdicts. ``verifier_error``: the verifier's error and pass@k with it, if requested.
    ``unknown``: fields of a later version, nested as in the file.
    """

    schema: int
    run: ScoredRun
    problems: list[ProblemScore]
    estimates: list[Estimate]
    quality: dict[str, float | None]
    left_out: dict[str, str] = {}
    extrapolated: list[Estimate] = []
    stopped_on: dict[str, StopCounts] = {}
    verifier_error: MeasuredError | None = None
    unknown: dict[str, Any] = {}

    def pass_at(self, k: int) -> Estimate:
        """The estimate of pass@k.

        Where some problem has fewer than k rollouts, or n depends on what was found, its ``value`` is None:
        ``at_least`` and ``at_most`` are bounds, and [``low``, ``high``] includes the error of both. Raises
        NotInScorecard (a KeyError), which lists the existing budgets.
        """
        return scorecard_views.find_estimate(self, "pass@k", k)

    def __getitem__(self, key: str | tuple[str, str | None]) -> Estimate:
        """An estimate by its name, ``card["unsolved"]`` or ``card["maj@16"]``, or by name and group,
        ``card["tokens_per_response", "correct"]``.

        An estimate with bounds alone has ``value`` None (``pass_at``). Raises NotInScorecard (a KeyError), which gives
        the reason why it is missing or has neither value nor bounds, or lists the existing names, budgets and groups.
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
        """All estimates, one per row: the fields of ``Estimate`` and its ``unit``.

        ``.to_pandas()`` makes a data frame.
        """
        return scorecard_views.estimates_table(self.estimates)

    def problems_table(self) -> pa.Table:
        """All problems, one per row: the fields of ``ProblemScore``; one column ``distinct_answers@K`` for each k."""
        return scorecard_views.problems_table(ProblemScore, self.problems)

    def __repr__(self) -> str:
        return scorecard_views.as_text(self)

    def _repr_html_(self) -> str:
        return scorecard_views.as_html(self)


def decode_scorecard(content: bytes, source: str) -> Scorecard:
    """The scorecard in a file's ``content``.

    Raises RunError, which names ``source``, if it is not a valid scorecard.
    """
    try:
        card = scorecard_from(decode(content, object))
    except msgspec.ValidationError as error:
        what, where = path.groups() if (path := _PATH.fullmatch(str(error))) else (str(error), "")
        if where.startswith("run."):
            raise RunError(f"{source}: damaged at {where} ({what}). Run `rlvr-bench score` again.") from error
        if where.startswith("problems[") and "missing required field" in what:
            raise RunError(f"{source}: not a scorecard (a problem without id, n or c)") from error
        raise RunError(f"{source}: not a scorecard ({error})") from error
    except msgspec.DecodeError as error:
        raise RunError(f"{source}: not a scorecard ({error})") from error
    if card.schema != SCORECARD_SCHEMA:
        raise RunError(f"{source}: scorecard schema {card.schema}, this version of rlvr-bench reads {SCORECARD_SCHEMA}")
    return card


def scorecard_from(fields: Any) -> Scorecard:
    """A scorecard from decoded JSON; missing fields of the run get empty values. Raises msgspec.ValidationError."""
    if isinstance(fields, dict) and isinstance(fields.get("run"), dict):
        fields = {**fields, "run": _completed_run(fields["run"])}
    card = msgspec.convert(fields, Scorecard, str_keys=True)
    return msgspec.structs.replace(card, unknown=_unknown(fields, card) or {})


def encode_scorecard(card: Scorecard) -> bytes:
    """The file's content: JSON with an indent of one, including the fields in ``unknown``."""
    content: Any = card
    if card.unknown:
        content = _merged(msgspec.to_builtins(msgspec.structs.replace(card, unknown={})), card.unknown)
    return format_json(content)


def _completed_run(run: dict[str, Any]) -> dict[str, Any]:
    """``run`` with empty values for fields that earlier versions or other programs did not write."""
    run = {**_blank(ScoredRun), **run}
    grading, sessions = run["grading"] or {}, run["sessions"] or ()
    if isinstance(grading, dict):
        run["grading"] = {**_blank(Grading), **grading}
    if isinstance(sessions, list | tuple):
        run["sessions"] = [
            {**_blank(Session), **session} if isinstance(session, dict) else session for session in sessions
        ]
    return run


@functools.cache
def _blank(kind: type[msgspec.Struct]) -> dict[str, Any]:
    """An empty value for every required field: None where its type allows it, else "", 0, an empty list or dict."""
    return {
        field.encode_name: next((value for value in _BLANKS if _fits(value, field.type)), None)
        for field in msgspec.structs.fields(kind)
        if field.required
    }


def _fits(value: object, kind: Any) -> bool:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError:
        return False
    return True


def _unknown(raw: Any, value: object) -> Any:
    """The parts of decoded JSON for which the structs have no field, nested as in the JSON; None if there are none."""
    if isinstance(value, msgspec.Struct):
        fields = set(value.__struct_fields__)
        unknown = {name: item for name, item in raw.items() if name not in fields}
        for name in fields & raw.keys():
            if isinstance(raw[name], dict | list) and (more := _unknown(raw[name], getattr(value, name))):
                unknown[name] = more
        return unknown or None
    if isinstance(value, list | tuple) and any(isinstance(item, msgspec.Struct) for item in value[:1]):
        parts = [_unknown(item, made) for item, made in zip(raw, value, strict=True)]
        return parts if any(parts) else None
    return None


def _merged(known: Any, unknown: Any) -> Any:
    """``known`` with the parts of ``unknown`` added at their original paths."""
    if unknown is None:
        return known
    if isinstance(known, list) and isinstance(unknown, list):
        return [_merged(item, more) for item, more in zip(known, unknown, strict=True)]
    if isinstance(known, dict) and isinstance(unknown, dict):
        return {**known, **{name: _merged(known.get(name), more) for name, more in unknown.items()}}
    return unknown
