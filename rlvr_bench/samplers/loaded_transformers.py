"""A checkpoint loaded by Hugging Face transformers. Sampling and scoring both use it."""

from __future__ import annotations

import contextlib
import pickle
from collections.abc import Collection, Iterator, Mapping

import msgspec
import torch
import transformers
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from torch import Tensor

from rlvr_bench.errors import ModelError
from rlvr_bench.records import EngineInfo
from rlvr_bench.samplers.adapter_fit import adapter_cautions, check_adapter
from rlvr_bench.samplers.adapter_tensors import read_tensors
from rlvr_bench.samplers.adapters import adapted, read_adapter
from rlvr_bench.samplers.chat_templates import check_template_arguments
from rlvr_bench.samplers.engine_arguments import check_engine_arguments
from rlvr_bench.samplers.load_faults import loading_fault
from rlvr_bench.samplers.lora_transformers import check_peft, remove_adapter, swap_adapter
from rlvr_bench.samplers.model_files import template_cautions, template_digest, weights_digest
from rlvr_bench.samplers.protocol import SamplerOptions
from rlvr_bench.samplers.quiet import without_deprecations
from rlvr_bench.samplers.tokenizer import Tokenizer

__all__ = ["LoadedTransformers", "load_tokenizer"]

_ROWS = 512  # rollouts generated together at most
# With fewer parameters an operation is too short for several threads: on a busy machine two threads, which wait for
# each other at every operation, were measured up to 50 times slower than one.
_ONE_THREAD_PARAMETERS = 20_000_000
# A damaged or hostile folder makes the readers of configuration, tokenizer and weights fail in all these ways.
_REFUSALS = (
    *(OSError, ValueError, LookupError, ImportError, RuntimeError, pickle.UnpicklingError, SafetensorError),
    *(TypeError, AttributeError, RecursionError, ArithmeticError, AssertionError, StrictDataclassError),
)


