"""A checkpoint directory as a list of files: what belongs to it, its kind, the names of its tensors.

Relies on safetensors_file and errors. Promises: nothing but headers and the index is read; every mistake that
headers, index and names can show is told before a byte of content is read; nothing is ever unpickled.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from mpstore.errors import DamagedError, IncompatibleError, NotFoundError, StorageError
from mpstore.records import shapes
from mpstore.records.model import CommitKind, FileKind
from mpstore.safetensors_file import Header, read_header

SUFFIX: Final = ".safetensors"
INDEX_SUFFIX: Final = ".safetensors.index.json"
KIND_METADATA: Final = "mp_kind"
"""A delta checkpoint says so by this key of its safetensors __metadata__ (value "delta"), or by `--kind`."""
NO_CONTENT: Final = frozenset({".git", ".mp", ".cache"})
"""Names of what belongs to no checkpoint."""
_PICKLED: Final = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_MAX_INDEX_BYTES: Final = 100_000_000


@dataclass(frozen=True)
class SourceFile:
    """One file to be added. `path` is POSIX, relative; `source` is what to open; the rest is its stat."""

    path: str
    source: str
    kind: FileKind
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    device: int


@dataclass(frozen=True)
class Checkpoint:
    """What a scan found: files sorted by path, the checked header of each safetensors file, and the kind."""

    root: str
    files: tuple[SourceFile, ...]
    headers: Mapping[str, Header]
    kind: CommitKind

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)


def as_text(path: str | os.PathLike[str]) -> str:
    """A path for a message that is kept: a file system's names are bytes, and may be no Unicode."""
    return os.fsencode(path).decode("utf-8", "replace")


def scan(path: str | os.PathLike[str]) -> Checkpoint:
    """The checkpoint at `path`: a directory, or one safetensors file.

    NotFoundError: nothing there. IncompatibleError: no checkpoint (empty, only pickled weights, special
    files). DamagedError: a header or an index that lies. StorageError: not readable.
    """
    root = os.path.abspath(path)
    if not os.path.lexists(root):
        raise NotFoundError(f"no such directory or file: {os.fspath(path)}")
    if os.path.isdir(root):
        found = list_files(root)
    else:
        found = (_file(root, os.path.basename(root)),)
        root = os.path.dirname(root)
    check_weights(os.fspath(path), [file.path for file in found])
    headers = {file.path: _header(file) for file in found if file.kind == "safetensors"}
    checkpoint = Checkpoint(root, found, headers, kind_of({file.path for file in found}, headers))
    for file in found:
        if file.path.endswith(INDEX_SUFFIX):
            _check_index(file, headers)
    return checkpoint


def list_files(directory: str | os.PathLike[str]) -> tuple[SourceFile, ...]:
    """Every file below the directory that belongs to a checkpoint, sorted by path. Errors as of `scan`."""
    return tuple(sorted(_walk(os.path.abspath(directory)), key=lambda file: file.path))


def check_path(path: str) -> str:
    """A file's path inside a checkpoint, as it may be written below any directory; DamagedError otherwise."""
    try:
        return shapes.check_path(path)
    except UnicodeEncodeError:
        raise DamagedError(f"file {path!r:.200}: its name is not UTF-8", hint="rename the file") from None
    except shapes.Odd as error:
        why = f"no checkpoint may have it ({error})"
        raise DamagedError(f"file {path!r:.200}: {why}", hint="rename the file") from None


def tensor_names(headers: Mapping[str, Header]) -> list[tuple[str, list[str]]]:
    """(path, names of its tensors in file order) of every safetensors file."""
    return [(path, [tensor.name for tensor in header.tensors]) for path, header in headers.items()]


def tensor_keys(files: Iterable[tuple[str, Sequence[str]]]) -> dict[str, tuple[str, ...]]:
    """For each file (path, tensor names), the manifest keys of its tensors, in the same order.

    A name, with "subdirectory/" before it for files in one, and "file.safetensors:" between where a file
    (they are taken sorted by path) repeats a key that an earlier one has.

    >>> tensor_keys([("b.safetensors", ["w"]), ("a.safetensors", ["w"]), ("vae/a.safetensors", ["w"])])
    {'a.safetensors': ('w',), 'b.safetensors': ('b.safetensors:w',), 'vae/a.safetensors': ('vae/w',)}
    """
    taken: set[str] = set()
    keys: dict[str, tuple[str, ...]] = {}
    for path, names in sorted(files):
        directory, slash, leaf = path.rpartition("/")
        own = []
        for name in names:
            key = directory + slash + name
            if key in taken:
                key = f"{directory}{slash}{leaf}:{name}"
            if key in taken:
                raise DamagedError(f"{path}: tensor {name!r} cannot be told from another one's name")
            try:
                taken.add(shapes.check_name(key))
            except shapes.Odd as error:
                raise DamagedError(f"{path}: {error}", hint="rename the tensor") from None
            own.append(key)
        keys[path] = tuple(own)
    return keys


