"""Imports go up the layers only, heavy libraries stay in the one file that needs them, and starting is quick."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "rlvr_bench"

# Lowest first; names in one row may import each other.
LAYERS = (
    ("errors",),
    ("received", "records", "metrics", "tables", "parallel"),
    ("stats", "datasets", "prompts", "countdown", "text_rules"),
    ("verifiers",),
    ("training",),
    ("task",),
    ("samplers",),
    ("manifest",),
    ("scorecard", "scorecard_views"),
    ("store",),
    ("importers", "scaling"),
    ("grading", "auditing"),
    ("scorers",),
    ("comparison",),
    ("analysis", "leaderboards", "reporting", "checking"),
    ("zoo", "hf_evaluate"),
    ("pipeline",),
    ("cli", "__main__"),
)
# `zoo` trains on puzzles: it needs no store and nothing that stands above tasks.
FORBIDDEN = {"zoo": {"samplers", "store", "grading", "scorers"}}
# Which files may import a heavy library, at whatever depth.
OWNERS = {
    "vllm": {"samplers/logprobs_vllm.py", "samplers/vllm.py", "samplers/vllm_check.py", "samplers/vllm_worker.py"},
    "transformers": {
        "samplers/logprobs_transformers.py",
        "samplers/transformers.py",
        "samplers/vllm.py",
        "zoo/export.py",
        "zoo/publish.py",
        "zoo/tokenizer.py",
    },
    "math_verify": {"verifiers/math.py"},
    "datasets": {"datasets.py"},
    **{name: {"reporting/render.py"} for name in ("plotly", "jinja2", "markupsafe")},
    "ray": {"scaling/cluster.py"},
    "joblib": {"parallel.py"},
    "tabulate": {"tables.py"},
    "upath": {"store/paths.py"},
    **{name: {"samplers/endpoint_client.py"} for name in ("httpx", "tenacity", "anyio")},
}


def modules() -> list[Path]:
    return sorted(file for file in PACKAGE.rglob("*.py") if "_tasks" not in file.parts)


def imported(file: Path) -> set[str]:
    """Dotted names a file imports anywhere, those only for type checking left out."""
    names: set[str] = set()
    tree = ast.parse(file.read_text())
    typing_only = {
        node
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and "TYPE_CHECKING" in ast.unparse(block.test)
        for node in ast.walk(block)
    }
    for node in ast.walk(tree):
        if node in typing_only:
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def layer_of(name: str) -> int:
    for number, names in enumerate(LAYERS):
        if name in names:
            return number
    raise AssertionError(f"{name} belongs to no layer: add it to LAYERS where it fits")


def own_layer(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("file", modules(), ids=lambda file: str(file.relative_to(PACKAGE)))
def test_a_module_imports_its_own_layer_or_lower_ones(file: Path) -> None:
    if file == PACKAGE / "__init__.py":
        return
    own = own_layer(file)
    for name in imported(file):
        parts = name.split(".")
        if parts[0] != "rlvr_bench" or len(parts) == 1:
            continue
        target = parts[1]
        if not (PACKAGE / target).is_dir() and not (PACKAGE / f"{target}.py").is_file():
            continue
        assert target not in FORBIDDEN.get(own, set()), f"{file.name} imports {name}"
        assert layer_of(target) <= layer_of(own), f"{file.name} ({own}) imports {name} from above"


@pytest.mark.parametrize("library", sorted(OWNERS))
def test_heavy_libraries_are_imported_in_their_own_files_only(library: str) -> None:
    users = {
        str(file.relative_to(PACKAGE))
        for file in modules()
        if any(name == library or name.startswith(f"{library}.") for name in imported(file))
    }
    assert users <= OWNERS[library]


def test_a_planted_import_from_above_is_found(tmp_path: Path) -> None:
    file = tmp_path / "low.py"
    file.write_text("def f():\n    from rlvr_bench.pipeline import evaluate\n")
    assert "rlvr_bench.pipeline" in imported(file)
    assert layer_of("pipeline") > layer_of("errors")


@pytest.mark.parametrize(
    "code",
    [
        "import rlvr_bench",
        "import rlvr_bench.cli",
        "import rlvr_bench.stats",
        "from rlvr_bench import evaluate, load_task, open_verifier, verify_many",
        "from rlvr_bench.zoo.checkpoints import list_checkpoints; list_checkpoints()",
    ],
)
def test_importing_loads_no_heavy_library(code: str) -> None:
    heavy = ("torch", "transformers", "vllm", "sympy", "math_verify", "datasets", "pandas", "plotly", "ray")
    check = f"import sys; {code}; print([name for name in {heavy!r} if name in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"
