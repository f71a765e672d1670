"""A user's function as a verifier, imported again by name in each worker."""

from __future__ import annotations

import functools
import hashlib
import importlib
import importlib.machinery
import inspect
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar, Self

from rlvr_bench.errors import VerifierError
from rlvr_bench.records import Problem, Verdict
from rlvr_bench.source_files import run_source
from rlvr_bench.verifiers.base import PolicyVerifier
from rlvr_bench.verifiers.protocol import Extraction

__all__ = ["FunctionVerifier"]

VerifyFunction = Callable[[str, Problem], Verdict | bool]


@functools.lru_cache(maxsize=32)
def _load(target: str) -> VerifyFunction:
    source, _, attribute = target.rpartition(":")
    try:
        module = _load_file(Path(source)) if source.endswith(".py") else importlib.import_module(source)
        function: VerifyFunction = functools.reduce(getattr, attribute.split("."), module)  # type: ignore[assignment]
    except (ImportError, AttributeError, OSError) as error:
        raise VerifierError(f"cannot load the verifier function {target!r}: {error}") from error
    if not callable(function):
        raise VerifierError(f"{target!r} is not a function of (response, problem)")
    return function


def _load_file(path: Path) -> object:
    name = f"rlvr_bench_user_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    return run_source(path, name)


def _importable(module: str) -> bool:
    """Whether a fresh interpreter with our search path would find the module."""
    try:
        spec = importlib.machinery.PathFinder.find_spec(module.partition(".")[0])
    except (ImportError, ValueError):
        return False
    return spec is not None


class FunctionVerifier:
    """Wraps ``function(response, problem) -> Verdict`` (or bool), named ``package.module:attribute`` or ``file.py:attribute``.

    The function gets the whole response (or what ``policy`` extracts). It is loaded in the workers, never in the caller.
    ``version`` identifies cached verdicts: change it when the function changes (for a function in a file, the file's
    content counts too). Raises VerifierError for a name of another form.
    """

    name: ClassVar[str] = "function"
    warm_before_fork: ClassVar[bool] = False  # a user's module may start threads, which do not survive a fork

    def __init__(self, function: str, policy: str = "whole", version: str = "1") -> None:
        source, colon, attribute = function.rpartition(":")
        if not (colon and source and attribute.replace(".", "").isidentifier()):
            raise VerifierError(
                f"verifier function {function!r} must be 'package.module:function' or 'file.py:function'"
            )
        self._target, self._version = function, version
        self._taking = PolicyVerifier(policy=policy)

    @classmethod
    def of(cls, function: VerifyFunction, policy: str = "whole", version: str = "1") -> Self:
        """Wrap a function object. Raises VerifierError where workers could not import it from its module or file."""
        module, name = inspect.getmodule(function), getattr(function, "__qualname__", "<lambda>")
        if module is None or "<" in name:
            raise VerifierError(f"verifier function {name} must be defined at the top level of a module or file")
        if module.__name__ == "__main__":
            raise VerifierError(
                f"verifier function {name} is defined in the running script: move it to a separate module"
            )
        file = getattr(module, "__file__", None)
        # A module that a worker can import is named; a module loaded by path (a task file) is given by its path.
        if file and not _importable(module.__name__):
            return cls(f"{Path(file).resolve()}:{name}", policy, version)
        return cls(f"{module.__name__}:{name}", policy, version)

    @property
    def version(self) -> str:
        """The given version; for a function in a file also the file's hash, so that an edited file grades again."""
        source = Path(self._target.rpartition(":")[0])
        if source.suffix != ".py" or not source.is_file():
            return self._version
        return f"{self._version}+{hashlib.sha256(source.read_bytes()).hexdigest()[:8]}"

    @property
    def options(self) -> Mapping[str, object]:
        return {"function": self._target, "policy": self._taking.policy}

    def warm_up(self) -> None:
        """Load the function, so that its imports are not charged to the first item."""
        _load(self._target)

    def read_gold(self, answer: str) -> str:
        """The answer unchanged: only the function knows what it means."""
        return answer

    def extract(self, response: str) -> Extraction:
        return self._taking.extract(response)

    def key(self, answer: str) -> str:
        return answer

    def verify(self, answer: str, problem: Problem) -> Verdict:
        verdict = _load(self._target)(answer, problem)
        if isinstance(verdict, bool):
            return Verdict(status="correct" if verdict else "wrong")
        return verdict
