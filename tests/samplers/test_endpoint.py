"""The endpoint sampler against a server on loopback that behaves as servers do: well, badly, and not at all."""

from __future__ import annotations

import dataclasses
import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from rlvr_bench.errors import BadArgument, EngineError
from rlvr_bench.records import Draw, DrawRequest, SamplingParameters
from tests.samplers.scripted_server import (
    LAW,
    LOGPROBS,
    SAMPLING,
    SEED,
    Opener,
    Reply,
    ScriptedServer,
    fails_for,
    probe_text,
    request,
    settle,
)

ENTROPY, NUCLEUS = float(-(LAW * LOGPROBS).sum()), int((LAW.cumsum() < 0.95).sum() + 1)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    settle(monkeypatch)


@pytest.fixture
def opened() -> Iterator[Opener]:
    with Opener() as opener:
        yield opener


def texts(draw: Draw) -> list[str]:
    return [rollout.text for rollout in draw.rollouts]


def slowed(server: ScriptedServer, delay_s: Callable[[str], float]) -> None:
    """From now on an answer takes as long as its prompt says."""
    plain = server.answer

    def answer(path: str, body: dict[str, Any]) -> Reply:
        return dataclasses.replace(plain(path, body), delay_s=delay_s(probe_text(body)))

    vars(server)["answer"] = answer


# ------------------------------------------------------------------------------------------------ drawing
def test_draws_what_is_asked(opened: Opener) -> None:
    server, sampler = opened()
    asked = [request("p1", n=3), request("p1", n=2, start=3, seed=7), request("p2", n=1, start=9, seed=8)]
    draws = {(d.request.prompt.problem_id, d.request.start): d for d in sampler.draw(iter(asked), SAMPLING)}
    assert [r.index for r in draws["p1", 3].rollouts] == [3, 4]
    assert texts(draws["p2", 9]) == ["seed 8"]
    assert texts(draws["p1", 0]) == [f"seed {SEED + i}" for i in range(3)]
    assert {(r.problem_id, r.n_tokens, r.finish_reason) for r in draws["p1", 0].rollouts} == {("p1", 4, "stop")}
    assert len(server.draws()) == 3


def test_sampling_parameters_are_spelled_out(opened: Opener) -> None:
    """Or a server fills in its own: vLLM the generation config's top-k, llama.cpp 40."""
    server, sampler = opened()
    list(sampler.draw([request()], SamplingParameters(temperature=0.6, top_p=0.95, top_k=0, max_tokens=9)))
    list(sampler.draw([request()], SamplingParameters(temperature=0.6, top_p=0.95, top_k=5, max_tokens=9)))
    plain, cut = server.draws()
    named = {
        name: plain[name] for name in ("model", "temperature", "top_p", "max_tokens", "n", "seed", "top_k", "min_p")
    }
    assert named == {
        "model": "m",
        "temperature": 0.6,
        "top_p": 0.95,
        "max_tokens": 9,
        "n": 2,
        "seed": SEED,
        "top_k": -1,
        "min_p": 0.0,
    }
    assert cut["top_k"] == 5


@pytest.mark.parametrize(
    ("options", "chat", "route", "template"),
    [
        ({}, True, "/v1/chat/completions", "server"),
        ({}, False, "/v1/completions", "server"),
        ({"chat_template": "none"}, True, "/v1/completions", None),
    ],
)
def test_messages_or_raw_text(opened: Opener, options: Any, chat: bool, route: str, template: str | None) -> None:
    server, sampler = opened(**options)
    list(sampler.draw([request("p1", chat=chat)], SAMPLING))
    path, body = server.seen[-1]
    assert path == route
    assert probe_text(body) == ("question p1" if "chat" in route else "raw p1")
    assert sampler.info.chat_template == template


def test_vllm_renders_the_messages_and_is_asked_in_tokens(opened: Opener) -> None:
    server, sampler = opened(ScriptedServer(kind="vllm"))
    for start in (0, 2):
        list(sampler.draw([request("p1", start=start)], SAMPLING))
    assert [body["prompt"] for body in server.draws()] == [[0, 1, 2, 3, 4]] * 2
    asked = [body for path, body in server.seen if path == "/tokenize" and "question p1" in json.dumps(body)]
    assert len(asked) == 1
    assert sampler.prompt_tokens(request("p1").prompt) == 5
    assert sampler.prompt_tokens(request("p1", chat=False).prompt) == 2


