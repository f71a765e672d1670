"""Scorers turn the outcomes of one run into estimates: arrays in, numbers with intervals out, never a text."""

from __future__ import annotations

from rlvr_bench.scorers.boundary import boundary
from rlvr_bench.scorers.entropy import entropy
from rlvr_bench.scorers.quality import quality_rates
from rlvr_bench.scorers.solve_rate import default_ks, pass_at_k

__all__ = ["boundary", "default_ks", "entropy", "pass_at_k", "quality_rates"]
