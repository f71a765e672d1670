"""Why a checkpoint does not load, in one line with what to do: engines raise paragraphs that advise to run anything."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

__all__ = ["known_fault", "loading_fault"]

_LONGEST = 200  # characters


def loading_fault(model: str, error: BaseException) -> str:
    """What is wrong, in one line: a known fault, else the first line of the error's text."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return known_fault(model, error) or lines[0][:_LONGEST]


def known_fault(model: str, error: BaseException) -> str | None:
    """The remedy where a model is gated, has custom code, or has weights that are no mere tensors; else None."""
    texts = " ".join(f"{type(part).__name__} {part}" for part in _chain(error)).lower()
    if "gatedrepoerror" in texts or "gated repo" in texts:
        return (
            f"it is gated: accept its terms at https://huggingface.co/{model}, then run `hf auth login` or set HF_TOKEN"
        )
    if "weights only load failed" in texts or "unpicklingerror" in texts:
        return (
            "its weights are a pickle of more than tensors, which could run code: save them as safetensors where you "
            "trust them"
        )
    if "custom code" in texts:
        where = model if Path(model).is_dir() else f"https://huggingface.co/{model}"
        return f"it has custom code: read it ({where}), and allow it with --engine-arg trust_remote_code=true"
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error and those that led to it."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
