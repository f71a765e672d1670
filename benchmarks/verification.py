"""How fast verification is, and against what: python benchmarks/verification.py [--rollouts 512000] [--json].

(a) Large-k rollouts: 500 problems x 1024 rollouts of about 1,000 characters, whose answers repeat as sampled answers do
(Pitman-Yor: the regimes differ in how many distinct answers 1,024 rollouts hold). Golds are real where the data is present.
(b) Real text: the worked solutions of MATH-500 and OlympiadBench, where the data folder is present (RLVR_BENCH_DATA_DIR).
Both against plain math-verify called once per rollout on the full text, as users do; that is measured on a subsample and
extrapolated per rollout. One core: one worker, and the driver waits while it works.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import resource
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rlvr_bench.records import Problem
from rlvr_bench.verifiers import Verification, VerifierPool, open_verifier, verify_many
from rlvr_bench.verifiers.extraction import open_policy

K = 1024
# (discount, concentration, share of right answers, kind of gold); distinct answers per 1,024 in the comment
REGIMES = {
    "easy": (0.10, 0.4, 0.9, "mixed"),  # about 5, 0.5 %
    "medium": (0.40, 0.5, 0.5, "mixed"),  # about 32, 3 %
    "AIME-hard": (0.62, 1.5, 0.05, "integer"),  # about 110, 11 %
    "base model": (0.80, 2.0, 0.05, "mixed"),  # about 290, 28 %
}
FILLER = "We set up the equation $x^2 + 3x = 10$ and factor it, so that $(x+5)(x-2) = 0$; then we check both roots. "


def golds(kind: str, rng: random.Random) -> list[str]:
    folder = Path(os.environ.get("RLVR_BENCH_DATA_DIR", "data"))
    path = folder / ("math500.jsonl" if kind == "mixed" else "aime24.jsonl")
    if kind == "mixed" and path.is_file():
        return [json.loads(line)["answer"] for line in path.read_text(encoding="utf-8").splitlines()]
    made = ["\\frac{%d}{%d}", "%d\\sqrt{%d}", "(%d, %d)", "%d+%d x", "x=%d%d", "%d%d", "%d%d", "%d%d"]
    if kind == "integer":
        return [str(rng.randrange(1000)) for _ in range(500)]
    return [rng.choice(made) % (rng.randint(1, 30), rng.randint(2, 30)) for _ in range(500)]


def wrong_answer(gold: str, rng: random.Random) -> str:
    """Another answer of the same shape: its digits changed, or a term added."""
    changed = "".join(str(rng.randrange(1, 10)) if symbol.isdigit() else symbol for symbol in gold)
    return changed if any(map(str.isdigit, gold)) and rng.random() < 0.8 else f"{gold}+{rng.randint(1, 99)}"


def answers(gold: str, regime: str, rng: random.Random) -> Iterator[str]:
    """1,024 answers whose repetition follows a two-parameter Chinese restaurant."""
    discount, concentration, right, _ = REGIMES[regime]
    tables: list[str] = []
    draws: list[int] = []
    for n in range(K):
        if not draws or rng.random() < (concentration + discount * len(tables)) / (n + concentration):
            tables.append(gold if rng.random() < right and gold not in tables else wrong_answer(gold, rng))
            draws.append(len(tables) - 1)
        else:
            draws.append(rng.choice(draws))
        yield tables[draws[-1]]


def rollouts(regime: str, total: int) -> Iterator[tuple[str, str]]:
    rng = random.Random(0)
    all_golds = golds(REGIMES[regime][3], rng)
    for number in range(total // K):
        gold = all_golds[number % len(all_golds)]
        for index, answer in enumerate(answers(gold, regime, rng)):
            yield f"Attempt {index}. {FILLER * 9}So the answer is $\\boxed{{{answer}}}$.", gold


def plain_rate(pairs: list[tuple[str, str]]) -> float:
    """Rollouts a second of math-verify's own parse and verify, once per rollout, gold parsed each time as its metric does."""
    from math_verify import parse, verify

    logging.disable(logging.CRITICAL)
    for _ in range(2):  # the second pass is warm: the comparison is to its best
        started = time.perf_counter()
        for response, gold in pairs:
            verify(parse(f"\\boxed{{{gold}}}"), parse(response))
        spent = time.perf_counter() - started
    return len(pairs) / spent


