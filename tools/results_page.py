"""results/README.md, made from results/scorecards: each claim of the field beside what the zoo shows.

python tools/results_page.py            writes it
python tools/results_page.py --check    exit status 1 where README.md is not what the scorecards give
"""

from __future__ import annotations

import functools
import itertools
import math
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
from scipy.stats import ttest_ind

from rlvr_bench.analysis.interventions import Effect
from rlvr_bench.analysis.performance_law import EntropyLaw
from rlvr_bench.analysis.reach_results import Reach
from rlvr_bench.analysis.shift_results import Rescoring
from rlvr_bench.analysis.stages import StageFit
from rlvr_bench.analysis.training_series import TrainingSeries, series
from rlvr_bench.analysis.turnover import BesideChance, CheckpointTurnover
from rlvr_bench.comparison import Comparison, NullSize, PairComparison, compare
from rlvr_bench.pipeline.intervening import Interventions
from rlvr_bench.records import Estimate
from rlvr_bench.scorecard import Scorecard, decode_scorecard
from rlvr_bench.scorers.true_solves import error_of_rates
from rlvr_bench.zoo.checkpoints import list_steps, read_card, shipped_folder
from rlvr_bench.zoo.recipes import RECIPES, REINFORCED

__all__ = [
    "KS",
    "RESULTS",
    "RFT",
    "Cards",
    "Measure",
    "against_base",
    "grpo_steps",
    "measure",
    "read_cards",
    "write_page",
]

RESULTS = Path(__file__).parent.parent / "results"
KS = (1, 4, 16, 64, 256, 1024)
REASONS = ("ok", "half", "wrong", "unused", "arithmetic", "illegal", "format", "no_answer")
RFT = tuple(name for name in RECIPES if name.startswith("rft"))
LENIENT = 0.001  # a false positive rate
Cards = dict[str, Scorecard]


class Measure(NamedTuple):
    """A value with its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def sign(self) -> int:
        """1 or -1 where the interval leaves zero out, else 0."""
        return int(self.low > 0) - int(self.high < 0)


def write_page(results: Path) -> None:
    """Write README.md from results/scorecards and the cards of the zoo."""
    (results / "README.md").write_text(_page(results, read_cards(results), against_base(results)))


def read_cards(results: Path) -> Cards:
    files = (results / "scorecards").glob("*.json")
    return {file.stem: decode_scorecard(file.read_bytes(), str(file)) for file in files}


def against_base(results: Path) -> dict[str, PairComparison]:
    return _against("base", [name for name in RECIPES if name != "base"], results / "scorecards")


def _page(results: Path, cards: Cards, pairs: dict[str, PairComparison]) -> str:
    main = ["base", *(name for name in RECIPES if name != "base")]
    sections = [
        _head(cards),
        _table(cards, [*main, "guess"]),
        _claims(cards, pairs, results / "scorecards"),
        _methods(pairs),
        _between_methods(cards),
        _tiers(cards, [*main, "guess"]),
        _reasons(main),
        _series(cards),
        _stages(results / "scorecards"),
        _forgotten(results / "scorecards"),
        _within_reach(results, cards),
        _moved(results),
        _swapped(results),
        _cost(main),
    ]
    return "\n\n".join(section.strip() for section in sections) + "\n"


def _against(first: str, others: Sequence[str], folder: Path) -> dict[str, PairComparison]:
    files = [folder / f"{name}.json" for name in (first, *others)]
    comparison: Comparison = compare(files, KS)
    return dict(zip(others, comparison.pairs, strict=True))


def _estimate(card: Scorecard, name: str, k: int | None = None, group: str | None = None) -> Estimate | None:
    return next((e for e in card.estimates if (e.name, e.k, e.group) == (name, k, group) and e.value is not None), None)


def measure(card: Scorecard, name: str, k: int | None = None, group: str | None = None) -> Measure:
    estimate = _estimate(card, name, k, group)
    return (
        Measure(math.nan, math.nan, math.nan)
        if estimate is None
        else Measure(estimate.value, estimate.low, estimate.high)
    )


def _difference(pair: PairComparison, name: str, k: int | None = None) -> Measure:
    rows = pair.pass_at_k if name == "pass@k" else pair.policy
    difference = next(d for d in rows if d.name == name and (k is None or d.k == k))
    return Measure(difference.value, difference.low, difference.high)


def _percent(m: Measure) -> str:
    return "-" if math.isnan(m.value) else f"{m.value:.1%} [{m.low:.1%}, {m.high:.1%}]"


def _points(m: Measure) -> str:
    return f"{100 * m.value:+.1f} [{100 * m.low:+.1f}, {100 * m.high:+.1f}]"


def _plain(m: Measure, digits: int = 3) -> str:
    return "-" if math.isnan(m.value) else f"{m.value:.{digits}f} [{m.low:.{digits}f}, {m.high:.{digits}f}]"


def _rows(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _head(cards: Cards) -> str:
    base = cards["base"]
    return f"""# What the zoo shows

