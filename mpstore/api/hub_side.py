"""The part of `Repository` that speaks to the Hub.

Relies on `api.hub` and remotes, imported when a method is called. Promises: see there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from mpstore.api import arguments
from mpstore.api.opened import Opened

if TYPE_CHECKING:
    from mpstore.api.hub import Remote
    from mpstore.remotes.endpoint import Endpoint
    from mpstore.remotes.pull import PullResult
    from mpstore.remotes.pull_plan import PullPlan
    from mpstore.remotes.push import PushResult


class HubSide(Opened):
    """Pull, push and serve of an opened repository."""

    def serve(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        token: str | None = None,
        say: Callable[[str], None] | None = None,
    ) -> Endpoint:
        """A bound server of the Hub's protocol over this repository; its `serve_forever()` runs it."""
        from mpstore.remotes.serving import make_server

        return make_server(self._repo, host, port, token=token, say=say)

    def pull(
        self,
        what: str,
        *,
        branch: str | None = None,
        base: str | None = None,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        message: str = "",
        author: str = "",
        threads: int | None = None,
        endpoint: str | None = None,
    ) -> PullResult:
        """Fetch hf://ORG/NAME[@REV], or the origin of a pulled branch again.

        Hooks: pre-pull, and where there was something new post-pull, post-commit.
        """
        from mpstore.api import hub, measuring
        from mpstore.remotes.hub import Hub

        arguments.check(what=what, include=include, exclude=exclude, message=message, author=author)
        arguments.check_given(branch=branch, base=base, threads=threads)
        wanted = hub.wanted(self._repo, what, branch, include, exclude)
        self._hooks.run("pre-pull", {"model": str(wanted.address), "branch": wanted.branch})
        pulled = hub.pull_model(
            self._repo,
            Hub(endpoint, progress=self._progress),
            wanted,
            base=base,
            message=message,
            author=author,
            threads=threads,
            progress=self._progress,
        )
        if pulled.committed.created:
            measuring.compare_with_siblings(self._repo, [pulled.committed.commit], self._progress, threads)
            self._committed("pull", pulled.as_json())
        return pulled

    def look(
        self,
        what: str,
        *,
        branch: str | None = None,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        endpoint: str | None = None,
    ) -> PullPlan:
        """What a pull would bring; nothing is written."""
        from mpstore.api import hub
        from mpstore.remotes.hub import Hub

        arguments.check(what=what, include=include, exclude=exclude)
        arguments.check_given(branch=branch)
        wanted = hub.wanted(self._repo, what, branch, include, exclude)
        return hub.look_at_model(self._repo, Hub(endpoint, progress=self._progress), wanted)

    def push(
        self,
        revision: str,
        target: str,
        *,
        private: bool = False,
        branch: str | None = None,
        message: str = "",
        endpoint: str | None = None,
    ) -> PushResult:
        """Make hf://ORG/NAME hold exactly the files of a revision.

        Hooks: pre-push, and where the Hub has got a new commit post-push.
        """
        from mpstore.api import hub
        from mpstore.remotes.hub import Hub

        arguments.check(target=target, message=message)
        arguments.check_given(branch=branch)
        self._hooks.run("pre-push", {"revision": revision, "target": target, "branch": branch})
        pushed = hub.push_revision(
            self._repo,
            Hub(endpoint, progress=self._progress),
            revision,
            target,
            private=private,
            branch=branch,
            message=message,
            progress=self._progress,
        )
        if pushed.new:
            self._hooks.run("post-push", pushed.as_json())
        return pushed

    def remotes(self) -> tuple[Remote, ...]:
        """The branches that were pulled, and where from."""
        from mpstore.api import hub

        return hub.remotes(self._repo)
