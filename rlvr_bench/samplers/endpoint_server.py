"""What a server is and can do, found out with a few short requests before anything is drawn.

Only a definite answer shows that a server lacks something. A temporary failure ends the command.
"""

from __future__ import annotations

import asyncio
import functools
from collections import OrderedDict
from collections.abc import Awaitable, Mapping, Sequence
from typing import TypeVar

import msgspec

from rlvr_bench.errors import EngineError
from rlvr_bench.json_format import JSON
from rlvr_bench.records import DrawRequest, Prompt, SamplingParameters
from rlvr_bench.samplers.endpoint_client import Address, Client
from rlvr_bench.samplers.endpoint_content import most_bytes
from rlvr_bench.samplers.endpoint_dialect import HOT, PLAIN, Dialect, Route, child_seed, learn
from rlvr_bench.samplers.endpoint_failures import Failed
from rlvr_bench.samplers.endpoint_models import Card, find_model, read_tokens, read_version
from rlvr_bench.samplers.endpoint_replies import Choice, read_choices

__all__ = ["Server", "begun_text"]

T = TypeVar("T")

_PATHS: dict[Route, str] = {"completions": "/completions", "chat": "/chat/completions"}
_PROMPTS_KEPT = 4096
_PROBE = Prompt(
    problem_id="probe", text="Name a few numbers:", messages=({"role": "user", "content": "Name a few numbers."},)
)
_PROBE_MESSAGES: dict[str, JSON] = {"messages": list(_PROBE.messages)}


def begun_text(prompt: Prompt) -> str:
    """The text that a response begins with.

    Raises EngineError where it is given as tokens: a server's tokenizer may differ.
    """
    if not prompt.begun:
        return ""
    if not isinstance(prompt.begun, str):
        raise EngineError("a server cannot continue a prefix of tokens: use the checkpoint itself")
    return prompt.begun


