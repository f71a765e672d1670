"""The verb ``judge``: a judge that the user names decides whether the reasoning of correct rollouts is valid.

Judgements are stored in ``<run>/judgements/<judge>/*.parquet``, with every vote and every reply. ``judging.json``
records which judgements are current and how their votes are combined. ``score`` adds CoT-Pass@K only where every
correct rollout has a judgement.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from rlvr_bench.errors import RunError
from rlvr_bench.options import GradeOptions, JudgeOptions
from rlvr_bench.pipeline.models import is_endpoint
from rlvr_bench.pipeline.options import Progress, Silent
from rlvr_bench.pipeline.progress import with_progress
from rlvr_bench.records import STATUSES, DrawRequest, Outcomes, Problem
from rlvr_bench.samplers import SamplerOptions, open_sampler, resolve_engine
from rlvr_bench.samplers.protocol import Sampler
from rlvr_bench.samplers.seeds import draw_seed
from rlvr_bench.scorecard import Judging
from rlvr_bench.scorers.table import Judged
from rlvr_bench.store import open_run
from rlvr_bench.store.paths import inside
from rlvr_bench.store.record_files import damaged, read_record, write_record
from rlvr_bench.store.run import Run, stored_text
from rlvr_bench.store.shards import ShardFolder
from rlvr_bench.store.verdicts import VERDICT_SCHEMA, check_folder_name, current_grading, status_columns
from rlvr_bench.verifiers import Decider, Extraction, FunctionVerifier
from rlvr_bench.verifiers.deciding import Decision
from rlvr_bench.verifiers.judge import PROMPT_VERSION, Rule, Vote, combine, judge_prompt, read_vote

__all__ = ["JudgeOptions", "Judging", "judge", "judge_with", "judged_rollouts"]

_SCHEMA = pa.schema(
    [
        ("problem_id", pa.dictionary(pa.int32(), pa.string())),
        ("text_hash", pa.int64()),
        ("votes", pa.list_(pa.string())),
        ("replies", pa.list_(pa.large_string())),
    ]
)
_SHARD = 256  # judgements written together at most; a kill can lose this many
_STATUS: dict[str, Vote] = {"correct": "valid", "wrong": "invalid"}
ResponseKey = tuple[str, int]  # problem id and text hash: equal responses are judged once


@with_progress
def judge(
    run: str | Path, options: JudgeOptions, grading: GradeOptions | None = None, progress: Progress | None = None
) -> Judging:
    """Judge the reasoning of every correct rollout that this judge has not judged yet; make its judgements current.

    Raises RunError where the run is not graded, and the errors of opening the server or loading the function.
    """
    grading, progress = grading or GradeOptions(), progress or Silent()
    opened = open_run(run)
    _correct(opened)
    if not is_endpoint(options.judge):
        return _judge_by_function(opened, options, grading, progress)
    sampler_options = SamplerOptions(model=options.judge, token_stats="off", engine_args=options.engine_args)
    sampler = open_sampler(resolve_engine("endpoint"), sampler_options)
    try:
        return judge_with(sampler, opened, options, progress)
    finally:
        sampler.close()


def judge_with(sampler: Sampler, run: Run, options: JudgeOptions, progress: Progress) -> Judging:
    """``judge``, with an open sampler as the judge."""
    described = {
        "weights": sampler.info.weights,
        "votes": options.votes,
        "seed": options.seed,
        "sampling": options.sampling.recorded(),
    }
    judgements = _Judgements(run, sampler.info.model, PROMPT_VERSION, described)
    texts = judgements.missing(progress)
    asked: list[ResponseKey] = []

    def requests() -> Iterator[DrawRequest]:
        for key, problem, text in texts:
            start = len(asked) * options.votes
            asked.append(key)
            seed = draw_seed(options.seed, "judge", *key)
            yield DrawRequest(prompt=judge_prompt(text, problem), start=start, n=options.votes, seed=seed)

    try:
        for draw in sampler.draw(requests(), options.sampling):
            replies = [stored_text(rollout.text) for rollout in draw.rollouts]
            votes: list[Vote] = [
                read_vote(rollout.text) if rollout.finish_reason == "stop" else "error" for rollout in draw.rollouts
            ]
            judgements.add(asked[draw.request.start // options.votes], votes, replies)
            progress.advance(1, sum(rollout.n_tokens for rollout in draw.rollouts))
    finally:
        judgements.flush()
    return judgements.publish(options.rule)


def _judge_by_function(run: Run, options: JudgeOptions, grading: GradeOptions, progress: Progress) -> Judging:
    function = FunctionVerifier(options.judge)
    judgements = _Judgements(run, options.judge, function.version, {})
    problems = {problem.id: problem for problem in run.problems()}
    decider = Decider(
        function,
        problems.__getitem__,
        extract=lambda text: Extraction(answer=text),  # with the thinking: it is what is judged
        workers=grading.workers,
        timeout_s=grading.timeout_s,
        limit=1,  # responses are distinct
    )
    missing = judgements.missing(progress)
    try:
        with decider:
            while some := list(itertools.islice(missing, _SHARD)):

                def note(
                    text_index: int, decision: Decision, some: Sequence[tuple[ResponseKey, Problem, str]] = some
                ) -> None:
                    verdict = decision.verdict
                    vote = _STATUS.get(verdict.status, "error")
                    judgements.add(some[text_index][0], [vote], [verdict.message or verdict.kind or ""])
                    progress.advance(1)

                decider.decide(((problem.id, text) for _, problem, text in some), note)
    finally:
        judgements.flush()
    return judgements.publish(options.rule)


class _Judgements:
    """The votes of one judge on one run, by problem and response, on disk."""

    def __init__(self, run: Run, judge: str, version: str, options: Mapping[str, object]) -> None:
        identity = json.dumps([judge, version, dict(options)], sort_keys=True)
        self.run, self.judge, self.version, self.options = run, judge, version, dict(options)
        self.folder = f"judge-{hashlib.sha256(identity.encode()).hexdigest()[:8]}"
        self._shards = ShardFolder(inside(run.path, "judgements", self.folder), _SCHEMA)
        self._shards.set_aside_damaged()
        self._votes = _read_votes(self._shards)
        self._correct = _correct(run)
        self._waiting: list[dict[str, object]] = []

    def missing(self, progress: Progress) -> Iterator[tuple[ResponseKey, Problem, str]]:
        """Yields each distinct correct response that has no judgement, or one with a failed vote."""
        wanted = {(name, text_hash) for (name, _), text_hash in self._correct.items()}
        left = {key for key in wanted if "error" in self._votes.get(key, ["error"])}
        progress.start("judge", len(wanted), len(wanted) - len(left))
        problems = {problem.id: problem for problem in self.run.problems()}
        return self._texts(left, problems)

    def _texts(
        self, left: set[ResponseKey], problems: Mapping[str, Problem]
    ) -> Iterator[tuple[ResponseKey, Problem, str]]:
        columns = ["problem_id", "text_hash", "text"]
        for table in self.run.rollouts.read(columns) if left else ():
            for name, text_hash, text in zip(*(table[column].to_pylist() for column in columns), strict=True):
                if (name, text_hash) in left:
                    left.remove((name, text_hash))
                    yield (name, text_hash), problems[name], text

    def add(self, key: ResponseKey, votes: Sequence[Vote], replies: Sequence[str]) -> None:
        self._votes[key] = list(votes)
        self._waiting.append(
            {"problem_id": key[0], "text_hash": key[1], "votes": list(votes), "replies": list(replies)}
        )
        if len(self._waiting) >= _SHARD:
            self.flush()

    def flush(self) -> None:
        """Write the waiting judgements as one shard."""
        if self._waiting:
            self._shards.append(pa.Table.from_pylist(self._waiting, schema=_SCHEMA))
            self._waiting = []

    def publish(self, rule: Rule) -> Judging:
        """Make these judgements the current ones: writes ``judging.json``."""
        counts = {"valid": 0, "invalid": 0, "error": 0}
        for (name, _), text_hash in self._correct.items():
            counts[combine(self._votes.get((name, text_hash), ["error"]), rule)] += 1
        judging = Judging(
            judge=self.judge,
            version=self.version,
            options=self.options,
            folder=self.folder,
            rule=rule,
            rollouts=len(self._correct),
            **counts,
        )
        write_record(self.run.path / "judging.json", judging)
        return judging


def _read_votes(shards: ShardFolder) -> dict[ResponseKey, list[Vote]]:
    columns = ["problem_id", "text_hash", "votes"]
    return {
        (name, text_hash): votes
        for table in shards.read(columns)
        for name, text_hash, votes in zip(*(table[column].to_pylist() for column in columns), strict=True)
    }


def _correct(run: Run) -> dict[tuple[str, int], int]:
    """The text hash of every correct rollout, by problem id and index. Raises RunError without verdicts."""
    grading = current_grading(run)
    if grading is None:
        raise RunError(f"{run.path}: not graded yet. Run `rlvr-bench grade {run.path}` first.")
    text_hashes = {}
    for names, indices, hashes, status in status_columns(
        ShardFolder(inside(run.path, "verdicts", grading.folder), VERDICT_SCHEMA)
    ):
        right = status == STATUSES.index("correct")
        text_hashes.update(
            {
                (str(name), int(index)): int(text_hash)
                for name, index, text_hash in zip(names[right], indices[right], hashes[right], strict=True)
            }
        )
    return text_hashes


def judged_rollouts(run: Run, outcomes: Outcomes) -> tuple[Judging, Judged] | None:
    """The current judging and its decision on each rollout; None without one, or if a correct rollout is not judged.

    Raises RunError where ``judging.json`` is damaged.
    """
    file = run.path / "judging.json"
    if not file.exists():
        return None
    remedy = f"Run `rlvr-bench judge {run.path}` again."
    judging = read_record(file, Judging, remedy)
    try:
        check_folder_name(judging.folder)
    except ValueError as error:
        raise damaged(file, error, remedy) from error
    votes = _read_votes(ShardFolder(inside(run.path, "judgements", judging.folder), _SCHEMA))
    correct = _correct(run)
    names = [outcomes.problem_ids[rollout_index] for rollout_index in outcomes.problem.tolist()]
    judged = np.full(len(names), "", dtype=object)
    for rollout_index in np.flatnonzero(outcomes.is_correct).tolist():
        key = names[rollout_index], correct[names[rollout_index], int(outcomes.index[rollout_index])]
        if key not in votes:
            return None  # rollouts were added later: no result until they are judged too
        judged[rollout_index] = combine(votes[key], judging.rule)
    return judging, Judged(valid=judged == "valid", undecided=judged == "error")
