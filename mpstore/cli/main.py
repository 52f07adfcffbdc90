"""`mp`: finds the verb, runs it, and turns every error into one line, a hint and an exit code.

Relies on the table of verbs and click. Promises: no traceback reaches a user (MP_DEBUG=1 asks for it); with
`--json` an error is one JSON document on standard error; Ctrl-C and SIGTERM end in 130 and say what is kept.
"""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
from importlib import import_module
from types import FrameType
from typing import TextIO

import click

from mpstore.cli import process
from mpstore.cli import session as session_module
from mpstore.cli.options import CONTEXT, Verb, global_options
from mpstore.cli.session import OutputClosed, Session
from mpstore.cli.table import VERBS
from mpstore.errors import DamagedError, InterruptedByUser, MpError, StorageError, UsageError

_PIPE_CLOSED = 141  # what a shell shows for a program that SIGPIPE ended, as with git

_MOST_SAID = 8000  # characters of one error; a hook's output may be some


class _Verbs(Verb, click.Group):
    """A group whose commands are imported when called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return [verb.name for verb in VERBS]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        for verb in VERBS:
            if verb.name == cmd_name:
                command: click.Command = import_module(f"mpstore.cli.{verb.module}").command
                return command
        return None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and self.get_command(ctx, args[0]) is None:
            import difflib

            near = difflib.get_close_matches(args[0], self.list_commands(ctx), n=1, cutoff=0.5)
            raise UsageError(
                f"there is no command 'mp {args[0]}'",
                hint=f"did you mean 'mp {near[0]}'?" if near else "mp --help lists the commands",
            )
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        for section in dict.fromkeys(verb.section for verb in VERBS):
            with formatter.section(section):
                formatter.write_dl([(verb.name, verb.summary) for verb in VERBS if verb.section == section])


@click.group(cls=_Verbs, invoke_without_command=True, context_settings=CONTEXT)
@click.option("--version", is_flag=True, help="Print the version.")
@global_options
@click.pass_context
def cli(context: click.Context, version: bool) -> None:
    """git for model checkpoints, with merges that read only what they must.

    The repository is found upward from the working directory; -C DIR starts elsewhere, and the environment
    variable MP_DIR names it outright. REV is a branch, a tag, the beginning of an id, or REV~n.
    """
    if version:
        from mpstore import __version__

        context.ensure_object(Session).answer({"version": __version__}, [f"mp {__version__}"])
    elif context.invoked_subcommand is None:
        session_module.print_out(context.get_help())


def main(arguments: list[str] | None = None) -> None:
    """The console script."""
    arguments = sys.argv[1:] if arguments is None else arguments
    session = Session()
    process.begin()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # what its encoding lacks is shown by its number
            stream.reconfigure(errors="backslashreplace")
    signal.signal(signal.SIGTERM, _terminate)
    try:
        code = cli.main(arguments, prog_name="mp", standalone_mode=False, obj=session)
        if sys.stdout is not None:  # None: the caller closed it
            sys.stdout.flush()
    except (BrokenPipeError, OutputClosed):
        _drop(sys.stdout)
        code = _PIPE_CLOSED
    except (KeyboardInterrupt, click.Abort) as error:
        cause = error.__cause__
        if isinstance(cause, EOFError):  # click takes it for Ctrl-D, but nothing here asks for input
            code = _fail(_translate_bug(cause), session)
        else:
            code = _fail(InterruptedByUser(f"interrupted; {session.kept}"), session)
    except click.ClickException as error:
        code = _fail(_translate_usage(error), _with_json(session, arguments))
    except MpError as error:
        code = _fail(error, _with_json(session, arguments))
    except OSError as error:
        code = _fail(_translate_os_error(error), session)
    except MemoryError:
        code = _fail(MpError("out of memory", hint="try fewer --threads, or a smaller --memory"), session)
    except Exception as error:
        code = _fail(_translate_bug(error), session)
    process.end()
    sys.exit(code if isinstance(code, int) else 0)


def _terminate(number: int, frame: FrameType | None) -> None:
    """SIGTERM ends a command the way Ctrl-C does."""
    del number, frame
    raise KeyboardInterrupt


def _with_json(session: Session, arguments: list[str]) -> Session:
    """A usage error can come before `--json` was parsed; the caller asked for it all the same."""
    before_dashes = arguments[: arguments.index("--")] if "--" in arguments else arguments
    session.as_json = session.as_json or "--json" in before_dashes
    return session


def _translate_usage(error: click.ClickException) -> MpError:
    message = error.format_message()
    message = " ".join((message[:1].lower() + message[1:]).split()).rstrip(".,")
    context = getattr(error, "ctx", None)
    where = context.command_path if context is not None else "mp"
    return UsageError(message, hint=f"see {where} --help")


def _translate_os_error(error: OSError) -> MpError:
    path = f"{error.filename}: " if error.filename else ""
    hints = {
        errno.ENOSPC: "free some space and run the command again",
        errno.EDQUOT: "free some space and run the command again",
        errno.EACCES: "check the permissions",
        errno.EROFS: "the file system is read-only",
    }
    return StorageError(f"{path}{error.strerror or error}", hint=hints.get(error.errno or 0))


def _translate_bug(error: Exception) -> MpError:
    if os.environ.get("MP_DEBUG"):
        import traceback

        traceback.print_exception(error)
    name = type(error).__name__
    return MpError(
        f"internal error: {name}: {error}", hint="this is a bug; MP_DEBUG=1 shows where it happened"
    )


def _fail(error: MpError, session: Session) -> int:
    """Print the error where it belongs; the exit code is its own."""
    if len(error.message) > _MOST_SAID:  # it quotes a file or a flag
        error.say(f"{error.message[: _MOST_SAID // 2]} … {error.message[-_MOST_SAID // 2 :]}")
    if isinstance(error, DamagedError) and error.hint is None and error.message.startswith("pack "):
        error.hint = (
            "`mp fsck --read-data` tells what it touches, `mp fsck --repair --from DIR` mends from a copy"
        )
    try:
        _print_error(error, session)
    except OSError:  # nobody hears it: the exit code is what is left to say
        _drop(sys.stderr)
    return error.exit_code


def _print_error(error: MpError, session: Session) -> None:
    if session.as_json:
        document: dict[str, object] = {
            "error": type(error).__name__,
            "message": error.message,
            "hint": error.hint,
            "exit_code": error.exit_code,
        }
        if session.warnings:
            document["warnings"] = session.warnings
        click.echo(session_module.to_json(document), err=True)
    else:
        click.echo(f"mp: error: {error.message}", err=True)
        if error.hint:
            click.echo(f"mp: hint: {error.hint}", err=True)


def _drop(stream: TextIO) -> None:
    """Nobody reads any more: keep the interpreter's last flush from complaining."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


if __name__ == "__main__":
    main()
