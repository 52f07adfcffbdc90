/* What rans_words.c does with a chunk of words of one width: included there once a width, with WORD, its BITS, and
   WIDE, the type to compute tokens in. A block's words may lie at any address. */
#define JOINED(name, bits) name##_##bits
#define JOIN(name, bits) JOINED(name, bits)
#define OF(name) JOIN(name, BITS)
#define TOP ((WORD)((WORD)1 << (BITS - 1)))

typedef WORD OF(Words) __attribute__((aligned(1), may_alias));

/* In the order of the values: of the negative all bits are flipped, of the others the sign. */
static inline WORD OF(ordered)(WORD word) { return (WORD)(word ^ (TOP | (WORD)(0 - (word >> (BITS - 1))))); }
static inline WORD OF(patterned)(WORD word) { return (WORD)(word ^ (TOP | (WORD)((word >> (BITS - 1)) - 1))); }

static inline WORD OF(distance)(WORD word, WORD base) {
    WORD step = (WORD)(word - base);
    return (WORD)((WORD)(step << 1) ^ (WORD)(0 - (step >> (BITS - 1))));
}

static inline WORD OF(moved)(WORD base, WORD distance) {
    return (WORD)((WORD)((distance >> 1) ^ (WORD)(0 - (distance & 1))) + base);
}

static bool OF(distances)(bool sign, const OF(Words) *words, const OF(Words) *base, i64 count, OF(Words) *out) {
    WORD seen = 0;
    if (sign) {
        for (i64 i = 0; i < count; i++) {
            WORD distance = OF(distance)(OF(ordered)(words[i]), OF(ordered)(base[i]));
            out[i] = distance;
            seen |= distance;
        }
    } else {
        for (i64 i = 0; i < count; i++) {
            WORD distance = OF(distance)(words[i], base[i]);
            out[i] = distance;
            seen |= distance;
        }
    }
    return seen != 0;
}

static u64 OF(largest)(u64 mask, const OF(Words) *base, i64 count) {
    WORD found = 0;
    for (i64 i = 0; i < count; i++) {
        WORD magnitude = (WORD)(base[i] & (WORD)mask);
        found = magnitude > found ? magnitude : found;
    }
    return found;
}

static void OF(contexts)(u64 mask, i64 shift, const OF(Words) *base, i64 count, WORD lowest, WORD highest, u32 *out) {
    for (i64 i = 0; i < count; i++) {
        WORD key = (WORD)((WORD)(base[i] & (WORD)mask) >> shift);
        key = key < lowest ? lowest : key;
        key = key > highest ? highest : key;
        out[i] = (u32)(WORD)(key - lowest);
    }
}

/* From 16 on two tokens for each power of two: its number and the bit below the highest. A float has both behind
   each other, and vectors can make one; above 24 bits it would be rounded. */
static inline u8 OF(token)(WORD distance) {
#if BITS <= 16
    u32 long_token = (bits_of((float)(i32)distance) >> 22) - (2 * 127 - 8);
#else
    i64 power = 63 - __builtin_clzll((u64)distance | 1);
    u32 long_token = (u32)(2 * power + 8 + ((distance >> (power - (power > 0))) & 1));
#endif
    return (u8)(distance < 16 ? distance : long_token);
}

static void OF(tokens)(const OF(Words) *distances, i64 count, u8 *tokens) {
    for (i64 i = 0; i < count; i++) tokens[i] = OF(token)(distances[i]);
}

static void OF(rests)(const OF(Words) *distances, i64 turn, i64 count, const u32 *widths, u32 *out) {
    for (i64 i = 0; i < count; i++)
        out[i] = (u32)((WIDE)distances[i] >> (16 * turn)) & ((1u << widths[i]) - 1);
}

static void OF(restore)(bool sign, const u32 *tokens, RansTurns rests, i64 turns, const OF(Words) *base, i64 count,
                        OF(Words) *out) {
    WIDE distances[RANS_CHUNK];
    if (turns == 0) {
        for (i64 i = 0; i < count; i++) distances[i] = tokens[i];
    } else {
        for (i64 i = 0; i < count; i++) {
            u32 token = tokens[i], width = token < 16 ? 0 : (token >> 1) - 5;
            distances[i] = (WIDE)(token < 16 ? token : 2 | (token & 1)) << width;
        }
    }
    for (i64 turn = 0; turn < turns; turn++)
        for (i64 i = 0; i < count; i++) distances[i] |= (WIDE)rests[turn][i] << (16 * turn);
    if (sign) {
        for (i64 i = 0; i < count; i++)
            out[i] = OF(patterned)(OF(moved)(OF(ordered)(base[i]), (WORD)distances[i]));
    } else {
        for (i64 i = 0; i < count; i++) out[i] = OF(moved)(base[i], (WORD)distances[i]);
    }
}

#undef TOP
#undef OF
#undef JOIN
#undef JOINED
#undef WIDE
#undef BITS
#undef WORD
