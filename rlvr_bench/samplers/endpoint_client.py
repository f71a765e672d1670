"""Requests to an OpenAI-compatible server: address, key, retries. Only this file imports httpx, tenacity and anyio.

Requests run in an event loop in a separate thread. So the callers need no async code, and can stop waiting at any time.
A failure is one line of text without the key and the prompt. Exceptions of the HTTP library contain the request with
its headers, so they are never chained to ours.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping
from concurrent.futures import Future, wait
from contextlib import ExitStack
from typing import Annotated, Any, NamedTuple, TypeVar
from urllib.parse import SplitResult, urlsplit

import anyio
import anyio.from_thread
import httpx
import msgspec
import tenacity

from rlvr_bench.errors import BadArgument, EngineError, visible
from rlvr_bench.json_format import JSON
from rlvr_bench.samplers.endpoint_content import (
    ENCODINGS,
    most_bytes,
    quotes,
    read_object,
    refusal_text,
    retry_after,
    unpacked,
)
from rlvr_bench.samplers.endpoint_failures import Failed

__all__ = ["Address", "Client", "Failed", "Settings"]

T = TypeVar("T")

_BACKOFF_S = 0.5  # before the first retry; doubled each time
_BACKOFF_LIMIT_S = 60.0
_RETRY_AFTER_LIMIT_S = 600.0  # where a server asks for a longer wait, the request counts as failed
_CONNECT_S = 30.0
_PROBE_S = 120.0  # for a request of a few tokens
_BASE_S, _TOKEN_S = 600.0, 0.5  # for a request that draws: the wait in the server's queue, and two tokens a second
_REFUSAL_BYTES = 2**16
_CAUSES = {
    "ConnectTimeout": f"no connection within {_CONNECT_S:g} s",
    "ReadError": "the connection broke",
    "RemoteProtocolError": "the connection was closed before the answer was complete",
}
# Exceptions of the HTTP library, of the network, and of hostile headers.
_BROKEN = (httpx.HTTPError, httpx.StreamError, anyio.BrokenResourceError, anyio.ClosedResourceError, OSError)
_UNREADABLE = (TypeError, ValueError, KeyError, IndexError, AttributeError, OverflowError, RecursionError, MemoryError)


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Engine arguments of an endpoint.

    ``timeout_s``: the time limit of one request, from its start to its end (default: see ``seconds``). ``retries``: how
    often a failed request is sent again. ``vllm_routes``: whether vLLM's ``/version`` and ``/tokenize`` are tried.
    ``vocab_size``: the width of the model's logits, or more. It is used only in upper bounds of truncated statistics,
    see ``docs/endpoints.md``.
    """

    concurrency: Annotated[int, msgspec.Meta(ge=1)] = 64
    timeout_s: Annotated[float, msgspec.Meta(gt=0)] | None = None
    retries: Annotated[int, msgspec.Meta(ge=0)] = 5
    api_key_env: str = "OPENAI_API_KEY"
    logprobs: Annotated[str, msgspec.Meta(pattern="^(auto|off)$")] = "auto"
    vllm_routes: Annotated[str, msgspec.Meta(pattern="^(auto|off)$")] = "auto"
    # Above every vocabulary known at the time of writing; 2^18 is not (Gemma 3 pads its logits to 262,208).
    vocab_size: Annotated[int, msgspec.Meta(ge=2)] = 2**19

    @classmethod
    def read(cls, engine_args: Mapping[str, JSON]) -> Settings:
        """Read the engine arguments. Raises BadArgument, which names what is allowed."""
        try:
            return msgspec.convert(dict(engine_args), cls, strict=False)
        except msgspec.ValidationError as error:
            allowed = f"{error}. An endpoint takes {', '.join(cls.__struct_fields__)}"
        raise BadArgument("--engine-arg", ", ".join(engine_args), allowed)

    def seconds(self, max_tokens: int | None = None) -> float:
        """Time limit of a request: ``timeout_s`` where it is set.

        Else 600 s plus 0.5 s per token of ``max_tokens`` for a request that draws responses, and 120 s for any other.
        """
        if self.timeout_s is not None:
            return self.timeout_s
        return _PROBE_S if max_tokens is None else _BASE_S + _TOKEN_S * max_tokens

    def key(self) -> str | None:
        """The API key, or None where the default variable is not set: a local server needs no key.

        Raises BadArgument where the user named a variable and it is empty, EngineError where its content cannot be a
        key.
        """
        key = os.environ.get(self.api_key_env, "").strip()
        if not key and self.api_key_env != type(self)().api_key_env:
            raise BadArgument("api_key_env", self.api_key_env, "this environment variable is not set")
        if key and not (key.isascii() and key.isprintable()):
            raise EngineError(f"the environment variable {self.api_key_env} holds characters that no API key has")
        return key or None


