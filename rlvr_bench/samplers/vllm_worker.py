"""Exact token statistics from inside a vLLM engine, in the columns of its log-probabilities.

vLLM sends a small table ``LogprobsTensors`` from its sampler to ``CompletionOutput.logprobs``, with any batching,
preemption, chunked prefill or parallelism. With this worker extension a request with ``logprobs=2`` gets, for every
sampled token, [its log-probability, entropy, nucleus size] instead of [its log-probability, top 1, top 2]. They are
statistics of the model's own distribution at temperature 1, before penalties and top-p. A request with ``logprobs=k``
for k > 2 also gets the true top k - 2 after them. Requests for 0 or 1 and requests for the whole vocabulary are not
changed. The same holds for prompt log-probabilities.

In a server of your own::

    vllm serve MODEL --worker-extension-cls rlvr_bench.samplers.vllm_worker.TokenStatistics

The driver reads the columns with ``decode``, which needs neither vLLM nor torch, and raises EngineError where they are
missing.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import inspect
import logging
import os
import select
import signal
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from rlvr_bench.samplers.vllm_packing import TokenColumns, columns_of, marks

if TYPE_CHECKING:
    from torch import Tensor
    from vllm.logprobs import SampleLogprobs
    from vllm.v1.outputs import LogprobsTensors, SamplerOutput
    from vllm.v1.sample.metadata import SamplingMetadata
    from vllm.v1.sample.sampler import Sampler

__all__ = ["COLUMNS", "DRIVER_PID", "TOP_P", "TokenStatistics", "decode"]

log = logging.getLogger(__name__)

COLUMNS = 2
"""What to ask as ``SamplingParams.logprobs``."""

TOP_P = 0.95
DRIVER_PID = "RLVR_BENCH_DRIVER_PID"
"""Environment variable that names the process an engine must not outlive."""

_V2_MODULES = (
    "vllm.v1.worker.gpu.sample.sampler",
    "vllm.v1.worker.gpu.sample.prompt_logprob",
    "vllm.v1.worker.gpu.spec_decode.rejection_sampler",
)
_MARK = "_rlvr_bench_token_statistics"
_switch = {"on": True, "profiling": False}


class TokenStatistics:
    """Worker extension. Creating the worker installs the hook, and makes the worker end when its driver ends."""

    def __new__(cls, *args: object, **kwargs: object) -> Self:
        _install()
        return super().__new__(cls)

    def init_worker_extension(self) -> None:
        """Called by vLLM 0.33 and later once the device is ready. Earlier versions only create the worker."""
        _install()

    def switch_token_statistics(self, on: bool) -> None:
        """Turn the hook on or off, by ``collective_rpc``: the start-up test compares it with vLLM's own numbers."""
        _switch["on"] = on


# ------------------------------------------------------------------------------------------------ in the driver
def decode(logprobs: SampleLogprobs | None, token_ids: Sequence[int]) -> TokenColumns:
    """Read the statistics of the T sampled ``token_ids`` from a completion's ``logprobs``, which are flat or dicts.

    Raises EngineError where the hook was not active, so ordinary log-probabilities are never read as statistics.
    """
    return columns_of(*_table(logprobs), token_ids)