def test_a_base_model_without_a_template_gets_raw_text(opened: Opener) -> None:
    def no_template(path: str, body: dict[str, Any]) -> Reply | None:
        return Reply({"error": {"message": "no chat template"}}, 400) if "messages" in body else None

    for kind in ("vllm", "plain"):
        server, sampler = opened(ScriptedServer(kind=kind, script=no_template))
        list(sampler.draw([request("p1")], SAMPLING))
        assert server.draws()[-1]["prompt"] == "raw p1"
        assert sampler.info.chat_template is None


def test_a_fast_one_is_not_kept_waiting_and_few_are_in_flight(opened: Opener) -> None:
    server, sampler = opened(concurrency=3)
    slowed(server, lambda text: 0.5 if "p0" in text else 0.03)
    pulled = [0]

    def asked() -> Iterator[DrawRequest]:
        for i in range(20):
            pulled[0] += 1
            yield request(f"p{i}x", n=1, seed=i)

    ahead, order = [], []
    for given, draw in enumerate(sampler.draw(asked(), SAMPLING)):
        ahead.append(pulled[0] - given)
        order.append(draw.request.prompt.problem_id)
    assert order[0] != "p0x"
    assert order.index("p0x") > 5
    assert max(ahead) <= 3
    assert server.most_in_flight <= 3


def test_none_among_the_requests_means_wait(opened: Opener) -> None:
    _, sampler = opened()
    given = iter([request("p1"), None, request("p2"), None])
    assert [draw.request.prompt.problem_id for draw in sampler.draw(given, SAMPLING)] == ["p1", "p2"]


def test_leaving_early_is_quick_and_leaves_no_threads(opened: Opener) -> None:
    before = set(threading.enumerate())
    server, sampler = opened(concurrency=4)
    slowed(server, lambda text: 0.0 if "p0" in text else 20.0)
    draws: Any = sampler.draw((request(f"p{i}", seed=i) for i in range(9)), SAMPLING)
    assert next(draws).request.prompt.problem_id == "p0"
    started = time.monotonic()
    draws.close()
    sampler.close()
    assert time.monotonic() - started < 4
    named = {thread.name for thread in set(threading.enumerate()) - before}
    assert not [name for name in named if "portal" in name]
    with pytest.raises(EngineError, match="closed"):
        next(sampler.draw([request()], SAMPLING))


# ------------------------------------------------------------------------------------------------ servers that differ
def refuses(test: Callable[[dict[str, Any]], Any]) -> Callable[[str, dict[str, Any]], Reply | None]:
    def script(path: str, body: dict[str, Any]) -> Reply | None:
        return Reply({"error": {"message": "unsupported"}}, 400) if "completions" in path and test(body) else None

    return script


@pytest.mark.parametrize(
    "server",
    [
        ScriptedServer(many=False),
        ScriptedServer(script=refuses(lambda body: body.get("n", 1) > 1)),
        ScriptedServer(logprobs=False),  # and so does not report the lengths of several
    ],
    ids=["n ignored", "n refused", "lengths not reported"],
)
def test_one_response_a_request_where_it_must_be(opened: Opener, server: ScriptedServer) -> None:
    _, sampler = opened(server)
    (draw,) = sampler.draw([request(n=5)], SAMPLING)
    seeds = [body["seed"] for body in server.draws()]
    assert len(set(seeds)) == len(set(texts(draw))) == 5
    assert all("n" not in body for body in server.draws())
    assert seeds[0] == SEED
    assert min(abs(a - b) for a in seeds for b in seeds if a is not b) > 2**40
    assert [r.index for r in draw.rollouts] == list(range(5))
    (again,) = sampler.draw([request(n=5)], SAMPLING)
    assert texts(again) == texts(draw)


def test_a_server_that_gives_fewer_than_asked_is_asked_for_the_rest(opened: Opener) -> None:
    server, sampler = opened()
    server.many = False
    (draw,) = sampler.draw([request(n=3)], SAMPLING)
    assert len(set(texts(draw))) == 3


