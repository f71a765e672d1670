"""A small HTTP service of rewards, for training programs on another machine or in another language.

``POST /get_reward`` is OpenRLHF's remote reward model (``query``, ``prompts``, ``labels``), ``POST /reward`` slime's remote
one (``response``, ``label``: a number comes back), ``POST /verify`` the plain form (``responses``, ``answers``), which also
returns the verdicts. ``GET /health`` says that the service is up. Whatever a client sends, it gets JSON back, and only its
request is lost: bodies, numbers of items and of clients are limited, and a client must send its request in time.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import msgspec

from rlvr_bench.errors import BadArgument, StorageError, in_one_line
from rlvr_bench.received import decode
from rlvr_bench.records import Verdict
from rlvr_bench.training.rewards import Reward, responses_of

__all__ = ["RewardServer", "ServeLimits", "serve_verifier"]

_READ_BYTES = 1 << 16

logger = logging.getLogger(__name__)


class ServeLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What one client may cost: bytes of a request, items in it, seconds to send it, and clients at a time."""

    request_bytes: int = 64 << 20
    items: int = 65_536
    request_s: float = 30.0
    clients: int = 64


DEFAULT_LIMITS = ServeLimits()


class _Refusal(Exception):
    """A request that is answered with this status and one line."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


class _RemoteModel(msgspec.Struct):
    query: list[str]
    labels: list[Any]
    prompts: list[str] | None = None


class _Sample(msgspec.Struct):
    response: str
    label: Any


class _Pairs(msgspec.Struct):
    responses: list[Any]
    answers: list[Any]


class RewardServer(ThreadingHTTPServer):
    """The service, bound to ``host`` and ``port`` (0: a free one); ``serve_forever`` runs it.

    Raises StorageError where the address cannot be used, BadArgument for a port outside 0..65535.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self, reward: Reward, host: str = "127.0.0.1", port: int = 8000, limits: ServeLimits = DEFAULT_LIMITS
    ) -> None:
        if not 0 <= port < 65_536:
            raise BadArgument("port", port, "must be from 0 to 65535")
        self.reward, self.limits = reward, limits
        self._deadlines: dict[socket.socket, float] = {}
        self._lock = threading.Lock()
        if ":" in host:
            self.address_family = socket.AF_INET6
        try:
            super().__init__((host, port), _Handler)
        except OSError as error:
            raise StorageError(
                f"cannot listen on {host}:{port}: {error.strerror or error}. Choose another --port"
            ) from error

    @property
    def address(self) -> str:
        """The URL of the service."""
        host, port = self.server_address[:2]
        return f"http://[{host!s}]:{port}" if self.address_family == socket.AF_INET6 else f"http://{host!s}:{port}"

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            is_full = len(self._deadlines) >= self.limits.clients
            if not is_full:
                self._deadlines[request] = time.monotonic() + self.limits.request_s
        if is_full:
            with contextlib.suppress(OSError):
                request.settimeout(1)
                request.sendall(b"HTTP/1.0 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n")
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def received(self, request: socket.socket) -> None:
        """Note that a client's request is complete: the time that its items take is not the client's."""
        with self._lock:
            self._deadlines[request] = float("inf")

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._deadlines.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """End the connections of clients that have not sent their request in time."""
        now = time.monotonic()
        with self._lock:
            late = [request for request, deadline in self._deadlines.items() if deadline < now]
            for request in late:
                with contextlib.suppress(OSError):
                    request.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        logger.debug("a connection from %s ended early", client_address, exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    server: RewardServer
    server_version, sys_version = "rlvr-bench", ""

    def setup(self) -> None:
        super().setup()
        self.connection.settimeout(self.server.limits.request_s)

    def do_GET(self) -> None:
        if self.path == "/health":
            self._reply(HTTPStatus.OK, {"status": "ok", "verdicts": dict(self.server.reward.counts)})
        else:
            self._reply(*_unknown(self.path))

    def do_POST(self) -> None:
        form = _FORMS.get(self.path.partition("?")[0])
        try:
            body = self._body()
            if form is None:
                self._reply(*_unknown(self.path))
                return
            self._reply(HTTPStatus.OK, form(self.server, body))
        except _Refusal as refusal:
            self._reply(refusal.status, {"error": str(refusal)})
        except (msgspec.DecodeError, ValueError) as error:
            self._reply(HTTPStatus.BAD_REQUEST, {"error": in_one_line(f"not a request of {self.path}: {error}")})

    def _body(self) -> bytes:
        """The body of the request. Raises _Refusal where its length is not stated, too large, or does not arrive."""
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit() and len(length) < 16):
            raise _Refusal(HTTPStatus.LENGTH_REQUIRED, "the request needs a Content-Length")
        if int(length) > self.server.limits.request_bytes:
            message = f"the request has {int(length):,} bytes; at most {self.server.limits.request_bytes:,} are taken"
            raise _Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, message)
        body = bytearray()
        while len(body) < int(length):
            part = self.rfile.read(min(_READ_BYTES, int(length) - len(body)))
            if not part:
                raise _Refusal(HTTPStatus.BAD_REQUEST, "the request ended before its Content-Length")
            body += part
        self.server.received(self.connection)
        return bytes(body)

    def _reply(self, status: HTTPStatus, content: object) -> None:
        body = msgspec.json.encode(content)
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        logger.debug("%s %s", self.address_string(), in_one_line(format % args))


