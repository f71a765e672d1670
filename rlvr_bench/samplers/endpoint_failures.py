"""A request that did not succeed, and when its failure proves that a server lacks something.

A temporary failure proves nothing: an outage while the server is probed must not change what is measured. A refusal for
another reason proves nothing either: the prompt is too long, a policy forbids it, the model does not exist.
"""

from __future__ import annotations

import re

__all__ = ["Failed"]

_TRANSIENT = frozenset({408, 409, 425, 429})
_DEFINITE = frozenset({400, 404, 405, 422})
_ABSENT = frozenset({404, 405})
_OTHER_REASON = re.compile(
    r"model_not_found|deploymentnotfound|\b(model|deployment|engine)\b.*\b(not exist|not found|not available|not loaded)"
    r"|\b(no such|unknown|invalid) (model|deployment|engine)"
    r"|context[ _]length|maximum context|too long|too many|content[ _](management |filter)|content.{0,20}polic|quota"
)
_UNSUPPORTED = re.compile(
    r"unsupported|not[ _]supported|(does|do) not support|doesn.t support|unrecogni[sz]ed|not recogni[sz]ed|not implemented"
    r"|unknown[ _](request )?(parameter|argument|field|option|propert|name)"
    r"|unexpected (keyword|parameter|argument|field|propert)"
    r"|extra[ _](inputs?|fields?|forbidden)|additional propert"
)
_NO_TEMPLATE = re.compile(
    r"\b(no|not have|without|provide|define|set|missing|needs?|lacks?)\b.{0,40}template"
    r"|template.{0,40}(\bnot (found|set|defined|available|provided)|missing|none|no longer|required|undefined)"
)


class Failed(Exception):
    """A request that did not succeed. The text of the exception is one line without key and prompt.

    ``transient``: a retry may succeed. ``status``: the HTTP status, where it is known. ``wait_s``: seconds that the
    server asks to wait before a retry. ``said``: the server's message and its error codes, in lower case.
    ``unreachable``: there was no connection. ``is_malformed``: the answer could not be understood. ``other_meaning``:
    the route exists and does something else than vLLM's route of this name.
    """

    def __init__(
        self, reason: str, *, transient: bool = False, status: int | None = None, wait_s: float = 0.0, said: str = ""
    ) -> None:
        super().__init__(reason)
        self.transient, self.status, self.wait_s, self.said = transient, status, wait_s, said
        self.unreachable = self.is_malformed = self.other_meaning = False

    @classmethod
    def malformed(cls, reason: str) -> Failed:
        """The failure of a reply that cannot be understood: a retry may bring a valid one."""
        failure = cls(reason, transient=True, status=200)
        failure.is_malformed = True
        return failure

    @staticmethod
    def may_pass(status: int) -> bool:
        """Whether a request that was answered with this HTTP status may succeed when it is sent again."""
        return status in _TRANSIENT or status >= 500

    @property
    def no_access(self) -> bool:
        return self.status in (401, 403)

    @property
    def is_definite(self) -> bool:
        """Whether the server refuses this request itself, so that a retry would be refused too."""
        return not self.transient and self.status in _DEFINITE and not _OTHER_REASON.search(self.said)

    def says_unsupported(self, *names: str) -> bool:
        """Whether the server refuses the request and names one of these parameters, or calls something unsupported."""
        return self.is_definite and (self._names(names) or bool(_UNSUPPORTED.search(self.said)))

    def says_no_route(self, *names: str) -> bool:
        """Whether the server has no such route, or says that it does not support one of ``names``."""
        refused = self._names(names) and _UNSUPPORTED.search(self.said)
        return self.is_definite and (self.status in _ABSENT or bool(refused))

    def says_no_template(self) -> bool:
        """Whether the server says that its model has no chat template."""
        return self.is_definite and bool(_NO_TEMPLATE.search(self.said))

    def _names(self, names: tuple[str, ...]) -> bool:
        return any(re.search(rf"(?<![a-z]){re.escape(name)}(?![a-z])", self.said) for name in names)
