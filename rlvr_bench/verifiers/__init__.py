"""The verifiers by name, and `open_verifier`, which makes one with its options."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from rlvr_bench.errors import UnknownName, VerifierError
from rlvr_bench.verifiers.code import CodeVerifier
from rlvr_bench.verifiers.deciding import Decider
from rlvr_bench.verifiers.exact import ChoiceVerifier, ExactVerifier, IntegerVerifier, RegexVerifier
from rlvr_bench.verifiers.function import FunctionVerifier
from rlvr_bench.verifiers.gym import ReasoningGymVerifier
from rlvr_bench.verifiers.isolation import VerifierPool
from rlvr_bench.verifiers.many import Verification, verify_many
from rlvr_bench.verifiers.math import MathVerifier
from rlvr_bench.verifiers.protocol import Extraction, Verifier
from rlvr_bench.verifiers.puzzle import CountdownVerifier

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

VERIFIERS: dict[str, Callable[..., Verifier]] = {
    "choice": ChoiceVerifier,
    "code": CodeVerifier,
    "countdown": CountdownVerifier,
    "exact": ExactVerifier,
    "function": FunctionVerifier,
    "integer": IntegerVerifier,
    "math": MathVerifier,
    "reasoning_gym": ReasoningGymVerifier,
    "regex": RegexVerifier,
}


def open_verifier(name: str, **options: Any) -> Verifier:
    """The verifier called ``name``, with its options.

    Raises UnknownName (which lists the verifiers) for another name, and VerifierError for an unknown option (it lists the
    known ones) or a value that is not allowed.
    """
    if name not in VERIFIERS:
        raise UnknownName("verifier", name, VERIFIERS)
    factory = VERIFIERS[name]
    known = list(inspect.signature(factory).parameters)
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise VerifierError(
            f"verifier {name!r} has no option {', '.join(unknown)}. It has: {', '.join(known) or 'none'}."
        )
    try:
        return factory(**options)
    except TypeError as error:
        raise VerifierError(f"verifier {name!r}: {error}. Its options: {', '.join(known)}.") from error
