"""Arguments of an engine (``--engine-arg``): which are allowed, which decide what is drawn, which a manifest stores."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from rlvr_bench.errors import BadArgument

__all__ = ["NEUTRAL", "TRANSFORMERS_ARGUMENTS", "check_engine_arguments", "deciding", "recorded"]

TRANSFORMERS_ARGUMENTS = ("attn_implementation", "device", "dtype", "rows", "threads", "trust_remote_code")

# Arguments that change where and how fast rollouts are drawn, and at most rounding, but not the distribution. More
# rollouts may be added to a run with other values of these. Every other argument must stay the same. ``dtype`` is
# compared too, as the engine resolved it.
NEUTRAL = frozenset(
    (
        # which devices, and how many
        *("tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size", "data_parallel_size_local"),
        *("data_parallel_address", "data_parallel_backend", "data_parallel_rank", "data_parallel_rpc_port"),
        *("enable_expert_parallel", "distributed_executor_backend", "disable_custom_all_reduce", "device", "threads"),
        # how much memory
        *("gpu_memory_utilization", "kv_cache_memory_bytes", "num_gpu_blocks_override", "swap_space"),
        *("cpu_offload_gb", "block_size", "enable_prefix_caching", "max_parallel_loading_workers", "download_dir"),
        # how many sequences at once
        *("max_lora_rank", "max_loras", "max_cpu_loras", "fully_sharded_loras"),
        *("max_num_seqs", "max_num_batched_tokens", "enable_chunked_prefill", "async_scheduling", "rows"),
        *("enforce_eager", "disable_log_stats", "max_logprobs", "dtype"),
        # how a server is asked
        *("concurrency", "timeout_s", "retries", "api_key_env"),
    )
)
_SECRET = frozenset(("api_key", "hf_token"))


def recorded(arguments: Mapping[str, object]) -> dict[str, object]:
    """The arguments as a manifest stores them: JSON values, an object as its type or name; no API keys."""
    known = {name: value for name, value in sorted(arguments.items()) if name not in _SECRET}
    built: dict[str, object] = msgspec.json.decode(msgspec.json.encode(known, enc_hook=_described))
    return built


def deciding(arguments: Mapping[str, object]) -> dict[str, object]:
    """The recorded arguments that can change what is drawn."""
    return {name: value for name, value in recorded(arguments).items() if name not in NEUTRAL}


def check_engine_arguments(engine: str, arguments: Mapping[str, object], token_stats: str) -> None:
    """Raise BadArgument for arguments that are wrong, as far as this is known without loading the engine."""
    if engine == "transformers" and (unknown := sorted(set(arguments) - set(TRANSFORMERS_ARGUMENTS))):
        allowed = f"the transformers engine takes {', '.join(TRANSFORMERS_ARGUMENTS)}"
        raise BadArgument("--engine-arg", unknown[0], allowed)
    trusted = arguments.get("trust_remote_code", False)
    if engine in ("transformers", "vllm") and not isinstance(trusted, bool):
        raise BadArgument("--engine-arg trust_remote_code", trusted, "must be true or false")  # any text counts as true
    if engine != "vllm":
        return
    reserved = {
        "model": "it is --model",
        **dict.fromkeys(("enable_lora", "default_mm_loras"), "adapters are --adapter"),
        "worker_extension_cls": "the sampler loads its own worker extension",
    }
    if token_stats != "off":
        off = "sample with token statistics off"
        reserved["logprobs_mode"] = f"token statistics are those of the raw logits; {off}"
        reserved["scheduler_cls"] = f"token statistics are gathered by a scheduler of the sampler; {off}"
        reserved["enable_return_routed_experts"] = f"token statistics come in its field; {off}"
    for name, reason in reserved.items():
        if name in arguments:
            raise BadArgument(f"engine argument {name}", arguments[name], f"not allowed: {reason}")


def _described(value: object) -> str:
    """The text for a Python object that is used as a setting: ``torch.float32``, a class, a function."""
    name = getattr(value, "__qualname__", None)
    return str(value) if name is None else f"{getattr(value, '__module__', '')}.{name}"
