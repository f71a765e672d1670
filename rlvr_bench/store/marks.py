"""A value for each rollout index of a problem. Memory grows with the number of indices, not with the largest index."""

from __future__ import annotations

from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

__all__ = ["Drawn", "Marks"]

T = TypeVar("T", bound=np.generic)

_PAGE = 256  # indices in a page; a single index costs one page


class Marks(Generic[T]):
    """Values by index, zero where none was set. Files from other people may have a single index in the millions."""

    def __init__(self, dtype: type[T]) -> None:
        self._dtype = dtype
        self._pages: dict[int, npt.NDArray[T]] = {}

    def set(self, indices: npt.NDArray[np.integer], values: npt.NDArray[T] | T) -> None:
        """Set the values, one number or (m,), at these indices (m,)."""
        values = np.broadcast_to(np.asarray(values, dtype=self._dtype), indices.shape)
        pages = indices // _PAGE
        for number in np.unique(pages).tolist():
            chosen = pages == number
            self._page(number)[indices[chosen] % _PAGE] = values[chosen]

    def put(self, index: int, value: T) -> None:
        """Set one value."""
        self._page(index // _PAGE)[index % _PAGE] = value

    def at(self, index: int) -> T:
        """The value at one index."""
        page = self._pages.get(index // _PAGE)
        return self._dtype() if page is None else page[index % _PAGE]

    def between(self, start: int, stop: int) -> npt.NDArray[T]:
        """The values at ``start`` to ``stop - 1``, as one array."""
        values = np.zeros(max(0, stop - start), dtype=self._dtype)
        for number in range(start // _PAGE, -(-stop // _PAGE)):
            if (page := self._pages.get(number)) is not None:
                low, high = max(start, number * _PAGE), min(stop, (number + 1) * _PAGE)
                values[low - start : high - start] = page[low - number * _PAGE : high - number * _PAGE]
        return values

    def _page(self, number: int) -> npt.NDArray[T]:
        page = self._pages.get(number)
        if page is None:
            page = self._pages[number] = np.zeros(_PAGE, dtype=self._dtype)
        return page


class Drawn(Marks[np.bool_]):
    """The rollout indices of a problem that exist."""

    def __init__(self) -> None:
        super().__init__(np.bool_)

    def mark(self, indices: npt.NDArray[np.integer]) -> None:
        """Add these indices (m,)."""
        self.set(indices, np.True_)

    def has_any(self, indices: npt.NDArray[np.integer]) -> bool:
        """Whether at least one of these indices (m,) exists."""
        pages = indices // _PAGE
        known = (
            (pages == number, self._pages[number]) for number in np.unique(pages).tolist() if number in self._pages
        )
        return any(bool(page[indices[chosen] % _PAGE].any()) for chosen, page in known)

    def count(self, below: int | None = None) -> int:
        """Number of indices, or of those below ``below``."""
        return sum(
            int(page[: None if below is None else max(0, below - number * _PAGE)].sum())
            for number, page in self._pages.items()
        )

    def common(self, other: Marks[np.bool_]) -> int:
        """Number of indices that are also set in ``other``."""
        return sum(
            int((page & other._pages[number]).sum()) for number, page in self._pages.items() if number in other._pages
        )

    @property
    def end(self) -> int:
        """The largest index plus one; 0 without indices."""
        if not self._pages:
            return 0
        last = max(self._pages)
        return last * _PAGE + int(self._pages[last].nonzero()[0].max(initial=-1)) + 1
