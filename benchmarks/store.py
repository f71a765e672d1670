"""A run of millions of rollouts: what it takes to write, list, resume and score it, in time and memory.

    python -m benchmarks.store --rollouts 1000000

Rollouts carry summary statistics and a text of ``--chars`` characters of which no two are alike; one in ten is correct.
Every step runs in a process of its own, so that its peak memory is its own.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from rlvr_bench.records import Draw, DrawRequest, Problem, Prompt, Rollout, Verdict
from rlvr_bench.scorers.scorecard import make_scorecard
from rlvr_bench.store import Manifest, RunWriter, open_run
from rlvr_bench.store.outcomes import read_outcomes
from rlvr_bench.store.verdicts import VerdictRow, Verdicts, current_grading
from rlvr_bench.text_rules import text_flags
from tests.conftest import manifest_with

BATCH = 16
SHARD = 4096


class Made:
    """A run of ``rollouts`` rollouts of ``problems`` problems, the same one every time."""

    def __init__(self, folder: Path, rollouts: int, problems: int, chars: int) -> None:
        self.folder, self.chars = folder, chars
        self.n = -(-rollouts // problems // BATCH) * BATCH
        self.problems = [Problem(id=f"p{i:05d}", question="What is it?", answer="1") for i in range(problems)]

    @property
    def manifest(self) -> Manifest:
        return manifest_with(n=self.n, n_problems=len(self.problems), token_stats="exact")

    def draws(self) -> Iterator[Draw]:
        rng = random.Random(0)
        body = "".join(rng.choices("abcdefghij klmnopqrstuvwxyz0123456789\\{}", k=4_000_000))
        profile = tuple(rng.random() for _ in range(20))
        for start in range(0, self.n, BATCH):
            for problem in self.problems:
                rollouts = tuple(
                    Rollout(
                        problem_id=problem.id,
                        index=index,
                        text=f"{body[(at := rng.randrange(3_990_000)) : at + self.chars]} {rng.random()}",
                        n_tokens=self.chars // 4,
                        finish_reason="stop",
                        logprob_sum=-rng.random() * self.chars,
                        entropy_mean=rng.random(),
                        branching_mean=1 + rng.random(),
                        entropy_profile=profile,
                        high_entropy_share=rng.random(),
                    )
                    for index in range(start, start + BATCH)
                )
                request = DrawRequest(prompt=Prompt(problem_id=problem.id, text="?"), start=start, n=BATCH, seed=start)
                yield Draw(request=request, rollouts=rollouts)

    def write(self) -> str:
        with RunWriter(self.folder, self.manifest, self.problems) as writer:
            for draw in self.draws():
                writer.add(draw)
        size = sum(file.stat().st_size for file in open_run(self.folder).rollouts.files())
        return f"{size / self.total:,.0f} bytes a rollout"

    @property
    def total(self) -> int:
        return self.n * len(self.problems)

    def list(self) -> str:
        return f"{len(open_run(self.folder).rollouts.files()):,} shards"

    def resume(self) -> str:
        with RunWriter(self.folder, self.manifest, self.problems) as writer:
            left = sum(1 for _ in writer.missing((problem.id for problem in self.problems), self.n, BATCH))
        return f"{left} batches missing"

    def verdicts(self) -> str:
        run = open_run(self.folder)
        verdicts = Verdicts(run, "exact", "1", {})
        flags = text_flags("plain text")
        rng = random.Random(1)
        for table in run.rollouts.read(["problem_id", "index", "text_hash"]):
            rows = zip(*(column.to_pylist() for column in table.columns), strict=True)
            verdicts.append([VerdictRow(*row, _verdict(rng), 1, flags) for row in rows])
        verdicts.publish(0, 0.0)
        size = sum(file.stat().st_size for file in verdicts.shards.files())
        return f"{size / self.total:,.0f} bytes a rollout"

    def score(self) -> str:
        run = open_run(self.folder)
        grading = current_grading(run)
        assert grading is not None
        outcomes = read_outcomes(run)
        card = make_scorecard(run.manifest, grading, outcomes, flags=outcomes.flags)
        return f"pass@1 {next(e.value for e in card.estimates if e.name == 'pass@k'):.3f}"


def _verdict(rng: random.Random) -> Verdict:
    right = rng.random() < 0.1
    return Verdict(status="correct" if right else "wrong", answer="1" if right else str(rng.randrange(1000)))


def measured(step: Callable[[], str], answer: multiprocessing.SimpleQueue[tuple[str, float, float, float]]) -> None:
    cpu, began = time.process_time(), time.monotonic()
    said = step()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    answer.put((said, time.process_time() - cpu, time.monotonic() - began, memory))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rollouts", type=int, default=1_000_000)
    parser.add_argument("--problems", type=int, default=1_000)
    parser.add_argument("--chars", type=int, default=400)
    args = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        made = Made(Path(folder), args.rollouts, args.problems, args.chars)
        print(f"{made.total:,} rollouts of {args.problems:,} problems, {args.chars} characters each")
        for step in (made.write, made.list, made.resume, made.verdicts, made.score):
            answer: multiprocessing.SimpleQueue[tuple[str, float, float, float]] = context.SimpleQueue()
            process = context.Process(target=measured, args=(step, answer))
            process.start()
            said, cpu, wall, memory = answer.get()
            process.join()
            print(
                f"{step.__name__:>9}  {cpu:7.1f} s CPU ({1e6 * cpu / made.total:6.1f} us a rollout), {wall:7.1f} s, "
                f"peak {memory:5.2f} GB: {said}",
                flush=True,
            )


if __name__ == "__main__":
    main()
