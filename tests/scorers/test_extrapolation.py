"""Extrapolated pass@k in a scorecard: a section of its own, bounds for errors, refusals in one line."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from rich.console import Console

from rlvr_bench.cli.show import show_scorecard
from rlvr_bench.errors import BadArgument
from rlvr_bench.records import StoppingRule
from rlvr_bench.scorecard import Scorecard, decode_scorecard, encode_scorecard
from rlvr_bench.scorers.extrapolation import extrapolated
from tests.comparison.made import card

COUNTS = [int(c) for c in np.random.default_rng(0).binomial(64, np.random.default_rng(1).beta(0.3, 3, 120))]


def made(**columns: list[int]) -> Scorecard:
    return card("m", COUNTS, 64, columns=dict(columns))[1]


def test_it_is_a_section_of_its_own_that_survives_the_file() -> None:
    estimate = extrapolated(made(), 1024)
    assert (estimate.name, estimate.k, estimate.n_samples, estimate.n_problems) == (
        "extrapolated_pass@k",
        1024,
        64,
        120,
    )
    assert estimate.low is not None
    assert estimate.high is not None
    assert np.mean(np.array(COUNTS) > 0) <= estimate.low <= (estimate.value or 0) <= estimate.high <= 1
    assert "nothing was drawn beyond n = 64" in (estimate.note or "")
    whole = msgspec.structs.replace(made(), extrapolated=[estimate])
    again = decode_scorecard(encode_scorecard(whole), "file")
    assert again.extrapolated == [estimate]
    assert not [item for item in again.estimates if item.k == 1024]
    assert b"extrapolated" not in encode_scorecard(made())


def test_the_terminal_marks_it(tmp_path: Path) -> None:
    whole = msgspec.structs.replace(made(), extrapolated=[extrapolated(made(), 1024)])
    console = Console(width=200, record=True, file=(tmp_path / "out").open("w"))
    show_scorecard(console, whole, tmp_path)
    console.file.close()
    (line,) = [line for line in console.export_text().splitlines() if "1024" in line or "1,024" in line]
    assert line.startswith("extrapolated, not measured: pass@1024")


def test_errors_widen_the_interval() -> None:
    plain = extrapolated(made(), 512)
    errors = [1 if c == 0 and i % 6 == 0 else 0 for i, c in enumerate(COUNTS)]
    estimate = extrapolated(made(error=errors), 512)
    assert estimate.value == plain.value
    assert (estimate.low or 1) <= (plain.low or 0)
    assert (estimate.high or 0) > (plain.high or 0)
    assert f"{sum(errors)} rollouts without a verdict" in (estimate.note or "")


def test_stopped_and_unequal_runs_are_refused() -> None:
    stopped = card("m", COUNTS, 64, stopping=StoppingRule(stop_after=4, batch=8))[1]
    with pytest.raises(BadArgument, match="--extrapolate is 1024: .*stopped early"):
        extrapolated(stopped, 1024)
    unequal = card("m", COUNTS, [65, *[64] * 119])[1]
    with pytest.raises(BadArgument, match="--extrapolate is 1024: .*equally many"):
        extrapolated(unequal, 1024)
    with pytest.raises(BadArgument, match="--extrapolate is 32: must be above n"):
        extrapolated(made(), 32)
