"""Formulas on arrays with named axes: P problems, N rollouts, K budgets. No IO, no globals; an rng is passed in.

Every public function states shapes, units, what it raises and the source of its formula. Bad input raises
``BadArgument``; what is undefined (k above n) is NaN, never a made-up number.
"""

from __future__ import annotations

from rlvr_bench.stats.boundary import (
    SupportDynamics,
    Unsolved,
    expected_support_dynamics,
    expected_unsolved,
    null_support_dynamics,
    support_dynamics,
    unsolved_upper_bound,
)
from rlvr_bench.stats.intervals import Interval
from rlvr_bench.stats.resampling import (
    PairedInterval,
    Resampling,
    bootstrap,
    bootstrap_mean,
    paired_bootstrap,
    paired_bootstrap_mean,
)
from rlvr_bench.stats.solve_rate import auc_at_k, failure_at_k, pass_at_k, pass_at_k_variance, pass_hat_k
from rlvr_bench.stats.tokens import (
    Bounds,
    EntropyFit,
    entropy_bounds,
    entropy_performance_fit,
    high_entropy_threshold,
    nucleus_bounds,
    nucleus_size,
    perplexity,
    positional_profile,
    token_entropy,
)

__all__ = [
    "Bounds",
    "EntropyFit",
    "Interval",
    "PairedInterval",
    "Resampling",
    "SupportDynamics",
    "Unsolved",
    "auc_at_k",
    "bootstrap",
    "bootstrap_mean",
    "entropy_bounds",
    "entropy_performance_fit",
    "expected_support_dynamics",
    "expected_unsolved",
    "failure_at_k",
    "high_entropy_threshold",
    "nucleus_bounds",
    "nucleus_size",
    "null_support_dynamics",
    "paired_bootstrap",
    "paired_bootstrap_mean",
    "pass_at_k",
    "pass_at_k_variance",
    "pass_hat_k",
    "perplexity",
    "positional_profile",
    "support_dynamics",
    "token_entropy",
    "unsolved_upper_bound",
]
