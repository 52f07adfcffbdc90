"""A progress sink that keeps what it is warned of; what warns here has no work to show."""

from __future__ import annotations

from mpstore.events import Task


class Warned:
    def __init__(self) -> None:
        self.said: list[str] = []

    def task(self, label: str, total: int | None, unit: str) -> Task:
        raise AssertionError((label, total, unit))

    def warn(self, message: str) -> None:
        self.said.append(message)