Made by `make results` from `scorecards/`; nothing on this page is written by hand but the words. {len(base.problems)} held-out
problems of `double_countdown`, none of which was trained on, with its targets in either order; temperature 1, top-p 1;
n = 1,024 rollouts a problem for each method, 256 for its other training seeds and for the steps of `grpo`. Intervals are
95 %: over problems (and the rollouts drawn on them) for one checkpoint and for paired differences, over training seeds where
it says so. Settings were chosen on other problems (`countdown.development`); `base` itself was chosen by results on these,
and is slightly flattered. Every recipe from `base` had the same budget: 51,200 rollouts (`sft`: demonstrations) and 400
optimizer steps. `guess` makes random legal steps without seeing the targets: what it reaches needs no skill, and at k = 256
that is {_percent(measure(cards["guess"], "pass@k", 256))}, at k = 1,024 {_percent(measure(cards["guess"], "pass@k", 1024))}.
So read the largest k on the hard tier (below), and a policy under the guesser as one that no longer tries.

![pass@k of every method](pass_at_k.svg)"""


def _table(cards: Cards, names: Sequence[str]) -> str:
    def row(name: str) -> list[str]:
        card = cards[name]
        passes = [_percent(measure(card, "pass@k", k)) for k in (1, 16, 256, 1024)]
        unsolved = sum(entry.c == 0 for entry in card.problems)
        policy = [_plain(measure(card, "token_entropy")), _plain(measure(card, "branching_factor"), 2)]
        return [f"`{name}`", *passes, str(unsolved), *policy, _plain(measure(card, "distinct_answers@k", 256), 0)]

    header = ["checkpoint", "pass@1", "pass@16", "pass@256", "pass@1024", "unsolved", "entropy, nats", "branching"]
    return "## Checkpoints\n\n" + _rows([*header, "distinct answers of 256"], map(row, names))


def _verdict(sign: int, claimed: int) -> str:
    return "yes" if sign == claimed else "no, the reverse" if sign == -claimed else "not shown"


def _count(signs: Iterable[int], claimed: int) -> str:
    all_signs = list(signs)
    agree, against = all_signs.count(claimed), all_signs.count(-claimed)
    word = "yes" if agree == len(all_signs) else "no" if not agree else "in part"
    return f"{word}: {agree} of {len(all_signs)} shown" + (f", {against} the reverse" if against else "")


def _claims(cards: Cards, pairs: dict[str, PairComparison], folder: Path) -> str:
    rl = [pairs[name] for name in REINFORCED]
    grpo, sft = pairs["grpo"], pairs["sft"]
    rise = [_difference(pair, "pass@k", 1).sign for pair in rl]
    fall = [_difference(pair, "pass@k", 1024).sign for pair in rl]
    branching = [_difference(pair, "branching_factor").sign for pair in rl]
    diversity = [_difference(pair, "distinct_answers@k").sign for pair in rl]
    lost, gained = grpo.boundary.losses, grpo.boundary.gains
    moved = [_beyond_chance(pair) for pair in rl]
    early = _early_fall(cards)
    rft = _against("rft", [name for name in RFT if name != "rft"], folder)
    rows = [
        [
            "RL raises pass@1",
            f"GRPO {_points(_difference(grpo, 'pass@k', 1))} points",
            _count(rise, 1),
        ],
        [
            "and lowers pass@k at large k",
            f"GRPO at k = 1,024 {_points(_difference(grpo, 'pass@k', 1024))} points; {grpo.crossover.text}",
            _count(fall, -1),
        ],
        [
            "Unsolvable sets move rather than nest: RL loses some problems and gains others, each beyond what two runs of "
            "one model show",
            f"GRPO lost {_against_chance(lost)}, gained {_against_chance(gained)}",
            f"lost beyond chance: {sum(m[0] for m in moved)} of {len(moved)}; gained: {sum(m[1] for m in moved)}",
        ],
        [
            "RL narrows the branching factor",
            f"GRPO {_plain(_difference(grpo, 'branching_factor'), 2)} tokens",
            _count(branching, -1),
        ],
        [
            "and the diversity of answers",
            f"GRPO {_plain(_difference(grpo, 'distinct_answers@k'), 0)} distinct answers of 1,024",
            _count(diversity, -1),
        ],
        [
            "SFT widens: pass@k rises at large k too",
            f"sft at k = 1 {_points(_difference(sft, 'pass@k', 1))}, at k = 1,024 {_points(_difference(sft, 'pass@k', 1024))}"
            f" points; branching {_plain(_difference(sft, 'branching_factor'), 2)}",
            _verdict(_difference(sft, "pass@k", 1024).sign, 1),
        ],
        [
            "Early in RL the entropy of wrong rollouts falls faster than that of correct ones",
            f"GRPO up to step 20, length-matched: wrong less correct {_plain(early)} nats of fall",
            _verdict(early.sign, 1),
        ],
        *_token_claims(folder.parent),
        *_seed_claims(cards),
        *(
            [
                f"RFT by {what} keeps pass@k higher than plain RFT",
                f"against `rft` at k = 1 {_points(_difference(rft[name], 'pass@k', 1))}, at k = 256 "
                f"{_points(_difference(rft[name], 'pass@k', 256))}, at k = 1,024 "
                f"{_points(_difference(rft[name], 'pass@k', 1024))} points",
                _verdict(_difference(rft[name], "pass@k", 256).sign, 1) + " (k = 256)",
            ]
            for name, what in (
                ("rft-noise", "mixing in wrong rollouts"),
                ("rft-entropy", "entropy"),
                ("rft-rbf", "branching factor"),
                ("rft-noise-rbf", "noise and branching factor"),
            )
        ),
    ]
    return (
        "## Claims\n\nThe claims are those of arXiv 2504.13837, 2507.14843 and 2508.07534; whether a tiny model on a puzzle "
        "agrees says nothing about a large one on mathematics. The last column is decided by the intervals alone: not shown "
        "means that the interval holds zero.\n\n"
        + _rows(["claim", "here", "agrees"], rows)
        + "\n\n"
        + _lenient(cards, grpo)
    )


def _lenient(cards: Cards, grpo: PairComparison) -> str:
    """What a verifier that accepts one wrong rollout in a thousand would change."""
    counts = {entry.id: (entry.n, entry.c, 0) for entry in cards["base"].problems}
    explained = set(error_of_rates(counts, (LENIENT, 0.0), []).explained)
    lost = grpo.boundary.lost
    return (
        "The checker of the puzzle evaluates every answer exactly, so these claims hold no verifier's error. How much one "
        f"matters: a verifier that accepts {LENIENT:.1%} of the wrong rollouts solves {1 - (1 - LENIENT) ** 1024:.0%} of "
        f"all unsolvable problems in 1,024 rollouts, and of the {len(lost)} problems that GRPO lost, "
        f"{len(explained & set(lost))} would have no more correct rollouts of `base` than that explains."
    )


def _against_chance(size: NullSize) -> str:
    return f"{size.observed:.0f} (chance {size.expected:.1f} [{size.low:.0f}, {size.high:.0f}], p = {size.p_holm:.2g})"


def _beyond_chance(pair: PairComparison) -> tuple[bool, bool]:
    sizes = pair.boundary.losses, pair.boundary.gains
    lost, gained = (size is not None and size.p_holm is not None and size.p_holm < 0.05 for size in sizes)
    return lost, gained


def _early_fall(cards: Cards) -> Measure:
    """How much more the entropy of wrong rollouts fell than that of correct ones, base to step 20, length-matched.

    The two gaps are taken as independent; they share their problems, so the interval is rather too wide.
    """
    name = "wrong less correct, length-matched"
    before, after = (measure(cards[label], "token_entropy", group=name) for label in ("base", "grpo@20"))
    half = math.hypot((before.high - before.low) / 2, (after.high - after.low) / 2)
    value = before.value - after.value
    return Measure(value, value - half, value + half)


def _by_seed(cards: Cards, name: str, k: int) -> list[float]:
    """Mean pass@k of every training seed of a method."""
    return [measure(cards[label], "pass@k", k).value for label in (name, f"{name}-s1", f"{name}-s2")]


def _between(cards: Cards, name: str, k: int) -> Measure:
    """Method less GRPO over training seeds: Welch's t interval."""
    first, second = _by_seed(cards, name, k), _by_seed(cards, "grpo", k)
    interval = ttest_ind(first, second, equal_var=False).confidence_interval(0.95)
    return Measure(float(np.mean(first) - np.mean(second)), float(interval.low), float(interval.high))


