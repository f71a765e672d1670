"""LiveCodeBench, code generation: competition problems by date, judged by hidden tests (arXiv 2403.07974).

``livecodebench`` is the newest window, version v6: 175 problems of January to April 2025, which are the least likely to be in
training data. ``livecodebench:release_v6`` is everything up to v6 (1,055 problems, 4.5 GB to download and more in memory).
``livecodebench:v4``, ``livecodebench:v5_v6`` and so on are LiveCodeBench's names of single and joined windows.

The hub set's files are pinned by revision and by the SHA-256 of each file. The digest of the problems as we map them is not
pinned: it takes the data to compute, and the files were not at hand when this task was written. The hub no longer runs data
set scripts, so the files are read directly; a mirror is a folder ``livecodebench`` with these files in the data folder.
Private tests are a compressed pickle of one text. Unpickling can run code, so anything but plain values is refused.

The verifier judges as LiveCodeBench's grader does (`rlvr_bench.verifiers.livecode` names the version of its rules), with one
difference: it takes the code block that defines what the tests need, where that grader takes the last block.

There are no reference solutions, hence no gold answers: a problem's ``answer`` is the digest of its tests.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import io
import json
import os
import pickle
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from rlvr_bench.datasets import DATA_DIR_VARIABLE, Row, read_rows
from rlvr_bench.errors import DataError, TaskError
from rlvr_bench.records import Problem, SamplingParameters
from rlvr_bench.task import Case, Task

MAX_TEST_BYTES = 4 << 30  # of one problem, unpacked: a compression bomb would take all memory


@dataclass(frozen=True)
class HubFile:
    """A file of the data set: its problems and its SHA-256, which None leaves unchecked."""

    name: str
    rows: int
    sha256: str | None


VERSIONS = (
    HubFile("test.jsonl", 400, "2bd02b38beb48e8c46b5b9987095d999ff38cd8efc255ea5d58974317c48f63f"),
    HubFile("test2.jsonl", 111, "095df7c5daf15f882c51a9deb84085cff1e073495a5dbcf95015a564d485f3a3"),
    HubFile("test3.jsonl", 101, "28ed26cc83363ce3f1fe2d5fad9f8393077beb1907b167a31bd3b32f80801b79"),
    HubFile("test4.jsonl", 101, "d711138ddaebfcf5f8ec6a4283ee677298c0f5c5d374a235af92aaf0584510da"),
    HubFile("test5.jsonl", 167, "7f77571c2a6df0c2a72a3277650309f67e01e0008e18117e624633df53f81214"),
    HubFile("test6.jsonl", 175, "bb4c364f71921c4495a6ad15abe1a927350b720009f4933e2e71f8af0f6fd1f5"),
)


# "22222", of the newest window: print the characters of a string that are 2.
_TWOS = "atcoder-abc394_a"
CASES = (
    Case("Filter it.\n```python\nprint(''.join(c for c in input() if c == '2'))\n```", "correct", _TWOS),
    Case("```python\nprint(input().count('2'))\n```", "wrong", _TWOS),
    Case("```python\nprint(''.join(set(input()) & {'2'}))\n```", "wrong", _TWOS),
    Case("```python\nimport sys\nprint('all tests passed')\nsys.exit(0)\n```", "wrong", _TWOS),
    Case("It prints the twos.\n```text\n22222\n```", "no_answer", _TWOS),
)


@dataclass(frozen=True, kw_only=True)
class HubFiles:
    """Plain jsonl files of a hub data set, or of the folder ``livecodebench`` in a data folder."""

    path: str
    revision: str
    files: tuple[HubFile, ...]
    sha256: str | None = None

    @property
    def rows(self) -> int:
        return sum(file.rows for file in self.files)

    def describe(self) -> str:
        names = self.files[0].name if len(self.files) == 1 else f"{self.files[0].name} to {self.files[-1].name}"
        return f"{self.path}, {names} at {self.revision[:7]}"

    def load(self, name: str, data_dir: Path | None) -> list[Problem]:
        """Raises DataError where a file is missing, is another than the pinned one, or holds a malformed row."""
        return [to_problem(row) for file in self.files for row in self._rows(file, data_dir)]

    def _rows(self, file: HubFile, data_dir: Path | None) -> Iterator[Row]:
        folder = data_dir or (Path(os.environ[DATA_DIR_VARIABLE]) if os.environ.get(DATA_DIR_VARIABLE) else None)
        local = self._download(file) if folder is None else folder / "livecodebench" / file.name
        if not local.is_file():
            raise DataError(f"{local}: no such file; a mirror of {self.path} holds {file.name} in this folder")
        if file.sha256 is not None and _file_digest(local) != file.sha256:
            raise DataError(f"{local}: not the {file.name} of {self.path} at {self.revision[:7]} (SHA-256 differs)")
        return read_rows(local)

    def _download(self, file: HubFile) -> Path:
        remedy = f"Put a copy at DIR/livecodebench/{file.name} and pass --data-dir DIR."
        try:
            from huggingface_hub import hf_hub_download
        except ImportError as error:
            raise DataError(
                f"{self.path} needs the package huggingface_hub (pip install 'rlvr-bench[hub]'). Or: {remedy}"
            ) from error
        try:
            return Path(hf_hub_download(self.path, file.name, repo_type="dataset", revision=self.revision))
        except Exception as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
            raise DataError(f"cannot download {file.name} of {self.path} ({reason}). {remedy}") from error


def to_problem(row: Row) -> Problem:
    starter, metadata = str(row.values.get("starter_code") or ""), _json(row, "metadata", "{}", dict)
    tests = [*_json(row, "public_test_cases", "[]", list), *_private_tests(row)]
    if not tests:
        raise DataError(f"{row.where}: no test cases")
    try:
        kept = [{key: str(test[key]) for key in ("input", "output", "testtype")} for test in tests]
    except (TypeError, KeyError) as error:
        raise DataError(f"{row.where}: a test case is not an object with input, output and testtype") from error
    digest = hashlib.sha256(json.dumps(kept, sort_keys=True).encode("utf-8", "surrogatepass")).hexdigest()
    return Problem(
        id=f"{row.text('platform')}-{row.text('question_id')}",
        question=f"{row.text('question_content')}\n\n{_form(starter)}",
        answer=f"no reference solution; SHA-256 of its {len(kept)} tests: {digest}",
        tier=row.text("difficulty"),
        cluster=_contest(row),
        data={"tests": kept, "fn_name": str(metadata.get("func_name") or "")},
    )


def _contest(row: Row) -> str:
    """Platform, contest and day: problems of one contest were written together and came out together."""
    contest, day = (str(row.values.get(name) or "").strip() for name in ("contest_id", "contest_date"))
    named = [part for part in (contest, day.partition("T")[0]) if part]
    return "-".join([row.text("platform"), *named]) if named else ""


def _form(starter: str) -> str:
    """How the program is called; the problem's text does not say it."""
    if starter.strip():
        return f"Use this starter code:\n```python\n{starter.rstrip()}\n```"
    return "Read the input from standard input and print the answer to standard output."


