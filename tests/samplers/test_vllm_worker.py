"""Reading the statistics' columns, and refusing what are not they. Without an engine."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from rlvr_bench.errors import BadArgument, EngineError
from rlvr_bench.samplers import vllm_check
from rlvr_bench.samplers.engine_arguments import check_engine_arguments
from rlvr_bench.samplers.vllm_packing import marks, pack_rows
from rlvr_bench.samplers.vllm_versions import VERSIONS, check_version
from rlvr_bench.samplers.vllm_worker import decode

COLUMNS = [(-0.5, 1.25, 3.0), (-2.0, 0.75, 1.0), (-0.01, 0.0, 1.0)]


@dataclass
class Flat:
    """The shape of vLLM's flat log-probabilities."""

    start_indices: list[int] = field(default_factory=list)
    end_indices: list[int] = field(default_factory=list)
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.start_indices)

    def add(self, ids: tuple[int, ...], values: tuple[float, ...]) -> None:
        self.start_indices.append(len(self.token_ids))
        self.token_ids += ids
        self.logprobs += values
        self.end_indices.append(len(self.token_ids))


def marked(token: int) -> tuple[int, int, int]:
    first, second = marks(np.array([token]))
    return token, int(first[0]), int(second[0])


def flat(tokens: list[int], extra: int = 0) -> Flat:
    made = Flat()
    for token, values in zip(tokens, COLUMNS, strict=True):
        made.add(marked(token) + (9,) * extra, values + (-1.0,) * extra)
    return made


def dicts(tokens: list[int]) -> list[dict[int, Any]]:
    return [
        {i: SimpleNamespace(logprob=v) for i, v in zip(marked(token), values, strict=True)}
        for token, values in zip(tokens, COLUMNS, strict=True)
    ]


@pytest.mark.parametrize("tokens", [[5, 0, 1], [7, 2, 3]])
@pytest.mark.parametrize("make", [flat, dicts, lambda tokens: flat(tokens, extra=4)], ids=["flat", "dicts", "wider"])
def test_reads_the_columns(make: Any, tokens: list[int]) -> None:
    statistics = decode(make(tokens), tokens)
    np.testing.assert_allclose(np.stack(statistics, 1), COLUMNS)
    assert [column.dtype for column in statistics] == [np.float32, np.float32, np.int32]


def test_marks_are_distinct_valid_ids() -> None:
    for vocabulary in (4, 5, 1000):
        rows = [marked(token) for token in range(vocabulary)]
        assert all(len(set(row)) == 3 for row in rows)
        assert all(0 <= i < vocabulary for row in rows for i in row)


def test_an_empty_rollout_has_no_statistics() -> None:
    assert [len(column) for column in decode(None, [])] == [0, 0, 0]
    assert [len(column) for column in decode(Flat(), [])] == [0, 0, 0]


def test_ordinary_log_probabilities_are_refused() -> None:
    ordinary = Flat()
    for token in (5, 6, 7):
        ordinary.add((token, 11, 12), (-1.0, -0.5, -1.5))
    with pytest.raises(EngineError, match="hook is not active"):
        decode(ordinary, [5, 6, 7])


def test_ordinary_ones_with_the_marks_by_chance_are_refused_too() -> None:
    chance = Flat()
    chance.add(marked(5), (-1.0, -0.5, -1.5))
    with pytest.raises(EngineError, match="hook is not active"):
        decode(chance, [5])


@pytest.mark.parametrize("tokens", [[5, 0], [5, 0, 2]])
def test_statistics_of_other_tokens_are_refused(tokens: list[int]) -> None:
    with pytest.raises(EngineError, match="hook is not active"):
        decode(flat([5, 0, 1]), tokens)


def test_missing_or_narrow_ones_are_refused() -> None:
    narrow = Flat()
    narrow.add((5, 4), (-1.0, -0.5))
    for logprobs in (None, Flat(), narrow):
        with pytest.raises(EngineError, match="hook is not active"):
            decode(logprobs, [5])


# A fake engine for the start-up test: law 0.6, 0.3, 0.1 over six tokens, entropy 0.898, nucleus 3.
LAW = {0: 0.6, 1: 0.3, 2: 0.1, 3: 1e-12, 4: 1e-12}
RIGHT = (float(np.log(0.3)), 0.898, 3.0)


