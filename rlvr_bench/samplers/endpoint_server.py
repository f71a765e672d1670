"""What a server is and can do, learned from a few one-line requests before anything is drawn.

Servers share a protocol and differ in its corners: how many responses a request may ask for, whether large seeds are
taken, what they tell of their tokens, and of which law. What they would fill in by themselves (vLLM takes top-k from
the model's generation config, llama.cpp has one of its own) is spelled out where they let us.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Literal, TypeVar

import msgspec
import numpy as np

from rlvr_bench.errors import EngineError
from rlvr_bench.records import DrawRequest, Prompt, SamplingParameters
from rlvr_bench.samplers.endpoint_client import Address, Client
from rlvr_bench.samplers.endpoint_content import most_bytes
from rlvr_bench.samplers.endpoint_failures import Failed
from rlvr_bench.samplers.endpoint_models import Card, find_model, read_tokens, read_version
from rlvr_bench.samplers.endpoint_replies import Choice, columns, positions, read_choices
from rlvr_bench.samplers.vllm_worker import COLUMNS

__all__ = ["Dialect", "Server", "begun_text", "learn"]

T = TypeVar("T")

log = logging.getLogger(__name__)

Route = Literal["completions", "chat"]
_PATHS: dict[Route, str] = {"completions": "/completions", "chat": "/chat/completions"}

_TOP = 20  # as many as vLLM's and OpenAI's servers give
_SEED_BITS = 62  # leaves room for + i in a signed 64-bit seed; see ``seeds.draw_seed``
_PROMPTS_KEPT = 4096
_MANY = 4
_PROBE = Prompt(
    problem_id="probe", text="Name a few numbers:", messages=({"role": "user", "content": "Name a few numbers."},)
)
# Hot and cut, so that the model's own law and the law that is sampled cannot be taken for each other.
_HOT = SamplingParameters(temperature=2.0, top_p=0.9, max_tokens=8)
_PLAIN = SamplingParameters(temperature=1.0, top_p=1.0, max_tokens=1)
# Two requests for one law differ by the order of low-precision sums; another temperature moves it much further.
_SAME_LAW = 0.1


class Dialect(msgspec.Struct, frozen=True, kw_only=True):
    """What a server takes on one route, and whether its token statistics are exact."""

    route: Route
    limit: str = "max_tokens"
    explicit: bool = True
    ids: bool = True
    top: int = _TOP
    many: bool = True
    seed_bits: int = _SEED_BITS
    exact: bool = False

    def body(self, sampling: SamplingParameters, n: int, seed: int) -> dict[str, Any]:
        """A request without its model and prompt."""
        body: dict[str, Any] = {
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            self.limit: sampling.max_tokens,
        }
        if n > 1:
            body["n"] = n
        if self.seed_bits:
            body["seed"] = (
                seed if self.seed_bits == _SEED_BITS else child_seed(seed, 0) >> (_SEED_BITS - self.seed_bits)
            )
        if self.explicit:  # -1: no limit, as vLLM, SGLang and llama.cpp have it
            body |= {"top_k": sampling.top_k or -1, "min_p": 0.0, "repetition_penalty": 1.0}
        elif sampling.top_k:
            body["top_k"] = sampling.top_k
        if self.ids:
            body |= {"return_token_ids": True, "return_tokens_as_token_ids": True}
        if self.top:
            body |= {"logprobs": True, "top_logprobs": self.top} if self.route == "chat" else {"logprobs": self.top}
        return body


def begun_text(prompt: Prompt) -> str:
    """What a response begins with. Raises EngineError where that is tokens: a server's tokenizer may differ."""
    if not prompt.begun:
        return ""
    if not isinstance(prompt.begun, str):
        raise EngineError("a server cannot go on behind a prefix of tokens: use the checkpoint itself")
    return prompt.begun


