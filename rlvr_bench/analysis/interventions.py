"""Interventions: swap one token of a response, let the model continue, and measure the effect on the answer.

arXiv 2508.02260 replaces tokens of low- and high-perplexity responses, early and late, and lets the model continue. It does
not state the new token, the number of continuations, and what an effect is compared with. Our choices are in the
docstrings below, and versioned as ``PROTOCOL``.

S sites; a site is one token of one stored response.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from rlvr_bench import stats
from rlvr_bench.analysis.intervention_results import Effect
from rlvr_bench.errors import RunError
from rlvr_bench.options import LEVELS, Swap, levels_of
from rlvr_bench.samplers.protocol import NextTokens
from rlvr_bench.samplers.seeds import draw_seed
from rlvr_bench.store.run import TOKEN_COLUMNS, Run

__all__ = [
    "PROTOCOL",
    "Effect",
    "Site",
    "Source",
    "alternative",
    "choose_sites",
    "digest",
    "effects",
    "levels_of",
    "read_sources",
]

PROTOCOL = "1"
HIGH_ENTROPY_SHARE = 0.2  # "forking" tokens are the fifth with the highest entropy (arXiv 2506.01939)
NUCLEUS = 0.95
CANDIDATES = 18  # next tokens considered: as many as every engine returns
_SEED = 20250802
_COLUMNS = ["problem_id", "index", "finish_reason", *TOKEN_COLUMNS]


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """A stored response whose tokens may be swapped. Arrays have one value per token, (T,)."""

    problem_id: str
    index: int
    ended: bool
    ids: npt.NDArray[np.int32]
    logprob: npt.NDArray[np.float64]
    entropy: npt.NDArray[np.float64]
    nucleus: npt.NDArray[np.int32]

    @property
    def perplexity(self) -> float:
        """Instance perplexity: the exponential of minus the mean log-probability of its tokens."""
        return float(np.exp(-self.logprob.mean()))


class Site(msgspec.Struct, frozen=True, kw_only=True):
    """One token to swap: token ``token`` (from 0) of rollout ``index``, with ``prefix`` before it.

    ``levels``: its stratum. ``swapped`` is None before an alternative is looked up, and where there is none.
    Log-probabilities are the model's at temperature 1.
    """

    problem_id: str
    index: int
    token: int
    n_tokens: int
    levels: dict[str, str]
    entropy: float
    perplexity: float
    prefix: tuple[int, ...]
    kept: int
    kept_logprob: float
    swapped: int | None = None
    swapped_logprob: float | None = None

    def stream(self, seed: int) -> int:
        """Seed of the site's random stream. Both arms use it, so that swapping a token for itself has no effect."""
        return draw_seed(seed, f"intervention/{self.index}", self.problem_id, self.token)


def read_sources(run: Run, most: int) -> list[Source]:
    """The first ``most`` responses of each problem that have tokens, by problem and index.

    The first ones in submission order are an unbiased sample; under a stopping rule only the first draw batch is.
    Raises RunError where the run has no token ids.
    """
    if run.manifest.token_stats != "full":
        raise RunError(
            f"{run.path}: holds no token ids, and interventions change single tokens. "
            "Sample it with --token-stats full (in another --out folder)."
        )
    if run.manifest.tools is not None:
        raise RunError(
            f"{run.path}: drawn with tools, whose output is not among its tokens; take a run without --tools"
        )
    if run.manifest.stopping is not None:
        most = min(most, run.manifest.stopping.batch)
    order = {problem.id: number for number, problem in enumerate(run.problems())}
    sources = []
    for table in run.rollouts.read(_COLUMNS):
        kept = table.filter(pc.less(table["index"], most))
        sources += [_source(row) for row in kept.to_pylist() if row["problem_id"] in order and row["token_ids"]]
    if not sources:
        raise RunError(f"{run.path}: no response with token ids in it")
    return sorted(sources, key=lambda source: (order[source.problem_id], source.index))


def _source(row: dict[str, Any]) -> Source:
    ids, logprob, entropy, nucleus = (row[name] for name in TOKEN_COLUMNS)
    return Source(
        problem_id=row["problem_id"],
        index=row["index"],
        ended=row["finish_reason"] == "stop",
        ids=np.array(ids, dtype=np.int32),
        logprob=np.array(logprob, dtype=np.float64),
        entropy=np.array(entropy, dtype=np.float64),
        nucleus=np.array(nucleus, dtype=np.int32),
    )


