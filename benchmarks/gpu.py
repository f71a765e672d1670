"""Speed of token statistics on a GPU: the Triton kernel and the torch path beside a device-to-device copy of the logits.

    python benchmarks/gpu.py     # needs torch and Triton only; without a GPU: small sizes in Triton's interpreter

Copy: the time to read and write the logits once. The statistics must read them at least once. ``peaked`` laws are like those
of a trained model, ``broad`` ones like those of an untrained one, where the nucleus takes a long search. The last columns are
the largest difference of the kernel from float64, in nats (relative where a value is above 1), and how many of at most 64 rows
have another nucleus than it. In the interpreter the times mean nothing.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable

import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"

from rlvr_bench.samplers import token_kernel, token_stats

TOP_P = 0.95
SCALES = {"peaked": 6.0, "broad": 1.0}  # standard deviations of the logits
DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


def microseconds(work: Callable[[], object], repeats: int) -> float:
    """Median time of one call, after two that warm up."""
    times = []
    for repeat in range(repeats + 2):
        started = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        if repeat >= 2:
            times.append((time.perf_counter() - started) * 1e6)
    return statistics.median(times)


def differences(logits: torch.Tensor, ids: torch.Tensor) -> tuple[float, int]:
    """Of the kernel from float64: the largest one of log-probability and entropy, and the number of other nuclei."""
    law = logits.double().log_softmax(-1)
    logprob = law.gather(-1, ids[:, None])[:, 0]
    entropy = -(law.exp() * law).sum(-1)
    nucleus = (law.exp().sort(-1, descending=True).values.cumsum(-1) < TOP_P).sum(-1) + 1
    ours = token_kernel.launch(logits, ids, TOP_P)
    pairs = zip(ours, (logprob, entropy), strict=False)
    worst = max(float(((a - b).abs() / b.abs().clamp(min=1)).max()) for a, b in pairs)
    return worst, int((ours[2] != nucleus).sum())


def measure(rows: int, vocabulary: int, dtype: torch.dtype, scale: float, repeats: int, device: str) -> str:
    logits = (torch.randn(rows, vocabulary, device=device) * scale).to(dtype)
    ids, target = logits.argmax(-1), torch.empty_like(logits)
    copy = microseconds(lambda: target.copy_(logits), repeats)
    kernel = microseconds(lambda: token_kernel.launch(logits, ids, TOP_P), repeats)
    plain = microseconds(lambda: torch_path(logits, ids), repeats)
    worst, others = differences(logits[:64], ids[:64])
    return f"{copy:9.0f} {kernel:9.0f} {kernel / copy:6.1f} {plain:9.0f} {plain / copy:6.1f}  {worst:.1e} {others:3}"


def torch_path(logits: torch.Tensor, ids: torch.Tensor) -> object:
    path = token_stats._by_compiled_functions if logits.is_cuda else token_stats._on_cpu
    return path(logits, ids, TOP_P)


def main() -> None:
    on_gpu = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--vocabulary", type=int, nargs="+", default=[32_000, 128_256, 151_936] if on_gpu else [700, 5_000]
    )
    parser.add_argument("--rows", type=int, nargs="+", default=[64, 256, 1024] if on_gpu else [3])
    parser.add_argument("--repeats", type=int, default=20 if on_gpu else 1)
    args = parser.parse_args()
    torch.manual_seed(0)
    name = torch.cuda.get_device_name() if on_gpu else "no GPU: Triton's interpreter, times mean nothing"
    print(f"{name}; torch {torch.__version__}, Triton {token_kernel.triton.__version__}")
    print(f"{'logits':>26}      copy us kernel us  ratio  torch us  ratio  difference, other nuclei")
    for vocabulary in args.vocabulary:
        for rows in args.rows:
            for (dtype_name, dtype), (law, scale) in ((d, s) for d in DTYPES.items() for s in SCALES.items()):
                line = measure(rows, vocabulary, dtype, scale, args.repeats, "cuda" if on_gpu else "cpu")
                print(f"{rows:5} x {vocabulary:6} {dtype_name} {law:7} {line}")


if __name__ == "__main__":
    main()
