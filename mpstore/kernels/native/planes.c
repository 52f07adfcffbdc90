/* Byte planes of words and what the plane codecs do with bytes, in loops that compilers turn into vectors. */
#include "planes.h"

#define PIECE 1024 /* words at a time, so that all steps find them in the first-level cache */

static void split_pairs(const u8 *restrict pairs, i64 count, u8 *restrict low, u8 *restrict high) {
    for (i64 i = 0; i < count; i++) {
        u16 pair;
        memcpy(&pair, pairs + 2 * i, 2);
        low[i] = (u8)pair;
        high[i] = (u8)(pair >> 8);
    }
}

static void join_pairs(const u8 *restrict low, const u8 *restrict high, i64 count, u8 *restrict pairs) {
    for (i64 i = 0; i < count; i++) {
        u16 pair = (u16)(low[i] | (u16)(high[i] << 8));
        memcpy(pairs + 2 * i, &pair, 2);
    }
}

/* Bytes in pairs are what processors take apart and put together: words of 4 and 8 bytes are split into their
   even and their odd bytes, which are words of half the width. */
static void split_words(const u8 *words, i64 width, i64 count, u8 *scratch, u8 *planes, i64 stride) {
    i64 half = width / 2 * count;
    u8 *even = scratch, *odd = scratch + half, *rest = scratch + 2 * half;
    if (width == 1) {
        memcpy(planes, words, (size_t)count);
    } else if (width == 2) {
        split_pairs(words, count, planes, planes + stride);
    } else {
        split_pairs(words, half, even, odd);
        split_words(even, width / 2, count, rest, planes, 2 * stride);
        split_words(odd, width / 2, count, rest, planes + stride, 2 * stride);
    }
}

static void join_words(const u8 *planes, i64 stride, i64 width, i64 count, u8 *scratch, u8 *words) {
    i64 half = width / 2 * count;
    u8 *even = scratch, *odd = scratch + half, *rest = scratch + 2 * half;
    if (width == 1) {
        memcpy(words, planes, (size_t)count);
    } else if (width == 2) {
        join_pairs(planes, planes + stride, count, words);
    } else {
        join_words(planes, 2 * stride, width / 2, count, rest, even);
        join_words(planes + stride, 2 * stride, width / 2, count, rest, odd);
        join_pairs(even, odd, half, words);
    }
}

/* As split_pairs and join_pairs of rotated words: most words are of two bytes and turned. */
static void split_turned(const u16 *restrict words, i64 count, u8 *restrict low, u8 *restrict high) {
    for (i64 i = 0; i < count; i++) {
        u16 word = (u16)(words[i] << 1) | (u16)(words[i] >> 15);
        low[i] = (u8)word;
        high[i] = (u8)(word >> 8);
    }
}

static void join_turned(const u8 *restrict low, const u8 *restrict high, i64 count, u16 *restrict words) {
    for (i64 i = 0; i < count; i++) {
        u16 word = (u16)(low[i] | (u16)(high[i] << 8));
        words[i] = (u16)(word >> 1) | (u16)(word << 15);
    }
}

/* The top bit goes to the bottom, so that exponent and sign no longer share a byte; and back. */
#define ROTATE(type)                                                                                      \
    static void rotate_##type(const type *restrict words, i64 count, type *restrict out) {                \
        for (i64 i = 0; i < count; i++)                                                                   \
            out[i] = (type)(words[i] << 1) | (type)(words[i] >> (8 * sizeof(type) - 1));                  \
    }                                                                                                     \
    static void unrotate_##type(type *words, i64 count) {                                                 \
        for (i64 i = 0; i < count; i++)                                                                   \
            words[i] = (type)(words[i] >> 1) | (type)(words[i] << (8 * sizeof(type) - 1));                \
    }

ROTATE(u8)
ROTATE(u32)
ROTATE(u64)

void split_planes(const void *restrict words, i64 width, i64 size, bool rotated, u8 *restrict planes) {
    if (rotated && width == 2) {
        split_turned(words, size, planes, planes + size);
        return;
    }
    u64 turned[PIECE];
    u8 scratch[12 * PIECE];
    for (i64 at = 0; at < size; at += PIECE) {
        i64 count = least(PIECE, size - at);
        const void *piece = (const u8 *)words + at * width;
        if (rotated) {
            switch (width) {
            case 1: rotate_u8(piece, count, (void *)turned); break;
            case 4: rotate_u32(piece, count, (void *)turned); break;
            default: rotate_u64(piece, count, turned);
            }
            piece = turned;
        }
        split_words(piece, width, count, scratch, planes + at, size);
    }
}

