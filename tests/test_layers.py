"""Imports go up the layers only, heavy libraries stay in the one file that needs them, and starting is quick."""

from __future__ import annotations

import ast
import functools
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "rlvr_bench"

# Lowest first; names in one row may import each other.
LAYERS = (
    ("errors",),
    ("json_format", "received", "records", "options", "metrics", "source_files", "storage", "tables", "parallel"),
    ("stats", "datasets", "prompts", "countdown", "text_rules"),
    ("verifiers",),
    ("task", "task_groups"),
    ("families",),
    ("samplers",),
    ("manifest",),
    ("scorecard", "scorecard_views", "measured_error"),
    ("store",),
    ("importers", "scaling"),
    ("grading", "auditing", "disagreements", "labelling"),
    ("scorers",),
    ("training",),
    ("comparison",),
    ("analysis", "leaderboards", "reporting", "checking", "planning"),
    ("zoo", "hf_evaluate"),
    ("pipeline",),
    ("capping",),
    ("following",),
    ("cli", "__main__"),
)
# `zoo` trains on puzzles: it needs no store and nothing that is above tasks.
FORBIDDEN = {"zoo": {"samplers", "store", "grading", "scorers"}}
# Which files may import a heavy library, at whatever depth.
OWNERS = {
    "vllm": {"samplers/loaded_vllm.py", "samplers/vllm_check.py", "samplers/vllm_worker.py"},
    "transformers": {
        "following/trl.py",
        "samplers/loaded_transformers.py",
        "samplers/logprobs_transformers.py",
        "zoo/export.py",
        "zoo/publish.py",
        "zoo/tokenizer.py",
    },
    "triton": {"samplers/token_kernel.py"},
    "math_verify": {"verifiers/math.py"},
    "datasets": {"datasets.py"},
    **{name: {"reporting/render.py"} for name in ("plotly", "markupsafe")},
    "jinja2": {"reporting/render.py", "samplers/chat_templates.py"},
    "ray": {"scaling/cluster.py"},
    "joblib": {"parallel.py"},
    "tabulate": {"tables.py"},
    "upath": {"storage.py"},
    **{name: {"samplers/endpoint_client.py"} for name in ("httpx", "tenacity", "anyio")},
}


def modules() -> list[Path]:
    return sorted(file for file in PACKAGE.rglob("*.py") if "_tasks" not in file.parts)


@functools.cache
def import_statements(file: Path) -> list[ast.Import | ast.ImportFrom]:
    """Imports anywhere in a file, those only for type checking left out."""
    tree = ast.parse(file.read_text())
    typing_only = {
        node
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and "TYPE_CHECKING" in ast.unparse(block.test)
        for node in ast.walk(block)
    }
    return [
        node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom) and node not in typing_only
    ]


@functools.cache
def imported(file: Path) -> set[str]:
    """Dotted names a file imports anywhere, those only for type checking left out."""
    names: set[str] = set()
    for node in import_statements(file):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif node.module and not node.level:
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
    layer = own_layer(file)
    for name in imported(file):
        parts = name.split(".")
        if parts[0] != "rlvr_bench" or len(parts) == 1:
            continue
        target = parts[1]
        if not (PACKAGE / target).is_dir() and not (PACKAGE / f"{target}.py").is_file():
            continue
        assert target not in FORBIDDEN.get(layer, set()), f"{file.name} imports {name}"
        assert layer_of(target) <= layer_of(layer), f"{file.name} ({layer}) imports {name} from above"


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


def module_name(file: Path) -> str:
    parts = [*file.relative_to(PACKAGE.parent).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def import_graph() -> dict[str, set[str]]:
    """Which modules of ours each one names in its imports, at whatever depth.

    ``from a import b`` names a.b where that is a module, else a. That a package runs before what is in it is no import of
    its own: whatever a package imports late may import its neighbours.
    """
    files = {module_name(file): file for file in modules()}
    graph: dict[str, set[str]] = {}
    for name, file in files.items():
        named = set()
        for node in import_statements(file):
            for alias in node.names:
                whole = f"{node.module}.{alias.name}" if isinstance(node, ast.ImportFrom) else alias.name
                named.add(whole if whole in files else whole.rpartition(".")[0])
        graph[name] = named & files.keys() - {name}
    return graph


def circles(graph: dict[str, set[str]]) -> list[set[str]]:
    """Sets of modules each of which imports, by way of others, all the rest."""
    reach = {name: set(others) for name, others in graph.items()}
    for middle in graph:
        for others in reach.values():
            if middle in others:
                others |= reach[middle]
    return [{other for other in reach[name] if name in reach[other]} for name in graph if name in reach[name]]


def test_no_circle_of_imports() -> None:
    assert circles(import_graph()) == []


def test_a_circle_is_found_where_there_is_one() -> None:
    graph = {"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": set()}
    assert circles(graph) == [{"b", "c"}, {"b", "c"}]


# Verbs load late, so that ``--help`` answers at once; a vLLM worker needs torch, whoever reads its columns does not; the
# kernel needs Triton, which torch on a CPU does not have. The verifiers take 0.2 s, and a list of tasks needs none.
LATE_LAYERS = {"cli", "__main__"}
LATE_FILES = {"samplers/token_stats.py", "samplers/vllm_worker.py", "task.py"}


def late_imports(file: Path) -> list[str]:
    """What a file imports of ours within a function."""
    functions = [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.FunctionDef)]
    imports = [node for function in functions for node in ast.walk(function) if isinstance(node, ast.ImportFrom)]
    return [node.module for node in imports if node.module and node.module.startswith("rlvr_bench")]


@pytest.mark.parametrize("file", modules(), ids=lambda file: str(file.relative_to(PACKAGE)))
def test_what_a_module_needs_of_ours_is_named_at_its_top(file: Path) -> None:
    may_be_late = file.name == "__init__.py" or str(file.relative_to(PACKAGE)) in LATE_FILES
    if not may_be_late and own_layer(file) not in LATE_LAYERS:
        assert late_imports(file) == []


def test_a_list_of_tasks_needs_neither_verifiers_nor_statistics() -> None:
    """It is what a user types first: without them it takes a third of the time."""
    check = "import sys; from rlvr_bench.cli.main import tasks_list; tasks_list('tsv'); print(*sys.modules, file=sys.stderr)"
    shown = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert "gsm8k\tmaths" in shown.stdout
    assert not {"scipy", "rlvr_bench.verifiers", "rlvr_bench.stats", "rlvr_bench.store"} & set(shown.stderr.split())


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
