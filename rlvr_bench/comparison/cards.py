"""Scorecards for a comparison: read from disk, checked to be comparable, with counts in one order of problems."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from rlvr_bench import stats
from rlvr_bench.errors import RunError
from rlvr_bench.measured_error import MeasuredError
from rlvr_bench.metrics import Metric
from rlvr_bench.received import decode, read_regular
from rlvr_bench.records import StoppingRule
from rlvr_bench.samplers.engine_arguments import deciding
from rlvr_bench.scorecard import ProblemScore, Scorecard, ScoredRun, decode_scorecard
from rlvr_bench.scorers.common import cluster_labels
from rlvr_bench.scorers.counts import Counts
from rlvr_bench.storage import as_path, is_remote

__all__ = ["Incomparable", "RunCounts", "align", "clusters", "common_k", "read_card"]

logger = logging.getLogger(__name__)

IDENTITY = ("task", "task_version", "problems_sha256", "prompt", "prompt_sha256", "chat_template", "chat_template_args")
# What is never known of a run that another program drew.
PROMPT = ("prompt", "prompt_sha256", "chat_template", "chat_template_args")
GRADING = ("verifier", "version", "options")
# The fields of a grading that are equal for equal verdicts; its duration may differ.
_VERDICTS = (*GRADING, "folder", "rollouts", "statuses")
# Two runs may differ in these; the result has a note if they do.
SHOWN_DIFFERENCES = ("sampling", "engine", "dtype", "stopping", "token_stats", "tools")
# Runs that are equal in these fields have the same rollouts.
_DRAW = ("weights", "prompt_sha256", "chat_template_args", "seed", "sampling", "tools", "engine_args", "seed_scheme")
# Runs of older versions do not record their engine arguments.
UNKNOWN = "unknown"
FEW = 0.1  # share of problems


class Incomparable(RunError):
    """Runs that answer different questions; ``differing`` maps each differing field to its value in every run."""

    def __init__(self, differing: dict[str, tuple[object, ...]], labels: Sequence[str]) -> None:
        parts = []
        for name, values in differing.items():
            shown = ", ".join(f"{label} has {_short(value)}" for label, value in zip(labels, values, strict=True))
            parts.append(f"{name}: {shown}")
        names = " ".join(f"--allow {name}" for name in differing)
        super().__init__(f"these runs cannot be compared. {'; '.join(parts)}. To compare them all the same: {names}")
        self.differing = differing


@dataclasses.dataclass(frozen=True)
class RunCounts:
    """One run's counts over the compared problems (P,), in the same order for every run."""

    label: str
    file: Path
    n: npt.NDArray[np.int64]
    c: npt.NDArray[np.int64]
    counts: Counts
    entries: tuple[ProblemScore, ...]
    error: MeasuredError | None = None

    @property
    def stopping(self) -> StoppingRule | None:
        """The rule that the rollouts were drawn under."""
        return self.counts.stopping

    @property
    def largest_k(self) -> int:
        """Largest budget at which no problem lacks rollouts."""
        return self.counts.largest_k

    def pass_table(self, ks: Sequence[int]) -> npt.NDArray[np.float64]:
        """Unbiased pass@k, (P, K), NaN where a problem lacks rollouts; errors are not correct.

        Under a recorded stopping rule by the estimator for that rule.
        """
        if self.stopping is None:
            return stats.pass_at_k(self.c, self.n, ks)
        bounds = dataclasses.replace(self.counts, errors=np.zeros_like(self.c)).bounds(ks)
        return np.where(bounds.low == bounds.high, bounds.low, np.nan)

    def pass_bounds(self, ks: Sequence[int]) -> stats.PassBounds:
        """Bounds of pass@k of each problem, (P, K), equal where there is an estimate (``Counts.bounds``)."""
        return self.counts.bounds(ks)

    def at(self, rows: npt.NDArray[np.int64]) -> RunCounts:
        """The same of these problems, in this order."""
        entries = tuple(self.entries[i] for i in rows)
        return RunCounts(self.label, self.file, self.n[rows], self.c[rows], self.counts.at(rows), entries, self.error)

    def column(self, name: str) -> npt.NDArray[np.float64]:
        """A per-problem number of the scorecard, (P,), NaN where it is missing."""
        values = [getattr(entry, name) for entry in self.entries]
        return np.array([np.nan if value is None else value for value in values], dtype=np.float64)

    def values(self, metric: Metric) -> npt.NDArray[np.float64]:
        """A metric with a column in the scorecard, for each problem, (P,), NaN where it is not known."""
        column = self.column(str(metric.column))
        return column / self.n if metric.counts else column

    def budget_values(self, metric: Metric, k: int) -> npt.NDArray[np.float64]:
        """A metric of each problem at budget k, (P,), NaN where it is not known."""
        return self.pass_table([k])[:, 0] if metric.column == "c" else self.by_k(str(metric.column), k)

    def by_k(self, column: str, k: int) -> npt.NDArray[np.float64]:
        """A column stored by budget, at k, (P,), NaN for too few rollouts or no value in the scorecard."""
        return np.array([(getattr(entry, column) or {}).get(k, np.nan) for entry in self.entries])

    def repeats(self, k: int) -> npt.NDArray[np.float64]:
        """Expected share of k rollouts that repeat another word for word, (P,), NaN where not known."""
        return 1 - self.by_k("distinct_texts", k) / k


