"""The law of a token under sampling parameters, computed by hand, and a test of draws against it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import stats as scipy_stats

from rlvr_bench.records import SamplingParameters


def law(
    logits: npt.NDArray[np.float64], prompt: Sequence[int], drawn: Sequence[int], sampling: SamplingParameters
) -> npt.NDArray[np.float64]:
    """By definition, one token at a time: penalties, temperature, min-p, top-k, top-p."""
    lowered = logits.astype(np.float64).copy()
    for token in {*prompt, *drawn}:
        value = lowered[token]
        lowered[token] = value / sampling.repetition_penalty if value > 0 else value * sampling.repetition_penalty
    for token in set(drawn):
        lowered[token] -= sampling.presence_penalty
    p = np.exp((lowered - lowered.max()) / sampling.temperature)
    p[p < sampling.min_p * p.max()] = 0
    order = np.argsort(-p, kind="stable")
    if sampling.top_k:
        p[order[sampling.top_k :]] = 0
    p /= p.sum()
    mass = 0.0
    for token in order:
        if mass >= sampling.top_p:
            p[token] = 0
        mass += p[token]
    return np.asarray(p / p.sum())


def p_value(ids: npt.NDArray[np.int64], expected: npt.NDArray[np.float64]) -> float:
    """Chi-square of the counts, rare tokens together; 0 where a token was drawn that has no probability."""
    counts = np.bincount(ids, minlength=len(expected))
    if counts[expected == 0].any():
        return 0.0
    common = expected * len(ids) >= 10
    rare = ~common & (expected > 0)
    observed, wanted = counts[common].tolist(), (expected[common] * len(ids)).tolist()
    if rare.any():
        observed.append(counts[rare].sum())
        wanted.append(expected[rare].sum() * len(ids))
    return float(scipy_stats.chisquare(observed, wanted).pvalue) if len(observed) > 1 else 1.0
