"""A prompt template: what a model reads of a problem, as messages for its chat template and as raw text."""

from __future__ import annotations

import hashlib
import json

import msgspec

from rlvr_bench.records import Problem, Prompt

__all__ = ["QUESTION", "PromptTemplate"]

QUESTION = "{question}"


class PromptTemplate(msgspec.Struct, frozen=True, kw_only=True):
    """``text`` is sent unchanged to a model without a chat template; other models get messages.

    The messages are ``system``, then ``shots`` (examples: role and content of each message), then ``user``. Where
    ``user`` is empty, every model gets ``text``. Where ``text`` is empty, the model needs a chat template.
    ``policy``: how to extract answers, where the task's verifier looks for a box that this prompt does not ask for.
    ``stop``: stop strings of a run for which neither the user nor the task names any.
    ``earlier``: the messages that a problem's data holds under this name come before ``user``, and their texts before
    ``text``; a ``system`` of the template takes the place of the problem's.
    """

    name: str
    text: str = ""
    user: str = ""
    system: str = ""
    shots: tuple[dict[str, str], ...] = ()
    policy: str = ""
    stop: tuple[str, ...] = ()
    earlier: str = ""

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of the template's content."""
        content: list[object] = [self.text, self.user, self.system]
        if self.shots or self.policy or self.stop:  # the first templates had none of them
            content += [self.shots, self.policy, self.stop]
        if self.earlier:
            content.append(self.earlier)
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def with_system(self, system: str) -> PromptTemplate:
        """The template with another system message, and a name that says so."""
        return msgspec.structs.replace(self, name=f"{self.name}+system", system=system)

    def render(self, problem: Problem) -> Prompt:
        """The prompt of one problem. It does not contain the answer."""
        earlier = _messages(problem.data.get(self.earlier)) if self.earlier else []
        if self.system:
            earlier = [message for message in earlier if message["role"] != "system"]
        messages: list[dict[str, str]] = []
        if self.user:
            messages += [{"role": "system", "content": self.system}] if self.system else []
            messages += [*self.shots, *earlier]
            messages.append({"role": "user", "content": self.user.replace(QUESTION, problem.question)})
        texts = [message["content"] for message in earlier]
        return Prompt(
            problem_id=problem.id,
            text="\n\n".join([*texts, self.text.replace(QUESTION, problem.question)]),
            messages=tuple(messages),
        )


def _messages(value: object) -> list[dict[str, str]]:
    """The messages in a field of a problem's data, which may come from anybody."""
    messages = [message for message in value if isinstance(message, dict)] if isinstance(value, list) else []
    return [{key: str(message.get(key, "")) for key in ("role", "content")} for message in messages]
