"""A mapping: which field of a file is the problem, the response, the verdict and so on."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from rlvr_bench.errors import BadArgument, UnknownName
from rlvr_bench.importers.correct_rules import CorrectRule
from rlvr_bench.importers.field_paths import FieldPath
from rlvr_bench.options import MAP_FIELDS

__all__ = ["FieldMapping", "split_pairs"]

_PAIR = re.compile(r"\s*(?P<field>[^=?\s]*)\s*(?P<optional>\??)\s*=(?P<path>.*)", re.DOTALL)
_PIECES = re.compile(r'(?:\\.|"(?:\\.|[^"\\])*"|[^,"\\])+', re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class FieldMapping:
    """``paths`` by field of MAP_FIELDS. A field in ``optional`` may be absent from the file.

    ``where`` keeps the rollouts whose fields have these values. ``correct``: when a verdict or reward means correct; None
    takes plain yes and no only. ``no_answer``: answers that mean that there is none.
    """

    paths: Mapping[str, FieldPath]
    optional: frozenset[str] = frozenset()
    where: tuple[tuple[FieldPath, str], ...] = ()
    correct: CorrectRule | None = None
    no_answer: frozenset[str] = field(default=frozenset())

    @classmethod
    def parse(
        cls,
        *pairs: str,
        where: Sequence[str] = (),
        correct: str | None = None,
        no_answer: Sequence[str] = (),
    ) -> FieldMapping:
        """Read ``field=path`` pairs, several of them in one text between commas; ``field?=path`` may be absent.

        ``where``: texts ``path=value``. Raises BadArgument, and UnknownName for a field that does not exist.
        """
        paths: dict[str, FieldPath] = {}
        optional = set()
        for text in pairs:
            for name, may_lack, path in split_pairs("--map", text):
                if name not in MAP_FIELDS:
                    raise UnknownName("field in --map", name, MAP_FIELDS)
                if name in paths:
                    raise BadArgument("--map", text, f"maps {name} twice")
                paths[name] = _path("--map", f"{name}={path}", path)
                optional |= {name} if may_lack else set()
        rule = None if correct is None else CorrectRule.parse(correct)
        mapping = cls(
            paths=paths,
            optional=frozenset(optional),
            where=tuple(_condition(text) for text in where),
            correct=rule,
            no_answer=frozenset(no_answer),
        )
        if reason := mapping._lacks():
            raise BadArgument("--map", ",".join(pairs), reason)
        return mapping

    def __str__(self) -> str:
        return ",".join(
            f"{name}{'?' if name in self.optional else ''}={path.text}" for name, path in self.paths.items()
        )

    @property
    def decides(self) -> FieldPath | None:
        """The path of the verdict or the reward; None where there is neither."""
        return self.paths.get("verdict") or self.paths.get("reward")

    @property
    def counts(self) -> bool:
        """Whether a row holds the counts of a problem rather than rollouts."""
        return "n" in self.paths

    @property
    def judged(self) -> bool:
        """Whether the file says which rollouts are correct."""
        return self.counts or self.decides is not None

    @property
    def roots(self) -> frozenset[str]:
        """The fields of a row that the paths begin with."""
        every = (*self.paths.values(), *(path for path, _ in self.where))
        return frozenset(path.root for path in every if path.root is not None)

    def options(self) -> dict[str, object]:
        """The mapping as it is recorded in a run: texts only."""
        recorded: dict[str, object] = {"map": str(self)}
        if self.where:
            recorded["where"] = [f"{path.text}={value}" for path, value in self.where]
        if self.correct is not None:
            recorded["correct"] = f"{self.correct.operator}{self.correct.bound}"
        if self.no_answer:
            recorded["no_answer"] = sorted(self.no_answer)
        return recorded

    def _lacks(self) -> str | None:
        """What the mapping lacks, or has too much of; None where it can be used."""
        names = self.paths.keys()
        if not {"problem", "question"} & names:
            return "must map problem= or question=, which identifies the problem"
        if ("n" in names) != ("c" in names):
            return "must map both n= and c=, the rollouts and the correct ones"
        if self.counts and {"text", "answer", "verdict", "reward", "index"} & names:
            return "maps counts (n=, c=) and single rollouts: map one of them"
        if {"verdict", "reward"} <= names:
            return "maps verdict= and reward=: map the one that decides what is correct"
        if not self.counts and not {"text", "verdict", "reward"} & names:
            return "must map text= (the response), verdict= (whether it is right), or counts n= and c="
        if "reward" in names and self.correct is None:
            return "maps reward=: say which rewards are correct, such as --correct '>=1'"
        return None


def split_pairs(option: str, text: str) -> Iterator[tuple[str, bool, str]]:
    """The pairs of a text ``field=path,field?=path``: field, whether it may be absent, path. Raises BadArgument."""
    if _PIECES.sub("", text).strip(", \n"):
        raise BadArgument(option, text, 'has a quotation mark without its second one; write \\" for the character')
    for piece in _PIECES.findall(text):
        if not piece.strip():
            continue
        match = _PAIR.fullmatch(piece)
        if match is None or not match["field"] or not match["path"].strip():
            raise BadArgument(option, text, f"must be field=path pairs between commas; {piece.strip()!r} is none")
        yield match["field"], bool(match["optional"]), match["path"].strip()


def _path(option: str, shown: str, text: str) -> FieldPath:
    try:
        return FieldPath.parse(text)
    except ValueError as error:
        raise BadArgument(
            option, shown, f"is no path: it {error}. Write names with dots, as in rollouts[].text"
        ) from error


def _condition(text: str) -> tuple[FieldPath, str]:
    match = re.fullmatch(r"((?:\\.|\"(?:\\.|[^\"\\])*\"|[^=\"\\])+)=(.*)", text, re.DOTALL)
    if match is None:
        raise BadArgument("--where", text, "must be field=value")
    return _path("--where", text, match[1]), match[2].strip()
