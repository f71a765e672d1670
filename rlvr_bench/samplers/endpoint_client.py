"""Talking to an OpenAI-compatible server: address, key, retries; the only importer of httpx, tenacity and anyio.

Requests run in an event loop in a thread of its own, so that callers stay plain and can stop waiting at any moment.
What fails is told in one line that holds neither the key nor the prompt: exceptions of the HTTP library carry the
request, with its headers, and are therefore never chained to ours.
"""

from __future__ import annotations

import email.utils
import functools
import os
import time
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

from rlvr_bench.errors import BadArgument, EngineError

__all__ = ["Address", "Client", "Failed", "Settings"]

T = TypeVar("T")

_BACKOFF_S = 0.5  # before the first retry; doubled each time
_BACKOFF_LIMIT_S = 60.0
_RETRY_AFTER_LIMIT_S = 600.0  # a server that asks for more is taken to have failed
_CONNECT_S = 30.0
_MESSAGE = 300  # characters of a server's own message that are repeated at most
_QUOTE = 24  # characters in a row that make a message a quotation of the prompt
_CAUSES = {
    "ConnectTimeout": f"no connection within {_CONNECT_S:g} s",
    "ReadError": "the connection broke",
    "RemoteProtocolError": "the connection was closed before the answer was complete",
}
_TRANSIENT = frozenset({408, 409, 425, 429})


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Engine arguments of an endpoint.

    ``timeout_s`` bounds one request from end to end, ``retries`` how often it is sent again; ``vocab_size`` is the
    width of the model's logits, or more: it enters upper bounds of truncated statistics only, see ``docs/endpoints.md``.
    """

    concurrency: Annotated[int, msgspec.Meta(ge=1)] = 64
    timeout_s: Annotated[float, msgspec.Meta(gt=0)] = 1800.0
    retries: Annotated[int, msgspec.Meta(ge=0)] = 5
    api_key_env: str = "OPENAI_API_KEY"
    logprobs: Annotated[str, msgspec.Meta(pattern="^(auto|off)$")] = "auto"
    # Above every vocabulary known at the time of writing; 2^18 is not (Gemma 3 pads its logits to 262,208).
    vocab_size: Annotated[int, msgspec.Meta(ge=2)] = 2**19

    @classmethod
    def read(cls, engine_args: Mapping[str, Any]) -> Settings:
        """Raises BadArgument naming what is allowed."""
        try:
            return msgspec.convert(dict(engine_args), cls, strict=False)
        except msgspec.ValidationError as error:
            allowed = f"{error}. An endpoint takes {', '.join(cls.__struct_fields__)}"
        raise BadArgument("--engine-arg", ", ".join(engine_args), allowed)

    def key(self) -> str | None:
        """The API key, or None where the default variable is not set: a server of one's own needs none.

        Raises BadArgument where a variable was named and is empty, EngineError where its content cannot be a key.
        """
        key = os.environ.get(self.api_key_env, "").strip()
        if not key and self.api_key_env != type(self)().api_key_env:
            raise BadArgument("api_key_env", self.api_key_env, "this environment variable is not set")
        if key and not (key.isascii() and key.isprintable()):
            raise EngineError(f"the environment variable {self.api_key_env} holds characters that no API key has")
        return key or None


class Address(NamedTuple):
    """Where a server is: ``base`` ends in its API's version (``/v1``), ``root`` does not; ``model`` may be named."""

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


class Failed(Exception):
    """A request that did not succeed; its text is one line without key and prompt."""

    def __init__(self, reason: str, *, transient: bool = False, status: int | None = None, wait_s: float = 0.0) -> None:
        super().__init__(reason)
        self.transient, self.status, self.wait_s = transient, status, wait_s


