"""The graph beside `mp log --graph`: lanes of ASCII, as git draws them.

Relies on nothing. Promises: pure; every line that leaves a commit ends at its parent, if that is
shown.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

Node = TypeVar("Node", bound=Hashable)


@dataclass(frozen=True)
class Drawn(Generic[Node]):
    """One line of the graph; `node` is set on the line that has the commit's star."""

    art: str
    node: Node | None


def draw(nodes: Sequence[tuple[Node, Sequence[Node]]]) -> Iterator[Drawn[Node]]:
    """Lines for `nodes`, (commit, parents) pairs in an order that has children before parents.

    >>> [line.art for line in draw([("m", ("a", "b")), ("b", ("a",)), ("a", ())])]
    ['*', '|\\\\', '| *', '|/', '*']
    """
    shown = {node for node, _ in nodes}
    lanes: list[Node] = []
    for node, parents in nodes:
        if node not in lanes:
            lanes.append(node)
        lane = lanes.index(node)
        for other in [index for index in range(len(lanes) - 1, lane, -1) if lanes[index] == node]:
            yield Drawn(_join(len(lanes), lane, other), None)
            del lanes[other]
        yield Drawn(" ".join("*" if index == lane else "|" for index in range(len(lanes))), node)
        waited = [parent for parent in dict.fromkeys(parents) if parent in shown]
        if not waited:
            if lane < len(lanes) - 1:
                yield Drawn(_end(len(lanes), lane), None)
            del lanes[lane]
            continue
        lanes[lane] = waited[0]
        for parent in reversed(waited[1:]):
            yield Drawn(_fork(len(lanes), lane), None)
            lanes.insert(lane + 1, parent)


def _fork(lanes: int, lane: int) -> str:
    """A lane opens to the right of `lane`; those further right move over."""
    return " ".join(["|"] * lane + ["|\\"] + ["\\"] * (lanes - lane - 1)).rstrip()


def _end(lanes: int, lane: int) -> str:
    """`lane` ends; those further right move over to the left."""
    return (" ".join(["|"] * lane + [""]) + " " + "/ " * (lanes - lane - 1)).rstrip()


def _join(lanes: int, lane: int, other: int) -> str:
    """Lane `other` runs into `lane`; those further right move over to the left."""
    art = [" "] * (2 * lanes)
    for index in range(other):
        art[2 * index] = "|"
    for place in range(2 * lane + 1, 2 * other - 1):
        if art[place] == " ":
            art[place] = "_"
    art[2 * other - 1] = "/"
    for index in range(other + 1, lanes):
        art[2 * index - 1] = "/"
    return "".join(art).rstrip()