def test_a_server_with_one_stream_for_all_responses_is_asked_one_at_a_time(opened: Opener) -> None:
    server = ScriptedServer()
    plain = server._choice
    server._choice = lambda body, index, chat: {**plain(body, 0, chat), "index": index}  # type: ignore[method-assign]
    _, sampler = opened(server)
    (draw,) = sampler.draw([request(n=4)], SAMPLING)
    assert len(set(texts(draw))) == 4


@pytest.mark.parametrize(
    ("refused", "expected"),
    [
        (lambda body: body.get("seed", 0) >= 2**31, lambda body: body["seed"] < 2**31 and body["n"] == 2),
        (lambda body: "seed" in body, lambda body: "seed" not in body and body["n"] == 2),
        (lambda body: "top_k" in body or "min_p" in body, lambda body: "top_k" not in body and body["seed"] > 2**31),
        (lambda body: "return_token_ids" in body, lambda body: body["top_k"] == -1 and body["top_logprobs"] == 20),
        (lambda body: body.get("top_logprobs", 0) > 5, lambda body: body["top_logprobs"] == 5 and body["n"] == 2),
        (lambda body: "max_tokens" in body, lambda body: body["max_completion_tokens"] == 16),
    ],
)
def test_what_a_server_refuses_is_left_out_and_nothing_else(opened: Opener, refused: Any, expected: Any) -> None:
    server, sampler = opened(ScriptedServer(kind="chat-only", script=refuses(refused)))
    assert len(list(sampler.draw([request()], SAMPLING))) == 1
    assert expected(server.draws()[-1])


def test_a_server_that_takes_nothing_says_why(opened: Opener) -> None:
    with pytest.raises(EngineError, match="http://.*: answered 400 Bad Request: unsupported"):
        opened(ScriptedServer(script=refuses(lambda body: True)))


def test_reasoning_and_parts_and_huge_text(opened: Opener) -> None:
    parts = {"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b" * 3_000_000}]}
    messages = [{"content": "four", "reasoning_content": "2 + 2"}, {"content": None}, parts]
    choices = [{"index": i, "message": m, "finish_reason": "length"} for i, m in enumerate(messages)]
    reply = Reply({"choices": [{**c, "token_ids": [1]} for c in reversed(choices)]})
    _, sampler = opened(ScriptedServer(script=fails_for("p1", reply)))
    (draw,) = sampler.draw([request("p1", n=3)], SAMPLING)
    assert texts(draw)[:2] == ["<think>\n2 + 2\n</think>\n\nfour", ""]
    assert len(texts(draw)[2]) == 3_000_001
    assert {r.finish_reason for r in draw.rollouts} == {"length"}


def test_a_server_that_cuts_early_is_told_of(opened: Opener, caplog: pytest.LogCaptureFixture) -> None:
    cut = Reply({"choices": [{"text": "x", "finish_reason": "length", "token_ids": [1]}]})
    _, sampler = opened(ScriptedServer(script=fails_for("raw p", *[cut] * 2)), chat_template="none")
    list(sampler.draw([request(f"p{i}", n=1) for i in range(2)], SAMPLING))
    assert [record.message[:50] for record in caplog.records] == ["the server cut a response at 1 tokens of 16 asked:"]


# ------------------------------------------------------------------------------------------------ token statistics
def test_describes_itself(opened: Opener) -> None:
    server, sampler = opened(ScriptedServer(kind="vllm", extension=True))
    info = sampler.info
    assert (info.engine, info.version, info.model) == ("endpoint", "vllm 0.99", f"{server.url}#m")
    assert (info.weights, info.context_tokens, info.token_stats) == ("endpoint:m (/ckpts/m)", 64, "exact")
    _, plain = opened()
    assert (plain.info.version, plain.info.context_tokens, plain.info.token_stats) == ("plain", None, "bounds")
    with pytest.raises(EngineError, match="does not count tokens"):
        plain.prompt_tokens(request().prompt)


