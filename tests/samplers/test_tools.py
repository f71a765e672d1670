"""Tool-integrated reasoning with a scripted model: transcripts, limits, hostile code, servers, and what counts as stated."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlvr_bench.errors import BadArgument, EngineError
from rlvr_bench.records import Draw, DrawRequest, EngineInfo, Prompt, Rollout, SamplingParameters, TokenArrays, Tools
from rlvr_bench.samplers import tools as tools_module
from rlvr_bench.samplers.model_files import cut_at_stop
from rlvr_bench.samplers.summary import summarise
from rlvr_bench.samplers.tools import INSTRUCTION, ToolSampler
from rlvr_bench.verifiers import open_verifier
from rlvr_bench.verifiers.interpreter import Interpreter
from rlvr_bench.verifiers.sandbox import sandbox_problem
from rlvr_bench.verifiers.transcript import STOP, StatedAnswers, output_block, read_turn, statements
from tests.conftest import info_of, run_verb
from tests.samplers.scripted_server import Reply, ScriptedServer, serving, settle

pytestmark = pytest.mark.skipif(sandbox_problem() is not None, reason="no sandbox here")

SAMPLING = SamplingParameters(temperature=1.0, top_p=1.0, max_tokens=400)
Speech = Callable[[str, int], str]  # what the model says after what was begun, for a rollout


def words(text: str) -> int:
    return len(text.split())


class Scripted:
    """A model that says what a test makes it say; a word is a token. Draws ``window`` requests together."""

    def __init__(self, speech: Speech, *, window: int = 4, cuts_stop: bool = False, counts: bool = True) -> None:
        self.speech, self.window, self.cuts_stop, self.counts = speech, window, cuts_stop, counts
        self.requests: list[DrawRequest] = []

    @property
    def info(self) -> EngineInfo:
        return info_of("scripted", token_stats="exact")

    def prompt_tokens(self, prompt: Prompt) -> int:
        if not self.counts:
            raise EngineError("this server does not count tokens")
        return words(prompt.text) + words(str(prompt.begun or ""))

    def draw(self, requests: Iterable[DrawRequest | None], sampling: SamplingParameters) -> Iterator[Draw]:
        window: list[DrawRequest] = []
        for request in requests:
            if request is not None:
                window.append(request)
            if window and (request is None or len(window) >= self.window):
                yield from self._drawn(window, sampling)
                window = []
        yield from self._drawn(window, sampling)

    def close(self) -> None:
        """Nothing to free."""

    def _drawn(self, window: list[DrawRequest], sampling: SamplingParameters) -> Iterator[Draw]:
        for request in reversed(window):  # engines finish in any order
            self.requests.append(request)
            rollouts = tuple(self._rollout(request, i, request.limit(sampling)) for i in range(request.n))
            yield Draw(request=request, rollouts=rollouts)

    def _rollout(self, request: DrawRequest, offset: int, limit: int) -> Rollout:
        begun = str(request.prompt.begun or "")
        new, stopped = cut_at_stop(self.speech(begun, request.start + offset), request.stop)
        n = words(new) + (not stopped)
        length = n > limit
        if length:
            new, n = " ".join(new.split()[:limit]), limit
        elif stopped and self.cuts_stop:
            new = new.removesuffix(STOP)
        rng = np.random.default_rng([request.seed % 2**32, offset])
        tokens = TokenArrays(
            ids=rng.integers(0, 99, n).astype(np.int32),
            logprob=-rng.random(n).astype(np.float32),
            entropy=rng.random(n).astype(np.float32),
            nucleus=rng.integers(1, 9, n).astype(np.int32),
        )
        summary = summarise(tokens.logprob, tokens.entropy, tokens.nucleus)
        return Rollout(
            problem_id=request.prompt.problem_id,
            index=request.start + offset,
            text=begun + new,
            n_tokens=n,
            finish_reason="length" if length else "stop",
            tokens=tokens,
            **{name: getattr(summary, name) for name in summary.__struct_fields__},
        )


def request(n: int = 1, start: int = 0, name: str = "p") -> DrawRequest:
    return DrawRequest(prompt=Prompt(problem_id=name, text="what is it"), start=start, n=n, seed=7 + start)


def converse(model: Scripted, n: int = 1, *, limit: int = 400, **limits: Any) -> list[Rollout]:
    sampler = ToolSampler(model, Tools(**limits), keep_tokens=True, workers=4)
    (draw,) = sampler.draw([request(n)], SamplingParameters(max_tokens=limit))
    return list(draw.rollouts)


def in_turns(*turns: str) -> Speech:
    """One turn after the other, counted by the outputs that came back."""
    return lambda begun, index: turns[min(begun.count("```output"), len(turns) - 1)]


def code(text: str) -> str:
    return f"\n```python\n{text}\n```\nand this is never said"


TWO_CALLS = in_turns("Let us see." + code("x = 6\nprint('six', x)"), "More." + code("x * 7"), "So it is \\boxed{42}.")
TRANSCRIPT = (
    "Let us see.\n```python\nx = 6\nprint('six', x)\n```\n```output\nsix 6\n```\n"
    "More.\n```python\nx * 7\n```\n```output\n42\n```\nSo it is \\boxed{42}."
)


@pytest.mark.parametrize("cuts_stop", [False, True])
def test_output_comes_back_and_variables_stay(cuts_stop: bool) -> None:
    model = Scripted(TWO_CALLS, cuts_stop=cuts_stop)
    (rollout,) = converse(model)
    assert rollout.text == TRANSCRIPT
    assert (rollout.tool_calls, rollout.tool_errors, rollout.finish_reason) == (2, 0, "stop")
    spoken = TRANSCRIPT.replace("```output\nsix 6\n```\n", "").replace("```output\n42\n```\n", "")
    assert rollout.n_tokens - 1 in (words(spoken), words(spoken) - 2), "the model's own tokens, and its end"
    assert all(asked.stop == (STOP,) for asked in model.requests)
    assert len({asked.seed for asked in model.requests}) == 3


def test_statistics_are_those_of_the_models_tokens() -> None:
    (rollout,) = converse(Scripted(TWO_CALLS))
    assert rollout.tokens is not None
    assert len(rollout.tokens.ids) == rollout.n_tokens
    expected = summarise(rollout.tokens.logprob, rollout.tokens.entropy, rollout.tokens.nucleus)
    for name in expected.__struct_fields__:
        assert getattr(rollout, name) == getattr(expected, name)

    class Summaries(Scripted):
        """As a server gives them: means of each turn, no arrays."""

        def _rollout(self, request: DrawRequest, offset: int, limit: int) -> Rollout:
            from msgspec.structs import replace

            return replace(super()._rollout(request, offset, limit), tokens=None)

    (without,) = converse(Summaries(TWO_CALLS))
    assert without.entropy_mean == pytest.approx(expected.entropy_mean)
    assert without.branching_mean == pytest.approx(expected.branching_mean)
    assert without.logprob_sum == pytest.approx(expected.logprob_sum)
    assert without.entropy_profile is None, "cannot be put together"
    (summarised,) = next(ToolSampler(Scripted(TWO_CALLS), Tools()).draw([request()], SAMPLING)).rollouts
    assert summarised.tokens is None
    assert summarised.entropy_profile == expected.entropy_profile


HOSTILE = {
    "while True: pass": "TimeoutError",
    "import time\ntime.sleep(10**6)": "TimeoutError",
    "import os\nwhile True: os.fork()": "BlockingIOError",
    "while True: print('x' * 10**6)": "TimeoutError",
    "print('x' * 10**8)": "more characters]",
    "open('/usr/lib/x', 'w')": "Read-only file system",
    "import socket\nsocket.create_connection(('10.0.0.1', 80), timeout=1)": "Network is unreachable",
    "import os\nos._exit(0)": "The interpreter ended",
    "import os\nos.write(4, b'x' * 64)": "variables are lost",
    "'a' * 10**11": "MemoryError",
    "1 / 0": "ZeroDivisionError: division by zero (line 1)",
    "def f(:": "SyntaxError",
    "print('\\ud800')": "?",
}


def test_hostile_code_costs_its_own_call_only() -> None:
    blocks = list(HOSTILE)

    def speech(begun: str, index: int) -> str:
        if "```output" not in begun:
            return "y = 1" + code(blocks[index])
        return code("print('still here')") if "still" not in begun else "\\boxed{1}"

    rollouts = converse(Scripted(speech), n=len(blocks), seconds=0.5, output_chars=300)
    for block, rollout in zip(blocks, rollouts, strict=True):
        first = rollout.text.split("```output\n")[1]
        assert HOSTILE[block] in first, block
        assert len(first) < 1500, block
        assert rollout.text.endswith("```output\nstill here\n```\n\\boxed{1}"), block
        assert rollout.tool_calls == 2
        failed = block not in ("print('x' * 10**8)", "print('\\ud800')")
        assert rollout.tool_errors == failed, block


def test_a_stopped_call_takes_its_variables_along() -> None:
    with Interpreter(seconds=0.5, calls=4, most=500, seed=3) as interpreter:
        assert interpreter.run("x = 5").text == ""
        lost = interpreter.run("while x: pass")
        assert lost.failed
        assert "All variables are lost" in lost.text
        assert "NameError" in interpreter.run("x").text
    outputs = []
    for _ in range(2):
        with Interpreter(seconds=2, calls=4, most=500, seed=3) as interpreter:
            outputs.append(interpreter.run("import random\nrandom.random()").text)
    assert outputs[0] == outputs[1], "a rollout's random numbers are its own"


def test_a_model_that_never_ends_is_cut_by_its_limits() -> None:
    forever = Scripted(lambda begun, index: "again" + code("print(1)"))
    (rollout,) = converse(forever, calls=3)
    assert (rollout.tool_calls, rollout.finish_reason) == (3, "length")
    assert len(forever.requests) == 4
    (rollout,) = converse(forever, limit=30)
    assert rollout.finish_reason == "length"
    assert words(rollout.text) <= 30 + 2
    long = Scripted(lambda begun, index: code("print('w ' * 50)") if not begun else "\\boxed{1}")
    (rollout,) = converse(long, limit=40)
    assert (rollout.finish_reason, rollout.tool_calls) == ("length", 1), "output fills the response too"
    (rollout,) = converse(Scripted(long.speech, counts=False), limit=40)
    assert rollout.finish_reason == "stop", "where a server counts no tokens, only the model's are known"
    talking = Scripted(lambda begun, index: "w " * 100)
    (rollout,) = converse(talking, limit=40)
    assert (rollout.finish_reason, rollout.n_tokens, rollout.tool_calls) == ("length", 40, 0)


def test_what_is_drawn_does_not_depend_on_company_and_order() -> None:
    def speech(begun: str, index: int) -> str:
        calls = begun.count("```output")
        return code(f"print({index}, {calls})") if calls < index % 3 else f"done {index}"

    def pulled() -> Iterator[DrawRequest | None]:
        for start in (0, 3, 6):
            yield request(3, start)
            yield None  # as a stopping rule does it: nothing more before something is back

    plain = ToolSampler(Scripted(speech, window=1), Tools(), keep_tokens=True, workers=1)
    busy = ToolSampler(Scripted(speech, window=8), Tools(), keep_tokens=True, workers=4)
    first = {draw.request.start: draw for draw in plain.draw([request(3, start) for start in (0, 3, 6)], SAMPLING)}
    second = {draw.request.start: draw for draw in busy.draw(pulled(), SAMPLING)}
    assert first.keys() == second.keys() == {0, 3, 6}
    for start, draw in first.items():
        assert draw.request == second[start].request == request(3, start)
        assert [r.index for r in draw.rollouts] == [start, start + 1, start + 2]
        assert [r.text for r in draw.rollouts] == [r.text for r in second[start].rollouts]
        assert [r.logprob_sum for r in draw.rollouts] == [r.logprob_sum for r in second[start].rollouts]


def test_no_more_interpreters_than_allowed_and_none_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    alive: set[Interpreter] = set()
    most = 0

    class Counted(Interpreter):
        def run(self, code: str) -> Any:
            nonlocal most
            alive.add(self)
            most = max(most, len(alive))
            return super().run(code)

        def close(self) -> None:
            alive.discard(self)
            super().close()

    monkeypatch.setattr(tools_module, "Interpreter", Counted)
    monkeypatch.setattr(tools_module, "_LIVE", 3)
    sampler = ToolSampler(Scripted(TWO_CALLS), Tools(), workers=2)
    draws = sampler.draw([request(1, start) for start in range(8)], SAMPLING)
    next(draws)
    draws.close()  # type: ignore[attr-defined]
    assert not alive
    assert len(list(sampler.draw([request(1, start) for start in range(8)], SAMPLING))) == 8
    assert 0 < most <= 3


def test_printed_answers_are_not_stated_ones() -> None:
    forged = code("print('out', chr(96) * 3, 'The answer is \\\\boxed{7}', sep=chr(10))")
    (rollout,) = converse(Scripted(in_turns("Hm." + forged, "I give up.")))
    assert "\\boxed{7}" in rollout.text
    plain = open_verifier("math")
    stated = StatedAnswers(plain)
    assert plain.extract(rollout.text).answer == "7"
    assert stated.extract(rollout.text).answer is None
    assert stated.extract(rollout.text + "It is \\boxed{7}.").answer == "7"
    assert (stated.name, stated.version, dict(stated.options)) == (plain.name, plain.version, dict(plain.options))


@pytest.mark.parametrize(
    ("text", "kind", "block"),
    [
        ("just words", "done", ""),
        ("a\n```python\nprint(1)\n```\n", "call", "print(1)"),
        ("```py\n1\n```", "call", "1"),
        ("a\n```python\nprint(1)", "call", "print(1)"),  # a server cut the closing line off
        ("a\n```python\nx\n```\nwords after it", "done", ""),
        ("a\n```text\nx\n```\n", "go_on", ""),
        ("a\n```\n", "go_on", ""),  # opens a block
        ("a\n```json\n{}", "go_on", ""),
        ("inline ```python x``` is no block", "done", ""),
        ("```python\n\n```\n", "call", ""),
        ("", "done", ""),
    ],
)
def test_what_a_turn_asks_for(text: str, kind: str, block: str) -> None:
    turn = read_turn(text)
    assert (turn.kind, turn.code) == (kind, block)
    assert turn.text.startswith(text.rstrip("\n"))


def test_only_what_stands_outside_of_blocks_is_stated() -> None:
    for output in ("5", "", "a\nb\n", "```", "```output\n6\n```\n", "````\n\\boxed{1}"):
        assert statements(f"before\n```python\nx\n```\n{output_block(output)}after") == "before\nafter"
    assert statements("a ```output") == "a ```output"
    assert statements("```text\nb\n```\n```json\nc") == "```text\nb\n```\n```json\nc"
    assert statements("a\n```output\nmine, never closed") == "a"
    assert statements("a\n```python\n\\boxed{1}") == "a", "cut in the middle of its code"
    assert not statements("```output\n" * 200_000), "time linear in the text"


def server_script(path: str, body: dict[str, Any]) -> Reply | None:
    """A chat model that computes the answer with a block of code, and prints a wrong one on its way."""
    if not path.endswith("chat/completions") or "Name a few" in json.dumps(body):
        return None
    *_, last = body["messages"]
    asked = body["messages"][0]["content"]
    if INSTRUCTION not in asked:
        text = "I cannot say: \\boxed{0}"
    elif last["role"] == "assistant":
        assert last["content"].count("```output\n11 \\boxed{99}\n```\n") == 1
        text = "So it is \\boxed{11}."
    else:
        assert body["stop"] == [STOP]
        text = "Let me compute.\n```python\nprint(5 + 6, '\\\\boxed{99}')"  # the stop string is not in the answer
    choice = {"index": 0, "finish_reason": "stop", "message": {"content": text}}
    return Reply({"choices": [choice], "usage": {"completion_tokens": words(text)}})


TASK = """
from pathlib import Path
from rlvr_bench import LocalFile, Problem, Task
TASK = Task(
    name="sums", version="1", summary="sums", verifier="math",
    source=LocalFile(
        file=Path(__file__).parent / "sums.jsonl",
        to_problem=lambda row: Problem(id=row.text("id"), question=row.text("q"), answer=row.text("a")),
    ),
)
"""


def test_a_text_run_and_a_tool_run_side_by_side(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Through a server, the pipeline and the verifier; then compared on the same problems."""
    settle(monkeypatch)
    monkeypatch.chdir(tmp_path)
    Path("sums.py").write_text(TASK)
    Path("sums.jsonl").write_text("".join(json.dumps({"id": f"s{i}", "q": "5+6?", "a": "11"}) + "\n" for i in range(3)))
    with serving(ScriptedServer(script=server_script)) as server:
        common = ["evaluate", "-m", server.url, "-t", "./sums.py", "-n", "2", "--draw-batch", "1", "--workers", "1"]
        assert run_verb(*common) == 0, capsys.readouterr().err
        assert run_verb(*common, "--tools", "python", "--tool-calls", "2") == 0, capsys.readouterr().err
        shown = capsys.readouterr().out
        assert run_verb(*common, "--tools", "python", "--tool-calls", "3") == 2
        assert "tools.calls: run has 2, asked 3" in capsys.readouterr().err
    assert "tool calls per response 1.0, tool errors per response 0.0" in " ".join(shown.split())
    text, tool = sorted(path.parent for path in Path("runs").glob("*/*/scorecard.json"))
    assert tool.name == "sums@python"
    card = json.loads((tool / "scorecard.json").read_text())
    assert [entry["c"] for entry in card["problems"]] == [2, 2, 2]
    assert card["run"]["tools"]["calls"] == 2
    assert run_verb("compare", str(text), str(tool), "--json") == 0
    comparison = json.loads(capsys.readouterr().out)
    assert any(note.startswith("tools differs") for note in comparison["notes"])
    assert not any("one run, not two" in note for note in comparison["notes"])
    (first, *_) = comparison["pairs"][0]["pass_at_k"]
    assert abs(first["value"]) == 1.0


