"""PEFT LoRA adapters: which tensor of the base each low-rank pair changes, and by how much.

Relies on kernels. Promises: pure (bytes and arrays in, values out); configurations whose weights would mean
something else (DoRA, PiSSA, …) are refused by name; a delta's bits do not depend on how it is cut into runs.
Source: huggingface/peft, `tuners/lora`: ΔW = (α/r)·B·A, α/√r with rsLoRA.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from mpstore import kernels
from mpstore.errors import DamagedError, IncompatibleError
from mpstore.ids import Buffer

Shape: TypeAlias = tuple[int, ...]
Floats: TypeAlias = npt.NDArray[np.float32]

MAX_CONFIG_BYTES: Final = 1 << 20
_PREFIX: Final = "base_model.model."
_PAIR: Final = re.compile(r"(?P<module>.+)\.lora_(?P<embedding>embedding_)?(?P<side>[AB])(?:\.weight)?$")
_REGEX: Final = re.compile(r"[\w.\-|()\[\]^$\\?*+]{1,300}")
_QUANTIFIED_GROUP: Final = re.compile(r"\)[*+?{]|[*+?]{2}")
_BACK_REFERENCE: Final = re.compile(r"\\[1-9]")
_MAX_STEPS: Final = 1e8  # a second or two
# Settings under which A and B are not what is added to the base's weights.
_UNSUPPORTED: Final = (
    "use_dora", "use_qalora", "lora_bias", "layer_replication", "target_parameters",
    "trainable_token_indices", "alora_invocation_tokens", "use_bdlora", "arrow_config", "kasa_config",
    "monteclora_config",
)  # fmt: skip
_CHANGES_THE_BASE: Final = ("pissa", "olora", "corda", "loftq", "lora_ga")


@dataclass(frozen=True)
class AdapterConfig:
    """What `adapter_config.json` says of the scale: alpha (by module pattern), and how rank divides it."""

    alpha: float
    rslora: bool = False
    fan_in_fan_out: bool = False
    alpha_pattern: Mapping[str, float] = field(default_factory=dict)

    def scale(self, module: str, rank: int) -> float:
        """α/r, or α/√r, for one module (its name in the base)."""
        alpha = self.alpha
        for pattern, value in self.alpha_pattern.items():
            if _steps(pattern, len(module)) > _MAX_STEPS:
                raise IncompatibleError(
                    f"alpha_pattern {pattern[:80]!r} could take forever on the module {module[:80]!r}",
                    hint="write the modules' names out in adapter_config.json, without * and ?",
                )
            if _compiled(pattern).match(module):
                alpha = value
                break
        return alpha / (math.sqrt(rank) if self.rslora else rank)


@dataclass(frozen=True)
class Target:
    """What an adapter has for one tensor of the base.

    kind "product": sources (A, B), delta = scale * B A, transposed where the base stores (in, out);
    "whole": sources (X,), the tensor itself (modules_to_save, biases): delta = X - base.
    """

    key: str
    kind: Literal["product", "whole"]
    sources: tuple[str, ...]
    scale: float = 1.0
    transposed: bool = False


def read_config(data: Buffer, where: str) -> AdapterConfig:
    """The configuration. DamagedError: not what PEFT writes; IncompatibleError: not a plain LoRA."""
    if len(data) > MAX_CONFIG_BYTES:
        raise DamagedError(f"{where}: an adapter_config.json of {len(data)} bytes")
    try:
        table = json.loads(bytes(data))
    except (ValueError, RecursionError) as error:
        raise DamagedError(f"{where}: is not JSON ({error})") from None
    if not isinstance(table, dict):
        raise DamagedError(f"{where}: is no table of settings")
    kind = table.get("peft_type")
    if str(kind).upper() != "LORA":
        raise IncompatibleError(f"{where}: an adapter of type {kind!r}; LORA is supported")
    for name in _UNSUPPORTED:
        if table.get(name):
            raise IncompatibleError(
                f"{where}: {name} is not supported: the weights are more than B·A",
                hint="merge the adapter into full weights with PEFT (merge_and_unload), and add those",
            )
    start = str(table.get("init_lora_weights", True)).lower()
    if start.startswith(_CHANGES_THE_BASE):
        raise IncompatibleError(
            f"{where}: init_lora_weights={start!r} changes the base's weights as well",
            hint="save the adapter with path_initial_model_for_weight_conversion, which makes it plain",
        )
    patterns = table.get("alpha_pattern") or {}
    if not isinstance(patterns, dict):
        raise DamagedError(f"{where}: alpha_pattern is no table")
    return AdapterConfig(
        alpha=_alpha(table.get("lora_alpha", 8), where),
        rslora=bool(table.get("use_rslora", False)),
        fan_in_fan_out=bool(table.get("fan_in_fan_out", False)),
        alpha_pattern={_pattern(key, where): _alpha(value, where) for key, value in patterns.items()},
    )


def _alpha(value: Any, where: str) -> float:
    try:
        if not isinstance(value, bool) and isinstance(value, int | float) and math.isfinite(value):
            return float(value)
    except OverflowError:  # an integer that no float can be
        pass
    raise DamagedError(f"{where}: lora_alpha is a number, not {value!r:.80}")


def _pattern(text: str, where: str) -> str:
    """A pattern that cannot run away: PEFT allows any regular expression, and this one is from outside."""
    try:
        odd = _QUANTIFIED_GROUP.search(text) or _BACK_REFERENCE.search(text)
        harmless = _REGEX.fullmatch(text) and not odd and _compiled(text)
    except re.error:
        harmless = False
    if not harmless:
        raise IncompatibleError(f"{where}: the pattern {text[:80]!r} is not one that is supported")
    return text


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    """As PEFT applies it: to the end of a module's name, or to all of it. (re's own cache holds 512.)"""
    return re.compile(rf"(.*\.)?({pattern})$")


@cache
def _steps(pattern: str, length: int) -> float:
    """No fewer than the ways in which a name of `length` can be tried: a loop may end at any place, an option
    be taken or not, and each group take any of its branches."""
    loops, options = pattern.count("*") + pattern.count("+"), pattern.count("?")
    groups, branches = pattern.count("(") + 1, pattern.count("|") + pattern.count("(") + 1
    return float(length + 1) ** (loops + 1) * 2.0**options * (branches / groups) ** groups


@dataclass
class _Found:
    """What was met for one module."""

    a: str = ""
    b: str = ""
    embedding: bool = False
    whole: dict[str, str] = field(default_factory=dict)  # "weight" or "bias" -> adapter tensor


def _modules(names: Iterable[str], where: str) -> dict[str, _Found]:
    """Adapter tensors by module, PEFT's wrappers taken off the names."""
    modules: dict[str, _Found] = {}
    for name in names:
        plain = name.removeprefix(_PREFIX)
        pair = _PAIR.fullmatch(plain)
        if pair is not None:
            found = modules.setdefault(pair["module"], _Found())
            found.embedding |= pair["embedding"] is not None
            found.a, found.b = (name, found.b) if pair["side"] == "A" else (found.a, name)
            continue
        if ".lora_" in plain or "trainable_tokens" in plain:
            raise IncompatibleError(f"{where}: the tensor {name} is not part of a plain LoRA")
        plain = re.sub(r"\.(?:modules_to_save(?:\.default)?|base_layer|original_module)(?=\.)", "", plain)
        module, _, leaf = plain.rpartition(".")
        modules.setdefault(module, _Found()).whole[leaf] = name
    return modules


