"""A decoder written from docs/codecs.md alone: plain Python, one element at a time, no code of mpstore.

It is here to keep the page honest. Only well-formed blocks are expected.
"""

from __future__ import annotations

import codec_page_bits
import zstandard

WORD_BITS = [8, 8, 8, 8, 16, 16, 32, 32, 64, 64, 16, 16, 32, 64, 8, 8, 8, 8, 8, 32, 8, 8, 8]
ITEM_BYTES = {19: 8}
MANTISSAS = {10: 10, 11: 7, 12: 23, 13: 52, 14: 3, 15: 2, 17: 3, 18: 2, 19: 23}
FLOATS = {10, 11, 12, 13, 14, 15, 17, 18, 19}


def unpack(segment: bytes, size: int) -> bytes:
    return segment if len(segment) == size else zstandard.ZstdDecompressor().decompress(segment)


class Bits:
    def __init__(self, data: bytes) -> None:
        self.value, self.at = int.from_bytes(data, "little"), 0

    def take(self, count: int) -> int:
        self.at += count
        return self.value >> (self.at - count) & ((1 << count) - 1)


def read_table(bits: Bits, symbols: int) -> list[int]:
    first, more, k = bits.take(8), bits.take(8), bits.take(2)
    codes, before = [0] * symbols, 36
    for symbol in range(first, first + more + 1):
        ones = 0
        while ones < 12 and bits.take(1):
            ones += 1
        if ones == 12:
            before = bits.take(6)
        else:
            folded = ones << k | bits.take(k)
            before += -(folded + 1) // 2 if folded % 2 else folded // 2
        codes[symbol] = before
    weights = [(4 + (c - 1) % 4) << (c - 1) // 4 if c else 0 for c in codes]
    present = [s for s in range(symbols) if weights[s]]
    if len(present) == 1:
        lone = present[0]
        return [4095 if s == lone else int(s == lone ^ 1) for s in range(symbols)]
    result = [max(1, w * 4096 // sum(weights)) if w else 0 for w in weights]
    while missing := 4096 - sum(result):
        largest = result.index(max(result))
        result[largest] += max(missing, 1 - result[largest])
    return result


class Stream:
    def __init__(self, data: bytes, lanes: int) -> None:
        self.states = [int.from_bytes(data[4 * i : 4 * i + 4], "little") for i in range(lanes)]
        self.words = [int.from_bytes(data[i : i + 2], "little") for i in range(4 * lanes, len(data), 2)]
        self.at = 0

    def refill(self, lane: int) -> None:
        if self.states[lane] < 1 << 16:
            self.states[lane] = self.states[lane] << 16 | self.words[self.at]
            self.at += 1

    def symbol(self, lane: int, table: list[int]) -> int:
        slot, start, s = self.states[lane] % 4096, 0, 0
        while start + table[s] <= slot:
            start, s = start + table[s], s + 1
        self.states[lane] = table[s] * (self.states[lane] >> 12) + slot - start
        self.refill(lane)
        return s

    def raw(self, lane: int, count: int) -> int:
        value = self.states[lane] & ((1 << count) - 1)
        self.states[lane] >>= count
        self.refill(lane)
        return value

    def done(self) -> bool:
        return self.at == len(self.words) and all(state == 1 << 16 for state in self.states)


def byte_stream(data: bytes, size: int) -> bytes:
    lanes, bits = data[0], Bits(data[1:])
    table = read_table(bits, 256)
    stream = Stream(data[1 + (bits.at + 7) // 8 :], lanes)
    out = bytes(stream.symbol(i % lanes, table) for i in range(size))
    assert stream.done()
    return out


def rans_planes(segments: list[bytes], size: int) -> list[bytes]:
    planes: list[bytes] = []
    for segment in segments:
        mode, data = segment[0], segment[1:]
        if mode == 3:
            values = [v for v in range(256) if data[v // 8] >> v % 8 & 1]
            symbols = byte_stream(data[32:], size)
            planes[-1] = bytes(rest | (s & 3) << 6 for rest, s in zip(planes[-1], symbols, strict=True))
            planes.append(bytes(values[s >> 2] for s in symbols))
        elif mode == 4:
            half, quarter = (size + 1) // 2, (size + 3) // 4
            low, pair = data[:half], data[half:]
            planes.append(
                bytes(
                    low[i % half] >> 4 * (i // half) & 15 | (pair[i % quarter] >> 2 * (i // quarter) & 3) << 4
                    for i in range(size)
                )
            )
        else:
            planes.append(byte_stream(data, size) if mode == 2 else unpack(data, size) if mode else data)
    return planes


def rans_delta(data: bytes, base: list[int], bits: int, is_float: bool) -> list[int]:
    lanes, shift, lowest = data[0], data[1], int.from_bytes(data[2:4], "little")
    contexts, run = data[4] + 1, int.from_bytes(data[5:7], "little")
    chunks, at, coded = -(-len(base) // 128), 7, 0
    if run:
        map_bytes = (-(-chunks // run) + 7) // 8
        coded, at = int.from_bytes(data[7 : 7 + map_bytes], "little"), 7 + map_bytes
    reader = Bits(data[at:])
    tables = [read_table(reader, 16 + 2 * (bits - 4)) for _ in range(contexts)]
    stream = Stream(data[at + (reader.at + 7) // 8 :], lanes)
    out: list[int] = []
    for chunk in range(chunks):
        words = base[128 * chunk : 128 * chunk + 128]
        if run and not coded >> chunk // run & 1:
            out += [0] * len(words)
            continue
        for step in range(0, len(words), lanes):
            tokens = []
            for lane, word in enumerate(words[step : step + lanes]):
                key = (word & ((1 << bits - 1) - 1)) >> shift if is_float else 0
                table = tables[min(max(key, lowest), lowest + contexts - 1) - lowest]
                tokens.append(stream.symbol(lane, table))
            widths = [(t >> 1) - 5 if t >= 16 else 0 for t in tokens]
            values = [(2 | t & 1) << w if t >= 16 else t for t, w in zip(tokens, widths, strict=True)]
            for turn in range(0, max(widths), 16):
                for lane, width in enumerate(widths):
                    if width > turn:
                        values[lane] |= stream.raw(lane, min(16, width - turn)) << turn
            out += values
    assert stream.done()
    return out


def decode(codec: int, form: int, segments: list[bytes], size: int, base: bytes) -> bytes:
    """The raw bytes of a block."""
    bits, is_float = WORD_BITS[form], form in FLOATS
    width, top, full = bits // 8, 1 << bits - 1, (1 << bits) - 1
    count = size // width
    if codec == 0:
        return segments[0]
    if codec == 1:
        return segments[0] * (size // ITEM_BYTES.get(form, width))
    if codec == 2:
        return unpack(segments[0], size)
    base_words = [int.from_bytes(base[i : i + width], "little") for i in range(0, len(base), width)]
    if codec == 6:
        words = rans_delta(segments[0], base_words, bits, is_float)
    elif codec == 8:
        words = codec_page_bits.rice_delta(segments[0], base_words, bits, is_float)
    elif codec == 9:
        words = codec_page_bits.tier_delta(segments[0], base_words)
    elif codec == 7:
        planes = max(MANTISSAS[form] + 1, bits - 8) // 8
        parts = [segments[0], *(unpack(s, count) for s in segments[1 : 1 + planes]), *segments[1 + planes :]]
        words = codec_page_bits.prefix_planes(parts, count, bits, MANTISSAS[form])
    else:
        planes = rans_planes(segments, count) if codec == 5 else [unpack(s, count) for s in segments]
        words = [sum(plane[i] << 8 * k for k, plane in enumerate(planes)) for i in range(count)]
    if codec in (4, 6, 8, 9):
        for i, (z, b) in enumerate(zip(words, base_words, strict=True)):
            distance = z >> 1 ^ (-(z & 1) & full)
            mapped = (~b & full if b & top else b | top) if is_float else b
            moved = (mapped + distance) & full
            words[i] = (moved ^ top if moved & top else ~moved & full) if is_float else moved
    elif is_float:
        words = [w >> 1 | (w & 1) << bits - 1 for w in words]
    return b"".join(w.to_bytes(width, "little") for w in words)
