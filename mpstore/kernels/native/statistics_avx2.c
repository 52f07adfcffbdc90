/* A whole chunk into its statistics with AVX2: the values of statistics_chunk.c.

   Bins other than 0 are moved together by a shuffle that the bits of the mask choose, eight at a time, and counted
   when the chunk is through. Sums of a tile go through memory, as there are twice as many as registers. */
#include "statistics.h"

#if MP_WIDE == 256
#include <immintrin.h>

#define ROW 8          /* elements of a vector */
#define FOURS (LANES / 4) /* vectors of float64 */

typedef struct {
    __m256d squares[FOURS], products[FOURS], base_squares[FOURS], parts[FOURS];
    __m256i top, lowest;
} Lanes;

void prepare_chunks(Signs *signs, bool narrow) {
    for (int mask = 0; mask < 256; mask++) {
        u8 *to = signs->together[mask];
        memset(to, 0, sizeof signs->together[mask]);
        for (u8 lane = 0; lane < 8; lane++)
            if (mask >> lane & 1) {
                *to++ = (u8)(2 * lane);
                *to++ = (u8)(2 * lane + 1);
            }
    }
}

ALWAYS_INLINE __m256 load_values(const void *items, i64 at, bool narrow) {
    if (!narrow) return _mm256_loadu_ps((const float *)items + at);
    __m256i words = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)((const u16 *)items + at)));
    return _mm256_castsi256_ps(_mm256_slli_epi32(words, 16));
}

/* Count, of some elements, the bins of those that have bits below the bin's: few. */
static void count_over(const float *d, u32 *table) {
    for (int i = 0; i < LANES; i++) {
        u32 bits = bits_of(d[i]) & MAGNITUDE;
        if (bits & 0xFFFF) table[bits >> 16]++;
    }
}

/* Append the bins of a row of the tile, other than 0, to the list, which ends where it is returned. */
ALWAYS_INLINE u16 *list_bins(Lanes *lanes, const float *d, bool odd, const Signs *signs, u32 *over, u16 *list) {
    const __m256i magnitude = _mm256_set1_epi32(MAGNITUDE), zero = _mm256_setzero_si256();
    __m256i own[4], zeros[2], any = zero;
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++) {
        own[k] = _mm256_and_si256(_mm256_load_si256((const __m256i *)(d + ROW * k)), magnitude);
        lanes->top = _mm256_max_epu32(lanes->top, own[k]);
        any = _mm256_or_si256(any, own[k]);
    }
    if (odd && __builtin_expect(!_mm256_testz_si256(any, _mm256_set1_epi32(0xFFFF)), 0)) count_over(d, over);
    __m128i bins[4];
#pragma GCC unroll 2
    for (int k = 0; k < 2; k++) { /* fours of two vectors in turn */
        __m256i packed = _mm256_packus_epi32(_mm256_srli_epi32(own[2 * k], 16), _mm256_srli_epi32(own[2 * k + 1], 16));
        zeros[k] = _mm256_cmpeq_epi16(packed, zero);
        lanes->lowest = _mm256_min_epu16(lanes->lowest, _mm256_or_si256(packed, zeros[k]));
        bins[k] = _mm256_castsi256_si128(packed);
        bins[2 + k] = _mm256_extracti128_si256(packed, 1);
    }
    u32 rest = ~(u32)_mm256_movemask_epi8(_mm256_packs_epi16(zeros[0], zeros[1])); /* in the order of `bins` */
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++) {
        u32 mask = rest >> (8 * k) & 0xFF;
        __m128i places = _mm_load_si128((const __m128i *)signs->together[mask]);
        _mm_storeu_si128((__m128i *)list, _mm_shuffle_epi8(bins[k], places));
        list += __builtin_popcount(mask);
    }
    return list;
}

ALWAYS_INLINE __m256d doubles_at(const float *values) { return _mm256_cvtps_pd(_mm_load_ps(values)); }

ALWAYS_INLINE __m256d four_products(const __m256d *x, const __m256d *y) {
    __m256d pair = _mm256_fmadd_pd(x[1], y[1], _mm256_mul_pd(x[0], y[0]));
    __m256d other = _mm256_fmadd_pd(x[3], y[3], _mm256_mul_pd(x[2], y[2]));
    return _mm256_add_pd(pair, other);
}

/* The sketch's float32 sums of a tile. */
ALWAYS_INLINE void sum_signed(const float *d, const float *signs, float *out) {
#pragma GCC unroll 4
    for (int at = 0; at < LANES; at += ROW) {
        __m256 s[4];
#pragma GCC unroll 4
        for (int row = 0; row < 4; row++)
            s[row] = _mm256_mul_ps(_mm256_load_ps(d + row * LANES + at), _mm256_loadu_ps(signs + row * LANES + at));
        _mm256_store_ps(out + at, _mm256_add_ps(_mm256_add_ps(s[0], s[1]), _mm256_add_ps(s[2], s[3])));
    }
}