def child_seed(seed: int, i: int) -> int:
    """A stream of its own for response i of a request that has to be sent one response at a time."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{i}".encode()).digest()[:8], "big") >> (64 - _SEED_BITS)


class Server:
    """One model behind one address. All coroutines belong to the client's event loop."""

    def __init__(self, client: Client, address: Address, *, chat: bool, measure: bool, vllm_routes: bool) -> None:
        """Nothing is asked yet: ``connect`` does."""
        self._client, self._address = client, address
        self._chat, self._measure, self._vllm_routes = chat, measure, vllm_routes
        self._dialects: dict[Route, Dialect] = {}
        self._learning = asyncio.Lock()
        self._prompts: OrderedDict[str, tuple[Prompt, list[int]]] = OrderedDict()
        self.card: Card
        self.version = "unknown"
        self.tokenizes = False
        self.templated = chat
        self.main: Dialect
        self._bare = False  # whether the prompts have no messages

    @property
    def model(self) -> str:
        """The model's name at this server."""
        return self.card.id

    async def connect(self) -> None:
        """Find the model and learn what the server can do.

        Raises Failed where it does not answer to the end, EngineError, BadArgument, UnknownName.
        """
        self.card, version = await find_model(self._client, self._address), ""
        if self._vllm_routes:
            get = self._client.get(f"{self._address.root}/version")
            version = read_version(await self._optional("/version", get) or {})
            tokenize = self._tokenize({"prompt": _PROBE.text})
            self.tokenizes = bool(await self._optional("/tokenize", tokenize))
        self.version = f"{self.card.owner} {version}".strip() or "unknown"
        if self.templated:
            self.templated = await self._has_template()
        self.main = await self._dialect("chat" if self.templated and not self.tokenizes else "completions")

    async def prepare(self, prompts: Sequence[Prompt]) -> None:
        """Learn the route that these prompts take. Raises Failed where the server does not take them, or does not answer."""
        self._bare = not any(prompt.messages for prompt in prompts)
        raw = self.tokenizes or not self.templated or self._bare
        self.main = await self._dialect("completions" if raw else "chat")

    def inferred(self) -> dict[str, str]:
        """What the server was found to take, in words; it decides what is drawn, or what is known of it."""
        raw = "as the task has it" if self._bare else "as asked"
        raw = raw if self._bare or not self._chat else "the server has no chat endpoint or template"
        main = self.main
        law = "off" if not self._measure else f"top {main.top}" if main.top else "none"
        return {
            "prompts": "messages, through the server's chat template"
            if self.templated and not self._bare
            else f"raw text: {raw}",
            "route": main.route,
            "responses": "several a request" if main.many else "one a request",
            "seeds": f"{main.seed_bits} bits" if main.seed_bits else "none",
            "sampling": "spelled out" if main.explicit else "top-k, min-p and penalties are the server's own",
            "log-probabilities": "exact statistics" if main.exact else law,
            "token counts": "from /tokenize" if self.tokenizes else "none",
        }

    def cautions(self) -> tuple[str, ...]:
        """What of it changes the meaning of the numbers."""
        found = self.inferred()
        lacking = {
            "raw prompts": self._chat
            and not self._bare
            and not self.templated
            and f"prompts are sent as {found['prompts']}",
            "own sampling": not self.main.explicit and f"the server takes no top-k of ours: {found['sampling']}",
            "no seeds": not self.main.seed_bits and "the server takes no seeds: what is drawn cannot be drawn again",
        }
        return tuple(text for text in lacking.values() if text)

    async def prompt_ids(self, prompt: Prompt) -> list[int]:
        """Token ids of a prompt as the model sees it, a begun response behind it.

        Raises Failed where the server does not tell.
        """
        bare = msgspec.structs.replace(prompt, begun="")
        kept = self._prompts.get(prompt.problem_id)
        if kept is None or kept[0] != bare:
            kept = bare, await self._tokenize(self._content(bare))
            self._prompts[prompt.problem_id] = kept
            if len(self._prompts) > _PROMPTS_KEPT:
                self._prompts.popitem(last=False)
        if not prompt.begun:
            return kept[1]
        return [*kept[1], *await self._tokenize({"prompt": prompt.begun, "add_special_tokens": False})]

    async def respond(self, request: DrawRequest, sampling: SamplingParameters) -> list[Choice]:
        """Ask for n responses to a prompt; what they hold is what follows a begun one. Raises Failed.

        Where a server gives fewer than it was asked for, the rest is asked one at a time, each from a seed of its own.
        """
        prompt, n, seed = request.prompt, request.n, request.seed
        content = self._content(prompt)
        if "messages" in content and self.tokenizes:  # the same tokens on a route that tells more of the answer
            content = {"prompt": await self.prompt_ids(prompt)}
        dialect = await self._dialect("chat" if "messages" in content else "completions")
        if request.stop:
            content |= {"stop": list(request.stop)}
            content |= {"include_stop_str_in_output": True} if dialect.explicit else {}
        if "messages" in content and prompt.begun and dialect.explicit:  # others go on by themselves, or in a new turn
            content |= {"add_generation_prompt": False, "continue_final_message": True}
        choices = await self._ask(dialect, content, sampling, n if dialect.many else 1, seed)
        missing = range(len(choices), n)
        single = msgspec.structs.replace(dialect, many=False)
        asked = (self._ask(single, content, sampling, 1, child_seed(seed, i)) for i in missing)
        for more in await asyncio.gather(*asked, return_exceptions=True):
            if isinstance(more, BaseException):
                raise more
            choices += more[:1]
        return choices[:n]

    def _content(self, prompt: Prompt) -> dict[str, Any]:
        begun = begun_text(prompt)
        if self.templated and prompt.messages:
            more = [{"role": "assistant", "content": begun}] if begun else []
            return {"messages": [*prompt.messages, *more]}
        return {"prompt": prompt.text + begun}

    async def _ask(
        self, dialect: Dialect, content: dict[str, Any], sampling: SamplingParameters, n: int, seed: int
    ) -> list[Choice]:
        body = {"model": self.model, **content, **dialect.body(sampling, n, seed)}
        limit, probing = sampling.max_tokens, sampling in (_HOT, _PLAIN)
        return await self._client.post(
            f"{self._address.base}{_PATHS[dialect.route]}",
            body,
            functools.partial(read_choices, n=n, max_tokens=limit),
            max_tokens=None if probing else limit,
            most=most_bytes(2 * n * limit, dialect.top),
        )

    async def _tokenize(self, content: dict[str, Any]) -> list[int]:
        body = {"model": self.model, **content}
        return await self._client.post(f"{self._address.root}/tokenize", body, read_tokens)

    async def _optional(self, path: str, work: Awaitable[T]) -> T | None:
        """The result of a route of vLLM's own, None where the server has none. Raises Failed where that is not clear."""
        try:
            return await work
        except Failed as failure:
            if failure.says_no_route() or failure.other_meaning or (failure.is_malformed and path == "/version"):
                return None
            failure.args = (f"{failure} (at {path}, which --engine-arg vllm_routes=off leaves alone)",)
            raise

    async def _has_template(self) -> bool:
        """Whether messages can be sent: a base model's server has no template to put them in.

        Raises Failed where the server does not say.
        """
        try:
            if self.tokenizes:
                return bool(await self._tokenize(self._content(_PROBE)))
        except Failed as failure:
            if failure.says_no_template():
                return False
            if not failure.says_unsupported("messages", "prompt"):
                raise
            self.tokenizes = False  # of raw text alone: whether there is a template is for the chat route to say
        try:
            await self._dialect("chat")
        except Failed as failure:
            if failure.says_no_template() or failure.says_no_route("chat", "messages"):
                return False
            failure.args = (f"{failure} (at /chat/completions; --chat-template none sends prompts as raw text)",)
            raise
        return True

    async def _dialect(self, route: Route) -> Dialect:
        async with self._learning:
            if route not in self._dialects:

                async def ask(dialect: Dialect, sampling: SamplingParameters, n: int) -> list[Choice]:
                    chat = {"messages": list(_PROBE.messages)}
                    content = chat if route == "chat" else {"prompt": _PROBE.text}
                    return await self._ask(dialect, content, sampling, n, child_seed(0, n))

                self._dialects[route] = await learn(ask, route, self._measure)
        return self._dialects[route]


