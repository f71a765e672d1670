"""Double countdown: arithmetic puzzles with two targets, the task of the zoo checkpoints.

The problems are generated, so they can be kept out of any training set; they are hard to guess, so pass@256 is informative.
Rules and generator: rlvr_bench/countdown.py.
"""

from rlvr_bench.countdown import HELD_OUT_SEED, held_out, prompt_text, response_text
from rlvr_bench.datasets import Generated
from rlvr_bench.records import Problem, SamplingParameters
from rlvr_bench.task import Case, Task


def problems() -> list[Problem]:
    return [
        Problem(
            id=item.id,
            question=prompt_text(item.puzzle),
            answer=response_text(item.solution),  # one solution of many: the verifier checks the rules, not this text
            tier=item.tier,
            data={"numbers": list(item.puzzle.numbers), "targets": list(item.puzzle.targets)},
        )
        for item in held_out(300)
    ]


TASK = Task(
    name="double_countdown",
    version="1",
    summary="Make two targets from four to six numbers: 300 held-out puzzles in three difficulty tiers.",
    kind="puzzle",
    licence="Apache-2.0",
    source=Generated(
        generate=problems,
        rows=300,
        sha256="122ea8dd1dc8b73211a7b8d3cd5cda10b2d15710cb7688679312e6c1f5a05e33",
        seed=HELD_OUT_SEED,
    ),
    prompt="raw",
    verifier="countdown",
    gold="{answer}",
    sampling=SamplingParameters(temperature=1.0, top_p=1.0, max_tokens=32),
    cases=(
        Case("14+15=29;7*6=42", "correct", "dc-0000"),
        Case("6*7=42;15+14=29", "correct", "dc-0000"),
        Case("14+15=29;7*6=41", "wrong", "dc-0000"),
        Case("14+15=29", "wrong", "dc-0000"),
        Case("15+14=29;7*6=42;29+42=71", "wrong", "dc-0000"),
        Case("14+15=29;7*6=42;", "wrong", "dc-0000"),
        Case("", "no_answer", "dc-0000"),
    ),
)
