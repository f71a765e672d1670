"""Single-turn environments of the package verifiers: their rewards, turned into right or wrong by a threshold.

A reward is another project's code on a model's text. So it runs in the sandbox of `scoring`, where it has no network, no
process of its own and no file to write.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import json
import math
import re
import signal
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import ClassVar

from rlvr_bench.errors import VerifierError
from rlvr_bench.records import Problem, Verdict
from rlvr_bench.verifiers.base import PolicyVerifier
from rlvr_bench.verifiers.scoring import Library, Scored, open_scorers

__all__ = ["VerifiersVerifier", "check_installed", "module_of", "release_of", "score_response"]

_CPU_S = 5.0
_ROUNDING = 1e-9  # 0.7 + 0.2 + 0.1 is less than 1
_NAME = re.compile(r"(?:[\w-]+/)?([\w-]+)(?:@[\w.-]+)?", re.ASCII)
_REMEDY = "pip install 'verifiers>=0.4'"


@dataclasses.dataclass(frozen=True, kw_only=True)
class VerifiersVerifier(PolicyVerifier):
    """Right if the environment's reward reaches ``threshold``; ``reward`` names one of its rewards (empty: the weighted sum).

    ``environment`` is the name that verifiers knows it by, ``settings`` its configuration as JSON, ``release`` the versions
    whose verdicts these are. A problem's data holds the environment's ``task``. A wrong response with a reward above 0 has
    kind ``partial``. Raises VerifierError for a threshold that is no number, for a name that is none of an environment, and
    where there is no sandbox and ``allow_unsafe`` is False.
    """

    name: ClassVar[str] = "verifiers"
    warm_before_fork: ClassVar[bool] = False  # each worker starts its sandbox after the fork
    policy: str = "whole"
    environment: str = ""
    settings: str = "{}"
    reward: str = ""
    threshold: float = 1.0
    release: str = ""
    allow_unsafe: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if not math.isfinite(self.threshold):
            raise VerifierError(f"verifier {self.name!r}: option threshold={self.threshold!r} is not a number")

    @property
    def wall_s(self) -> float:
        """Seconds that a pool adds to its wall limit: time to start a sandbox after one was lost."""
        return 60.0

    @property
    def library(self) -> Library:
        """What the sandbox loads."""
        opening = {"environment": self.environment, "settings": json.loads(self.settings), "reward": self.reward}
        return Library(
            name=self.name,
            remedy=_REMEDY,
            modules=("verifiers", module_of(self.environment)),
            guarded=False,
            opening=json.dumps(opening, sort_keys=True),
        )

    def warm_up(self) -> None:
        check_installed()
        open_scorers(self.library, allow_unsafe=self.allow_unsafe).start()

    def read_gold(self, answer: str) -> str:
        """The answer unchanged: the environment's task decides."""
        return answer

    def verify(self, answer: str, problem: Problem) -> Verdict:
        scored = score_response(self, answer, problem)
        if scored.failed:
            return Verdict(status="error", answer=answer, kind=scored.failed, message=scored.message)
        if scored.score >= self.threshold - _ROUNDING:
            return Verdict(status="correct", answer=answer)
        return Verdict(status="wrong", answer=answer, kind="partial" if scored.score > 0 else None)


def score_response(verifier: VerifiersVerifier, response: str, problem: Problem) -> Scored:
    """The environment's reward for a response. Raises VerifierError as ``VerifiersVerifier``, and without a task."""
    entry = problem.data.get("task")
    if not isinstance(entry, dict):
        raise VerifierError(f"problem {problem.id!r} has no task in its data, which verifiers scores by")
    check_installed()
    # In a worker, the CPU time left to this answer: the pool counts only the worker's time, not the sandbox's.
    cpu_s = signal.getitimer(signal.ITIMER_PROF)[0] or _CPU_S
    scorers = open_scorers(verifier.library, allow_unsafe=verifier.allow_unsafe)
    return scorers.score(verifier.environment, response, entry, cpu_s)


def check_installed() -> None:
    """Raises VerifierError where there is no verifiers of version 0.4 or later."""
    if importlib.util.find_spec("verifiers") is None or importlib.util.find_spec("verifiers.v1") is None:
        raise VerifierError(f"environments need the package: {_REMEDY}")


def module_of(environment: str) -> str:
    """The module that verifiers imports for a name such as ``wordle``, ``owner/reverse-text`` or ``gsm8k@0.1``.

    Raises VerifierError for a name that is none of an environment.
    """
    name = _NAME.fullmatch(environment)
    if name is None:
        raise VerifierError(
            f"{environment[:100]!r} is not the name of an environment, such as gsm8k or owner/gsm8k@0.1"
        )
    return name[1].replace("-", "_").lower()


def release_of(environment: str) -> str:
    """The versions that decide a reward: of verifiers and of the environment, or the hash of a file without a version."""
    return f"verifiers {_version('verifiers')}, {environment} {_version(module_of(environment))}"


def _version(module: str) -> str:
    try:
        return version(module.replace("_", "-"))
    except PackageNotFoundError:
        spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        return "(not installed)"
    folder = Path(spec.origin).parent
    files = sorted(folder.rglob("*.py")) if spec.submodule_search_locations is not None else [Path(spec.origin)]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:8]
