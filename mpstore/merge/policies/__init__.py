"""Policies: in which order a merge's candidates are worth reading. `table.find` names them all.

Relies on the problem they are given. Promises: pure; none ever sees a byte of a tensor.
"""
