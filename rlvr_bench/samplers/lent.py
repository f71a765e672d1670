"""A sampler that the caller opened: its draws are checked, and it stays open."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from rlvr_bench.errors import BadArgument, EngineError
from rlvr_bench.records import Draw, DrawRequest, EngineInfo, Prompt, Rollout, SamplingParameters
from rlvr_bench.samplers.protocol import Growth, LimitedSampler, PreparedSampler, Sampler, growing_draws

__all__ = ["LentSampler"]


class LentSampler:
    """Implements ``Sampler`` with a sampler of the caller. A draw that was not asked for is an error."""

    def __init__(self, inner: object) -> None:
        """Raises BadArgument where ``inner`` is not a sampler."""
        if not isinstance(inner, Sampler) or not isinstance(inner.info, EngineInfo):
            needed = "must be a model's name, or a Sampler: info (an EngineInfo), prompt_tokens, draw and close"
            raise BadArgument("model", inner, needed)
        self._inner = inner

    @property
    def info(self) -> EngineInfo:
        return self._inner.info

    def prepare(self, prompts: Sequence[Prompt]) -> None:
        """Prepare the caller's sampler where it is a ``PreparedSampler``."""
        if isinstance(self._inner, PreparedSampler):
            self._inner.prepare(prompts)

    def check_sampling(self, sampling: SamplingParameters) -> None:
        """Ask the caller's sampler where it is a ``LimitedSampler``."""
        if isinstance(self._inner, LimitedSampler):
            self._inner.check_sampling(sampling)

    def prompt_tokens(self, prompt: Prompt) -> int:
        return self._inner.prompt_tokens(prompt)

    def draw(self, requests: Iterable[DrawRequest | None], sampling: SamplingParameters) -> Iterator[Draw]:
        """The draws of the caller's sampler. Raises its errors; EngineError where the draws are not those asked for."""
        return (item for item in self.draw_growing(requests, sampling) if isinstance(item, Draw))

    def draw_growing(
        self, requests: Iterable[DrawRequest | None], sampling: SamplingParameters
    ) -> Iterator[Draw | Growth]:
        """As ``draw``, with what the draws have so far where the caller's sampler is a ``GrowingSampler``."""
        asked: dict[tuple[str, int], DrawRequest] = {}

        def noted() -> Iterator[DrawRequest | None]:
            for request in requests:
                if request is not None:
                    asked[request.prompt.problem_id, request.start] = request
                yield request

        for draw in growing_draws(self._inner, noted(), sampling):
            if not isinstance(draw, Draw):
                yield draw
                continue
            request = asked.pop((draw.request.prompt.problem_id, draw.request.start), None)
            self._check(draw, request)
            yield draw
        if asked:
            name, start = next(iter(asked))
            self._refuse(f"ended without {len(asked)} draws that were asked for, such as {name} from rollout {start}")

    def close(self) -> None:
        """Does nothing: the caller closes the sampler."""

    def _check(self, draw: Draw, request: DrawRequest | None) -> None:
        name, start = draw.request.prompt.problem_id, draw.request.start
        if request != draw.request:
            self._refuse(f"gave back a draw that was not asked for: {name} from rollout {start}")
        if not draw.rollouts:  # given up: the sampler raises an error after the other draws
            return
        wanted = [(name, index) for index in range(start, start + draw.request.n)]
        if [_address(rollout) for rollout in draw.rollouts] != wanted:
            self._refuse(f"gave back other rollouts than the {draw.request.n} of {name} from {start} on, in this order")

    def _refuse(self, what: str) -> None:
        raise EngineError(f"the sampler {self.info.engine!r} {what}")


def _address(rollout: Rollout) -> tuple[str, int]:
    return rollout.problem_id, rollout.index