def targets(
    config: AdapterConfig, tensors: Mapping[str, Shape], base: Mapping[str, Shape], where: str
) -> dict[str, Target]:
    """Base tensor -> what the adapter has for it. IncompatibleError names what does not fit the base."""
    modules = _modules(tensors, where)
    rename = _renaming(modules, base, where)
    found: dict[str, Target] = {}
    for module, one in modules.items():
        if bool(one.a) != bool(one.b):
            raise IncompatibleError(f"{where}: {module} has only one half of its pair A, B")
        if one.a:
            key = rename(f"{module}.weight")
            found[key] = _product(config, module, one, key, tensors, base, where)
        for leaf, name in one.whole.items():
            if one.a and leaf == "weight":
                continue  # the frozen layer under the pair, saved along with resized embeddings
            key = rename(f"{module}.{leaf}" if module else leaf)
            if tensors[name] != base[key]:
                raise IncompatibleError(f"{where}: {name} is {tensors[name]}, the base's {key} {base[key]}")
            found[key] = Target(key, "whole", (name,))
    return found


def _wanted(modules: Mapping[str, _Found]) -> list[str]:
    """The base's tensors that an adapter is about, in its own naming."""
    names = []
    for module, one in modules.items():
        leaves = [leaf for leaf in one.whole if not (one.a and leaf == "weight")]
        names += [f"{module}.{leaf}" if module else leaf for leaf in (["weight"] if one.a else []) + leaves]
    return names


