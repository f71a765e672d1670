"""A scorecard in a notebook: its short table, estimates by name, Arrow tables, and what is said of what is not there."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from rlvr_bench import Scorecard, read_scorecard
from rlvr_bench.errors import NotInScorecard, RlvrBenchError, RunError
from rlvr_bench.records import Estimate
from rlvr_bench.scorecard import ProblemScore, decode_scorecard, encode_scorecard, scorecard_from
from tests.comparison.made import card
from tests.scorers.made import outcomes
from tests.scorers.test_scorecard import scored

SHIPPED = sorted((Path(__file__).parent.parent / "results" / "scorecards").glob("*.json"))
HOSTILE = "<script>alert(1)</script>\n\x1b[31m\u202e|`" + "x" * 500


@pytest.fixture(scope="module")
def real() -> Scorecard:
    return decode_scorecard(SHIPPED[0].read_bytes(), "x")


@pytest.fixture(scope="module")
def small() -> Scorecard:
    """Two problems, without token statistics."""
    return scored(outcomes(["ccwwwwww", "wwwwwwww"], answer=np.arange(16, dtype=np.int32) % 5))


def hostile(**changed: Any) -> Scorecard:
    scorecard = scorecard_from(msgspec.to_builtins(card(HOSTILE, [1, 2], 8, task=HOSTILE, warnings=[HOSTILE])[1]))
    estimates = [Estimate(name="pass@k", k=1, value=0.5), Estimate(name=HOSTILE, value=0.5, note=HOSTILE)]
    return msgspec.structs.replace(scorecard, **{"estimates": estimates, "quality": {HOSTILE: 0.5}, **changed})


# ------------------------------------------------------------------------------------------------ what one sees
def test_print_is_a_short_aligned_table(real: Scorecard) -> None:
    head, titles, *rows, quality = str(real).splitlines()
    assert head == "zoo:base on double_countdown: 300 problems, n = 1,024 rollouts each"
    assert "value [95% interval]" in titles
    starts = {row.index("[") > 0 and re.match(r"\S+(?: \S+)* {2,}", row).end() for row in rows}  # type: ignore[union-attr]
    assert len(starts) == 1, "the numbers begin in one column"
    assert rows[0].split() == ["pass@1", "15.3", "[13.0,", "18.1]", "%", "solved", "by", "one", "rollout"]
    assert {row.split("  ")[0] for row in rows} >= {"pass@1024", "unsolved in 1024", "token entropy"}
    assert "truncation 0.2%" in quality
    assert repr(real) == str(real)


def test_a_card_of_strangers_is_a_few_printable_lines() -> None:
    text = str(hostile())
    assert all(line.isprintable() and len(line) < 600 for line in text.splitlines())
    assert len(text.splitlines()) == 5
    assert "no estimates" in str(hostile(estimates=[], quality={}))


class Tags(HTMLParser):
    """The names of all tags, and the text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.add(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize("made", [hostile(), hostile(estimates=[])], ids=["estimates", "none"])
def test_a_notebook_shows_names_as_text(made: Scorecard) -> None:
    page = Tags()
    page.feed(made._repr_html_())
    assert page.tags <= {"p", "b", "table", "thead", "tbody", "tr", "th", "td"}
    assert "<script>alert(1)</script>" in page.text
    assert not set("\x1b\u202e") & set(page.text)


# ------------------------------------------------------------------------------------------------ one estimate
def test_estimates_by_name_budget_and_group(real: Scorecard) -> None:
    by_key = {(e.name, e.k, e.group): e for e in real.estimates}
    assert real.pass_at(64) is by_key["pass@k", 64, None]
    assert real["pass@64"] is real.pass_at(64)
    assert real.pass_at(int(np.int64(64))) is real.pass_at(64)
    assert real["token_entropy"] is by_key["token_entropy", None, None]
    assert real["token_entropy", "correct"] is by_key["token_entropy", None, "correct"]
    assert real["unsolved"].name == "unsolved"
    assert "token_entropy" in real
    assert "entropy" not in real
    assert 3 not in real


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("pass@3", r"which has k = 1, 2, 4, 8\. rlvr_bench.score\(run, ks=\[3\]\), or `rlvr-bench score RUN --k 3`"),
        ("pass@99", r"at most 8 rollouts of a problem: `rlvr-bench evaluate -n 99` draws more"),
        ("pass@k", r"Name one, such as card\['pass@1'\]"),
        ("maj@3", r"which has k = 1, 4, 8\. Its budgets are fixed"),
        ("token_entropy", r"has no value in this scorecard: no token statistics were measured"),
        ("cot_pass@1", r"'cot_pass@1' is not in this scorecard: no judge has seen every correct rollout"),
        ("cover", r"Its groups: \['cover', 'tau=0\.01'\]"),
        (("cover", "tau=2"), r"Its groups: \['cover', 'tau=0\.01'\]"),
        ("token_entrpy", r"Near names: token_entropy"),
        ("distinct_texts", r"card\.quality\['distinct_texts'\] is "),
        ("audit_disagreement_rate", r"a run of this kind does not have it"),
        (("a", "b", "c"), "is not in this scorecard"),
        (HOSTILE, "is not in this scorecard"),
    ],
)
def test_what_is_not_there_is_a_key_error_that_says_why(small: Scorecard, key: Any, says: str) -> None:
    with pytest.raises(NotInScorecard, match=says) as raised:
        small[key]
    assert isinstance(raised.value, KeyError)
    assert isinstance(raised.value, RlvrBenchError)
    assert str(raised.value).isprintable(), "one line, without quotes around it"
    assert str(raised.value) == raised.value.args[0]


