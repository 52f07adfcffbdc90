"""Options that several verbs share, and the decorator that makes a function a verb.

Relies on click and the session. Promises: `-C`, `--json` and `-q` mean the same before and after the verb.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

import click

from mpstore.cli.session import Session, print_out
from mpstore.errors import UsageError

CONTEXT: Final = {"help_option_names": ["-h", "--help"], "max_content_width": 100}

Function = TypeVar("Function", bound=Callable[..., Any])


class Verb(click.Command):
    """A command whose help is printed as all other answers are: what goes wrong with standard output is said
    to be that."""

    def get_help_option(self, ctx: click.Context) -> click.Option | None:
        option = super().get_help_option(ctx)
        if option is not None:
            option.callback = _show_help
        return option


def _show_help(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    del parameter
    if value and not context.resilient_parsing:
        print_out(context.get_help())
        context.exit()


def verb(name: str, epilog: str = "") -> Callable[[Callable[..., Any]], click.Command]:
    """Make a function a verb: it gets the Session first, then its own options by name.

    `epilog` is shown verbatim at the end of the verb's help: examples.
    """

    def make(function: Callable[..., Any]) -> click.Command:
        with_session = click.make_pass_decorator(Session, ensure=True)(function)
        examples = "\b\nExamples:\n" + epilog.strip("\n") if epilog else None
        command = click.command(name, cls=Verb, epilog=examples, context_settings=CONTEXT)
        return command(global_options(with_session))

    return make


def global_options(function: Function) -> Function:
    """`-C DIR`, `--json`, `-q`: kept in the Session, not passed on."""
    for option in (
        click.option(
            "-q", "--quiet", is_flag=True, expose_value=False, callback=_set_quiet, help="Say less."
        ),
        click.option("--json", is_flag=True, expose_value=False, callback=_set_json, help="Answer in JSON."),
        click.option(
            "-C",
            "start_in",
            metavar="DIR",
            multiple=True,
            expose_value=False,
            callback=_set_directory,
            help="Work as if started in DIR.",
        ),
    ):
        function = option(function)
    return function


def _set_quiet(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    del parameter
    context.ensure_object(Session).quiet |= value


def _set_json(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    del parameter
    context.ensure_object(Session).as_json |= value


def _set_directory(context: click.Context, parameter: click.Parameter, value: tuple[str, ...]) -> None:
    del parameter
    for directory in value:  # each from where the one before led, as with git
        context.ensure_object(Session).go_to(directory)


def message_option(text: str) -> Callable[[Function], Function]:
    """`-m MSG`, which is refused before anything is done where a record could not hold it."""

    def checked(context: click.Context, parameter: click.Parameter, value: str) -> str:
        del context, parameter
        try:
            value.encode()
        except UnicodeEncodeError:
            raise UsageError(
                "-m: the message is not UTF-8", hint="write it in UTF-8, or leave it out"
            ) from None
        return value

    return click.option("-m", "--message", default="", metavar="MSG", callback=checked, help=text)


def threads_option(function: Function) -> Function:
    """`--threads N`."""
    return click.option(
        "--threads",
        type=click.IntRange(1, 1024),
        help="Worker threads (default: one for each processor that may be used).",
    )(function)
