"""Log-probabilities of whole responses under the law of one checkpoint, stored in a run: ``reach/scores/<law>/``.

A row is one distinct response: the problem and a digest of its tokens. It does not depend on which run drew the response,
so that another call with other runs scores only what is new. Shards are append-only and checksummed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rlvr_bench.errors import RunError
from rlvr_bench.samplers.logprobs import LawScore
from rlvr_bench.store import Run
from rlvr_bench.store.locks import lock_folder
from rlvr_bench.store.paths import inside
from rlvr_bench.store.record_files import record_if_there, write_record
from rlvr_bench.store.shards import ShardFolder

__all__ = ["Law", "LawScores", "ResponseKey", "response_digest"]

SCHEMA = 1
_ROWS = pa.schema(
    [
        ("problem_id", pa.dictionary(pa.int32(), pa.string())),
        ("response", pa.binary(16)),
        ("n_tokens", pa.int32()),
        ("logprob", pa.float64()),
        ("cut", pa.int32()),
    ]
)
_ROUNDED = 1e-3  # a log-probability may round to just above 0
ResponseKey = tuple[str, bytes]


class Law(msgspec.Struct, frozen=True, kw_only=True):
    """The law that scores were computed under: weights, sampling parameters and engine.

    ``sampling`` has the parameters that change the law of a token. ``dtype`` and ``end_tokens``, the ids that end a
    response, are known once the engine was opened.
    """

    schema: int = SCHEMA
    model: str
    weights: str
    sampling: dict[str, object]
    engine: str
    engine_args: dict[str, object]
    dtype: str = ""
    end_tokens: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """The folder of the scores: a digest of what decides them."""
        identity = [self.schema, self.weights, sorted(self.sampling.items()), self.engine, self.engine_args]
        return hashlib.sha256(msgspec.json.encode(identity, order="sorted")).hexdigest()[:16]


class LawScores:
    """The scores of a run's folder under one law. Inside ``with`` it is locked for writing."""

    def __init__(self, run: Run, law: Law) -> None:
        """Raises RunError where the stored law is damaged."""
        self.path = inside(run.path, "reach", "scores", law.name)
        self._shards = ShardFolder(inside(self.path, "shards"), _ROWS)
        remedy = f"Remove {self.path}."
        self.law = record_if_there(self.path / "law.json", Law, remedy) or law
        if self.law.name != law.name:
            raise RunError(f"{self.path / 'law.json'}: it is the record of another law. {remedy}")

    def __enter__(self) -> Self:
        """Raises RunLocked where another process scores under the same law, StorageError."""
        self._lock = lock_folder(self.path)
        self._shards.set_aside_damaged()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._lock.release()

    def describe(self, law: Law) -> None:
        """Store what is known of the law once its engine is open. Raises RunError where the scores have another dtype."""
        if self.law.dtype not in ("", law.dtype):
            raise RunError(f"{self.path}: scored in {self.law.dtype}, asked is {law.dtype}. Remove that folder.")
        self.law = law
        write_record(self.path / "law.json", law)

    def append(self, keys: Sequence[ResponseKey], n_tokens: Sequence[int], scores: Sequence[LawScore]) -> None:
        """Write one shard."""
        rows = [
            {"problem_id": name, "response": digest, "n_tokens": n, "logprob": score.logprob, "cut": score.cut}
            for (name, digest), n, score in zip(keys, n_tokens, scores, strict=True)
        ]
        if rows:
            self._shards.append(pa.Table.from_pylist(rows, schema=_ROWS))

    def read(self) -> Mapping[ResponseKey, LawScore]:
        """All stored scores. Raises RunError where a shard is damaged or a value is no log-probability."""
        scores: dict[ResponseKey, LawScore] = {}
        for table in self._shards.read():
            logprob, cut = table["logprob"].to_numpy(), table["cut"].to_numpy()
            if not (logprob <= _ROUNDED).all() or not (cut >= 0).all():
                raise RunError(f"{self.path}: it has a value that is no log-probability. Remove that folder.")
            keys = zip(table["problem_id"].to_pylist(), table["response"].to_pylist(), strict=True)
            scores.update(zip(keys, map(LawScore, logprob.tolist(), cut.tolist()), strict=True))
        return scores


def response_digest(ids: npt.NDArray[np.int32]) -> bytes:
    """16 bytes that identify a sequence of tokens."""
    return hashlib.blake2b(ids.astype("<i4").tobytes(), digest_size=16).digest()
