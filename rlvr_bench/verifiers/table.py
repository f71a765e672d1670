"""Verifiers by name: one explicit table, and `open_verifier` to make one with its options."""

from __future__ import annotations

import inspect
from collections.abc import Callable

from rlvr_bench.errors import UnknownName, VerifierError
from rlvr_bench.verifiers.code import CodeVerifier
from rlvr_bench.verifiers.environments import VerifiersVerifier
from rlvr_bench.verifiers.exact import ChoiceVerifier, ExactVerifier, IntegerVerifier, RegexVerifier
from rlvr_bench.verifiers.function import FunctionVerifier
from rlvr_bench.verifiers.gym import ReasoningGymVerifier
from rlvr_bench.verifiers.instructions import InstructionVerifier
from rlvr_bench.verifiers.math import MathVerifier
from rlvr_bench.verifiers.protocol import Verifier
from rlvr_bench.verifiers.puzzle import CountdownVerifier

__all__ = ["VERIFIERS", "open_verifier"]

VERIFIERS: dict[str, Callable[..., Verifier]] = {
    "choice": ChoiceVerifier,
    "code": CodeVerifier,
    "countdown": CountdownVerifier,
    "exact": ExactVerifier,
    "function": FunctionVerifier,
    "instructions": InstructionVerifier,
    "integer": IntegerVerifier,
    "math": MathVerifier,
    "reasoning_gym": ReasoningGymVerifier,
    "regex": RegexVerifier,
    "verifiers": VerifiersVerifier,
}


def open_verifier(name: str, **options: object) -> Verifier:
    """The verifier called ``name``, with its options.

    Raises UnknownName (which lists the verifiers there are) and VerifierError for an option it does not have (which
    lists those it has) or a value that is not allowed.
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