def _seed_claims(cards: Cards) -> list[list[str]]:
    claims = (
        ("ppl-shaping", "Weighting rollouts of low perplexity helps pass@1", 1),
        ("position-shaping", "Weighting late tokens helps pass@1", 1),
        ("grpo-entropy", "An entropy bonus keeps pass@256 above plain GRPO", 256),
        ("clip-higher", "Clip-higher keeps pass@256 above plain GRPO", 256),
        ("kl-cov", "KL-Cov keeps pass@256 above plain GRPO", 256),
        ("pass-at-k", "Pass@k training keeps pass@256 above plain GRPO", 256),
        ("kl", "A reference KL keeps pass@256 above plain GRPO", 256),
    )
    rows = []
    for name, claim, k in claims:
        difference = _between(cards, name, k)
        shown = f"against GRPO, three training seeds each: {_points(difference)} points at k = {k}"
        rows.append([claim, shown, _verdict(difference.sign, 1)])
    return rows


def _methods(pairs: dict[str, PairComparison]) -> str:
    def row(name: str) -> list[str]:
        pair = pairs[name]
        changes = [_points(_difference(pair, "pass@k", k)) for k in (1, 256, 1024)]
        sizes = [_against_chance(size) if size else "-" for size in (pair.boundary.gains, pair.boundary.losses)]
        return [f"`{name}`", *changes, pair.crossover.text, *sizes]

    header = ["checkpoint", "pass@1", "pass@256", "pass@1024", "crossover", "gained at 1,024", "lost at 1,024"]
    return (
        "## Against base\n\nPaired differences in points. Gained and lost: problems that only this checkpoint, or only base, "
        "solves within 1,024 rollouts, beside what two runs of one model would show (p after Holm).\n\n"
        + _rows(header, [row(name) for name in pairs])
        + "\n\n![problems gained and lost](boundary.svg)"
    )


