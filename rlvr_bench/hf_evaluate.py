"""pass@k, G-Pass@k and Cover@tau as metrics of Hugging Face ``evaluate``.

    metric = hf_evaluate.load("pass_at_k")
    metric.compute(predictions=[["4", "5"], ["7", "7"]], references=["4", "7"], k=[1, 2])

``predictions``: the rollouts of each problem; ``references``: its gold answer. ``evaluate`` is imported on first use:
``pip install evaluate``.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from rlvr_bench.errors import UnknownName
from rlvr_bench.stats import bootstrap_mean, cover_at_tau, g_pass_at_k, pass_at_k

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["METRICS", "compute_cover_at_tau", "compute_g_pass_at_k", "compute_pass_at_k", "load"]

Verify = Callable[[str, str], bool]
Rollouts = Sequence[Sequence[str]]

CITATION = "pass@k: arXiv 2107.03374; G-Pass@k: arXiv 2412.13147; Cover@tau: arXiv 2510.08325"
INPUTS = """
predictions: per problem, the list of sampled answers (lists may differ in length)
references: per problem, the gold answer
verify: optional function (prediction, reference) -> bool; default: equal after stripping white space
"""


def same_text(prediction: str, reference: str) -> bool:
    """Whether two answers are equal after stripping white space."""
    return prediction.strip() == reference.strip()


def compute_pass_at_k(
    predictions: Rollouts, references: Sequence[str], k: Sequence[int] = (1,), verify: Verify = same_text, seed: int = 0
) -> dict[str, float]:
    """Unbiased mean pass@k and its 95 % bootstrap limits over problems; NaN where no problem has k rollouts."""
    c, n = _counts(predictions, references, verify)
    return _summary([f"pass@{budget}" for budget in k], pass_at_k(c, n, list(k)), seed)


def compute_g_pass_at_k(
    predictions: Rollouts,
    references: Sequence[str],
    k: Sequence[int] = (1,),
    tau: float = 0.5,
    verify: Verify = same_text,
    seed: int = 0,
) -> dict[str, float]:
    """Mean G-Pass@k_tau and its 95 % bootstrap limits over problems; NaN where no problem has k rollouts."""
    c, n = _counts(predictions, references, verify)
    return _summary([f"g-pass@{budget}_{tau:g}" for budget in k], g_pass_at_k(c, n, list(k), tau), seed)


def compute_cover_at_tau(
    predictions: Rollouts,
    references: Sequence[str],
    tau: Sequence[float] = (0.5,),
    verify: Verify = same_text,
    seed: int = 0,
) -> dict[str, float]:
    """Share of problems with at least a fraction tau of correct rollouts, and its 95 % bootstrap limits over problems."""
    c, n = _counts(predictions, references, verify)
    return _summary([f"cover@{share:g}" for share in tau], cover_at_tau(c, n, list(tau)), seed)


METRICS: dict[str, Callable[..., dict[str, float]]] = {
    "cover_at_tau": compute_cover_at_tau,
    "g_pass_at_k": compute_g_pass_at_k,
    "pass_at_k": compute_pass_at_k,
}


def load(name: str, **options: object) -> Any:
    """An ``evaluate.Metric`` by name, one of ``METRICS``; options go to its constructor (``keep_in_memory``, ...).

    Its ``compute`` takes the keyword arguments of the ``compute_*`` function of that name. Raises ``UnknownName``: no
    such metric; ``ImportError``: ``evaluate`` is not installed.
    """
    if name not in METRICS:
        raise UnknownName("metric", name, METRICS)
    return _metric_class()(config_name=name, **options)


@functools.cache
def _metric_class() -> type:
    datasets, evaluate = importlib.import_module("datasets"), importlib.import_module("evaluate")

    def info(self: Any) -> object:
        features = {"predictions": datasets.Sequence(datasets.Value("string")), "references": datasets.Value("string")}
        return evaluate.MetricInfo(
            description=METRICS[self.config_name].__doc__ or "",
            citation=CITATION,
            inputs_description=INPUTS,
            features=datasets.Features(features),
        )

    def compute(self: Any, predictions: Rollouts, references: Sequence[str], **options: object) -> dict[str, float]:
        return METRICS[self.config_name](predictions, references, **options)

    return type("RolloutMetric", (evaluate.Metric,), {"_info": info, "_compute": compute, "__module__": __name__})


def _counts(
    predictions: Rollouts, references: Sequence[str], verify: Verify
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    pairs = list(zip(predictions, references, strict=True))
    correct = [sum(verify(answer, reference) for answer in answers) for answers, reference in pairs]
    return np.array(correct, dtype=np.int64), np.array([len(answers) for answers, _ in pairs], dtype=np.int64)


def _summary(names: list[str], values: npt.NDArray[np.float64], seed: int) -> dict[str, float]:
    interval = bootstrap_mean(values, rng=np.random.default_rng(seed))
    result: dict[str, float] = {}
    for i, name in enumerate(names):
        result[name] = float(interval.value[i])
        result[f"{name}_low"], result[f"{name}_high"] = float(interval.low[i]), float(interval.high[i])
    return result
