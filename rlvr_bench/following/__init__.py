"""Evaluates while training runs: every new checkpoint of a folder (``follow``), or the model in TRL's memory (``trl``)."""

from __future__ import annotations

from rlvr_bench.following.follower import Followed, FollowOptions, follow

__all__ = ["FollowOptions", "Followed", "follow"]
