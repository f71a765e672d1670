"""The scorecard's file: earlier versions are read, what later ones add is kept, and what is damaged is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from rlvr_bench.errors import RunError
from rlvr_bench.scorecard import Scorecard, ScoredRun, decode_scorecard, encode_scorecard, scorecard_from

SHIPPED = sorted((Path(__file__).parent.parent / "results" / "scorecards").glob("*.json"))


def fields(**run: Any) -> dict[str, Any]:
    """A scorecard's JSON with one problem, of whose run only these fields are known."""
    problems = [{"id": "p0", "n": 4, "c": 1}]
    return {"schema": 1, "run": run, "problems": problems, "estimates": [], "quality": {}}


def without_nothing(value: Any) -> Any:
    """JSON without its nulls and empty parts."""
    if isinstance(value, dict):
        return {name: part for name, item in value.items() if (part := without_nothing(item)) not in (None, [], {}, "")}
    return [without_nothing(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("file", SHIPPED[::5], ids=lambda file: file.stem)
def test_every_field_of_an_earlier_scorecard_comes_out_again(file: Path) -> None:
    before = json.loads(file.read_bytes())
    after = json.loads(encode_scorecard(decode_scorecard(file.read_bytes(), "x")))
    assert after["run"].pop("seed_scheme") == 1, "the scheme of the runs that do not name one"
    before["run"].pop("seed_scheme", None)
    younger = {"min_p": 0.0, "repetition_penalty": 1.0, "presence_penalty": 0.0}
    if sampling := after["run"].get("sampling"):
        assert {name: sampling.pop(name) for name in younger} == younger, "parameters that change nothing"
    assert after["run"].pop("deterministic") is False, "no earlier run was"
    assert without_nothing(after) == without_nothing(before)


def test_what_a_scorecard_does_not_say_is_empty_and_not_made_up() -> None:
    run = scorecard_from(fields(task="t", sessions=[{"n": 4}])).run
    assert (run.task, run.model, run.sampling, run.seed, run.judging) == ("t", "", None, None, None)
    assert (run.grading.verifier, run.grading.options, run.sessions[0].engine_version) == ("", {}, "")


def test_what_a_later_version_adds_is_kept_where_it_was() -> None:
    later = fields(task="t", launcher={"name": "x"}, sampling={"temperature": 1.0, "min_p": 0.1}, sessions=[{"gpu": 1}])
    later["problems"][0]["tokens_to_success"] = 7
    later["estimates"] = [{"name": "pass@k", "value": 0.5, "k": 1}, {"name": "new", "value": 1.0, "unit": "tokens"}]
    later["review"] = [1, 2]
    card = scorecard_from(later)
    assert card.estimates[1].name == "new"
    written = json.loads(encode_scorecard(card))
    assert (written["run"]["launcher"], written["review"]) == ({"name": "x"}, [1, 2])
    assert (written["run"]["sampling"]["min_p"], written["run"]["sampling"]["temperature"]) == (0.1, 1.0)
    assert written["run"]["sessions"][0]["gpu"] == 1
    assert (written["problems"][0]["tokens_to_success"], written["problems"][0]["c"]) == (7, 1)
    assert written["estimates"][1]["unit"] == "tokens"
    assert "unknown" not in written
    assert scorecard_from(written) == card


def test_fields_are_read_by_name_as_before() -> None:
    card = scorecard_from(fields(task="t", grading={"verifier": "math"}))
    assert (card.run["task"], card.run["grading"]["verifier"], card.problems[0]["c"]) == ("t", "math", 1)
    with pytest.raises(KeyError):
        card.run["nothing"]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ({"schema": 2}, "scorecard schema 2, this version of rlvr-bench reads 1"),
        ({"run": {"n": "many"}}, r"damaged at run\.n \(Expected `int`, got `str`\)"),
        ({"run": {"sessions": [3]}}, r"damaged at run\.sessions\[0\]"),
        ({"run": {"grading": "math"}}, r"damaged at run\.grading"),
        ({"run": []}, "not a scorecard"),
        ({"problems": [{"id": "p0"}]}, "a problem without id, n or c"),
        ({"problems": [{"id": "p0", "n": 1, "c": "1"}]}, "not a scorecard"),
    ],
)
def test_a_damaged_scorecard_is_one_clear_line(damage: dict[str, Any], message: str) -> None:
    with pytest.raises(RunError, match=message) as raised:
        decode_scorecard(json.dumps({**fields(), **damage}).encode(), "a.json")
    assert "\n" not in str(raised.value)
    for content in (b"", b"[]", b"\xff", b"null"):
        with pytest.raises(RunError, match=r"a\.json: not a scorecard"):
            decode_scorecard(content, "a.json")


def test_plain_encoding_can_be_read_too() -> None:
    """Programs of users write scorecards with msgspec alone."""
    card = scorecard_from(fields(task="t"))
    assert decode_scorecard(msgspec.json.encode(card), "x") == card
    assert isinstance(card, Scorecard)
    assert isinstance(card.run, ScoredRun)
