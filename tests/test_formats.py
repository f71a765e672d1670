"""``--format`` of every verb that prints tables, on the shipped scorecards."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rlvr_bench import SampleOptions, evaluate
from rlvr_bench.cli.main import app
from rlvr_bench.tables import FORMATS, Format
from tests.conftest import run_verb

CARDS = Path(__file__).parent.parent / "results" / "scorecards"
BASE, GRPO = str(CARDS / "base.json"), str(CARDS / "grpo.json")
VERBS = {
    "compare": ("compare", BASE, GRPO),
    "leaderboard": ("leaderboard", BASE, GRPO, "--k", "1,16"),
    "series": ("series", *(str(CARDS / f"grpo@{step}.json") for step in (5, 20, 55, 85))),
    "check": ("check", GRPO, "--against", BASE, "--max-drop", "pass@1=0.02"),
    "tasks": ("tasks", "list"),
    "zoo": ("zoo", "list"),
}
WITH_FORMAT = {"audit", "status", "compare", "leaderboard", "series", "check", "score", "grade", "list"}


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("verb", VERBS)
def test_every_format_of_every_verb(verb: str, form: Format, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_verb(*VERBS[verb], "--format", form) == 0
    holds(capsys.readouterr().out, form)


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_of_one_run_and_of_several(
    form: Format, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = [evaluate(m, "double_countdown", SampleOptions(n=4, limit=5, out=tmp_path))[0] for m in ("fake", "fake:0.5")]
    first, second = map(str, made)
    for arguments in (("score", first), ("score", first, second), ("grade", first, second)):
        capsys.readouterr()
        assert run_verb(*arguments, "--format", form) == 0
        holds(capsys.readouterr().out, form)


def holds(text: str, form: Format) -> None:
    assert text.strip()
    assert all(c.isprintable() or c in "\n\t" for c in text)
    lines = text.split("\n")
    if form == "latex":
        assert text.count("\\begin{tabular}") == text.count("\\end{tabular}") > 0
        assert text.count("\\toprule") == text.count("\\midrule") == text.count("\\bottomrule") > 0
        starts = ("%", "\\begin", "\\end", "\\toprule", "\\midrule", "\\bottomrule")
        assert not [line for line in lines if line and not line.startswith(starts) and not line.endswith(" \\\\")]
    if form == "tsv":
        for table in text.rstrip("\n").split("\n\n"):
            assert len({line.count("\t") for line in table.split("\n")}) == 1
            assert "\t" in table
    if form == "markdown":
        before = ""
        for line in lines:
            if line.startswith("|") and before.startswith("|"):
                assert line.count("|") == before.count("|")
            before = line


def test_json_goes_before_the_format(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_verb(*VERBS["compare"], "--json", "--format", "latex") == 0
    assert json.loads(capsys.readouterr().out)["n_problems"] == 300


def test_a_format_that_is_none_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_verb("tasks", "list", "--format", "html") == 2
    assert "markdown" in capsys.readouterr().err


def test_a_table_in_a_file_is_not_cut(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    assert run_verb(*VERBS["series"]) == 0
    head = capsys.readouterr().out.splitlines()[1]
    assert head.split() == ["step", "pass@1", "pass@256", "entropy", "correct*", "wrong*", "branching", "duplicates"]


def test_the_verbs_that_print_tables_take_a_format() -> None:
    import typer.main

    def commands(group: object) -> dict[str, set[str]]:
        by_verb: dict[str, set[str]] = {}
        for name, command in getattr(group, "commands", {}).items():
            by_verb |= commands(command) or {name: {part for parameter in command.params for part in parameter.opts}}
        return by_verb

    taking = {name for name, options in commands(typer.main.get_command(app)).items() if "--format" in options}
    assert taking - {"import"} == WITH_FORMAT  # import's is the format of what is read