def _between_methods(cards: Cards) -> str:
    def row(name: str) -> list[str]:
        seeds = [" / ".join(f"{value:.1%}" for value in _by_seed(cards, name, k)) for k in (1, 256)]
        against = ["-", "-"] if name == "grpo" else [_points(_between(cards, name, k)) for k in (1, 256)]
        return [f"`{name}`", *seeds, *against]

    header = ["method", "pass@1 of three seeds", "pass@256 of three seeds", "less GRPO at 1", "less GRPO at 256"]
    return (
        "## Between RL methods, over training seeds\n\nThree seeds each; the last columns are differences of the means with "
        "Welch's 95 % interval over seeds, in points, not corrected for their number.\n\n"
        + _rows(header, map(row, REINFORCED))
    )


def _tiers(cards: Cards, names: Sequence[str]) -> str:
    def row(name: str) -> list[str]:
        cells = []
        for tier, k in itertools.product(("easy", "medium", "hard"), (1, 1024)):
            entries = [entry for entry in cards[name].problems if entry.tier == tier]
            share = [entry.c / entry.n if k == 1 else float(entry.c > 0) for entry in entries]
            cells.append(f"{np.mean(share):.1%}")
        return [f"`{name}`", *cells]

    header = [f"{tier}, k = {k:,}" for tier, k in itertools.product(("easy", "medium", "hard"), (1, 1024))]
    return "## By difficulty\n\npass@1 and pass@1,024 by tier: 60 easy, 120 medium, 120 hard problems.\n\n" + _rows(
        ["checkpoint", *header], map(row, names)
    )


