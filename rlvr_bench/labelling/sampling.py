"""The audit's sample: rollouts drawn at random from each cell, with the chance that each had to be drawn."""

from __future__ import annotations

import hashlib
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt

from rlvr_bench.errors import BadArgument, RunError
from rlvr_bench.labelling.cells import CELLS, cell_of_rollouts
from rlvr_bench.records import Outcomes
from rlvr_bench.store.record_files import damaged, record_if_there, write_record
from rlvr_bench.store.run import Run

__all__ = [
    "AuditSample",
    "SampledRollout",
    "draw_sample",
    "read_sample",
    "rollout_keys",
    "sampling_chances",
    "stored_hashes",
]

_FILE = "audit_sample.json"


class SampledRollout(msgspec.Struct, frozen=True, kw_only=True):
    """A sampled rollout, the hash of its response, and its ``chance`` of being in the sample."""

    problem_id: str
    index: int
    text_hash: int
    chance: float


class AuditSample(msgspec.Struct, frozen=True, kw_only=True):
    """The rollouts that a run's audit asks to be labelled, in random order."""

    schema: Literal[1] = 1
    seed: int
    rollouts: tuple[SampledRollout, ...]


def draw_sample(run: Run, outcomes: Outcomes, size: int, seed: int = 0) -> AuditSample:
    """Sample about ``size`` rollouts, the same number from every cell that has enough, and write ``audit_sample.json``.

    Every rollout has a random number that depends on seed, problem and index only; of a cell those with the smallest
    numbers are sampled. A larger sample therefore contains a smaller one, and the rollouts of an earlier sample with this
    seed stay, also after new verdicts: their chance is the larger of both. Of a run under a stopping rule only the rollouts
    that the rule did not choose are sampled. Raises BadArgument for a size below 1, RunError where no rollout has a verdict
    or the earlier sample has another seed, StorageError.
    """
    if size < 1:
        raise BadArgument("--sample", size, "it must be at least 1")
    outcomes = outcomes.fair()
    chance = sampling_chances(outcomes, size, seed, _earlier(run, outcomes, seed))
    rows = np.flatnonzero(chance)
    if not len(rows):
        raise RunError(f"{run.path}: no rollout has a verdict, so there is nothing to sample")
    rows = rows[np.argsort(_random_numbers(outcomes, seed)[rows] / chance[rows], kind="stable")]
    hashes = stored_hashes(run, outcomes, rows)
    sample = AuditSample(
        seed=seed,
        rollouts=tuple(
            SampledRollout(
                problem_id=outcomes.problem_ids[outcomes.problem[row]],
                index=int(outcomes.index[row]),
                text_hash=int(text_hash),
                chance=float(chance[row]),
            )
            for row, text_hash in zip(rows.tolist(), hashes.tolist(), strict=True)
        ),
    )
    write_record(run.path / _FILE, sample, indent=1)
    return sample


def sampling_chances(
    outcomes: Outcomes, size: int, seed: int = 0, earlier: npt.NDArray[np.float64] | None = None
) -> npt.NDArray[np.float64]:
    """The chance of being sampled of each sampled rollout, (R,), 0 for those that are not (``draw_sample``)."""
    cell, number = cell_of_rollouts(outcomes), _random_numbers(outcomes, seed)
    chance = np.zeros(len(cell)) if earlier is None else earlier.copy()
    sizes = np.bincount(cell[cell >= 0], minlength=len(CELLS))
    for kind, share in enumerate(_shared_out(size, sizes).tolist()):
        rows = np.flatnonzero(cell == kind)
        sampled = rows[np.argsort(number[rows], kind="stable")[:share]]
        known = rows[chance[rows] > 0]
        chance[np.union1d(sampled, known)] = np.maximum(chance[np.union1d(sampled, known)], share / max(len(rows), 1))
    return chance


def read_sample(run: Run) -> AuditSample | None:
    """The run's sample; None where none was drawn. Raises RunError where the file is damaged."""
    file, remedy = run.path / _FILE, "Delete it and draw the sample again: the labels are stored in another file."
    sample = record_if_there(file, AuditSample, remedy)
    if sample is not None and not all(0 < rollout.chance <= 1 for rollout in sample.rollouts):
        raise damaged(file, ValueError("a chance outside (0, 1]"), remedy)
    return sample


def rollout_keys(outcomes: Outcomes) -> npt.NDArray[np.int64]:
    """A number for each rollout, (R,), rising: problem and index."""
    return np.asarray(outcomes.problem.astype(np.int64) << 32 | outcomes.index)


def stored_hashes(run: Run, outcomes: Outcomes, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The hash of the stored response of these rollouts, (m,)."""
    keys, hashes = rollout_keys(outcomes)[rows], np.zeros(len(rows), dtype=np.int64)
    order = np.argsort(keys)
    number = {name: i for i, name in enumerate(outcomes.problem_ids)}
    for table in run.rollouts.read(["problem_id", "index", "text_hash"]) if len(rows) else ():
        names = table["problem_id"].combine_chunks()
        numbers = np.array([number.get(name, -1) for name in names.dictionary.to_pylist()], dtype=np.int64)
        here = numbers[names.indices.to_numpy()] << 32 | table["index"].to_numpy()
        at = order[np.minimum(np.searchsorted(keys, here, sorter=order), len(keys) - 1)]
        same = keys[at] == here
        hashes[at[same]] = table["text_hash"].to_numpy()[same]
    return hashes


def _shared_out(size: int, sizes: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """How many to sample from cells of these sizes, (S,): equal numbers; what a small cell lacks goes to the others."""
    shares = np.zeros_like(sizes)
    for place, cell in enumerate(np.argsort(sizes, kind="stable").tolist()):
        cells_left = len(sizes) - place
        shares[cell] = min(int(sizes[cell]), -(-(size - int(shares.sum())) // cells_left))
    return np.maximum(shares, 0)


def _random_numbers(outcomes: Outcomes, seed: int) -> npt.NDArray[np.float64]:
    """A number in [0, 1) for each rollout, (R,), that depends on seed, problem and index (splitmix64 of Steele 2014)."""
    digests = [
        hashlib.blake2b(f"{seed}\0{name}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
        for name in outcomes.problem_ids
    ]
    start = np.frombuffer(b"".join(digests), dtype=">u8").astype(np.uint64)
    mixed = start[outcomes.problem] + (outcomes.index.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return np.asarray((mixed ^ (mixed >> np.uint64(31))) / 2.0**64)


def _earlier(run: Run, outcomes: Outcomes, seed: int) -> npt.NDArray[np.float64]:
    """The chance of the rollouts (R,) of the earlier sample, 0 for others."""
    chance, before = np.zeros(len(outcomes.index)), read_sample(run)
    if before is None:
        return chance
    if before.seed != seed:
        raise RunError(
            f"{run.path}: its sample has the seed {before.seed}, not {seed}. Use that seed, or delete {_FILE}: labels "
            "of rollouts outside the new sample will not count."
        )
    number = {name: i for i, name in enumerate(outcomes.problem_ids)}
    row = {key: i for i, key in enumerate(rollout_keys(outcomes).tolist())}
    for rollout in before.rollouts:
        at = row.get(number.get(rollout.problem_id, -1) << 32 | rollout.index)
        if at is not None:
            chance[at] = rollout.chance
    return chance
