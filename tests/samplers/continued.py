"""Interrupts a draw after some steps and continues it from what it had: the same requests, with the rollouts saved."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from rlvr_bench.records import Draw, DrawRequest, SamplingParameters, SavedRollout
from rlvr_bench.samplers.protocol import GrowingSampler

__all__ = ["continue_from", "interrupt"]


def interrupt(
    sampler: GrowingSampler, requests: Sequence[DrawRequest], sampling: SamplingParameters, tokens: int
) -> tuple[list[Draw], list[SavedRollout]]:
    """The finished draws, and the rollouts of the open ones, once all have a token and one has so many."""
    draws, items = list[Draw](), sampler.draw_growing(requests, sampling)
    for item in items:
        if isinstance(item, Draw):
            draws.append(item)
            continue
        saved = list(item())
        asked = sum(request.n for request in requests) - sum(draw.request.n for draw in draws)
        if len(saved) == asked and max(len(rollout.ids) for rollout in saved) >= tokens:
            items.close()  # type: ignore[attr-defined]  # a generator
            return draws, sorted(saved, key=lambda rollout: (rollout.problem_id, rollout.index))
    raise AssertionError("everything was drawn before")


def continue_from(
    requests: Sequence[DrawRequest], draws: Sequence[Draw], saved: Sequence[SavedRollout]
) -> list[DrawRequest]:
    """The requests that are not drawn, with what is saved of their rollouts."""
    done = {(draw.request.prompt.problem_id, draw.request.start) for draw in draws}
    return [
        msgspec.structs.replace(request, saved=tuple(one for one in saved if _is_of(one, request)))
        for request in requests
        if (request.prompt.problem_id, request.start) not in done
    ]


def _is_of(saved: SavedRollout, request: DrawRequest) -> bool:
    return saved.problem_id == request.prompt.problem_id and 0 <= saved.index - request.start < request.n
