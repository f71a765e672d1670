"""Rejection-sampling fine-tuning sets from one run: the correct rollouts, and the same with 5 % wrong ones mixed in."""

import sys
from pathlib import Path

from rlvr_bench import SampleOptions, evaluate, select


def main(model: str = "zoo:base", out: str = "runs") -> None:
    run, _ = evaluate(model, "double_countdown", SampleOptions(n=16, limit=50, out=Path(out)))
    for strategy in ("correct", "noise"):
        made = select(run, strategy, out=Path(out) / f"{strategy}.jsonl", per_problem=2)
        print(f"{made.file}: {made.rollouts} rollouts of {made.problems} problems, {made.wrong} wrong")


if __name__ == "__main__":
    main(*sys.argv[1:])
