"""`python -m mpstore.cli` is `mp`."""

from mpstore.cli.entry import start

start()