def test_pass_at_of_a_budget_above_n_has_bounds_and_no_value() -> None:
    """One of two problems is solved by its four rollouts: pass@16 is at least a half, and nothing is known above."""
    made = scored(outcomes(["ccww", "wwww"]), ks=[1, 16])
    bounds = made.pass_at(16)
    assert (bounds.value, bounds.at_least, bounds.at_most) == (None, 0.5, 1.0)
    assert bounds.low is not None
    assert bounds.low <= 0.5
    assert bounds.high == 1.0
    assert "fewer than 16 rollouts" in str(bounds.note)
    assert "pass@16" in made
    for bad in (0, -1, 1.5, "1"):
        with pytest.raises(NotInScorecard, match="A budget is a whole number of at least 1"):
            made.pass_at(bad)  # type: ignore[arg-type]


def test_a_scorecard_is_no_sequence(small: Scorecard) -> None:
    with pytest.raises(TypeError, match="not iterated over"):
        list(small)


# ------------------------------------------------------------------------------------------------ all of them
def test_all_estimates_are_a_table(real: Scorecard) -> None:
    table = real.table()
    rows = table.to_pylist()
    assert [Estimate(**{k: v for k, v in row.items() if k != "unit"}) for row in rows] == real.estimates
    assert {row["unit"] for row in rows if row["name"] in ("pass@k", "token_entropy")} == {"fraction", "nats"}
    assert card("m", [1], 4)[1].table().column_names == table.column_names


def test_all_problems_are_a_table(real: Scorecard) -> None:
    table = real.problems_table()
    wide = [name for name in table.column_names if "@" in name]
    assert wide == [f"distinct_answers@{k}" for k in (1, 4, 16, 64, 256, 1024)]
    for row, problem in zip(table.to_pylist(), real.problems, strict=True):
        by_budget = {int(name.partition("@")[2]): row.pop(name) for name in wide}
        assert ProblemScore(**row, distinct_answers=by_budget) == problem
    assert card("m", [1], 4)[1].problems_table().num_rows == 1


def test_numbers_that_arrow_cannot_hold_are_an_error_of_ours() -> None:
    with pytest.raises(RunError, match="cannot be a table"):
        card("m", [1], 10**30)[1].problems_table()


def test_pandas_takes_both(real: Scorecard) -> None:
    pytest.importorskip("pandas", reason="pandas is not installed")
    estimates, problems = real.table().to_pandas(), real.problems_table().to_pandas()
    value = estimates.loc[(estimates["name"] == "pass@k") & (estimates["k"] == 64), "value"].item()
    assert value == real.pass_at(64).value
    assert (problems["n"] == 1024).all()
    assert (problems["c"] == 0).sum() == real["unsolved"].value


# ------------------------------------------------------------------------------------------------ from a file
def test_a_scorecard_is_read_from_a_file_a_run_folder_or_an_address(tmp_path: Path, small: Scorecard) -> None:
    run = tmp_path / "m" / "t"
    run.mkdir(parents=True)
    (run / "scorecard.json").write_bytes(encode_scorecard(small))
    for path in (run, str(run), run / "scorecard.json", tmp_path, f"file://{run}"):
        assert read_scorecard(path) == small
    (tmp_path / "lone.json").write_bytes(encode_scorecard(small))
    assert read_scorecard(tmp_path / "lone.json") == small


def test_a_scorecard_is_read_from_storage(small: Scorecard) -> None:
    pytest.importorskip("upath", reason="universal_pathlib is not installed: pip install 'rlvr-bench[s3]'")
    from upath import UPath

    folder = UPath("memory://read-scorecard/m/t")
    folder.mkdir(parents=True)
    (folder / "scorecard.json").write_bytes(encode_scorecard(small))
    assert read_scorecard("memory://read-scorecard/m/t") == small
    assert read_scorecard("memory://read-scorecard/m/t/scorecard.json") == small


def test_a_folder_without_one_or_with_several_says_what_to_name(tmp_path: Path, small: Scorecard) -> None:
    with pytest.raises(RunError, match="no scorecard"):
        read_scorecard(tmp_path / "nowhere")
    with pytest.raises(RunError, match="no scorecard in this folder"):
        read_scorecard(tmp_path)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "scorecard.json").write_bytes(encode_scorecard(small))
    with pytest.raises(RunError, match="2 scorecards in this folder. Name one of them, such as .*a/scorecard.json"):
        read_scorecard(tmp_path)
    (tmp_path / "manifest.json").write_text(json.dumps({}))
    with pytest.raises(RunError, match="Run `rlvr-bench score"):
        read_scorecard(tmp_path)


def test_what_has_bounds_alone_is_shown_with_them_and_says_so_by_name() -> None:
    made = msgspec.structs.replace(
        card("m", [1] * 20 + [0] * 20, [1024] * 20 + [64] * 20)[1],
        estimates=[
            Estimate(name="pass@k", k=64, value=0.03, low=0.02, high=0.05, at_least=0.03, at_most=0.04, n_problems=40),
            Estimate(name="pass@k", k=1024, value=None, low=0.4, high=1.0, at_least=0.5, at_most=1.0, n_problems=40),
            Estimate(name="unsolved", k=64, value=38.75, low=38.0, high=39.5, n_problems=40),
        ],
    )
    text = str(made)
    assert re.search(r"pass@1024 +50\.0 to 100\.0 \[40\.0, 100\.0\] % +bounds: solved by one of 1,024", text)
    assert re.search(r"pass@64 +3\.0 \[2\.0, 5\.0\] % +solved by one of 64; errors leave 3\.0 to 4\.0%", text)
    assert re.search(r"unsolved in 64 +38\.[78] \[38\.0, 39\.5\] of 40", text)
    assert (made.pass_at(1024).at_least, made["pass@1024"].at_most) == (0.5, 1.0)