# ------------------------------------------------------------------------------------------- learning a dialect
Ask = Callable[[Dialect, SamplingParameters, int], Awaitable[list[Choice]]]

# What may be added to a plain request, in steps of alternatives, and how a refusal names it.
_EXTRAS: tuple[tuple[tuple[dict[str, Any], ...], tuple[str, ...]], ...] = (
    (({"explicit": True},), ("top_k", "min_p", "repetition_penalty")),
    (({"ids": True},), ("return_token_ids", "return_tokens_as_token_ids")),
    (({"top": _TOP}, {"top": 5}), ("logprobs", "top_logprobs")),
    (({"many": True},), ("n", "best_of", "multiple")),
    (({"seed_bits": _SEED_BITS}, {"seed_bits": 31}), ("seed",)),
)
_EVERY_NAME = tuple(name for _, names in _EXTRAS for name in names)


async def _unless(work: Awaitable[T], proof: Callable[[Failed], bool]) -> T | None:
    """The result, or None where the failure is a proof that the server has no such thing. Raises Failed for any other."""
    try:
        return await work
    except Failed as failure:
        if proof(failure):
            return None
        raise


async def _if_taken(work: Awaitable[T], names: Sequence[str]) -> T | None:
    """The result, or None where the server says that it does not take these parameters. Raises Failed for any other."""
    return await _unless(work, lambda failure: failure.says_unsupported(*names))


