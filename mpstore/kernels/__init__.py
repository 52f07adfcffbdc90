"""Pure loops over arrays: numba kernels, each beside the numpy reference that gives the same bits.

Relies on numpy; numba is imported late, when work that pays for its second of start-up comes by. Promises:
`select` decides for the whole process which of the two runs; both give the same bits.
"""

from __future__ import annotations
