"""What an import says about its data: problems, gold answers, rollouts that are missing, copied or without a verdict."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rlvr_bench.errors import in_one_line
from rlvr_bench.importers.collecting import Collected
from rlvr_bench.importers.golds import differing_golds
from rlvr_bench.importers.mapping import FieldMapping
from rlvr_bench.importers.matching import Matching

__all__ = ["data_notes", "matched_notes", "single_rollouts"]

_EXAMPLES = 3


def single_rollouts(mapping: FieldMapping, problems: int) -> str:
    """What to say where a mapping gives every problem one rollout."""
    path = mapping.paths.get("problem") or mapping.paths["question"]
    return (
        f"every problem has one rollout ({problems} problems), so that pass@k above k = 1 is unknown. Is {path.text} "
        "different in every rollout? Map problem= to what the rollouts of a problem share"
    )


def matched_notes(matching: Matching | None, collected: Collected) -> list[str]:
    """How the files' problems and gold answers differ from the task's. Raises VerifierError."""
    if matching is None:
        return []
    loaded, notes = matching.task, []
    name, total = loaded.task.name, len(collected.problems)
    if total < len(loaded.problems):
        notes.append(f"{total} of the {len(loaded.problems)} problems of {name}")
    if matching.other_texts:
        notes.append(
            f"{len(matching.other_texts)} of {total} problems are matched by their ids, though their texts differ from "
            f"those of {name} ({_listed(matching.other_texts)})"
        )
    if differing := differing_golds(loaded, matching.golds):
        answers = {problem.id: problem.answer for problem in loaded.problems}
        shown = [f"{i}: {_cut(matching.golds[i])} in the files, {_cut(answers[i])} in the task" for i in differing]
        notes.append(
            f"gold answers of the files that are not those of {name}, by its verifier: {len(differing)} of {total} "
            f"({_listed(shown, '; ')}). The task's are used here"
        )
    return notes


def data_notes(collected: Collected, *, counts: bool) -> Iterator[str]:
    """What is unequal, copied or missing in the files. ``counts``: they hold counts only."""
    fewest, most, total = min(collected.n), max(collected.n), sum(collected.n)
    if fewest != most:
        names = [problem.id for problem, n in zip(collected.problems, collected.n, strict=True) if n < most]
        yield (
            f"rollouts per problem differ: {fewest} to {most}; {len(names)} of {len(collected.n)} problems have fewer "
            f"than {most} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
        )
    if collected.copies:
        yield f"{collected.copies} responses are copies of others, by their identifiers: left out"
    if collected.unjudged and collected.unjudged < total:
        advice = f" ({collected.advice})" if collected.rewards else ""
        yield (
            f"{collected.unjudged} of {total} responses have no verdict: counted as errors, which are not correct{advice}"
        )
    if collected.prompts_differ:
        yield f"the prompts of {collected.prompts_differ} problems differ between their rollouts: prompts are not kept"
    if counts:
        yield "counts only: what needs responses or single verdicts is absent"


def _listed(items: Sequence[str], separator: str = ", ") -> str:
    return separator.join(items[:_EXAMPLES]) + (f"{separator}..." if len(items) > _EXAMPLES else "")


def _cut(text: str) -> str:
    return repr(in_one_line(text, 40))
