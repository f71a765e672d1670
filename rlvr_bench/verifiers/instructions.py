"""Instructions that a program can check (IFEval, arXiv 2311.07911; IFBench, arXiv 2507.02833), by the checks of if-verifiable.

The checks are another project's code over a model's text, so they run in the sandbox of `scoring`.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import re
import signal
import sys
from pathlib import Path
from typing import Any, ClassVar

from rlvr_bench.errors import VerifierError
from rlvr_bench.records import Problem, Verdict
from rlvr_bench.verifiers.base import PolicyVerifier, check_option
from rlvr_bench.verifiers.bubblewrap import package_folders
from rlvr_bench.verifiers.scoring import Library, open_scorers
from rlvr_bench.verifiers.scoring_guest import DATA, LOOSE, LackingData

__all__ = ["InstructionVerifier", "read_followed"]

_CPU_S = 5.0
_FOLLOWED = re.compile(r"strict ([0-9]{1,2})/[0-9]{1,2}, loose ([0-9]{1,2})/[0-9]{1,2}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class InstructionVerifier(PolicyVerifier):
    """Right if the response follows every instruction of its prompt; the answer is the whole response after its thought.

    ``checks``: "ifeval" or "ifbench". ``mode``: "strict", or "loose", where an instruction also counts as followed if the
    response follows it without its first or last line or without its asterisks. Outer white space does not count. A
    problem's data holds ``instructions``, their ids, and ``arguments``, a dictionary for each. The kind of a verdict says
    how many were followed in both modes (``strict 1/2, loose 2/2``). Numbers that a check draws at random are seeded with
    the prompt. A check whose language data are not installed is an error that names them. Raises VerifierError for other
    options, a problem without instructions, and where there is no sandbox and ``allow_unsafe`` is False.
    """

    name: ClassVar[str] = "instructions"
    warm_before_fork: ClassVar[bool] = False  # each worker starts its sandbox after the fork
    policy: str = "whole"
    checks: str = "ifeval"
    mode: str = "strict"
    allow_unsafe: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_option(self.name, "checks", self.checks, ("ifeval", "ifbench"))
        check_option(self.name, "mode", self.mode, ("strict", "loose"))

    @property
    def wall_s(self) -> float:
        """Seconds that a pool adds to its wall limit: time to start a sandbox after one was lost."""
        return 60.0

    def warm_up(self) -> None:
        _check_installed()
        open_scorers(_library(), allow_unsafe=self.allow_unsafe).start()

    def read_gold(self, answer: str) -> str:
        """The answer unchanged: the instructions decide."""
        return answer

    def verify(self, answer: str, problem: Problem) -> Verdict:
        instructions, arguments = _instructions(problem)
        entry = {"question": problem.question, "instructions": instructions, "arguments": arguments}
        _check_installed()
        # In a worker, the CPU time left to this answer: the pool counts only the worker's time, not the sandbox's.
        cpu_s = signal.getitimer(signal.ITIMER_PROF)[0] or _CPU_S
        scorers = open_scorers(_library(), allow_unsafe=self.allow_unsafe)
        scored = scorers.score(self.checks, answer, entry, cpu_s)
        if scored.failed:
            return Verdict(status="error", answer=answer, kind=scored.failed, message=_why(scored.message))
        loose, strict = divmod(int(scored.score), 1 << LOOSE)
        counts = {"strict": strict.bit_count(), "loose": loose.bit_count()}
        size = len(instructions)
        kind = ", ".join(f"{mode} {count}/{size}" for mode, count in counts.items())
        return Verdict(status="correct" if counts[self.mode] == size else "wrong", answer=answer, kind=kind)


def _why(message: str | None) -> str | None:
    """The message of a check that failed; where its data are missing, how to install them."""
    lacking = (message or "").removeprefix(f"{LackingData.__name__}: ")
    if lacking not in DATA:
        return message
    remedy = f"python -m nltk.downloader {lacking}"
    return f"a check needs nltk's data {lacking!r}, which are not installed here: {remedy}"


def _library() -> Library:
    """What the sandbox loads."""
    data = _data_folders()
    return Library(
        name="instructions",
        remedy="pip install 'rlvr-bench[instructions]'",
        modules=("if_verifiable",),
        opening=json.dumps({"data": data}),
        readable=tuple(data),
        scorers="set of checks",
    )


def _data_folders() -> list[str]:
    """The folders where nltk looks for data, those that exist; and the data that llama-index packages for it."""
    named = [Path(folder) for folder in os.environ.get("NLTK_DATA", "").split(os.pathsep) if folder]
    roots = [Path(sys.prefix), Path(sys.prefix, "share"), Path(sys.prefix, "lib"), Path("/usr/share"), Path("/usr/lib")]
    roots += [Path.home(), Path("/usr/local/share"), Path("/usr/local/lib")]
    packaged = [Path(folder, "llama_index", "core", "_static", "nltk_cache") for folder in package_folders()]
    places = [*named, *(root / "nltk_data" for root in roots), *packaged]
    return list(dict.fromkeys(str(place.resolve()) for place in places if place.is_dir()))


def read_followed(kind: str | None) -> tuple[int, int] | None:
    """How many instructions a verdict's kind says were followed, strictly and loosely; None where it does not say."""
    match = _FOLLOWED.fullmatch(kind or "")
    return None if match is None else (int(match[1]), int(match[2]))


def _instructions(problem: Problem) -> tuple[list[str], list[dict[str, Any]]]:
    names, arguments = problem.data.get("instructions"), problem.data.get("arguments")
    if (
        not isinstance(names, list)
        or not isinstance(arguments, list)
        or not 0 < len(names) == len(arguments) <= LOOSE
        or not all(isinstance(name, str) for name in names)
        or not all(isinstance(given, dict) for given in arguments)
    ):
        raise VerifierError(
            f"problem {problem.id!r} needs 1 to {LOOSE} 'instructions' in its data, and 'arguments' for each of them"
        )
    return names, arguments


def _check_installed() -> None:
    if importlib.util.find_spec("if_verifiable") is None:
        raise VerifierError(
            "the verifier 'instructions' needs the package if-verifiable: pip install 'rlvr-bench[instructions]'"
        )
