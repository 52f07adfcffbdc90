"""Floor 6: checkpoints out of the store, byte for byte. `checkout` writes a directory, `FileContent` streams
a file, `status` compares a directory with a commit.

Relies on repository and store. Promises: see the modules.
"""

from mpstore.export.checkout import CheckoutResult, checkout
from mpstore.export.content import FileContent, file_content
from mpstore.export.status import FileStatus, status

__all__ = ["CheckoutResult", "FileContent", "FileStatus", "checkout", "file_content", "status"]