def _get_reward(server: RewardServer, body: bytes) -> object:
    asked = decode(body, _RemoteModel)
    prompts = asked.prompts or [""] * len(asked.query)
    if len(prompts) != len(asked.query):
        raise _Refusal(HTTPStatus.BAD_REQUEST, f"{len(asked.query)} queries, but {len(prompts)} prompts")
    rewards = _values(server, _verdicts(server, responses_of(asked.query, prompts), asked.labels))
    return {"rewards": rewards, "scores": rewards, "extra_logs": {}}


def _one_reward(server: RewardServer, body: bytes) -> object:
    asked = decode(body, _Sample)
    return _values(server, _verdicts(server, [asked.response], [asked.label]))[0]


def _verify(server: RewardServer, body: bytes) -> object:
    asked = decode(body, _Pairs)
    verdicts = _verdicts(server, asked.responses, asked.answers)
    return {"rewards": _values(server, verdicts), "verdicts": verdicts}


_FORMS: dict[str, Callable[[RewardServer, bytes], object]] = {
    "/get_reward": _get_reward,
    "/reward": _one_reward,
    "/verify": _verify,
}


def _verdicts(server: RewardServer, responses: list[Any], answers: list[Any]) -> list[Verdict]:
    if len(responses) != len(answers):
        raise _Refusal(HTTPStatus.BAD_REQUEST, f"{len(responses)} responses, but {len(answers)} gold answers")
    if len(responses) > server.limits.items:
        message = f"{len(responses):,} items; at most {server.limits.items:,} are taken"
        raise _Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, message)
    return server.reward.verdicts(responses, answers)


def _values(server: RewardServer, verdicts: list[Verdict]) -> list[float]:
    return [server.reward.value_of(verdict) for verdict in verdicts]


def _unknown(path: str) -> tuple[HTTPStatus, object]:
    message = f"no {in_one_line(path)}; POST to {', '.join(_FORMS)}, or GET /health"
    return HTTPStatus.NOT_FOUND, {"error": message}


def serve_verifier(
    reward: Reward,
    host: str = "127.0.0.1",
    port: int = 8000,
    *,
    limits: ServeLimits = DEFAULT_LIMITS,
    started: Callable[[str], None] = lambda address: None,
) -> None:
    """Serve rewards until interrupted; ``started`` gets the address once it can be used, and ``reward`` is closed at the end.

    The service knows no users: bind another host than a loopback one only where everybody who reaches it may use it.
    Raises as `RewardServer`, and VerifierError where the workers do not start.
    """
    with reward, RewardServer(reward, host, port, limits) as server:
        started(server.address)
        server.serve_forever(poll_interval=0.25)