def test_exact_statistics_from_the_extension(opened: Opener) -> None:
    _, sampler = opened(ScriptedServer(kind="vllm", extension=True), token_stats="full")
    (draw,) = sampler.draw([request(n=3)], SAMPLING)
    for rollout in draw.rollouts:
        assert rollout.tokens is not None
        assert rollout.logprob_sum == pytest.approx(LOGPROBS[rollout.tokens.ids].sum(), rel=1e-5)
        assert rollout.entropy_mean == pytest.approx(ENTROPY, rel=1e-5)
        assert rollout.branching_mean == NUCLEUS
        assert rollout.entropy_profile is not None
        assert rollout.entropy_low is rollout.branching_high is None


def test_columns_that_go_missing_fail_the_request(opened: Opener) -> None:
    server, sampler = opened(ScriptedServer(kind="vllm", extension=True))
    server.extension = False
    with pytest.raises(EngineError, match="1 of 1 .*is the server still running with it"):
        list(sampler.draw([request()], SAMPLING))


@pytest.mark.parametrize("kind", ["vllm", "plain", "chat-only"])
def test_bounds_hold_and_are_said_to_be_bounds(opened: Opener, kind: str) -> None:
    _, sampler = opened(ScriptedServer(kind=kind, n_tokens=40), vocab_size=len(LAW))
    assert sampler.info.token_stats == "bounds"
    (draw,) = sampler.draw([request(n=4)], SAMPLING)
    for rollout in draw.rollouts:
        assert rollout.entropy_mean is rollout.branching_mean is rollout.logprob_sum is None
        low, high = rollout.entropy_low, rollout.entropy_high
        assert low is not None
        assert high is not None
        assert low <= ENTROPY <= high < low + 0.05
        assert rollout.branching_low == rollout.branching_high == NUCLEUS


def test_raw_text_on_a_server_that_keys_by_text(opened: Opener) -> None:
    _, sampler = opened(ScriptedServer(n_tokens=40), chat_template="none", vocab_size=len(LAW))
    (draw,) = sampler.draw([request(n=2)], SAMPLING)
    for rollout in draw.rollouts:
        assert rollout.entropy_low is not None
        assert rollout.entropy_low <= ENTROPY <= (rollout.entropy_high or 0)


@pytest.mark.parametrize(
    ("options", "server"),
    [
        ({"token_stats": "off"}, ScriptedServer(kind="vllm", extension=True)),
        ({"logprobs": "off"}, ScriptedServer(kind="vllm")),
        ({}, ScriptedServer(logprobs=False)),
        ({}, ScriptedServer(tempered=True)),
    ],
    ids=["off", "logprobs off", "no logprobs", "tempered"],
)
def test_no_statistics(opened: Opener, options: Any, server: ScriptedServer) -> None:
    _, sampler = opened(server, **options)
    assert sampler.info.token_stats == "none"
    (draw,) = sampler.draw([request(n=1)], SAMPLING)
    assert draw.rollouts[0].entropy_low is draw.rollouts[0].entropy_mean is None
    assert not {"logprobs", "top_logprobs"} & set(server.draws()[-1])


def test_full_statistics_need_the_extension(opened: Opener) -> None:
    with pytest.raises(BadArgument, match="needs the worker extension"):
        opened(token_stats="full")


def test_statistics_of_the_sampled_law_are_refused(opened: Opener) -> None:
    """A server with ``--logprobs-mode processed_logprobs`` measures what temperature and top-p leave."""
    server = ScriptedServer(kind="vllm", extension=True)
    plain = server._logprobs

    def processed(ids: list[int], top: int, body: dict[str, Any], chat: bool) -> dict[str, Any]:
        logprobs = plain(ids, top, body, chat)
        tables = [dict(zip(table, np.array(list(table.values())) * [1, body["temperature"], 1], strict=True))
                  for table in logprobs["top_logprobs"]]  # fmt: skip
        return {**logprobs, "top_logprobs": tables}

    server._logprobs = processed  # type: ignore[method-assign]
    with pytest.raises(EngineError, match="measures the law it samples from.*--logprobs-mode raw_logprobs"):
        opened(server)


# ------------------------------------------------------------------------------------------------ parameters
PENALISED = SamplingParameters(
    temperature=0.6, top_p=0.95, min_p=0.05, repetition_penalty=1.1, presence_penalty=0.5, max_tokens=9, stop=("\n\n",)
)


