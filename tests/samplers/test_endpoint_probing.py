"""What a server can do is inferred from what it says, never from trouble that may pass or a refusal for another reason."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from rlvr_bench import pipeline
from rlvr_bench.errors import EngineError, RunMismatch
from rlvr_bench.pipeline import SampleOptions
from rlvr_bench.samplers.endpoint_client import Settings
from rlvr_bench.samplers.endpoint_failures import Failed
from rlvr_bench.store import open_run
from tests.samplers.scripted_server import (
    SAMPLING,
    Opener,
    Reply,
    Script,
    ScriptedServer,
    probe_text,
    request,
    serving,
    settle,
)

TASK = "double_countdown"
SHORT = Reply(b'{"choices"', 200, {"content-length": "9999", "connection": "close"})
PASSING = {
    **{
        str(status): Reply({"error": {"message": "busy"}}, status)
        for status in (408, 409, 425, 429, 500, 502, 503, 504)
    },
    "a connection that breaks": SHORT,
    "a timeout": Reply({}, delay_s=3),
    "no JSON": Reply(b"<html>maintenance</html>", headers={"content-type": "text/html"}),
    "a quota": Reply({"error": {"message": "pay", "code": "insufficient_quota"}}, 429),
    "a long wait": Reply({}, 429, {"Retry-After": "86400"}),
}
PATHS = ("/v1/models", "/version", "/tokenize", "/v1/chat/completions", "/v1/completions")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    settle(monkeypatch)


@pytest.fixture
def opened() -> Iterator[Opener]:
    with Opener() as opener:
        yield opener


def drawing(out: Path, **engine_args: Any) -> SampleOptions:
    arguments = {"retries": 1, "timeout_s": 1, **engine_args}
    return SampleOptions(n=2, limit=2, out=out, draw_batch=2, prompt="qwen-boxed", engine_args=arguments)


def on(path: str, reply: Reply, asked: Any = lambda body: True) -> Script:
    return lambda where, body: reply if where == path and asked(body) else None


# ------------------------------------------------------------------------------------------------ trouble that may pass
@pytest.mark.parametrize("trouble", PASSING)
@pytest.mark.parametrize("path", PATHS)
def test_trouble_while_a_server_is_asked_ends_the_command(tmp_path: Path, path: str, trouble: str) -> None:
    if (path, trouble) == ("/version", "no JSON"):
        pytest.skip("the version is a note, and a page is an answer to a question for it")
    kind = "plain" if "chat" in path else "vllm"
    with serving(ScriptedServer(kind=kind, script=on(path, PASSING[trouble]))) as server:
        with pytest.raises(EngineError) as caught:
            pipeline.sample(server.url, TASK, drawing(tmp_path))
        tries = [where for where, _ in server.seen if where == path]
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())
    assert len(tries) >= (1 if trouble in ("a quota", "a long wait") else 2)


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("path", PATHS)
def test_no_access_to_a_route_ends_the_command(tmp_path: Path, path: str, status: int) -> None:
    script = on(path, Reply({"error": {"message": "no"}}, status))
    with (
        serving(ScriptedServer(kind="plain" if "chat" in path else "vllm", script=script)) as server,
        pytest.raises(EngineError, match="refuses access"),
    ):
        pipeline.sample(server.url, TASK, drawing(tmp_path))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "asked",
    [
        lambda body: "messages" in body,
        lambda body: body.get("n", 1) > 1,
        lambda body: "seed" in body,
        lambda body: "top_k" in body,
        lambda body: "logprobs" in body,
        lambda body: "return_token_ids" in body,
        lambda body: body["temperature"] == 1.0,
    ],
    ids=["messages", "n", "seed", "top_k", "logprobs", "ids", "the second look"],
)
@pytest.mark.parametrize("status", [429, 503])
def test_an_outage_that_hits_one_question_infers_nothing(opened: Opener, asked: Any, status: int) -> None:
    script = on("/v1/chat/completions", Reply({"error": "busy"}, status), asked)
    with pytest.raises(EngineError, match=f"answered {status}"):
        opened(ScriptedServer(script=script), retries=1)


def test_an_outage_in_the_middle_of_the_steps_infers_nothing(opened: Opener) -> None:
    """The server refuses everything at once for a reason of its own, and is overloaded when it is asked for seeds alone."""

    def script(path: str, body: dict[str, Any]) -> Reply | None:
        if "min_p" in body:
            return Reply({"error": {"message": "Unrecognized request argument supplied: min_p"}}, 400)
        return Reply({}, 503) if body.get("seed") else None

    with pytest.raises(EngineError, match="answered 503"):
        opened(ScriptedServer(kind="chat-only", script=script), retries=1)


def test_trouble_that_passes_in_time_changes_nothing(opened: Opener) -> None:
    left = {path: [Reply({}, 429), SHORT] for path in PATHS}
    server = ScriptedServer(kind="vllm", script=lambda path, body: left[path].pop() if left.get(path) else None)
    _, sampler = opened(server, retries=3)
    _, plain = opened(ScriptedServer(kind="vllm"))
    assert sampler.info.inferred == plain.info.inferred
    assert sampler.info.version == plain.info.version


# ------------------------------------------------------------------------------------------------ refusals that say why
@pytest.mark.parametrize(
    "message",
    [
        "This model's maximum context length is 4 tokens. However, you requested 12 (4 in the messages, 8 in max_tokens)",
        "The response was filtered due to the prompt triggering Azure's content management policy",
        "The model `m` does not exist",
        "Bad Request",
        "",
    ],
)
@pytest.mark.parametrize("status", [400, 422])
def test_a_refusal_for_another_reason_is_no_answer(opened: Opener, message: str, status: int) -> None:
    for asked in (lambda body: True, lambda body: "seed" in body, lambda body: body.get("n", 1) > 1):
        script = on("/v1/chat/completions", Reply({"error": {"message": message}}, status), asked)
        with pytest.raises(EngineError, match=f"answered {status}"):
            opened(ScriptedServer(script=script))


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"error": {"message": "Unrecognized request argument supplied: seed"}}, ("seed",)),
        ({"error": {"message": "Invalid value", "param": "seed", "code": "integer_above_max_value"}}, ("seed",)),
        ({"detail": [{"loc": ["body", "top_k"], "msg": "Extra inputs are not permitted", "input": 3}]}, ("top_k",)),
        ({"object": "error", "message": "only n=1 is allowed"}, ("n",)),
        ({"error": "unsupported"}, ("logprobs",)),
    ],
)
def test_what_counts_as_saying_so(opened: Opener, body: Any, named: tuple[str, ...]) -> None:
    asked = {
        "seed": lambda sent: "seed" in sent,
        "top_k": lambda sent: "top_k" in sent,
        "n": lambda sent: sent.get("n", 1) > 1,
        "logprobs": lambda sent: "logprobs" in sent,
    }[named[0]]
    _, sampler = opened(ScriptedServer(kind="chat-only", script=on("/v1/chat/completions", Reply(body, 400), asked)))
    _, plain = opened(ScriptedServer(kind="chat-only"))
    differing = {k for k, v in sampler.info.inferred.items() if plain.info.inferred[k] != v}
    assert differing == {
        "seed": {"seeds"}, "top_k": {"sampling"}, "n": {"responses"}, "logprobs": {"log-probabilities", "responses"}
    }[named[0]]  # fmt: skip


@pytest.mark.parametrize(
    "reply",
    [
        Reply({"detail": "Not Found"}, 404),
        Reply(b"<html>404</html>", 404, {"content-type": "text/html"}),
        Reply({"detail": "Method Not Allowed"}, 405),
        Reply({"error": {"message": "This is not a chat model and thus not supported in v1/chat/completions"}}, 404),
        Reply(
            {"error": {"message": "default chat template is no longer allowed, so you must provide a chat template"}},
            400,
        ),
    ],
)
def test_no_chat_endpoint_is_said_before_drawing_and_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, reply: Reply
) -> None:
    caplog.set_level("INFO", "rlvr_bench")
    with serving(ScriptedServer(script=on("/v1/chat/completions", reply))) as server:
        run = pipeline.sample(server.url, TASK, drawing(tmp_path))
        assert all("prompt" in body for body in server.draws())
    said = [record.getMessage() for record in caplog.records]
    (line,) = [number for number, text in enumerate(said) if text.startswith("server: prompts: raw text")]
    assert line < next(number for number, text in enumerate(said) if text.startswith("sample: "))
    manifest = open_run(run).manifest
    assert manifest.inferred is not None
    assert manifest.inferred["prompts"] == "raw text: the server has no chat endpoint or template"
    assert "prompts are sent as raw text: the server has no chat endpoint" in " ".join(manifest.sessions[0].warnings)


def test_a_missing_model_is_no_missing_chat_endpoint(opened: Opener) -> None:
    gone = Reply({"error": {"message": "The model `m` does not exist", "code": "model_not_found"}}, 404)
    with pytest.raises(EngineError, match="does not exist"):
        opened(ScriptedServer(script=on("/v1/chat/completions", gone)))


def test_a_tokenizer_of_raw_text_alone_says_nothing_of_templates(opened: Opener) -> None:
    """Old servers count tokens of a prompt only."""
    old = Reply({"detail": [{"loc": ["body", "prompt"], "msg": "Field required"}]}, 422)
    server = ScriptedServer(kind="vllm", script=on("/tokenize", old, lambda body: "messages" in body))
    _, sampler = opened(server)
    assert sampler.info.chat_template == "server"
    list(sampler.draw([request("p1")], SAMPLING))
    assert "messages" in server.draws()[-1]


def test_vllm_routes_can_be_left_alone(opened: Opener) -> None:
    page = Reply(b"<html>", headers={"content-type": "text/html"})
    script: Script = lambda path, body: page if path in ("/version", "/tokenize") else None  # noqa: E731
    with pytest.raises(EngineError, match="vllm_routes=off"):
        opened(ScriptedServer(script=script), retries=0)
    server, sampler = opened(ScriptedServer(script=script), vllm_routes="off")
    assert sampler.info.version == "plain"
    assert not {"/version", "/tokenize"} & {path for path, _ in server.seen}


@pytest.mark.parametrize(
    ("status", "said", "expected"),
    [
        (400, "unknown parameter: seed", True),
        (400, "seed must be below 2147483648", True),
        (404, "no seed here", True),
        (400, "seedless", False),
        (429, "unsupported seed", False),
        (500, "seed is not supported", False),
        (403, "seed is not supported", False),
        (302, "seed is not supported", False),
        (None, "", False),
        (400, "model m does not exist: seed", False),
    ],
)
def test_a_definite_answer(status: int | None, said: str, expected: bool) -> None:
    transient = status is None or Failed.may_pass(status)
    assert Failed("x", status=status, said=said, transient=transient).says_unsupported("seed") is expected


# ------------------------------------------------------------------------------------------------ from run to run
def test_a_server_that_changed_is_another_run(tmp_path: Path) -> None:
    with serving(ScriptedServer(kind="chat-only")) as server:
        options = dataclasses.replace(drawing(tmp_path), n=2)
        run = pipeline.sample(server.url, TASK, options)
        before = open_run(run).manifest
        no_seeds = Reply({"error": {"message": "Unrecognized request argument supplied: seed"}}, 400)
        server.script = on("/v1/chat/completions", no_seeds, lambda body: "seed" in body)
        with pytest.raises(RunMismatch, match="inferred.seeds: run has '62 bits', asked 'none'"):
            pipeline.sample(server.url, TASK, dataclasses.replace(options, n=4))
        assert open_run(run).manifest == before
        server.script = on("/v1/chat/completions", Reply({}, 503))
        with pytest.raises(EngineError, match="503"):
            pipeline.sample(server.url, TASK, dataclasses.replace(options, n=4))
        assert open_run(run).manifest == before
        server.script = lambda path, body: None
        pipeline.sample(server.url, TASK, dataclasses.replace(options, n=4))


def test_a_run_that_is_older_than_the_field_goes_on(tmp_path: Path) -> None:
    with serving(ScriptedServer(kind="chat-only")) as server:
        run = pipeline.sample(server.url, TASK, drawing(tmp_path))
        file = run / "manifest.json"
        content = file.read_text()
        start = content.index(',\n  "inferred"')
        file.write_text(content[:start] + content[content.index("}", start) + 1 :])
        assert open_run(run).manifest.inferred is None
        pipeline.sample(server.url, TASK, dataclasses.replace(drawing(tmp_path), n=4))


def test_prompts_without_messages_are_learned_on_their_own_route(tmp_path: Path) -> None:
    """A server with both routes takes other parameters on each; what is kept is of the route that is used."""
    no_seeds = Reply({"error": {"message": "unsupported"}}, 400)
    script = on("/v1/completions", no_seeds, lambda body: "seed" in body)
    with serving(ScriptedServer(script=script)) as server:
        run = pipeline.sample(server.url, TASK, dataclasses.replace(drawing(tmp_path / "raw"), prompt=None))
        raw = open_run(run).manifest
        chat = open_run(pipeline.sample(server.url, TASK, drawing(tmp_path / "chat"))).manifest
    assert raw.inferred is not None
    assert chat.inferred is not None
    assert [raw.inferred[name] for name in ("prompts", "route", "seeds")] == [
        "raw text: as the task has it",
        "completions",
        "none",
    ]
    assert [chat.inferred[name] for name in ("route", "seeds")] == ["chat", "62 bits"]
    assert "takes no seeds" in " ".join(raw.sessions[0].warnings)
    assert not chat.sessions[0].warnings


def test_a_server_without_the_route_of_the_prompts_ends_the_command(tmp_path: Path) -> None:
    with (
        serving(ScriptedServer(kind="chat-only")) as server,
        pytest.raises(EngineError, match="no /v1/completions here"),
    ):
        pipeline.sample(server.url, TASK, dataclasses.replace(drawing(tmp_path), prompt=None))
    assert not list(tmp_path.iterdir())


# ------------------------------------------------------------------------------------------------ time limits
def test_the_time_limit_grows_with_max_tokens() -> None:
    default = Settings()
    assert [default.seconds(n) for n in (0, 2048, 32768)] == [600, 1624, 16984]
    assert default.seconds() == 120
    assert Settings(timeout_s=7).seconds(32768) == Settings(timeout_s=7).seconds() == 7


def test_a_request_has_the_time_that_its_tokens_need(opened: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Settings, "seconds", lambda self, tokens=None: 30 if tokens is None or tokens > 8 else 0.2)
    server, sampler = opened(retries=0)
    plain = server.answer
    vars(server)["answer"] = lambda path, body: dataclasses.replace(
        plain(path, body), delay_s=0.6 if "p" in probe_text(body) else 0
    )
    assert len(list(sampler.draw([request("p1")], SAMPLING))) == 1
    started = time.monotonic()
    with pytest.raises(EngineError, match=r"no answer within 0\.2 s"):
        list(sampler.draw([msgspec.structs.replace(request("p2"), max_tokens=8)], SAMPLING))
    assert time.monotonic() - started < 5