def _json(row: Row, name: str, default: str, kind: type) -> Any:
    try:
        value = json.loads(row.values.get(name) or default)
    except (ValueError, TypeError) as error:
        raise DataError(f"{row.where}: field {name!r} is not JSON ({error})") from error
    if not isinstance(value, kind):
        raise DataError(f"{row.where}: field {name!r} is {type(value).__name__}, expected {kind.__name__}")
    return value


class _PlainUnpickler(pickle.Unpickler):
    """Reads plain values only: a pickle that names a class or a function could run anything."""

    def find_class(self, module_name: str, global_name: str, /) -> NoReturn:
        raise pickle.UnpicklingError(f"it names {module_name}.{global_name}")


def _private_tests(row: Row) -> list[Any]:
    """The hidden tests: JSON, or base64 of zlib of a pickle of JSON."""
    text = str(row.values.get("private_test_cases") or "[]")
    if text.lstrip().startswith("["):
        return list(_json(row, "private_test_cases", "[]", list))
    try:
        unpack = zlib.decompressobj()
        packed = unpack.decompress(base64.b64decode(text, validate=True), MAX_TEST_BYTES)
        if unpack.unconsumed_tail:
            raise ValueError(f"more than {MAX_TEST_BYTES} bytes")
        tests = json.loads(_PlainUnpickler(io.BytesIO(packed)).load())
    except (ValueError, TypeError, LookupError, EOFError, zlib.error, pickle.UnpicklingError) as error:
        raise DataError(f"{row.where}: cannot read field 'private_test_cases' ({error})") from error
    return list(tests)


def _file_digest(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def make_task(parameters: str) -> Task:
    """The task of one window: ``v6``, ``v4_v6``, or ``release_v6`` for all up to v6. Raises TaskError."""
    window = re.fullmatch(r"(release_)?v([1-6])(?:_v([1-6]))?", parameters)
    if window is None or (window[1] and window[3]) or int(window[3] or 6) < int(window[2]):
        raise TaskError(
            f"task livecodebench: no version {parameters!r}; there are v1 to v6, v4_v6, release_v1 to release_v6"
        )
    first, last = (1 if window[1] else int(window[2])), int(window[3] or window[2])
    source = HubFiles(
        path="livecodebench/code_generation_lite",
        revision="0fe84c3912ea0c4d4a78037083943e8f0c4dd505",
        files=VERSIONS[first - 1 : last],
    )
    return Task(
        name=f"livecodebench:{parameters}",
        version="2",
        summary=f"LiveCodeBench {parameters}: {source.rows:,} competition programs judged by hidden tests.",
        kind="code",
        source=source,
        prompt="python-program",
        verifier="code",
        # LiveCodeBench's limit for a test. Its limit for a sample grows by 7 s with each test; ours is fixed.
        options={"test_s": 6.0, "sample_s": 900.0},
        gold=None,
        sampling=SamplingParameters(max_tokens=16384),
        cases=CASES if VERSIONS[-1] in source.files else (),
    )


TASK = dataclasses.replace(
    make_task("v6"),
    name="livecodebench",
    summary="LiveCodeBench v6 (January to April 2025): 175 competition programs judged by hidden tests.",
)
