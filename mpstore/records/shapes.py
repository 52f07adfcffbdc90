"""Shapes of record fields: how one value becomes plain msgpack data and back, checked both ways.

Relies on nothing. Promises: `unpack` accepts only what `pack` can produce (the types, bounds, names and order
of keys that docs/format.md states) and raises `Odd` on the rest; neither allocates more than its input.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

MAX_LIST = 4096  # msgpack preallocates lists from their claimed length: this bounds what a lie can cost
MAX_DEPTH = 16
MAX_TEXT_CHARACTERS = 2**26
MAX_NAME_BYTES = 4096
MAX_DIMENSIONS = 64  # of a tensor
MAX_DIMENSION = 2**48
_NAN = struct.pack(">d", math.nan)  # one NaN: payloads would make ids differ
_seen: set[str] = set()  # names that are names: a model's tensors come again with every checkpoint
_MOST_SEEN = 1 << 15
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_FORBIDDEN_COMPONENTS = frozenset({"", ".", "..", ".mp", ".git"})


class Odd(ValueError):
    """A value that does not fit its shape. The message grows the way to it as it is raised outwards."""

    def within(self, where: str) -> Odd:
        return Odd(f"{where}: {self}")


class Shape(Protocol):
    """Two-way conversion between a field's value and plain msgpack data."""

    def pack(self, value: Any) -> Any: ...

    def unpack(self, plain: Any) -> Any: ...


def expect(condition: bool, why: str) -> None:
    """Raise `Odd(why)` unless the condition holds. What every tensor's record passes through has an `if` of
    its own instead, since `why` takes longer to write than to check."""
    if not condition:
        raise Odd(why)


def check_name(name: object) -> str:
    """A tensor key or map key: non-empty text of at most 4 096 bytes without control characters."""
    if type(name) is str and name in _seen:
        return name
    if not isinstance(name, str) or not name or _CONTROL.search(name):
        raise Odd(f"{name!r:.80} is not a name: non-empty text without control characters is expected")
    if len(name) > MAX_NAME_BYTES // 4 and len(name.encode()) > MAX_NAME_BYTES:
        raise Odd(f"the name {name!r:.40}… is longer than {MAX_NAME_BYTES} bytes")
    if len(_seen) < _MOST_SEEN:
        _seen.add(name)
    return name


def check_path(path: object) -> str:
    """A file's path inside a checkpoint: POSIX, relative, normalized, and unable to leave the directory or
    to reach a repository's own files (`.mp`, `.git`). Raises `Odd`."""
    name = check_name(path)
    components = name.split("/")
    bad = _FORBIDDEN_COMPONENTS.intersection(component.lower() for component in components)
    if bad or "\\" in name or any(len(component.encode()) > 255 for component in components):
        raise Odd(f"{name!r:.120} is not a safe relative path")
    return name


@dataclass(frozen=True)
class Checked:
    """Text or any value that one function checks and returns, the same both ways."""

    check: Callable[[object], Any]

    def pack(self, value: Any) -> Any:
        return self.check(value)

    unpack = pack


@dataclass(frozen=True)
class Text:
    """Free text (messages, recipes), or one of `choices`."""

    choices: Collection[str] = ()
    pattern: re.Pattern[str] | None = None

    def pack(self, value: Any) -> str:
        if not isinstance(value, str):
            raise Odd(f"text expected, not {type(value).__name__}")
        if len(value) > MAX_TEXT_CHARACTERS:
            raise Odd(f"text longer than {MAX_TEXT_CHARACTERS} characters")
        if self.choices and value not in self.choices:
            raise Odd(f"{value!r:.40} is none of {sorted(self.choices)}")
        if self.pattern is not None and not self.pattern.fullmatch(value):
            raise Odd(f"{value!r:.40} is not of the form {self.pattern.pattern}")
        return value

    unpack = pack


@dataclass(frozen=True)
class Octets:
    """Bytes: of one of `lengths` (any, when empty), and of a multiple of `step` bytes."""

    lengths: tuple[int, ...] = ()
    step: int = 1

    def pack(self, value: Any) -> bytes:
        if not isinstance(value, bytes):
            raise Odd(f"bytes expected, not {type(value).__name__}")
        if (self.lengths and len(value) not in self.lengths) or len(value) % self.step:
            raise Odd(f"{len(value)} bytes, expected {self.lengths or f'a multiple of {self.step}'}")
        return value

    unpack = pack


