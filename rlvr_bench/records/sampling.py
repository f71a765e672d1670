"""How responses are drawn: sampling parameters, tools, caps and stopping rules."""

from __future__ import annotations

from typing import Literal

import msgspec

__all__ = ["NEUTRAL", "Cap", "CutBy", "Restopped", "SamplingParameters", "StoppingRule", "Tools"]


class SamplingParameters(msgspec.Struct, frozen=True, kw_only=True):
    """How tokens are drawn; the defaults of the second half change nothing.

    A logit is first divided (where positive) or multiplied by ``repetition_penalty`` if its token is in the prompt or
    the response so far, and lowered by ``presence_penalty`` if it is in the response so far. Then come the temperature,
    ``min_p`` (tokens less likely than this share of the likeliest one are cut), ``top_k`` (0: no limit) and ``top_p``.
    ``max_tokens`` counts response tokens. A response ends before the first of the strings ``stop``, which is not part
    of its text.
    """

    temperature: float = 0.6
    top_p: float = 0.95
    top_k: int = 0
    max_tokens: int = 2048
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    stop: tuple[str, ...] = ()

    @property
    def is_own_law(self) -> bool:
        """Whether tokens are drawn from the model's unchanged distribution. A stop string does not change it."""
        return msgspec.structs.replace(self, max_tokens=NEUTRAL.max_tokens, stop=NEUTRAL.stop) == NEUTRAL

    def recorded(self) -> dict[str, object]:
        """The parameters as plain data, those that older versions did not have only where they change something."""
        unset = {name for name, neutral in _YOUNGER.items() if getattr(self, name) == neutral}
        return {name: value for name, value in msgspec.to_builtins(self).items() if name not in unset}

    def in_words(self) -> str:
        """The parameters as text, such as ``T=0.6 top-p=0.95 min-p=0.05``; max_tokens is left out."""
        return " ".join((f"T={self.temperature:g}", f"top-p={self.top_p:g}", *self.others_in_words()))

    def others_in_words(self) -> list[str]:
        """The parameters besides temperature, top-p and max_tokens that change something, as ``min-p=0.05``."""
        shown = []
        for name, neutral in ("top_k", 0), *_YOUNGER.items():
            if (value := getattr(self, name)) != neutral:
                text = ",".join(map(repr, value)) if isinstance(value, tuple) else f"{value:g}"
                shown.append(f"{name.replace('_', '-')}={text}")
        return shown


NEUTRAL = SamplingParameters(temperature=1.0, top_p=1.0)


_YOUNGER: dict[str, object] = {"min_p": 0.0, "repetition_penalty": 1.0, "presence_penalty": 0.0, "stop": ()}


class Tools(msgspec.Struct, frozen=True, kw_only=True):
    """Which tool a model may use while it answers, and its limits per response.

    ``calls`` blocks of at most ``seconds`` CPU time, ``output_chars`` characters of output each; ``version`` is that of
    the instruction and of how a transcript is written. ``SamplingParameters.max_tokens`` bounds the whole response.
    """

    language: Literal["python"] = "python"
    version: str = "1"
    calls: int = 8
    seconds: float = 5.0
    output_chars: int = 2000


CutBy = Literal["nothing", "token ids", "tokenizer", "token ids and tokenizer", "transcript"]


class Cap(msgspec.Struct, frozen=True, kw_only=True):
    """A smaller budget that a run's responses were cut to after they were drawn: ``tokens``, or ``calls`` of a tool.

    ``drawn``: the budget that they were drawn with. ``cut`` responses were longer. ``by``: what they were cut by; the
    tokenizer reads the text of ``doubtful`` of them as other tokens than were drawn, as far as can be seen.
    """

    tokens: int | None = None
    calls: int | None = None
    drawn: int
    cut: int = 0
    doubtful: int = 0
    by: CutBy = "nothing"


class StoppingRule(msgspec.Struct, frozen=True, kw_only=True):
    """A problem stops after the draw batch that brings its ``stop_after``-th correct rollout, or at n."""

    stop_after: int
    batch: int


class Restopped(msgspec.Struct, frozen=True, kw_only=True):
    """A stopping rule looked at other verdicts than those in force: what that changes.

    ``stopped_on``: the folder of the verdicts it looked at, empty where they are those in force now but were others before.
    By the verdicts in force it would have drawn on at ``longer`` problems, and stopped ``sooner`` at so many.
    ``used``: the sample that is counted. "all rollouts": the estimator knows both verdicts of each; "up to the stop": what
    the rule drew after its stop is left out; "first rollouts": only those that it always draws, because no verdicts on
    record explain where it stopped.
    """

    stopped_on: str
    longer: int
    sooner: int
    used: Literal["all rollouts", "up to the stop", "first rollouts"]
