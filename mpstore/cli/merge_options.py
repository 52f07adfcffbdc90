"""The arguments that `mp merge` and `mp plan` share, and how `REV:k=v,…` is read.

Relies on click and errors. Promises: a word that cannot be meant is a UsageError that names the flag; what a
parameter may be is for the operator to say.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import click

from mpstore.cli import quantities
from mpstore.cli.options import threads_option
from mpstore.errors import UsageError

Function = TypeVar("Function", bound=Callable[..., Any])
Value = float | int | bool | str


def merge_options(function: Function) -> Function:
    """What to merge, and under which limits."""
    for option in reversed(
        (
            click.option("--base", metavar="REV", help="The model that deltas are taken from."),
            click.option(
                "--expert",
                "experts",
                multiple=True,
                metavar="REV[:k=v,…]",
                help="A model to merge, with its parameters. Repeat.",
            ),
            click.option("--op", "operator", metavar="NAME", help="The operator: linear, ties, dare_ties, …"),
            click.option(
                "--set", "settings", multiple=True, metavar="k=v", help="A global parameter. Repeat."
            ),
            click.option(
                "--budget", metavar="B", help="Read no more for experts: 2GiB, or 25% of their raw bytes."
            ),
            click.option("--max-error", metavar="E", help="Read as little as keeps the bound under E."),
            click.option("--seed", type=int, help="Seed of random masks (default: 0)."),
            click.option("--policy", metavar="NAME", help="How blocks are chosen (default: the best known)."),
            click.option("--plan", "plan_id", metavar="ID", help="Execute a stored plan instead."),
            threads_option,
            click.option("--memory", metavar="SIZE", help="Memory that buffers may take: 1GiB."),
        )
    ):
        function = option(function)
    return function


def request(
    recipe: str | None,
    base: str | None,
    experts: Sequence[str],
    operator: str | None,
    settings: Sequence[str],
    budget: str | None,
    max_error: str | None,
    seed: int | None,
    policy: str | None,
) -> dict[str, Any]:
    """The keyword arguments of `Repository.merge` and `.plan` that say what to merge."""
    flags = {"--base": base, "--expert": experts, "--op": operator, "--set": settings}
    given = [flag for flag, value in flags.items() if value]
    if recipe is not None and given:
        raise UsageError(f"a recipe says all of it: leave {given[0]} out", hint="write it into the recipe")
    return {
        "recipe": recipe,
        "base": base,
        "experts": [expert_of(text) for text in experts],
        "operator": operator,
        "parameters": settings_of(settings, "--set"),
        "budget": budget,
        "max_error": max_error,
        "seed": seed,
        "policy": policy,
    }


def memory_bytes(text: str | None) -> int | None:
    return None if text is None else quantities.parse_size(text, "--memory")


def expert_of(text: str) -> tuple[str, Mapping[str, Value]]:
    """ "math:weight=1,density=.2" -> ("math", {"weight": 1, "density": 0.2}); a URL keeps its colon."""
    model, colon, tail = text.rpartition(":")
    if not colon or "=" not in tail:
        return text, {}
    if not model:
        raise UsageError(f"--expert {text}: no revision before the colon", hint="write --expert REV:weight=1")
    return model, settings_of(tail.split(","), f"--expert {model}")


def settings_of(pairs: Sequence[str], flag: str) -> dict[str, Value]:
    """{"k": value} of "k=v" words."""
    found: dict[str, Value] = {}
    for pair in pairs:
        key, equals, value = (part.strip() for part in pair.partition("="))
        if not (key and equals and value):
            raise UsageError(f"{flag}: '{pair}' is not of the form name=value", hint="for example weight=0.5")
        if key in found:
            raise UsageError(f"{flag}: {key} is given twice", hint="keep one of the two")
        found[key] = _value(value)
    return found


def _value(text: str) -> Value:
    lowered = text.lower()
    if lowered in ("true", "false"):
        return lowered == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
