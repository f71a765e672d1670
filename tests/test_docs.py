"""Docs that cannot rot: generated parts are up to date, every verb is documented, links lead somewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")] + sorted(
    (ROOT / "docs").glob("*.md")
)


def test_generated_parts_are_up_to_date() -> None:
    shown = subprocess.run([sys.executable, "tools/docs.py", "--check"], cwd=ROOT, capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr


def test_every_module_of_the_package_is_in_the_tree() -> None:
    block = (ROOT / "README.md").read_text().partition("<!-- tree")[2].partition("<!-- end tree")[0]
    for path in (ROOT / "rlvr_bench").iterdir():
        if path.name.startswith(("_", ".")) or path.name == "py.typed":
            continue
        name = path.name if path.is_file() else f"{path.name}/"
        assert re.search(rf"^  {re.escape(name)} +\S", block, re.MULTILINE), f"{name} is not in the README tree"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_local_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)|src=\"([^\"]+)\"", page.read_text()):
        link = target[0] or target[1]
        if not link.startswith(("http://", "https://")):
            assert (page.parent / link).exists(), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_to_a_section_name_a_heading(page: Path) -> None:
    for target, section in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", page.read_text()):
        linked = page.parent / target if target else page
        assert section in _anchors(linked), f"{linked.name}#{section}"


def _anchors(page: Path) -> set[str]:
    """GitHub's anchor of every heading: lower case, without punctuation, hyphens for spaces."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_readme_names_only_verbs_and_options_that_exist() -> None:
    help_text = (ROOT / "docs" / "cli.md").read_text()
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    commands = [line for block in blocks for line in block.splitlines() if line.startswith("rlvr-bench ")]
    assert len(commands) >= 5
    for line in commands:
        verb = line.split()[1]
        assert f"## `rlvr-bench {verb}" in help_text, line
        for option in re.findall(r"(?<=\s)--[a-z-]+", line):
            assert option in help_text, line


def test_the_code_of_the_python_page_runs(tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "python.md").read_text(), re.DOTALL)
    assert len(blocks) == 4
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", "\n".join(blocks)]
    shown = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr
    page = (ROOT / "docs" / "python.md").read_text()
    printed = page.partition("```text\n")[2].partition("```")[0]
    assert printed in shown.stdout, "what the page shows is what it prints"
