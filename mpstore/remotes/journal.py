"""What a cut-off download had brought: the header and the block ids of one file, in order, in cache/.

Relies on files, blocks and the safetensors header. Promises: derived and deletable; nothing in it is believed
without the store having the block, and the file's SHA-256 being right in the end.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from mpstore import files
from mpstore.errors import DamagedError
from mpstore.ids import ID_BYTES, ObjectId, block_id
from mpstore.regular_file import read_regular

_CHUNK_IDS: Final = 1024
_EVERY_IDS: Final = 64
_DISTRUSTED: Final = "distrusted"


class Journal:
    """One file of one commit of one model. For one thread."""

    def __init__(self, root: str, repo_id: str, commit: str, path: str) -> None:
        name = block_id("\0".join((repo_id, commit, path)).encode()).hex()[:32]
        self._root = root
        self._folder = Path(root, "cache", "pull", name)
        self._tmp = Path(root, "tmp")
        self._chunk: list[ObjectId] = []
        self._chunks = 0

    def header(self) -> bytes:
        """The file's header as it was received; empty: none."""
        try:
            return read_regular(self._folder / "header")
        except (OSError, DamagedError):
            return b""

    def ids(self) -> list[ObjectId]:
        """Ids of the blocks that were received, in file order."""
        found = b""
        number = 0
        while True:
            try:
                chunk = read_regular(self._folder / f"{number:08d}")
            except (OSError, DamagedError):
                break
            found += chunk[: len(chunk) // ID_BYTES * ID_BYTES]
            number += 1
            if len(chunk) != _CHUNK_IDS * ID_BYTES:
                break
        return [found[at : at + ID_BYTES] for at in range(0, len(found), ID_BYTES)]

    def begin(self, header: bytes) -> None:
        """Start anew with a header; `append` follows for every block, those known already included."""
        distrusted = self.distrusted()
        self.forget()
        files.make_directories(self._folder, within=self._root)
        if distrusted:
            files.write_whole(self._folder / _DISTRUSTED, b"", self._tmp, durable=False)
        files.write_whole(self._folder / "header", header, self._tmp, durable=False)

    def append(self, block: ObjectId) -> None:
        self._chunk.append(block)
        if len(self._chunk) % _EVERY_IDS == 0:
            self.save()
        if len(self._chunk) == _CHUNK_IDS:
            self._chunk = []
            self._chunks += 1

    def save(self) -> None:
        if self._chunk:
            name = self._folder / f"{self._chunks:08d}"
            files.write_whole(name, b"".join(self._chunk), self._tmp, durable=False)

    def distrust(self) -> None:
        """What was known of the file is wrong, whoever brought it."""
        self.forget()
        files.make_directories(self._folder, within=self._root)
        files.write_whole(self._folder / _DISTRUSTED, b"", self._tmp, durable=False)

    def distrusted(self) -> bool:
        return (self._folder / _DISTRUSTED).exists()

    def forget(self) -> None:
        """A commit names the file."""
        if self._folder.is_dir():
            files.remove_tree(self._folder)
        self._chunk = []
        self._chunks = 0