class FakeEngine:
    """Answers every request with token 1: with the hook's columns while it is switched on, else with the law's top ones.

    ``wrong``: the columns of one request, in its prompt where it has prompt log-probabilities.
    """

    def __init__(self, row: int, wrong: tuple[float, float, float]) -> None:
        self.model_config = SimpleNamespace(get_vocab_size=lambda: 6, max_logprobs=20)
        self.row, self.wrong = row, wrong
        self.on = True

    def collective_rpc(self, _name: str, args: tuple[bool]) -> None:
        (self.on,) = args

    def draw(self, _llm: Any, top: int | None) -> list[Any]:
        assert self.on == (top is None)
        return [self._output(row) for row in range(len(vllm_check._ROWS))]

    def _output(self, row: int) -> Any:
        on_prompt = "prompt_logprobs" in vllm_check._ROWS[row]
        values = self.wrong if row == self.row else RIGHT
        drawn = RIGHT if on_prompt else values
        completion = SimpleNamespace(token_ids=[1], logprobs=self._answer(drawn), routed_experts=None)
        if row in vllm_check._GATHERED:
            table = np.array([drawn], np.float32)
            completion.routed_experts = pack_rows(np.array([marked(1)], np.int32), table)
        prompt = [None, *self._answer(values)] if on_prompt else None
        return SimpleNamespace(outputs=[completion], prompt_token_ids=[5, 1], prompt_logprobs=prompt)

    def _answer(self, columns: tuple[float, float, float]) -> list[dict[int, Any]]:
        law = {token: float(np.log(p)) for token, p in LAW.items()}
        named = dict(zip(marked(1), columns, strict=True)) if self.on else law
        return [{token: SimpleNamespace(logprob=value) for token, value in named.items()}]


@pytest.mark.parametrize("row", [0, 3, 6])
@pytest.mark.parametrize(
    ("columns", "right"),
    [
        (RIGHT, True),
        ((np.log(0.3) - 0.1, 0.898, 3.0), False),  # as if the law had been sharpened before it was measured
        ((np.log(0.3), 0.5, 3.0), False),
        ((np.log(0.3), 0.898, 6.0), False),
        ((np.log(0.3), float("nan"), 3.0), False),
    ],
)
def test_the_start_up_test_tells_right_from_wrong(
    columns: tuple[float, float, float], right: bool, row: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In any of eight requests: a greedy one, one of T = 1, and the prompt of one with prompt log-probabilities."""
    engine = FakeEngine(row, columns)
    monkeypatch.setattr(vllm_check, "_draw", engine.draw)
    monkeypatch.setitem(sys.modules, "vllm", SimpleNamespace(__version__="0.32.0"))
    if right:
        vllm_check.check_hook(engine)
    else:
        with pytest.raises(EngineError, match=r"start-up test .*vLLM 0.32.0: install another version .*0.26 to"):
            vllm_check.check_hook(engine)
    assert engine.on


def test_the_start_up_test_has_greedy_seeded_and_prompt_rows() -> None:
    rows = vllm_check._ROWS
    assert len(rows) == 8
    assert any(row["temperature"] == 0 for row in rows)
    assert any(row["temperature"] == 1 and "top_p" in row for row in rows)
    assert len({row.get("seed") for row in rows}) > 5
    assert {index in vllm_check._GATHERED for index, row in enumerate(rows) if "prompt_logprobs" in row} == {
        True,
        False,
    }


@pytest.mark.parametrize(
    "name", ["worker_extension_cls", "logprobs_mode", "scheduler_cls", "enable_return_routed_experts"]
)
def test_arguments_that_the_statistics_need_are_refused(name: str) -> None:
    with pytest.raises(BadArgument, match=f"engine argument {name} .*not allowed"):
        check_engine_arguments("vllm", {name: True}, "summary")


@pytest.mark.parametrize("version", ["0.26.0", "0.32.0", "0.32.1+cpu", "0.33.0rc1", "0.33.1.dev7+gabc"])
def test_a_version_inside_the_table_is_taken(version: str) -> None:
    check_version(version)


@pytest.mark.parametrize("version", ["0.25.1", "0.34.0", "0.3.2", "0.330.0", "1.0.0", "dev", ""])
def test_another_version_is_refused_with_those_inside(version: str) -> None:
    with pytest.raises(EngineError, match=r"is not supported: .*'vllm>=0.26,<0.34' .*0.26 to 0.33"):
        check_version(version)


def test_the_pin_is_the_table() -> None:
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    assert f'"vllm>={VERSIONS[0]},<0.{int(VERSIONS[-1].split(".")[1]) + 1}"' in text