ALWAYS_INLINE void add_moments(Lanes *lanes, const float *b, const float *d, const float *signed_sums) {
#pragma GCC unroll 1
    for (int four = 0; four < FOURS; four++) {
        __m256d x[4], y[4];
#pragma GCC unroll 4
        for (int row = 0; row < 4; row++) {
            x[row] = doubles_at(d + row * LANES + 4 * four);
            y[row] = doubles_at(b + row * LANES + 4 * four);
        }
        lanes->squares[four] = _mm256_add_pd(lanes->squares[four], four_products(x, x));
        lanes->products[four] = _mm256_add_pd(lanes->products[four], four_products(x, y));
        lanes->base_squares[four] = _mm256_add_pd(lanes->base_squares[four], four_products(y, y));
        lanes->parts[four] = _mm256_add_pd(lanes->parts[four], doubles_at(signed_sums + 4 * four));
    }
}

static u32 largest_of(__m256i words) {
    u32 each[8], top = 0;
    memcpy(each, &words, sizeof each);
    for (int i = 0; i < 8; i++) top = each[i] > top ? each[i] : top;
    return top;
}

static u32 least_of(__m256i words) {
    u16 each[16], least = 0xFFFF;
    memcpy(each, &words, sizeof each);
    for (int i = 0; i < 16; i++) least = each[i] < least ? each[i] : least;
    return least;
}

static void count_listed(u32 *tables, u16 *list, u16 *end) {
    for (int i = 0; i < 4; i++) end[i] = BINS;
    for (; list < end; list += 4) {
        tables[list[0]]++;
        tables[TABLE + list[1]]++;
        tables[2 * TABLE + list[2]]++;
        tables[3 * TABLE + list[3]]++;
    }
}

ALWAYS_INLINE bool observe(const Block *block, i64 start, bool narrow, bool difference, const Signs *signs, u64 flips,
                           Sums *sums, Tally *tally) {
    Lanes lanes = {.top = _mm256_setzero_si256(), .lowest = _mm256_set1_epi16(-1)};
    u16 list[CHUNK + ROW], *end = list;
    memcpy(lanes.squares, sums->squares, sizeof lanes.squares);
    memcpy(lanes.products, sums->products, sizeof lanes.products);
    memcpy(lanes.base_squares, sums->base_squares, sizeof lanes.base_squares);
    for (i64 t = 0; t < CHUNK; t += TILE) {
        _Alignas(32) float b[TILE], d[TILE], signed_sums[LANES];
#pragma GCC unroll 1
        for (i64 at = 0; at < TILE; at += LANES) {
#pragma GCC unroll 4
            for (int i = 0; i < LANES; i += ROW) {
                __m256 own = load_values(block->base, start + t + at + i, narrow);
                __m256 value = load_values(block->expert, start + t + at + i, narrow);
                _mm256_store_ps(b + at + i, own);
                _mm256_store_ps(d + at + i, difference ? _mm256_sub_ps(value, own) : value);
            }
            end = list_bins(&lanes, d + at, narrow && difference, signs, tally->tables + TABLES * TABLE, end);
        }
        sum_signed(d, signs->plain + t, signed_sums);
        add_moments(&lanes, b, d, signed_sums);
    }
    count_listed(tally->tables, list, end);
    tally->zeros += CHUNK - (u32)(end - list);
    u32 top = largest_of(lanes.top), lowest = least_of(lanes.lowest);
    tally->lowest = lowest < tally->lowest ? lowest : tally->lowest;
    tally->highest = top >> 16 > tally->highest ? top >> 16 : tally->highest;
    if (top >= INFINITE) return false;
    sums->top = top > sums->top ? top : sums->top;
    memcpy(sums->squares, lanes.squares, sizeof lanes.squares);
    memcpy(sums->products, lanes.products, sizeof lanes.products);
    memcpy(sums->base_squares, lanes.base_squares, sizeof lanes.base_squares);
    double parts[LANES];
    memcpy(parts, lanes.parts, sizeof parts);
    for (int lane = 0; lane < LANES; lane++) sums->sketch[lane] += flips >> lane & 1 ? -parts[lane] : parts[lane];
    return true;
}

bool observe_whole_chunk(const Block *block, i64 start, const Signs *signs, u64 flips, Sums *sums, Tally *tally) {
    if (block->narrow && block->difference) return observe(block, start, true, true, signs, flips, sums, tally);
    if (block->narrow) return observe(block, start, true, false, signs, flips, sums, tally);
    if (block->difference) return observe(block, start, false, true, signs, flips, sums, tally);
    return observe(block, start, false, false, signs, flips, sums, tally);
}

#endif
