"""`mp serve`: the repository behind the Hub's protocol, read-only.

Relies on endpoint and store_shelf. Promises: loopback unless told otherwise, and a token where it listens
elsewhere.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable

from mpstore.errors import StorageError, UsageError
from mpstore.remotes.endpoint import Endpoint, EndpointHandler
from mpstore.remotes.store_shelf import StoreShelf
from mpstore.repository import Repo


class _LoggingEndpoint(Endpoint):
    say: Callable[[str], None] | None = None

    def log(self, address: str, line: str) -> None:
        if self.say is not None:
            self.say(f"{address} {line}")


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def make_server(
    repo: Repo,
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    token: str | None = None,
    say: Callable[[str], None] | None = None,
) -> Endpoint:
    """A server that is bound and listens; `serve_forever()` runs it, `shutdown()` ends it.

    UsageError: it would be open to other machines without a token. StorageError: the port is taken.
    """
    if not is_loopback(host) and not token:
        raise UsageError(
            f"--host {host} is open to other machines: a token is needed",
            hint="give --token TOKEN; callers set HF_TOKEN to it",
        )
    try:
        server = _LoggingEndpoint((host, port), StoreShelf(repo), token=token, handler=EndpointHandler)
    except OSError as error:
        raise StorageError(
            f"cannot listen on {host}:{port}: {error.strerror or error}", hint="--port 0 takes any free port"
        ) from error
    server.say = say
    return server
