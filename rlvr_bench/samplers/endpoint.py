"""An OpenAI-compatible server as a sampler: ``--model http://host:8000/v1#model``.

Token statistics are exact where the server runs with our worker extension (``vllm serve MODEL --worker-extension-cls
rlvr_bench.samplers.vllm_worker.TokenStatistics``). Else they are rigorous bounds from truncated log-probabilities, and
``info.token_stats`` says so. A draw batch is one request, with its size in the server's parameter ``n``.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Any, Literal, TypeVar

import msgspec
import numpy as np

from rlvr_bench.errors import BadArgument, EngineError, visible
from rlvr_bench.records import Draw, DrawRequest, EngineInfo, Prompt, Rollout, SamplingParameters, TokenArrays
from rlvr_bench.samplers.endpoint_client import Address, Client, Settings
from rlvr_bench.samplers.endpoint_dialect import OWN_PARAMETERS, PLAIN
from rlvr_bench.samplers.endpoint_failures import Failed
from rlvr_bench.samplers.endpoint_replies import Choice, columns, mean_bounds, positions
from rlvr_bench.samplers.endpoint_server import Server, begun_text
from rlvr_bench.samplers.protocol import SamplerOptions
from rlvr_bench.samplers.summary import summarise

__all__ = ["EndpointSampler"]

T = TypeVar("T")

log = logging.getLogger(__name__)

_NOT_TAKEN = "this server does not take it"
_ODD_ANSWERS = 256  # malformed answers in a row before the server is given up


class EndpointSampler:
    """Implements ``Sampler`` with any OpenAI-compatible server.

    The engine arguments are those of ``Settings``. A request that still fails after all retries is logged and left out;
    the others continue. An error at the end gives the number of failed requests. The same command draws them again.
    """

    def __init__(self, options: SamplerOptions) -> None:
        """Connect, and find out what the server can do. Raises EngineError, BadArgument or UnknownName."""
        self._options = options
        self._settings = Settings.read(options.engine_args)
        self._address = Address.read(options.model)
        self._client = Client(self._address, self._settings)
        self._server = Server(
            self._client,
            self._address,
            chat=options.chat_template == "auto",
            template_args=options.template_args,
            measure=options.token_stats != "off" and self._settings.logprobs == "auto",
            vllm_routes=self._settings.vllm_routes == "auto",
        )
        self._closed = self._cut_short = False
        self._said: EngineInfo | None = None
        try:
            self._call(self._server.connect)
            self._info = self._described()
        except BaseException:
            self.close()
            raise

    def prepare(self, prompts: Sequence[Prompt]) -> None:
        """Find out how the server accepts these prompts, and log it; ``info`` then describes it.

        Raises EngineError where the server does not accept them.
        """
        self._call(self._server.prepare, prompts)
        self._info = self._described()
        if self._info != self._said:
            log.info("server: %s", "; ".join(f"{name}: {how}" for name, how in self._info.inferred.items()))
        self._said = self._info

    def check_sampling(self, sampling: SamplingParameters) -> None:
        """Send one short request with the parameters that not every server knows, if there are any.

        Raises BadArgument where the server does not accept them, EngineError where it fails.
        """
        asked = {name: value for name, value in sampling.recorded().items() if name not in PLAIN.recorded()}
        for name in asked.keys() & set(OWN_PARAMETERS):
            if not self._server.main.explicit:
                raise BadArgument(f"--{name.replace('_', '-')}", asked[name], _NOT_TAKEN)
        if not asked:
            return
        try:
            self._client.call(self._server.probe, msgspec.structs.replace(sampling, max_tokens=1))
        except Failed as error:
            failure = error
        else:
            return
        if failure.is_definite:
            names = ", ".join(f"--{name.replace('_', '-')}" for name in asked)
            raise BadArgument(names, list(asked.values()), f"{_NOT_TAKEN}: it {failure}")
        raise self._client.explain(failure)

    @property
    def info(self) -> EngineInfo:
        return self._info

    def prompt_tokens(self, prompt: Prompt) -> int:
        """Length of the prompt in tokens, as the server counts it.

        Raises EngineError where the server does not count tokens; ``info.context_tokens`` is then None.
        """
        if not self._server.tokenizes:
            raise EngineError(f"{self._address.base} does not count tokens: it has no /tokenize of vLLM's kind")
        return len(self._call(self._server.prompt_ids, prompt))

    def draw(self, requests: Iterable[DrawRequest | None], sampling: SamplingParameters) -> Iterator[Draw]:
        """Draws in order of completion. Closing the iterator early cancels the open requests.

        Raises EngineError where requests failed, after all others are done. Raises it at once where the server refuses
        access, or where more requests failed in a row than are sent at a time. Raises BadArgument where a request asks
        for several greedy draws.
        """
        if self._closed:
            raise EngineError("this sampler is closed: open another one")
        waiting, at_once = iter(requests), self._settings.concurrency
        failures = _Failures(self._client, at_once)
        under_way: dict[Future[list[Choice]], DrawRequest] = {}
        try:
            while True:
                while len(under_way) < at_once and (request := next(waiting, None)) is not None:
                    under_way[self._begin(request, sampling)] = request
                if not under_way:
                    break
                for future in wait(under_way, return_when=FIRST_COMPLETED).done:
                    draw = self._finish(under_way.pop(future), future, sampling, failures)
                    if draw is not None:
                        yield draw
        finally:
            self._client.cancel(under_way)
        failures.raise_if_any()

    def close(self) -> None:
        """Close every connection; a closed sampler cannot draw."""
        self._closed = True
        self._client.close()

    def _call(self, work: Callable[..., Awaitable[T]], *args: object) -> T:
        """Run a coroutine function of the server, its failures explained to the user."""
        try:
            return self._client.call(work, *args)
        except Failed as error:
            failure = error
        raise self._client.explain(failure)

    def _described(self) -> EngineInfo:
        info = _describe(self._server, self._address)
        if self._options.token_stats == "full" and info.token_stats != "exact":
            raise BadArgument(
                "token_stats", "full", f"needs the worker extension, and {self._address.base} runs without it"
            )
        return info

    def _begin(self, request: DrawRequest, sampling: SamplingParameters) -> Future[list[Choice]]:
        if sampling.temperature == 0 and request.n > 1:
            raise BadArgument("temperature", 0, f"{request.n} greedy draws of one problem are identical; draw n=1")
        return self._client.start(self._server.respond, request, _limited(request, sampling))

    def _finish(
        self, request: DrawRequest, future: Future[list[Choice]], sampling: SamplingParameters, failures: _Failures
    ) -> Draw | None:
        """The draw, or None where it failed."""
        try:
            choices = future.result()
            rollouts = tuple(self._rollout(request, i, choice) for i, choice in enumerate(choices))
        except Failed as error:
            failure = error
        except (TypeError, ValueError, ArithmeticError, LookupError, AttributeError, MemoryError) as error:
            failure = Failed.malformed(f"answered with something that cannot be read ({type(error).__name__})")
        else:
            self._check_length(rollouts, _limited(request, sampling))
            failures.done()
            return Draw(request=request, rollouts=rollouts)
        failures.add(request, failure)
        return None

    def _rollout(self, request: DrawRequest, offset: int, choice: Choice) -> Rollout:
        if choice.n_tokens is None:
            raise Failed("does not say how many tokens a response has")
        rollout = Rollout(
            problem_id=request.prompt.problem_id,
            index=request.start + offset,
            text=begun_text(request.prompt) + choice.text,
            n_tokens=choice.n_tokens,
            finish_reason=choice.finish,
        )
        if self._info.token_stats == "exact":
            return _with_statistics(rollout, choice, self._options.token_stats == "full")
        if self._info.token_stats == "bounds" and choice.logprobs:
            listed = positions(choice.logprobs)
            if listed is None:
                raise Failed.malformed("answered with log-probabilities that cannot be read")
            bounds = mean_bounds(listed, choice.n_tokens, self._server.main.top, self._settings.vocab_size)
            return msgspec.structs.replace(rollout, **bounds._asdict())
        return rollout

    def _check_length(self, rollouts: Iterable[Rollout], sampling: SamplingParameters) -> None:
        """Warn once where the server cuts a response before ``max_tokens``: such responses count as truncated."""
        cut = next((r for r in rollouts if r.finish_reason == "length" and r.n_tokens < sampling.max_tokens), None)
        if cut is not None and not self._cut_short:
            self._cut_short = True
            log.warning(
                "the server cut a response at %d tokens of %d asked: its context or a limit of its own is smaller",
                cut.n_tokens,
                sampling.max_tokens,
            )


class _Failures:
    """The requests that failed after all retries. Each gives a warning; together they give one error at the end."""

    def __init__(self, client: Client, patience: int) -> None:
        self._client, self._patience = client, patience
        self._failed = self._succeeded = self._in_a_row = 0
        self._last = ""

    def done(self) -> None:
        self._succeeded += 1
        self._in_a_row = 0

    def add(self, request: DrawRequest, failure: Failed) -> None:
        """Log one failed request. Raises EngineError where it makes no sense to continue."""
        self._failed += 1
        self._in_a_row += 1
        self._last = str(failure)
        if failure.no_access:
            raise self._client.explain(failure)
        last = request.start + request.n - 1
        log.warning("problem %s, rollouts %d to %d: %s", request.prompt.problem_id, request.start, last, failure)
        # A server that sends malformed answers is still running, so it gets more patience.
        if self._in_a_row > (max(self._patience, _ODD_ANSWERS) if failure.is_malformed else self._patience):
            self.raise_if_any(f"; the last {self._in_a_row} in a row, so that the rest was not tried")

    def raise_if_any(self, more: str = "") -> None:
        """Raises EngineError where any request failed."""
        if self._failed:
            raise EngineError(
                f"{self._failed} of {self._failed + self._succeeded} requests failed{more} (last: {self._last}). "
                "The others are kept; the same command draws these again"
            )


def _limited(request: DrawRequest, sampling: SamplingParameters) -> SamplingParameters:
    return msgspec.structs.replace(sampling, max_tokens=request.limit(sampling))


def _with_statistics(rollout: Rollout, choice: Choice, full: bool) -> Rollout:
    """The rollout with exact statistics. Raises Failed where the worker extension's columns are not in the answer."""
    statistics = columns(choice)
    fields: dict[str, Any] = msgspec.structs.asdict(summarise(*statistics))
    if full:
        fields["tokens"] = TokenArrays(ids=np.array(choice.ids, dtype=np.int32), **statistics._asdict())
    return msgspec.structs.replace(rollout, **fields)


def _describe(server: Server, address: Address) -> EngineInfo:
    """What the server reports about itself and its model, for the manifest.

    Only the name of the weights is known. ``root``, the path or hub id that is served under the name, distinguishes
    checkpoints that were served under one name. ``created`` does not: vLLM sets it to the time of the request.
    """
    name, root = visible(server.model), server.card.root
    stats: Literal["exact", "bounds", "none"] = "bounds" if server.main.top else "none"
    return EngineInfo(
        engine="endpoint",
        version=server.version,
        model=f"{address.base}#{name}",
        weights=f"endpoint:{name}" + (f" ({root})" if root and root != name else ""),
        context_tokens=server.card.context if server.tokenizes else None,
        chat_template="server" if server.templated else None,
        token_stats="exact" if server.main.exact else stats,
        dtype="server",
        device="server",
        inferred=server.inferred(),
        cautions=server.cautions(),
    )