class Server:
    """One model at one address. All coroutines run in the client's event loop."""

    def __init__(
        self,
        client: Client,
        address: Address,
        *,
        chat: bool,
        measure: bool,
        vllm_routes: bool,
        template_args: Mapping[str, JSON] | None = None,
    ) -> None:
        """Nothing is sent before ``connect``.

        ``chat``: send messages where the server has a chat template, with ``template_args`` for it. ``measure``: ask
        for log-probabilities.
        ``vllm_routes``: try vLLM's ``/version`` and ``/tokenize``.
        """
        self._client, self._address = client, address
        self._chat, self._measure, self._vllm_routes = chat, measure, vllm_routes
        self._template_args: dict[str, JSON] = dict(template_args or {})
        self._unused_args = False  # whether the arguments change nothing in the prompts of this server
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
        """The name of the model on this server."""
        return self.card.id

    async def connect(self) -> None:
        """Find the model and find out what the server can do.

        Raises Failed where the server does not answer all requests; EngineError, BadArgument, UnknownName.
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
        """Choose the route for these prompts. Raises Failed where the server fails or does not accept them."""
        self._bare = not any(prompt.messages for prompt in prompts)
        raw = self.tokenizes or not self.templated or self._bare
        self.main = await self._dialect("completions" if raw else "chat")
        if self._template_args and self.templated and not self._bare:
            await self._check_template_args()

    async def _check_template_args(self) -> None:
        """Raises EngineError where the server does not take arguments for its chat template."""
        refused = EngineError(f"this server takes no chat_template_kwargs, and so not {', '.join(self._template_args)}")
        if not self.main.explicit:
            raise refused
        try:
            if self.tokenizes:
                with_args = await self._tokenize(self._content(_PROBE))
                self._unused_args = with_args == await self._tokenize(_PROBE_MESSAGES)
            else:
                await self._ask(self.main, self._content(_PROBE), PLAIN, 1, child_seed(0, 1))
        except Failed as failure:
            if failure.says_unsupported("chat_template_kwargs"):
                raise refused from failure
            raise

    def inferred(self) -> dict[str, str]:
        """What was found out about the server, as text by topic. It affects the draws, or what is known about them."""
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
        """Warnings: findings about the server that change the meaning of the numbers."""
        inferred = self.inferred()
        lacking = {
            "raw prompts": self._chat
            and not self._bare
            and not self.templated
            and f"prompts are sent as {inferred['prompts']}",
            "own sampling": not self.main.explicit and f"the server takes no top-k of ours: {inferred['sampling']}",
            "unused arguments": self._unused_args
            and f"{', '.join(self._template_args)} changes nothing in this server's prompts: is the name right?",
            "no seeds": not self.main.seed_bits and "the server takes no seeds: what is drawn cannot be drawn again",
        }
        return tuple(text for text in lacking.values() if text)

    async def prompt_ids(self, prompt: Prompt) -> list[int]:
        """Token ids of a prompt as the model sees it, followed by those of a begun response.

        Raises Failed where the server does not return them.
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

    async def probe(self, sampling: SamplingParameters) -> None:
        """Ask for one response with these parameters. Raises Failed where the server does not give one."""
        content = _PROBE_MESSAGES if self.main.route == "chat" else {"prompt": _PROBE.text}
        await self._ask(self.main, content, sampling, 1, child_seed(0, 1))

    async def respond(self, request: DrawRequest, sampling: SamplingParameters) -> list[Choice]:
        """Ask for n responses to a prompt; a begun response is not repeated in them. Raises Failed.

        Where the server gives fewer than n, the others are requested singly, with a different seed for each of them.
        """
        prompt, n, seed = request.prompt, request.n, request.seed
        content = self._content(prompt)
        if "messages" in content and self.tokenizes:  # the same tokens on a route that reports more
            content = {"prompt": await self.prompt_ids(prompt)}
        dialect = await self._dialect("chat" if "messages" in content else "completions")
        if request.stop:
            content |= {"include_stop_str_in_output": True} if dialect.explicit else {}
        if "messages" in content and prompt.begun and dialect.explicit:  # others go on by themselves, or in a new turn
            content |= {"add_generation_prompt": False, "continue_final_message": True}
        sampling = msgspec.structs.replace(sampling, stop=(*request.stop, *sampling.stop))
        choices = await self._ask(dialect, content, sampling, n if dialect.many else 1, seed)
        missing = range(len(choices), n)
        single = msgspec.structs.replace(dialect, many=False)
        asked = (self._ask(single, content, sampling, 1, child_seed(seed, i)) for i in missing)
        for more in await asyncio.gather(*asked, return_exceptions=True):
            if isinstance(more, BaseException):
                raise more
            choices += more[:1]
        return choices[:n]

    def _content(self, prompt: Prompt) -> dict[str, JSON]:
        begun = begun_text(prompt)
        if self.templated and prompt.messages:
            more = [{"role": "assistant", "content": begun}] if begun else []
            arguments: dict[str, JSON] = {"chat_template_kwargs": self._template_args} if self._template_args else {}
            return {"messages": [*prompt.messages, *more], **arguments}
        return {"prompt": prompt.text + begun}

    async def _ask(
        self, dialect: Dialect, content: Mapping[str, JSON], sampling: SamplingParameters, n: int, seed: int
    ) -> list[Choice]:
        body = {"model": self.model, **content, **dialect.body(sampling, n, seed)}
        limit, probing = sampling.max_tokens, sampling in (HOT, PLAIN)
        return await self._client.post(
            f"{self._address.base}{_PATHS[dialect.route]}",
            body,
            functools.partial(read_choices, n=n, max_tokens=limit),
            max_tokens=None if probing else limit,
            most=most_bytes(2 * n * limit, dialect.top),
        )

    async def _tokenize(self, content: Mapping[str, JSON]) -> list[int]:
        body = {"model": self.model, **content}
        return await self._client.post(f"{self._address.root}/tokenize", body, read_tokens)

    async def _optional(self, path: str, work: Awaitable[T]) -> T | None:
        """The result of a route of vLLM; None where the server lacks the route. Raises Failed where this is unclear."""
        try:
            return await work
        except Failed as failure:
            if failure.says_no_route() or failure.other_meaning or (failure.is_malformed and path == "/version"):
                return None
            failure.args = (f"{failure} (at {path}, which --engine-arg vllm_routes=off leaves alone)",)
            raise

    async def _has_template(self) -> bool:
        """Whether messages can be sent: a server of a base model has no chat template.

        Raises Failed where the answers do not show it.
        """
        try:
            if self.tokenizes:
                return bool(await self._tokenize(_PROBE_MESSAGES))
        except Failed as failure:
            if failure.says_no_template():
                return False
            if not failure.says_unsupported("messages", "prompt"):
                raise
            self.tokenizes = False  # it tokenizes raw text only; the chat route shows whether there is a template
        try:
            await self._dialect("chat")
        except Failed as failure:
            if failure.says_no_template() or failure.says_no_route("chat", "messages"):
                return False
            if failure.is_definite:
                failure.args = (f"{failure} (at /chat/completions; --chat-template none sends prompts as raw text)",)
            raise
        return True

    async def _dialect(self, route: Route) -> Dialect:
        async with self._learning:
            if route not in self._dialects:

                async def ask(dialect: Dialect, sampling: SamplingParameters, n: int) -> list[Choice]:
                    content = _PROBE_MESSAGES if route == "chat" else {"prompt": _PROBE.text}
                    return await self._ask(dialect, content, sampling, n, child_seed(0, n))

                self._dialects[route] = await learn(ask, route, self._measure)
        return self._dialects[route]
