"""Values that cross the sandbox: a value compares as it would in one process, and has a plain type."""

from __future__ import annotations

import datetime
import enum
import json
from array import array
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlvr_bench.verifiers.values import decode, encode


def crossed(value: Any) -> Any:
    kept: list[Any] = []

    def keep(item: Any) -> int:
        kept.append(item)
        return len(kept) - 1

    return decode(json.loads(json.dumps(encode(value, keep))), kept.__getitem__)


LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary() | st.fractions()
)
HASHABLE = st.recursive(LEAVES, lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3), max_leaves=5)
PLAIN = st.recursive(
    HASHABLE,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(HASHABLE, inner, max_size=3)
        | st.sets(HASHABLE, max_size=3)
        | st.lists(inner, max_size=3).map(deque)
    ),
    max_leaves=12,
)


@given(PLAIN)
def test_plain_values_arrive_as_they_were(value: Any) -> None:
    arrived = crossed(value)
    assert arrived == value
    assert type(arrived) is type(value)


@pytest.mark.parametrize(
    "value",
    [
        range(2, 9, 3),
        Counter("aab"),
        OrderedDict([("b", 1), ("a", 2)]),
        deque([1, 2], maxlen=2),
        array("i", [1, 2]),
        Decimal("0.50"),
        Fraction(-1, 3),
        datetime.date(2024, 2, 29),
        datetime.datetime(2024, 2, 29, 1, 2, 3, 4, tzinfo=datetime.UTC),
        datetime.time(1, 2),
        datetime.timedelta(days=-1, microseconds=5),
        numpy.float32(0.1),
        numpy.int8(-3),
        numpy.bool_(True),
        10**5000,
        -(10**5000),
    ],
    ids=lambda value: type(value).__name__,
)
def test_other_types_of_python_and_numpy_keep_their_type(value: Any) -> None:
    arrived = crossed(value)
    assert (type(arrived), arrived == value) == (type(value), True)


def test_views_iterators_and_default_factories_behave_as_before() -> None:
    counts = {"a": 1, "b": 2}
    assert crossed(counts.keys()) == {"a", "b"}
    assert list(crossed(counts.values())) == [1, 2]
    assert crossed(counts.items()) == counts.items()
    assert next(crossed(iter([7, 8]))) == 7
    assert list(crossed(map(str, [1, 2]))) == ["1", "2"]
    assert crossed(x for x in [1]) != [1]
    assert crossed(defaultdict(list, {1: [2]}))[5] == []


def test_arrays_compare_element_by_element_as_numpys_do() -> None:
    arrived = crossed(numpy.array([[1, 2], [3, 4]]))
    assert arrived.shape == (2, 2)
    assert arrived.tolist() == [[1, 2], [3, 4]]
    with pytest.raises(ValueError, match="ambiguous"):
        bool(arrived == [[1, 2], [3, 4]])
    assert list(crossed(numpy.array(["a", "bc"]))) == ["a", "bc"]


Point = namedtuple("Point", "x y")


def test_a_named_tuple_is_a_tuple_with_names() -> None:
    arrived = crossed(Point(1, 2))
    assert arrived == (1, 2)
    assert (arrived.x, arrived.y) == (1, 2)
    assert type(arrived) is not Point


class Word(str, enum.Enum):  # noqa: UP042  the older kind, whose str() is its name
    YES = "yes"


class Liar(str):
    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = str.__hash__

    def __str__(self) -> str:
        return "another"


class LyingQueue(deque[int]):
    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None


@pytest.mark.parametrize(
    ("value", "kind", "content"), [(Word.YES, str, "yes"), (Liar("x"), str, "x"), (LyingQueue([1]), deque, deque([1]))]
)
def test_a_subclass_loses_its_class_and_keeps_its_content(value: Any, kind: type, content: Any) -> None:
    arrived = crossed(value)
    assert type(arrived) is kind
    assert arrived == content


@pytest.mark.parametrize(
    "data",
    [
        {"?": 1},
        {"t": 1, "l": 2},
        {"y": "object"},
        {"n": ["object", [1], [1]]},
        {"n": ["int8", [1], [10**9]]},
        {"n": ["int8", [10**9], [1]]},
        {"E": "1E999999999"},
        {"F": [1, 0]},
        {"F": [{"x": "f" * (1 << 20)}, 3]},
        {"T": ["tzinfo", "x"]},
        {"N": [["__class__"], [1]]},
        {"N": [[f"a{i}" for i in range(1000)], [1] * 1000]},
        {"g": [1, 2, 0]},
        {"a": ["Q", [-1]]},
        {"x": "zz"},
        {"d": 3},
    ],
)
def test_forged_data_is_refused(data: Any) -> None:
    with pytest.raises((ValueError, TypeError, AttributeError, LookupError, ArithmeticError)):
        decode(data, [].__getitem__)