def generation_rate(regime: str, total: int) -> float:
    started = time.perf_counter()
    for _ in rollouts(regime, total):
        pass
    return time.perf_counter() - started


def measure_regime(regime: str, total: int, sample: int) -> dict[str, Any]:
    rng = random.Random(1)
    pool = list(rollouts(regime, min(total, 40 * K)))
    plain = plain_rate(rng.sample(pool, sample))
    del pool
    making = generation_rate(regime, total)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    verdicts = verify_many(rollouts(regime, total), workers=1)
    spent = time.perf_counter() - started - making
    distinct = sum(verdict.seconds > 0 for verdict in verdicts)
    return {
        "rollouts": len(verdicts),
        "distinct": distinct / len(verdicts),
        "errors": sum(verdict.status == "error" for verdict in verdicts),
        "rollouts_per_s": len(verdicts) / spent,
        "plain_per_s": plain,
        "plain_subsample": sample,
        "speedup": len(verdicts) / spent / plain,
        "driver_growth_mb": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024,
    }


def measure_real_text() -> dict[str, Any] | None:
    path = Path(os.environ.get("RLVR_BENCH_DATA_DIR", "data")) / "math500.jsonl"
    if not path.is_file():
        return None
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    pairs = [(row["solution"], row["answer"]) for row in rows]
    pairs += [(rows[i - 1]["solution"], row["answer"]) for i, row in enumerate(rows)]
    plain = plain_rate(pairs)
    started = time.perf_counter()
    verdicts = verify_many(pairs)
    spent = time.perf_counter() - started
    right = sum(verdict.status == "correct" for verdict in verdicts)
    return {"pairs": len(pairs), "correct": right, "pairs_per_s_with_start": len(pairs) / spent, "plain_per_s": plain}


def measure_extraction() -> float:
    take = open_policy("boxed")
    text = f"{FILLER * 9}So the answer is $\\boxed{{\\frac{{1}}{{2}}}}$."
    best = min(_timed(lambda: take(text)) for _ in range(5))
    return best * 1e6


def _timed(call: Any, repeats: int = 20_000) -> float:
    started = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - started) / repeats


def measure_isolation() -> float:
    """Milliseconds per distinct item of a verifier that decides nothing, in a worker that is already running."""
    problem = Problem(id="p", question="", answer="x")
    with VerifierPool[int](open_verifier("exact")) as pool:
        list(pool.verify((i, "y", problem) for i in range(100)))
        started = time.perf_counter()
        list(pool.verify((i, "y", problem) for i in range(20_000)))
        return (time.perf_counter() - started) / 20_000 * 1e3


def measure_calls(calls: int = 1000) -> float:
    """Milliseconds of CPU time, all processes together, of a call of one pair whose decision itself takes no time."""

    def spent(numbers: range) -> float:
        with Verification("exact", extract="boxed") as verification:
            for number in numbers:
                verification.verify_one(f"{FILLER}so \\boxed{{{number}}}", "x")
        usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return sum(usage.ru_utime + usage.ru_stime for usage in usages)

    before, started = spent(range(0)), spent(range(1))
    return (spent(range(calls)) - started - (started - before)) / calls * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rollouts", type=int, default=512_000)
    parser.add_argument("--sample", type=int, default=600, help="rollouts that plain math-verify is measured on")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    results: dict[str, Any] = {
        "extraction_us": measure_extraction(),
        "isolation_ms": measure_isolation(),
        "call_cpu_ms": measure_calls(),
    }
    for regime in REGIMES:
        results[regime] = measure_regime(regime, options.rollouts, options.sample)
        if not options.json:
            print(regime, {name: round(value, 4) for name, value in results[regime].items()}, flush=True)
    results["real text"] = measure_real_text()
    print(json.dumps(results, indent=1) if options.json else {k: v for k, v in results.items() if k not in REGIMES})


if __name__ == "__main__":
    main()
