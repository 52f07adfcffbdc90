"""hf://ORG/NAME[@REV]: the one way a remote model is named.

Relies on errors. Promises: pure.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from mpstore.errors import UsageError

SCHEME: Final = "hf://"
PAGE: Final = "https://huggingface.co/"
_LIKE: Final = ("hf:", "https:", "http:")
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}(?:/[A-Za-z0-9][A-Za-z0-9._-]{0,95})?")


@dataclass(frozen=True)
class Address:
    """A model on the Hub; `revision` None is its default branch."""

    repo_id: str
    revision: str | None = None

    def __str__(self) -> str:
        return SCHEME + self.repo_id + (f"@{self.revision}" if self.revision else "")


def is_address(text: str) -> bool:
    return text.startswith(SCHEME)


def looks_remote(text: str) -> bool:
    """Whether somebody means a model on the Hub, in its form or not: a page's address, or hf: misspelt."""
    return text.startswith(_LIKE)


def parse(text: str) -> Address:
    """UsageError: not of the form.

    >>> parse("hf://org/name@v1")
    Address(repo_id='org/name', revision='v1')
    """
    repo_id, at, revision = text.removeprefix(SCHEME).rstrip("/").partition("@")
    if not is_address(text) or not _NAME.fullmatch(repo_id) or ".." in repo_id or (at and not revision):
        raise UsageError(f"{text!r} does not name a model on the Hub", hint=_meant(text))
    return Address(repo_id, revision or None)


def _meant(text: str) -> str:
    """The form, with the name in it where one can be made out."""
    name, _, rest = text.removeprefix(PAGE).removeprefix("hf:").strip("/").partition("/tree/")
    if not _NAME.fullmatch(name) or name.startswith("http"):
        return "write hf://ORG/NAME or hf://ORG/NAME@REVISION"
    return f"write {SCHEME}{name}" + (f"@{rest.strip('/')}" if rest.strip("/") else "")
