"""The command line: one file a verb, listed in `table.py`.

Relies on `mpstore.api` alone. Promises: only here is the environment read, anything printed, or the
process ended.
"""
