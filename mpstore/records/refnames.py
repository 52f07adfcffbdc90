"""Which names a ref may have: git's rules for branches and tags, and one character less (a leading `@`).

Relies on errors. Promises: a name that passes is a safe relative path of plain components, and can never
collide with a log entry (`@<seq>`), with revision syntax, or with a flag on the command line.
"""

from __future__ import annotations

from typing import Final

from mpstore.errors import UsageError

KINDS: Final = {"heads": "branch", "tags": "tag", "stats": "statistics"}
MAX_NAME_BYTES: Final = 1024
MAX_COMPONENT_BYTES: Final = 200
_FORBIDDEN: Final = " ~^:?*[\\"


def check_name(name: str) -> str:
    """Return a full ref name ("heads/base", "tags/v1") if it is allowed; UsageError names the rule if not."""
    kind, slash, rest = name.partition("/")
    if kind not in KINDS or not slash:
        raise UsageError(f"ref name {name!r} must begin with one of {', '.join(f'{k}/' for k in KINDS)}")
    rule = _broken_rule(rest)
    if rule:
        raise UsageError(f"{KINDS[kind]} name {rest!r:.200} is not allowed: {rule}")
    return name


def _broken_rule(name: str) -> str | None:
    """The rule of git check-ref-format (or ours) that the name breaks, in words."""
    if not name:
        return "it is empty"
    odd = next((char for char in name if not char.isprintable()), None)
    if odd is not None:
        return f"it has a control or invisible character (U+{ord(odd):04X})"
    forbidden = next((char for char in name if char in _FORBIDDEN), None)
    if forbidden is not None:
        return "it has a space" if forbidden == " " else f"it has a {forbidden!r}"
    if ".." in name:
        return "it has '..'"
    if "@{" in name:
        return "it has '@{'"
    if len(name.encode()) > MAX_NAME_BYTES:
        return f"it is longer than {MAX_NAME_BYTES} bytes"
    for component in name.split("/"):
        rule = _broken_component_rule(component)
        if rule:
            return rule
    first, slash, _ = name.partition("/")
    if slash and first in ("refs", *KINDS):
        return f"{first}/ is how the full name of a branch or tag begins"
    return None


def _broken_component_rule(component: str) -> str | None:
    if not component:
        return "it begins or ends with '/', or has '//'"
    if component[0] in ".-@":
        return f"a part begins with {component[0]!r}"
    if component.endswith((".lock", ".")):
        return "a part ends with '.lock' or '.'"
    if len(component.encode()) > MAX_COMPONENT_BYTES:
        return f"a part is longer than {MAX_COMPONENT_BYTES} bytes"
    return None


def describe(name: str) -> str:
    """A full ref name for people: "branch 'base'", "tag 'v1'"."""
    kind, _, rest = name.partition("/")
    return f"{KINDS.get(kind, kind)} {rest!r}"
