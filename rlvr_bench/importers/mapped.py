"""The format that a mapping makes: rows of any table become rollouts or counts."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rlvr_bench.errors import DataError, UnknownName, in_one_line, visible
from rlvr_bench.importers.correct_rules import plain_status
from rlvr_bench.importers.entries import Count, Format, Glimpse, ImportedEntry, Origin, Response
from rlvr_bench.importers.field_paths import MISSING, FieldPath, unfolded, walk
from rlvr_bench.importers.mapping import FieldMapping
from rlvr_bench.importers.streams import plain_name
from rlvr_bench.importers.tables import Row, read_rows
from rlvr_bench.importers.values import (
    Unreadable,
    as_answer,
    as_cut,
    as_gold,
    as_index,
    as_name,
    as_prompt,
    as_text,
    as_tokens,
    as_whole,
    same_value,
    shown,
)
from rlvr_bench.records import Status

__all__ = ["TABLE", "mapped_format"]

TABLE = "table"  # the name of the format that a user's mapping makes
_FIRST_ROWS = 50  # in which a field must occur

Values = Mapping[str, object]


def mapped_format(
    mapping: FieldMapping,
    name: str = TABLE,
    fits: Callable[[Glimpse], bool] = lambda _: False,
    survey: Callable[[Sequence[Path]], tuple[Origin, list[Path]]] | None = None,
) -> Format:
    """A format whose files are tables, read through ``mapping``. ``fits`` recognises its files; ``survey`` as in Format."""
    reader = _Reader(mapping)

    def surveyed(files: Sequence[Path]) -> tuple[Origin, list[Path]]:
        reader.begin()
        origin, kept = (Origin(), list(files)) if survey is None else survey(files)
        for file in kept:
            reader.check(file)
        return origin, kept

    return Format(
        name=name,
        fits=fits,
        survey=surveyed,
        read=reader.read,
        mapping=mapping,
        restart=reader.begin,
        remarks=reader.remarks,
        says_no_answer="answer" in mapping.paths,
    )


@dataclass
class _Reader:
    """Reads files through a mapping, and counts what it leaves out."""

    mapping: FieldMapping
    rows: int = 0
    kept: int = 0
    filtered: int = 0
    empty: int = 0
    undrawn: int = 0
    others: list[Counter[str]] = field(default_factory=list)

    def begin(self) -> None:
        """Count from zero."""
        self.rows = self.kept = self.filtered = self.empty = self.undrawn = 0
        self.others = []

    def check(self, file: Path) -> None:
        """Raises DataError where one of the paths occurs in none of the first rows."""
        rows = list(itertools.islice(read_rows(file, self.mapping.roots), _FIRST_ROWS))
        if not rows:
            return
        for name, path in self.mapping.paths.items():
            if name not in self.mapping.optional and not any(_holds(row.value, path.steps) for row in rows):
                raise _unknown_field(file, f"{name}={path.text}", path, rows)
        for path, value in self.mapping.where:
            if not any(_holds(row.value, path.steps) for row in rows):
                raise _unknown_field(file, f"--where {path.text}={value}", path, rows)

    def read(self, file: Path, verdict: str | None, responses_only: bool) -> Iterator[ImportedEntry]:
        """The entries of a file. Raises DataError."""
        if verdict is not None:
            raise DataError(f"{file}: --verdict does not go with a mapping: map verdict= to the field {verdict!r}")
        name = Path(plain_name(file)).stem
        for row in read_rows(file, self.mapping.roots, only=True):
            self.rows += 1
            read_before = self.kept + self.filtered + self.undrawn
            for values in self._unfolded(name, row):
                try:
                    entry = self._entry(row.where, values, responses_only)
                except Unreadable as error:
                    path = self.mapping.paths[error.field]
                    raise DataError(f"{row.where}: {visible(path.text)} {error}") from None
                if entry is not None:
                    self.kept += 1
                    yield entry
            self.empty += self.kept + self.filtered + self.undrawn == read_before

    def remarks(self) -> Iterator[str]:
        """Notes for the user about what was read. Raises DataError where conditions kept nothing."""
        if self.mapping.where:
            listed = " and ".join(f"{path.text}={value}" for path, value in self.mapping.where)
            if not self.kept:
                raise DataError(f"--where {listed} keeps none of {self.filtered} rollouts{self._met()}")
            yield f"--where {listed} keeps {self.kept} of {self.kept + self.filtered}"
        if self.empty:
            yield f"{self.empty} of {self.rows} rows hold no rollouts"
        if self.undrawn:
            yield f"{self.undrawn} rollouts have neither a response nor a verdict: they count as not drawn"
        if self.mapping.decides is not None and self.mapping.correct is not None:
            yield f"correct is {self.mapping.decides.text} {self.mapping.correct}"

    def _met(self) -> str:
        parts = [
            f"{path.text} is {', '.join(value for value, _ in met.most_common(5))}"
            for (path, _), met in zip(self.mapping.where, self.others, strict=False)
            if met
        ]
        return f" ({'; '.join(parts)})" if parts else ""

    def _unfolded(self, file: str, row: Row) -> Iterator[Values]:
        """The values of each rollout of a row. Values that are not in a list are the same in all of them."""
        bases: dict[str, object] = {"value": row.value, "row": row.number, "key": row.key, "file": file}
        cursors = [(name, path, bases[path.base], 0) for name, path in self.mapping.paths.items()]
        cursors += [(f"--where {i}", path, bases[path.base], 0) for i, (path, _) in enumerate(self.mapping.where)]
        yield from _expand(row.where, {}, cursors)

    def _wanted(self, values: Values) -> bool:
        for number, (_, wanted) in enumerate(self.mapping.where):
            value = values[f"--where {number}"]
            if not same_value(value, wanted):
                if not self.kept:
                    self.others += [Counter() for _ in range(number + 1 - len(self.others))]
                    self.others[number][in_one_line(shown(value), 30)] += 1
                self.filtered += 1
                return False
        return True

    def _entry(self, where: str, values: Values, responses_only: bool) -> ImportedEntry | None:
        if not self._wanted(values):
            return None
        problem = as_name("problem", values)
        if not problem and "question" not in self.mapping.paths:
            raise Unreadable("problem", "is empty")
        common = {
            "where": where,
            "problem": problem,
            "question": as_text("question", values) or "",
            "gold": as_gold("gold", values),
            "cluster": as_name("cluster", values),
            "tier": as_name("tier", values),
            "prompt": as_prompt("prompt", values),
        }
        if self.mapping.counts:
            return self._count(where, values, common)
        status = None if responses_only else self._status(values)
        text = as_text("text", values, required="text" in self.mapping.paths)
        if text is None and status is None and "text" in self.mapping.paths:
            self.undrawn += 1
            return None
        answer = as_answer("answer", values, self.mapping.no_answer)
        no_answer = status == "wrong" and answer is None and "answer" in self.mapping.paths
        return Response(
            verdict=self.mapping.decides.text if self.mapping.decides is not None and not responses_only else "",
            text=text or "",
            status="no_answer" if no_answer else status,
            answer=answer,
            index=as_index("index", values),
            n_tokens=as_tokens("tokens", values),
            truncated=as_cut("truncated", values),
            **common,  # type: ignore[arg-type]
        )

    def _count(self, where: str, values: Values, common: Mapping[str, object]) -> Count:
        n, c = as_whole("n", values), as_whole("c", values)
        if c > n:
            raise DataError(f"{where}: c is {c}, more than n, {n}")
        return Count(n=n, c=c, **common)  # type: ignore[arg-type]

    def _status(self, values: Values) -> Status | None:
        name = "verdict" if "verdict" in values else "reward"
        value = values.get(name, MISSING)
        if value is MISSING:
            return None
        rule = self.mapping.correct
        try:
            return plain_status(value) if rule is None else rule.status(value)
        except ValueError as error:
            raise Unreadable(name, f"is {shown(value)}, which {error}") from None


_Cursor = tuple[str, FieldPath, object, int]


def _expand(where: str, values: Mapping[str, object], cursors: Sequence[_Cursor]) -> Iterator[Values]:
    """Follow every path to its end; lists that several paths unfold at once are parallel. Raises DataError."""
    done = dict(values)
    lists: list[tuple[str, FieldPath, list[object] | None, int]] = []
    for name, path, value, step in cursors:
        reached, number = walk(value, path, step, where)
        if number == len(path.steps):
            done[name] = reached
        else:
            lists.append((name, path, unfolded(reached, path, number, where), number + 1))
    if not lists:
        yield done
        return
    lengths = {len(elements) for _, _, elements, _ in lists if elements is not None}
    if len(lengths) > 1:
        raise DataError(f"{where}: lists of unequal length: {_listed_lengths(lists)}")
    for i in range(lengths.pop() if lengths else 0):
        inner = [(name, path, MISSING if items is None else items[i], step) for name, path, items, step in lists]
        yield from _expand(where, done, inner)


def _listed_lengths(lists: Sequence[tuple[str, FieldPath, list[object] | None, int]]) -> str:
    lengths = {
        path.until(len(path.steps) - step): len(elements) for _, path, elements, step in lists if elements is not None
    }
    return ", ".join(f"{visible(name)} has {length}" for name, length in lengths.items())


def _holds(value: object, steps: Sequence[str | int | None]) -> bool:
    """Whether a row has the field at the end of a path; an empty list may have any."""
    if not steps:
        return True
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        return True
    step, rest = steps[0], steps[1:]
    if isinstance(step, str):
        return isinstance(value, Mapping) and step in value and _holds(value[step], rest)
    elements = list(value.values()) if isinstance(value, Mapping) and step is None else value
    if not isinstance(elements, list):
        return False
    return not elements or any(_holds(element, rest) for element in elements[:_FIRST_ROWS])


def _unknown_field(file: Path, shown_pair: str, path: FieldPath, rows: Sequence[Row]) -> DataError:
    """The error that names the missing field, the nearest one, and those that there are."""
    values: list[object] = [row.value for row in rows]
    for number, step in enumerate(path.steps):
        if isinstance(step, str):
            names = list(dict.fromkeys(name for value in values if isinstance(value, Mapping) for name in value))
            inside = path.until(len(path.steps) - number)
            if not names:
                break
            if step not in names:
                near = UnknownName("field", step, names).args[0]
                where = f"{file}, in {visible(inside)}" if inside else f"{file}"
                later = f" Only the first {len(rows)} rows were looked at." if len(rows) == _FIRST_ROWS else ""
                return DataError(f"{where}: {in_one_line(shown_pair, 80)}: {in_one_line(near, 600)}{later}")
            values = [value[step] for value in values if isinstance(value, Mapping) and step in value]
        else:
            values = [item for value in values for item in _items(value, step)]
    kind = "a list" if any(isinstance(row.value, list) for row in rows) else "no object with such fields"
    return DataError(f"{file}: {in_one_line(shown_pair, 80)} leads to nothing in the first {len(rows)} rows ({kind})")


def _items(value: object, step: str | int | None) -> list[object]:
    if isinstance(value, Mapping) and step is None:
        return list(value.values())
    if not isinstance(value, list):
        return []
    if isinstance(step, int):
        return value[step : step + 1 or None]
    return value
