"""The metrics as Hugging Face ``evaluate`` users call them: compute(predictions=..., references=...)."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest

from rlvr_bench import hf_evaluate
from rlvr_bench.errors import UnknownName

PREDICTIONS = [["4", " 4", "5", "6"], ["7", "8", "9", "10"], ["x", "x", "x", "x"]]
REFERENCES = ["4", "7", "x"]


def test_pass_at_k() -> None:
    got = hf_evaluate.compute_pass_at_k(PREDICTIONS, REFERENCES, k=[1, 2, 4, 5])
    assert got["pass@1"] == pytest.approx((2 / 4 + 1 / 4 + 1) / 3)
    assert got["pass@2"] == pytest.approx((5 / 6 + 1 / 2 + 1) / 3)
    assert got["pass@4"] == 1
    assert math.isnan(got["pass@5"])
    assert 0 <= got["pass@2_low"] < got["pass@2"] < got["pass@2_high"] <= 1


def test_g_pass_and_cover() -> None:
    got = hf_evaluate.compute_g_pass_at_k(PREDICTIONS, REFERENCES, k=[4], tau=0.5)
    assert got["g-pass@4_0.5"] == pytest.approx(2 / 3)
    cover = hf_evaluate.compute_cover_at_tau(PREDICTIONS, REFERENCES, tau=[0.25, 0.6])
    assert [cover["cover@0.25"], cover["cover@0.6"]] == pytest.approx([1, 1 / 3])


def test_own_verifier_and_unequal_rollouts() -> None:
    got = hf_evaluate.compute_pass_at_k(
        [["4.0", "5"], ["7"]], ["4", "8"], k=[1, 2], verify=lambda answer, gold: float(answer) == float(gold)
    )
    assert got["pass@1"] == pytest.approx(0.25)
    assert got["pass@2"] == 1  # only the first problem has two rollouts


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("name", hf_evaluate.METRICS)
def test_through_evaluate(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("evaluate", reason="the evaluate library is not installed")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    metric = hf_evaluate.load(name, keep_in_memory=True)
    assert metric.compute(predictions=PREDICTIONS, references=REFERENCES) == hf_evaluate.METRICS[name](
        PREDICTIONS, REFERENCES
    )
    for answers, gold in zip(PREDICTIONS, REFERENCES, strict=True):
        metric.add(prediction=answers, reference=gold)
    assert metric.compute(seed=3)  # collected one by one, with an option
    assert metric.features["references"].dtype == "string"


def test_unknown_metric() -> None:
    with pytest.raises(UnknownName, match="Did you mean 'pass_at_k'"):
        hf_evaluate.load("pas_at_k")


def test_evaluate_is_imported_on_use_only() -> None:
    code = "import sys, rlvr_bench.hf_evaluate; print(*{'evaluate', 'datasets'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
