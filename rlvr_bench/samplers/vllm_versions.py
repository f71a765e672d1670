"""The versions of vLLM that can be used: those whose source has all that the token statistics need.

``tools/vllm_wheels.py`` reads the source of a version for these names and signatures.
"""

from __future__ import annotations

import re

from rlvr_bench.errors import EngineError

__all__ = ["VERSIONS", "check_version", "in_words"]

VERSIONS = ("0.26", "0.27", "0.28", "0.29", "0.30", "0.31", "0.32", "0.33")


def in_words() -> str:
    return f"{VERSIONS[0]} to {VERSIONS[-1]}"


def check_version(version: str) -> None:
    """Raises EngineError for a version that is not in ``VERSIONS``; patches, builds and candidates of one are in it."""
    series = re.match(r"\d+\.\d+(?!\d)", version)
    if series is None or series[0] not in VERSIONS:
        raise EngineError(
            f"vLLM {version} is not supported: pip install 'vllm>={VERSIONS[0]},<{_after(VERSIONS[-1])}' "
            f"(rlvr-bench works with {in_words()}), or take --engine transformers"
        )


def _after(series: str) -> str:
    major, minor = series.split(".")
    return f"{major}.{int(minor) + 1}"
