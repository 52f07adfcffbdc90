"""Where the process of a command begins: Ctrl-C before its first module is there ends it as later ones do.

Relies on nothing that takes time to import. Promises: the console script shows no traceback.
"""

from __future__ import annotations

import sys


def start() -> None:
    """The console script `mp`."""
    try:
        from mpstore.cli.main import main
    except KeyboardInterrupt:
        sys.stderr.write("mp: error: interrupted; nothing was changed\n")
        sys.exit(130)
    main()
