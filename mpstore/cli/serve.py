"""`mp serve`: the repository as a Hub endpoint that other tools load from."""

from __future__ import annotations

import contextlib

import click

from mpstore.cli.options import verb
from mpstore.cli.session import Session

_NAMED = 8


@verb(
    "serve",
    """
  mp serve --port 8000
  HF_ENDPOINT=http://127.0.0.1:8000 hf download merged --local-dir ./merged
  mp serve --host 0.0.0.0 --token SECRET        # callers set HF_TOKEN=SECRET
""",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0: any free port."
)
@click.option("--token", metavar="TOKEN", envvar="MP_SERVE_TOKEN", help="What callers must bring.")
@click.option("-v", "--verbose", is_flag=True, help="Print every request.")
def command(session: Session, host: str, port: int, token: str | None, verbose: bool) -> None:
    """Serve every branch and commit over the Hub's protocol, read-only, decoding on the fly.

    A model's name is a branch ("merged", or "anything/merged"); its revision is main, or any revision of mp.
    Ends with Ctrl-C.
    """
    repository = session.repository()
    with repository.serve(host, port, token=token, say=session.say if verbose else None) as server:
        session.answer(
            {"endpoint": server.url, "repositories": server.shelf.repositories()},
            [f"HF_ENDPOINT={server.url}", _served(server.shelf.repositories())],
        )
        with contextlib.suppress(KeyboardInterrupt):  # the way a server ends
            server.serve_forever(poll_interval=0.2)


def _served(names: list[str]) -> str:
    listed = ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
    return f"read-only: {listed or 'no branch yet'}; Ctrl-C ends it"
