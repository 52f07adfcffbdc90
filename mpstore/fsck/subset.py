"""Which part of the data to read: `n/t`, `x%` or a size. Pure.

Relies on errors and numpy. Promises: the t parts of `n/t` cover every object once, whatever packs they lie in
and however packs are rewritten between the runs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from mpstore.errors import UsageError

_PART: Final = re.compile(r"(\d{1,6})/(\d{1,6})")
_SHARE: Final = re.compile(r"(\d{1,3}(?:\.\d{1,6})?)%")
_SIZE: Final = re.compile(r"(\d{1,18}(?:\.\d{1,6})?)\s*([kmgt]?)(i?b)?", re.IGNORECASE)
_POWERS: Final = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


@dataclass(frozen=True)
class Subset:
    """One of: part `number` of `parts`; a `share` in (0, 1] at random; about `size_bytes` at random, which is
    a share once it is known of how much (`of`)."""

    number: int = 1
    parts: int = 1
    share: float | None = None
    size_bytes: int | None = None

    def of(self, total_bytes: int) -> Subset:
        """The same where there are so many bytes in all."""
        if self.size_bytes is None:
            return self
        return Subset(share=min(1.0, self.size_bytes / max(1, total_bytes)))

    def choose(self, prefix: npt.NDArray[np.uint64], generator: np.random.Generator) -> npt.NDArray[np.bool_]:
        """bool[n]: which frames to read, given the first eight bytes of their ids."""
        assert self.size_bytes is None, "of() first"
        if self.share is not None:
            return np.asarray(generator.random(len(prefix)) < self.share)
        return np.asarray(prefix % np.uint64(self.parts) == np.uint64(self.number - 1))


def parse_subset(text: str) -> Subset:
    """The subset that `text` means.

    >>> parse_subset("2/5"), parse_subset("10%").share, parse_subset("1.5G").size_bytes
    (Subset(number=2, parts=5, share=None, size_bytes=None), 0.1, 1610612736)
    """
    word = text.strip()
    if (part := _PART.fullmatch(word)) and 1 <= int(part[1]) <= int(part[2]):
        return Subset(number=int(part[1]), parts=int(part[2]))
    if (share := _SHARE.fullmatch(word)) and 0 < float(share[1]) <= 100:
        return Subset(share=float(share[1]) / 100)
    if size := _SIZE.fullmatch(word):
        unit = (size[3] or "").lower()
        factor = 1000 if unit == "b" and size[2] else 1024
        size_bytes = int(float(size[1]) * factor ** _POWERS[size[2].lower()])
        if size_bytes > 0:
            return Subset(size_bytes=size_bytes)
    raise UsageError(f"no subset {text!r}", hint="n/t (2/10), a share (10%) or a size (2GiB) is expected")
