"""OlymMATH: olympiad problems in English and Chinese, easy and hard (arXiv 2503.21380).

``olymmath`` is the hard English part; ``olymmath:en-easy``, ``olymmath:zh-easy`` and ``olymmath:zh-hard`` are the others. A
mirror of one is the file ``olymmath_zh-hard.jsonl`` of the data folder. The prompt is English in all of them. The number of
problems and the field names (`problem`, `answer`, `subject`, `unique_id`) are the published ones. The content is not pinned:
the set was not at hand when this task was written.
"""

import dataclasses

from rlvr_bench.errors import TaskError
from rlvr_bench.families.competitions import competition
from rlvr_bench.task import Task

PARTS = {
    "en-easy": "easy problems in English",
    "en-hard": "hard problems in English",
    "zh-easy": "easy problems in Chinese",
    "zh-hard": "hard problems in Chinese",
}


def make_task(parameters: str) -> Task:
    """The task of one part. Raises TaskError."""
    if parameters not in PARTS:
        raise TaskError(f"task olymmath: no part {parameters[:64]!r}; there are {', '.join(PARTS)}")
    return competition(
        f"olymmath:{parameters}",
        "RUC-AIBOX/OlymMATH",
        f"OlymMATH, {PARTS[parameters]}: 100 olympiad problems, answers as expressions.",
        rows=100,
        config=parameters,
        split="test",
        licence="MIT",
    )


TASK = dataclasses.replace(make_task("en-hard"), name="olymmath")
