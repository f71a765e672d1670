"""Hand-made runs on disk, with texts, verdicts, token statistics and a scorecard."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import numpy as np

from rlvr_bench.records import STATUSES, Draw, DrawRequest, Problem, Prompt, Rollout, TokenArrays, Verdict
from rlvr_bench.scorers.scorecard import make_scorecard
from rlvr_bench.store import RunWriter, open_run
from rlvr_bench.store.outcomes import read_outcomes
from rlvr_bench.store.run import stored_text, text_hash
from rlvr_bench.store.verdicts import VerdictRow, Verdicts
from rlvr_bench.text_rules import text_flags
from tests.conftest import manifest_with

__all__ = ["write_run"]

LETTERS = {name[0]: name for name in STATUSES}


def write_run(
    path: Path,
    model: str,
    problems: Sequence[Problem],
    statuses: Sequence[str],
    text: Callable[[int, int], str],
    *,
    token_ids: Callable[[str], list[int]] | None = None,
    task: str = "t",
) -> Path:
    """A graded and scored run: per problem one letter per rollout (c, w, n, e), texts by problem and rollout number.

    ``token_ids``: per-token arrays are stored for these ids of a text and an end token.
    """
    n = max(map(len, statuses))
    manifest = manifest_with(task=task, model=model, weights=model, n=n, n_problems=len(problems), token_stats="exact")
    rng = np.random.default_rng(len(model))
    rows = []
    with RunWriter(path, manifest, problems) as writer:
        for i, (problem, letters) in enumerate(zip(problems, statuses, strict=True)):
            rollouts = []
            for j, letter in enumerate(letters):
                response = text(i, j)
                ids = None if token_ids is None else [*token_ids(response), 1]
                rollouts.append(_rollout(problem.id, j, response, ids, rng))
                verdict = Verdict(status=LETTERS[letter], answer=None if letter == "n" else response[:40])
                hashed = text_hash(stored_text(response))
                rows.append(VerdictRow(problem.id, j, hashed, verdict, 1, text_flags(response[:1000])))
            request = DrawRequest(prompt=Prompt(problem_id=problem.id, text="?"), start=0, n=len(letters), seed=i)
            writer.add(Draw(request=request, rollouts=tuple(rollouts)))
    run = open_run(path)
    verdicts = Verdicts(run, "exact", "1", {})
    verdicts.append(rows)
    grading = verdicts.publish(len(rows), 0.1)
    outcomes = read_outcomes(run)
    card = make_scorecard(run.manifest, grading, outcomes, answer_space=50, flags=outcomes.flags)
    (path / "scorecard.json").write_bytes(msgspec.json.encode(card))
    return path


def _rollout(problem_id: str, index: int, text: str, ids: list[int] | None, rng: np.random.Generator) -> Rollout:
    size = len(ids) if ids else 12
    entropy = rng.gamma(2.0, 0.3, size).astype(np.float32)
    tokens = None
    if ids is not None:
        tokens = TokenArrays(
            ids=np.array(ids, np.int32), logprob=-entropy, entropy=entropy, nucleus=np.ones(size, np.int32)
        )
    return Rollout(
        problem_id=problem_id,
        index=index,
        text=text,
        n_tokens=size,
        finish_reason="stop",
        logprob_sum=-float(entropy.sum()),
        entropy_mean=float(entropy.mean()),
        branching_mean=1.0 + float(entropy.mean()),
        entropy_profile=tuple(np.linspace(1.0, 0.2, 20).tolist()),
        high_entropy_share=0.2,
        tokens=tokens,
    )
