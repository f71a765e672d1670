"""Hand-made outcomes: one string per problem, one letter per rollout."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from rlvr_bench.records import STATUSES, Outcomes, ProfileSums, StoppingRule

__all__ = ["outcomes", "under_rule", "with_profiles"]


def outcomes(statuses: list[str], **columns: Any) -> Outcomes:
    """One problem per string; each letter a rollout: c(orrect), w(rong), n(o answer), e(rror)."""
    letters = {name[0]: code for code, name in enumerate(STATUSES)}
    problem = np.repeat(np.arange(len(statuses)), [len(s) for s in statuses]).astype(np.int32)
    size = len(problem)
    flat = np.array([letters[letter] for s in statuses for letter in s], dtype=np.int8)
    fields: dict[str, Any] = {
        "problem_ids": tuple(f"p{i}" for i in range(len(statuses))),
        "tiers": ("",) * len(statuses),
        "clusters": ("",) * len(statuses),
        "problem": problem,
        "index": np.concatenate([np.arange(len(s)) for s in statuses]).astype(np.int32),
        "status": flat,
        "answer": np.zeros(size, dtype=np.int32),
        "text": np.arange(size, dtype=np.int32),
        "candidates": np.ones(size, dtype=np.int32),
        "n_tokens": np.full(size, 10, dtype=np.int32),
        "truncated": np.zeros(size, dtype=bool),
        **{
            name: np.full(size, np.nan)
            for name in ("logprob_sum", "entropy_mean", "branching_mean", "high_entropy_share")
        },
        "asked": max(map(len, statuses)),
    }
    return Outcomes(**{**fields, **columns})


def with_profiles(run: Outcomes, profiles: npt.NDArray[np.floating]) -> Outcomes:
    """The run with these profiles of its rollouts, (R, 20), NaN for a bin without tokens."""
    sums = ProfileSums(np.zeros((len(run.problem_ids), 4, 20)), np.zeros((len(run.problem_ids), 4, 20), dtype=np.int64))
    for problem, status, profile in zip(run.problem, run.status, profiles, strict=True):
        sums.total[problem, status] += np.nan_to_num(profile)
        sums.count[problem, status] += ~np.isnan(profile)
    return msgspec.structs.replace(run, entropy_profile=sums)


def under_rule(statuses: list[str], asked: int, stop_after: int, batch: int) -> Outcomes:
    """What a stopping rule keeps of problems drawn in full: each to the end of the batch of its R-th correct rollout."""
    kept = []
    for run in statuses:
        ends = range(batch, asked + 1, batch)
        kept.append(run[: next((end for end in ends if run[:end].count("c") >= stop_after), asked)])
    return outcomes(kept, asked=asked, stopping=StoppingRule(stop_after=stop_after, batch=batch))
