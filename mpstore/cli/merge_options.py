"""The arguments that `mp merge` and `mp plan` share.

Relies on click and errors. Promises: a recipe and flags that say the same twice are a UsageError; what the
words mean is for the recipe's room to say.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

import click

from mpstore.cli import quantities
from mpstore.cli.options import threads_option
from mpstore.errors import UsageError

Function = TypeVar("Function", bound=Callable[..., Any])


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
            click.option(
                "--max-error",
                metavar="E",
                help="Read as little as keeps the error's bound, over the base's norm, under E.",
            ),
            click.option("--seed", type=int, help="Seed of random masks (default: 0)."),
            click.option("--policy", metavar="NAME", help="How blocks are chosen (default: the best known)."),
            click.option("--plan", "plan_id", metavar="ID", help="A stored plan, and nothing else said."),
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
        "experts": list(experts),
        "operator": operator,
        "parameters": list(settings),
        "budget": budget,
        "max_error": max_error,
        "seed": seed,
        "policy": policy,
    }


_FLAGS: Final = {"experts": "--expert", "operator": "--op", "parameters": "--set", "recipe": "the recipe"}


def only_plan(asked: dict[str, Any]) -> None:
    """A stored plan has said everything; a word beside it would be ignored, so it is an error."""
    given = [key for key, value in asked.items() if value not in (None, [], {}, ())]
    if given:
        raise UsageError(
            f"--plan says all of it: leave {_FLAGS.get(given[0], '--' + given[0].replace('_', '-'))} out",
            hint="mp plan --plan ID, or mp merge --plan ID --branch NAME",
        )


def memory_bytes(text: str | None) -> int | None:
    return None if text is None else quantities.parse_size(text, "--memory")