def test_penalties_min_p_and_stop_strings_are_sent(opened: Opener) -> None:
    server, sampler = opened()
    sampler.check_sampling(PENALISED)
    list(sampler.draw([request()], PENALISED))
    (body,) = server.draws()
    sent = {name: body[name] for name in ("min_p", "repetition_penalty", "presence_penalty", "stop")}
    assert sent == {"min_p": 0.05, "repetition_penalty": 1.1, "presence_penalty": 0.5, "stop": ["\n\n"]}
    assert "include_stop_str_in_output" not in body
    list(sampler.draw([request(start=9)], SAMPLING))
    assert not {"presence_penalty", "stop"} & server.draws()[1].keys()


@pytest.mark.parametrize("name", ["min_p", "repetition_penalty"])
def test_a_server_that_does_not_take_a_parameter_is_refused_before_drawing(opened: Opener, name: str) -> None:
    def strict(path: str, body: dict[str, Any]) -> Reply | None:
        known = "completions" not in path or not body.keys() & {"top_k", "min_p", "repetition_penalty"}
        return None if known else Reply({"error": {"message": "unknown parameter top_k"}}, 400)

    _, sampler = opened(ScriptedServer(script=strict))
    sampler.check_sampling(SAMPLING)
    value = getattr(PENALISED, name)
    with pytest.raises(BadArgument, match=f"--{name.replace('_', '-')} is {value}: this server does not take it"):
        sampler.check_sampling(SamplingParameters(temperature=1.0, top_p=1.0, **{name: value}))


def test_a_refused_stop_string_is_one_line_before_drawing(opened: Opener) -> None:
    def strict(path: str, body: dict[str, Any]) -> Reply | None:
        return Reply({"error": {"message": "stop is not supported"}}, 400) if "stop" in body else None

    _, sampler = opened(ScriptedServer(script=strict))
    with pytest.raises(BadArgument, match=r"--stop is .*this server does not take it: it .*stop is not supported"):
        sampler.check_sampling(SamplingParameters(temperature=1.0, top_p=1.0, stop=("x",)))


# ------------------------------------------------------------------------------------------------ chat-template arguments
ARGUMENTS = {"enable_thinking": False}


def thinking(path: str, body: dict[str, Any]) -> Reply | None:
    """A vLLM server whose template closes the thought where thinking is off."""
    if path != "/tokenize" or "messages" not in body:
        return None
    closed = body.get("chat_template_kwargs", {}).get("enable_thinking") is False
    ids = list(range(7 if closed else 5))
    return Reply({"count": len(ids), "max_model_len": 64, "tokens": ids})


@pytest.mark.parametrize("kind", ["plain", "vllm"])
def test_arguments_for_the_chat_template_are_sent(opened: Opener, kind: str) -> None:
    server, sampler = opened(ScriptedServer(kind=kind, script=thinking), template_args=ARGUMENTS)
    sampler.prepare([request().prompt])
    list(sampler.draw([request()], SAMPLING))
    if kind == "plain":
        assert server.draws()[0]["chat_template_kwargs"] == ARGUMENTS
    else:
        assert server.draws()[0]["prompt"] == list(range(7))
    assert not sampler.info.cautions


def test_arguments_that_change_nothing_are_said(opened: Opener) -> None:
    _, sampler = opened(ScriptedServer(kind="vllm", script=thinking), template_args={"enable_thinkin": False})
    sampler.prepare([request().prompt])
    assert sampler.info.cautions == ("enable_thinkin changes nothing in this server's prompts: is the name right?",)


@pytest.mark.parametrize("unknown", ["chat_template_kwargs", "top_k"])
def test_a_server_without_template_arguments_is_refused(opened: Opener, unknown: str) -> None:
    def strict(path: str, body: dict[str, Any]) -> Reply | None:
        return Reply({"error": {"message": f"unknown parameter {unknown}"}}, 400) if unknown in body else None

    _, sampler = opened(ScriptedServer(script=strict), template_args=ARGUMENTS)
    with pytest.raises(EngineError, match="takes no chat_template_kwargs, and so not enable_thinking"):
        sampler.prepare([request().prompt])
