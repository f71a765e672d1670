"""Alarms: what they watch, what they are silent on, and what happens when one sounds."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

import rlvr_bench
from rlvr_bench import GradeOptions, SampleOptions
from rlvr_bench.comparison.cards import read_card
from rlvr_bench.errors import BadArgument, RunError
from rlvr_bench.following import FollowOptions, follow, follower
from rlvr_bench.following.actions import act
from rlvr_bench.following.alarms import Fired, Look, read_alarms, sound_alarm
from rlvr_bench.pipeline.batch import Result
from rlvr_bench.scorecard import Scorecard
from tests.following.test_follow import TASK, command, main_ends, tiny, write

__all__ = ["tiny"]

P, N = 60, 16
RATES = np.random.default_rng(0).beta(0.6, 1.0, P)


@pytest.fixture(scope="module")
def base_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    options = SampleOptions(n=N, limit=P, out=tmp_path_factory.mktemp("template"))
    return rlvr_bench.evaluate("fake:0.4", TASK, options, GradeOptions(workers=1))[0]


@pytest.fixture(scope="module")
def template(base_run: Path) -> Scorecard:
    return rlvr_bench.read_scorecard(base_run)


def made(
    template: Scorecard, seed: int, rates: np.ndarray[Any, Any] = RATES, *, truncated: float = 0.1, entropy: float = 0.5
) -> tuple[Path, Scorecard]:
    """A scorecard with rollouts drawn at these rates."""
    rng = np.random.default_rng(seed)
    right, cut = rng.binomial(N, rates), rng.binomial(N, truncated, P)
    mean = entropy * rng.uniform(0.8, 1.2, P)
    problems = [
        msgspec.structs.replace(entry, c=int(c), truncated=int(t), entropy_mean=float(e))
        for entry, c, t, e in zip(template.problems, right, cut, mean, strict=True)
    ]
    return Path(f"step_{seed}/scorecard.json"), msgspec.structs.replace(template, problems=problems)


def looks(template: Scorecard, bad_from: int, steps: int, **bad: Any) -> list[Look]:
    cards = [made(template, 100 + i, **(bad if i >= bad_from else {})) for i in range(steps)]
    return [Look(step=10 * i, file=file, card=card) for i, (file, card) in enumerate(cards)]


WORSE: dict[str, dict[str, Any]] = {
    "pass@1": {"rates": RATES * 0.6},
    "pass@16": {"rates": np.where(np.arange(P) % 3 == 0, 0.0, RATES)},
    "entropy": {"entropy": 0.1},
    "truncation": {"truncated": 0.4},
    "lost": {"rates": np.where(RATES.max() == RATES, 0.0, RATES)},
}


@pytest.mark.parametrize("metric", WORSE)
def test_an_alarm_sounds_soon_after_the_change_and_not_before(template: Scorecard, metric: str) -> None:
    (alarm,), base = read_alarms([metric]), made(template, 1)
    assert sound_alarm(alarm, TASK, base, looks(template, 99, 12)) is None
    fired = sound_alarm(alarm, TASK, base, looks(template, 5, 12, **WORSE[metric]))
    assert fired is not None
    assert 50 <= fired.step <= 80
    assert fired.step >= fired.since >= 40
    assert fired.value is not None
    assert metric == "lost" or (fired.value > (fired.base or 0)) == (metric == "truncation")
    assert TASK in fired.message


def test_a_tolerance_allows_a_drop_and_improvements_are_no_alarm(template: Scorecard) -> None:
    base = made(template, 1)
    drop = looks(template, 0, 12, rates=RATES * 0.8)
    assert sound_alarm(read_alarms(["pass@1"])[0], TASK, base, drop) is not None
    assert sound_alarm(read_alarms(["pass@1=0.15"])[0], TASK, base, drop) is None
    better = looks(template, 0, 12, rates=np.sqrt(RATES), truncated=0.0, entropy=0.9)
    for alarm in read_alarms(["pass@1", "pass@16", "entropy", "truncation", "errors", "lost"]):
        assert sound_alarm(alarm, TASK, base, better) is None


def test_responses_without_a_verdict_are_no_drop_but_may_be_errors(template: Scorecard) -> None:
    base = made(template, 1)
    undecided = []
    for look in looks(template, 99, 10):
        problems = [msgspec.structs.replace(entry, c=0, error=entry.c) for entry in look.card.problems]
        undecided.append(msgspec.structs.replace(look, card=msgspec.structs.replace(look.card, problems=problems)))
    for alarm in read_alarms(["pass@1", "pass@16", "lost"]):
        assert sound_alarm(alarm, TASK, base, undecided) is None
    assert sound_alarm(read_alarms(["errors"])[0], TASK, base, undecided) is not None


def test_what_cannot_be_watched_is_one_line(template: Scorecard) -> None:
    base, some = made(template, 1), looks(template, 99, 2)
    with pytest.raises(RunError, match="needs 64 rollouts of every problem"):
        sound_alarm(read_alarms(["pass@64"])[0], TASK, base, some)
    bare = msgspec.structs.replace(
        base[1], problems=[msgspec.structs.replace(entry, entropy_mean=None) for entry in base[1].problems]
    )
    with pytest.raises(RunError, match="needs token_entropy of at least 10 problems"):
        sound_alarm(read_alarms(["entropy"])[0], TASK, (base[0], bare), some)
    for texts in (["pass@0"], ["pass"], ["pass@1=x"], ["pass@1=-1"], ["lost=1"], ["entropy=nan"], ["lost", "lost"]):
        with pytest.raises(BadArgument, match="--alarm"):
            read_alarms(texts)
    for fields in ({"alarms": read_alarms(["lost"])}, {"against": "runs"}, {"on_alarm": "'"}):
        with pytest.raises(BadArgument):
            FollowOptions(**fields)
    with pytest.raises(BadArgument, match="--last-first"):
        FollowOptions(alarms=read_alarms(["lost"]), against="runs", last_first=True)


@pytest.fixture
def falling(monkeypatch: pytest.MonkeyPatch, template: Scorecard, tmp_path: Path) -> None:
    """Evaluations in place of those of an engine: from step 3 on, much less is solved."""

    def evaluated(model: str, tasks: list[str], *rest: object) -> Iterator[Result]:
        step = int(model.rpartition("_")[2]) if "_" in model else 0
        card = made(template, step, RATES * 0.3 if step >= 3 else RATES)[1]
        yield Result(model=model, task=tasks[0], run=tmp_path / f"run of {step}", scorecard=card)

    monkeypatch.setattr(follower, "_evaluated", evaluated)


def test_an_alarm_sounds_once_also_after_a_restart(tiny: Path, tmp_path: Path, falling: None) -> None:
    for step in range(1, 6):
        write(tiny, tmp_path / f"step_{step}")
    log = tmp_path / "log"
    following = FollowOptions(
        once=True,
        settle_s=0,
        alarms=read_alarms(["pass@1", "entropy"]),
        against="base",
        on_alarm=f"sh -c 'cat >> {log}'",
    )
    heard: list[Fired] = []
    options = SampleOptions(out=tmp_path / "runs")
    for _ in range(2):
        results = follow(str(tmp_path / "step_*"), [TASK], options, following=following, on_fired=heard.append)
        assert [result.step for result in results] == [1, 2, 3, 4, 5]
    (fired,) = heard
    assert fired.alarm == "pass@1"
    assert 3 <= fired.step <= 5
    stored = json.loads((tmp_path / "runs" / "followed" / TASK / "alarms.json").read_text())
    assert [entry["step"] for entry in stored] == [fired.step]
    assert json.loads(log.read_text())["message"] == fired.message


def test_stop_on_alarm_ends_with_status_1_and_the_base_may_be_a_run(
    tiny: Path, tmp_path: Path, falling: None, base_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for step in (3, 4, 5, 6, 7, 8):
        write(tiny, tmp_path / f"step_{step}")
    more = ["--alarm", "pass@1", "--against", str(base_run), "--stop-on-alarm"]
    main_ends([*command(str(tmp_path / "step_*"), tmp_path / "runs"), *more], 1)
    shown = capsys.readouterr()
    assert "ALARM: pass@1 on double_countdown" in shown.err
    assert "step 8" not in shown.out


def test_a_damaged_list_of_alarms_is_a_line(
    tiny: Path, tmp_path: Path, falling: None, caplog: pytest.LogCaptureFixture
) -> None:
    write(tiny, tmp_path / "step_1")
    file = tmp_path / "runs" / "followed" / TASK / "alarms.json"
    file.parent.mkdir(parents=True)
    file.write_text("[{")
    following = FollowOptions(once=True, settle_s=0, alarms=read_alarms(["lost"]), against="base")
    (result,) = follow(str(tmp_path / "step_*"), [TASK], SampleOptions(out=tmp_path / "runs"), following=following)
    assert result.error is None
    (line,) = [text for record in caplog.records if (text := record.getMessage()).startswith("no alarm on")]
    assert "alarms.json cannot be read" in line


def test_a_webhook_gets_the_alarm_and_a_failing_action_is_a_line(caplog: pytest.LogCaptureFixture) -> None:
    bodies: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    fired = Fired(alarm="pass@1", task="t", step=3, since=2, value=0.1, base=0.5, message="a drop")
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        act(f"http://127.0.0.1:{server.server_port}/hook", fired)
        thread.join(30)
        address = f"http://127.0.0.1:{server.server_port}/"
    assert json.loads(bodies[0])["message"] == "a drop"
    assert not caplog.records
    for action in (address, "no-such-command --x", "sh -c 'exit 3'"):
        act(action, fired)
    assert len(caplog.records) == 3


def test_the_alarm_on_pass_at_256_sounds_in_the_shipped_training_run_and_that_on_pass_at_1_does_not() -> None:
    """GRPO of the zoo raises pass@1 and lowers pass@256 (results/README.md)."""
    folder = Path(__file__).parent.parent.parent / "results" / "scorecards"
    looks = [
        Look(step=step, file=file, card=read_card(file)[1])
        for step in (5, 10, 20, 30)
        for file in [folder / f"grpo@{step}.json"]
    ]
    base = read_card(folder / "base.json")
    wide, narrow = read_alarms(["pass@256", "pass@1"])
    fired = sound_alarm(wide, "double_countdown", base, looks)
    assert fired is not None
    assert fired.step == 30
    assert (fired.value or 1) < (fired.base or 0)
    assert sound_alarm(narrow, "double_countdown", base, looks) is None
