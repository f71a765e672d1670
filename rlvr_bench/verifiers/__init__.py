"""Verifiers by name, and what runs one over many answers."""

from __future__ import annotations

from rlvr_bench.verifiers.deciding import Decider
from rlvr_bench.verifiers.function import FunctionVerifier
from rlvr_bench.verifiers.isolation import VerifierPool
from rlvr_bench.verifiers.many import Verification, verify_many
from rlvr_bench.verifiers.protocol import Extraction, Verifier
from rlvr_bench.verifiers.table import VERIFIERS, open_verifier

__all__ = [
    "VERIFIERS",
    "Decider",
    "Extraction",
    "FunctionVerifier",
    "Verification",
    "Verifier",
    "VerifierPool",
    "open_verifier",
    "verify_many",
]
