"""Values that cross the sandbox, as JSON data: values of Python's and NumPy's types, and a number for any other object.

The text of this file runs in the sandbox too, so it imports only the standard library; it uses other packages where they
are imported already. A value that JSON lacks is an object with one key. A decoded value has a plain type with that type's
equality, whatever class the sample gave it: so it compares here as in one process, and no ``__eq__`` of a sample runs.
"""

from __future__ import annotations

import collections
import functools
import itertools
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeGuard

_SCALARS: tuple[type, ...] = (bool, int, float, str)
_TYPES: dict[str, type] = {
    kind.__name__: kind for kind in (bool, bytes, complex, dict, float, frozenset, int, list, set, str, tuple)
}
_CONTAINERS: dict[str, Any] = {"t": tuple, "l": list, "s": set, "f": frozenset}
_VIEWS: dict[str, type[Iterable[object]]] = {"k": type({}.keys()), "v": type({}.values()), "i": type({}.items())}
_DATES = ("date", "time", "datetime")
_ARRAYS = frozenset(
    ["bool", "str", "complex64", "complex128", "float16", "float32", "float64"]
    + [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
)
_JSON_BITS = 4096  # a longer integer is sent in hexadecimal, which is read in linear time
_MAX_BITS = 1 << 20
_MAX_ITERATED = 1 << 20
_MAX_DECIMAL_EXPONENT = 5000
_MAX_FIELDS = 100


def encode(value: object, keep: Callable[[object], int]) -> object:
    """A value as JSON data; ``keep(object)`` returns a number for an object that cannot be sent.

    Subclasses lose their class, so no ``__eq__`` of the sample crosses. The result has a type of Python or NumPy.
    """
    if value is None or value is True or value is False:
        return value
    if isinstance(value, int):
        exact = int.__int__(value)
        return exact if exact.bit_length() <= _JSON_BITS else {"x": f"{exact:x}"}
    if isinstance(value, float):
        return float.__float__(value)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, tuple) and isinstance(fields := getattr(value, "_fields", None), tuple):
        return {"N": [list(fields), [encode(item, keep) for item in tuple.__iter__(value)]]}
    for tag, kind in _CONTAINERS.items():
        if isinstance(value, kind):
            return {tag: [encode(item, keep) for item in kind.__iter__(value)]}
    if isinstance(value, dict):
        tag, more = _kind_of_dict(value)
        return {tag: [[[encode(key, keep), encode(item, keep)] for key, item in dict.items(value)], more]}
    if isinstance(value, (bytes, bytearray)):
        return {"b": bytes(value).hex()}
    if isinstance(value, complex):
        return {"c": [value.real, value.imag]}
    return _encode_rare(value, keep)


def _kind_of_dict(value: dict[object, object]) -> tuple[str, str]:
    if isinstance(value, collections.defaultdict):
        factory = value.default_factory
        return "D", next((name for name, kind in _TYPES.items() if factory is kind), "")
    if isinstance(value, collections.Counter):
        return "C", ""
    return ("O" if isinstance(value, collections.OrderedDict) else "d"), ""


def _encode_rare(value: object, keep: Callable[[object], int]) -> object:
    for tag, kind in _VIEWS.items():
        if isinstance(value, kind):
            return {tag: [encode(item, keep) for item in value]}
    if isinstance(value, collections.deque):
        return {"q": [[encode(item, keep) for item in collections.deque.__iter__(value)], value.maxlen]}
    if isinstance(value, (_loaded("numpy", "ndarray"), _loaded("numpy", "generic"))):
        name = "str" if value.dtype.kind == "U" else value.dtype.name
        if name in _ARRAYS:
            return {"n": [name, list(value.shape), [encode(item, keep) for item in value.ravel().tolist()]]}
    if _is_iterator(value):
        return {"j": [encode(item, keep) for item in itertools.islice(value, _MAX_ITERATED)]}
    plain = _encode_plain(value)
    return {"r": keep(value)} if plain is None else plain


def _is_iterator(value: object) -> TypeGuard[Iterator[object]]:
    return hasattr(type(value), "__next__")


def _no_object(value: object) -> int:
    raise ValueError("an object in a value that contains no other values")


