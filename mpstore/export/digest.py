"""Whether a file is the one whose SHA-256 is recorded: its parts side by side, as far as points are known.

Relies on hashing and hash_points. Promises: points are tried, not believed; those that were found to be right
are kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Final

from mpstore.errors import DamagedError, StorageError
from mpstore.hash_points import HashPoints, Part
from mpstore.hashing import FileHash, Hashing

_READ_BYTES: Final = 1 << 20


@dataclass(frozen=True)
class Digest:
    """The recorded `sha256` of a file of `size` bytes, `path` in its manifest. For any number of threads."""

    path: str
    sha256: bytes
    size: int
    hashing: Hashing
    points: HashPoints

    def parts(self) -> list[Part]:
        """The file in parts that can be hashed by themselves."""
        return self.points.parts(self.sha256, self.size) if self.hashing.resumes else [Part(0, self.size)]

    def begin(self, part: Part) -> FileHash:
        """The hash of a part."""
        size = part.stop - part.start
        if size == self.size:
            return self.hashing.begin(size)
        return self.hashing.resume(part.before, part.start, size)

    def agrees(self, part: Part, own: FileHash) -> bool:
        """Whether a part's hash has come to where it should."""
        if part.start == 0 and not part.after:
            return self.of_all(own) == self.sha256
        digest = own.digest()
        return list(own.points) == [part.after] if part.after else digest == self.sha256

    def of_all(self, own: FileHash) -> bytes:
        """The hash of the whole file; where it is the recorded one, its points are kept."""
        digest = own.digest()
        if digest == self.sha256:
            self.points.keep(digest, own.points)
        return digest

    def of_file(self, path: str) -> bytes:
        """`of_all` of the file at `path`: where a part does not agree, it is either wrong, or the points
        were."""
        with self.hashing.begin(self.size) as own:
            _submit(own, path, 0, self.size)
            return self.of_all(own)

    def check(self, path: str) -> None:
        """DamagedError: the file at `path` is another."""
        agreed: list[bool] = []

        def look(part: Part) -> None:
            with self.begin(part) as own:
                _submit(own, path, part.start, part.stop)
                agreed.append(self.agrees(part, own))

        self.hashing.each([partial(look, part) for part in self.parts()])
        if not all(agreed):
            self.expect(self.of_file(path))

    def expect(self, digest: bytes) -> None:
        """DamagedError: the hash of the whole file, each block of which is whole, is another."""
        if digest != self.sha256:
            raise DamagedError(
                f"{self.path}: SHA-256 is {digest.hex()}, recorded is {self.sha256.hex()}",
                hint="every block is whole, so its manifest is wrong: add the checkpoint again",
            )


def _submit(own: FileHash, path: str, start: int, stop: int) -> None:
    """Have the bytes [start, stop) of a file hashed."""
    try:
        with open(path, "rb") as stream:
            stream.seek(start)
            while start < stop and (data := stream.read(min(_READ_BYTES, stop - start))):
                own.submit(data).result()
                start += len(data)
    except OSError as error:
        raise StorageError(f"{path}: {error.strerror or error}") from error
