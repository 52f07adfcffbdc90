/* A chunk of a block into its statistics. The order of sums is the reference's: lanes of tiles of 4 rows, one
   tile after the other. A sum that begins with 0 is never -0: adding zeros of either sign changes nothing.

   Products of two float32 are exact in float64: a fused multiply-add rounds what the reference rounds. */
#include "statistics.h"

#define STRIP 512 /* elements at a time: what is derived from them stays in the first-level cache */

#if defined(__FMA__)
#define PLUS_PRODUCT(x, y, sum) __builtin_fma(x, y, sum)
#else
#define PLUS_PRODUCT(x, y, sum) ((sum) + (x) * (y))
#endif

/* x0 y0 + x1 y1 + (x2 y2 + x3 y3) of the rows of a tile. */
#define FOUR_PRODUCTS(x, y)                                                                                \
    (PLUS_PRODUCT((double)(x)[LANES], (double)(y)[LANES], (double)(x)[0] * (double)(y)[0]) +               \
     PLUS_PRODUCT((double)(x)[3 * LANES], (double)(y)[3 * LANES],                                          \
                  (double)(x)[2 * LANES] * (double)(y)[2 * LANES]))

static void widen(const void *restrict words, i64 start, i64 count, bool narrow, float *restrict out) {
    const u16 *restrict patterns = (const u16 *)words + start;
    if (narrow)
        for (i64 i = 0; i < count; i++) out[i] = float_of((u32)patterns[i] << 16);
    else
        memcpy(out, (const float *)words + start, (size_t)count * sizeof *out);
}

static i32 largest(const float *restrict values, i64 count) {
    i32 top = 0;
    for (i64 i = 0; i < count; i++) {
        i32 magnitude = (i32)(bits_of(values[i]) & MAGNITUDE);
        top = magnitude > top ? magnitude : top;
    }
    return top;
}

/* Count the bins of some deltas; returns the largest magnitude. */
static i32 count_bins(const float *restrict d, i64 count, Tally *tally) {
    u16 bins[STRIP + 4];
    i32 top = 0;
    u32 lowest = MAGNITUDE; /* of what is above bin 0, less one bin */
    for (i64 i = 0; i < count; i++) {
        u32 magnitude = bits_of(d[i]) & MAGNITUDE, above = magnitude - 0x10000;
        top = (i32)magnitude > top ? (i32)magnitude : top;
        lowest = above < lowest ? above : lowest;
    }
    for (i64 i = 0; i < count; i++) bins[i] = (u16)((bits_of(d[i]) & MAGNITUDE) >> 16);
    tally->lowest = (u32)least(tally->lowest, (lowest >> 16) + 1);
    tally->highest = (u32)most(tally->highest, top >> 16);
    for (i64 i = count; i < count + 4; i++) bins[i] = BINS;
    u32 *tables = tally->tables;
    for (i64 i = 0; i < count; i += 4) {
        tables[bins[i]]++;
        tables[TABLE + bins[i + 1]]++;
        tables[2 * TABLE + bins[i + 2]]++;
        tables[3 * TABLE + bins[i + 3]]++;
    }
    for (i64 i = 0; i < count && tally->narrow; i++)
        if (bits_of(d[i]) & 0xFFFF) tables[TABLES * TABLE + bins[i]]++;
    return top;
}

static void uncount(u32 magnitude, Tally *tally) {
    u32 *bins = tally->tables + (magnitude >> 16), table = 0;
    while (table + 1 < TABLES && bins[table * TABLE] == 0) table++; /* it was counted in one of them */
    bins[table * TABLE]--;
    if (tally->narrow && magnitude & 0xFFFF) bins[TABLES * TABLE]--;
}

/* What base and expert have in common is no difference, not even NaN and infinities, whose difference is NaN.
   They have been counted by now, with the others. */
static void forget_shared(const Block *block, i64 start, i64 count, float *restrict b, float *restrict d,
                          Tally *tally) {
    float x[STRIP];
    widen(block->expert, start, count, block->narrow, x);
    for (i64 i = 0; i < count; i++) {
        if ((bits_of(d[i]) & MAGNITUDE) < INFINITE || bits_of(x[i]) != bits_of(b[i])) continue;
        uncount(bits_of(d[i]) & MAGNITUDE, tally);
        tally->zeros++;
        b[i] = d[i] = 0;
    }
}

/* Elements whose delta is not finite become zeros; returns the largest magnitude of the others. */
static i32 keep_finite(float *restrict b, float *restrict d, i64 count, Sums *sums) {
    for (i64 i = 0; i < count; i++) {
        bool finite = (bits_of(d[i]) & MAGNITUDE) < INFINITE;
        sums->nonfinite += !finite;
        d[i] = finite ? d[i] : 0;
        b[i] = finite ? b[i] : 0;
    }
    return largest(d, count);
}

