"""The sampling parameters that a model recommends in its ``generation_config.json``."""

from __future__ import annotations

import json
from pathlib import Path

from rlvr_bench.errors import BadArgument, ModelError, in_one_line
from rlvr_bench.options import check_sampling
from rlvr_bench.samplers.model_files import cached_folder

__all__ = ["recommended_sampling"]

_NAMES = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")


def recommended_sampling(model: str, revision: str | None = None, *, download: bool = False) -> dict[str, float]:
    """The parameters that the model names, by the names of SamplingParameters; empty where it names none.

    ``model``: a folder or a hub id. Of a hub model the local cache is read; with ``download`` the file is fetched where it
    is not there. Raises ModelError where the file cannot be read or has a value that is not allowed.
    """
    folder = Path(model) if Path(model).is_dir() else cached_folder(model, revision)
    file = None if folder is None else folder / "generation_config.json"
    if file is None and download:
        file = _fetched(model, revision)
    if file is None or not file.is_file():
        return {}
    try:
        content = json.loads(file.read_bytes())
        named = {name: content[name] for name in _NAMES if content.get(name) is not None}
        values = {name: _number(value) for name, value in named.items()}
        if "top_k" in values:
            values["top_k"] = max(0, int(values["top_k"]))  # -1 is no limit too
        check_sampling(values)
    except BadArgument as error:
        raise ModelError(f"{file}: {error.name} is {error.value!r}: {error.allowed}") from error
    except (OSError, ValueError, AttributeError, TypeError, RecursionError, OverflowError) as error:
        raise ModelError(f"{file}: no generation config that can be read ({in_one_line(str(error))})") from error
    return values


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{value!r} is no number")
    float(value)  # OverflowError for a number that no engine takes
    return value


def _fetched(model: str, revision: str | None) -> Path | None:
    """The file of a hub model; None where there is none, or it cannot be fetched."""
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError
    except ImportError:
        return None
    try:
        return Path(hf_hub_download(model, "generation_config.json", revision=revision))
    except (HfHubHTTPError, HFValidationError, OSError):
        return None