def _encode_plain(value: object) -> object:
    """A value that contains no other values, or None."""
    if isinstance(value, range):
        return {"g": [encode(bound, _no_object) for bound in (value.start, value.stop, value.step)]}
    if isinstance(value, _loaded("array", "array")):
        return {"a": [value.typecode, value.tolist()]}
    if isinstance(value, _loaded("fractions", "Fraction")):
        return {"F": [encode(int(part), _no_object) for part in (value.numerator, value.denominator)]}
    if isinstance(value, _loaded("decimal", "Decimal")):
        return {"E": str(value)}
    for name in _DATES[::-1]:  # a datetime is a date too
        if isinstance(value, _loaded("datetime", name)):
            return {"T": [name, value.isoformat()]}
    if isinstance(value, _loaded("datetime", "timedelta")):
        return {"T": ["timedelta", [value.days, value.seconds, value.microseconds]]}
    return next(({"y": name} for name, kind in _TYPES.items() if value is kind), None)


def _loaded(module: str, name: str) -> Any:
    """A type of a module that is imported already; otherwise (), because no value can have that type."""
    return getattr(sys.modules.get(module), name, ())


def decode(data: object, look_up: Callable[[int], object]) -> object:
    """The value of JSON data; ``look_up(number)`` returns a kept object. Raises ValueError and its like for bad data."""
    if data is None or isinstance(data, _SCALARS):
        return data
    if not isinstance(data, dict):
        raise ValueError(f"a {type(data).__name__} without a tag")
    ((tag, content),) = data.items()
    if tag in _CONTAINERS:
        return _CONTAINERS[tag](decode(item, look_up) for item in content)
    if tag in "dDCO":
        pairs, more = content
        return _dict_of(tag, {decode(key, look_up): decode(item, look_up) for key, item in pairs}, more)
    if tag == "r":
        return look_up(content)
    if tag == "N":
        fields, items = content
        return _named_tuple(tuple(fields))(*(decode(item, look_up) for item in items))
    if tag in ("j", "k", "v", "i"):
        items = [decode(item, look_up) for item in content]
        views: dict[str, Callable[[Sequence[object]], object]] = {"j": iter, "k": _keys, "v": _values, "i": _items}
        return views[tag](items)
    if tag == "q":
        return collections.deque([decode(item, look_up) for item in content[0]], content[1])
    return _decode_plain(tag, content)


def _dict_of(tag: str, items: dict[object, object], more: str) -> object:
    if tag == "D":
        return collections.defaultdict(_TYPES.get(more), items)
    return {"C": collections.Counter, "O": collections.OrderedDict, "d": dict}[tag](items)


def _keys(items: Sequence[object]) -> object:
    return dict.fromkeys(items).keys()


def _values(items: Sequence[object]) -> object:
    return dict(enumerate(items)).values()


def _items(items: Sequence[Any]) -> object:
    return dict(items).items()


@functools.lru_cache(maxsize=64)
def _named_tuple(fields: tuple[str, ...]) -> Callable[..., object]:
    if len(fields) > _MAX_FIELDS:
        raise ValueError("too many fields")
    return collections.namedtuple("Result", fields)


def _decode_plain(tag: str, content: Any) -> object:
    """A value that contains no other values."""
    if tag == "b":
        return bytes.fromhex(content)
    if tag == "c":
        return complex(*content)
    if tag == "x":
        return int(content, 16)
    if tag == "y":
        return _TYPES[content]
    if tag == "g":
        return range(*map(_whole, content))
    if tag == "a":
        return __import__("array").array(*content)
    if tag == "n":
        return _array(*content)
    if tag == "T":
        return _date(*content)
    return _exact_number(tag, content)


def _date(name: str, content: str | Sequence[float]) -> object:
    datetime = __import__("datetime")
    if name == "timedelta":
        return datetime.timedelta(*content)
    if name not in _DATES:
        raise ValueError(f"unknown type {name!r}")
    return getattr(datetime, name).fromisoformat(content)


def _whole(data: object) -> int:
    value = decode(data, _no_object)
    if not isinstance(value, int):
        raise ValueError(f"{value!r:.100} is no integer")
    return value


def _exact_number(tag: str, content: str | Sequence[object]) -> object:
    if tag == "F":
        above, below = map(_whole, content)
        if max(above.bit_length(), below.bit_length()) > _MAX_BITS:
            raise ValueError("too large")
        return __import__("fractions").Fraction(above, below)
    if tag == "E":
        number = __import__("decimal").Decimal(content)
        if number.is_finite() and abs(number.adjusted()) > _MAX_DECIMAL_EXPONENT:
            raise ValueError("too large")
        return number
    raise ValueError(f"unknown tag {tag!r}")


def _array(name: str, shape: Sequence[int], items: Sequence[object]) -> object:
    """A NumPy array, or a NumPy scalar where the shape is empty."""
    if name not in _ARRAYS:
        raise ValueError(f"unknown type {name!r}")
    values = __import__("numpy").array([decode(item, _no_object) for item in items], dtype=name)
    return values.reshape(shape) if shape else values[0]
