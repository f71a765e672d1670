"""One reply of a server costs one request: malformed, huge, deep or contradictory, it ends no run and makes no number."""

from __future__ import annotations

import gzip
import json
import resource
import tracemalloc
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlvr_bench import pipeline
from rlvr_bench.errors import EngineError
from rlvr_bench.pipeline import SampleOptions
from rlvr_bench.records import Draw
from rlvr_bench.samplers.endpoint_failures import Failed
from rlvr_bench.samplers.endpoint_replies import positions, read_choices
from rlvr_bench.store import open_run
from tests.samplers.scripted_server import (
    SAMPLING,
    Opener,
    Reply,
    ScriptedServer,
    fails_for,
    hooked,
    probe_text,
    request,
    serving,
    settle,
)

GZIP = {"content-encoding": "gzip"}
LOGPROBS = {"content": [{"token": "a", "logprob": -0.1, "top_logprobs": [{"token": "a", "logprob": -0.1}]}]}


def choice(index: int = 0, **changed: Any) -> dict[str, Any]:
    fields = {"index": index, "finish_reason": "stop", "text": "x", "token_ids": [1, 2], **changed}
    return {name: value for name, value in fields.items() if value is not ...}


def one(**changed: Any) -> dict[str, Any]:
    """A reply whose second choice is changed."""
    return {"choices": [choice(0), choice(1, **changed)]}


def deep(n: int) -> bytes:
    return b'{"choices": ' + b"[" * n + b"]" * n + b"}"


