"""Frozen records that the stages pass on. Each stage reads the record of the stage before it and writes another.

A prompt carries no answer; a verifier sees neither model nor k; a scorer sees arrays, never text.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt

__all__ = [
    "ERROR_KINDS",
    "LARGEST_INDEX",
    "NEUTRAL",
    "STATUSES",
    "CacheUse",
    "Cap",
    "CutBy",
    "Draw",
    "DrawRequest",
    "EngineInfo",
    "Estimate",
    "Outcomes",
    "Problem",
    "ProfileSums",
    "Prompt",
    "Restopped",
    "Rollout",
    "SamplingParameters",
    "SavedRollout",
    "SavedTurns",
    "Status",
    "StoppingRule",
    "TokenArrays",
    "Tools",
    "Verdict",
]

Status = Literal["correct", "wrong", "no_answer", "error"]
CutBy = Literal["nothing", "token ids", "tokenizer", "token ids and tokenizer", "transcript"]
STATUSES: tuple[Status, ...] = ("correct", "wrong", "no_answer", "error")
# Memory for a problem grows with its largest index.
LARGEST_INDEX = 2**22
ERROR_KINDS = ("timeout", "crash", "limit", "memory", "exception", "gold")


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """One problem of a task: what is asked and what counts as right.

    ``answer`` is the gold answer as text; ``data`` holds what else a verifier needs (unit tests, puzzle numbers);
    ``tier`` is a difficulty label and ``cluster`` groups problems that are not independent (same source, same template).
    """

    id: str
    question: str
    answer: str
    tier: str = ""
    cluster: str = ""
    data: dict[str, Any] = {}


class Prompt(msgspec.Struct, frozen=True, kw_only=True):
    """What a sampler sends: ``messages`` through the model's chat template where it has one, else the plain ``text``.

    ``begun``: the beginning of the response, as text or as tokens of the model, which the model continues.
    """

    problem_id: str
    text: str
    messages: tuple[dict[str, str], ...] = ()
    begun: str | tuple[int, ...] = ()


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


class SavedTurns(msgspec.Struct, frozen=True, kw_only=True):
    """The finished turns of a rollout with tools.

    ``text``: the response so far, with the output of its code. ``turns``: their number; ``n_tokens``: what the model drew in
    them. ``calls`` of code, of which ``errors`` failed. ``blocks``: the code whose variables the interpreter has.
    ``finish_reason``: that of the rollout, None where it is not finished.
    """

    text: str
    turns: Annotated[int, msgspec.Meta(ge=1)]
    n_tokens: Annotated[int, msgspec.Meta(ge=0)]
    calls: Annotated[int, msgspec.Meta(ge=0)] = 0
    errors: Annotated[int, msgspec.Meta(ge=0)] = 0
    blocks: tuple[str, ...] = ()
    finish_reason: Literal["stop", "length"] | None = None


class SavedRollout(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """The T tokens that a rollout has while its draw batch is open.

    ``ids`` (T,); ``columns``: log-probability and entropy in nats and nucleus size in tokens, (T,) each, or None without
    token statistics. ``ended``: by the model's end token (the last of ``ids``), by a stop string or at max_tokens; None
    where it is still growing. With tools, these are of the turn that is open (T may be 0), ``turns`` are those before it,
    and ``turn_tokens`` their tokens, or None without token statistics.
    """

    problem_id: str
    index: int
    ids: npt.NDArray[np.int32]
    columns: tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.int32]] | None = None
    ended: Literal["token", "string", "length"] | None = None
    turns: SavedTurns | None = None
    turn_tokens: TokenArrays | None = None


class DrawRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One draw batch: rollouts ``start`` to ``start + n - 1`` of one problem, drawn from one random stream ``seed``.

    ``max_tokens``: a limit below that of the sampling parameters, or None. ``stop``: a response ends after the first of
    these strings, which is part of its text (a server may cut it off). ``saved``: what an earlier session has of some of
    its rollouts; a ``GrowingSampler`` continues them, another sampler draws them from their beginning.
    """

    prompt: Prompt
    start: int
    n: int
    seed: int
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    saved: tuple[SavedRollout, ...] = ()

    def limit(self, sampling: SamplingParameters) -> int:
        """The largest number of tokens of a response."""
        return sampling.max_tokens if self.max_tokens is None else min(self.max_tokens, sampling.max_tokens)


class TokenArrays(msgspec.Struct, frozen=True, kw_only=True):
    """Per-token arrays of one rollout, each of shape (n_tokens,)."""

    ids: npt.NDArray[np.int32]
    logprob: npt.NDArray[np.float32]
    entropy: npt.NDArray[np.float32]
    nucleus: npt.NDArray[np.int32]


