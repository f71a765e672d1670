"""Labels of rollouts: read from a JSONL file, checked against the run, and stored next to it in ``labels.json``."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np

from rlvr_bench.errors import DataError, in_one_line
from rlvr_bench.labelling.sampling import rollout_keys, stored_hashes
from rlvr_bench.received import open_regular
from rlvr_bench.records import Outcomes
from rlvr_bench.store.locks import lock_folder
from rlvr_bench.store.record_files import record_if_there, write_record
from rlvr_bench.store.run import Run

__all__ = ["Label", "Labels", "add_labels", "labels_of_responses", "read_label_file", "read_labels"]

_FILE = "labels.json"
_MOST_BYTES = 100_000_000
_LONGEST_LINE = 100_000
_WORDS = {True: "right", False: "wrong", None: "unsure"}


class Label(msgspec.Struct, frozen=True, kw_only=True):
    """Whether one rollout is truly ``right``, whatever its verdict; None if ``by`` is unsure.

    ``text_hash``: of the response that was seen, as text; empty where the file does not say.
    """

    problem_id: str
    index: int
    right: bool | None
    by: str
    text_hash: str = ""


class Labels(msgspec.Struct, frozen=True, kw_only=True):
    """All labels of a run, each with the hash of the response that it is about."""

    schema: Literal[1] = 1
    labels: tuple[Label, ...] = ()


def read_label_file(file: Path) -> list[Label]:
    """The labels of a JSONL file, one object a line: problem_id, index, right (true, false, or null: unsure), by.

    Raises DataError, which names the file and the line, for a file that cannot be read, is too large, or holds anything
    else.
    """
    labels: list[Label] = []
    decoder = msgspec.json.Decoder(Label)
    try:
        with open_regular(file) as lines:
            read = 0
            for number, line in enumerate(iter(lambda: lines.readline(_LONGEST_LINE + 1), b""), 1):
                read += len(line)
                if len(line) > _LONGEST_LINE or read > _MOST_BYTES:
                    limit = f"at most {_LONGEST_LINE:,} bytes a line and {_MOST_BYTES:,} in all"
                    raise DataError(f"{file} line {number}: too large for a file of labels ({limit})")
                if line.strip():
                    labels.append(_decoded(decoder, line, f"{file} line {number}"))
    except OSError as error:
        raise DataError(f"{file}: {error.strerror or error}") from error
    if not labels:
        raise DataError(f"{file}: no labels in it")
    return labels


def _decoded(decoder: msgspec.json.Decoder[Label], line: bytes, where: str) -> Label:
    try:
        label = decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        wanted = '{"problem_id": "p1", "index": 0, "right": true, "by": "ann"}'
        raise DataError(f"{where}: not a label ({in_one_line(str(error))}). A line looks like {wanted}") from error
    if not label.by.strip() or not 0 <= label.index < 2**31:
        raise DataError(f"{where}: a label needs a name in `by` and an index from 0 to 2,147,483,647")
    return label


def read_labels(run: Run) -> Labels:
    """The labels stored with the run; none where there is no file. Raises RunError where it is damaged."""
    remedy = "Restore it from a copy, or delete it and read the label files again."
    return record_if_there(run.path / _FILE, Labels, remedy) or Labels()


def add_labels(run: Run, outcomes: Outcomes, labels: Sequence[Label], source: str = "the labels") -> Labels:
    """Check labels against the run and store them. A label replaces an earlier one of the same rollout by the same name.

    All are stored or none. Raises DataError, which names ``source``: a rollout that the run does not have, a label of
    another response (another run, or drawn again), or two labels of one rollout, one right and one wrong. StorageError.
    """
    checked = _checked(run, outcomes, labels, source)
    _refuse_contradictions(checked, source)
    with lock_folder(run.path):
        given = {_key(label) for label in checked}
        earlier = [label for label in read_labels(run).labels if _key(label) not in given]
        everything = [*earlier, *{_key(label): label for label in checked}.values()]
        _refuse_contradictions(everything, f"{source}, with the labels stored before")
        stored = Labels(labels=tuple(everything))
        write_record(run.path / _FILE, stored, indent=1)
    return stored


def _key(label: Label) -> tuple[str, int, str]:
    return label.problem_id, label.index, label.by


def _checked(run: Run, outcomes: Outcomes, labels: Sequence[Label], source: str) -> list[Label]:
    """The labels with the hashes of the stored responses."""
    number = {name: i for i, name in enumerate(outcomes.problem_ids)}
    keys = rollout_keys(outcomes)
    wanted = np.array([number.get(label.problem_id, -1) << 32 | label.index for label in labels], dtype=np.int64)
    rows = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    for label in itertools.compress(labels, keys[rows] != wanted):
        raise DataError(
            f"{source}: {run.path} has no rollout {label.index} of problem {in_one_line(label.problem_id, 60)!r}. Are "
            "these labels of another run?"
        )
    distinct, at = np.unique(rows, return_inverse=True)
    hashes = stored_hashes(run, outcomes, distinct)[at]
    for label, text_hash in zip(labels, hashes.tolist(), strict=True):
        if label.text_hash not in ("", str(text_hash)):
            raise DataError(
                f"{source}: rollout {label.index} of problem {in_one_line(label.problem_id, 60)!r} has another response in "
                f"{run.path}. The labels are of another run, or the rollout was drawn again."
            )
    return [
        msgspec.structs.replace(label, text_hash=str(text_hash))
        for label, text_hash in zip(labels, hashes.tolist(), strict=True)
    ]


def _refuse_contradictions(labels: Iterable[Label], source: str) -> None:
    decided: dict[tuple[str, int], Label] = {}
    for label in labels:
        if label.right is None:
            continue
        other = decided.setdefault((label.problem_id, label.index), label)
        if other.right != label.right:
            raise DataError(
                f"{source}: rollout {label.index} of problem {in_one_line(label.problem_id, 60)!r} is "
                f"{_WORDS[other.right]} by {in_one_line(other.by, 40)} and {_WORDS[label.right]} by "
                f"{in_one_line(label.by, 40)}. Let one of them label it anew; null means unsure."
            )


def labels_of_responses(run: Run, outcomes: Outcomes) -> dict[int, bool | None]:
    """The stored labels by row of ``outcomes``; None where all are unsure. Labels of responses drawn again do not count.

    Raises RunError where the file is damaged.
    """
    number = {name: i for i, name in enumerate(outcomes.problem_ids)}
    row = {key: i for i, key in enumerate(rollout_keys(outcomes).tolist())}
    rows = [(row.get(number.get(each.problem_id, -1) << 32 | each.index), each) for each in read_labels(run).labels]
    known = [(at, label) for at, label in rows if at is not None]
    hashes = stored_hashes(run, outcomes, np.array([at for at, _ in known], dtype=np.int64))
    by_row: dict[int, bool | None] = {}
    for (at, label), text_hash in zip(known, hashes.tolist(), strict=True):
        if label.text_hash == str(text_hash) and by_row.get(at) is None:
            by_row[at] = label.right
    return by_row