def bomb(size: int, level: int = 9) -> bytes:
    """Gzip of a reply with a text of so many bytes, made a piece at a time."""
    packer = zlib.compressobj(level, wbits=31)
    parts = [packer.compress(b'{"choices": [{"index": 0, "finish_reason": "stop", "text": "')]
    parts += [packer.compress(b"a" * 2**20) for _ in range(size // 2**20)]
    return b"".join([*parts, packer.compress(b'"}]}'), packer.flush()])


def listed(logprob: Any) -> dict[str, Any]:
    return {"content": [{"token": "a", "logprob": -0.1, "top_logprobs": [{"token": "a", "logprob": logprob}]}] * 2}


MALFORMED: dict[str, Any] = {
    # bytes
    "an empty body": b"",
    "half a reply": b'{"choices": [{"text": "x"',
    "a reply and more": json.dumps({"choices": [choice(0), choice(1)]}).encode() + b" x",
    "bytes that are no text": b'{"choices": [{"text": "\xff\xfe"}]}',
    "half a surrogate": b'{"choices": [{"index": 0, "finish_reason": "stop", "text": "\\ud800", "token_ids": [1]}]}',
    "NaN": json.dumps(one(logprobs=listed(float("nan")))).encode(),
    "Infinity": json.dumps(one(logprobs=listed(float("inf")))).encode(),
    "a number too large": b'{"choices": [], "usage": {"completion_tokens": 1e999}}',
    "100,000 lists": deep(100_000),
    "100,000 objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "HTML": Reply(b"<html>welcome</html>", headers={"content-type": "text/html"}),
    "a stream of events": Reply(b'data: {"choices": []}\n\n', headers={"content-type": "text/event-stream"}),
    "a gzip bomb": Reply(bomb(300 * 2**20), headers=GZIP),
    "a plain flood": Reply(b'{"choices": ["' + b"a" * 20 * 2**20 + b'"]}'),
    "gzip that is none": Reply(b"hello", headers=GZIP),
    "half a gzip": Reply(gzip.compress(json.dumps(one()).encode())[:-9], headers=GZIP),
    "gzip and more": Reply(gzip.compress(json.dumps(one()).encode()) + b"more", headers=GZIP),
    "another encoding": Reply(b"x", headers={"content-encoding": "br"}),
    "a length that is too long": Reply(b"{}", headers={"content-length": "999", "connection": "close"}),
    "a length that is too short": Reply(json.dumps(one()).encode(), headers={"content-length": "9", "connection": "close"}),
    "a length that is none": Reply(b"{}", headers={"content-length": "many"}),
    "chunks that are none": Reply(b"zz\r\n{}\r\n", headers={"transfer-encoding": "chunked", "connection": "close"}),
    "a redirect to itself": Reply({}, 302, {"location": "/v1/completions"}),
    "no content": Reply(b"", 204),
    # shapes
    "a list": [],
    "a string": "hello",
    "null": None,
    "no choices": {},
    "choices that are none": {"choices": 3},
    "a choice that is none": {"choices": [choice(0), "x"]},
    "an error with status 200": {"error": {"message": "out of memory"}},
    # types and contradictions
    "token ids of text": one(token_ids=["x"]),
    "token ids that are no list": one(token_ids={"a": 1}),
    "token ids below zero": one(token_ids=[-1]),
    "token ids beyond all vocabularies": one(token_ids=[2**40]),
    "token ids that are true": one(token_ids=[True]),
    "a text of no tokens": one(token_ids=[]),
    "more tokens than asked for": one(token_ids=[1] * 1000),
    "indices of two kinds": {"choices": [choice(0), choice("1")]},  # type: ignore[arg-type]
    "an index twice": {"choices": [choice(0), choice(0)]},
    "an index too many": {"choices": [choice(0), choice(2)]},
    "an index here and none there": {"choices": [choice(0), choice(index=...)]},  # type: ignore[arg-type]
    "an index that is true": {"choices": [choice(0), choice(True)]},
    "a huge index": {"choices": [choice(0), choice(2**70)]},
    "more responses than asked for": {"choices": [choice(i) for i in range(3)]},
    "an object for a reason": one(finish_reason={"type": "stop"}),
    "a list for a reason": one(finish_reason=["stop"]),
    "an unknown reason": one(finish_reason="\x1b[31mbecause\n"),
    "a text that is null": one(text=None),
    "a message that is null": one(text=..., message=None),
    "a content that is null": one(text=..., message={"content": None}),
    "a content that is a number": one(text=..., message={"content": 7}),
    "a content of bad parts": one(text=..., message={"content": [{"text": {"a": 1}}]}),
    "reasoning that is an object": one(text=..., message={"content": "x", "reasoning": {"a": 1}}),
    "log-probabilities that are a list": one(logprobs=[1]),
    "a usage that is a list": {"choices": [choice(0, token_ids=...)], "usage": [1]},
    "a length that is text": {"choices": [choice(0, token_ids=...)], "usage": {"completion_tokens": "4"}},
    "a length that is a fraction": {"choices": [choice(0, token_ids=...)], "usage": {"completion_tokens": 4.5}},
    "a length below zero": {"choices": [choice(0, token_ids=...)], "usage": {"completion_tokens": -4}},
    "a length that is true": {"choices": [choice(0, token_ids=...)], "usage": {"completion_tokens": True}},
    "a length beyond all": {"choices": [choice(0, token_ids=...)], "usage": {"completion_tokens": 2**60}},
    "no length": {"choices": [choice(0, token_ids=...), choice(1, token_ids=...)]},
    "an unreadable log-probability": one(logprobs=listed("NaN")),
    "a log-probability above zero": one(logprobs=listed(3.0)),
    "a huge log-probability": one(logprobs=listed(10**400)),
}  # fmt: skip


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    settle(monkeypatch)


@pytest.fixture
def opened() -> Iterator[Opener]:
    with Opener() as opener:
        yield opener


def reply_of(content: Any) -> Reply:
    return content if isinstance(content, Reply) else Reply(content)


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_reply_fails_its_own_request(opened: Opener, caplog: pytest.LogCaptureFixture, name: str) -> None:
    replies = [reply_of(MALFORMED[name])] * 2
    _server, sampler = opened(ScriptedServer(script=fails_for("p1", *replies)), retries=1, chat_template="none")
    drawn: list[Draw] = []
    with pytest.raises(EngineError, match="1 of 3 requests failed") as caught:
        drawn.extend(sampler.draw([request(f"p{i}", seed=i) for i in range(3)], SAMPLING))
    assert {draw.request.prompt.problem_id for draw in drawn} == {"p0", "p2"}
    assert all(len(draw.rollouts) == 2 for draw in drawn)
    said = str(caught.value) + "".join(record.getMessage() for record in caplog.records)
    assert said.isprintable()
    assert len(said) < 1500


def test_a_run_with_every_malformed_reply_is_complete_but_for_those(tmp_path: Path) -> None:
    """As many requests as there are malformed replies fail, one after another, and as many others are drawn."""
    names = list(MALFORMED)

    def script(path: str, body: dict[str, Any]) -> Reply | None:
        if "completions" not in path or probe_text(body) == "probe" or body["seed"] not in bad:
            return None
        return reply_of(MALFORMED[names[bad[body["seed"]]]])

    bad: dict[int, int] = {}
    options = SampleOptions(n=2, limit=2 * len(names), out=tmp_path, draw_batch=2, engine_args={"retries": 0})
    with serving(ScriptedServer(script=script)) as server:
        run = pipeline.sample(server.url, "double_countdown", options)
        seeds = dict.fromkeys(body["seed"] for body in server.draws())
        bad.update((seed, number) for number, seed in enumerate(list(seeds)[: len(names)]))
        options = SampleOptions(**{**vars(options), "out": tmp_path / "again"})
        with pytest.raises(EngineError, match=f"{len(names)} of {2 * len(names)} requests failed"):
            pipeline.evaluate(server.url, "double_countdown", options)
        (again,) = (tmp_path / "again").glob("*/*")
        drawn = open_run(again).drawn()
        assert sum(have.count() for have in drawn.values()) == 2 * len(names)
        bad.clear()
        _, card = pipeline.evaluate(server.url, "double_countdown", options)
    assert {problem["n"] for problem in card.problems} == {2}
    assert pipeline.score(run_graded(run)).estimates == card.estimates


def run_graded(run: Path) -> Path:
    pipeline.grade(run)
    return run


def test_what_a_bomb_costs(opened: Opener) -> None:
    """A reply of 2 GiB, packed into 2 MB: what is unpacked of it is a small part."""
    _server, sampler = opened(
        ScriptedServer(script=fails_for("p1", Reply(bomb(2**31), headers=GZIP))), retries=0, chat_template="none"
    )
    tracemalloc.start()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(EngineError, match="answered with more than 16 MiB"):
        list(sampler.draw([request("p1")], SAMPLING))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100 * 2**20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 * 1024


def test_a_refusal_that_never_ends_is_not_read_to_its_end(opened: Opener) -> None:
    flood = Reply(bomb(200 * 2**20), 400, GZIP)
    _, sampler = opened(ScriptedServer(script=fails_for("p1", flood)), chat_template="none")
    with pytest.raises(EngineError, match="answered 400 Bad Request"):
        list(sampler.draw([request("p1")], SAMPLING))


def test_packed_replies_are_read(opened: Opener) -> None:
    server = ScriptedServer(kind="vllm")
    plain = server.answer
    vars(server)["answer"] = lambda path, body: Reply(
        gzip.compress(json.dumps(plain(path, body).content).encode()), plain(path, body).status, GZIP
    )
    _, sampler = opened(server)
    (draw,) = sampler.draw([request("p1", n=3)], SAMPLING)
    assert len(draw.rollouts) == 3
    assert server.headers[-1]["accept-encoding"] == "gzip"


def test_refusals_show_no_control_characters(opened: Opener) -> None:
    words = "\x1b[31mred\x1b[0m \u202e]8;;http://x\x07"
    for reply in (
        Reply({"error": {"message": words}}, 400),
        Reply({"error": words}, 400),
        Reply(words.encode(), 400, {"content-type": "text/plain"}),
        Reply(b"x", headers={"content-type": "\x1b[31mtext/html"}),
    ):
        _, sampler = opened(ScriptedServer(script=fails_for("p1", reply)), retries=0, chat_template="none")
        with pytest.raises(EngineError) as caught:
            list(sampler.draw([request("p1")], SAMPLING))
        assert str(caught.value).isprintable()
        assert "x1b" in str(caught.value)


@pytest.mark.parametrize(
    "listing",
    [
        {"data": 7},
        {"data": {"id": "m"}},
        {"data": [7, None, {"id": None}, {"id": 7}, {"id": ""}]},
        {"data": "m"},
        {"models": ["m"]},
    ],
)
def test_a_list_of_models_that_is_none(opened: Opener, listing: Any) -> None:
    with pytest.raises(EngineError, match="lists no models"):
        opened(ScriptedServer(script=lambda path, body: Reply(listing) if path == "/v1/models" else None))


@pytest.mark.parametrize("context", [True, -4, 1.5, "64", 2**70, {"a": 1}])
def test_a_context_that_is_none_is_not_known(opened: Opener, context: Any) -> None:
    card = {"id": "m\x1b[31m", "owned_by": 7, "root": ["x"], "max_model_len": context}
    server = ScriptedServer(
        kind="vllm", script=lambda path, body: Reply({"data": [card]}) if "models" in path else None
    )
    _, sampler = opened(server)
    assert sampler.info.context_tokens is None
    assert sampler.info.weights == "endpoint:m\\x1b[31m"
    assert {body["model"] for _, body in server.seen if body} == {"m\x1b[31m"}


@pytest.mark.parametrize(
    "values", [[-0.1, 1e300, 3], [-0.1, -1, 3], [-0.1, 2, 1e12], [5, 2, 3], [-0.1, "NaN", 3], [-0.1, True, 3], [-1]]
)
def test_exact_statistics_that_are_none_fail_the_request(opened: Opener, values: list[Any]) -> None:
    table = {f"token_id:{name}": value for name, value in zip(hooked(3), values, strict=False)}
    logprobs = {"tokens": ["a"], "token_logprobs": [-0.1], "top_logprobs": [table]}
    reply = Reply({"choices": [choice(0, token_ids=[3], logprobs=logprobs)]})
    server = ScriptedServer(kind="vllm", extension=True, script=lambda path, body: reply if asked(body) else None)
    _, sampler = opened(server)
    with pytest.raises(EngineError, match="1 of 1 requests failed .*columns of the worker extension"):
        list(sampler.draw([request("p1", n=1)], SAMPLING))


def asked(body: dict[str, Any]) -> bool:
    """Whether a request is one for responses to p1, which vLLM gets in tokens."""
    return isinstance(body.get("prompt"), list)


def test_log_probabilities_of_no_law_are_not_known() -> None:
    """Twenty tokens of probability 1 each."""
    from rlvr_bench.samplers.endpoint_replies import mean_bounds

    at_positions = positions({"content": [{"logprob": 0.0, "top_logprobs": [{"logprob": 0.0}] * 20}]})
    assert at_positions is not None
    assert mean_bounds(at_positions, 1, 20, 300).branching_high == 300


def test_fewer_responses_than_asked_are_read_and_none_is_made_up() -> None:
    assert len(read_choices({"choices": [choice(0)]}, n=4, max_tokens=16)) == 1
    with pytest.raises(Failed):
        read_choices({"choices": [choice(i) for i in range(5)]}, n=4, max_tokens=16)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
KEYS = ("index", "finish_reason", "text", "message", "token_ids", "logprobs")
INNER = ("content", "reasoning", "top_logprobs", "token_logprobs", "logprob")


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_any_json_is_read_or_fails(data: st.DataObject) -> None:
    """What is read has the types and bounds that the rest counts on, whatever it is read from."""
    values = JSON | st.sampled_from(["stop", "length", "x"]) | st.dictionaries(st.sampled_from(INNER), JSON, max_size=3)
    choices = st.lists(st.dictionaries(st.sampled_from(KEYS), values) | JSON, max_size=3)
    reply = data.draw(st.fixed_dictionaries({}, optional={"choices": choices | JSON, "usage": JSON}))
    try:
        responses = read_choices(reply, n=3, max_tokens=16)
    except Failed:
        return
    for response in responses:
        assert isinstance(response.text, str)
        assert response.n_tokens is None or 0 <= response.n_tokens <= 96
        for position in positions(response.logprobs) or ():
            assert all(value <= 1e-3 for value in (position.sampled, *position.listed))


def test_a_long_row_of_malformed_replies_is_not_a_dead_server(opened: Opener) -> None:
    odd = [Reply({"choices": "?"})] * 40
    _server, sampler = opened(
        ScriptedServer(script=fails_for("raw p", *odd)), retries=0, concurrency=2, chat_template="none"
    )
    drawn: list[Draw] = []
    with pytest.raises(EngineError, match="40 of 60 requests failed"):
        drawn.extend(sampler.draw([request(f"p{i}", seed=i) for i in range(60)], SAMPLING))
    assert len(drawn) == 20