class Rollout(msgspec.Struct, frozen=True, kw_only=True):
    """One sampled response.

    ``index`` counts rollouts of a problem in submission order, from 0. ``text`` includes the prompt's ``begun``; tokens
    and their statistics are those drawn after it. ``n_tokens`` includes the end token.
    ``finish_reason`` is ``stop`` (the model ended, or a stop string) or ``length`` (cut at max_tokens). Token statistics
    are those of the model's own distribution (temperature 1, before penalties, min-p, top-k and top-p), in nats:
    ``logprob_sum`` over the sampled tokens, ``entropy_mean`` and ``branching_mean`` (mean size of the 0.95 nucleus) over
    tokens, ``entropy_profile`` the mean entropy in 20 bins of relative position (None for a bin without tokens) and
    ``high_entropy_share`` the share of tokens above the high-entropy threshold. Where an endpoint gives only truncated
    logprobs, the exact fields are None and ``entropy_low/high`` and ``branching_low/high`` hold rigorous bounds of the
    two means. ``tool_calls`` were made, of which ``tool_errors`` failed. None where not measured.
    """

    problem_id: str
    index: int
    text: str
    n_tokens: int
    finish_reason: Literal["stop", "length"]
    logprob_sum: float | None = None
    entropy_mean: float | None = None
    branching_mean: float | None = None
    entropy_profile: tuple[float | None, ...] | None = None
    high_entropy_share: float | None = None
    entropy_low: float | None = None
    entropy_high: float | None = None
    branching_low: float | None = None
    branching_high: float | None = None
    tokens: TokenArrays | None = None
    tool_calls: int | None = None
    tool_errors: int | None = None


class Draw(msgspec.Struct, frozen=True, kw_only=True):
    """A finished draw batch: its request and its ``request.n`` rollouts, in index order.

    ``shard``: name of the file in which a replica has stored it; the rollouts then have no texts and tokens.
    """

    request: DrawRequest
    rollouts: tuple[Rollout, ...]
    shard: str | None = None


class EngineInfo(msgspec.Struct, frozen=True, kw_only=True):
    """The description of an opened sampler, stored in the manifest.

    ``token_stats`` is ``exact`` (over the full vocabulary), ``bounds`` (from truncated logprobs) or ``none``;
    ``chat_template`` the SHA-256 of the template that was applied, or None where prompts are sent as raw text;
    ``inferred`` the features of a server, found by requests of a few tokens, as text; ``cautions`` what changes the meaning
    of the numbers. ``adapter``: the folder of the LoRA adapter in the model, which ``weights`` covers; None without one.
    """

    engine: str
    version: str
    model: str
    weights: str
    context_tokens: int | None
    chat_template: str | None
    token_stats: Literal["exact", "bounds", "none"]
    dtype: str
    device: str
    inferred: dict[str, str] = {}
    cautions: tuple[str, ...] = ()
    adapter: str | None = None


class CacheUse(msgspec.Struct, frozen=True, kw_only=True):
    """How an engine's KV cache was used.

    ``peak``: the largest share in use; ``preempted``: how often a response had to leave it; ``again``: tokens computed
    again for that.
    """

    peak: float = 0.0
    preempted: int = 0
    again: int = 0


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """A verifier's decision about one response.

    ``answer`` is the extracted answer (None where there is none), ``kind`` the error kind or the reason for a wrong
    answer, ``message`` an error in one line (the exception's type and text), ``seconds`` the duration of the decision
    (0 for a cached one).
    """

    status: Status
    answer: str | None = None
    kind: str | None = None
    seconds: float = 0.0
    message: str | None = None


class ProfileSums(msgspec.Struct, frozen=True):
    """Entropy by relative position, summed over the rollouts of each problem and status.

    ``total`` (P, 4, 20): the sum of the rollouts' mean entropies in each bin, in nats; ``count`` (P, 4, 20): how many
    rollouts have a token there.
    """

    total: npt.NDArray[np.float64]
    count: npt.NDArray[np.int64]


