"""Scorers turn the outcomes of one run into estimates: from arrays to numbers with intervals; no text."""

from __future__ import annotations

from rlvr_bench.scorers.boundary import accuracy_histogram, boundary, unsolved_set, unsolved_sizes
from rlvr_bench.scorers.diversity import diversity, text_diversity
from rlvr_bench.scorers.entropy import entropy
from rlvr_bench.scorers.guessing import guessing
from rlvr_bench.scorers.quality import quality, quality_rates
from rlvr_bench.scorers.solve_rate import default_ks, pass_at_k
from rlvr_bench.scorers.thresholds import cover, g_pass, never_solved
from rlvr_bench.scorers.votes import maj

__all__ = [
    "accuracy_histogram",
    "boundary",
    "cover",
    "default_ks",
    "diversity",
    "entropy",
    "g_pass",
    "guessing",
    "maj",
    "never_solved",
    "pass_at_k",
    "quality",
    "quality_rates",
    "text_diversity",
    "unsolved_set",
    "unsolved_sizes",
]