class LoadedTransformers:
    """The tokenizer and the weights, and limits on their use.

    Engine arguments: dtype (float32 on a CPU, else that of the checkpoint), device, rows (rollouts generated together),
    threads (on a CPU), attn_implementation, trust_remote_code.
    """

    @without_deprecations()
    def __init__(self, options: SamplerOptions) -> None:
        """Load tokenizer and weights. Raises ModelError where they cannot be loaded, BadArgument."""
        args = dict(options.engine_args)
        check_engine_arguments("transformers", args, options.token_stats)
        self.device = torch.device(args.pop("device", "cuda" if torch.cuda.is_available() else "cpu"))
        self.rows = int(args.pop("rows", _ROWS))
        threads = args.pop("threads", None)
        dtype = args.pop("dtype", "float32" if self.device.type == "cpu" else "auto")
        # Without a value, transformers asks on standard input whether to run the model's code.
        trusted = args.pop("trust_remote_code", False)
        transformers.utils.logging.disable_progress_bar()
        try:
            self.tokenizer: Tokenizer = transformers.AutoTokenizer.from_pretrained(
                options.model, trust_remote_code=trusted
            )
            check_template_arguments(self.tokenizer, options.template_args)
            _check_alone(options.model)
            model, loading = transformers.AutoModelForCausalLM.from_pretrained(
                options.model,
                dtype=dtype,
                trust_remote_code=trusted,
                weights_only=True,
                output_loading_info=True,
                **args,
            )
        except _REFUSALS as error:
            reason = loading_fault(options.model, error)
            raise ModelError(f"cannot load {options.model!r} with transformers: {reason}") from error
        _check_whole(options.model, loading)
        self._model: transformers.PreTrainedModel | None = model.to(self.device).eval()
        self.stop = self._stop_ids()
        self._threads = self._useful_threads(threads)
        described = self._describe(options, weights_digest(options.model))
        described = msgspec.structs.replace(described, cautions=(*described.cautions, *_surplus(loading)))
        self._base = self.info = described
        if options.adapter is not None:
            self.use_adapter(options.adapter)

    @without_deprecations()
    def use_adapter(self, folder: str | None) -> None:
        """Put a LoRA adapter into the model, in place of the one before; None: the base model again.

        Raises ModelError where it cannot be loaded into this model, EngineError where peft is not installed.
        """
        if folder is None:
            remove_adapter(self.model)
            self.info = self._base
            return
        check_peft()
        adapter = read_adapter(folder)
        check_adapter(adapter, "transformers", self._base.model)
        swap_adapter(self.model, adapter, read_tensors(adapter))
        cautions = adapter_cautions(adapter, self._base.model, self._base.chat_template)
        self.info = msgspec.structs.replace(
            self._base,
            adapter=folder,
            weights=adapted(self._base.weights, adapter),
            cautions=(*self._base.cautions, *cautions),
        )

    @property
    def model(self) -> transformers.PreTrainedModel:
        """Raises ModelError once this is closed."""
        if self._model is None:
            raise ModelError(f"{self.info.model} is closed: open it again")
        return self._model

    @property
    def vocabulary(self) -> int:
        """Number of tokens in the configuration."""
        return int(self.model.config.get_text_config().vocab_size)

    @property
    def logits_width(self) -> int:
        """Width of a row of logits, with entries that belong to no token."""
        return int(self.model.get_output_embeddings().weight.shape[0])

    def cache_room(self, on_cpu: int, on_gpu: int) -> int:
        """Number of tokens whose keys and values fit into memory.

        That is ``on_cpu`` bytes on a CPU, and 1 / ``on_gpu`` of the free memory on a GPU.
        """
        config = self.model.config.get_text_config()
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        token_bytes = 2 * config.num_hidden_layers * heads * head_dim * self.model.dtype.itemsize
        free = on_cpu if self.device.type == "cpu" else torch.cuda.mem_get_info(self.device)[0] // on_gpu
        return int(free // token_bytes)

    @contextlib.contextmanager
    def threads(self) -> Iterator[None]:
        """A context in which torch uses the number of threads chosen for this model."""
        before = torch.get_num_threads()
        torch.set_num_threads(self._threads)
        try:
            yield
        finally:
            torch.set_num_threads(before)

    def close(self) -> None:
        """Free the weights."""
        self._model = None
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _useful_threads(self, given: int | None) -> int:
        few = self.model.num_parameters() < _ONE_THREAD_PARAMETERS
        return int(given or (1 if few else torch.get_num_threads()))

    def _stop_ids(self) -> Tensor:
        """Every id that ends a response: those of the generation config, and the tokenizer's.

        The generation config of a chat model includes the end of a turn.
        """
        stop, end = self.model.generation_config.eos_token_id, self.tokenizer.eos_token_id
        if stop is None:
            stop = end
        ids = [] if stop is None else [stop] if isinstance(stop, int) else list(stop)
        if end is not None:
            ids.append(end)
        return torch.tensor(sorted(set(ids)), device=self.model.device)

    def _describe(self, options: SamplerOptions, weights: str) -> EngineInfo:
        config = self.model.config.get_text_config()
        return EngineInfo(
            engine="transformers",
            version=transformers.__version__,
            model=options.model,
            weights=weights,
            context_tokens=getattr(config, "max_position_embeddings", None),
            chat_template=template_digest(self.tokenizer, options.chat_template),
            cautions=template_cautions(self.tokenizer, options.chat_template),
            token_stats="none" if options.token_stats == "off" else "exact",
            dtype=str(self.model.dtype).removeprefix("torch."),
            device=self.device.type,
        )


def _check_whole(model: str, loading: Mapping[str, Collection[str]]) -> None:
    """Raises ModelError for weights that the checkpoint lacks: transformers fills them with random numbers.

    ``loading``: what transformers found of the model's tensors.
    """
    if names := _named(loading.get("missing_keys")):
        raise ModelError(
            f"{model}: it has no weights for {names}: weights and config.json are not of one model, or a file is missing"
        )


def _surplus(loading: Mapping[str, Collection[str]]) -> tuple[str, ...]:
    """A caution where the checkpoint has weights that the model does not use; a value head is harmless, a layer is not."""
    names = _named(loading.get("unexpected_keys"))
    return (f"the checkpoint has weights that its model does not use: {names}",) if names else ()


def _named(names: Collection[str] | None) -> str:
    """The first three names, and how many more there are."""
    shown = sorted(map(str, names or ()))
    return ", ".join(shown[:3]) + (f" and {len(shown) - 3} more" if len(shown) > 3 else "")


def _check_alone(model: str) -> None:
    """Raises ModelError for a model with an adapter beside it: transformers would load that one too, unchecked."""
    if transformers.utils.find_adapter_config_file(model) is not None:
        raise ModelError(
            f"{model}: it has an adapter_config.json, so what is meant is not clear: name an adapter with --model BASE "
            "--adapter, or move that file out of the folder of merged weights"
        )


def load_tokenizer(model: str) -> Tokenizer:
    """Load only the tokenizer of a checkpoint. Raises ModelError where it cannot be loaded."""
    try:
        tokenizer: Tokenizer = transformers.AutoTokenizer.from_pretrained(model, trust_remote_code=False)
    except _REFUSALS as error:
        raise ModelError(f"cannot load the tokenizer of {model!r}: {loading_fault(model, error)}") from error
    return tokenizer
