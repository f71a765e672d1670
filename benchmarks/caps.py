"""Runs cut to a cap beside runs drawn at that cap with the same seeds, draw for draw, as a Markdown table.

    python -m benchmarks.caps zoo:base --task double_countdown --caps 8,12,16,20 [-n 32] [--limit 300]
    python -m benchmarks.caps SMOLLM2 --task gsm8k --caps 16,48 --max-tokens 96 -n 2 --limit 8 --data-dir DIR

For each way of sampling: responses that were cut, cut responses whose text differs from the one drawn, verdicts and counts per
problem that differ, and how many responses count as doubtful. The transformers engine draws one batch at a time
(``deterministic``): another batch shape can change a token. SMOLLM2: the folder of SmolLM2-135M-Instruct.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from rlvr_bench import pipeline
from rlvr_bench.capping import score_caps
from rlvr_bench.options import CapOptions, SampleOptions
from rlvr_bench.store import open_run
from rlvr_bench.store.outcomes import read_outcomes

LAWS: dict[str, dict[str, Any]] = {
    "T = 1, by text": {"temperature": 1.0, "top_p": 1.0},
    "T = 1, by ids": {"temperature": 1.0, "top_p": 1.0, "token_stats": "full"},
    "T = 0.6, top-p 0.95, by text": {"temperature": 0.6, "top_p": 0.95},
    "min-p 0.05, penalties 1.1 and 0.3, by ids": {
        "temperature": 1.0,
        "top_p": 1.0,
        "token_stats": "full",
        "min_p": 0.05,
        "repetition_penalty": 1.1,
        "presence_penalty": 0.3,
    },
    "stop string, by text": {"temperature": 1.0, "top_p": 1.0, "stop": ("=1",)},
    "stop string, by ids": {"temperature": 1.0, "top_p": 1.0, "stop": ("=1",), "token_stats": "full"},
}


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--task", required=True)
    parser.add_argument("--caps", required=True)
    parser.add_argument("--max-tokens", type=int, default=32)
    parser.add_argument("-n", type=int, default=32)
    parser.add_argument("--limit", type=int, default=300)
    parser.add_argument("--data-dir", type=Path)
    asked = parser.parse_args(argv)
    _say("| sampling | cap | rollouts | cut | other text | other verdict | problems with other counts | doubtful |")
    _say("|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch:
        for number, (name, law) in enumerate(LAWS.items()):
            _compare(Path(scratch) / str(number), name, law, asked)


def _compare(folder: Path, name: str, law: dict[str, Any], asked: argparse.Namespace) -> None:
    caps = [int(cap) for cap in asked.caps.split(",")]
    whole = _drawn(folder / "whole", law, asked, asked.max_tokens)
    score_caps(whole, CapOptions(token_caps=caps, data_dir=asked.data_dir), [1])
    for cap in caps:
        cut, drawn = (
            open_run(path) for path in (whole / "caps" / f"tokens-{cap}", _drawn(folder / str(cap), law, asked, cap))
        )
        texts = [_texts(run) for run in (cut, drawn)]
        other = sum(texts[0][key] != texts[1][key] for key in texts[1])
        mine, theirs = read_outcomes(cut), read_outcomes(drawn)
        verdicts = int((mine.status != theirs.status).sum())
        counts = int((mine.n_correct != theirs.n_correct).sum())
        made = cut.manifest.cap
        assert made is not None
        assert np.array_equal(mine.n_tokens, theirs.n_tokens) or other
        row = (cap, len(mine.status), made.cut, other, verdicts, counts, made.doubtful)
        _say(f"| {name} | " + " | ".join(f"{value:,}" for value in row) + " |")


def _drawn(folder: Path, law: dict[str, Any], asked: argparse.Namespace, max_tokens: int) -> Path:
    options = SampleOptions(
        n=asked.n,
        limit=asked.limit,
        out=folder,
        engine="transformers",
        max_tokens=max_tokens,
        data_dir=asked.data_dir,
        deterministic=True,
        **law,
    )
    path = pipeline.sample(asked.model, asked.task, options)
    pipeline.grade(path, data_dir=asked.data_dir)
    return path


def _texts(run: Any) -> dict[tuple[str, int], tuple[str, int, str]]:
    columns = ["problem_id", "index", "text", "n_tokens", "finish_reason"]
    rows = (row for table in run.rollouts.read(columns) for row in table.to_pylist())
    return {(row["problem_id"], row["index"]): (row["text"], row["n_tokens"], row["finish_reason"]) for row in rows}


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
