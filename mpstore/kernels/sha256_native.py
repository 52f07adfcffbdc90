"""SHA-256 in C where hashes side by side are quicker than one after the other, else as hashlib has it.

Relies on kernels.native and hashlib. Promises: the same digests; long updates release the interpreter lock.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from mpstore.ids import Buffer
from mpstore.kernels import native, sha256_numpy
from mpstore.kernels.sha256_numpy import Sha256

_BLOCK_BYTES: Final = 64
_BEGIN: Final = (
    0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19
)  # fmt: skip


def lanes() -> int:
    """How many hashes `together` takes about as long for as for two; 1: each takes its time."""
    found = getattr(native.library(), "sha256_lanes", None)  # not every variant has it
    return 1 if found is None else int(found())


def sha256() -> Sha256:
    """A hash of nothing yet, by whichever code is the faster here."""
    return WideSha256() if lanes() > 1 else hashlib.sha256()


def resumed(point: bytes, taken_bytes: int) -> Sha256:
    """A hash that goes on from a `WideSha256.point`; only where `lanes` are several."""
    return WideSha256(point, taken_bytes)


def together(hashes: Sequence[Sha256], pieces: Sequence[Buffer]) -> None:
    """Go on with each hash by its piece; no hash may stand there twice."""
    wide = [hash for hash in hashes if isinstance(hash, WideSha256)]
    if not wide or len(wide) < len(hashes):
        sha256_numpy.together(hashes, pieces)
        return
    wholes = [hash.begin(piece) for hash, piece in zip(wide, pieces, strict=True)]
    native.library().sha256_together([hash.state for hash in wide], wholes)


class WideSha256:
    """hashlib's interface over `sha256_blocks`. For one thread at a time.

    `point`: where another hash of the same bytes has been after `taken_bytes`, a multiple of 64: this one
    goes on from there.
    """

    def __init__(self, point: bytes = b"", taken_bytes: int = 0) -> None:
        self._blocks: Any = native.library().sha256_blocks
        self.state = np.frombuffer(point, ">u4").astype(np.uint32) if point else np.array(_BEGIN, np.uint32)
        self._rest = b""  # what does not fill a block yet
        self._taken_bytes = taken_bytes

    def point(self) -> bytes:
        """The state after what was taken, a multiple of 64 bytes."""
        return self.state.astype(">u4").tobytes()

    def begin(self, data: Buffer) -> memoryview:
        """Take these bytes; the whole blocks of them that the state must go on by before all else."""
        view = memoryview(data)
        if not view.nbytes:
            return view
        view = view.cast("B")
        self._taken_bytes += view.nbytes
        if self._rest:
            lacking = _BLOCK_BYTES - len(self._rest)
            self._rest += view[:lacking]
            view = view[lacking:]
            if len(self._rest) < _BLOCK_BYTES:
                return view
            self._blocks(self.state, self._rest)
        whole = view.nbytes // _BLOCK_BYTES * _BLOCK_BYTES
        self._rest = bytes(view[whole:])
        return view[:whole]

    def update(self, data: Buffer, /) -> None:
        """Go on with these bytes."""
        whole = self.begin(data)
        if whole.nbytes:
            self._blocks(self.state, whole)

    def digest(self) -> bytes:
        """Of what was taken so far."""
        end = self._rest + b"\x80"
        end += bytes(-(len(end) + 8) % _BLOCK_BYTES) + (8 * self._taken_bytes).to_bytes(8, "big")
        state = self.state.copy()
        self._blocks(state, end)
        return state.astype(">u4").tobytes()

    def hexdigest(self) -> str:
        """The same in hex."""
        return self.digest().hex()
