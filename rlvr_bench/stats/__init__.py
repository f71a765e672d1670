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
from rlvr_bench.stats.diversity import (
    answer_entropy,
    rarefied_distinct,
)
from rlvr_bench.stats.extrapolation import (
    Extrapolation,
    PowerLaw,
    extrapolate_pass_at_k,
    fit_power_law,
)
from rlvr_bench.stats.intervals import (
    Interval,
)
from rlvr_bench.stats.majority import (
    maj_at_k,
)
from rlvr_bench.stats.missing import (
    n_rises_as_rate_falls,
    pass_bounds,
    pass_bounds_any_rule,
)
from rlvr_bench.stats.posterior import (
    JEFFREYS,
    UNIFORM,
    PosteriorPass,
    fit_beta_prior,
    pass_at_k_posterior,
)
from rlvr_bench.stats.relabelled import (
    PassBounds,
    pass_at_k_relabelled,
)
from rlvr_bench.stats.resampling import (
    PairedInterval,
    Resampling,
    bootstrap,
    bootstrap_mean,
    paired_bootstrap,
    paired_bootstrap_mean,
)
from rlvr_bench.stats.rollout_error import (
    rollout_interval,
)
from rlvr_bench.stats.significance import (
    holm,
    mcnemar,
    minimum_detectable_effect,
    problems_needed,
    rollouts_needed,
)
from rlvr_bench.stats.solve_rate import (
    auc_at_k,
    failure_at_k,
    mean_pass_at_k,
    pass_at_k,
    pass_at_k_variance,
    pass_hat_k,
)
from rlvr_bench.stats.stopped import (
    pass_at_k_stopped,
    pass_at_k_stopped_variance,
)
from rlvr_bench.stats.thresholds import (
    cover_at_tau,
    cover_at_tau_posterior,
    g_pass_at_k,
    max_at_k,
    mg_pass_at_k,
)
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
    "JEFFREYS",
    "UNIFORM",
    "Bounds",
    "EntropyFit",
    "Extrapolation",
    "Interval",
    "PairedInterval",
    "PassBounds",
    "PosteriorPass",
    "PowerLaw",
    "Resampling",
    "SupportDynamics",
    "Unsolved",
    "answer_entropy",
    "auc_at_k",
    "bootstrap",
    "bootstrap_mean",
    "cover_at_tau",
    "cover_at_tau_posterior",
    "entropy_bounds",
    "entropy_performance_fit",
    "expected_support_dynamics",
    "expected_unsolved",
    "extrapolate_pass_at_k",
    "failure_at_k",
    "fit_beta_prior",
    "fit_power_law",
    "g_pass_at_k",
    "high_entropy_threshold",
    "holm",
    "maj_at_k",
    "max_at_k",
    "mcnemar",
    "mean_pass_at_k",
    "mg_pass_at_k",
    "minimum_detectable_effect",
    "n_rises_as_rate_falls",
    "nucleus_bounds",
    "nucleus_size",
    "null_support_dynamics",
    "paired_bootstrap",
    "paired_bootstrap_mean",
    "pass_at_k",
    "pass_at_k_posterior",
    "pass_at_k_relabelled",
    "pass_at_k_stopped",
    "pass_at_k_stopped_variance",
    "pass_at_k_variance",
    "pass_bounds",
    "pass_bounds_any_rule",
    "pass_hat_k",
    "perplexity",
    "positional_profile",
    "problems_needed",
    "rarefied_distinct",
    "rollout_interval",
    "rollouts_needed",
    "support_dynamics",
    "token_entropy",
    "unsolved_upper_bound",
]
