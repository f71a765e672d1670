"""Seeds of draw batches: hashed from the name of the batch, never counted up from another seed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

__all__ = ["continued_seed", "draw_seed"]


def draw_seed(run_seed: int, task: str, problem_id: str, start: int, drawn_by: str | None = None) -> int:
    """The seed of the draw batch that begins at rollout ``start``: a 62-bit hash of its name.

    ``drawn_by`` identifies the model, so that two checkpoints with the same run seed share no random stream. It is None
    for a run of an older version, whose seeds depend only on run seed, task, problem and ``start``.

    Engines draw response i of a request from the seed s + i, so two seeds that are close together share streams. With
    hashed seeds the probability that any two of a million batches are that close is below 1e-2 for batches of 16,384
    rollouts, and below 1e-5 for batches of 16. 62 bits leave room for + i in a signed 64-bit seed.
    """
    parts = [run_seed, task, problem_id, start] if drawn_by is None else [run_seed, drawn_by, task, problem_id, start]
    return _hashed(parts)


def continued_seed(seed: int, offset: int, tokens: int) -> int:
    """The seed from which rollout ``offset`` of the batch with this seed continues after so many saved tokens.

    An engine's stream cannot be entered in its middle, and from its beginning it would repeat the numbers that drew the
    saved tokens. A hash gives another stream: the law of the rollout stays the same, its text may differ.
    """
    return _hashed(["continued", seed, offset, tokens])


def _hashed(parts: Sequence[object]) -> int:
    name = json.dumps(parts, ensure_ascii=False)
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") >> 2
