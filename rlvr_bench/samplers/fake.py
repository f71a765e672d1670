"""A sampler without a model: known solve rates, deterministic, instant. For tests, demos and dry runs of a pipeline."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterable, Iterator, Mapping

from rlvr_bench.records import Draw, DrawRequest, EngineInfo, Problem, Prompt, Rollout, SamplingParameters

__all__ = ["FakeSampler", "spread_rates"]


def spread_rates(problems: Iterable[Problem]) -> dict[str, float]:
    """A solve rate in [0, 1) per problem, hashed from its id and skewed to hard ones: u^4, so about one in five is < 0.002."""
    rates = {}
    for problem in problems:
        u = int.from_bytes(hashlib.sha256(problem.id.encode()).digest()[:8], "big") / 2**64
        rates[problem.id] = u**4
    return rates


class FakeSampler:
    """Answers each problem right with a known probability, independently per rollout.

    ``rates`` maps problem ids to solve rates, ``right`` to a correct response; a wrong response is ``wrong(rng)``. It has
    no token statistics, and says so.
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
        """One draw per request, in order; the outcome of a rollout depends on its seed and place alone."""
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
