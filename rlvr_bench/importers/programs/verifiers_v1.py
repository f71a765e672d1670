"""verifiers 1 and prime-rl: ``traces.jsonl``, a line per episode with the trace of each agent in it.

A trace is a rollout of its task: ``nodes`` are the messages, of which the model made those with ``sampled``, and ``rewards``
the weighted rewards, whose sum is the verdict. Files of before the episodes have a trace per line.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from rlvr_bench.importers.entries import Format, Glimpse, Origin, Response, binary, chosen_verdict, number, only_one
from rlvr_bench.importers.lines import json_lines
from rlvr_bench.importers.messages import plain
from rlvr_bench.importers.undrawn import Undrawn

__all__ = ["FORMAT"]

REWARD = "reward"
_CUT = {"max_turns", "max_input_tokens", "max_output_tokens", "max_total_tokens", "context_length"}


class _Task(msgspec.Struct):
    data: dict[str, Any] = {}
    key: str | None = None
    hash: str | None = None


class _Node(msgspec.Struct):
    message: dict[str, Any] = {}
    sampled: bool = False


class _Usage(msgspec.Struct):
    completion_tokens: int | None = None


class _Call(msgspec.Struct):
    model: str | None = None
    finish_reason: str | None = None
    usage: _Usage | None = None
    error: object = None


class _Agent(msgspec.Struct):
    name: str = "agent"


class _Reward(msgspec.Struct):
    score: object = None
    weight: float = 1.0


class _Trace(msgspec.Struct):
    task: _Task = msgspec.field(default_factory=_Task)
    agent: _Agent = msgspec.field(default_factory=_Agent)
    nodes: list[_Node] = []
    calls: list[_Call] = []
    rewards: dict[str, _Reward | float | None] = {}
    stop_condition: str | None = None
    id: str | None = None


class _Line(_Trace):
    traces: list[_Trace] | None = None


_UNDRAWN = Undrawn()


def _fits(seen: Glimpse) -> bool:
    if seen.kind != "lines":
        return False
    return {"traces", "task", "ok"} <= seen.names or {"nodes", "rewards", "task"} <= seen.names


def _survey(files: Sequence[Path]) -> tuple[Origin, list[Path]]:
    """prime-rl writes every episode to ``all``, and those it trained on once more to ``effective``: keep the first."""
    kept = [file for file in files if not _is_repeated(file, files)]
    model = only_one(files[0], "traces of several models", map(_model, kept))
    notes = tuple(f"{file}: the same episodes are in all/: left out" for file in files if file not in kept)
    return Origin(model=model, notes=notes), kept


def _is_repeated(file: Path, files: Sequence[Path]) -> bool:
    return file.parent.name == "effective" and file.parent.parent / "all" / file.name in files


def _model(file: Path) -> str:
    calls = (call.model for _, line in json_lines(file, _Line) for trace in _traces(line) for call in trace.calls)
    return next((name for name in calls if name), "")


def _traces(line: _Line) -> Sequence[_Trace]:
    """The traces of a line; of an episode with several agents, those that were rewarded: a judge's is no rollout."""
    if line.traces is None:
        return [line]
    several = len({trace.agent.name for trace in line.traces}) > 1
    return [trace for trace in line.traces if trace.rewards] if several else line.traces


def _read(file: Path, verdict: str | None, responses_only: bool) -> Iterator[Response]:
    for where, line in json_lines(file, _Line):
        for trace in _traces(line):
            if any(node.sampled for node in trace.nodes):
                yield _response(where, line, trace, verdict, responses_only)
            else:
                _UNDRAWN.count += 1
        if not _traces(line):
            _UNDRAWN.count += 1


def _response(where: str, line: _Line, trace: _Trace, verdict: str | None, responses_only: bool) -> Response:
    task = trace.task if trace.task.data or trace.task.key else line.task
    values = _values(trace)
    asked = verdict or (REWARD if values else None)
    name = None if responses_only else chosen_verdict(where, list(values), asked)
    tokens = [call.usage.completion_tokens for call in trace.calls if call.usage and call.error is None]
    return Response(
        where=where,
        problem=task.key or task.hash or "",
        question=plain(task.data.get("prompt")) or _asked(trace),
        gold=_gold(task.data),
        text=plain([node.message for node in trace.nodes if node.sampled][-1]),
        status=binary(values[name]) if name else None,
        verdict=name or "",
        reward=values[name] if name else None,
        n_tokens=None if not tokens or None in tokens else sum(filter(None, tokens)),
        truncated=_truncated(trace),
        key=trace.id,
    )


def _values(trace: _Trace) -> dict[str, float | None]:
    """Each reward by name, and their weighted sum; nothing where scoring did not run."""
    scored = {
        name: reward if isinstance(reward, _Reward) else _Reward(score=reward)
        for name, reward in trace.rewards.items()
        if reward is not None
    }
    if not scored:
        return {}
    values = {name: number(reward.score) for name, reward in scored.items()}
    weighted = [None if values[name] is None else (values[name] or 0.0) * scored[name].weight for name in scored]
    return {**values, REWARD: None if None in weighted else sum(filter(None, weighted))}


def _asked(trace: _Trace) -> str:
    return plain([node.message for node in trace.nodes if not node.sampled and node.message.get("role") == "user"][:1])


def _gold(data: dict[str, Any]) -> str:
    value = next((data[name] for name in ("answer", "gold", "target") if data.get(name) is not None), "")
    return "" if isinstance(value, list | dict) else str(value)


def _truncated(trace: _Trace) -> bool | None:
    if trace.stop_condition in _CUT:
        return True
    last = next((call for call in reversed(trace.calls) if call.error is None), None)
    return None if last is None or last.finish_reason is None else last.finish_reason == "length"


FORMAT = Format(
    name="verifiers-traces",
    fits=_fits,
    survey=_survey,
    read=_read,
    says_no_answer=False,
    restart=_UNDRAWN.begin,
    remarks=_UNDRAWN.remarks,
)