def _renaming(modules: Mapping[str, _Found], base: Mapping[str, Shape], where: str) -> Callable[[str], str]:
    """How the adapter's names become the base's keys: as they are, or with a prefix less or more."""
    wanted = _wanted(modules)
    for depth in (0, 1, 2):
        if all(name.split(".", depth)[-1] in base for name in wanted):
            return lambda name: name.split(".", depth)[-1]
    for first in sorted({key.partition(".")[0] for key in base})[:64]:
        if all(f"{first}.{name}" in base for name in wanted):
            return lambda name: f"{first}.{name}"
    missing = next(name for name in wanted if name not in base)
    raise IncompatibleError(
        f"{where}: the adapter changes {missing}, which the base does not have",
        hint="is this the model that the adapter was trained on? (tied weights have no tensor of their own)",
    )


def _product(
    config: AdapterConfig,
    module: str,
    one: _Found,
    key: str,
    tensors: Mapping[str, Shape],
    base: Mapping[str, Shape],
    where: str,
) -> Target:
    a, b, shape = tensors[one.a], tensors[one.b], base[key]
    rank = a[0] if a else 0
    fits = len(a) >= 2 and len(b) >= 2 and rank > 0 and b[1] == rank and all(side == 1 for side in b[2:])
    straight, turned = (b[0], *a[1:]) if fits else (), (a[1], b[0]) if fits and len(a) == 2 else ()
    transposed = one.embedding or shape != straight or (config.fan_in_fan_out and shape == turned)
    if not fits or shape != (turned if transposed else straight):
        raise IncompatibleError(f"{where}: {module} has A {a} and B {b}, which do not fit the base's {shape}")
    return Target(key, "product", (one.a, one.b), config.scale(module, rank), transposed)


@dataclass(frozen=True)
class Product:
    """scale * left @ right, one element after the other: left (m, r), right (r, c), float32, C-contiguous."""

    left: Floats
    right: Floats
    scale: float

    @classmethod
    def of(cls, target: Target, a: Floats, b: Floats) -> Product:
        """From the adapter's A and B in float32, in their own shapes."""
        a, b = a.reshape(a.shape[0], -1), b.reshape(b.shape[0], -1)
        left, right = (a.T, b.T) if target.transposed else (b, a)
        return cls(np.ascontiguousarray(left), np.ascontiguousarray(right), target.scale)

    def delta(self, start: int, stop: int, out: Floats) -> int:
        """Fill `out` with delta[start:stop] of the flattened tensor; how many are NaN or infinite."""
        if not 0 <= start <= stop <= self.left.shape[0] * self.right.shape[1] or out.size != stop - start:
            raise ValueError(
                f"delta[{start}:{stop}] of a {self.left.shape[0]} by {self.right.shape[1]} product"
            )
        kernel = kernels.pick("adapter")
        return int(kernel.product_run(self.left, self.right, self.scale, start, out))