static void add_base_squares(const float *restrict b, i64 size, Sums *restrict sums) {
    for (const float *tile = b; tile < b + size; tile += TILE)
        for (i64 lane = 0; lane < LANES; lane++)
            sums->base_squares[lane] += FOUR_PRODUCTS(tile + lane, tile + lane);
}

static void add_moments(const float *restrict b, const float *restrict d, i64 size, Sums *restrict sums) {
    for (i64 t = 0; t < size; t += TILE)
        for (i64 lane = 0; lane < LANES; lane++) {
            const float *x = d + t + lane, *y = b + t + lane;
            sums->squares[lane] += FOUR_PRODUCTS(x, x);
            sums->products[lane] += FOUR_PRODUCTS(x, y);
            sums->base_squares[lane] += FOUR_PRODUCTS(y, y);
        }
}

static void add_sketch(const float *restrict d, i64 size, const float *restrict signs, double *restrict parts) {
    for (i64 t = 0; t < size; t += TILE)
        for (i64 lane = 0; lane < LANES; lane++) {
            const float *x = d + t + lane, *s = signs + t + lane;
            float pair = x[0] * s[0] + x[LANES] * s[LANES];
            float other = x[2 * LANES] * s[2 * LANES] + x[3 * LANES] * s[3 * LANES];
            parts[lane] += (double)(pair + other);
        }
}

/* A chunk whose words are the base's, all finite: its deltas are 0. */
static bool observe_equal(const Block *block, i64 start, i64 count, Sums *sums, Tally *tally) {
    i64 width = block->narrow ? 2 : 4;
    const u8 *base = (const u8 *)block->base + start * width;
    const u8 *expert = (const u8 *)block->expert + start * width;
    if (!block->difference) return false;
    if (base != expert && memcmp(base, expert, (size_t)(count * width)) != 0) return false;
    float b[CHUNK];
    i64 size = (count + TILE - 1) / TILE * TILE;
    widen(block->base, start, count, block->narrow, b);
    for (i64 i = count; i < size; i++) b[i] = 0;
    if (largest(b, count) >= (i32)INFINITE) return false;
    add_base_squares(b, size, sums);
    tally->zeros += (u32)count;
    return true;
}

/* Whether no base's value is NaN or infinite. Of a delta that is no difference, the delta does not tell. */
static bool base_is_finite(const Block *block, i64 start, i64 count) {
    float b[STRIP];
    i32 top = 0;
    for (i64 at = 0; at < count; at += STRIP) {
        i64 own = least(STRIP, count - at);
        widen(block->base, start + at, own, block->narrow, b);
        top = (i32)most(top, largest(b, own));
    }
    return top < (i32)INFINITE;
}

static void drop_infinite(float *restrict b, i64 count) {
    for (i64 i = 0; i < count; i++) b[i] = (bits_of(b[i]) & MAGNITUDE) < INFINITE ? b[i] : 0;
}

void observe_chunk(const Block *block, i64 start, i64 count, const Signs *signs, u64 flips, Sums *sums,
                   Tally *tally) {
    if (observe_equal(block, start, count, sums, tally)) return;
    bool counted = false, clean = block->difference || base_is_finite(block, start, count);
#if MP_WIDE
    if (clean && count == CHUNK && observe_whole_chunk(block, start, signs, flips, sums, tally)) return;
    counted = clean && count == CHUNK;
#endif
    double parts[LANES] = {0};
    for (i64 at = 0; at < count; at += STRIP) {
        float b[STRIP], d[STRIP];
        i64 own = least(STRIP, count - at), size = (own + TILE - 1) / TILE * TILE;
        widen(block->base, start + at, own, block->narrow, b);
        widen(block->expert, start + at, own, block->narrow, d);
        for (i64 i = own; i < size; i++) b[i] = d[i] = 0;
        if (!clean) drop_infinite(b, own);
        if (block->difference)
            for (i64 i = 0; i < own; i++) d[i] -= b[i];
        i32 top = counted ? largest(d, own) : count_bins(d, own, tally);
        if (top >= (i32)INFINITE && block->difference) forget_shared(block, start + at, own, b, d, tally);
        if (top >= (i32)INFINITE) top = keep_finite(b, d, own, sums);
        sums->top = (u32)most(sums->top, top);
        add_moments(b, d, size, sums);
        add_sketch(d, size, signs->plain + at, parts);
    }
    for (i64 lane = 0; lane < LANES; lane++)
        sums->sketch[lane] += flips >> lane & 1 ? -parts[lane] : parts[lane];
}