def _walk(root: str) -> Iterator[SourceFile]:
    """A list of what is still to be seen, not recursion: directories may nest deeper than calls."""
    waiting = [(root, "")]
    while waiting:
        directory, prefix = waiting.pop()
        try:
            entries = list(os.scandir(directory))
        except OSError as error:
            raise StorageError(f"{directory}: {error.strerror or error}") from error
        for entry in entries:
            if entry.name in NO_CONTENT:
                continue
            if not entry.is_dir(follow_symlinks=False):
                yield _file(entry.path, prefix + entry.name)
            else:
                waiting.append((entry.path, f"{prefix}{entry.name}/"))


def _file(source: str, path: str) -> SourceFile:
    """Links to files are followed (the Hub's cache is made of them), links to directories are not."""
    check_path(path)
    try:
        found = os.stat(source)
    except FileNotFoundError:
        raise NotFoundError(
            f"{source} is a link to nothing", hint="the Hub's cache lost it: download again"
        ) from None
    except OSError as error:
        raise StorageError(f"{source}: {error.strerror or error}") from error
    if stat.S_ISDIR(found.st_mode):
        raise IncompatibleError(f"{source} is a link to a directory", hint="copy the directory to its place")
    if not stat.S_ISREG(found.st_mode):
        raise IncompatibleError(f"{source} is not a regular file", hint="remove it from the checkpoint")
    kind: FileKind = "safetensors" if path.endswith(SUFFIX) else "opaque"
    return SourceFile(
        path, source, kind, found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_dev
    )


def check_weights(
    path: str, found: Sequence[str], hint: str = "name the directory that holds the weights"
) -> None:
    """IncompatibleError: none of the files is one of safetensors. `path` names the checkpoint."""
    if any(file.endswith(SUFFIX) for file in found):
        return
    pickled = [file for file in found if file.endswith(_PICKLED)]
    if pickled:
        raise IncompatibleError(
            f"{path} has only pickled weights ({pickled[0]}), and mp never unpickles",
            hint="convert them first: https://huggingface.co/spaces/safetensors/convert does it",
        )
    what = "has no .safetensors file" if found else "is empty"
    raise IncompatibleError(f"{path} {what}: no checkpoint", hint=hint)


def _header(file: SourceFile) -> Header:
    try:
        with open(file.source, "rb") as stream:
            return read_header(stream.read, file.source, file.size)
    except OSError as error:
        raise StorageError(f"{file.source}: {error.strerror or error}") from error


def kind_of(paths: set[str], headers: Mapping[str, Header]) -> CommitKind:
    """What the tensors of a checkpoint with these files are."""
    if "adapter_config.json" in paths and set(headers) == {"adapter_model.safetensors"}:
        return "lora"
    if all(header.metadata.get(KIND_METADATA) == "delta" for header in headers.values()):
        return "delta"
    return "full"


def _weight_map(file: SourceFile) -> dict[str, str]:
    if file.size > _MAX_INDEX_BYTES:
        raise DamagedError(f"{file.source}: an index of {file.size} bytes")
    try:
        with open(file.source, "rb") as stream:
            table = json.loads(stream.read(_MAX_INDEX_BYTES + 1))
    except OSError as error:
        raise StorageError(f"{file.source}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise DamagedError(f"{file.source}: is not JSON ({error})") from None
    weight_map = table.get("weight_map") if isinstance(table, dict) else None
    if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
        raise DamagedError(f"{file.source}: has no weight_map from tensors to files")
    return weight_map


def _check_index(file: SourceFile, headers: Mapping[str, Header]) -> None:
    """Every tensor that the index promises must be in the file that it names."""
    directory = file.path[: file.path.rfind("/") + 1]
    names: dict[str, set[str]] = {}
    for tensor, shard in _weight_map(file).items():
        header = headers.get(directory + shard)
        if header is None:
            raise DamagedError(
                f"{file.source}: tensor {tensor!r} should be in {shard!r}, which is not there",
                hint="the checkpoint is incomplete: fetch the missing file",
            )
        if shard not in names:
            names[shard] = {entry.name for entry in header.tensors}
        if tensor not in names[shard]:
            raise DamagedError(
                f"{file.source}: tensor {tensor!r} should be in {shard!r}, which does not have it",
                hint="index and files are of different versions: fetch the checkpoint again",
            )
