"""Interventions: swap one token of a response, let the model go on, and see what becomes of the answer.

After arXiv 2508.02260, which replaces tokens of low- and high-perplexity responses, early and late, and lets the model
continue. It leaves open which token comes in, how often the model goes on, and what an effect is compared with. What we
chose is written at each function below and versioned as ``PROTOCOL``.

S sites, a site being one token of one stored response.
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
from rlvr_bench.store.run import Run

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
CANDIDATES = 18  # next tokens looked at: as many as every engine tells
_SEED = 20250802
_COLUMNS = ["problem_id", "index", "finish_reason", "token_ids", "token_logprob", "token_entropy", "token_nucleus"]


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """A stored response whose tokens may be swapped; per-token arrays of shape (T,)."""

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

    ``levels`` says which stratum it stands for; ``swapped`` is None until an alternative was looked up, and where there
    is none. Log-probabilities are the model's own, at temperature 1.
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
        """The site's own random stream; both arms draw from it, so that a token swapped for itself changes nothing."""
        return draw_seed(seed, f"intervention/{self.index}", self.problem_id, self.token)


def read_sources(run: Run, most: int) -> list[Source]:
    """The first ``most`` responses of each problem that have tokens, by problem and index.

    The first in submission order are a sample that nothing selected; under a stopping rule only the first draw batch is.
    Raises RunError where the run holds no token ids.
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
    known = {problem.id: place for place, problem in enumerate(run.problems())}
    found = []
    for table in run.rollouts.read(_COLUMNS):
        kept = table.filter(pc.less(table["index"], most))
        found += [_source(row) for row in kept.to_pylist() if row["problem_id"] in known and row["token_ids"]]
    if not found:
        raise RunError(f"{run.path}: no response with token ids in it")
    return sorted(found, key=lambda source: (known[source.problem_id], source.index))


def _source(row: dict[str, Any]) -> Source:
    return Source(
        problem_id=row["problem_id"],
        index=row["index"],
        ended=row["finish_reason"] == "stop",
        ids=np.array(row["token_ids"], dtype=np.int32),
        logprob=np.array(row["token_logprob"], dtype=np.float64),
        entropy=np.array(row["token_entropy"], dtype=np.float64),
        nucleus=np.array(row["token_nucleus"], dtype=np.int32),
    )


def digest(sources: Sequence[Source]) -> str:
    """SHA-256 of the responses the sites are chosen from."""
    whole = hashlib.sha256()
    for source in sources:
        whole.update(f"{source.problem_id}\0{source.index}\0".encode() + source.ids.tobytes())
    return whole.hexdigest()


def choose_sites(
    sources: Sequence[Source], strata: Sequence[str], per_stratum: int, *, max_tokens: int, swap: Swap, seed: int = 0
) -> list[Site]:
    """Up to ``per_stratum`` sites of each stratum, drawn at random and spread evenly over problems.

    A token is of high entropy if it is among the fifth of all these tokens with the highest (and not certain), else low;
    a response of high perplexity if it lies above the median of these responses, else low; early, middle and late are
    thirds of the response's own length. End tokens are never swapped: that would measure length. A token whose response
    would have no room left is left out, for ``nucleus`` also one whose 0.95 nucleus holds no other. A token may stand for
    one stratum only, since strata do not overlap.
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
        for place in _spread(np.flatnonzero(fits), flat["problem"], per_stratum, rng):
            sites.append(_site(sources[flat["source"][place]], int(flat["token"][place]), levels))
    return sites


def _flatten(sources: Sequence[Source]) -> dict[str, npt.NDArray[Any]]:
    """All tokens of all sources, one after the other."""
    lengths = np.array([len(source.ids) for source in sources])
    names = {source.problem_id: 0 for source in sources}
    numbers = {name: number for number, name in enumerate(names)}
    token = np.concatenate([np.arange(length) for length in lengths])
    source = np.repeat(np.arange(len(sources)), lengths)
    ended = np.array([source.ended for source in sources])
    return {
        "source": source,
        "token": token,
        "place": token / lengths[source],
        "end": ended[source] & (token == lengths[source] - 1),
        "problem": np.array([numbers[source.problem_id] for source in sources])[source],
        "entropy": np.concatenate([source.entropy for source in sources]),
        "nucleus": np.concatenate([source.nucleus for source in sources]),
    }


def _mark_levels(flat: Mapping[str, npt.NDArray[Any]], sources: Sequence[Source]) -> dict[str, npt.NDArray[np.int64]]:
    """Each token's level of every factor, as its place in LEVELS."""
    entropy = flat["entropy"]
    forking = (entropy >= np.quantile(entropy, 1 - HIGH_ENTROPY_SHARE)) & (entropy > 0)
    perplexity = np.array([source.perplexity for source in sources])
    unsure = (perplexity > np.median(perplexity))[flat["source"]]
    return {
        "entropy": np.where(forking, 0, 1),
        "perplexity": np.where(unsure, 0, 1),
        "position": np.floor(3 * flat["place"]).astype(np.int64),
    }


def _spread(
    places: npt.NDArray[np.int64], problem: npt.NDArray[np.int64], most: int, rng: np.random.Generator
) -> list[int]:
    """Up to ``most`` of the candidates, at random: a second of any problem comes after the first of all."""
    shuffled = rng.permutation(places)
    order = np.argsort(problem[shuffled], kind="stable")
    first = np.r_[0, np.flatnonzero(np.diff(problem[shuffled][order])) + 1]
    rank = np.arange(len(order)) - np.repeat(first, np.diff(np.r_[first, len(order)])) if len(order) else order
    turn = np.empty_like(order)
    turn[order] = rank
    return [int(place) for place in shuffled[np.argsort(turn, kind="stable")][:most]]


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
    """The site with the token that comes in.

    ``second``: the likeliest token other than the one that stood there (so the second most likely where that one was the
    most likely). ``nucleus``: drawn from the model's 0.95 nucleus without the original, as far as the 18 likeliest tokens
    reach. ``same``: the token itself, a check that must show no effect. Without an alternative ``swapped`` stays None.
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

    ``kept`` and ``swapped`` (S,) are the shares of correct continuations with the original and with the other token, NaN
    where none could be decided: such a site is left out. Sites count equally. An effect is the mean of swapped - kept;
    its interval resamples problems.
    """
    finest = levels_of(strata)
    coarse = [{name: level} for name in strata for level in LEVELS[name]] if len(strata) > 1 else []
    found = [_effect(levels, sites, kept, swapped) for levels in ({}, *coarse, *finest)]
    cells = found[-len(finest) :]
    p_values = np.array([np.nan if cell.p_value is None else cell.p_value for cell in cells])
    corrected = [None if np.isnan(p) else float(p) for p in stats.holm(p_values)]
    cells = [msgspec.structs.replace(cell, p_holm=p) for cell, p in zip(cells, corrected, strict=True)]
    return [*found[: -len(finest)], *cells]


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
    found = stats.paired_bootstrap_mean(swapped[inside][:, None], kept[inside][:, None], rng=rng, clusters=problems)
    interval = found.difference
    return msgspec.structs.replace(
        empty,
        kept=float(kept[inside].mean()),
        swapped=float(swapped[inside].mean()),
        effect=float(interval.value[0]),
        low=float(interval.low[0]),
        high=float(interval.high[0]),
        p_value=float(found.p_value[0]),
        kept_probability=float(np.mean([np.exp(site.kept_logprob) for site in chosen])),
        swapped_probability=float(np.mean([np.exp(site.swapped_logprob or 0.0) for site in chosen])),
    )