def common_k(first: RunCounts, second: RunCounts, column: str) -> int | None:
    """Largest k at which both scorecards have a column stored by budget for at least half of the problems.

    If there is none, the smallest k above 1 at which they have it for a tenth of the problems, because wrong answers
    may be few; else None.
    """
    ks = {k for run in (first, second) for entry in run.entries for k in getattr(entry, column) or {} if k > 1}
    share = {
        k: float(np.mean(~np.isnan(first.by_k(column, k)) & ~np.isnan(second.by_k(column, k)))) for k in sorted(ks)
    }
    by_most = [k for k, known in share.items() if known >= 0.5]
    by_some = [k for k, known in share.items() if known >= FEW]
    return by_most[-1] if by_most else by_some[0] if by_some else None


def read_card(path: str | Path) -> tuple[Path, Scorecard]:
    """A scorecard and its file, from a run folder or from the file itself.

    Raises RunError where there is none, or it is not one of ours.
    """
    path = as_path(path)
    file = path / "scorecard.json" if path.is_dir() else path
    try:
        content = _read_received(file) if file != path else file.read_bytes()  # a path from the user may be a pipe
        card = decode_scorecard(content, str(file))
    except FileNotFoundError:
        mend = f"Run `rlvr-bench score {path}` first." if path.is_dir() else "Name a run folder or a scorecard.json."
        raise RunError(f"{file}: no scorecard. {mend}") from None
    except OSError as error:
        raise RunError(f"{file}: {error.strerror or error}") from error
    _warn_if_stale(file, card)
    return file, card


def _read_received(file: Path) -> bytes:
    return file.read_bytes() if is_remote(file) else read_regular(file)


def _warn_if_stale(file: Path, card: Scorecard) -> None:
    """Warn if the run folder of a scorecard was graded again later: the scorecard is then of the old verdicts."""
    beside, scored = file.parent / "grading.json", card.run.grading
    if file.name != "scorecard.json" or scored is None:
        return
    try:
        now = decode(_read_received(beside), dict)
    except (OSError, msgspec.DecodeError):  # no grading file, or a damaged one, reported where it is needed
        return
    if any(name in now and msgspec.to_builtins(getattr(scored, name)) != now[name] for name in _VERDICTS):
        logger.warning("%s is of other verdicts than grading.json: rlvr-bench score %s", file, file.parent)


def align(
    cards: Sequence[tuple[Path, Scorecard]], allow: Collection[str] = ()
) -> tuple[tuple[str, ...], list[RunCounts], list[str]]:
    """Problem ids, the counts of every run in that order, and notes on permitted differences between the runs.

    Raises Incomparable where task, problems, prompt, chat template or verifier differ and are not in ``allow``; with
    ``problems`` allowed the common problems are compared. RunError where none is common. Of imported runs the prompt is
    not known, and the verifier may be another program: notes name these differences.
    """
    labels = _labels(cards)
    fields = [
        _identity(card) | cap for (_, card), cap in zip(cards, _caps([card.run for _, card in cards]), strict=True)
    ]
    differing = {name: values for name in fields[0] if _differ(values := tuple(run[name] for run in fields))}
    named = {name: differing.pop(name) for name in tuple(differing) if _is_of_imports(name, differing[name], cards)}
    drawn = [{entry.id: entry for entry in card.problems if entry.n} for _, card in cards]
    common = [name for name in drawn[0] if all(name in run for run in drawn)]
    if any(len(run) != len(common) for run in drawn):
        differing["problems"] = tuple(_extra(run, common) for run in drawn)
    if refused := {name: values for name, values in differing.items() if name not in allow}:
        raise Incomparable(refused, labels)
    if not common:
        raise RunError("these runs cannot be compared: no problem has rollouts in all of them")
    known = _clusters_of_any(drawn, common)
    runs = [_counts(label, *card, known, run) for label, card, run in zip(labels, cards, drawn, strict=True)]
    return (
        tuple(common),
        runs,
        [*_import_notes(named, cards, labels), *_allowed(differing, labels), *_notes(cards, labels)],
    )


