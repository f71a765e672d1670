"""Follows a training run: evaluates every new checkpoint of a folder, and keeps its series and report up to date."""

from __future__ import annotations

from rlvr_bench.following.follower import Followed, FollowOptions, follow

__all__ = ["FollowOptions", "Followed", "follow"]
