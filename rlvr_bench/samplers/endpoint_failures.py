"""A request that did not succeed, and when its failure proves that a server lacks something.

Trouble that may pass proves nothing: an outage while a server is asked what it can do must not change what is measured.
Nor does a refusal for another reason: the prompt too long, a policy, a model that is not there.
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
    """A request that did not succeed; its text is one line without key and prompt.

    ``said``: what the server's refusal says, in lower case, with the names of what it complains about. ``unreachable``:
    there was no connection. ``is_malformed``: the answer made no sense; ``other_meaning``: it was to another question.
    """

    def __init__(
        self, reason: str, *, transient: bool = False, status: int | None = None, wait_s: float = 0.0, said: str = ""
    ) -> None:
        super().__init__(reason)
        self.transient, self.status, self.wait_s, self.said = transient, status, wait_s, said
        self.unreachable = self.is_malformed = self.other_meaning = False

    @classmethod
    def malformed(cls, reason: str) -> Failed:
        """A reply that makes no sense: sending the request again may bring a better one."""
        failure = cls(reason, transient=True, status=200)
        failure.is_malformed = True
        return failure

    @staticmethod
    def may_pass(status: int) -> bool:
        """Whether a request that was answered so may succeed when it is sent again."""
        return status in _TRANSIENT or status >= 500

    @property
    def no_access(self) -> bool:
        return self.status in (401, 403)

    @property
    def is_definite(self) -> bool:
        """Whether the request itself was refused, and would be again."""
        return not self.transient and self.status in _DEFINITE and not _OTHER_REASON.search(self.said)

    def says_unsupported(self, *names: str) -> bool:
        """Whether the server refuses what these parameters ask for, and says so: by name, or as unsupported."""
        return self.is_definite and (self._names(names) or bool(_UNSUPPORTED.search(self.said)))

    def says_no_route(self, *names: str) -> bool:
        """Whether the server has no such route, or says that it does not support what is named."""
        refused = self._names(names) and _UNSUPPORTED.search(self.said)
        return self.is_definite and (self.status in _ABSENT or bool(refused))

    def says_no_template(self) -> bool:
        """Whether the server says that its model has no chat template."""
        return self.is_definite and bool(_NO_TEMPLATE.search(self.said))

    def _names(self, names: tuple[str, ...]) -> bool:
        return any(re.search(rf"(?<![a-z]){re.escape(name)}(?![a-z])", self.said) for name in names)