def digest(sources: Sequence[Source]) -> str:
    """SHA-256 (hex) of the responses that the sites are chosen from."""
    whole = hashlib.sha256()
    for source in sources:
        whole.update(f"{source.problem_id}\0{source.index}\0".encode() + source.ids.tobytes())
    return whole.hexdigest()


def choose_sites(
    sources: Sequence[Source], strata: Sequence[str], per_stratum: int, *, max_tokens: int, swap: Swap, seed: int = 0
) -> list[Site]:
    """Up to ``per_stratum`` sites of each stratum, drawn at random and spread evenly over problems.

    A token has high entropy if it is in the fifth of all tokens with the highest entropy, which is above 0; else low. A
    response has high perplexity if it is above the median of the responses, else low. Early, middle and late are thirds of
    the response's length. End tokens are not swapped: that would measure length. A token is left out where the response
    would have no tokens left after it, and for ``nucleus`` where its 0.95 nucleus has no other token. Strata do not overlap.
    """
    flat = _flatten(sources)
    marks = _mark_levels(flat, sources)
    room = flat["token"] + 1 < max_tokens
    usable = room & ~flat["end"] & ((flat["nucleus"] > 1) if swap == "nucleus" else True)
    rng = np.random.default_rng([_SEED, seed])
    sites = []
    for levels in levels_of(strata):
        fits = usable.copy()
        for name, level in levels.items():
            fits &= marks[name] == LEVELS[name].index(level)
        for row in _spread(np.flatnonzero(fits), flat["problem"], per_stratum, rng):
            sites.append(_site(sources[flat["source"][row]], int(flat["token"][row]), levels))
    return sites


def _flatten(sources: Sequence[Source]) -> dict[str, npt.NDArray[Any]]:
    """Columns over all tokens of all sources."""
    lengths = np.array([len(source.ids) for source in sources])
    names = {source.problem_id: 0 for source in sources}
    numbers = {name: number for number, name in enumerate(names)}
    token = np.concatenate([np.arange(length) for length in lengths])
    source = np.repeat(np.arange(len(sources)), lengths)
    ended = np.array([source.ended for source in sources])
    return {
        "source": source,
        "token": token,
        "position": token / lengths[source],
        "end": ended[source] & (token == lengths[source] - 1),
        "problem": np.array([numbers[source.problem_id] for source in sources])[source],
        "entropy": np.concatenate([source.entropy for source in sources]),
        "nucleus": np.concatenate([source.nucleus for source in sources]),
    }


def _mark_levels(flat: Mapping[str, npt.NDArray[Any]], sources: Sequence[Source]) -> dict[str, npt.NDArray[np.int64]]:
    """The level of each token by factor, as its number in LEVELS."""
    entropy = flat["entropy"]
    forking = (entropy >= np.quantile(entropy, 1 - HIGH_ENTROPY_SHARE)) & (entropy > 0)
    perplexity = np.array([source.perplexity for source in sources])
    unsure = (perplexity > np.median(perplexity))[flat["source"]]
    return {
        "entropy": np.where(forking, 0, 1),
        "perplexity": np.where(unsure, 0, 1),
        "position": np.floor(3 * flat["position"]).astype(np.int64),
    }


def _spread(
    rows: npt.NDArray[np.int64], problem: npt.NDArray[np.int64], most: int, rng: np.random.Generator
) -> list[int]:
    """Up to ``most`` of the rows, at random; the first of every problem comes before the second of any."""
    shuffled = rng.permutation(rows)
    order = np.argsort(problem[shuffled], kind="stable")
    first = np.r_[0, np.flatnonzero(np.diff(problem[shuffled][order])) + 1]
    rank = np.arange(len(order)) - np.repeat(first, np.diff(np.r_[first, len(order)])) if len(order) else order
    turn = np.empty_like(order)
    turn[order] = rank
    return [int(row) for row in shuffled[np.argsort(turn, kind="stable")][:most]]


