"""Scores distinct responses under the laws of several runs, and stores the scores in the first of them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from rlvr_bench.analysis.law_scores import Law, LawScores
from rlvr_bench.analysis.passages import check_tokens, prompts_of
from rlvr_bench.analysis.reach_rates import Laws
from rlvr_bench.analysis.reach_runs import CorrectRollouts, Response, sampling_of
from rlvr_bench.errors import BadArgument, ModelError
from rlvr_bench.options import ReachOptions
from rlvr_bench.pipeline.options import Progress
from rlvr_bench.pipeline.run_models import named_checkpoint
from rlvr_bench.records import NEUTRAL, SamplingParameters
from rlvr_bench.samplers import SamplerOptions, open_scorer, resolve_engine
from rlvr_bench.samplers.engine_arguments import recorded
from rlvr_bench.samplers.logprobs import LawScore, Passage, Scorer
from rlvr_bench.store import Run

__all__ = ["LawScoring"]

_CHUNK = 4096  # responses that are scored, then stored, together
_CHECKED = 32  # rollouts whose stored log-probabilities are computed again
_ALLOWED = 0.1  # nats per token between the two: more than rounding in half precision, less than another prompt gives


class _Column(NamedTuple):
    """Of D responses under one law: log-probabilities with every token counted as kept (D,), cut-off tokens (D,), law."""

    logprob: npt.NDArray[np.float64]
    cut: npt.NDArray[np.int64]
    law: Law


class LawScoring:
    """Scores each distinct response of ``rollouts`` under the law of each of S runs. One engine is open at a time.

    ``scored`` counts the responses scored in this call, in ``seconds``; ``notes`` say what is unusual.
    """

    def __init__(
        self, runs: Sequence[Run], rollouts: CorrectRollouts, options: ReachOptions, progress: Progress
    ) -> None:
        self._runs, self._rollouts, self._options, self._progress = runs, rollouts, options, progress
        self._drew = np.zeros((len(rollouts.responses), len(runs)), dtype=np.bool_)
        self._drew[rollouts.response, rollouts.run] = True
        self.scored, self.seconds = 0, 0.0
        self.notes: list[str] = []

    def laws(self) -> Laws:
        """The log-probability of each response under each run's law; equal laws are scored once."""
        policies = [_policy(run) for run in self._runs]
        columns: list[_Column] = []
        for number, policy in enumerate(policies):
            first = policies.index(policy)
            columns.append(columns[first] if first < number else self._column(number, _alike(policies, policy)))
        logprob = np.stack(
            [self._exact(s, columns, _alike(policies, policy)) for s, policy in enumerate(policies)], axis=1
        )
        return Laws(logprob, _alike(policies, policies[0]))

    def _column(self, number: int, alike: npt.NDArray[np.bool_]) -> _Column:
        """Scores under the law of run ``number``; runs that are ``alike`` (S,) have the same one."""
        run, responses = self._runs[number], self._rollouts.responses
        sampling = sampling_of(run)
        logprob, cut = np.full(len(responses), -np.inf), np.zeros(len(responses), dtype=np.int64)
        wanted = np.array([_fits(response, sampling.max_tokens) for response in responses], dtype=np.bool_)
        if sampling.is_own_law:  # the run has these sums, as its engine computed them
            stored = alike[self._rollouts.run]
            logprob[self._rollouts.response[stored]] = self._rollouts.logprob[stored]
            wanted &= ~self._drew[:, alike].any(axis=1)
        scores, law = self._scores(run, number, np.flatnonzero(wanted))
        for at in np.flatnonzero(wanted):
            logprob[at], cut[at] = scores[self._rollouts.keys[at]]
        return _Column(logprob, cut, law)

    def _exact(self, number: int, columns: Sequence[_Column], alike: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
        """Log-probabilities (D,) under one law: -inf where it cannot draw the response.

        A response that the law drew is possible, though its token is at the edge of a cut that is computed again.
        """
        run, column = self._runs[number], columns[number]
        drawn = self._drew[:, alike].any(axis=1)
        stops, limit = bool(sampling_of(run).stop), sampling_of(run).max_tokens
        ends = [frozenset(other.law.end_tokens) for other in columns]
        possible = np.array(
            [
                _is_possible(response, limit, ends[number], ends[response.sampled_by], stops)
                for response in self._rollouts.responses
            ],
            dtype=np.bool_,
        )
        if rounded := int((drawn & (column.cut > 0)).sum()):
            self.notes.append(
                f"{rounded} responses of {run.manifest.model} hold a token at the edge of a cut, which is cut off when it is "
                "computed again: they count as drawn"
            )
        return np.where(drawn | (possible & (column.cut == 0)), column.logprob, -np.inf)

    def _scores(
        self, run: Run, number: int, wanted: npt.NDArray[np.int64]
    ) -> tuple[Mapping[tuple[str, bytes], LawScore], Law]:
        """Stored scores of the ``wanted`` responses under the law of run ``number``; those that are missing are added."""
        engine = self._engine(run)
        law = Law(
            model=run.manifest.model,
            weights=run.manifest.weights,
            sampling=_law_of(sampling_of(run)),
            engine=engine,
            engine_args=recorded(self._options.engine_args),
        )
        with LawScores(self._runs[0], law) as folder:
            scores = dict(folder.read())
            missing = {self._rollouts.keys[at]: at for at in wanted if self._rollouts.keys[at] not in scores}
            if missing:
                began = time.perf_counter()
                scores |= self._score(run, number, list(missing.values()), folder, engine)
                self.seconds += time.perf_counter() - began
            return scores, folder.law

    def _engine(self, run: Run) -> str:
        """The engine that scores under a run's law: the one that drew it. vLLM scores the unchanged distribution only."""
        asked, sampling = self._options.engine, sampling_of(run)
        if asked == "vllm" and not sampling.is_own_law:
            why = f"a run was drawn at {sampling.in_words()}, and vLLM scores T=1 top-p=1 only. Take transformers"
            raise BadArgument("--engine", asked, why)
        if asked == "auto" and (run.manifest.engine == "transformers" or not sampling.is_own_law):
            return "transformers"
        return resolve_engine(asked)

    def _score(
        self, run: Run, number: int, missing: Sequence[int], folder: LawScores, engine: str
    ) -> dict[tuple[str, bytes], LawScore]:
        checkpoint = named_checkpoint(run, cached=True)
        options = SamplerOptions(
            model=checkpoint.model, adapter=checkpoint.adapter, engine_args=self._options.engine_args
        )
        scorer = open_scorer(engine, options)
        scores: dict[tuple[str, bytes], LawScore] = {}
        try:
            if scorer.info.weights != run.manifest.weights:
                raise ModelError(f"{run.manifest.model}: its weights are no longer those that drew {run.path}")
            prompts = prompts_of(run, scorer, checkpoint.model)
            for other in self._runs:
                check_tokens(other, scorer, prompts)
            self._check_own(number, scorer, prompts.ids)
            self._note_engine(run, scorer)
            ends = tuple(sorted(scorer.end_tokens))
            folder.describe(msgspec.structs.replace(folder.law, dtype=scorer.info.dtype, end_tokens=ends))
            self._progress.start("score", len(missing), 0, "responses")
            for start in range(0, len(missing), _CHUNK):
                chunk = list(missing[start : start + _CHUNK])
                passages = [self._passage(at, prompts.ids) for at in chunk]
                results = dict(scorer.score_law(passages, sampling_of(run)))
                ordered = [results[i] for i in range(len(chunk))]
                keys = [self._rollouts.keys[at] for at in chunk]
                lengths = [len(passage.response) for passage in passages]
                folder.append(keys, lengths, ordered)
                scores |= dict(zip(keys, ordered, strict=True))
                self._progress.advance(len(chunk), sum(lengths))
            self.scored += len(missing)
        finally:
            scorer.close()
        return scores

    def _passage(self, at: int, prompts: Mapping[str, tuple[int, ...]]) -> Passage:
        return Passage(prompts[self._rollouts.keys[at][0]], self._rollouts.responses[at].ids)

    def _check_own(self, number: int, scorer: Scorer, prompts: Mapping[str, tuple[int, ...]]) -> None:
        """Raises ModelError where rollouts of the run do not get the log-probabilities that they were drawn with."""
        rows = np.flatnonzero(self._rollouts.run == number)[:_CHECKED]
        passages = [self._passage(int(at), prompts) for at in self._rollouts.response[rows]]
        again = dict(scorer.score_law(passages, NEUTRAL))
        gaps = [
            abs(again[i].logprob - self._rollouts.logprob[row]) / len(passages[i].response)
            for i, row in enumerate(rows)
        ]
        if gaps and not np.median(gaps) < _ALLOWED:
            raise ModelError(
                f"{scorer.info.model}: it gives the rollouts of {self._runs[number].path} other log-probabilities than they "
                f"were drawn with (by {np.median(gaps):.2f} nats a token). Use the --engine and the --engine-arg of the run"
            )

    def _note_engine(self, run: Run, scorer: Scorer) -> None:
        drawn, scored = (run.manifest.engine, run.manifest.dtype), (scorer.info.engine, scorer.info.dtype)
        if drawn != scored:
            self.notes.append(f"{run.manifest.model}: drawn by {' in '.join(drawn)}, scored by {' in '.join(scored)}")


def _policy(run: Run) -> tuple[object, ...]:
    sampling = sampling_of(run)
    return run.manifest.weights, _law_of(sampling), sampling.max_tokens


def _law_of(sampling: SamplingParameters) -> dict[str, object]:
    """The parameters that change the law of a token."""
    return {name: value for name, value in sampling.recorded().items() if name not in ("max_tokens", "stop")}


def _alike(policies: Iterable[tuple[object, ...]], policy: tuple[object, ...]) -> npt.NDArray[np.bool_]:
    return np.array([other == policy for other in policies], dtype=np.bool_)


def _fits(response: Response, most: int) -> bool:
    """Whether a response can come from a law with this max_tokens."""
    return len(response.ids) <= most and response.limit in (0, most)


def _is_possible(
    response: Response, most: int, ends: frozenset[int], ends_of_drawer: frozenset[int], stops: bool
) -> bool:
    """Whether a law can end a response where it ended. ``ends``: its end tokens; ``stops``: the runs have stop strings."""
    *inner, last = response.ids.tolist()
    if not _fits(response, most) or not ends.isdisjoint(inner):
        return False
    if response.limit:
        return last not in ends
    by_string = stops and last not in ends_of_drawer
    return by_string or last in ends
