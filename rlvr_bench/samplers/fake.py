"""A sampler without a model: known solve rates, deterministic, fast. For tests, demos and dry runs of a pipeline."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterable, Iterator, Mapping

from rlvr_bench.records import Draw, DrawRequest, EngineInfo, Problem, Prompt, Rollout, SamplingParameters

__all__ = ["FakeSampler", "spread_rates"]


def spread_rates(problems: Iterable[Problem]) -> dict[str, float]:
    """A solve rate in [0, 1) by problem id: u^4, with u in [0, 1) hashed from the id.

    So most problems are hard: about one in five has a rate below 0.002.
    """
    rates = {}
    for problem in problems:
        u = int.from_bytes(hashlib.sha256(problem.id.encode()).digest()[:8], "big") / 2**64
        rates[problem.id] = u**4
    return rates


class FakeSampler:
    """Solves every problem with a known probability, independently per rollout.

    ``rates`` maps problem ids to solve rates, ``right`` maps them to correct responses; ``wrong(rng)`` returns a wrong
    response. There are no token statistics, and ``info.token_stats`` is ``none``.
    """

    def __init__(
        self,
        rates: Mapping[str, float],
        right: Mapping[str, str],
        wrong: Callable[[random.Random], str] = lambda rng: f"\\boxed{{{rng.randrange(10**6, 10**7)}}}",
    ) -> None:
        self._rates = dict(rates)
        self._right = dict(right)
        self._wrong = wrong

    @property
    def info(self) -> EngineInfo:
        digest = hashlib.sha256(repr(sorted(self._rates.items())).encode()).hexdigest()
        return EngineInfo(
            engine="fake",
            version="1",
            model="fake",
            weights=digest,
            context_tokens=None,
            chat_template=None,
            token_stats="none",
            dtype="none",
            device="none",
        )

    def prompt_tokens(self, prompt: Prompt) -> int:
        return len(prompt.text.split())

    def draw(self, requests: Iterable[DrawRequest | None], sampling: SamplingParameters) -> Iterator[Draw]:
        """One draw per request, in order. A rollout depends only on the request's seed and its index."""
        for request in requests:
            if request is None:
                continue
            rng = random.Random(request.seed)
            rollouts = [self._rollout(request, request.start + i, rng) for i in range(request.n)]
            yield Draw(request=request, rollouts=tuple(rollouts))

    def close(self) -> None:
        """Nothing to free."""

    def _rollout(self, request: DrawRequest, index: int, rng: random.Random) -> Rollout:
        name = request.prompt.problem_id
        text = self._right[name] if rng.random() < self._rates[name] else self._wrong(rng)
        return Rollout(problem_id=name, index=index, text=text, n_tokens=len(text.split()), finish_reason="stop")
