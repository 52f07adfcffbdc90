"""All disk writing: staged files, atomic replacement, exclusive creation, fsync of file and directory.

Relies on errors, processes and direct_io. Promises: every operation that changes the disk is announced to
the observer before it happens; OSErrors come out as StorageError with the path; nothing half-written gets a
final name.
"""

from mpstore.files.names import (
    fsync_directory,
    link,
    make_directories,
    remove,
    remove_directory,
    remove_tree,
    rename,
    staging_name,
)
from mpstore.files.opened import AppendedFile, PatchedFile
from mpstore.files.operations import Buffer, Kind, Observer, Operation, Path, set_observer
from mpstore.files.staged import StagedFile, create_exclusive, write_whole

__all__ = [
    "AppendedFile",
    "Buffer",
    "Kind",
    "Observer",
    "Operation",
    "PatchedFile",
    "Path",
    "StagedFile",
    "create_exclusive",
    "fsync_directory",
    "link",
    "make_directories",
    "remove",
    "remove_directory",
    "remove_tree",
    "rename",
    "set_observer",
    "staging_name",
    "write_whole",
]
