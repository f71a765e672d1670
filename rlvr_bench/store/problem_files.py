"""``problems.jsonl`` of a run: its encoding, and the check against the manifest."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from rlvr_bench.datasets import content_digest
from rlvr_bench.errors import RunError
from rlvr_bench.records import Problem
from rlvr_bench.store.manifest import Manifest

__all__ = ["check_problems_file", "check_same_problems", "encode_problems", "file_digest"]

_SHA256 = re.compile(r"[0-9a-f]{64}")


def encode_problems(problems: Sequence[Problem]) -> bytes:
    """The file's content: one problem a line."""
    return msgspec.json.Encoder().encode_lines(problems)


def file_digest(content: bytes) -> str:
    """SHA-256 (hex) of the file."""
    return hashlib.sha256(content).hexdigest()


def check_same_problems(file: Path, stored: Sequence[Problem], wanted: Sequence[Problem]) -> None:
    """Check that stored problems are the task's, in its order; either list may be the longer one (``--limit``).

    Raises RunError, which names the first problem that differs.
    """
    for at, (mine, theirs) in enumerate(zip(stored, wanted, strict=False)):
        if not _is_same(mine, theirs):
            raise _other_problems(file, f"problem {at + 1} is {mine.id!r}, changed or in another order")


def _is_same(stored: Problem, wanted: Problem) -> bool:
    """Whether two problems are equal. An older run may lack the tier and the cluster."""
    grouped = all(
        mine in ("", theirs) for mine, theirs in ((stored.tier, wanted.tier), (stored.cluster, wanted.cluster))
    )
    return grouped and content_digest([stored]) == content_digest([wanted])


def check_problems_file(
    file: Path, content: bytes, problems: Sequence[Problem], manifest: Manifest, drawn: Callable[[], set[str]]
) -> None:
    """Check that the problems are those of the manifest; ``drawn`` returns the ids that have rollouts.

    The manifest of an older version has the digest of the whole task only. If such a run drew a part of the task
    (``--limit``), the check is that ids are unique and that no problem with rollouts is missing. Raises RunError.
    """
    wrong = _wrong(content, problems, manifest, drawn)
    if wrong:
        raise _other_problems(file, wrong)


def _other_problems(file: Path, wrong: str) -> RunError:
    return RunError(
        f"{file}: not the problems that this run was drawn on ({wrong}). Restore the file, or draw the run again "
        "into another --out folder."
    )


def _wrong(content: bytes, problems: Sequence[Problem], manifest: Manifest, drawn: Callable[[], set[str]]) -> str:
    """What is wrong, or an empty text."""
    if not problems:
        return "it is empty"
    recorded = manifest.problems_file_sha256
    if recorded is not None and file_digest(content) != recorded:
        return f"its SHA-256 is {file_digest(content)[:12]}, the manifest has {recorded[:12]}"
    ids = {problem.id for problem in problems}
    if len(ids) < len(problems):
        return f"{len(problems) - len(ids)} ids are there twice"
    whole = manifest.problems_sha256
    if not _SHA256.fullmatch(whole):
        return ""
    if len(problems) > manifest.n_problems:
        return f"it holds {len(problems)} problems, the task has {manifest.n_problems}"
    if len(problems) == manifest.n_problems:
        digest = content_digest(problems)
        return "" if digest == whole else f"their SHA-256 is {digest[:12]}, the manifest has {whole[:12]}"
    if recorded is None and (missing := drawn() - ids):
        return f"{len(missing)} problems with rollouts are missing from it"
    return ""
