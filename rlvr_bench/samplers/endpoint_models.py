"""What a server reports about its models and its version. The type of every value is checked."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from rlvr_bench.errors import BadArgument, EngineError, UnknownName, visible
from rlvr_bench.json_format import JSON
from rlvr_bench.samplers.endpoint_client import Address, Client
from rlvr_bench.samplers.endpoint_failures import Failed

__all__ = ["Card", "find_model", "read_tokens", "read_version"]

_LISTED = 20
_NAME = 300  # at most this many characters of a name are shown


class Card(msgspec.Struct, frozen=True, kw_only=True):
    """A model of a server. ``root``: the path or hub id that is served as ``id``; ``context``: in tokens."""

    id: str
    owner: str = ""
    root: str = ""
    context: int | None = None

    @classmethod
    def read(cls, entry: object) -> Card | None:
        """Read an entry of /models; None for an entry without a name."""
        if not isinstance(entry, dict) or not isinstance(entry.get("id"), str) or not entry["id"]:
            return None
        context = entry.get("max_model_len")
        texts = {
            name: visible(entry[name][:_NAME]) for name in ("owned_by", "root") if isinstance(entry.get(name), str)
        }
        return cls(
            id=entry["id"],
            owner=texts.get("owned_by", ""),
            root=texts.get("root", ""),
            context=context if type(context) is int and 0 < context < 2**31 else None,
        )


async def find_model(client: Client, address: Address) -> Card:
    """The entry of /models for the model of ``address``.

    A server that cannot be reached is reported at once. A server with a temporary failure, for example while it loads,
    is asked again. Raises Failed; EngineError where the server cannot be reached or lists no model; BadArgument where
    it serves several models and ``address`` names none; UnknownName where it does not serve the named model.
    """
    failure: Failed | None = None
    listing: dict[str, JSON] = {}
    try:
        listing = await _asked(client, f"{address.base}/models")
    except Failed as error:
        failure = error
    if failure is not None and failure.says_no_route():
        failure = None
    if failure is not None and failure.status is None:
        raise EngineError(f"cannot reach {address.base}: {failure}; is the server running?")
    if failure is not None:
        raise failure
    entries = listing.get("data")
    cards = [card for entry in (entries if isinstance(entries, list) else ()) if (card := Card.read(entry))]
    return _choose(cards, address.model, address.base)


async def _asked(client: Client, url: str) -> dict[str, JSON]:
    try:
        return await client.get(url, retries=0)
    except Failed as failure:
        if failure.unreachable or not failure.transient:
            raise
    return await client.get(url)


def _choose(cards: Sequence[Card], wanted: str | None, base: str) -> Card:
    names = [visible(card.id[:_NAME]) for card in cards]
    if wanted is not None:
        if cards and all(card.id != wanted for card in cards):
            raise UnknownName("model", wanted, names[:_LISTED], f"(at {base})")
        return next((card for card in cards if card.id == wanted), Card(id=wanted))
    if not cards:
        raise EngineError(f"{base} lists no models: the URL usually ends in /v1; or name a model as {base}#MODEL")
    if len(cards) > 1:
        listed = ", ".join(names[:_LISTED]) + ", ..." * (len(names) > _LISTED)
        raise BadArgument("--model", base, f"it serves several models; name one as {base}#MODEL: {listed}")
    return cards[0]


def read_version(reply: dict[str, JSON]) -> str:
    """The server's version; empty where it does not report one."""
    version = reply.get("version")
    return visible(version[:_NAME]) if isinstance(version, str) else ""


def read_tokens(reply: dict[str, JSON]) -> list[int]:
    """Read the token ids from the answer of vLLM's /tokenize.

    Other servers may have an endpoint of this name that does something else. Raises Failed, with ``other_meaning``
    set where this is so.
    """
    tokens, count = reply.get("tokens"), reply.get("count")
    if not isinstance(tokens, list) or not tokens or count is None:
        failure = Failed("does not count tokens")
        failure.other_meaning = True
        raise failure
    if count != len(tokens) or not all(type(token) is int and 0 <= token < 2**31 for token in tokens):
        raise Failed.malformed("answered with token ids that are none")
    return tokens