def _reasons(names: Sequence[str]) -> str:
    measured = {name: read_card(shipped_folder(name)) for name in names}
    reasons = {name: card.measured.reasons for name, card in measured.items() if card.measured}
    if (guess := measured["base"].guess) is not None:
        reasons["guess"] = guess.reasons
    rows = [[f"`{name}`", *(f"{shares.get(reason, 0):.1%}" for reason in REASONS)] for name, shares in reasons.items()]
    return (
        "## Why rollouts fail\n\nShares of all rollouts. A fall of pass@k with more `illegal`, `arithmetic` or `format` is "
        "damage to the skill itself; one with fewer of them is lost exploration. `half`: one target made; `wrong`: neither; "
        "`unused`: ended early; `arithmetic`: a false sum; `illegal`: a number that is not there.\n\n"
        + _rows(["checkpoint", *REASONS], rows)
    )


def grpo_steps() -> list[tuple[int, str]]:
    return [(0, "base"), *((step, f"grpo@{step}") for step in list_steps("grpo")), (RECIPES["grpo"].steps, "grpo")]


def _series(cards: Cards) -> str:
    def row(step: int, label: str) -> list[str]:
        card = cards[label]
        passes = [_percent(measure(card, "pass@k", k)) for k in (1, 16, 256)]
        groups = (None, "correct, length-matched", "wrong, length-matched")
        entropy = [_plain(measure(card, "token_entropy", group=group)) for group in groups]
        return [str(step), *passes, *entropy, _plain(measure(card, "branching_factor"), 2)]

    header = ["step", "pass@1", "pass@16", "pass@256", "entropy", "of correct", "of wrong", "branching"]
    return (
        "## The steps of GRPO\n\nEntropy in nats per token; that of correct and wrong rollouts is length-matched.\n\n"
        + _rows(header, [row(step, label) for step, label in grpo_steps()])
        + "\n\n![entropy over training](entropy.svg)"
    )


@functools.cache
def _training(folder: Path) -> TrainingSeries:
    steps, labels = zip(*grpo_steps(), strict=True)
    return series([folder / f"{label}.json" for label in labels], steps)


def _stages(folder: Path) -> str:
    training = _training(folder)

    def row(fit: StageFit) -> list[str]:
        if fit.second_stage is None:
            return [f"{fit.metric} ({fit.scale})", "too few points", "-", "-"]
        knot = "-" if fit.knot is None else f"{fit.knot:.0f} [{fit.low:.0f}, {fit.high:.0f}]"
        return [f"{fit.metric} ({fit.scale})", "yes" if fit.second_stage else "no", knot, f"{fit.p_value:.2g}"]

    law = training.law
    law_text = "" if law is None else _law(law)
    return (
        "## Stages of GRPO\n\nOne line or two segments through the ten points above and base; two need to win by BIC and "
        "by a simulated test at 5 %.\n\n"
        + _rows(["metric", "second stage", "knot, step", "p"], map(row, training.stages))
        + law_text
    )


def _law(law: EntropyLaw) -> str:
    a, b, ceiling = (_plain(Measure(e.value, e.low, e.high)) for e in (law.a, law.b, law.ceiling))
    fit = "" if law.r_squared is None else f", R² = {law.r_squared:.2f}"
    ahead = ""
    if law.forecast is not None:
        ahead = (
            f" Fitted on the first third alone it foretells pass@1 of the rest with an error of {100 * law.forecast.rmse:.1f} "
            f"points (taking the last value seen: {100 * law.forecast.rmse_unchanged:.1f})."
        )
    return f"\n\nR = -a exp(H) + b (arXiv 2505.22617): a = {a}, b = {b}, ceiling {ceiling}{fit}.{ahead}"