class Client:
    """Sends requests to one server, ``concurrency`` at a time; ``close`` ends its thread."""

    def __init__(self, address: Address, settings: Settings) -> None:
        """Nothing is sent yet. Raises what ``Settings.key`` raises."""
        self._address, self._settings = address, settings
        self._key = settings.key()
        self._stack = ExitStack()
        self._portal = self._stack.enter_context(anyio.from_thread.start_blocking_portal())
        self._http = httpx.AsyncClient(
            headers={"authorization": f"Bearer {self._key}"} if self._key else {},
            timeout=httpx.Timeout(None, connect=_CONNECT_S),  # the whole request has a limit of its own
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=settings.concurrency),
        )
        self._stack.callback(self._portal.call, self._http.aclose)
        self._slots = anyio.CapacityLimiter(settings.concurrency)
        self._open: set[Future[Any]] = set()

    def start(self, work: Callable[..., Awaitable[T]], *args: Any) -> Future[T]:
        """Run a coroutine function in the client's thread."""
        future = self._portal.start_task_soon(work, *args)
        self._open.add(future)
        future.add_done_callback(self._open.discard)
        return future

    def call(self, work: Callable[..., Awaitable[T]], *args: Any) -> T:
        """The same, waiting for the result."""
        return self.start(work, *args).result()

    def cancel(self, futures: Collection[Future[Any]]) -> None:
        """Drop what is under way and wait until its connections are closed."""
        for future in futures:
            future.cancel()
        wait(futures, timeout=5)

    def close(self) -> None:
        """Drop what is under way, close every connection and end the thread; twice is as good as once."""
        self.cancel(tuple(self._open))
        self._stack.close()

    async def get(self, url: str, *, retries: int | None = None) -> Any:
        """The JSON object at ``url``. Raises Failed."""
        return await self._retried(functools.partial(self._once, "GET", url, None), retries)

    async def post(
        self, url: str, body: Mapping[str, Any], read: Callable[[Any], T], *, retries: int | None = None
    ) -> T:
        """Send ``body``; what comes back goes through ``read``, whose Failed counts as the server's. Raises Failed."""

        async def once() -> T:
            return read(await self._once("POST", url, body))

        return await self._retried(once, retries)

    def explain(self, failure: Failed) -> EngineError:
        """A failure that sending again cannot mend, as the user's error."""
        base, variable = self._address.base, self._settings.api_key_env
        if failure.status in (401, 403):
            mend = f"the key in {variable} is not accepted" if self._key else f"set {variable} to its API key"
            return EngineError(f"{base} refuses access ({failure}): {mend}")
        return EngineError(f"{base}: {failure}")

    async def _retried(self, once: Callable[[], Coroutine[Any, Any, T]], retries: int | None) -> T:
        retrying = tenacity.AsyncRetrying(
            stop=tenacity.stop_after_attempt(1 + (self._settings.retries if retries is None else retries)),
            wait=_backoff,
            retry=tenacity.retry_if_exception(lambda error: isinstance(error, Failed) and error.transient),
            reraise=True,
        )
        return await retrying(once)

    async def _once(self, method: str, url: str, body: Mapping[str, Any] | None) -> Any:
        failure = None
        limit = self._settings.timeout_s
        try:
            async with self._slots:
                with anyio.fail_after(limit):
                    reply = await self._http.request(method, url, json=body)
        except TimeoutError:
            failure = Failed(f"no answer within {limit:g} s", transient=True)
        except httpx.HTTPError as error:
            failure = Failed(_cause(error), transient=True)
        if failure is None and not reply.is_success:
            failure = self._refusal(reply, body)
        if failure is not None:  # raised out here, or the HTTP library's exception would come along as its context
            raise failure
        return _content(reply)

    def _refusal(self, reply: httpx.Response, body: Mapping[str, Any] | None) -> Failed:
        status = f"answered {reply.status_code} {reply.reason_phrase}".strip()
        message, code = _message(reply)
        message = message.replace(self._key, "[key]") if self._key else message
        message = message[:_MESSAGE]
        if _quotes(message, body):
            message = "its message repeats the prompt and is left out"
        wait_s = _retry_after(reply.headers.get("retry-after"))
        # OpenAI answers 429 to an account without money too: that does not pass.
        transient = reply.status_code in _TRANSIENT or reply.status_code >= 500
        transient = transient and code != "insufficient_quota" and wait_s <= _RETRY_AFTER_LIMIT_S
        reason = f"{status}: {message}" if message else status
        return Failed(reason, transient=transient, status=reply.status_code, wait_s=wait_s)


# The random part keeps requests that failed together from coming back together.
_exponential = tenacity.wait_exponential(_BACKOFF_S, max=_BACKOFF_LIMIT_S) + tenacity.wait_random(0, _BACKOFF_S)


def _backoff(state: tenacity.RetryCallState) -> float:
    """Exponential with jitter, or what the server asked for where that is longer."""
    error = state.outcome.exception() if state.outcome else None
    return max(_exponential(state), error.wait_s if isinstance(error, Failed) else 0.0)


def _retry_after(header: str | None) -> float:
    """Seconds until the moment a ``Retry-After`` header names, as a number or as a date (RFC 9110, 10.2.3)."""
    if header is None:
        return 0.0
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(header).timestamp() - time.time())
    except ValueError:
        return 0.0


def _content(reply: httpx.Response) -> Any:
    content = None
    try:
        content = msgspec.json.decode(reply.content)
    except (msgspec.DecodeError, UnicodeDecodeError):
        kind = reply.headers.get("content-type", "content of no type").partition(";")[0][:80]
    else:
        kind = "JSON of another shape"
    if not isinstance(content, dict):
        raise Failed(f"answered with {kind} where a JSON object was expected", transient=True, status=reply.status_code)
    return content


def _message(reply: httpx.Response) -> tuple[str, str]:
    """What the server says of its refusal, on one line, and its error code; servers differ in where they put it."""
    try:
        content = msgspec.json.decode(reply.content)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return "", ""
    found = content.get("error", content) if isinstance(content, dict) else content
    if not isinstance(found, dict):
        return " ".join(str(found).split()), ""
    text = found.get("message") or found.get("detail") or ""
    return " ".join(str(text).split()), str(found.get("code") or "")


def _quotes(message: str, body: Mapping[str, Any] | None) -> bool:
    """Whether a message repeats the prompt, or a good part of it."""
    if not body:
        return False
    texts = [body.get("prompt"), *(turn.get("content") for turn in body.get("messages", ()))]
    for text in (" ".join(text.split()) for text in texts if isinstance(text, str)):
        width = min(_QUOTE, len(text))
        if width and any(message[i : i + width] in text for i in range(len(message) - width + 1)):
            return True
    return False


def _cause(error: BaseException) -> str:
    """The system's own words for a failed connection, which stand at the bottom of a chain of exceptions."""
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
    """The URL without user, password, query and fragment; reading a port that is none raises ValueError."""
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{host}{f':{parts.port}' if parts.port else ''}{parts.path}"
