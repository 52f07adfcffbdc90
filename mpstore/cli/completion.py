"""`mp completion`: print a shell completion script."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from mpstore.cli.options import verb
from mpstore.cli.session import Session


@verb(
    "completion",
    """
  mp completion bash > ~/.local/share/bash-completion/completions/mp
  mp completion zsh  > ~/.zfunc/_mp
  mp completion fish > ~/.config/fish/completions/mp.fish
""",
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(session: Session, shell: str) -> None:
    """Print the completion script of a shell."""
    from mpstore.cli.main import cli

    kind = get_completion_class(shell)
    assert kind is not None, "click knows the three shells above"
    script = kind(cli, {}, "mp", "_MP_COMPLETE").source()
    session.answer({"shell": shell, "script": script}, [script])
