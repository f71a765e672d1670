"""verifiers before 1 (``vf-eval``, prime-rl's evaluations): ``results.jsonl``, a line per rollout.

``prompt`` and ``completion`` are messages or texts, ``reward`` is the verdict and ``example_id`` (``id`` in older files) the
problem. ``metadata.json`` beside it names model and environment, and the reward from which a rollout counts as correct.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from rlvr_bench.importers.entries import Format, Glimpse, Origin, Response, binary, chosen_verdict, number, only_one
from rlvr_bench.importers.lines import MAX_LINE_BYTES, decode, json_lines
from rlvr_bench.importers.messages import plain, sent, without_system
from rlvr_bench.importers.printed import Printed, member, printed, summary
from rlvr_bench.importers.undrawn import Undrawn

__all__ = ["FORMAT"]


class _Usage(msgspec.Struct):
    output_tokens: float | None = None


class _Line(msgspec.Struct):
    prompt: object = None
    completion: object = None
    reward: object = None
    example_id: int | str | None = None
    id: int | str | None = None
    answer: object = ""
    error: object = None
    is_truncated: bool | None = None
    token_usage: _Usage | None = None


class _Metadata(msgspec.Struct):
    env_id: str = ""
    env: str = ""
    model: str = ""


_UNDRAWN = Undrawn()


def _fits(seen: Glimpse) -> bool:
    numbered = "example_id" in seen.names or {"id", "task"} <= seen.names
    return seen.kind == "lines" and numbered and {"prompt", "completion", "reward"} <= seen.names


def _survey(files: Sequence[Path]) -> tuple[Origin, list[Path]]:
    beside = [_metadata(file) for file in files]
    model = only_one(files[0], "results of several models", (known.model for known in beside))
    task = only_one(files[0], "results of several environments", (known.env_id or known.env for known in beside))
    return Origin(model=model, task=task), list(files)


def _metadata(results: Path) -> _Metadata:
    file = results.with_name("metadata.json")
    if not file.is_file() or file.stat().st_size > MAX_LINE_BYTES:
        return _Metadata()
    return decode(str(file), file.read_bytes(), msgspec.json.Decoder(_Metadata))


def _read(file: Path, verdict: str | None, responses_only: bool) -> Iterator[Response]:
    for where, line in json_lines(file, _Line):
        text = _completion(line.completion)
        if line.error is not None and not text:
            _UNDRAWN.count += 1
            continue
        names = ["reward"] if line.reward is not None else []
        name = None if responses_only else chosen_verdict(where, names, verdict if names else None)
        problem = line.id if line.example_id is None else line.example_id
        yield Response(
            where=where,
            problem="" if problem is None else str(problem),
            question=without_system(line.prompt),
            prompt=sent(line.prompt),
            gold="" if line.answer is None or isinstance(line.answer, list | dict) else str(line.answer),
            text=text,
            status=binary(line.reward) if name else None,
            verdict=name or "",
            reward=number(line.reward) if name else None,
            n_tokens=_tokens(line),
            truncated=line.is_truncated,
        )


def _completion(completion: object) -> str:
    """The model's last message; of a text, all."""
    if not isinstance(completion, list):
        return plain(completion)
    return plain([part for part in completion if isinstance(part, dict) and part.get("role") == "assistant"][-1:])


def _tokens(line: _Line) -> int | None:
    count = line.token_usage.output_tokens if line.token_usage else None
    return None if count is None or number(count) is None else int(count)


def _printed(files: Sequence[Path], verdict: str) -> list[Printed]:
    """``pass_at_k`` and ``avg_reward`` of ``metadata.json``."""
    if len(files) != 1:
        return []
    file = files[0].with_name("metadata.json")
    facts = summary(file)
    bound = member(facts, "pass_threshold")
    doubt = f"it counts rewards from {bound}, of problems with every rollout" if isinstance(bound, float) else ""
    values = member(facts, "pass_at_k")
    numbers = printed(
        file, "avg_reward", member(facts, "avg_reward"), 1, doubt="rewards are no verdicts where they are fractions"
    )
    for k, value in values.items() if isinstance(values, dict) else ():
        if k.isascii() and k.isdecimal() and len(k) < 7:
            numbers += printed(file, f"pass@{k}", value, int(k), doubt=doubt)
    return numbers


FORMAT = Format(
    name="verifiers",
    fits=_fits,
    survey=_survey,
    read=_read,
    says_no_answer=False,
    restart=_UNDRAWN.begin,
    remarks=_UNDRAWN.remarks,
    printed=_printed,
)
