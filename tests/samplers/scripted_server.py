"""A small OpenAI-compatible server on loopback whose answers, refusals and delays a test decides."""

from __future__ import annotations

import contextlib
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest
import tenacity

from rlvr_bench.records import DrawRequest, Prompt, SamplingParameters
from rlvr_bench.samplers import endpoint_client
from rlvr_bench.samplers.endpoint import EndpointSampler
from rlvr_bench.samplers.protocol import SamplerOptions

# Forty tokens, none equally likely, most of the mass on a few: what a trained model's laws look like.
LAW = np.exp(-0.45 * np.arange(40.0))
LAW /= LAW.sum()
LOGPROBS = np.log(LAW)


@dataclass
class Reply:
    """What goes back: JSON unless it is bytes already."""

    content: Any
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    delay_s: float = 0.0


Script = Callable[[str, dict[str, Any]], Reply | None]


@dataclass
class ScriptedServer:
    """A server with one or more models; ``script`` may answer a request in its own way, or leave it with None.

    ``kind`` is vllm (ids, /tokenize, and with ``extension`` our columns), plain, or chat-only.
    """

    kind: str = "plain"
    models: tuple[str, ...] = ("m",)
    script: Script = lambda path, body: None
    extension: bool = False
    many: bool = True
    logprobs: bool = True
    tempered: bool = False
    n_tokens: int = 4
    seen: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    port: int = 0
    in_flight: int = 0
    most_in_flight: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def draws(self) -> list[dict[str, Any]]:
        """Requests for responses, those of getting acquainted left out."""
        return [body for path, body in self.seen if "completions" in path and "robe" not in probe_text(body)]

    def answer(self, path: str, body: dict[str, Any]) -> Reply:
        if (scripted := self.script(path, body)) is not None:
            return scripted
        if path == "/v1/models":
            return Reply({"data": [self._card(name) for name in self.models]})
        if path == "/version" and self.kind == "vllm":
            return Reply({"version": "0.99"})
        if path == "/tokenize" and self.kind == "vllm":
            ids = list(range(5 if "messages" in body else len(body["prompt"].split())))
            return Reply({"count": len(ids), "max_model_len": 64, "tokens": ids})
        if path == "/v1/chat/completions":
            return Reply(self._response(body, chat=True))
        if path == "/v1/completions" and self.kind != "chat-only":
            return Reply(self._response(body, chat=False))
        return Reply({"error": {"message": f"no {path} here"}}, 404)

    def _card(self, name: str) -> dict[str, Any]:
        card = {"id": name, "owned_by": self.kind, "created": time.time()}
        return card | {"root": f"/ckpts/{name}", "max_model_len": 64} if self.kind == "vllm" else card

    def _response(self, body: dict[str, Any], chat: bool) -> dict[str, Any]:
        n = body.get("n", 1) if self.many else 1
        choices = [self._choice(body, i, chat) for i in range(n)]
        return {"choices": choices, "usage": {"completion_tokens": n * self.n_tokens}}

    def _choice(self, body: dict[str, Any], index: int, chat: bool) -> dict[str, Any]:
        text = f"seed {body.get('seed', 0) + index}"
        rng = np.random.default_rng((body.get("seed") or 0) + index)
        ids = rng.choice(len(LAW), self.n_tokens, p=LAW).tolist()
        choice: dict[str, Any] = {"index": index, "finish_reason": "stop"}
        choice |= {"message": {"content": text}} if chat else {"text": text}
        if self.kind == "vllm" and body.get("return_token_ids"):
            choice["token_ids"] = ids
        top = body.get("top_logprobs") if chat else body.get("logprobs")
        if top and self.logprobs:
            choice["logprobs"] = self._logprobs(ids, top, body, chat)
        return choice

    def _logprobs(self, ids: list[int], top: int, body: dict[str, Any], chat: bool) -> dict[str, Any]:
        logprobs = LOGPROBS
        if self.tempered:
            scaled = LAW ** (1 / body["temperature"])
            logprobs = np.log(scaled / scaled.sum())
        named = self.kind == "vllm" and body.get("return_tokens_as_token_ids")
        name = ("token_id:{}" if named else "t{}").format
        tables = []
        for token in ids:
            table = {token: float(logprobs[token])}
            table |= {i: float(logprobs[i]) for i in range(top)}
            if self.extension and top == 2:
                table = hooked(token)
            tables.append({name(i): lp for i, lp in table.items()})
        if chat:
            return {"content": [_chat_entry(name(t), table, top) for t, table in zip(ids, tables, strict=True)]}
        sampled = [table[name(token)] for token, table in zip(ids, tables, strict=True)]
        return {"tokens": [name(i) for i in ids], "token_logprobs": sampled, "top_logprobs": tables}


