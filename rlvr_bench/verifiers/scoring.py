"""Third-party scorers in a sandbox: started once, addressed by name; only plain data crosses.

The grading process never imports the scorers. `scoring_guest` is the program inside.
"""

from __future__ import annotations

import atexit
import base64
import importlib.util
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from rlvr_bench.errors import UnknownName, VerifierError
from rlvr_bench.verifiers import safe_eval, scoring_guest
from rlvr_bench.verifiers.bubblewrap import package_folders
from rlvr_bench.verifiers.sandbox import SampleFailure, Sandbox, SandboxLimits
from rlvr_bench.verifiers.seccomp import scorer_filter

__all__ = ["Scored", "open_scorers"]

_START_S = 60.0
_SPARE_S = 5.0  # added to the time that the guest allows for an answer
_LIMITS = SandboxLimits(cpu_s=60.0)  # of the whole sandbox; each request has the limit of its answer
# Huge pages for the heap halve the cost of forking with the packages loaded; glibc reads their size from the folder.
_ENVIRONMENT = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1", "PYTHONMALLOC": "malloc"}
_HUGE_PAGES = "/sys/kernel/mm/transparent_hugepage"
_FAILURES = {"timeout": "timeout", "memory": "memory"}


class Scored(msgspec.Struct, frozen=True, kw_only=True):
    """``score``, and whether the text asked for more than arithmetic (``refused``); or why there is no score (``failed``).

    ``lacking``: the data of nltk without which there is no score.
    """

    score: float = 0.0
    refused: bool = False
    failed: str | None = None
    lacking: str | None = None


class Library(NamedTuple):
    """A package of scorers: the verifier that uses it, its module, what to install, and what its scorers are called."""

    verifier: str
    module: str
    install: str
    scorers: str


LIBRARIES = {
    "reasoning_gym": Library("reasoning_gym", "reasoning_gym", "reasoning-gym", "reasoning-gym data set"),
    "if_verifiable": Library("instructions", "if_verifiable", "'rlvr-bench[instructions]'", "set of checks"),
}


class Scorers:
    """The sandbox with the scorers of a library; started when first needed, and again after it was lost.

    ``guard``: the file that replaces ``eval`` in the sandbox.
    """

    def __init__(
        self, *, allow_unsafe: bool, guard: Path = Path(safe_eval.__file__), library: str = "reasoning_gym"
    ) -> None:
        self._allow_unsafe, self._guard = allow_unsafe, guard
        self._library, self._name = LIBRARIES[library], library
        self._sandbox: Sandbox | None = None
        self._number = 0

    def close(self) -> None:
        """End the sandbox and everything in it."""
        sandbox, self._sandbox = self._sandbox, None
        if sandbox is not None:
            sandbox.__exit__(None, None, None)

    def start(self) -> None:
        """Raises VerifierError where there is no sandbox, or the library is not installed."""
        if self._sandbox is not None and self._sandbox.alive:
            return
        self.close()
        folders, data = _package_folders(self._library.module), _data_folders()
        spoken = {
            "path": folders,
            "library": self._name,
            "data": data,
            "safe_eval": self._guard.read_text(encoding="utf-8"),
            "filter": base64.b64encode(scorer_filter() or b"").decode(),
        }
        sandbox = Sandbox(
            _LIMITS,
            allow_unsafe=self._allow_unsafe,
            program=Path(scoring_guest.__file__).read_text(encoding="utf-8"),
            spoken=spoken,
            environment=_ENVIRONMENT,
            readable=[*folders, *data, _HUGE_PAGES],
            purpose="run third-party scorers on model output",
        )
        self._sandbox = sandbox.__enter__()
        try:
            reply = self._ask({"op": "hello"}, None, _START_S)
        except SampleFailure as failure:
            self.close()
            raise VerifierError(f"the sandbox for scorers does not start ({failure})") from failure
        if "missing" in reply:
            self.close()
            raise VerifierError(
                f"the verifier {self._library.verifier!r} needs the package: pip install {self._library.install} "
                f"({reply['missing']})"
            )

    def score(self, dataset: str, answer: str, entry: Mapping[str, object], cpu_s: float) -> Scored:
        """The data set's score of an answer to ``entry``, within ``cpu_s`` of CPU time.

        Raises VerifierError like `start`, UnknownName for a data set that does not exist.
        """
        self.start()
        try:
            reply = self._ask(
                {"op": "score", "dataset": dataset, "cpu_s": cpu_s},
                {"answer": answer, "entry": entry},
                4 * cpu_s + 1 + _SPARE_S,
            )
        except BaseException as error:
            self.close()  # its pipe may be in the middle of a frame
            if isinstance(error, SampleFailure):
                return Scored(failed=_FAILURES.get(error.kind, "crash"))
            raise
        if reply.get("lost"):
            self.close()
        if "unknown" in reply:
            raise UnknownName(self._library.scorers, dataset, reply["unknown"])
        if "failed" in reply:
            lacking = reply.get("lacking")
            return Scored(failed=str(reply["failed"]), lacking=None if lacking is None else str(lacking))
        return Scored(score=float(reply["score"]), refused=bool(reply["refused"]))

    def _ask(self, message: Mapping[str, object], attached: object, wall_s: float) -> dict[str, Any]:
        assert self._sandbox is not None
        self._number += 1
        reply = self._sandbox.request({**message, "number": self._number}, wall_s, attached=attached, fresh=True)
        if reply.get("number") != self._number:
            raise SampleFailure("protocol")
        return reply


def _package_folders(module: str) -> list[str]:
    """The folders of installed packages, and the module's where it is elsewhere (a user's folder, PYTHONPATH)."""
    spec = importlib.util.find_spec(module)
    elsewhere = [str(Path(spec.origin).resolve().parents[1])] if spec and spec.origin else []
    return list(dict.fromkeys([*package_folders(), *elsewhere]))


def _data_folders() -> list[str]:
    """The folders where nltk looks for data, those that exist; and the data that llama-index packages for it."""
    named = [Path(folder) for folder in os.environ.get("NLTK_DATA", "").split(os.pathsep) if folder]
    roots = [Path(sys.prefix), Path(sys.prefix, "share"), Path(sys.prefix, "lib"), Path("/usr/share"), Path("/usr/lib")]
    roots += [Path.home(), Path("/usr/local/share"), Path("/usr/local/lib")]
    packaged = [Path(folder, "llama_index", "core", "_static", "nltk_cache") for folder in package_folders()]
    places = [*named, *(root / "nltk_data" for root in roots), *packaged]
    return list(dict.fromkeys(str(place.resolve()) for place in places if place.is_dir()))


_open: dict[tuple[int, bool, str], Scorers] = {}


def open_scorers(*, allow_unsafe: bool, library: str = "reasoning_gym") -> Scorers:
    """The scorers of a library in this process; a forked worker opens new ones. They end with the process."""
    key = (os.getpid(), allow_unsafe, library)
    if key not in _open:
        _open[key] = Scorers(allow_unsafe=allow_unsafe, library=library)
    return _open[key]


@atexit.register
def _close_all() -> None:
    for (pid, *_), scorers in _open.items():
        if pid == os.getpid():
            scorers.close()
