"""The sampling parameters in options, manifests and results: recorded, compared, and never ignored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from rlvr_bench import pipeline
from rlvr_bench.comparison.cards import align
from rlvr_bench.errors import BadArgument, RunError, RunMismatch
from rlvr_bench.leaderboards.entries import make_entry
from rlvr_bench.options import SampleOptions
from rlvr_bench.pipeline.intervening import _sampling
from rlvr_bench.records import NEUTRAL, SamplingParameters
from rlvr_bench.store import open_run
from rlvr_bench.store.run import Run
from tests.comparison.made import card
from tests.conftest import manifest_with

TASK = "double_countdown"
CHANGES: list[dict[str, Any]] = [
    {"min_p": 0.05},
    {"repetition_penalty": 1.05},
    {"presence_penalty": 0.5},
    {"stop": ("\n",)},
]


@pytest.mark.parametrize("changed", CHANGES)
def test_each_parameter_decides_what_a_run_is(changed: dict[str, Any], tmp_path: Path) -> None:
    run = pipeline.sample("fake:0.5", TASK, SampleOptions(n=2, limit=2, out=tmp_path, **changed))
    (name,) = changed
    manifest = open_run(run).manifest
    assert manifest.sampling is not None
    assert getattr(manifest.sampling, name) == changed[name]
    pipeline.sample("fake:0.5", TASK, SampleOptions(n=4, limit=2, out=tmp_path, **changed))
    with pytest.raises(RunMismatch, match=f"sampling.{name}"):
        pipeline.sample("fake:0.5", TASK, SampleOptions(n=4, limit=2, out=tmp_path))


def test_a_run_of_an_older_version_is_continued(tmp_path: Path) -> None:
    run = pipeline.sample("fake:0.5", TASK, SampleOptions(n=2, limit=2, out=tmp_path))
    file = run / "manifest.json"
    content = json.loads(file.read_text())
    for name in ("min_p", "repetition_penalty", "presence_penalty", "stop"):
        del content["sampling"][name]
    file.write_text(json.dumps(content))
    assert pipeline.sample("fake:0.5", TASK, SampleOptions(n=4, limit=2, out=tmp_path)) == run


@pytest.mark.parametrize("changed", [*CHANGES, {"top_k": 20}, {"temperature": 0.7}, {"top_p": 0.9}])
def test_the_own_law_and_the_words(changed: dict[str, Any]) -> None:
    sampling = msgspec.structs.replace(NEUTRAL, max_tokens=9, **changed)
    assert sampling.is_own_law == ("stop" in changed)
    assert sampling.in_words() != NEUTRAL.in_words()
    assert msgspec.structs.replace(NEUTRAL, max_tokens=9).is_own_law


def test_parameters_that_change_nothing_are_left_out_of_records_of_older_versions() -> None:
    assert list(SamplingParameters().recorded()) == ["temperature", "top_p", "top_k", "max_tokens"]
    assert SamplingParameters(min_p=0.1, stop=("a",)).recorded()["min_p"] == 0.1
    assert SamplingParameters().in_words() == "T=0.6 top-p=0.95"
    assert SamplingParameters(top_k=20, stop=("\n",)).in_words() == "T=0.6 top-p=0.95 top-k=20 stop='\\n'"


def test_a_difference_is_shown_by_compare_and_keeps_rows_of_a_leaderboard_apart() -> None:
    changed = msgspec.structs.replace(SamplingParameters(), repetition_penalty=1.05)
    plain, penalised = (
        card(name, [1, 2], 4, sampling=sampling) for name, sampling in (("a", SamplingParameters()), ("b", changed))
    )
    (note,) = [text for text in align([plain, penalised])[2] if text.startswith("sampling differs")]
    assert "repetition_penalty': 1.0" in note
    assert "repetition_penalty': 1.05" in note
    rows = [make_entry(Path(__file__), made, (1,)).row for _, made in (plain, penalised)]
    assert [row["other_parameters"] for row in rows] == [None, "repetition-penalty=1.05"]


@pytest.mark.parametrize("changed", [{"presence_penalty": 0.5}, {"stop": ("x",)}])
def test_a_prefix_is_not_continued_where_the_parameters_look_at_the_response(changed: dict[str, Any]) -> None:
    manifest = manifest_with(sampling=SamplingParameters(**changed))
    with pytest.raises(RunError, match="look at the response alone"):
        _sampling(Run(Path("r"), manifest))


def test_texts_that_are_no_list_are_refused() -> None:
    with pytest.raises(BadArgument, match="--stop is 'abc': must be texts"):
        SampleOptions(stop="abc")