class Address(NamedTuple):
    """The address of a server. ``base`` usually ends in ``/v1``, ``root`` does not; ``model`` may be None."""

    base: str
    root: str
    model: str | None

    @classmethod
    def read(cls, url: str) -> Address:
        """Split ``http://host:8000/v1#model``. Raises BadArgument for another URL, without repeating its secrets."""
        try:
            parts = urlsplit(url)
            shown, host = _without_secrets(parts), parts.hostname
        except ValueError:
            parts, shown, host = SplitResult("", "", "", "", ""), "(a URL that cannot be read)", None
        if parts.scheme not in ("http", "https") or not host:
            raise BadArgument("--model", shown, "the URL of a server looks like http://host:8000/v1")
        if parts.username is not None or parts.query:
            raise BadArgument(
                "--model", shown, "no user, password or query in the URL: the key comes from an environment variable"
            )
        base = shown.rstrip("/")
        if not parts.path.strip("/"):
            base += "/v1"
        return cls(base, base.removesuffix("/v1"), parts.fragment or None)


class Client:
    """Sends requests to one server, at most ``concurrency`` at a time; ``close`` ends the client's thread."""

    def __init__(self, address: Address, settings: Settings) -> None:
        """Start the thread; nothing is sent yet. Raises what ``Settings.key`` raises."""
        self._address, self._settings = address, settings
        self._key = settings.key()
        self._stack = ExitStack()
        self._portal = self._stack.enter_context(anyio.from_thread.start_blocking_portal())
        self._http = httpx.AsyncClient(
            headers={"accept-encoding": ENCODINGS, **({"authorization": f"Bearer {self._key}"} if self._key else {})},
            timeout=httpx.Timeout(None, connect=_CONNECT_S),  # ``_once`` limits the time of the whole request
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=settings.concurrency),
        )
        self._stack.callback(self._portal.call, self._http.aclose)
        self._slots = anyio.CapacityLimiter(settings.concurrency)
        self._open: set[Future[Any]] = set()

    def start(self, work: Callable[..., Awaitable[T]], *args: object) -> Future[T]:
        """Run a coroutine function in the client's thread."""
        future = self._portal.start_task_soon(work, *args)
        self._open.add(future)
        future.add_done_callback(self._open.discard)
        return future

    def call(self, work: Callable[..., Awaitable[T]], *args: object) -> T:
        """Run a coroutine function in the client's thread, and wait for its result."""
        return self.start(work, *args).result()

    def cancel(self, futures: Collection[Future[Any]]) -> None:
        """Cancel these requests and wait up to 5 s until their connections are closed."""
        for future in futures:
            future.cancel()
        wait(futures, timeout=5)

    def close(self) -> None:
        """Cancel open requests, close every connection and end the thread. A second call does nothing."""
        self.cancel(tuple(self._open))
        self._stack.close()

    async def get(self, url: str, *, retries: int | None = None) -> dict[str, JSON]:
        """The JSON object at ``url``. Raises Failed."""
        once = functools.partial(self._once, "GET", url, None, self._settings.seconds(), most_bytes())
        return await self._retried(once, retries)

    async def post(
        self,
        url: str,
        body: Mapping[str, JSON],
        read: Callable[[dict[str, JSON]], T],
        *,
        max_tokens: int | None = None,
        most: int | None = None,
    ) -> T:
        """Send ``body`` and return the reply as ``read`` converts it. Raises Failed.

        A Failed from ``read`` counts as a failure of the server, and may be retried. ``max_tokens`` sets the time limit
        (see ``Settings.seconds``), ``most`` the largest reply in bytes.
        """
        limit_s, most = self._settings.seconds(max_tokens), most_bytes() if most is None else most

        async def once() -> T:
            reply = await self._once("POST", url, body, limit_s, most)
            try:
                return read(reply)
            except _UNREADABLE as error:
                failure = Failed.malformed(f"answered with something that cannot be read ({type(error).__name__})")
            raise failure

        return await self._retried(once, None)

    def explain(self, failure: Failed) -> EngineError:
        """The error for the user, from a failure that a retry cannot repair."""
        base, variable = self._address.base, self._settings.api_key_env
        if failure.no_access:
            mend = f"the key in {variable} is not accepted" if self._key else f"set {variable} to its API key"
            return EngineError(f"{base} refuses access ({failure}): {mend}")
        return EngineError(f"{base}: {failure}")

    async def _retried(self, once: Callable[[], Coroutine[object, None, T]], retries: int | None) -> T:
        retrying = tenacity.AsyncRetrying(
            stop=tenacity.stop_after_attempt(1 + (self._settings.retries if retries is None else retries)),
            wait=_backoff,
            retry=tenacity.retry_if_exception(lambda error: isinstance(error, Failed) and error.transient),
            reraise=True,
        )
        return await retrying(once)

    async def _once(
        self, method: str, url: str, body: Mapping[str, JSON] | None, limit_s: float, most: int
    ) -> dict[str, JSON]:
        try:
            async with self._slots:
                with anyio.fail_after(limit_s):
                    return await self._exchange(method, url, body, most)
        except TimeoutError:
            failure = Failed(f"no answer within {limit_s:g} s", transient=True)
        except Failed as error:
            failure = error
        except _BROKEN as error:
            failure = Failed(_cause(error), transient=True)
            failure.unreachable = isinstance(error, httpx.ConnectError)
        except (ValueError, MemoryError) as error:  # text that cannot be sent, or headers that a reply must not have
            failure = Failed(f"a request or reply that cannot be handled ({type(error).__name__})")
        raise failure  # outside of the try block: inside, the HTTP library's exception would become its context

    async def _exchange(self, method: str, url: str, body: Mapping[str, JSON] | None, most: int) -> dict[str, JSON]:
        async with self._http.stream(method, url, json=body) as reply:
            encoding = reply.headers.get("content-encoding", "").strip().lower()
            if not reply.is_success:
                content = b""
                with contextlib.suppress(Failed):
                    content = await unpacked(reply.aiter_raw(), encoding, _REFUSAL_BYTES)
                raise self._refusal(reply, content, body)
            content = await unpacked(reply.aiter_raw(), encoding, most)
            return read_object(content, reply.headers.get("content-type", ""))

    def _refusal(self, reply: httpx.Response, content: bytes, body: Mapping[str, JSON] | None) -> Failed:
        code, wait_s = reply.status_code, retry_after(reply.headers.get("retry-after"))
        status = visible(f"answered {code} {reply.reason_phrase[:80]}".strip())
        message, said = refusal_text(content, reply.headers.get("content-type", ""), self._key)
        if quotes(message, body):
            message, said = "its message repeats the prompt and is left out", ""
        # OpenAI answers 429 also where an account has no money: a retry does not help then.
        transient = Failed.may_pass(code) and "insufficient_quota" not in said and wait_s <= _RETRY_AFTER_LIMIT_S
        reason = f"{status}: {message}" if message else status
        return Failed(reason, transient=transient, status=code, wait_s=wait_s, said=said)


# The random part spreads the retries of requests that failed at the same time.
_exponential = tenacity.wait_exponential(_BACKOFF_S, max=_BACKOFF_LIMIT_S) + tenacity.wait_random(0, _BACKOFF_S)


def _backoff(state: tenacity.RetryCallState) -> float:
    """Seconds to wait: exponential with jitter, or what the server asked for where that is longer."""
    error = state.outcome.exception() if state.outcome else None
    return max(_exponential(state), error.wait_s if isinstance(error, Failed) else 0.0)


def _cause(error: BaseException) -> str:
    """The operating system's message for a failed connection, which is at the end of a chain of exceptions."""
    seen: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in seen:
        seen.append(link)
        link = link.__cause__ or link.__context__
    for link in reversed(seen):
        if isinstance(link, ConnectionError) and link.errno:
            return os.strerror(link.errno).lower()
        if isinstance(link, OSError) and link.strerror:
            return link.strerror
    name = type(error).__name__
    return _CAUSES.get(name, name)


def _without_secrets(parts: SplitResult) -> str:
    """The URL without user, password, query and fragment. Raises ValueError where the port is invalid."""
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{host}{f':{parts.port}' if parts.port else ''}{parts.path}"
