"""rlvr-bench: what language-model checkpoints can reach at any sampling budget.

Everything public is listed in ``__all__`` and loaded on first use, so that ``import rlvr_bench`` costs nothing and needs
no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# name -> module it lives in
_PUBLIC = {
    "Bars": "cli.progress",
    "CapOptions": "options",
    "Case": "task",
    "Draw": "records",
    "DrawRequest": "records",
    "EngineInfo": "records",
    "Estimate": "records",
    "FakeSampler": "samplers.fake",
    "FollowOptions": "following",
    "Generated": "datasets",
    "GradeOptions": "options",
    "HubDataset": "datasets",
    "ImportOptions": "options",
    "InterveneOptions": "options",
    "JudgeOptions": "options",
    "LocalFile": "datasets",
    "Problem": "records",
    "Prompt": "records",
    "PlanOptions": "planning",
    "ReachOptions": "options",
    "RescoreOptions": "options",
    "RlvrBenchError": "errors",
    "Rollout": "records",
    "Row": "datasets",
    "SampleOptions": "options",
    "Sampler": "samplers.protocol",
    "SamplingParameters": "records",
    "Scorecard": "scorecard",
    "Task": "task",
    "Verdict": "records",
    "Verification": "verifiers",
    "audit": "pipeline",
    "check": "checking",
    "compare": "comparison",
    "evaluate": "pipeline",
    "follow": "following",
    "grade": "pipeline",
    "import_run": "pipeline.importing",
    "intervene": "pipeline.intervening",
    "judge": "pipeline.judging",
    "leaderboard": "leaderboards",
    "list_tasks": "task",
    "load_task": "task",
    "open_verifier": "verifiers",
    "plan": "planning",
    "preview_import": "pipeline.previewing",
    "reach": "pipeline.reaching",
    "read_scorecard": "comparison.folders",
    "report": "reporting",
    "rescore": "pipeline.rescoring",
    "sample": "pipeline",
    "score": "pipeline",
    "score_caps": "capping",
    "select": "pipeline.selecting",
    "series": "analysis.training_series",
    "serve_verifier": "training.serving",
    "status": "pipeline.status",
    "validate": "task",
    "validation_metrics": "training.validation",
    "verify_many": "verifiers",
}

__all__ = [
    "Bars",
    "CapOptions",
    "Case",
    "Draw",
    "DrawRequest",
    "EngineInfo",
    "Estimate",
    "FakeSampler",
    "FollowOptions",
    "Generated",
    "GradeOptions",
    "HubDataset",
    "ImportOptions",
    "InterveneOptions",
    "JudgeOptions",
    "LocalFile",
    "PlanOptions",
    "Problem",
    "Prompt",
    "ReachOptions",
    "RescoreOptions",
    "RlvrBenchError",
    "Rollout",
    "Row",
    "SampleOptions",
    "Sampler",
    "SamplingParameters",
    "Scorecard",
    "Task",
    "Verdict",
    "Verification",
    "audit",
    "check",
    "compare",
    "evaluate",
    "follow",
    "grade",
    "import_run",
    "intervene",
    "judge",
    "leaderboard",
    "list_tasks",
    "load_task",
    "open_verifier",
    "plan",
    "preview_import",
    "reach",
    "read_scorecard",
    "report",
    "rescore",
    "sample",
    "score",
    "score_caps",
    "select",
    "series",
    "serve_verifier",
    "stats",
    "status",
    "validate",
    "validation_metrics",
    "verify_many",
]

if TYPE_CHECKING:
    from rlvr_bench import stats
    from rlvr_bench.analysis.training_series import series
    from rlvr_bench.capping import score_caps
    from rlvr_bench.checking import check
    from rlvr_bench.cli.progress import Bars
    from rlvr_bench.comparison import compare
    from rlvr_bench.comparison.folders import read_scorecard
    from rlvr_bench.datasets import Generated, HubDataset, LocalFile, Row
    from rlvr_bench.errors import RlvrBenchError
    from rlvr_bench.following import FollowOptions, follow
    from rlvr_bench.leaderboards import leaderboard
    from rlvr_bench.options import (
        CapOptions,
        GradeOptions,
        ImportOptions,
        InterveneOptions,
        JudgeOptions,
        ReachOptions,
        RescoreOptions,
        SampleOptions,
    )
    from rlvr_bench.pipeline import audit, evaluate, grade, sample, score
    from rlvr_bench.pipeline.importing import import_run
    from rlvr_bench.pipeline.intervening import intervene
    from rlvr_bench.pipeline.judging import judge
    from rlvr_bench.pipeline.previewing import preview_import
    from rlvr_bench.pipeline.reaching import reach
    from rlvr_bench.pipeline.rescoring import rescore
    from rlvr_bench.pipeline.selecting import select
    from rlvr_bench.pipeline.status import status
    from rlvr_bench.planning import PlanOptions, plan
    from rlvr_bench.records import (
        Draw,
        DrawRequest,
        EngineInfo,
        Estimate,
        Problem,
        Prompt,
        Rollout,
        SamplingParameters,
        Verdict,
    )
    from rlvr_bench.reporting import report
    from rlvr_bench.samplers.fake import FakeSampler
    from rlvr_bench.samplers.protocol import Sampler
    from rlvr_bench.scorecard import Scorecard
    from rlvr_bench.task import Case, Task, list_tasks, load_task, validate
    from rlvr_bench.training.serving import serve_verifier
    from rlvr_bench.training.validation import validation_metrics
    from rlvr_bench.verifiers import Verification, open_verifier, verify_many


def __getattr__(name: str) -> Any:
    if name == "stats":
        return importlib.import_module("rlvr_bench.stats")
    if name not in _PUBLIC:
        raise AttributeError(f"module 'rlvr_bench' has no attribute {name!r}")
    return getattr(importlib.import_module(f"rlvr_bench.{_PUBLIC[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