async def learn(ask: Ask, route: Route, measure: bool) -> Dialect:
    """What a server takes on a route, from requests of a few tokens.

    Raises Failed where it takes none at all, EngineError where its exact statistics are those of another law.
    """
    if measure and route == "completions":
        exact = Dialect(route=route, top=COLUMNS, exact=True)
        choices = await _if_taken(ask(exact, _HOT, _MANY), _EVERY_NAME)
        if choices and _has_columns(choices):
            await _check_law(ask, exact, choices)
            return exact
    dialect, choices = await _richest(ask, Dialect(route=route, top=_TOP if measure else 0))
    if len(choices) > 1 and any(choice.n_tokens is None for choice in choices):
        log.info("the server counts the tokens of a whole request only: each response is asked for by itself")
        dialect = msgspec.structs.replace(dialect, many=False)
    # Four equal answers to a hot request: this server gives all responses of a request one random stream.
    elif len({choice.text for choice in choices}) == 1:
        dialect = msgspec.structs.replace(dialect, many=False)
    if not dialect.top or not await _tells_the_law(ask, dialect, choices):
        return msgspec.structs.replace(dialect, top=0)
    listed = [len(position.listed) for choice in choices for position in positions(choice.logprobs) or ()]
    return msgspec.structs.replace(dialect, top=min([dialect.top, *listed]))  # some give fewer than they are asked for


async def _richest(ask: Ask, wanted: Dialect) -> tuple[Dialect, list[Choice]]:
    """Everything at once, which most servers take; else one thing after another on top of what must be."""
    # A refusal of everything at once proves nothing of any part: that is what the steps are for.
    choices = await _unless(ask(wanted, _HOT, _MANY), lambda failure: failure.is_definite)
    if choices is not None:
        return wanted, choices
    found = msgspec.structs.replace(wanted, explicit=False, ids=False, top=0, many=False, seed_bits=0)
    choices = await _if_taken(ask(found, _HOT, 1), ["max_tokens"])
    if choices is None:
        found = msgspec.structs.replace(found, limit="max_completion_tokens")
        choices = await ask(found, _HOT, 1)
    for alternatives, names in _EXTRAS:
        for change in alternatives:
            if "top" in change and not wanted.top:
                continue
            richer = msgspec.structs.replace(found, **change)
            answer = await _if_taken(ask(richer, _HOT, _MANY if richer.many else 1), names)
            if answer is not None:
                found, choices = richer, answer
                break
    return found, choices


def _has_columns(choices: Sequence[Choice]) -> bool:
    try:
        return sum(len(columns(choice).entropy) for choice in choices) > 0
    except Failed:
        return False


async def _check_law(ask: Ask, dialect: Dialect, hot: Sequence[Choice]) -> None:
    """The first token's entropy must not depend on how it is sampled."""
    found = [columns(choice).entropy for choice in (*hot, *await ask(dialect, _PLAIN, 1))]
    first, second = (float(next((law[0] for law in laws if len(law)), np.nan)) for laws in (found[:-1], found[-1:]))
    if abs(first - second) > _SAME_LAW:
        raise EngineError(
            f"this server measures the law it samples from, not the model's own (entropy {first:.3f} when hot, "
            f"{second:.3f} when not): start it with --logprobs-mode raw_logprobs, or sample with token statistics off"
        )


async def _tells_the_law(ask: Ask, dialect: Dialect, hot: Sequence[Choice]) -> bool:
    """Whether log-probabilities come, and are those of the model's own law: at temperature 1, before top-p."""
    (plain, *_) = await ask(dialect, _PLAIN, 1)
    laws = [_first_law(choice) for choice in (hot[0], plain)]
    if laws[0] is None or laws[1] is None:
        log.warning("the server gives no log-probabilities: token statistics are not measured")
        return False
    length = min(5, *map(len, laws))
    if float(np.median(np.abs(laws[0][:length] - laws[1][:length]))) > _SAME_LAW:
        log.warning("the server's log-probabilities follow the temperature: token statistics are not measured")
        return False
    return True


def _first_law(choice: Choice) -> Any:
    """The listed log-probabilities of a response's first token, largest first; None where there are none."""
    found = positions(choice.logprobs)
    if not found or not found[0].listed:
        return None
    return np.maximum(np.sort(found[0].listed)[::-1], -50.0)
