"""What the endpoint sampler does when a server refuses, hangs, breaks off or is not there; and where its key goes."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from rlvr_bench.errors import BadArgument, EngineError, RlvrBenchError, UnknownName
from rlvr_bench.records import Draw
from rlvr_bench.samplers.endpoint import EndpointSampler
from rlvr_bench.samplers.protocol import SamplerOptions
from tests.samplers.scripted_server import (
    SAMPLING,
    Opener,
    Reply,
    ScriptedServer,
    fails_for,
    probe_text,
    request,
    serving,
    settle,
)

KEY = "sk-very-secret-0123456789"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    settle(monkeypatch)


@pytest.fixture
def opened() -> Iterator[Opener]:
    with Opener() as opener:
        yield opener


# ------------------------------------------------------------------------------------------------ trouble
def test_trouble_that_passes_is_tried_again(opened: Opener, caplog: pytest.LogCaptureFixture) -> None:
    trouble = [
        Reply({"error": "slow down"}, 429, {"Retry-After": "0.2"}),
        Reply(b"<html>", 502, {"content-type": "text/html"}),
        Reply({"error": {"message": "oops"}}, 500),
        Reply(b'{"choices": [', 200),
        Reply(b"<html>hello</html>", 200, {"content-type": "text/html"}),
        Reply({"choices": []}),
        Reply([1, 2]),
    ]
    server, sampler = opened(ScriptedServer(script=fails_for("p1", *trouble)), retries=7)
    started = time.monotonic()
    (draw,) = sampler.draw([request("p1")], SAMPLING)
    assert len(draw.rollouts) == 2
    assert len(server.draws()) == 8
    assert time.monotonic() - started > 0.2
    assert not caplog.records


@pytest.mark.parametrize(
    ("reply", "tries", "reason"),
    [
        (Reply({"error": {"message": "overloaded"}}, 503), 3, "answered 503 Service Unavailable: overloaded"),
        (Reply({"error": {"message": "too long"}}, 400), 1, "answered 400 Bad Request: too long"),
        (Reply({"error": {"message": "pay", "code": "insufficient_quota"}}, 429), 1, "answered 429 .*: pay"),
        (Reply({"detail": [{"msg": "bad"}]}, 422), 1, "answered 422"),
        (Reply({}, 429, {"Retry-After": "86400"}), 1, "answered 429"),
        (Reply({"x": 1}, delay_s=5), 3, "no answer within 1 s"),
        (Reply(b"\xff\xfe", 200), 3, "answered with application/json where a JSON object was expected"),
        (Reply({"choices": [{"text": "x", "finish_reason": "content_filter"}]}), 1, "'content_filter'"),
    ],
)
def test_a_request_that_fails_stops_no_other(
    opened: Opener, caplog: pytest.LogCaptureFixture, reply: Reply, tries: int, reason: str
) -> None:
    timeout_s = 1 if reply.delay_s else 60
    server, sampler = opened(ScriptedServer(script=fails_for("p2", *[reply] * 9)), retries=2, timeout_s=timeout_s)
    draws: list[Draw] = []
    with pytest.raises(EngineError, match=f"1 of 4 requests failed .*{reason}.*the same command draws these again"):
        draws.extend(sampler.draw([request(f"p{i}", start=6, seed=i) for i in range(4)], SAMPLING))
    assert {draw.request.prompt.problem_id for draw in draws} == {"p0", "p1", "p3"}
    assert len([body for body in server.draws() if "p2" in probe_text(body)]) == tries
    (warning,) = caplog.records
    assert "problem p2, rollouts 6 to 7: " in warning.message


def test_a_server_that_died_is_given_up(opened: Opener) -> None:
    server, sampler = opened(concurrency=2, retries=1)
    server.script = lambda path, body: Reply({}, 500)
    with pytest.raises(EngineError, match=r"3 of 3 requests failed; the last 3 in a row, .* not tried"):
        list(sampler.draw((request(f"p{i}") for i in range(100)), SAMPLING))
    assert len(server.draws()) < 20


def test_connections_that_break(opened: Opener) -> None:
    short = Reply(b'{"choices"', 200, {"content-length": "9999", "connection": "close"})
    _, sampler = opened(ScriptedServer(script=fails_for("p1", short, short)))
    assert len(list(sampler.draw([request("p1")], SAMPLING))) == 1


def test_no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(ScriptedServer()) as server:
        url = server.url
    with pytest.raises(EngineError, match=f"cannot reach {url}: connection refused; is the server running?") as caught:
        EndpointSampler(SamplerOptions(model=url))
    assert caught.value.__cause__ is caught.value.__context__ is None
    assert not [t for t in threading.enumerate() if "portal" in t.name]


def test_a_server_that_is_still_loading_is_waited_for(opened: Opener) -> None:
    loading = [Reply({"error": {"message": "loading"}}, 503)] * 3
    server, sampler = opened(ScriptedServer(script=lambda path, body: loading.pop() if loading else None))
    assert sampler.info.model == f"{server.url}#m"


@pytest.mark.parametrize(
    ("model", "error", "message"),
    [
        ("ftp://host/v1", BadArgument, "looks like http://host:8000/v1"),
        ("http://", BadArgument, "looks like"),
        ("http://host:port/v1", BadArgument, "cannot be read"),
        (f"http://me:{KEY}@host/v1", BadArgument, "http://host/v1.*environment variable"),
        (f"http://host/v1?key={KEY}", BadArgument, "environment variable"),
    ],
)
def test_urls_that_are_none(model: str, error: type[RlvrBenchError], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        EndpointSampler(SamplerOptions(model=model))
    assert KEY not in f"{caught.value} {caught.value!r}"


@pytest.mark.parametrize("arguments", [{"concurrency": 0}, {"timeout_s": -1}, {"logprobs": "yes"}, {"speed": 1}])
def test_engine_arguments_that_are_none(arguments: Any) -> None:
    with pytest.raises(BadArgument, match="An endpoint takes concurrency, timeout_s, retries, api_key_env"):
        EndpointSampler(SamplerOptions(model="http://127.0.0.1:9", engine_args=arguments))


def test_the_model_is_named_or_the_only_one(opened: Opener) -> None:
    assert opened(ScriptedServer(models=("a/b",)))[1].info.weights == "endpoint:a/b"
    assert opened(ScriptedServer(models=("a", "b")), fragment="#b")[1].info.weights == "endpoint:b"
    with pytest.raises(BadArgument, match="several models; name one as http://.*#MODEL: a, b"):
        opened(ScriptedServer(models=("a", "b")))
    with pytest.raises(UnknownName, match="Did you mean 'qwen-8b'"):
        opened(ScriptedServer(models=("qwen-8b", "b")), fragment="#qwen-9b")
    with pytest.raises(EngineError, match="lists no models: the URL usually ends in /v1"):
        opened(ScriptedServer(models=()))


# ------------------------------------------------------------------------------------------------ the key
def everything_said(caught: pytest.ExceptionInfo[BaseException], caplog: pytest.LogCaptureFixture) -> str:
    links: list[str] = []
    link: BaseException | None = caught.value
    while link is not None:
        links.append(f"{link} {link!r} {vars(link)}")
        link = link.__cause__ or link.__context__
    return " ".join(links) + caplog.text + " ".join(str(record.args) for record in caplog.records)


def test_the_key_goes_to_the_server_and_nowhere_else(
    opened: Opener, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("MY_KEY", f"{KEY}\n")
    echo = Reply({"error": {"message": f"Incorrect API key provided: {KEY}. Bearer {KEY}"}}, 400)
    server, sampler = opened(ScriptedServer(script=fails_for("p1", echo)), api_key_env="MY_KEY")
    assert {headers["authorization"] for headers in server.headers} == {f"Bearer {KEY}"}
    with pytest.raises(EngineError, match="Incorrect API key provided: \\[key\\]") as caught:
        list(sampler.draw([request("p1")], SAMPLING))
    said = everything_said(caught, caplog) + repr(sampler) + repr(sampler.info) + repr(sampler._settings)
    assert KEY not in said


@pytest.mark.parametrize("status", [401, 403])
def test_no_access(
    opened: Opener, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    denied = Reply({"error": {"message": f"key {KEY} is wrong"}}, status)
    with pytest.raises(EngineError, match=f"refuses access .answered {status}.*: set OPENAI_API_KEY to its API key"):
        opened(ScriptedServer(script=lambda path, body: denied))
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with pytest.raises(EngineError, match="the key in OPENAI_API_KEY is not accepted") as caught:
        opened(ScriptedServer(script=lambda path, body: denied))
    assert KEY not in everything_said(caught, caplog)
    server, sampler = opened()
    server.script = lambda path, body: denied
    with pytest.raises(EngineError, match="the key in OPENAI_API_KEY is not accepted") as caught:
        list(sampler.draw([request(f"p{i}") for i in range(500)], SAMPLING))
    assert KEY not in everything_said(caught, caplog)


def test_keys_that_are_none(opened: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadArgument, match="NO_SUCH_KEY.*not set"):
        opened(api_key_env="NO_SUCH_KEY")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-ключ")
    with pytest.raises(EngineError, match="OPENAI_API_KEY holds characters") as caught:
        opened()
    assert "ключ" not in str(caught.value)


def test_a_message_that_repeats_the_prompt_is_left_out(opened: Opener, caplog: pytest.LogCaptureFixture) -> None:
    def echo(path: str, body: dict[str, Any]) -> Reply | None:
        return Reply({"error": {"message": f"bad: {body['prompt']}"}}, 400) if "raw p1" in str(body) else None

    _, sampler = opened(ScriptedServer(script=echo), chat_template="none")
    with pytest.raises(EngineError, match="repeats the prompt and is left out") as caught:
        list(sampler.draw([request("p1")], SAMPLING))
    assert "raw p1" not in everything_said(caught, caplog)
