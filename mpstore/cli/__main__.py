"""`python -m mpstore.cli` is `mp`."""

from mpstore.cli.main import main

main()