def _table(
    logprobs: SampleLogprobs | None,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Token ids (T, 3) and values (T, 3) of the first three columns; fewer columns where a position has fewer."""
    width = COLUMNS + 1
    if logprobs is None or not len(logprobs):
        return np.zeros((0, width), np.int64), np.zeros((0, width))
    if hasattr(logprobs, "start_indices"):
        starts = np.asarray(logprobs.start_indices)
        width = min(width, int((np.asarray(logprobs.end_indices) - starts).min()))
        at = starts[:, None] + np.arange(width)
        return np.asarray(logprobs.token_ids)[at], np.asarray(logprobs.logprobs, dtype=np.float64)[at]
    width = min(width, *(len(position) for position in logprobs))
    rows = [list(position.items())[:width] for position in logprobs]
    ids = np.array([[token for token, _ in row] for row in rows], dtype=np.int64)
    return ids, np.array([[entry.logprob for _, entry in row] for row in rows])


# ------------------------------------------------------------------------------------------------ in the worker
def _wanted(k: int | None, vocabulary: int) -> bool:
    return _switch["on"] and k is not None and COLUMNS <= k < vocabulary


def _columns(logits: Tensor, tokens: Tensor, k: int) -> LogprobsTensors:
    """``LogprobsTensors`` of R rows: ids and values (R, 1 + k), and nucleus sizes (R,) instead of the ranks."""
    import torch
    from vllm.v1.outputs import LogprobsTensors

    from rlvr_bench.samplers.token_stats import token_statistics

    tokens = tokens.long().view(-1)
    statistics = token_statistics(logits, tokens, TOP_P)
    ids = torch.stack([tokens, *marks(tokens)], 1)
    values = torch.stack([statistics.logprob, statistics.entropy, statistics.nucleus.double()], 1).float()
    if k > COLUMNS:
        best = logits.log_softmax(-1, dtype=torch.float32).topk(k - COLUMNS, -1)
        ids, values = torch.cat([ids, best.indices], 1), torch.cat([values, best.values], 1)
    return LogprobsTensors(ids.int(), values, statistics.nucleus)


@functools.cache
def _install() -> None:
    _install_v1()
    _install_v2()
    _install_in_profile()
    _leave_head_alone()
    _follow_driver()


def _install_v1() -> None:
    """Install the hook in the sampler of the first model runner, which CPUs and most GPUs use."""
    from vllm.v1.sample.sampler import Sampler

    if hasattr(Sampler, _MARK):
        return
    plain_forward, plain_gather = Sampler.forward, Sampler.gather_logprobs

    @functools.wraps(plain_forward)
    def forward(
        self: Sampler, logits: Tensor, sampling_metadata: SamplingMetadata, *args: object, **kwargs: object
    ) -> SamplerOutput:
        k = COLUMNS if _switch["profiling"] else sampling_metadata.max_num_logprobs
        mode = kwargs.get("logprobs_mode_override") or self.logprobs_mode
        if not _wanted(k, logits.shape[-1]) or sampling_metadata.logprob_token_ids or mode != "raw_logprobs":
            return plain_forward(self, logits, sampling_metadata, *args, **kwargs)
        # The sampler changes float32 logits in place and copies others. The statistics need the unchanged logits.
        raw = logits.clone() if str(logits.dtype) == "torch.float32" else logits
        # Without log-probabilities in the request, vLLM skips its own log_softmax, topk and rank over the vocabulary.
        output = plain_forward(
            self, logits, dataclasses.replace(sampling_metadata, max_num_logprobs=None), *args, **kwargs
        )
        output.logprobs_tensors = _columns(raw, output.sampled_token_ids[:, 0], k)
        return output

    def gather_logprobs(logprobs: Tensor, num_logprobs: int, token_ids: Tensor) -> LogprobsTensors:
        # This is called for prompt log-probabilities and speculative decoding. The statistics do not change when a
        # constant is added to a row of logits, so log-probabilities can be used as logits.
        if not _wanted(num_logprobs, logprobs.shape[-1]):
            return plain_gather(logprobs, num_logprobs, token_ids)
        return _columns(logprobs, token_ids, num_logprobs)

    Sampler.forward, Sampler.gather_logprobs = forward, staticmethod(gather_logprobs)
    setattr(Sampler, _MARK, True)


def _install_v2() -> None:
    """Install the hook in the second model runner, which needs Triton.

    One function there scores sampled, prompt and speculated tokens.
    """
    from vllm.triton_utils import HAS_TRITON

    if not HAS_TRITON:
        return
    for name in _V2_MODULES:
        try:
            module = importlib.import_module(name)
        except ImportError as error:
            log.debug("no %s in this vLLM: %s", name, error)
            continue
        if hasattr(module, "compute_topk_scores") and not hasattr(module, _MARK):
            vars(module)["compute_topk_scores"] = _scoring(module.compute_topk_scores)
            setattr(module, _MARK, True)


def _scoring(plain: Callable[..., LogprobsTensors]) -> Callable[..., LogprobsTensors]:
    """A version of vLLM's ``compute_topk_scores`` with the statistics in the columns of its result."""
    signature = inspect.signature(plain)

    @functools.wraps(plain)
    def compute_topk_scores(*args: object, **kwargs: object) -> LogprobsTensors:
        asked = signature.bind(*args, **kwargs).arguments
        logits, k = asked["logits"], asked["num_logprobs"]
        special = asked.get("max_per_req_token_ids") or asked.get("logits_mode")
        if special or not _wanted(k, logits.shape[-1]):
            return plain(*args, **kwargs)
        table = _columns(logits, asked["sampled_token_ids"], k)
        boundaries = asked.get("cu_num_logits")
        if boundaries is None:
            return table
        # Row boundaries are a list, or a tensor where they are only on the device.
        tensor = not isinstance(boundaries, list)
        return table._replace(**{"cu_num_generated_tokens" + "_tensor" * tensor: boundaries})

    return compute_topk_scores


def _install_in_profile() -> None:
    """Compute statistics where vLLM measures the memory that it needs, so that the KV cache leaves room for them.

    There the sampler runs on as many rows as it can get, and nothing is asked for.
    """
    for name, profiled in _RUNNERS.items():
        try:
            runner = importlib.import_module(name).GPUModelRunner
        except ImportError as error:
            log.debug("no %s in this vLLM: %s", name, error)
            continue
        if hasattr(runner, "_dummy_sampler_run") and not hasattr(runner, _MARK):
            runner._dummy_sampler_run = profiled(runner._dummy_sampler_run)
            setattr(runner, _MARK, True)


def _asking(plain: Callable[..., Any]) -> Callable[..., Any]:
    """The first runner's run of its sampler, in which the hook takes statistics as asked for."""

    @functools.wraps(plain)
    def _dummy_sampler_run(self: object, *args: object, **kwargs: object) -> Any:
        _switch["profiling"] = True
        try:
            return plain(self, *args, **kwargs)
        finally:
            _switch["profiling"] = False

    return _dummy_sampler_run


def _adding(plain: Callable[..., Any]) -> Callable[..., Any]:
    """The second runner's run of its sampler, followed by statistics of as many rows."""

    @functools.wraps(plain)
    def _dummy_sampler_run(self: Any, hidden_states: Tensor, *args: object, **kwargs: object) -> Any:
        import torch

        result = plain(self, hidden_states, *args, **kwargs)
        with torch.inference_mode():
            logits = self.model.compute_logits(hidden_states)
            if logits is not None:
                processed = logits.float()  # the sampler has such a copy while statistics are computed
                _columns(logits.zero_(), processed.new_zeros(len(processed)), COLUMNS)
        return result

    return _dummy_sampler_run


_RUNNERS = {"vllm.v1.worker.gpu_model_runner": _asking, "vllm.v1.worker.gpu.model_runner": _adding}


class _NoHead:
    """Replaces what adds the part of an adapter to the logits of ``lm_head``."""

    def add_lora_logits(self, logits: Tensor, *args: object, **kwargs: object) -> Tensor:
        return logits


def _leave_head_alone() -> None:
    """Add no adapter to ``lm_head``: the sampler refuses adapters with one (``adapter_fit``).

    vLLM would add its zeros with a table of the rows that are sampled. For prompt log-probabilities there are more rows, and
    the engine ends with an error (vLLM 0.32, on a CPU, two prompts or more).
    """
    try:
        from vllm.lora.layers.logits_processor import LogitsProcessorWithLoRA as Head
    except ImportError as error:
        log.debug("no adapters of lm_head in this vLLM: %s", error)
        return
    if hasattr(Head, _MARK):
        return
    plain = Head._get_logits

    @functools.wraps(plain)
    def _get_logits(self: Head, *args: object, **kwargs: object) -> Any:
        self.punica_wrapper = _NoHead()
        return plain(self, *args, **kwargs)

    Head._get_logits = _get_logits
    setattr(Head, _MARK, True)


def _follow_driver() -> None:
    """End this worker when its driver ends for any reason; the engine then ends with its worker.

    vLLM's processes notice only an orderly exit. After ``kill -9`` of the driver they would keep their memory for ever.
    """
    driver = os.environ.get(DRIVER_PID)
    if driver is None or int(driver) == os.getpid():
        return
    try:
        handle = os.pidfd_open(int(driver))
    except ProcessLookupError:
        os.kill(os.getpid(), signal.SIGKILL)
        return
    except OSError as error:
        log.debug("cannot watch process %s: %s", driver, error)
        return

    def wait() -> None:
        select.select([handle], [], [])  # readable once the process has ended
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=wait, name="follow-driver", daemon=True).start()