def clusters(run: RunCounts) -> npt.NDArray[np.str_] | None:
    """Cluster label per problem, (P,); a problem without one is a cluster of size 1; None without clusters."""
    return cluster_labels([entry.cluster for entry in run.entries], [entry.id for entry in run.entries])


def _clusters_of_any(drawn: Sequence[dict[str, ProblemScore]], ids: Sequence[str]) -> dict[str, str]:
    """Each problem's cluster, from the first run that has one; a run may be older than the clusters of its task."""
    return {name: next((run[name].cluster for run in drawn if run[name].cluster), "") for name in ids}


def _counts(
    label: str, file: Path, card: Scorecard, clusters: Mapping[str, str], entries: dict[str, ProblemScore]
) -> RunCounts:
    """The counts of the problems in ``clusters``, in its order and with its clusters."""
    chosen = tuple(
        entries[name] if entries[name].cluster == cluster else msgspec.structs.replace(entries[name], cluster=cluster)
        for name, cluster in clusters.items()
    )
    row = {name: i for i, name in enumerate(entries)}
    every = Counts.of_problems(card.run, list(entries.values()), card.stopped_on)
    counts = every.at(np.array([row[name] for name in clusters], dtype=np.int64))
    return RunCounts(
        label=label, file=file, n=counts.n, c=counts.c, counts=counts, entries=chosen, error=card.verifier_error
    )


def _identity(card: Scorecard) -> dict[str, object]:
    return {
        **{name: getattr(card.run, name) for name in IDENTITY},
        **{
            f"verifier_{name}".replace("verifier_verifier", "verifier"): getattr(card.run.grading, name)
            for name in GRADING
        },
    }


def _caps(runs: Sequence[ScoredRun]) -> list[dict[str, object]]:
    """The budget per response of each run, where one of the runs was cut to it after it was drawn; else empty."""
    fields: list[dict[str, object]] = [{} for _ in runs]
    for name, section, part in (("tokens", "sampling", "max_tokens"), ("calls", "tools", "calls")):
        if any(run.cap is not None and getattr(run.cap, name) is not None for run in runs):
            for field, run in zip(fields, runs, strict=True):
                field[part] = getattr(getattr(run, section), part, None)
    return fields


def _is_of_imports(name: str, values: Sequence[object], cards: Sequence[tuple[Path, Scorecard]]) -> bool:
    """Whether a field differs only because other programs drew or judged some of the runs.

    Runs that one program judged must agree, as runs judged here must: they may differ in the verdict that was chosen.
    """
    runs = [card.run for _, card in cards]
    if name in PROMPT:
        return not _differ([value for value, run in zip(values, runs, strict=True) if not run.imported])
    if not name.startswith("verifier"):
        return False
    judges = [run.grading.verifier if run.grading.is_theirs else "" for run in runs]
    groups = [[value for value, other in zip(values, judges, strict=True) if other == judge] for judge in set(judges)]
    return not any(_differ(group) for group in groups)


def _import_notes(
    named: Collection[str], cards: Sequence[tuple[Path, Scorecard]], labels: Sequence[str]
) -> Iterator[str]:
    """Notes on what is not known of imported runs, and on runs that another program judged."""
    runs = list(zip(labels, [card.run for _, card in cards], strict=True))
    if any(name in PROMPT for name in named):
        unknown = ", ".join(label for label, run in runs if run.imported)
        yield f"the prompt of {unknown} is {UNKNOWN}: imported"
    if any(name not in PROMPT for name in named):
        judged = ", ".join(f"{label} by {run.grading.judge}" for label, run in runs)
        yield f"verdicts come from different verifiers: {judged}"


def _differ(values: Sequence[object]) -> bool:
    return any(value != values[0] for value in values[1:])


def _labels(cards: Sequence[tuple[Path, Scorecard]]) -> list[str]:
    """The names of the models; if two are equal, the folders or files of the scorecards."""
    names = [card.run.model for _, card in cards]
    if len(set(names)) == len(names) and all(names):
        return names
    paths = [str(file.parent if file.name == "scorecard.json" else file) for file, _ in cards]
    return paths if len(set(paths)) == len(paths) else [f"{path} #{i + 1}" for i, path in enumerate(paths)]


