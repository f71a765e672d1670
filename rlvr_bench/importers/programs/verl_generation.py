"""verl ``main_generation``: the parquet file of a data set with a column ``responses``, a list per row.

``reward_model.ground_truth`` is the gold answer and ``prompt`` the messages. The file has no verdicts: they come from the
verifier of a task.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rlvr_bench.errors import DataError
from rlvr_bench.importers.entries import Format, Glimpse, Origin, Response
from rlvr_bench.importers.messages import sent, without_system
from rlvr_bench.importers.rows import parquet_rows

__all__ = ["FORMAT"]

_COLUMNS = ("responses", "prompt", "reward_model")


def _fits(seen: Glimpse) -> bool:
    return seen.kind == "parquet" and set(_COLUMNS) <= seen.names


def _survey(files: Sequence[Path]) -> tuple[Origin, list[Path]]:
    return Origin(), list(files)


def _read(file: Path, verdict: str | None, responses_only: bool) -> Iterator[Response]:
    if verdict is not None:
        raise DataError(f"{file}: no verdict {verdict!r}: files of verl's main_generation hold none")
    for where, row in parquet_rows(file, _COLUMNS):
        texts = row["responses"]
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise DataError(f"{where}: responses must be a list of texts")
        common: dict[str, Any] = {"question": without_system(row["prompt"]), "gold": _gold(row["reward_model"])}
        common["prompt"] = sent(row["prompt"])
        yield from (Response(where=where, problem="", text=text, **common) for text in texts)


def _gold(reward_model: Any) -> str:
    value = reward_model.get("ground_truth") if isinstance(reward_model, dict) else None
    return "" if value is None or isinstance(value, list | dict) else str(value)


FORMAT = Format(name="verl-generation", fits=_fits, survey=_survey, read=_read, holds_verdicts=False)
