"""Formulas on arrays with named axes: P problems, N rollouts, K budgets. No IO, no globals; an rng is passed in.

Every public function states shapes, units, what it raises and the source of its formula. Bad input raises
``BadArgument``; what is undefined (k above n) is NaN, never a made-up number.
"""

from __future__ import annotations

from rlvr_bench.stats.beyond import (
    pass_beyond,
)
from rlvr_bench.stats.boundary import (
    SupportDynamics,
    Unsolved,
    expected_support_dynamics,
    expected_unsolved,
    null_support_dynamics,
    support_dynamics,
    unsolved_upper_bound,
)
from rlvr_bench.stats.copies import (
    Copies,
    copies,
)
from rlvr_bench.stats.diversity import (
    answer_entropy,
    rarefied_distinct,
    rarefied_entropy,
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
    LEVEL,
    REPLICATES,
    PairedInterval,
    Resampling,
    bootstrap,
    bootstrap_mean,
    fresh_rng,
    paired_bootstrap,
    paired_bootstrap_mean,
    resampled_means,
    resampled_weights,
    rising_limits,
)
from rlvr_bench.stats.rollout_error import (
    rollout_interval,
)
from rlvr_bench.stats.sequential import anytime_p_value, anytime_quantile, information
from rlvr_bench.stats.significance import (
    holm,
    mcnemar,
    sign_flip,
)
from rlvr_bench.stats.single_problems import (
    benjamini_hochberg,
    fisher_exact,
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
from rlvr_bench.stats.token_budgets import (
    Splits,
    best_splits,
    pass_at_cost,
)
from rlvr_bench.stats.tokens import (
    EntropyFit,
    entropy_performance_fit,
    high_entropy_threshold,
    nucleus_size,
    perplexity,
    positional_profile,
    token_entropy,
)
from rlvr_bench.stats.turnover import (
    FreshBest,
    Turnover,
    fresh_best,
    turnover,
)
from rlvr_bench.stats.zero_inflation import (
    ZeroInflated,
    cover_under,
    fit_zero_inflated,
    never_solved,
)

__all__ = [
    "JEFFREYS",
    "LEVEL",
    "REPLICATES",
    "UNIFORM",
    "Copies",
    "EntropyFit",
    "Extrapolation",
    "FreshBest",
    "Interval",
    "PairedInterval",
    "PassBounds",
    "PosteriorPass",
    "PowerLaw",
    "Resampling",
    "Splits",
    "SupportDynamics",
    "Turnover",
    "Unsolved",
    "ZeroInflated",
    "answer_entropy",
    "anytime_p_value",
    "anytime_quantile",
    "auc_at_k",
    "benjamini_hochberg",
    "best_splits",
    "bootstrap",
    "bootstrap_mean",
    "copies",
    "cover_at_tau",
    "cover_at_tau_posterior",
    "cover_under",
    "entropy_performance_fit",
    "expected_support_dynamics",
    "expected_unsolved",
    "extrapolate_pass_at_k",
    "failure_at_k",
    "fisher_exact",
    "fit_beta_prior",
    "fit_power_law",
    "fit_zero_inflated",
    "fresh_best",
    "fresh_rng",
    "g_pass_at_k",
    "high_entropy_threshold",
    "holm",
    "information",
    "maj_at_k",
    "max_at_k",
    "mcnemar",
    "mean_pass_at_k",
    "mg_pass_at_k",
    "n_rises_as_rate_falls",
    "never_solved",
    "nucleus_size",
    "null_support_dynamics",
    "paired_bootstrap",
    "paired_bootstrap_mean",
    "pass_at_cost",
    "pass_at_k",
    "pass_at_k_posterior",
    "pass_at_k_relabelled",
    "pass_at_k_stopped",
    "pass_at_k_stopped_variance",
    "pass_at_k_variance",
    "pass_beyond",
    "pass_bounds",
    "pass_bounds_any_rule",
    "pass_hat_k",
    "perplexity",
    "positional_profile",
    "rarefied_distinct",
    "rarefied_entropy",
    "resampled_means",
    "resampled_weights",
    "rising_limits",
    "rollout_interval",
    "sign_flip",
    "support_dynamics",
    "token_entropy",
    "turnover",
    "unsolved_upper_bound",
]
