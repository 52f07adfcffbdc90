"""Probability tables of the rANS coders: from counts to 12-bit frequencies that cost a few bits a symbol.

Relies on numpy. Promises: integer arithmetic, so every machine that reads the same codes builds the same
table; each row sums to 4096 with every frequency below 4096. The loops are the reference for rans_tables.c.
docs/codecs.md has the bytes.

A symbol's weight is a code: 0 is absent, else (4 + (code - 1) % 4) << ((code - 1) // 4): four an octave.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

LAST_CODE: Final = 51  # 1..51 span the octaves that frequencies can take
TABLE_BYTES: Final = 3 + 18 * 256 // 8  # the most that one context's table can take

_WEIGHTS = [(4 + (code - 1) % 4) << ((code - 1) // 4) for code in range(1, LAST_CODE + 1)]
# In fixed point, so that a plan is the same whatever machine or compiler makes it: log2(1 + i / 256), and
# where the next weight code begins to be the nearer one (geometric means, 8 bits of fraction).
LOGS: Final = np.round(np.log2(1 + np.arange(256) / 256) * 65536).astype(np.int64)
EDGES: Final = np.round(256 * np.sqrt(np.array(_WEIGHTS[:-1], np.float64) * _WEIGHTS[1:])).astype(np.int64)
TABLE_COST: Final = 18 << 16  # what a context's table costs, and each symbol in it, in 1/65536 bit
SYMBOL_COST: Final = 11 << 15


def frequencies(codes: Any, out: Any) -> None:
    """Fill uint32 `out` with the frequencies of weight `codes`, both of shape (contexts, symbols).

    Each weight is scaled to a sum of 4096, rounding down but never below 1; what the sum then lacks goes to
    the largest, what it has too much is taken from the largest. A lone symbol gets 4095, and the symbol whose
    index differs in the lowest bit gets 1. A row of no symbols stays zero.
    """
    for context in range(codes.shape[0]):
        total = 0
        present = 0
        lone = 0
        for symbol in range(codes.shape[1]):
            out[context, symbol] = 0
            code = int(codes[context, symbol])
            if code > 0:
                total += (4 + (code - 1) % 4) << ((code - 1) // 4)
                present += 1
                lone = symbol
        if present == 1:
            out[context, lone] = 4095
            out[context, lone ^ 1] = 1
        if present < 2:
            continue
        missing = 4096
        largest = 0
        for symbol in range(codes.shape[1]):
            code = int(codes[context, symbol])
            if code > 0:
                weight = (4 + (code - 1) % 4) << ((code - 1) // 4)
                frequency = max(1, weight * 4096 // total)
                out[context, symbol] = frequency
                missing -= frequency
                if frequency > out[context, largest]:
                    largest = symbol
        while missing != 0:
            for symbol in range(codes.shape[1]):
                if out[context, symbol] > out[context, largest]:
                    largest = symbol
            change = max(missing, 1 - int(out[context, largest]))
            out[context, largest] = int(out[context, largest]) + change
            missing -= change
            largest = 0


def write_tables(codes: Any, out: Any) -> int:
    """Weight codes (contexts, symbols) as bits into zeroed uint8 `out`, least significant first; the bits.

    Per context: first symbol and number of symbols less one (8 bits each), Rice parameter (2 bits), then per
    symbol its code's zigzagged difference from the one before, Rice coded; 12 ones announce the code itself
    in 6 bits. `out` needs TABLE_BYTES a context.
    """
    position = 0
    for context in range(codes.shape[0]):
        first = 0
        while codes[context, first] == 0:
            first += 1
        last = codes.shape[1] - 1
        while codes[context, last] == 0:
            last -= 1
        costs = np.zeros(4, np.int64)
        before = 36
        for symbol in range(first, last + 1):
            step = int(codes[context, symbol]) - before
            before += step
            for rice in range(4):
                ones = (2 * step if step >= 0 else -2 * step - 1) >> rice
                costs[rice] += ones + 1 + rice if ones < 12 else 18
        rice = int(np.argmin(costs))
        before = 36
        for symbol in range(first - 1, last + 1):
            if symbol < first:
                value = first | ((last - first) << 8) | (rice << 16)
                length = 18
            else:
                code = int(codes[context, symbol])
                step = code - before
                before = code
                fold = 2 * step if step >= 0 else -2 * step - 1
                ones = fold >> rice
                if ones < 12:
                    value = ((1 << ones) - 1) | ((fold & ((1 << rice) - 1)) << (ones + 1))
                    length = ones + 1 + rice
                else:
                    value = 4095 | (code << 12)
                    length = 18
            for bit in range(length):
                out[position >> 3] |= ((value >> bit) & 1) << (position & 7)
                position += 1
    return position


def read_tables(bits: Any, codes: Any) -> int:
    """Fill zeroed uint8 `codes` (contexts, symbols) from `write_tables` bits; bits read, or -1: damaged."""
    position = 0
    limit = bits.size * 8
    for context in range(codes.shape[0]):
        if position + 18 > limit:
            return -1
        head = 0
        for bit in range(18):
            head |= ((int(bits[position >> 3]) >> (position & 7)) & 1) << bit
            position += 1
        first = head & 255
        last = first + ((head >> 8) & 255)
        if last >= codes.shape[1]:
            return -1
        before = 36
        present = 0
        for symbol in range(first, last + 1):
            ones = 0
            while ones < 12 and position < limit and (int(bits[position >> 3]) >> (position & 7)) & 1:
                ones += 1
                position += 1
            width = 6 if ones == 12 else head >> 16
            position += ones < 12
            if position + width > limit:
                return -1
            low = 0
            for bit in range(width):
                low |= ((int(bits[position >> 3]) >> (position & 7)) & 1) << bit
                position += 1
            if ones == 12:
                before = low
            else:
                fold = (ones << (head >> 16)) | low
                before += -((fold + 1) >> 1) if fold & 1 else fold >> 1
            if before < 0 or before > 51:
                return -1
            codes[context, symbol] = before
            present += before > 0
        if present == 0:
            return -1
    return position
