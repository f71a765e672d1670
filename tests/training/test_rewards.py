"""Rewards in the forms of the training programs: values, errors, threads, processes, and what they cost."""

from __future__ import annotations

import asyncio
import dataclasses
import math
import multiprocessing
import os
import pickle
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlvr_bench import GradeOptions, SampleOptions, evaluate
from rlvr_bench.errors import BadArgument, RlvrBenchError, UnknownName
from rlvr_bench.store import open_run
from rlvr_bench.store.outcomes import read_outcomes
from rlvr_bench.training import rewards
from rlvr_bench.training.rewards import Reward, task_reward
from rlvr_bench.verifiers import FunctionVerifier
from tests.verifiers.test_isolation import misbehave

PUZZLE = {"numbers": [14, 15, 7, 6], "targets": [29, 42]}


@pytest.fixture(scope="module")
def integers() -> Iterator[Reward]:
    with Reward("integer") as reward:
        yield reward


def assistant(content: object, **more: object) -> list[dict[str, object]]:
    return [{"role": "assistant", "content": content, **more}]


@pytest.mark.parametrize("column", ["answer", "solution", "ground_truth"])
def test_trl_calls_it_with_texts_and_columns(column: str) -> None:
    shown: dict[str, float] = {}
    got = rewards.math_reward(
        prompts=["p"] * 4,
        completions=["so \\boxed{\\frac12}", "\\boxed{3}", "no answer", "<think>\\boxed{0.5}"],
        completion_ids=[[1], [2], [3], [4]],
        trainer_state=object(),
        log_metric=shown.__setitem__,
        log_extra=print,
        **{column: ["0.5"] * 4},
    )
    assert got == [1.0, 0.0, 0.0, 0.0]
    assert shown == {"math_reward/error_rate": 0.0}
    assert rewards.math_reward.__name__ == Reward().__name__ == "math_reward"


@pytest.mark.parametrize(
    ("completion", "reward"),
    [
        (assistant("\\boxed{7}"), 1.0),
        (assistant([{"type": "text", "text": "\\boxed{7}"}]), 1.0),
        ([*assistant("\\boxed{7}"), {"role": "tool", "content": "\\boxed{8}"}, *assistant("\\boxed{8}")], 0.0),
        ([*assistant("\\boxed{7}"), {"role": "tool", "content": "\\boxed{8}"}], 1.0),
        (assistant(None, tool_calls=[{}]), 0.0),
        (assistant("\\boxed{7}", reasoning_content="\\boxed{8}"), 1.0),
        ([{"role": "user", "content": "\\boxed{7}"}], 0.0),
        (assistant("\\boxed{7}")[0], 1.0),
        ([], 0.0),
    ],
)
def test_the_last_message_of_the_assistant_is_judged(integers: Reward, completion: object, reward: float) -> None:
    assert integers(completions=[completion], answer=["7"]) == [reward]


@pytest.mark.parametrize(
    "gold", [7, "7", np.int64(7), np.array(["7"], dtype=object), ["7"], 7.0, "#### 7"], ids=lambda gold: repr(gold)
)
def test_gold_answers_come_as_data_sets_hold_them(gold: object) -> None:
    assert rewards.compute_score("x", "\\boxed{7}", gold) == 1.0


def test_a_gold_answer_that_cannot_be_used_is_an_error_of_its_response_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bad = [None, "", [], ["7", "8"], True, math.nan, object(), {1: object()}, [["7"]]]
    with Reward("integer", error_value=-0.5) as reward:
        for gold in bad:
            assert reward(completions=["\\boxed{7}"] * 3, answer=["7", gold, "8"]) == [1.0, -0.5, 0.0]
    assert len(caplog.records) == len(bad)
    for record in caplog.records:
        assert "1 of 3 rewards are errors (1 gold) and count as -0.5. The first: " in record.getMessage()
    assert reward.counts == {"correct": len(bad), "error": len(bad), "wrong": len(bad)}


def test_a_response_that_is_no_text_is_an_error(integers: Reward) -> None:
    verdicts = integers.verdicts([None, 7, b"\\boxed{7}", "\ud800 \\boxed{7}"], ["7"] * 4)
    assert [verdict.status for verdict in verdicts] == ["error", "error", "error", "correct"]


