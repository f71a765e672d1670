"""Readers of other programs' rollouts and counts, which become runs in our format."""

from __future__ import annotations

from rlvr_bench.importers.entries import Count, Format, ImportedEntry, Origin, Response
from rlvr_bench.importers.programs import FORMATS

__all__ = ["FORMATS", "Count", "Format", "ImportedEntry", "Origin", "Response"]