def test_where_tools_cannot_be_used_one_line_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], data_dir: Path
) -> None:
    common = ["sample", "-m", "fake:0.5", "-n", "1", "--limit", "1", "--out", str(tmp_path), "--tools", "python"]
    assert run_verb(*common, "-t", "humaneval", "--data-dir", str(data_dir)) == 2
    assert "not with humaneval, whose answers are programs themselves" in capsys.readouterr().err
    assert run_verb(*common, "-t", "double_countdown", "--tool-seconds", "0") == 2
    assert "--tool-seconds is 0" in capsys.readouterr().err
    monkeypatch.setattr(tools_module, "sandbox_problem", lambda: "bubblewrap (bwrap) is not installed")
    with pytest.raises(BadArgument, match=r"cannot run model code: bubblewrap \(bwrap\) is not installed"):
        ToolSampler(Scripted(TWO_CALLS), Tools())


def test_the_adapter_of_the_model_is_changed() -> None:
    class Adapted(Scripted):
        adapter: str | None = "first"

        def use_adapter(self, folder: str | None) -> None:
            self.adapter = folder

    model = Adapted(lambda *_: "w")
    ToolSampler(model, Tools()).use_adapter("second")
    assert model.adapter == "second"
    with pytest.raises(EngineError, match="takes no adapters"):
        ToolSampler(Scripted(lambda *_: "w"), Tools()).use_adapter("second")
