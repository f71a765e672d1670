"""Continues a run's responses after swapped and kept tokens: draws, verifies and stores, a shard at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import msgspec
import pyarrow as pa

from rlvr_bench.analysis.intervention_results import InterventionDesign
from rlvr_bench.analysis.interventions import Site
from rlvr_bench.pipeline.options import Progress
from rlvr_bench.records import Draw, DrawRequest, Prompt, SamplingParameters
from rlvr_bench.samplers.protocol import PrefixSampler
from rlvr_bench.storage import is_remote
from rlvr_bench.store.run import stored_text
from rlvr_bench.store.shards import Schedule, ShardFolder
from rlvr_bench.verifiers.deciding import Decider

__all__ = ["ARMS", "CONTINUATIONS", "Continuing", "begun", "continued"]

ARMS = ("kept", "swapped")
CONTINUATIONS = pa.schema(
    [
        ("site", pa.int32()),
        ("arm", pa.dictionary(pa.int32(), pa.string())),
        ("repeat", pa.int32()),
        ("problem_id", pa.dictionary(pa.int32(), pa.string())),
        ("text", pa.large_string()),
        ("n_tokens", pa.int32()),
        ("finish_reason", pa.dictionary(pa.int32(), pa.string())),
        ("status", pa.dictionary(pa.int32(), pa.string())),
        ("answer", pa.large_string()),
        ("kind", pa.dictionary(pa.int32(), pa.string())),
    ]
)


def begun(prompt: Prompt, ids: Sequence[int]) -> Prompt:
    return msgspec.structs.replace(prompt, begun=tuple(ids))


class Continuing:
    """One session: draws, verifies and stores the missing continuations, a shard at a time."""

    def __init__(
        self,
        design: InterventionDesign,
        sampling: SamplingParameters,
        sites: Sequence[Site],
        prompts: Mapping[str, Prompt],
        draws: ShardFolder,
        decider: Decider,
        progress: Progress,
    ) -> None:
        self._design, self._sampling = design, sampling
        self._sites, self._prompts = sites, prompts
        self._draws, self._decider, self._progress = draws, decider, progress
        self._waiting: list[Draw] = []
        self._schedule = Schedule(sparing=is_remote(draws.path))

    def run(self, sampler: PrefixSampler) -> None:
        """Draw what is missing. Raises the errors of sampler, verifier and disk; what was drawn before is kept."""
        done = {(site, arm) for site, arm, _ in continued(self._draws)}
        total = sum(site.swapped is not None for site in self._sites) * len(ARMS) * self._design.repeats
        self._progress.start("intervene", total, len(done) * self._design.repeats)
        try:
            for draw in sampler.draw(self._requests(done), self._sampling):
                self._waiting.append(draw)
                self._progress.advance(len(draw.rollouts), sum(rollout.n_tokens for rollout in draw.rollouts))
                self._schedule.add(len(draw.rollouts))
                if self._schedule.due_in() == 0:
                    self._flush()
        finally:
            self._flush()

    def _requests(self, done: set[tuple[int, str]]) -> Iterator[DrawRequest]:
        """Both arms of a site, one after the other. They share a prefix, so an engine's cache holds it once."""
        repeats, limit = self._design.repeats, self._sampling.max_tokens
        for number, site in enumerate(self._sites):
            for arm_index, arm in enumerate(ARMS):
                token = site.kept if arm == "kept" else site.swapped
                if token is None or site.swapped is None or (number, arm) in done:
                    continue
                yield DrawRequest(
                    prompt=begun(self._prompts[site.problem_id], (*site.prefix, token)),
                    start=(number * len(ARMS) + arm_index) * repeats,
                    n=repeats,
                    seed=site.stream(self._design.seed),
                    max_tokens=limit - site.token - 1,
                )

    def _flush(self) -> None:
        rollouts = [rollout for draw in self._waiting for rollout in draw.rollouts]
        if not rollouts:
            return
        rows = []
        texts = [stored_text(rollout.text) for rollout in rollouts]
        names = (rollout.problem_id for rollout in rollouts)
        decisions = self._decider.decide(zip(names, texts, strict=True))
        for rollout, text, (verdict, _) in zip(rollouts, texts, decisions, strict=True):
            site_and_arm, repeat = divmod(rollout.index, self._design.repeats)
            site, arm = divmod(site_and_arm, len(ARMS))
            rows.append(
                {
                    "site": site,
                    "arm": ARMS[arm],
                    "repeat": repeat,
                    "problem_id": rollout.problem_id,
                    "text": text,
                    "n_tokens": rollout.n_tokens,
                    "finish_reason": rollout.finish_reason,
                    "status": verdict.status,
                    "answer": None if verdict.answer is None else stored_text(verdict.answer),
                    "kind": verdict.kind,
                }
            )
        self._draws.append(pa.Table.from_pylist(rows, schema=CONTINUATIONS))
        self._waiting = []
        self._schedule.written()


def continued(draws: ShardFolder) -> Iterator[tuple[int, str, str]]:
    """Yields (site, arm, status) of every stored continuation."""
    for table in draws.read(["site", "arm", "status"]):
        yield from zip(*(table[name].to_pylist() for name in ("site", "arm", "status")), strict=True)