void join_planes(const u8 *restrict planes, i64 width, i64 size, bool rotated, void *restrict out) {
    if (rotated && width == 2) {
        join_turned(planes, planes + size, size, out);
        return;
    }
    u8 scratch[12 * PIECE];
    for (i64 at = 0; at < size; at += PIECE) {
        i64 count = least(PIECE, size - at);
        void *piece = (u8 *)out + at * width;
        join_words(planes + at, size, width, count, scratch, piece);
        if (!rotated) continue;
        switch (width) {
        case 1: unrotate_u8(piece, count); break;
        case 4: unrotate_u32(piece, count); break;
        default: unrotate_u64(piece, count);
        }
    }
}

/* Several tables in turn: equal neighbours would otherwise wait for each other's store. No two lie 4096 bytes
   apart, which processors take for the same place. */
void count_bytes(const u8 *restrict values, i64 size, u32 *restrict counts) {
    u32 tables[8][256 + 16];
    memset(tables, 0, sizeof tables);
    i64 whole = size / 8 * 8;
    for (i64 i = 0; i < whole; i += 8) {
        u64 eight;
        memcpy(&eight, values + i, 8);
        for (int k = 0; k < 8; k++) tables[k][eight >> (8 * k) & 255]++;
    }
    for (i64 i = whole; i < size; i++) tables[0][values[i]]++;
    for (int k = 0; k < 8; k++)
        for (int value = 0; value < 256; value++) counts[value] += tables[k][value];
}

/* Nibbles of element i, and of i + half above them. */
static void pack_nibbles(const u8 *restrict below, i64 size, i64 half, u8 *restrict packed) {
    i64 both = size - half;
    for (i64 i = 0; i < both; i++) packed[i] = (u8)((below[i] & 15) | (below[half + i] & 15) << 4);
    for (i64 i = both; i < half; i++) packed[i] = below[i] & 15;
}

void split_fine(const u8 *restrict top, const u8 *restrict below, i64 size, const u8 *restrict ranks,
                u8 *restrict symbols, u8 *restrict packed) {
    i64 half = (size + 1) / 2, quarter = (size + 3) / 4;
    for (i64 i = 0; i < size; i++) symbols[i] = ranks[top[i]];
    for (i64 i = 0; i < size; i++) symbols[i] = (u8)(symbols[i] << 2 | below[i] >> 6);
    pack_nibbles(below, size, half, packed);
    u8 *restrict pairs = packed + half;
    memset(pairs, 0, (size_t)quarter);
    for (i64 part = 0; part < 4; part++) {
        i64 count = least(quarter, size - part * quarter);
        const u8 *piece = below + part * quarter;
        for (i64 i = 0; i < count; i++) pairs[i] |= (u8)((piece[i] >> 4 & 3) << (2 * part));
    }
}

void join_fine(const u8 *restrict symbols, i64 size, const u8 *restrict values, const u8 *restrict packed,
               u8 *restrict top, u8 *restrict below) {
    i64 half = (size + 1) / 2, quarter = (size + 3) / 4;
    for (i64 i = 0; i < size; i++) top[i] = values[symbols[i] >> 2];
    for (i64 i = 0; i < size; i++) below[i] = (u8)(symbols[i] << 6);
    for (i64 i = 0; i < half; i++) below[i] |= packed[i] & 15;
    for (i64 i = half; i < size; i++) below[i] |= packed[i - half] >> 4;
    const u8 *restrict pairs = packed + half;
    for (i64 part = 0; part < 4; part++) {
        i64 count = least(quarter, size - part * quarter);
        u8 *piece = below + part * quarter;
        for (i64 i = 0; i < count; i++) piece[i] |= (u8)((pairs[i] >> (2 * part) & 3) << 4);
    }
}

bool same_bytes(const u8 *left, const u8 *right, i64 size) {
    return left == right || memcmp(left, right, (size_t)size) == 0;
}
