"""One parameter's setting in a recipe: a value, a gradient over layers, or values by tensor name.

Relies on the operators' `Parameter`. Promises: a setting that came through `parse` evaluates to values the
parameter allows, on every layer and tensor; meanings are mergekit's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from mpstore.errors import RecipeError
from mpstore.merge.operators.protocol import Parameter, Value
from mpstore.suggestions import nearest

_LARGEST: Final = (2 - 2**-23) * 2.0**127  # of a float32


@dataclass(frozen=True)
class Gradient:
    """Values at equal distances from the first layer to the last, numbers interpolated between."""

    values: tuple[Value, ...]


@dataclass(frozen=True)
class Condition:
    """A value for tensors whose name contains `filter` (None: for every tensor)."""

    filter: str | None
    value: Value | Gradient


@dataclass(frozen=True)
class Conditions:
    """The first condition that fits a tensor's name wins; none: the setting says nothing of the tensor."""

    items: tuple[Condition, ...]


Setting: TypeAlias = Any  # a Value, Gradient or Conditions


def evaluate(setting: Setting, tensor: str, t: float) -> Value | None:
    """The value for a tensor at relative depth t in [0, 1]; None where the setting says nothing of it."""
    if isinstance(setting, Conditions):
        for one in setting.items:
            if one.filter is None or one.filter in tensor:
                return evaluate(one.value, tensor, t)
        return None
    if not isinstance(setting, Gradient):
        return setting
    values = setting.values
    if isinstance(values[0], bool | str):
        return values[int(t * (len(values) - 1))]
    place = t * (len(values) - 1)
    low = int(place)
    high = min(low + 1, len(values) - 1)
    return (1 - (place - low)) * values[low] + (place - low) * values[high]


def is_constant(setting: Setting) -> bool:
    """Whether it is one value for all tensors."""
    return not isinstance(setting, Gradient | Conditions)


def parse(parameter: Parameter, raw: Any, where: str) -> Setting:
    """A setting from what YAML or a flag gave. Raises RecipeError, its message starting with `where`."""
    if isinstance(raw, Mapping):
        raw = [raw]
    if isinstance(raw, Sequence) and not isinstance(raw, str):
        if not raw:
            raise RecipeError(f"{where}{parameter.name} is an empty list")
        if all(isinstance(one, Mapping) for one in raw):
            return Conditions(tuple(_condition(parameter, one, where) for one in raw))
        return _gradient(parameter, raw, where)
    return _value(parameter, raw, where)


def _gradient(parameter: Parameter, raw: Sequence[Any], where: str) -> Gradient:
    return Gradient(tuple(_value(parameter, one, where) for one in raw))


def _condition(parameter: Parameter, raw: Mapping[str, Any], where: str) -> Condition:
    for key in raw:
        if key not in ("filter", "value"):
            hint = nearest(str(key), ("filter", "value"))
            raise RecipeError(f"{where}{parameter.name} has filter and value, no {key!r}", hint=hint)
    if "value" not in raw:
        raise RecipeError(f"{where}a condition of {parameter.name} has no value")
    wanted, value = raw.get("filter"), raw["value"]
    if wanted is not None and not isinstance(wanted, str):
        raise RecipeError(f"{where}the filter of {parameter.name} is a part of tensor names, not {wanted!r}")
    if isinstance(value, Sequence) and not isinstance(value, str) and value:
        return Condition(None if wanted == "*" else wanted, _gradient(parameter, value, where))
    return Condition(None if wanted == "*" else wanted, _value(parameter, value, where))


def _value(parameter: Parameter, raw: Any, where: str) -> Value:
    if parameter.kind == "flag":
        return _flag(parameter, raw, where)
    if parameter.kind == "choice":
        word = str(raw).lower() if isinstance(raw, bool) else str(raw)
        if word not in parameter.choices:
            known = ", ".join(parameter.choices)
            raise RecipeError(f"{where}{parameter.name} is one of {known}, not {raw!r}")
        return word
    return number(parameter, raw, where)


def _flag(parameter: Parameter, raw: Any, where: str) -> bool:
    if isinstance(raw, bool):
        return raw
    if raw in (0, 1):
        return bool(raw)
    if isinstance(raw, str) and raw.lower() in ("true", "false"):
        return raw.lower() == "true"
    raise RecipeError(f"{where}{parameter.name} is true or false, not {raw!r}")


def number(parameter: Parameter, raw: Any, where: str) -> float | int:
    """A number within the parameter's bounds, as float (integer parameters: int)."""
    try:
        value = math.nan if isinstance(raw, bool) else float(raw)  # YAML reads 1e-5 as text
    except OverflowError:  # an integer of hundreds of digits
        value = math.inf
    except (TypeError, ValueError):
        raise RecipeError(f"{where}{parameter.name} is a number, not {raw!r}") from None
    if not math.isfinite(value):
        raise RecipeError(f"{where}{parameter.name} is a finite number, not {raw!r}")
    if abs(value) > _LARGEST:
        raise RecipeError(f"{where}{parameter.name} is {raw!r}, more than float32 can hold ({_LARGEST:.4g})")
    low, high = parameter.low, parameter.high
    below = low is not None and (value <= low if "low" in parameter.open_ends else value < low)
    above = high is not None and (value >= high if "high" in parameter.open_ends else value > high)
    if below or above:
        raise RecipeError(f"{where}{parameter.name} must lie in {interval(parameter)}, not be {value:g}")
    if parameter.kind == "integer":
        if value != int(value):
            raise RecipeError(f"{where}{parameter.name} is a whole number, not {value:g}")
        return int(value)
    return value


def interval(parameter: Parameter) -> str:
    """The allowed interval in mathematical notation; "(-∞, ∞)" without bounds."""
    left = "(" if parameter.low is None or "low" in parameter.open_ends else "["
    right = ")" if parameter.high is None or "high" in parameter.open_ends else "]"
    low = "-∞" if parameter.low is None else f"{parameter.low:g}"
    high = "∞" if parameter.high is None else f"{parameter.high:g}"
    return f"{left}{low}, {high}{right}"


def plain(setting: Setting) -> Any:
    """The setting as YAML has it."""
    if isinstance(setting, Gradient):
        return list(setting.values)
    if isinstance(setting, Conditions):
        return [
            {"value": plain(one.value)}
            if one.filter is None
            else {"filter": one.filter, "value": plain(one.value)}
            for one in setting.items
        ]
    return setting
