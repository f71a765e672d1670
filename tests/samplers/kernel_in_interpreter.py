"""Run in a process of its own, because Triton decides at import that it interprets: the kernel on cases from a file.

``python kernel_in_interpreter.py FILE``: reads {name: (logits, ids)} and writes {name: (log-probability, entropy, nucleus)}
to the same file, then measures small sizes with ``benchmarks/gpu.py``.
"""

from __future__ import annotations

import os
import runpy
import sys
from pathlib import Path

import torch


def main(file: str) -> None:
    os.environ["TRITON_INTERPRET"] = "1"
    from rlvr_bench.samplers import token_kernel

    cases = torch.load(file)
    torch.save({name: token_kernel.launch(logits, ids, 0.95) for name, (logits, ids) in cases.items()}, file)
    sys.argv = ["gpu.py", "--vocabulary", "300", "--rows", "2"]
    runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "gpu.py"), run_name="__main__")


if __name__ == "__main__":
    main(sys.argv[1])
