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
    """

    name: str
    text: str = ""
    user: str = ""
    system: str = ""
    shots: tuple[dict[str, str], ...] = ()
    policy: str = ""
    stop: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of the template's content."""
        content: list[object] = [self.text, self.user, self.system]
        if self.shots or self.policy or self.stop:  # the first templates had none of them
            content += [self.shots, self.policy, self.stop]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def with_system(self, system: str) -> PromptTemplate:
        """The template with another system message, and a name that says so."""
        return msgspec.structs.replace(self, name=f"{self.name}+system", system=system)

    def render(self, problem: Problem) -> Prompt:
        """The prompt of one problem. It does not contain the answer."""
        messages: list[dict[str, str]] = []
        if self.user:
            messages += [{"role": "system", "content": self.system}] if self.system else []
            messages += self.shots
            messages.append({"role": "user", "content": self.user.replace(QUESTION, problem.question)})
        return Prompt(
            problem_id=problem.id, text=self.text.replace(QUESTION, problem.question), messages=tuple(messages)
        )
