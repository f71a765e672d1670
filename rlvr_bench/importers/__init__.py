"""Rollouts and counts that other programs wrote, read into our run format; one file per program."""

from __future__ import annotations

from rlvr_bench.importers import counts, evalplus, inspect_logs, lighteval, lm_eval, nemo_skills, verl
from rlvr_bench.importers.entries import Count, Entry, Format, Origin, Response

__all__ = ["FORMATS", "Count", "Entry", "Format", "Origin", "Response"]

FORMATS = tuple(each.FORMAT for each in (nemo_skills, lm_eval, lighteval, inspect_logs, evalplus, verl, counts))
