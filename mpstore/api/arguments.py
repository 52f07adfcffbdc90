"""What arguments of the Python interface may be, where a wrong one would go far before something trips on it.

Relies on errors. Promises: a wrong value is a UsageError that names the argument and says what is expected;
nothing is changed or converted here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from numbers import Integral, Real
from os import PathLike
from typing import Any, Final, NamedTuple, get_args

from mpstore.codecs import Level
from mpstore.errors import UsageError
from mpstore.records.model import CommitKind

_SHOWN: Final = 200
_MOST: Final = 1e100


class _Rule(NamedTuple):
    fits: Callable[[Any], bool]
    expected: str


def check(**said: Any) -> None:
    """Each argument by its name."""
    for name, value in said.items():
        rule = _RULES[name]
        if not rule.fits(value):
            raise UsageError(f"{name} = {value!r:.{_SHOWN}}: {rule.expected} is expected")


def check_given(**said: Any) -> None:
    """`check`, where None stands for not given."""
    check(**{name: value for name, value in said.items() if value is not None})


def _whole(low: int, high: int) -> _Rule:
    def fits(value: Any) -> bool:
        return isinstance(value, Integral) and not isinstance(value, bool) and low <= int(value) <= high

    return _Rule(fits, f"a whole number from {low} to {high}")


def _one_of(*values: str) -> _Rule:
    *others, last = values
    return _Rule(lambda value: value in values, f"{', '.join(others)} or {last}")


def _is_path(value: Any) -> bool:
    return isinstance(value, str | PathLike)


def _is_list(value: Any) -> bool:
    """Not a text, of which each letter would be taken for a name."""
    return isinstance(value, Collection) and not isinstance(value, str | bytes | Mapping)


def _are_names(value: Any) -> bool:
    return _is_list(value) and all(_is_path(one) for one in value)


def _is_model(value: Any) -> bool:
    if isinstance(value, tuple | list) and len(value) == 2:
        return isinstance(value[0], str) and isinstance(value[1], Mapping)
    return isinstance(value, str)


def _is_placed(value: Any) -> bool:
    return isinstance(value, tuple | list) and len(value) == 2 and _is_path(value[0]) and _is_text(value[1])


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_amount(value: Any) -> bool:
    """A number from 0, neither NaN nor more than floats can be multiplied with."""
    number: Any = value
    return isinstance(value, Real) and not isinstance(value, bool) and 0 <= number <= _MOST


_TEXT: Final = _Rule(_is_text, "a text")
_NAMES: Final = _Rule(_are_names, 'a list of texts, ["…"],')
_PATH: Final = _Rule(_is_path, "a path")

_RULES: Final[Mapping[str, _Rule]] = {
    **dict.fromkeys(("branch", "name", "revision", "expert", "message", "author"), _TEXT),
    **dict.fromkeys(("base", "operator", "policy", "plan", "out_dtype", "subset", "what", "target"), _TEXT),
    **dict.fromkeys(("tensors", "patterns", "sources", "drop_sessions", "include", "exclude"), _NAMES),
    **dict.fromkeys(("path", "directory", "recipe"), _PATH),
    "checkpoints": _Rule(
        lambda value: _is_list(value) and all(map(_is_placed, value)), "a list of (path, branch)"
    ),
    "experts": _Rule(
        lambda value: _is_list(value) and all(map(_is_model, value)),
        'a list of "REV" or ("REV", {"weight": 1})',
    ),
    "parameters": _Rule(
        lambda value: isinstance(value, Mapping) or _are_names(value), '{"lambda": 0.5} or ["lambda=0.5"]'
    ),
    "budget": _Rule(
        lambda value: _is_text(value) or _is_amount(value),  # that it is whole, parse_budget says better
        'a number of bytes, "2GiB" or "25%"',
    ),
    "max_error": _Rule(lambda value: _is_text(value) or _is_amount(value), 'a number from 0, or "0.5%",'),
    "keep_reflog_seconds": _Rule(_is_amount, "a number from 0"),
    "kind": _one_of(*get_args(CommitKind)),
    "compression": _one_of(*(level.value for level in Level)),
    "limit": _whole(0, 2**63 - 1),
    "seed": _whole(-(2**63), 2**63 - 1),
    "threads": _whole(0, 4096),
    "memory_bytes": _whole(0, 2**63 - 1),
}
