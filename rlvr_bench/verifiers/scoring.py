"""Third-party scorers in a sandbox: started once, addressed by name; only plain data crosses.

The grading process never imports the scorers. `scoring_guest` is the program inside.
"""

from __future__ import annotations

import atexit
import base64
import importlib.util
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from rlvr_bench.errors import UnknownName, VerifierError, in_one_line
from rlvr_bench.verifiers import safe_eval, scoring_guest
from rlvr_bench.verifiers.bubblewrap import package_folders
from rlvr_bench.verifiers.sandbox import SampleFailure, Sandbox, SandboxLimits
from rlvr_bench.verifiers.seccomp import scorer_filter

__all__ = ["REASONING_GYM", "Library", "Scored", "open_scorers"]

_START_S = 60.0
_SPARE_S = 5.0  # added to the time that the guest allows for an answer
_LIMITS = SandboxLimits(cpu_s=60.0)  # of the whole sandbox; each request has the limit of its answer
# Huge pages for the heap halve the cost of forking with the packages loaded; glibc reads their size from the folder.
_ENVIRONMENT = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1", "PYTHONMALLOC": "malloc"}
_HUGE_PAGES = "/sys/kernel/mm/transparent_hugepage"
_FAILURES = {"timeout": "timeout", "memory": "memory"}
_NO_GUARD = "refusals = []\ndef guard(): pass\n"


class Library(msgspec.Struct, frozen=True, kw_only=True):
    """A package with scorers. ``modules``: the guest may read the folders that they are in. ``remedy``: how to install it.

    ``guarded``: whether `safe_eval` replaces ``eval`` for it. ``opening``: what the guest opens it with, in JSON.
    ``readable``: other folders that the guest may read. ``scorers``: what one of its scorers is called.
    """

    name: str
    remedy: str
    modules: tuple[str, ...]
    guarded: bool = True
    opening: str = "{}"
    readable: tuple[str, ...] = ()
    scorers: str = "scorer"


REASONING_GYM = Library(
    name="reasoning_gym",
    remedy="pip install reasoning-gym",
    modules=("reasoning_gym",),
    scorers="reasoning-gym data set",
)


class Scored(msgspec.Struct, frozen=True, kw_only=True):
    """``score``, and whether the text asked for more than arithmetic (``refused``); or why there is no score (``failed``).

    ``message``: the error of a scorer, in its words. ``missing``: it asked for something that a scorer may not have.
    """

    score: float = 0.0
    refused: bool = False
    failed: str | None = None
    message: str | None = None
    missing: bool = False


class Scorers:
    """The sandbox with a library's scorers; started when first needed, and again after it was lost.

    ``guard``: the file that replaces ``eval`` in the sandbox.
    """

    def __init__(
        self, library: Library = REASONING_GYM, *, allow_unsafe: bool, guard: Path = Path(safe_eval.__file__)
    ) -> None:
        self._library, self._allow_unsafe, self._guard = library, allow_unsafe, guard
        self._sandbox: Sandbox | None = None
        self._number = 0

    def close(self) -> None:
        """End the sandbox and everything in it."""
        sandbox, self._sandbox = self._sandbox, None
        if sandbox is not None:
            sandbox.__exit__(None, None, None)

    def start(self) -> None:
        """Raises VerifierError where there is no sandbox, or the library does not load in it."""
        if self._sandbox is not None and self._sandbox.alive:
            return
        self.close()
        folders = _package_folders(self._library.modules)
        spoken = {
            "path": folders,
            "library": self._library.name,
            "opening": self._library.opening,
            "safe_eval": self._guard.read_text(encoding="utf-8") if self._library.guarded else _NO_GUARD,
            "filter": base64.b64encode(scorer_filter() or b"").decode(),
        }
        sandbox = Sandbox(
            _LIMITS,
            allow_unsafe=self._allow_unsafe,
            program=Path(scoring_guest.__file__).read_text(encoding="utf-8"),
            spoken=spoken,
            environment=_ENVIRONMENT,
            readable=[*folders, *self._library.readable, _HUGE_PAGES],
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
            name, remedy = self._library.name, self._library.remedy
            raise VerifierError(
                f"the verifier {name!r} does not load in its sandbox ({in_one_line(str(reply['missing']))}). It needs: {remedy}"
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
            message = in_one_line(str(reply.get("text", ""))) or None
            return Scored(failed=str(reply["failed"]), message=message, missing=bool(reply.get("refused")))
        return Scored(score=float(reply["score"]), refused=bool(reply["refused"]))

    def _ask(self, message: Mapping[str, object], attached: object, wall_s: float) -> dict[str, Any]:
        assert self._sandbox is not None
        self._number += 1
        reply = self._sandbox.request({**message, "number": self._number}, wall_s, attached=attached, fresh=True)
        if reply.get("number") != self._number:
            raise SampleFailure("protocol")
        return reply


def _package_folders(modules: Sequence[str]) -> list[str]:
    """The folders of packages that can be imported here, and of these modules where they are elsewhere (PYTHONPATH)."""
    folders = package_folders()
    folders += [folder for folder in sys.path if Path(folder).name in ("site-packages", "dist-packages")]
    for module in modules:
        spec = importlib.util.find_spec(module)
        if spec is not None and spec.origin is not None:
            package = spec.submodule_search_locations is not None
            folders.append(str(Path(spec.origin).resolve().parents[1 if package else 0]))
    return list(dict.fromkeys(folders))


_open: dict[tuple[int, bool, Library], Scorers] = {}


def open_scorers(library: Library = REASONING_GYM, *, allow_unsafe: bool) -> Scorers:
    """A library's scorers in this process; a forked worker opens new ones. They end with the process."""
    key = (os.getpid(), allow_unsafe, library)
    if key not in _open:
        _open[key] = Scorers(library, allow_unsafe=allow_unsafe)
    return _open[key]


@atexit.register
def _close_all() -> None:
    for (pid, _, _), scorers in _open.items():
        if pid == os.getpid():
            scorers.close()