def _forgotten(folder: Path) -> str:
    training = _training(folder)
    tested = [found for found in training.turnover if not any(_modelled(point) for point in found.checkpoints)]
    turnover = tested[-1]

    def row(point: CheckpointTurnover) -> list[str]:
        solved = _plain(_of(point.solved), 1)
        return [str(point.step), solved, *_beside(point.first), *_beside(point.forgotten), f"{point.never:.1f}"]

    header = ["step", "solved", "first solved", "by chance", "p", "forgotten", "by chance", "p", "never solved"]
    best = [
        [f"{found.k}", f"{found.step}", f"{found.value:.1%}", _percent(_of(found.fresh))]
        for found in training.best
        if found.k in KS
    ]
    last = turnover.checkpoints[-1]
    assert last.forgotten is not None
    return (
        f"## What GRPO forgot\n\nExpected numbers of the {training.n_problems} problems within k = {turnover.k} rollouts of "
        "each checkpoint. Forgotten: not solved by this checkpoint, but by an earlier one. By chance: the same if every "
        "earlier checkpoint had the solve rates of this one (p after Holm). Of the "
        f"{last.forgotten.number + last.never:.1f} problems that the last step leaves unsolved, GRPO once solved "
        f"{last.forgotten.number:.1f}; {_excess(last.forgotten)} of these are forgotten beyond chance. Some checkpoint "
        f"solves {turnover.union:.1f} problems, none more than "
        f"{max(point.share or 0.0 for point in turnover.checkpoints):.0%} of them.\n\n"
        + _rows(header, map(row, turnover.checkpoints))
        + "\n\nThe best checkpoint depends on the budget. Its own value is lucky; the fresh value comes from rollouts "
        "that did not choose it.\n\n" + _rows(["k", "best step", "pass@k", "fresh"], best)
    )


def _modelled(point: CheckpointTurnover) -> bool:
    return point.forgotten is not None and point.forgotten.modelled


def _beside(statement: BesideChance | None) -> list[str]:
    if statement is None or statement.by_chance is None or statement.p_holm is None:
        return ["-", "-", "-"]
    return [f"{statement.number:.1f}", f"{statement.by_chance:.1f}", f"{statement.p_holm:.2g}"]


def _excess(statement: BesideChance) -> str:
    return f"{statement.excess:.1f} [{statement.low:.1f}, {statement.high:.1f}]"


def _rescored(results: Path) -> Rescoring:
    return msgspec.json.decode((results / "rescore.json").read_bytes(), type=Rescoring)


def _within_reach(results: Path, cards: Cards) -> str:
    result = msgspec.json.decode((results / "reach.json").read_bytes(), type=Reach)
    n = result.drawers[0].rollouts // len(result.problems)
    splits = [x for x in result.solved_by_others if x.k > 1]
    solved = {x.id for x in result.problems if x.c[0] == 0 and x.c[1] > 0}
    later = sum(entry.id in solved and entry.c > 0 for entry in cards["base"].problems)
    far = next(x for x in splits if x.k == 10_000)
    return (
        f"## What `base` could solve\n\nOf {n} rollouts of `base` and as many of `grpo`, drawn for this, `grpo` solves "
        f"{len(solved)} problems that `base` does not. Solve rates of `base` from the rollouts of both "
        f"([how](../docs/measurements.md#solve-rates)): {far.within} of these {far.problems} are within reach of `base` at "
        "k = 10,000 (the low end of the interval gives pass@k of at least 1/2). The "
        f"{cards['base'].run.n:,} rollouts above solve {later} of them.\n\n"
        + _rows(
            ["k", "within reach", "probably", "unlikely", "beyond", "expected to be solved"],
            [
                [f"{x.k:,}", *map(str, (x.within, x.probably, x.unlikely, x.beyond)), f"{x.expected:.1f}"]
                for x in splits
            ],
        )
    )