def _extra(run: Iterable[str], common: Sequence[str]) -> str:
    shared = set(common)
    more = [name for name in run if name not in shared]
    shown = ", ".join(more[:3]) + (", ..." if len(more) > 3 else "")
    return f"{len(more)} of its own ({shown})" if more else "none of its own"


def _plain(value: object) -> object:
    """The value as in the JSON file."""
    return msgspec.to_builtins(value)


def _differing_first(values: Sequence[object]) -> Sequence[object]:
    """Records with the fields in which they differ first, because only the beginning is shown; other values unchanged."""
    records = [value for value in values if isinstance(value, dict)]
    if len(records) < len(values):
        return values
    differing = [name for name in records[0] if _differ([record.get(name) for record in records])]
    return [{**{name: record.get(name) for name in differing}, **record} for record in records]


def _short(value: object) -> str:
    shown = value if isinstance(value, str) else repr(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."


def _allowed(differing: dict[str, tuple[object, ...]], labels: Sequence[str]) -> list[str]:
    return [
        f"{name} differs, as allowed: "
        + ", ".join(f"{label} has {_short(value)}" for label, value in zip(labels, values, strict=True))
        for name, values in differing.items()
    ]


def _notes(cards: Sequence[tuple[Path, Scorecard]], labels: Sequence[str]) -> list[str]:
    notes = []
    for name in SHOWN_DIFFERENCES:
        values = [_plain(getattr(card.run, name)) for _, card in cards]
        if name == "sampling":
            values = [UNKNOWN if value is None else value for value in values]
        if _differ(values):
            parts = zip(labels, _differing_first(values), strict=True)
            shown = ", ".join(f"{label} {_short(value)}" for label, value in parts)
            notes.append(f"{name} differs: {shown}")
    return [*notes, *_argument_notes(cards, labels), *_stream_notes(cards, labels)]


def _argument_notes(cards: Sequence[tuple[Path, Scorecard]], labels: Sequence[str]) -> Iterator[str]:
    """Notes on engine arguments that affect sampling: those that differ, and the runs where they are unknown."""
    known = [card.run.engine_args for _, card in cards]
    chosen = [None if arguments is None else deciding(arguments) for arguments in known]
    for name in dict.fromkeys(name for arguments in chosen for name in arguments or ()):
        values = [UNKNOWN if arguments is None else arguments.get(name) for arguments in chosen]
        if _differ(values):
            shown = ", ".join(f"{label} {_short(value)}" for label, value in zip(labels, values, strict=True))
            yield f"engine argument {name} differs: {shown}"
    unsaid = [
        label
        for label, (_, card), arguments in zip(labels, cards, chosen, strict=True)
        if arguments is None and not card.run.imported
    ]
    if unsaid:
        yield f"engine arguments are {UNKNOWN} of {', '.join(unsaid)}: drawn by an older version, which did not keep them"


def _is_cut_from(cut: ScoredRun, other: ScoredRun) -> bool:
    """Whether two runs have the same draws, at most different caps."""
    same = ("weights", "prompt_sha256", "chat_template_args", "seed", "engine_args", "seed_scheme", "model", "task")
    return all(getattr(cut, name) == getattr(other, name) for name in same)


def _stream_notes(cards: Sequence[tuple[Path, Scorecard]], labels: Sequence[str]) -> Iterator[str]:
    """Notes on runs that are not independent; for imported runs this is unknown."""
    drawn = [(label, card.run) for label, (_, card) in zip(labels, cards, strict=True) if card.run.seed is not None]
    whole = [msgspec.json.encode([*(getattr(run, name) for name in _DRAW), run.cap is None]) for _, run in drawn]
    if len(set(whole)) < len(whole):
        yield "two runs have the same weights, sampling and seed: they are one run, not two independent ones"
    cut = [run for _, run in drawn if run.cap is not None]
    if any(_is_cut_from(run, other) for run in cut for _, other in drawn if other is not run):
        yield (
            "one run is cut from the rollouts of the other: differences are paired within them, but sizes expected by chance "
            "and single problems are those of independent runs"
        )
    streams: dict[tuple[str, str], dict[str, list[str]]] = {}
    for label, run in drawn:
        if run.seed_scheme == 1:
            by_weights = streams.setdefault((run.task, str(run.seed)), {})
            by_weights.setdefault(run.weights, []).append(label)
    for (_, seed), by_weights in streams.items():
        if len(by_weights) > 1:
            names = ", ".join(label for group in by_weights.values() for label in group)
            yield (
                f"{names} were drawn from the same random numbers (seed {seed}, by an older version whose seeds leave the "
                "model out): their rollouts are not independent, so that differences expected by chance are smaller than shown"
            )