def hooked(token: int) -> dict[int, float]:
    """The three columns that our worker extension writes."""
    from rlvr_bench.samplers.vllm_packing import marks

    first, second = (int(mark) for mark in marks(np.array(token)))
    entropy = -(LAW * LOGPROBS).sum()
    nucleus = (LAW.cumsum() < 0.95).sum() + 1
    return {token: float(LOGPROBS[token]), first: float(entropy), second: float(nucleus)}


def _chat_entry(token: str, table: dict[str, float], top: int) -> dict[str, Any]:
    """As vLLM does it: the sampled token first, then the largest, cut at ``top`` entries."""
    listed = [{"token": name, "logprob": lp} for name, lp in list(table.items())[:top]]
    return {"token": token, "logprob": table[token], "top_logprobs": listed}


def probe_text(body: dict[str, Any]) -> str:
    """Prompt text of a request, marked where it is one of getting acquainted."""
    text = body.get("prompt") or body.get("messages", [{}])[0].get("content")
    return "probe" if str(text).startswith("Name a few") else str(text)


class Quiet(ThreadingHTTPServer):
    """Clients that leave are part of the game, and nobody waits for answers to them."""

    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


@contextlib.contextmanager
def serving(server: ScriptedServer) -> Iterator[ScriptedServer]:
    """Run it in threads until the end of the block."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # head and body in one packet: two would wait for each other's acknowledgement

        def do_GET(self) -> None:
            self._reply({})

        def do_POST(self) -> None:
            with contextlib.suppress(json.JSONDecodeError):  # a client that leaves may do so in the middle of a request
                self._reply(json.loads(self.rfile.read(int(self.headers["content-length"]))))

        def _reply(self, body: dict[str, Any]) -> None:
            with server.lock:
                server.seen.append((self.path, body))
                server.headers.append({name.lower(): value for name, value in self.headers.items()})
                server.in_flight += 1
                server.most_in_flight = max(server.most_in_flight, server.in_flight)
            try:
                reply = server.answer(self.path, body)
                time.sleep(reply.delay_s)
            finally:
                with server.lock:
                    server.in_flight -= 1
            self._send(reply)

        def _send(self, reply: Reply) -> None:
            content = reply.content if isinstance(reply.content, bytes) else json.dumps(reply.content).encode()
            headers = {"content-type": "application/json", "content-length": str(len(content)), **reply.headers}
            try:
                self.send_response(reply.status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)
                self.wfile.flush()
            except OSError:
                self.close_connection = True

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the base class's own name
            """Nothing: the test says what it wants to see."""

    httpd = Quiet(("127.0.0.1", 0), Handler)
    server.port = httpd.server_address[1]
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        httpd.shutdown()
        httpd.server_close()
        thread.join()


# ------------------------------------------------------------------------------------------------ what tests share
SAMPLING = SamplingParameters(temperature=1.0, top_p=1.0, max_tokens=16)
SEED = 2**61 + 12345


class Opener(contextlib.ExitStack):
    """Starts servers and opens samplers on them; ends both when it is closed."""

    def __call__(self, server: ScriptedServer | None = None, **options: Any) -> tuple[ScriptedServer, EndpointSampler]:
        """Options are those of the sampler, ``fragment`` for the URL, and engine arguments."""
        running = self.enter_context(serving(server or ScriptedServer()))
        names = ("token_stats", "chat_template", "template_args")
        named = {name: options.pop(name) for name in names if name in options}
        model = running.url + options.pop("fragment", "")
        sampler = EndpointSampler(SamplerOptions(model=model, engine_args=options, **named))
        self.callback(sampler.close)
        return running, sampler


def settle(monkeypatch: pytest.MonkeyPatch) -> None:
    """No waiting between retries, no key, and no proxy of the machine between a test and its server."""
    monkeypatch.setattr(endpoint_client, "_exponential", tenacity.wait_fixed(0.01))
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def request(name: str = "p1", n: int = 2, start: int = 0, seed: int = SEED, chat: bool = True) -> DrawRequest:
    messages = ({"role": "user", "content": f"question {name}"},) if chat else ()
    return DrawRequest(
        prompt=Prompt(problem_id=name, text=f"raw {name}", messages=messages), start=start, n=n, seed=seed
    )


def fails_for(word: str, *replies: Reply) -> Script:
    """Prompts that hold the word get these replies in turn, then the usual ones."""
    left = list(replies)
    return lambda path, body: left.pop(0) if "completions" in path and word in probe_text(body) and left else None
