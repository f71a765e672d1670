"""Checks of arguments, shared by every formula of this package.

A bad argument raises ``BadArgument`` (a ``ValueError``) that names the argument, its value and what is allowed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from rlvr_bench.errors import BadArgument

if TYPE_CHECKING:
    import numpy.typing as npt
    from jaxtyping import Float64, Int64

__all__ = [
    "check_answer_counts",
    "check_budgets",
    "check_count",
    "check_counts",
    "check_fractions",
    "check_mask",
    "check_prior",
    "check_probability",
    "check_table",
    "check_values",
]

LARGEST_COUNT = 2**31 - 1  # n * (n + 1) of a distinct (n, c) pair must fit in 64 bits


def check_counts(
    n_correct: npt.ArrayLike, n_samples: npt.ArrayLike
) -> tuple[Int64[np.ndarray, " P"], Int64[np.ndarray, " P"]]:
    """Correct and drawn rollouts per problem as two (P,) integer arrays; ``n_samples`` may be one number."""
    c = _integers("n_correct", n_correct, lowest=0)
    n = _integers("n_samples", n_samples, lowest=0)
    if np.ndim(n_samples) == 0:
        n = np.full_like(c, n[0])
    if c.shape != n.shape:
        raise BadArgument("n_samples", n.shape, f"must have the shape of n_correct, {c.shape}, or be one number")
    too_many = np.flatnonzero(c > n)
    if too_many.size:
        i = int(too_many[0])
        allowed = f"must be at most n_samples, which is {int(n[i])} for problem {i}"
        raise BadArgument("n_correct", int(c[i]), allowed)
    return c, n


def check_budgets(ks: npt.ArrayLike, name: str = "ks") -> Int64[np.ndarray, " K"]:
    """Budgets as a (K,) array of integers of at least 1; a single number is one budget."""
    return _integers(name, ks, lowest=1)


def check_fractions(name: str, values: npt.ArrayLike) -> Float64[np.ndarray, " T"]:
    """Numbers in (0, 1] as a (T,) array; a single number is an array of one."""
    array = _one_axis(name, values, np.float64)
    bad = array[~((array > 0) & (array <= 1))]
    if bad.size:
        raise BadArgument(name, float(bad[0]), "must be in (0, 1]")
    return array


def check_probability(name: str, value: float) -> float:
    """A probability strictly between 0 and 1, such as a confidence level."""
    if not 0 < value < 1:
        raise BadArgument(name, value, "must lie strictly between 0 and 1")
    return float(value)


def check_count(name: str, value: int, lowest: int = 1) -> int:
    """A whole number of at least ``lowest``."""
    if isinstance(value, bool) or not float(value).is_integer() or value < lowest:
        raise BadArgument(name, value, f"must be a whole number of at least {lowest}")
    return int(value)


def check_values(name: str, values: npt.ArrayLike, shape: tuple[int, ...] | None = None) -> Float64[np.ndarray, " P"]:
    """Real numbers as a one-axis array, NaN allowed, infinity not; of the given ``shape``, if any."""
    array = _one_axis(name, values, np.float64)
    if np.isinf(array).any():
        raise BadArgument(name, float(array[np.isinf(array)][0]), "must be finite or NaN")
    if shape is not None and array.shape != shape:
        raise BadArgument(name, array.shape, f"must have shape {shape}")
    return array


def check_table(name: str, values: npt.ArrayLike) -> Float64[np.ndarray, "P K"]:
    """Per-problem values for several budgets as a (P, K) array; one axis is read as K = 1; NaN means undefined."""
    array = np.asarray(values, dtype=np.float64)
    array = array[:, None] if array.ndim == 1 else array
    if array.ndim != 2 or array.shape[0] == 0 or array.shape[1] == 0:
        raise BadArgument(name, np.shape(values), "must have shape (P,) or (P, K), neither of them 0")
    if np.isinf(array).any():
        raise BadArgument(name, float(array[np.isinf(array)][0]), "must be finite or NaN")
    return array


def check_mask(name: str, values: npt.ArrayLike, shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    """True/False values of a given shape."""
    array = np.asarray(values)
    if array.shape != shape:
        raise BadArgument(name, array.shape, f"must have shape {shape}")
    if not np.isin(array, (0, 1)).all():
        raise BadArgument(name, array[~np.isin(array, (0, 1))][0].item(), "must hold only True and False")
    return array.astype(bool)


def check_prior(prior: tuple[float, float]) -> tuple[float, float]:
    """The two parameters of a Beta prior, both positive and finite."""
    if len(prior) != 2 or not all(0 < value < float("inf") for value in prior):
        raise BadArgument("prior", prior, "must be two positive numbers, (alpha, beta)")
    return float(prior[0]), float(prior[1])


def check_answer_counts(answer_counts: npt.ArrayLike) -> Int64[np.ndarray, "P A"]:
    """How often each distinct answer of a problem was given, (P, A); one axis is one problem."""
    table = np.atleast_2d(np.asarray(answer_counts))
    if table.ndim != 2 or 0 in table.shape:
        raise BadArgument("answer_counts", table.shape, "must have shape (P, A), neither of them 0")
    return _integers("answer_counts", table.ravel(), lowest=0).reshape(table.shape)


def _one_axis(name: str, values: npt.ArrayLike, dtype: Any) -> npt.NDArray[Any]:
    try:
        array = np.atleast_1d(np.asarray(values, dtype=dtype))
    except (TypeError, ValueError):
        raise BadArgument(name, values, "must be numbers along one axis") from None
    if array.ndim != 1:
        raise BadArgument(name, array.shape, "must have one axis")
    if array.size == 0:
        raise BadArgument(name, [], "must hold at least one value")
    return array


def _integers(name: str, values: npt.ArrayLike, lowest: int) -> Int64[np.ndarray, " P"]:
    array = np.asarray(values)
    if array.dtype.kind not in "iu":
        array = _one_axis(name, values, np.float64)
    array = _one_axis(name, array, None)
    allowed = f"must be a whole number of at least {lowest}"
    bad = array[~((array >= lowest) & (array <= LARGEST_COUNT) & (array == np.floor(array)))]
    if bad.size:
        raise BadArgument(name, bad[0].item(), allowed)
    return array.astype(np.int64)
