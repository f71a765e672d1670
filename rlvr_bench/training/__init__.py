"""What a training program takes from us: rewards, advantages and fine-tuning sets.

``rewards``: verdicts as reward functions of TRL, verl, OpenRLHF, slime and prime-rl; ``validation``: numbers for their
validation hooks. The others are pure functions on arrays, without engine and IO.

``advantages``: group-normalised, Pass@k Training, PKPO, shaped by perplexity or by position, and the token masks of
KL-Cov and Clip-Cov; NumPy arrays or torch tensors. ``selection``: rejection-sampling fine-tuning sets, correct
rollouts chosen at random, by entropy or by branching factor, with or without a share of wrong ones.
"""

from __future__ import annotations

from rlvr_bench.training import advantages, selection

__all__ = ["advantages", "selection"]
