"""Maximum likelihood for models of two or three parameters: damped Newton steps with numerical derivatives.

For such small likelihoods a general optimiser spends most of its time on overhead, and it is slow to import. D
parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt
    from jaxtyping import Float64

__all__ = ["minimise", "slopes"]

STEP = 1e-4  # of central differences; parameters are logarithms or logits, so their scale is 1
LONGEST = 2.0  # the longest step: a factor of e^2 in a parameter
FLAT = 1e-10


def minimise(
    loss: Callable[[npt.NDArray[np.float64]], float],
    start: Float64[np.ndarray, " D"],
    bounds: list[tuple[float, float]],
) -> Float64[np.ndarray, " D"]:
    """Parameters (D,) that minimise the loss within the bounds, from a start within them."""
    low, high = np.array(bounds, dtype=np.float64).T
    at, value = np.clip(start, low, high), loss(start)
    for _ in range(200):
        gradient, curvature = _derivatives(loss, at)
        free = ~(((at <= low) & (gradient > 0)) | ((at >= high) & (gradient < 0)))  # the others stay on their bound
        move = np.zeros_like(at)
        move[free] = _newton_step(gradient[free], curvature[np.ix_(free, free)])
        at, previous = _line_search(loss, at, move, (low, high)), at
        value, before = loss(at), value
        if before - value <= FLAT * FLAT or np.abs(at - previous).max() < FLAT:
            break
    return at


def slopes(
    function: Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]], at: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Central differences of a scalar or array function, with the parameters along a new last axis."""
    moves = STEP * np.eye(at.size)
    return np.stack([(function(at + move) - function(at - move)) / (2 * STEP) for move in moves], axis=-1)


def _derivatives(
    loss: Callable[[npt.NDArray[np.float64]], float], at: Float64[np.ndarray, " D"]
) -> tuple[Float64[np.ndarray, " D"], Float64[np.ndarray, "D D"]]:
    def array_loss(t: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.asarray(loss(t))

    return slopes(array_loss, at), slopes(lambda t: slopes(array_loss, t), at)


def _newton_step(
    gradient: Float64[np.ndarray, " F"], curvature: Float64[np.ndarray, "F F"]
) -> Float64[np.ndarray, " F"]:
    """Newton's step with the Hessian made positive definite, of length LONGEST at most."""
    value, vector = np.linalg.eigh((curvature + curvature.T) / 2)
    step = -vector @ ((vector.T @ gradient) / np.maximum(np.abs(value), 1e-6))
    return np.asarray(step * min(1.0, LONGEST / max(float(np.linalg.norm(step)), 1e-300)))


def _line_search(
    loss: Callable[[npt.NDArray[np.float64]], float],
    at: Float64[np.ndarray, " D"],
    move: Float64[np.ndarray, " D"],
    limits: tuple[Float64[np.ndarray, " D"], Float64[np.ndarray, " D"]],
) -> Float64[np.ndarray, " D"]:
    """The parameters after the longest of the steps 1, 1/2, 1/4, ... that lowers the loss; unchanged if none does."""
    value = loss(at)
    for halvings in range(30):
        candidate = np.clip(at + move / 2**halvings, *limits)
        if loss(candidate) < value:
            return np.asarray(candidate)
    return at
