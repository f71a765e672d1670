"""Groups of tasks by name, for papers that report several: ``--task group:math-2026``."""

from __future__ import annotations

from collections.abc import Sequence

from rlvr_bench.errors import UnknownName

__all__ = ["GROUPS", "GROUP_PREFIX", "expand_tasks"]

GROUP_PREFIX = "group:"
GROUPS: dict[str, tuple[str, ...]] = {
    # What papers on RLVR have reported since 2025 (arXiv 2504.13837 and those that compare with it).
    "rlvr-core": ("aime24", "aime25", "amc23", "math500", "minerva_math", "olympiadbench"),
    # Competitions that are younger than the training data of most models.
    "math-2026": ("aime26", "hmmt_feb26", "hmmt_nov25", "apex"),
    "math-2025": ("aime25", "hmmt_feb25", "brumo25", "smt25", "cmimc25"),
    "math-hard": ("beyond_aime", "math_beyond", "olymmath", "apex"),
    "puzzles": ("arc_1d", "countdown_rg", "knights_knaves", "maze", "sudoku", "zebra"),
    "clean": ("clean_arithmetic", "double_countdown"),  # generated, so they can be newer than any training data
    "knowledge": ("gpqa_diamond", "mmlu_pro", "supergpqa"),
    "instructions": ("ifbench", "ifeval"),
}


def expand_tasks(names: Sequence[str]) -> list[str]:
    """The names with groups replaced by their tasks, each name once. Raises UnknownName for a group that is not there."""
    expanded: list[str] = []
    for name in names:
        if not name.startswith(GROUP_PREFIX):
            expanded.append(name)
            continue
        group = name.removeprefix(GROUP_PREFIX)
        if group not in GROUPS:
            raise UnknownName("group of tasks", group, GROUPS)
        expanded += GROUPS[group]
    return list(dict.fromkeys(expanded))
