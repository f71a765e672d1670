"""LoRA adapters by their files: what they change, which base model they fit, and what identifies them.

No library reads an adapter before it is checked here. ``adapter_config.json`` may come from anybody: it can name modules
to import, patterns that never end, and kinds of adapters that change the base weights. So only what LoRA needs is read,
and an adapter that asks for anything else is refused.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Generic, NamedTuple, TypeVar

import msgspec

from rlvr_bench.errors import ModelError, in_one_line
from rlvr_bench.received import decode, read_regular
from rlvr_bench.samplers.model_files import files_digest
from rlvr_bench.samplers.weight_files import tensor_shapes

__all__ = [
    "ADAPTED",
    "Adapter",
    "Module",
    "adapted",
    "adapter_digest",
    "adapter_folder",
    "base_of",
    "read_adapter",
    "read_modules",
]

_CONFIG = "adapter_config.json"
_FILES = ("adapter_model.safetensors", "adapter_model.bin")
_INNER = ("lora_adapter", "actor/lora_adapter")  # where verl stores one, seen from actor and from global_step_N
_LARGEST_CONFIG = 10_000_000  # bytes
_MOST = 100_000  # entries of a pattern
ADAPTED = "+lora:"  # between the digests of base and adapter
# Changes of the law that no engine here computes, or that the base weights must be changed for.
_REFUSED = (
    *("alora_invocation_tokens", "arrow_config", "kasa_config", "layer_replication", "lora_bias", "megatron_config"),
    *("modules_to_save", "monteclora_config", "target_parameters", "trainable_token_indices", "use_bdlora"),
    *("use_qalora", "velora_config"),
)
# Settings that decide how an adapter begins and is trained; its tensors say the rest.
_IGNORED = frozenset(
    (
        *("auto_mapping", "base_model_name_or_path", "bias", "corda_config", "ensure_weight_tying", "eva_config"),
        *("exclude_modules", "fan_in_fan_out", "inference_mode", "init_lora_weights", "layers_pattern"),
        *("layers_to_transform", "loftq_config", "lora_ga_config", "megatron_core", "runtime_config", "target_modules"),
    )
)
# With these, a saved adapter changes the base weights no more than any other.
_PLAIN_BEGINNINGS = frozenset(("gaussian", "eva", "orthogonal", "mica", "lora_ga", "true", "false"))
_PATTERN = re.compile(r"\^?[\w.]+\$?")  # a pattern that is a name or the end of one, so that no search is long
_TENSOR = re.compile(r"(?:base_model\.model\.)?([\w.]+)\.lora_(?:(embedding)_)?([AB])(?:\.weight)?")
_MAGNITUDE = re.compile(r"(?:base_model\.model\.)?([\w.]+)\.lora_magnitude_vector(?:\.weight)?")

T = TypeVar("T")
Shapes = Mapping[str, tuple[int, ...]]
_Rank = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]


class _Config(msgspec.Struct, frozen=True):
    """What decides the law, of ``adapter_config.json``."""

    peft_type: str
    r: _Rank
    lora_alpha: float
    use_rslora: bool = False
    use_dora: bool = False
    rank_pattern: dict[str, _Rank] | None = None
    alpha_pattern: dict[str, float] | None = None


class Module(NamedTuple):
    """The change of one module, an ``inputs`` to ``outputs`` matrix: of this rank, and ``alpha`` as in the configuration."""

    inputs: int
    outputs: int
    rank: int
    alpha: float


class Adapter(msgspec.Struct, frozen=True, kw_only=True):
    """A checked adapter: its folder, its file of weights, and what its configuration says.

    ``base``: the name of the base model that the configuration states, if any; it is only shown. ``modules``: what is
    changed, by the module's name; None where only torch can read the file.
    """

    folder: Path
    weights: Path
    base: str | None
    config: _Config
    modules: Mapping[str, Module] | None

    @property
    def rank(self) -> int:
        """The largest rank."""
        return max([self.config.r, *(self.config.rank_pattern or {}).values()])

    @property
    def has_patterns(self) -> bool:
        """Whether ranks or alphas differ between modules."""
        return bool(self.config.rank_pattern or self.config.alpha_pattern)


def adapter_folder(folder: Path) -> Path:
    """The folder with the configuration of the adapter that ``folder`` names: itself, or one that verl writes inside."""
    return next((inside for inside in (folder, *map(folder.joinpath, _INNER)) if (inside / _CONFIG).is_file()), folder)


def read_adapter(folder: str | Path) -> Adapter:
    """Read and check an adapter; no weights are loaded.

    Raises ModelError for a folder without one, for an adapter that is not LoRA or does more than that, and for values or
    tensors that no adapter can have.
    """
    folder = adapter_folder(Path(folder))
    try:
        return _read(folder)
    except OSError as error:
        raise ModelError(f"{folder}: the adapter cannot be read: {error.strerror or error}") from error


def _read(folder: Path) -> Adapter:
    if not (folder / _CONFIG).is_file():
        hint = "a whole checkpoint, which is --model" if (folder / "config.json").is_file() else f"no {_CONFIG} in it"
        raise ModelError(f"{folder}: not a LoRA adapter: {hint}")
    stated = _stated(folder / _CONFIG)
    config = _checked(folder, stated)
    weights = next((folder / name for name in _FILES if (folder / name).is_file()), None)
    if weights is None:
        raise ModelError(f"{folder}: a LoRA adapter without its weights: expected {' or '.join(_FILES)}")
    base = stated.get("base_model_name_or_path")
    adapter = Adapter(
        folder=folder, weights=weights, base=base if isinstance(base, str) else None, config=config, modules=None
    )
    if weights.suffix != ".safetensors":
        return adapter
    shapes = tensor_shapes(weights)
    if shapes is None:
        raise ModelError(f"{weights}: not a safetensors file: its header cannot be read")
    return msgspec.structs.replace(adapter, modules=read_modules(adapter, shapes))


def _stated(file: Path) -> dict[str, Any]:
    if file.stat().st_size > _LARGEST_CONFIG:
        raise ModelError(f"{file}: {file.stat().st_size:,} bytes, too large for the configuration of an adapter")
    try:
        return decode(read_regular(file), dict[str, Any])
    except (msgspec.DecodeError, ValueError) as error:
        raise ModelError(f"{file}: not the JSON of an adapter: {in_one_line(str(error))}") from error


def _checked(folder: Path, stated: Mapping[str, Any]) -> _Config:
    """The configuration of plain LoRA. Raises ModelError for anything else."""
    kind = stated.get("peft_type")
    if kind != "LORA":
        raise ModelError(f"{folder}: an adapter of the type {_shown(kind)}, and only LORA is evaluated: merge it first")
    asked = [name for name in _REFUSED if _is_set(stated.get(name))]
    asked += [] if stated.get("bias") in (None, "none") else ["bias"]
    known = {*_REFUSED, *_IGNORED, *_Config.__struct_fields__}
    unknown = [name for name in stated if name not in known and _is_switch(stated[name])]
    for name in (*asked, *unknown):
        raise ModelError(
            f"{folder}: the adapter has {_shown(name)} {_shown(stated[name])}, which is more than LoRA: merge it "
            "(merge_and_unload of peft) and evaluate the result as --model"
        )
    beginning = str(stated.get("init_lora_weights", True)).lower()
    if beginning not in {*_PLAIN_BEGINNINGS, "none"}:
        raise ModelError(
            f"{folder}: init_lora_weights is {_shown(beginning)}, with which the base weights change too: convert the "
            "adapter (path_initial_model_for_weight_conversion of peft), or merge it"
        )
    try:
        config = msgspec.convert(stated, _Config)
    except msgspec.ValidationError as error:
        raise ModelError(f"{folder / _CONFIG}: {in_one_line(str(error))}") from error
    _check_numbers(folder, config)
    return config


def _check_numbers(folder: Path, config: _Config) -> None:
    ranks, alphas = config.rank_pattern or {}, config.alpha_pattern or {}
    if not all(map(math.isfinite, (config.lora_alpha, *alphas.values()))):
        raise ModelError(f"{folder / _CONFIG}: lora_alpha must be a finite number")
    for pattern in (*ranks, *alphas):
        if len(ranks) + len(alphas) > _MOST or not _PATTERN.fullmatch(pattern):
            raise ModelError(
                f"{folder / _CONFIG}: the pattern {_shown(pattern)} is no name of modules: merge the adapter "
                "(merge_and_unload of peft)"
            )


def _is_set(value: object) -> bool:
    return value is not None and value is not False and value not in ([], {}, "", ())


def _is_switch(value: object) -> bool:
    """Whether a setting of an unknown name asks for something; a number or a text alone may be a default."""
    return value is True or (isinstance(value, list | dict) and bool(value))


def _shown(value: object) -> str:
    return in_one_line(str(value))[:80]


# ------------------------------------------------------------------------------------------------------ its tensors
def read_modules(adapter: Adapter, shapes: Shapes) -> dict[str, Module]:
    """The changed modules by the shapes of the adapter's tensors. Raises ModelError where they are not those of LoRA."""
    pairs: dict[str, dict[str, tuple[int, ...]]] = {}
    for name, shape in shapes.items():
        if match := _TENSOR.fullmatch(name):
            pair = pairs.setdefault(match[1], {})
            if match[3] in pair:
                raise ModelError(
                    f"{adapter.weights}: two tensors {match[3]} of {_shown(match[1])}: save the adapter again"
                )
            pair[match[3]] = shape
        elif not (adapter.config.use_dora and _MAGNITUDE.fullmatch(name)):
            raise ModelError(
                f"{adapter.weights}: the tensor {_shown(name)} is not one of LoRA: merge the adapter (merge_and_unload "
                "of peft)"
            )
    if not pairs:
        raise ModelError(f"{adapter.weights}: no tensors of LoRA in it")
    ranks, alphas = _Patterns(adapter.config.rank_pattern), _Patterns(adapter.config.alpha_pattern)
    return {
        name: _module(adapter, name, pair, ranks.of(name, adapter.config.r), alphas.of(name, adapter.config.lora_alpha))
        for name, pair in pairs.items()
    }