def _site(source: Source, token: int, levels: dict[str, str]) -> Site:
    return Site(
        problem_id=source.problem_id,
        index=source.index,
        token=token,
        n_tokens=len(source.ids),
        levels=levels,
        entropy=float(source.entropy[token]),
        perplexity=source.perplexity,
        prefix=tuple(source.ids[:token].tolist()),
        kept=int(source.ids[token]),
        kept_logprob=float(source.logprob[token]),
    )


def alternative(site: Site, likely: NextTokens, swap: Swap, seed: int = 0) -> Site:
    """The site with its new token.

    ``second``: the likeliest token other than the original (the second most likely one where the original was the most
    likely). ``nucleus``: drawn from the model's 0.95 nucleus without the original, within the 18 likeliest tokens.
    ``same``: the original token, a check that must show no effect. Without an alternative ``swapped`` stays None.
    """
    others = [(i, p) for i, p in zip(likely.ids, likely.logprobs, strict=True) if i != site.kept]
    if swap == "same":
        chosen: tuple[int, float] | None = (site.kept, site.kept_logprob)
    elif swap == "second":
        chosen = others[0] if others else None
    else:
        chosen = _from_nucleus(site, likely, seed)
    if chosen is None:
        return site
    return msgspec.structs.replace(site, swapped=chosen[0], swapped_logprob=chosen[1])


def _from_nucleus(site: Site, likely: NextTokens, seed: int) -> tuple[int, float] | None:
    probabilities = np.exp(np.array(likely.logprobs))
    inside = np.cumsum(probabilities) - probabilities < NUCLEUS
    others = np.flatnonzero(inside & (np.array(likely.ids) != site.kept))
    if not len(others):
        return None
    rng = np.random.default_rng(site.stream(seed))
    pick = int(rng.choice(others, p=probabilities[others] / probabilities[others].sum()))
    return likely.ids[pick], likely.logprobs[pick]


def effects(
    sites: Sequence[Site], kept: npt.NDArray[np.float64], swapped: npt.NDArray[np.float64], strata: Sequence[str]
) -> list[Effect]:
    """Effects of all sites together, of each level of each factor, and of each stratum.

    ``kept`` and ``swapped`` (S,) are the shares of correct continuations with the original and with the new token. A site
    with NaN, where no continuation was decided, is left out. Sites count equally. An effect is the mean of swapped - kept;
    its interval resamples problems.
    """
    finest = levels_of(strata)
    coarse = [{name: level} for name in strata for level in LEVELS[name]] if len(strata) > 1 else []
    rows = [_effect(levels, sites, kept, swapped) for levels in ({}, *coarse, *finest)]
    cells = rows[-len(finest) :]
    p_values = np.array([np.nan if cell.p_value is None else cell.p_value for cell in cells])
    corrected = [None if np.isnan(p) else float(p) for p in stats.holm(p_values)]
    cells = [msgspec.structs.replace(cell, p_holm=p) for cell, p in zip(cells, corrected, strict=True)]
    return [*rows[: -len(finest)], *cells]


def _effect(
    levels: dict[str, str], sites: Sequence[Site], kept: npt.NDArray[np.float64], swapped: npt.NDArray[np.float64]
) -> Effect:
    inside = np.array([levels.items() <= site.levels.items() for site in sites], dtype=bool)
    inside &= ~np.isnan(kept) & ~np.isnan(swapped)
    chosen = [site for site, is_in in zip(sites, inside, strict=True) if is_in]
    problems = np.array([site.problem_id for site in chosen])
    empty = Effect(levels=levels, n_sites=len(chosen), n_problems=len(set(problems.tolist())))
    if not chosen:
        return empty
    rng = np.random.default_rng(_SEED)
    paired = stats.paired_bootstrap_mean(swapped[inside][:, None], kept[inside][:, None], rng=rng, clusters=problems)
    interval = paired.difference
    return msgspec.structs.replace(
        empty,
        kept=float(kept[inside].mean()),
        swapped=float(swapped[inside].mean()),
        effect=float(interval.value[0]),
        low=float(interval.low[0]),
        high=float(interval.high[0]),
        p_value=float(paired.p_value[0]),
        kept_probability=float(np.mean([np.exp(site.kept_logprob) for site in chosen])),
        swapped_probability=float(np.mean([np.exp(site.swapped_logprob or 0.0) for site in chosen])),
    )