class Outcomes(msgspec.Struct, frozen=True, kw_only=True):
    """A graded run as flat arrays over R rollouts of P problems, sorted by problem, then by index: a scorer's input.

    ``problem`` (R,) indexes ``problem_ids`` (P,); ``status`` (R,) indexes STATUSES. Equal numbers in ``answer`` (R,)
    are equal extracted answers, also across problems (-1: none); in ``text`` (R,), equal responses. ``candidates`` (R,)
    counts the passages that the answer could have come from; ``truncated`` (R,): the response was cut. Token
    statistics (R,) are NaN where they were not measured; ``entropy_low`` to ``branching_high`` (R,) are bounds of the two
    means where a server gave truncated log-probabilities only. ``entropy_profile`` counts the rollouts of ``is_fair``; it
    is None where none was measured. ``tool_calls`` and ``tool_errors`` (R,) are None for a run without tools. ``unknown``
    names columns of which the run's source lacks values; they are filled with 0. ``flags`` has marks of rollouts (R,) by
    name: the text rules. ``golds`` (P,) are the numbers in ``answer`` of the problems' gold answers as written, -1 for one
    that no rollout gave; empty where they are not known. ``stopping`` is the rule the rollouts were drawn under, None for a
    fixed number; ``asked`` the largest n asked for. ``stopped_on`` (R,): correct by the verdicts that the rule looked at,
    None where they are those of ``status``; ``restopped`` says what that changes. ``options`` (P,): how many lettered options a
    problem has, 0 for another kind. ``instructions`` (P,): how many instructions a prompt has; ``followed`` (R, 2): how many of
    them a response follows, strictly and loosely, NaN without a verdict; both only where instructions were checked.
    """

    problem_ids: tuple[str, ...]
    tiers: tuple[str, ...]
    clusters: tuple[str, ...]
    problem: npt.NDArray[np.int32]
    index: npt.NDArray[np.int32]
    status: npt.NDArray[np.int8]
    answer: npt.NDArray[np.int32]
    text: npt.NDArray[np.int32]
    candidates: npt.NDArray[np.int32]
    n_tokens: npt.NDArray[np.int32]
    truncated: npt.NDArray[np.bool_]
    logprob_sum: npt.NDArray[np.float64]
    entropy_mean: npt.NDArray[np.float64]
    branching_mean: npt.NDArray[np.float64]
    high_entropy_share: npt.NDArray[np.float64]
    asked: int
    stopping: StoppingRule | None = None
    stopped_on: npt.NDArray[np.bool_] | None = None
    restopped: Restopped | None = None
    unknown: tuple[str, ...] = ()
    flags: dict[str, npt.NDArray[np.bool_]] = {}
    golds: tuple[int, ...] = ()
    entropy_profile: ProfileSums | None = None
    entropy_low: npt.NDArray[np.float64] | None = None
    entropy_high: npt.NDArray[np.float64] | None = None
    branching_low: npt.NDArray[np.float64] | None = None
    branching_high: npt.NDArray[np.float64] | None = None
    tool_calls: npt.NDArray[np.float64] | None = None
    tool_errors: npt.NDArray[np.float64] | None = None
    options: tuple[int, ...] = ()
    instructions: tuple[int, ...] = ()
    followed: npt.NDArray[np.float64] | None = None

    @property
    def n_samples(self) -> npt.NDArray[np.int64]:
        """Rollouts per problem, shape (P,)."""
        return np.bincount(self.problem, minlength=len(self.problem_ids))

    @property
    def is_correct(self) -> npt.NDArray[np.bool_]:
        """The correct rollouts, (R,)."""
        return self.has_status("correct")

    def has_status(self, status: Status) -> npt.NDArray[np.bool_]:
        """The rollouts with this verdict, (R,)."""
        return np.asarray(self.status == STATUSES.index(status))

    @property
    def n_correct(self) -> npt.NDArray[np.int64]:
        """Correct rollouts per problem, shape (P,)."""
        return np.bincount(self.problem[self.is_correct], minlength=len(self.problem_ids))

    @property
    def is_fair(self) -> npt.NDArray[np.bool_]:
        """The rollouts that no stopping rule chose, (R,): under a rule the first draw batch of each problem, else all."""
        return np.ones(len(self.index), dtype=bool) if self.stopping is None else self.index < self.stopping.batch

    def fair(self) -> Outcomes:
        """The outcomes of the rollouts of ``is_fair``. A rule looks at verdicts, so all its rollouts are a biased sample."""
        if self.stopping is None:
            return self
        asked = min(self.stopping.batch, self.asked)
        return msgspec.structs.replace(self.only(self.is_fair), asked=asked, stopping=None, stopped_on=None)

    def only(self, keep: npt.NDArray[np.bool_]) -> Outcomes:
        """The rollouts that ``keep`` (R,) marks."""
        columns = {
            name: value[keep] for name, value in msgspec.structs.asdict(self).items() if isinstance(value, np.ndarray)
        }
        flags = {name: flag[keep] for name, flag in self.flags.items()}
        return msgspec.structs.replace(self, **columns, flags=flags)


class Estimate(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One number with its interval: ``value`` in [``low``, ``high``] at confidence ``level``, and how it was computed.

    ``caveat``: why the interval may hold more or less often than ``level`` says, where that is known.
    Where rollouts or verdicts are missing, ``at_least`` and ``at_most`` are what the number would be at least and at most,
    whatever they would have been, and [``low``, ``high``] holds the error of both. ``value`` is None where rollouts are
    missing; where only verdicts are, it takes their rollouts as not correct.
    """

    name: str
    value: float | None
    low: float | None = None
    high: float | None = None
    at_least: float | None = None
    at_most: float | None = None
    level: float = 0.95
    method: str = ""
    n_problems: int = 0
    n_samples: int = 0
    k: int | None = None
    group: str | None = None
    note: str | None = None
    caveat: str | None = None
