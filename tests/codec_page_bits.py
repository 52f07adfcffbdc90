"""The decoders of bit streams written from docs/codecs.md alone: plain Python, no code of mpstore.

They are here to keep the page honest. Only well-formed blocks are expected.
"""

from __future__ import annotations

from collections.abc import Iterator


def streams(data: bytes, count: int) -> list[bytes]:
    """The streams behind their lengths."""
    lengths, at = [], 0
    for _ in range(count):
        length = place = 0
        while True:
            byte, at = data[at], at + 1
            length |= (byte & 127) << place
            place += 7
            if byte < 128:
                break
        lengths.append(length)
    found = []
    for length in lengths:
        found.append(data[at : at + length])
        at += length
    assert at == len(data)
    return found


def bits(stream: bytes) -> Iterator[int]:
    for byte in stream:
        for place in range(8):
            yield byte >> place & 1


def rice_delta(data: bytes, base: list[int], width: int, is_float: bool) -> list[int]:
    """The distances of a block."""
    shift, lowest, contexts = data[0], int.from_bytes(data[1:3], "little"), data[3] + 1
    tile, planes, parameters = data[4], data[5], data[6 : 6 + data[3] + 1]
    at, size = 6 + contexts, len(base)
    coded = [True] * size
    if tile:
        tiles = -(-size // (64 << tile - 1))
        flags = list(bits(data[at : at + (tiles + 7) // 8]))
        coded = [bool(flags[i // (64 << tile - 1)]) for i in range(size)]
        at += (tiles + 7) // 8
    parts = streams(data[at:], 3 + 12 + planes + 1)
    flows = [bits(part) for part in parts[:-1]]
    keys = [(word & ((1 << width - 1) - 1)) >> shift if is_float else 0 for word in base]
    own = [parameters[min(max(key - lowest, 0), contexts - 1)] for key in keys]
    speaks = [coded[i] and own[i] >= 128 for i in range(size)]
    group, row = {}, {}
    for g in range(0, size, 64):
        if any(speaks[g : g + 64]):
            group[g] = next(flows[0])
            for r in range(g, min(g + 64, size), 8):
                if group[g] and any(speaks[r : r + 8]):
                    row[r] = next(flows[1])
    out, escapes = [], parts[-1]
    for i in range(size):
        k, value, flagged = own[i] & 63, 0, own[i] >> 6 & 1
        there = coded[i] and (not speaks[i] or row.get(i // 8 * 8, 0))
        if there and (not flagged or next(flows[2])):
            quotient = 0
            while quotient < 12 and next(flows[3 + quotient]):
                quotient += 1
            if quotient == 12:
                value, escapes = int.from_bytes(escapes[: width // 8], "little"), escapes[width // 8 :]
            else:
                low = sum(next(flows[15 + plane]) << plane for plane in range(k))
                value = (quotient << k | low) + flagged
        out.append(value)
    assert not escapes
    return out


def tier_delta(data: bytes, base: list[int]) -> list[int]:
    """The distances of a block."""
    low, middle, tile, calm = data[0] & 15, data[0] >> 4, data[1], int.from_bytes(data[2:4], "little")
    at, groups = 4, -(-len(base) // 64)
    coded = [True] * groups
    if tile:
        tiles = -(-groups // 2 ** (tile - 1))
        flags = list(bits(data[at : at + (tiles + 7) // 8]))
        coded = [bool(flags[g // 2 ** (tile - 1)]) for g in range(groups)]
        at += (tiles + 7) // 8
    parts = streams(data[at:], 2 + low + 1 + middle + 1 + 2)
    flows, far, words = [bits(part) for part in parts[:-2]], list(parts[-2]), parts[-1]
    rows, nonzero, first, second = flows[0], flows[1], flows[2 : 3 + low], flows[3 + low :]
    out = [0] * (64 * groups)
    for g in range(groups):
        row = [next(rows) for _ in range(8)] if coded[g] and calm != 0xFFFF else [0] * 8
        for i in range(64 * g, 64 * g + 64):
            is_calm = (base[i] & 0x7FFF if i < len(base) else 0) >= calm
            if not coded[g] or (is_calm and not row[i % 64 // 8]) or not next(nonzero):
                continue
            out[i] = 1 + sum(next(first[j]) << j for j in range(low))
            if not next(first[low]):
                continue
            out[i] += 1 + sum(next(second[j]) << j for j in range(middle)) << low
            if next(second[middle]):
                value = far.pop(0)
                out[i] += 1 + value << low + middle
                if value == 255:
                    out[i], words = int.from_bytes(words[:2], "little"), words[2:]
    assert not words
    assert not far
    return out[: len(base)]


def tree(lengths: bytes) -> dict[str, int]:
    """Leaf by path from the root, "0" and "1" for the sides."""
    paths, found, depth = [""], {}, 0
    while paths:
        leaves = [leaf for leaf in range(17) if lengths[leaf] == depth]
        found |= dict(zip(paths, leaves, strict=False))
        paths = [path + side for path in paths[len(leaves) :] for side in "01"]
        depth += 1
    return found


def prefix_planes(segments: list[bytes], size: int, width: int, mantissa: int) -> list[int]:
    """The words of a block with their signs rotated; `segments` unpacked."""
    rest = max(mantissa + 1, width - 8)
    first, leaves = segments[0][0], tree(segments[0][1:18])
    inner = sorted(
        {leaf[:n] for leaf in leaves for n in range(len(leaf))}, key=lambda path: (len(path), path)
    )
    parts = streams(segments[0][18:], len(inner) + 1)
    flows, escapes = {path: bits(part) for path, part in zip(inner, parts, strict=False)}, iter(parts[-1])
    out = []
    for i in range(size):
        path = ""
        while path not in leaves:
            path += str(next(flows[path]))
        symbol = next(escapes) if leaves[path] == 16 else first + leaves[path]
        word = symbol << rest
        for plane in range(rest // 8):
            word |= segments[1 + plane][i] << 8 * plane
        for bit in range(rest % 8):
            stream = segments[-1][bit * ((size + 7) // 8) :]
            word |= (stream[i // 8] >> i % 8 & 1) << rest // 8 * 8 + bit
        out.append(word)
    return out