def _module(adapter: Adapter, name: str, pair: Mapping[str, tuple[int, ...]], rank: int, alpha: float) -> Module:
    down, up = pair.get("A", ()), pair.get("B", ())
    if len(down) != 2 or len(up) != 2 or down[0] != rank or up[1] != rank or min(*down, *up) < 1:
        raise ModelError(
            f"{adapter.weights}: {_shown(name)} has tensors of shapes {list(down)} and {list(up)}, not of rank {rank} as "
            f"in {_CONFIG}"
        )
    return Module(down[1], up[0], rank, alpha)


class _Patterns(Generic[T]):
    """Values of modules by the ends of their names. The first that fits decides, as in peft and vLLM.

    A file may have thousands of both, so that no module is compared with every pattern.
    """

    def __init__(self, stated: Mapping[str, T] | None) -> None:
        self._ordered: dict[str, tuple[int, T]] = {}
        for number, (pattern, value) in enumerate((stated or {}).items()):
            self._ordered.setdefault(pattern.removesuffix("$"), (number, value))

    def of(self, name: str, default: T) -> T:
        """The value of a module. A pattern with ``^`` is its whole name."""
        parts = name.split(".")
        ends = [f"^{name}", *(".".join(parts[start:]) for start in range(len(parts)))]
        fitting = [self._ordered[end] for end in ends if end in self._ordered]
        return min(fitting, key=lambda item: item[0])[1] if fitting else default


def base_of(folder: Path) -> str:
    """What to write as ``--model`` for an adapter: the base model that it states, quoted for a shell, else BASE."""
    try:
        stated = read_adapter(folder).base
    except ModelError:
        return "BASE"
    return shlex.quote(_shown(stated)) if stated else "BASE"


# ------------------------------------------------------------------------------------------------------- identity
def adapter_digest(adapter: Adapter) -> str:
    """``sha256:`` and a digest over the content of the weights, and the settings that decide how they are used."""
    parts = [files_digest([adapter.weights]), msgspec.to_builtins(adapter.config)]
    return f"sha256:{hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()}"


def adapted(base: str, adapter: Adapter) -> str:
    """What identifies the weights of a base model, of this digest, with the adapter."""
    return f"{base}{ADAPTED}{adapter_digest(adapter)}"
