"""Evaluate a checkpoint from Python and read the numbers: the same functions that the command line calls."""

import sys
from pathlib import Path

from rlvr_bench import Bars, SampleOptions, evaluate


def main(model: str = "zoo:base", out: str = "runs") -> None:
    options = SampleOptions(n=16, limit=20, engine="auto", out=Path(out))
    run, scorecard = evaluate(model, "double_countdown", options, progress=Bars())
    for estimate in scorecard.estimates:
        if estimate.name == "pass@k":
            print(f"pass@{estimate.k}: {estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]")
    unsolved = [problem["id"] for problem in scorecard.problems if problem["n"] and not problem["c"]]
    print(f"{len(unsolved)} problems unsolved: {', '.join(unsolved)}")
    print(f"everything else: {run}/scorecard.json")


if __name__ == "__main__":
    main(*sys.argv[1:])