@dataclass(frozen=True)
class Whole:
    """An integer in [low, high]."""

    low: int = 0
    high: int = 2**63 - 1

    def pack(self, value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise Odd(f"integer expected, not {type(value).__name__}")
        if not self.low <= value <= self.high:
            raise Odd(f"{value} is outside [{self.low}, {self.high}]")
        return int(value)

    unpack = pack


@dataclass(frozen=True)
class Real:
    """A float64; NaN and infinities only where `finite` is False. Integers are taken when packing."""

    finite: bool = True

    def pack(self, value: Any) -> float:
        expect(
            isinstance(value, int | float) and not isinstance(value, bool),
            f"number expected, not {type(value).__name__}",
        )
        return self._check(float(value))

    def unpack(self, plain: Any) -> float:
        expect(isinstance(plain, float), f"float expected, not {type(plain).__name__}")
        value = self._check(plain)
        expect(value == value or struct.pack(">d", plain) == _NAN, "a NaN with a payload")
        return value

    def _check(self, value: float) -> float:
        expect(not self.finite or math.isfinite(value), f"{value} is not finite")
        return math.nan if math.isnan(value) else value


@dataclass(frozen=True)
class Flag:
    """True or False."""

    def pack(self, value: Any) -> bool:
        expect(isinstance(value, bool), f"true or false expected, not {type(value).__name__}")
        return bool(value)

    unpack = pack


@dataclass(frozen=True)
class Maybe:
    """The inner shape, or None."""

    inner: Shape

    def pack(self, value: Any) -> Any:
        return None if value is None else self.inner.pack(value)

    def unpack(self, plain: Any) -> Any:
        return None if plain is None else self.inner.unpack(plain)


@dataclass(frozen=True)
class Many:
    """A tuple of the inner shape, of at most `most` items."""

    inner: Shape
    most: int = MAX_LIST

    def pack(self, value: Any) -> list[Any]:
        expect(isinstance(value, tuple | list), f"list expected, not {type(value).__name__}")
        return list(self._each(value, self.inner.pack))

    def unpack(self, plain: Any) -> tuple[Any, ...]:
        if not isinstance(plain, list):
            raise Odd(f"list expected, not {type(plain).__name__}")
        return self._each(plain, self.inner.unpack)

    def _each(self, items: Sequence[Any], convert: Callable[[Any], Any]) -> tuple[Any, ...]:
        if len(items) > self.most:
            raise Odd(f"{len(items)} items, at most {self.most} expected")
        try:
            out: list[Any] = []
            for item in items:
                out.append(convert(item))  # noqa: PERF401 - a comprehension would not say which is bad
            return tuple(out)
        except Odd as odd:
            raise odd.within(f"[{len(out)}]") from None


@dataclass(frozen=True)
class Table:
    """A mapping from checked names to the inner shape; stored with its keys sorted."""

    inner: Shape
    key: Callable[[object], str] = check_name

    def pack(self, value: Any) -> dict[str, Any]:
        expect(isinstance(value, Mapping), f"mapping expected, not {type(value).__name__}")
        for name in value:
            self.key(name)
        return self._each([(name, value[name]) for name in sorted(value)], self.inner.pack)

    def unpack(self, plain: Any) -> dict[str, Any]:
        expect(isinstance(plain, dict), f"mapping expected, not {type(plain).__name__}")
        for name in plain:
            self.key(name)
        expect(_sorted(plain), "its keys are not sorted")
        return self._each(plain.items(), self.inner.unpack)

    def _each(self, items: Any, convert: Callable[[Any], Any]) -> dict[str, Any]:
        name = ""
        try:
            out = {}
            for name, item in items:
                out[name] = convert(item)
            return out
        except Odd as odd:
            raise odd.within(name) from None


@dataclass(frozen=True)
class AnyJson:
    """What JSON can hold; integers have 64 bits, map keys are text. A tuple is taken as a list."""

    finite: bool = True

    def pack(self, value: Any) -> Any:
        return self._plain(value, MAX_DEPTH, sort=True)

    def unpack(self, plain: Any) -> Any:
        return self._plain(plain, MAX_DEPTH, sort=False)

    def _plain(self, value: Any, depth: int, sort: bool) -> Any:
        if value is None or value is True or value is False:
            return value
        if isinstance(value, str):
            return _TEXT.pack(value)
        if isinstance(value, int):
            return _INTEGER.pack(value)
        if isinstance(value, float):
            number = Real(self.finite)
            return number.pack(value) if sort else number.unpack(value)
        if depth == 0:
            raise Odd(f"nested deeper than {MAX_DEPTH} levels")
        if isinstance(value, list | tuple):
            expect(len(value) <= MAX_LIST, f"list of {len(value)} items, at most {MAX_LIST} expected")
            return [self._plain(item, depth - 1, sort) for item in value]
        if isinstance(value, Mapping):
            expect(all(isinstance(key, str) for key in value), "map keys must be text")
            expect(sort or _sorted(value), "its keys are not sorted")
            return {key: self._plain(value[key], depth - 1, sort) for key in sorted(value)}
        raise Odd(f"{type(value).__name__} cannot be stored")


_TEXT = Text()
_INTEGER = Whole(-(2**63))


def _sorted(keys: Mapping[str, Any]) -> bool:
    return list(keys) == sorted(keys)


@dataclass(frozen=True)
class Structure:
    """A frozen dataclass (or any class built from its fields in order) as a list of its fields."""

    build: Callable[..., Any]
    fields: tuple[tuple[str, Shape], ...]
    check: Callable[[Any], None] | None = None

    def pack(self, value: Any) -> list[Any]:
        out = []
        for name, shape in self.fields:
            try:
                out.append(shape.pack(getattr(value, name)))
            except Odd as odd:
                raise odd.within(name) from None
        if self.check is not None:
            self.check(value)
        return out

    def unpack(self, plain: Any) -> Any:
        if not isinstance(plain, list):
            raise Odd(f"list of fields expected, not {type(plain).__name__}")
        if len(plain) != len(self.fields):
            raise Odd(f"{len(plain)} fields, expected {len(self.fields)}")
        values = []
        for (name, shape), item in zip(self.fields, plain, strict=True):
            try:
                values.append(shape.unpack(item))
            except Odd as odd:
                raise odd.within(name) from None
        value = self.build(*values)
        if self.check is not None:
            self.check(value)
        return value