def test_verl_calls_it_for_one_and_for_many() -> None:
    of_one = rewards.compute_score(
        data_source="any", solution_str="\\boxed{18}", ground_truth="18", extra_info={"num_turns": None},
        reward_router_address=None, reward_model_tokenizer=None,
    )  # fmt: skip
    assert of_one == 1.0
    many = rewards.compute_score_batched(
        data_sources=np.array(["openai/gsm8k", "double_countdown", "other", "other"], dtype=object),
        solution_strs=["The answer is 18.", "14+15=29;7*6=42", "The answer is 18.", "\\boxed{18}"],
        ground_truths=["18", PUZZLE, "18", "18"],
        extra_infos=np.array([{}] * 4, dtype=object),
    )
    assert many == [1.0, 1.0, 0.0, 1.0]
    assert rewards.compute_score("other", "The answer is 18.", "18", extract="auto") == 1.0
    assert rewards.compute_score("other", "The answer is 18.", "18", task="gsm8k") == 1.0


def test_openrlhf_slime_and_verifiers_call_it(integers: Reward) -> None:
    @dataclasses.dataclass
    class Sample:
        response: str
        label: str

    tensors = rewards.reward_func(["2+5? \\boxed{7}", "\\boxed{8}"], ["2+5?", "2+5?"], ["7", "7"], extra=None)
    assert tensors["rewards"].tolist() == tensors["scores"].tolist() == [1.0, 0.0]
    samples = [Sample("\\boxed{7}", "7"), Sample("\\boxed{8}", "7")]
    assert asyncio.run(rewards.slime_reward(None, samples)) == [1.0, 0.0]
    assert asyncio.run(integers.slime_reward(None, samples[0])) == 1.0
    assert asyncio.run(rewards.verifiers_reward(assistant("\\boxed{7}"), "7")) == 1.0


@pytest.mark.parametrize("gold", [PUZZLE, '{"numbers": [14, 15, 7, 6], "targets": [29, 42]}'])
def test_a_puzzle_is_judged_by_its_numbers(gold: object) -> None:
    with task_reward("double_countdown") as reward:
        assert reward.__name__ == "double_countdown_reward"
        responses = ["14+15=29;7*6=42", "14+15=29;7*6=41", "14+15=29;7*6=42"]
        got = reward.verdicts(responses, [gold, gold, {"numbers": [1]}])
    assert [verdict.status for verdict in got] == ["correct", "wrong", "error"]
    assert "no targets" in str(got[2].message)


def test_rewards_equal_grade_on_the_same_responses(tmp_path: Path) -> None:
    options = SampleOptions(n=8, limit=12, out=tmp_path)
    run, _ = evaluate("fake:0.5", "double_countdown", options, GradeOptions(workers=1))
    stored = open_run(run)
    golds = {problem.id: problem.data for problem in stored.problems()}
    texts = {
        (row["problem_id"], row["index"]): row["text"]
        for table in stored.rollouts.read(["problem_id", "index", "text"])
        for row in table.to_pylist()
    }
    outcomes = read_outcomes(stored)
    ids = [outcomes.problem_ids[number] for number in outcomes.problem]
    graded = dict(zip(zip(ids, outcomes.index.tolist(), strict=True), outcomes.is_correct.tolist(), strict=True))
    with task_reward("double_countdown") as reward:
        values = reward.rewards(list(texts.values()), [golds[name] for name, _ in texts])
    assert dict(zip(texts, values, strict=True)) == {key: float(right) for key, right in graded.items()}
    assert {0.0, 1.0} == set(values)


def test_arguments_that_no_reward_can_be_made_of_are_one_line() -> None:
    for make, match in (
        (lambda: Reward(task="humaneval"), r"'humaneval': it is judged by tests"),
        (lambda: Reward("exact", task="gsm8k"), "brings its verifier"),
        (lambda: Reward(error_value="0"), "must be a number"),  # type: ignore[arg-type]
        (lambda: Reward().rewards(["a", "b"], ["a"]), "one for each of the 2 responses"),
        (lambda: Reward()(completions=["a"], question=["b"]), r"\['question'\].*answer or ground_truth"),
        (lambda: Reward(column="gold_x")(completions=["a"], answer=["b"]), "gold_x must be there"),
        (lambda: rewards.compute_score("a", "b", "c", colour="red"), "no option colour"),
        (lambda: rewards.compute_score("a", "b", "c", extract=["auto"]), "reward_kwargs"),
        (lambda: Reward().compute_score("a", "b", "c", colour="red"), "'colour'"),
        (lambda: rewards.compute_score_batched(["a"], ["b", "c"], ["d", "e"]), "2 responses"),
    ):
        with pytest.raises(RlvrBenchError, match=match) as caught:
            make()
        assert "\n" not in str(caught.value)
    with pytest.raises(UnknownName, match="gsm9k"):
        Reward(task="gsm9k")
    with pytest.raises(BadArgument):
        Reward(timeout_s=0)


def test_a_thousand_rewards_one_at_a_time_cost_little_more_than_the_decisions(integers: Reward) -> None:
    """CPU seconds of the training process; a busy machine takes longer."""
    integers.rewards(["\\boxed{1}"], ["1"])
    began = time.process_time()
    got = [integers.compute_score("x", f"so \\boxed{{{i}}}", str(i - i % 2)) for i in range(1000)]
    assert time.process_time() - began < 3
    assert got == [float(i % 2 == 0) for i in range(1000)]


