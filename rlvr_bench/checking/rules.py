"""Rules of a check, from the command line or pyproject.toml: how much a metric may fall or rise."""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from rlvr_bench.errors import BadArgument, DataError
from rlvr_bench.metrics import METRICS, Metric, find_metric

__all__ = ["CheckOptions", "Rule", "Settings", "make_rules", "read_settings", "split_rule"]

# The metrics that a check may gate on, as written by the user; with a budget as in pass@64.
GATED = {metric.base: metric for metric in METRICS if metric.gate is not None}
_BUDGET = re.compile(r"([a-z_]+)@([1-9][0-9]{0,9})")
_KNOWN = ", ".join(f"{name}@K" if metric.has_budget else name for name, metric in GATED.items())


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """``metric`` may fall (``kind`` max-drop) or rise (max-rise) by ``tolerance``. ``k``: its budget, if any."""

    kind: Literal["max-drop", "max-rise"]
    metric: str
    tolerance: float
    k: int | None = None

    @property
    def text(self) -> str:
        """The rule as the user writes it: ``max-drop pass@64=0.03``."""
        return f"{self.kind} {self.metric}={self.tolerance:g}"

    @property
    def of(self) -> Metric:
        """The row of the metric."""
        return GATED[self.metric.partition("@")[0]]


class CheckOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How a check decides.

    ``level``: one-sided confidence of every outcome. ``max_error_rate``: a scorecard whose verifier failed on a larger
    share of rollouts is refused. ``new_problems``: decide about other problems of the same kind, not about these same
    ones. ``looks``: with "any" the level is valid over any number of checks while rollouts are added; with "one" it is
    valid for a single check at a number of rollouts fixed before, which needs about half as many rollouts. ``allow``:
    names of fields in which run and baseline may differ, as in ``compare``.
    """

    level: float = 0.95
    max_error_rate: float = 0.01
    new_problems: bool = False
    looks: Literal["any", "one"] = "any"
    allow: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 0.5 < self.level < 1:
            raise BadArgument("level", self.level, "must lie between 0.5 and 1")
        if not 0 <= self.max_error_rate <= 1:
            raise BadArgument("max_error_rate", self.max_error_rate, "must lie between 0 and 1")


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="kebab"):
    """The table [tool.rlvr-bench.check] of a pyproject.toml; missing fields are None or empty."""

    against: tuple[str, ...] = ()
    max_drop: dict[str, float] = {}
    max_rise: dict[str, float] = {}
    level: float | None = None
    max_error_rate: float | None = None
    new_problems: bool | None = None
    looks: Literal["any", "one"] | None = None
    strict: bool = False
    allow: tuple[str, ...] = ()


def make_rules(max_drop: Mapping[str, float], max_rise: Mapping[str, float]) -> tuple[Rule, ...]:
    """Rules from tolerances by metric. Raises BadArgument: an unknown metric, a bad tolerance, or no rule at all."""
    rules = [_rule("max-drop", metric, value) for metric, value in max_drop.items()]
    rules += [_rule("max-rise", metric, value) for metric, value in max_rise.items()]
    if not rules:
        raise BadArgument("rules", "none", "name at least one, such as --max-drop pass@64=0.03")
    return tuple(rules)


def split_rule(option: str, texts: Sequence[str]) -> dict[str, float]:
    """Tolerances by metric from METRIC=TOLERANCE, the values of ``option``. Raises BadArgument."""
    tolerances: dict[str, float] = {}
    for text in texts:
        metric, _, number = text.partition("=")
        try:
            value = float(number)
        except ValueError:
            raise BadArgument(option, text, "must read METRIC=TOLERANCE, such as pass@64=0.03") from None
        if metric in tolerances:
            raise BadArgument(option, text, f"{metric} has a tolerance already, {tolerances[metric]:g}")
        tolerances[metric] = value
    return tolerances


def read_settings(file: Path) -> Settings:
    """The check's table of a pyproject.toml; empty where it has none. Raises DataError naming file and field."""
    try:
        content: Any = tomllib.loads(file.read_text(encoding="utf-8"))
        for name in ("tool", "rlvr-bench", "check"):
            content = content.get(name, {})
        return msgspec.convert(content, Settings)
    except OSError as error:
        raise DataError(f"{file}: {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: not a TOML file ({error})") from error
    except (AttributeError, msgspec.ValidationError) as error:
        raise DataError(f"{file}: [tool.rlvr-bench.check] cannot be used ({error})") from error


def _rule(kind: Literal["max-drop", "max-rise"], metric: str, tolerance: float) -> Rule:
    budget = _BUDGET.fullmatch(metric)
    row = GATED.get(budget[1] if budget else metric)
    if row is None or row.has_budget != (budget is not None):
        raise BadArgument(f"--{kind}", metric, f"is no metric of a check{_why_not(metric)}. Known: {_KNOWN}")
    highest = math.inf if math.isinf(row.high) else 1.0
    if not (0 <= tolerance < highest):
        allowed = "a number of at least 0" if math.isinf(highest) else "a fraction, such as 0.02 for two points"
        raise BadArgument(f"--{kind} {metric}", tolerance, f"must be {allowed}")
    return Rule(kind=kind, metric=metric, tolerance=float(tolerance), k=int(budget[2]) if budget else None)


def _why_not(metric: str) -> str:
    """The reason why a metric of the scorecard cannot be gated on; empty for other names."""
    row = find_metric(metric) or find_metric(f"{metric.partition('@')[0]}@k")
    return f" ({row.no_gate})" if row is not None and row.gate is None else ""
