"""The operators: one file each, gathered in the explicit table of `table`."""