def test_eight_threads_get_their_rewards(integers: Reward) -> None:
    got: dict[int, list[float]] = {}

    def work(number: int) -> None:
        got[number] = [integers.compute_score("x", f"\\boxed{{{i}}}", str(i + (i + number) % 2)) for i in range(100)]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == {number: [float((i + number) % 2 == 0) for i in range(100)] for number in range(8)}


def test_a_hang_and_a_crash_cost_their_own_item_only() -> None:
    with Reward(misbehave(), timeout_s=0.2, error_value=-1) as reward:
        assert reward.rewards(["7", "sleep", "7", "segv", "8"], ["7"] * 5) == [1.0, -1.0, 1.0, -1.0, 0.0]


def test_a_worker_killed_while_it_grades_is_at_most_one_error(tmp_path: Path) -> None:
    log = tmp_path / "pids"
    source = f"import os, pathlib, time\nlog = pathlib.Path({str(log)!r})\ndef judge(answer, problem):\n"
    source += "    with log.open('a') as file: file.write(f'{answer} {os.getpid()}\\n')\n"
    source += "    if answer == 'slow': time.sleep(600)\n    return answer == problem.answer\n"
    (tmp_path / "judged.py").write_text(source)
    got: list[float] = []
    with Reward(FunctionVerifier(f"{tmp_path / 'judged.py'}:judge"), error_value=-1) as reward:
        grading = threading.Thread(target=lambda: got.extend(reward.rewards(["a", "slow", "b"], ["a", "slow", "b"])))
        grading.start()
        killed: set[str] = set()
        deadline = time.monotonic() + 120
        while grading.is_alive() and time.monotonic() < deadline:
            lines = log.read_text().splitlines() if log.exists() else []
            for pid in {line.removeprefix("slow ") for line in lines if line.startswith("slow ")} - killed:
                killed.add(pid)
                os.kill(int(pid), signal.SIGKILL)
            time.sleep(0.05)
        grading.join(60)
    assert got == [1.0, -1.0, 1.0]
    assert len(killed) == 2  # it was tried once more


def test_after_close_rewards_are_errors_and_training_goes_on() -> None:
    reward = Reward("integer", error_value=0.25)
    reward.close()
    assert reward.rewards(["\\boxed{7}"], ["7"]) == [0.25]


def _in_child(reward: Reward, connection: Any) -> None:
    connection.send(
        (reward.rewards(["\\boxed{7}", "\\boxed{8}"], ["7", "7"]), rewards.compute_score("x", "\\boxed{7}", "7"))
    )
    connection.close()


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning")
def test_daemonic_processes_have_their_rewards(integers: Reward, method: str) -> None:
    context = multiprocessing.get_context(method)
    ours, theirs = context.Pipe()
    child = context.Process(target=_in_child, args=(integers, theirs), daemon=True)  # type: ignore[attr-defined]
    child.start()
    assert ours.poll(120)
    assert ours.recv() == ([1.0, 0.0], 1.0)
    child.join(10)


def test_a_pickled_reward_keeps_its_settings() -> None:
    reward: Reward = pickle.loads(pickle.dumps(Reward(task="gsm8k", error_value=-1, column="final")))
    with reward:
        assert reward(completions=["The answer is 18.", "18"], final=["18", None]) == [1.0, -1.0]


@pytest.mark.slow
def test_a_ray_actor_has_workers_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray", reason="Ray is not installed")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")

    class Judge:
        """Has one reward that came with it, and uses that of its own process."""

        def __init__(self, reward: Reward) -> None:
            self.reward = reward

        def score(self, response: str, answer: str) -> tuple[float, float, int]:
            shared = rewards.compute_score("math", response, answer)
            return self.reward.rewards([response], [answer])[0], shared, os.getpid()

    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=80 << 20)
    try:
        with Reward("exact", extract="boxed") as reward:
            assert reward.rewards(["\\boxed{x}"], ["x"]) == [1.0]  # it has workers here when it is sent
            judges = [ray.remote(num_cpus=1)(Judge).remote(reward) for _ in range(2)]
            pairs = [("\\boxed{\\frac12}", "0.5"), ("\\boxed{3}", "3")]
            scored = ray.get([judge.score.remote(*pair) for judge in judges for pair in pairs], timeout=120)
    finally:
        ray.shutdown()
    assert [score[:2] for score in scored] == [(0.0, 1.0), (1.0, 1.0)] * 2
    assert len({score[2] for score in scored} - {os.getpid()}) == 2