def _moved(results: Path) -> str:
    rescoring = _rescored(results)
    named = {e.name: Measure(e.value, e.low, e.high) for e in rescoring.estimates if e.group is None}
    rows = [
        [
            stratum.by,
            stratum.bin,
            _percent(_of(stratum.share)),
            _percent(_of(stratum.moved)),
            _percent(_of(stratum.share_of_moves)),
        ]
        for stratum in rescoring.strata
        if stratum.group == "all"
    ]
    return (
        f"## Where probability moved\n\nRollouts of `grpo` ({rescoring.n_rollouts:,}), read by `base`: exact KL from base "
        f"{_plain(named['kl'])} nats a token; {_percent(named['moved_share'])} of the tokens changed their probability by "
        f"more than {rescoring.threshold:g}. Deciles of entropy and perplexity are those under `grpo`.\n\n"
        + _rows(["by", "class", "tokens", "of them moved", "share of all moves"], rows)
    )


def _of(estimate: Estimate) -> Measure:
    if estimate.value is None:
        return Measure(math.nan, math.nan, math.nan)
    return Measure(estimate.value, estimate.low or 0.0, estimate.high or 0.0)


def _interventions(results: Path) -> Interventions:
    return msgspec.json.decode((results / "interventions.json").read_bytes(), type=Interventions)


def _swapped(results: Path) -> str:
    interventions = _interventions(results)

    def row(effect: Effect) -> list[str]:
        where = ", ".join(f"{name} {level}" for name, level in effect.levels.items()) or "all tokens"
        change = _points(Measure(effect.effect, effect.low, effect.high))
        p = "-" if effect.p_holm is None else f"{effect.p_holm:.2g}"
        return [where, str(effect.n_sites), f"{effect.kept:.1%}", f"{effect.swapped:.1%}", change, p]

    header = ["tokens", "swapped", "accuracy kept", "accuracy swapped", "effect, points", "p (Holm)"]
    return (
        "## Which tokens decide\n\nIn rollouts of `grpo` a token is replaced by the second most likely one, or kept, and the "
        f"model goes on, {interventions.design.repeats} times each. Perplexity: of the rollout.\n\n"
        + _rows(header, map(row, interventions.effects))
    )


def _token_claims(results: Path) -> list[list[str]]:
    strata = {(s.by, s.bin): s for s in _rescored(results).strata if s.group == "all"}
    top = [_of(strata["entropy", f"{tenth} of 10"].share_of_moves) for tenth in (9, 10)]
    share = Measure(sum(m.value for m in top), sum(m.low for m in top), sum(m.high for m in top))
    single = [e for e in _interventions(results).effects if len(e.levels) == 1]
    effects = {next(iter(e.levels.items())): Measure(e.effect, e.low, e.high) for e in single}
    gap = _gap(effects["position", "early"], effects["position", "late"])
    robust = _gap(effects["perplexity", "low"], effects["perplexity", "high"])
    return [
        [
            "RL moves high-entropy tokens (2506.01939): the fifth with the highest entropy holds most of the moves",
            f"{_percent(share)} of all moves, in 20 % of the tokens",
            _verdict(Measure(share.value - 0.5, share.low - 0.5, share.high - 0.5).sign, 1),
        ],
        [
            "Replacing an early token hurts more than a late one (2508.02260)",
            f"early less late {_points(gap)} points of accuracy",
            _verdict(gap.sign, -1),
        ],
        [
            "Rollouts of low perplexity are more robust to it (2508.02260)",
            f"low less high perplexity {_points(robust)} points",
            _verdict(robust.sign, 1),
        ],
    ]


def _gap(first: Measure, second: Measure) -> Measure:
    """First less second, taken as independent."""
    half = math.hypot((first.high - first.low) / 2, (second.high - second.low) / 2)
    return Measure(first.value - second.value, first.value - second.value - half, first.value - second.value + half)


def _cost(names: Sequence[str]) -> str:
    trainings = {name: read_card(shipped_folder(name)).training for name in names}
    rows = [[f"`{name}`", f"{t.cpu_s / 60:.1f}", f"{t.peak_memory_bytes / 2**20:.0f}"] for name, t in trainings.items()]
    total = sum(t.cpu_s for t in trainings.values()) / 60
    return f"## Cost\n\nOne thread each, one seed: {total:.0f} CPU-minutes for the whole zoo.\n\n" + _rows(
        ["checkpoint", "CPU-minutes", "peak memory, MiB"], rows
    )


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit((RESULTS / "README.md").read_text() != _page(RESULTS, read_cards(RESULTS), against_base(RESULTS)))
    write_page(RESULTS)
