/* A whole chunk into its statistics with vectors of 16 lanes: the values of statistics_chunk.c.

   bfloat16 patterns become float32 by putting zeros between them, which leaves the lanes of a row in another
   order: place 16 h + 4 q + i holds lane 8 q + 4 h + i. Sums are in this order while a chunk lasts.

   A tile's float32 go through memory on their way to float64: widening a vector that was loaded takes one turn
   of a port, widening half of one in a register three. */
#include "statistics.h"

#if MP_WIDE == 512
#include <immintrin.h>

#define ROW 16 /* elements of a vector */

typedef struct {
    __m512d squares[4], products[4], base_squares[4], parts[4];
    __m512i top, lowest, hot[HOT], reached[HOT];
} Lanes;

/* Ends of the lists of bins: of deltas to be counted, and of those above the edge of their bin. */
typedef struct {
    u32 *all, *over;
} Lists;

/* Which lanes are in places 8 group to 8 group + 7: four from here, and four that lie 8 further. */
ALWAYS_INLINE int first_lane(int group) { return 16 * (group & 1) + 4 * (group >> 1); }

ALWAYS_INLINE __m512d lanes_at(const double *lanes, int group, bool narrow) {
    const double *first = lanes + first_lane(group);
    if (!narrow) return _mm512_loadu_pd(lanes + 8 * group);
    return _mm512_insertf64x4(_mm512_castpd256_pd512(_mm256_loadu_pd(first)), _mm256_loadu_pd(first + 8), 1);
}

ALWAYS_INLINE void put_lanes(double *lanes, int group, bool narrow, __m512d values) {
    double *first = lanes + first_lane(group);
    if (!narrow) {
        _mm512_storeu_pd(lanes + 8 * group, values);
    } else {
        _mm256_storeu_pd(first, _mm512_castpd512_pd256(values));
        _mm256_storeu_pd(first + 8, _mm512_extractf64x4_pd(values, 1));
    }
}

ALWAYS_INLINE __mmask8 bits_at(u64 bits, int group, bool narrow) {
    int first = first_lane(group);
    return (__mmask8)(narrow ? (bits >> first & 15) | (bits >> (first + 8) & 15) << 4 : bits >> (8 * group));
}

void prepare_chunks(Signs *signs, bool narrow) {
    for (int at = 0; at < CHUNK; at += LANES)
        for (int four = 0; four < LANES / 4; four++) {
            int place = narrow ? four / 2 * 4 + four % 2 * ROW : 4 * four;
            memcpy(signs->arranged + at + place, signs->plain + at + 4 * four, 4 * sizeof(float));
        }
}

ALWAYS_INLINE void load_row(const void *items, i64 at, bool narrow, __m512 *out) {
    if (narrow) {
        __m512i words = _mm512_loadu_si512((const u16 *)items + at), zero = _mm512_setzero_si512();
        out[0] = _mm512_castsi512_ps(_mm512_unpacklo_epi16(zero, words));
        out[1] = _mm512_castsi512_ps(_mm512_unpackhi_epi16(zero, words));
    } else {
        out[0] = _mm512_loadu_ps((const float *)items + at);
        out[1] = _mm512_loadu_ps((const float *)items + at + ROW);
    }
}

/* Append the bins of a row's deltas, other than 0 and the hot ones; `odd`: and of those with bits below the bin's. */
ALWAYS_INLINE void list_bins(Lanes *lanes, const __m512 *deltas, int hots, bool odd, Lists *lists) {
    __m512i shifted[2];
    __mmask16 over[2];
    u32 *list = lists->all;
#pragma GCC unroll 2
    for (int half = 0; half < 2; half++) {
        __m512i magnitude = _mm512_and_si512(_mm512_castps_si512(deltas[half]), _mm512_set1_epi32(MAGNITUDE));
        lanes->top = _mm512_max_epu32(lanes->top, magnitude);
        shifted[half] = _mm512_srli_epi32(magnitude, 16);
        over[half] = odd ? _mm512_test_epi32_mask(magnitude, _mm512_set1_epi32(0xFFFF)) : 0;
    }
    if (odd && __builtin_expect(over[0] | over[1], 0))
        for (int half = 0; half < 2; half++) {
            _mm512_storeu_si512(lists->over, _mm512_maskz_compress_epi32(over[half], shifted[half]));
            lists->over += _mm_popcnt_u32(over[half]);
        }
    __m512i bins = _mm512_packus_epi32(shifted[0], shifted[1]); /* fours of the halves in turn */
    __mmask32 rest = _mm512_test_epi16_mask(bins, bins);
    lanes->lowest = _mm512_mask_min_epu16(lanes->lowest, rest, lanes->lowest, bins);
#pragma GCC unroll 2
    for (int k = 0; k < hots; k++) {
        __m512i reached = lanes->reached[k];
        lanes->reached[k] = _mm512_mask_add_epi16(reached, rest, reached, _mm512_set1_epi16(1));
        rest = _mm512_mask_cmpneq_epi16_mask(rest, bins, lanes->hot[k]);
    }
    u32 which = _cvtmask32_u32(rest);
    u32 low = _pext_u32(which, 0x0F0F0F0F), high = _pext_u32(which, 0xF0F0F0F0);
    _mm512_storeu_si512(list, _mm512_maskz_compress_epi32((__mmask16)low, shifted[0]));
    list += _mm_popcnt_u32(low);
    _mm512_storeu_si512(list, _mm512_maskz_compress_epi32((__mmask16)high, shifted[1]));
    lists->all = list + _mm_popcnt_u32(high);
}

ALWAYS_INLINE __m512d doubles_at(const float *values) { return _mm512_cvtps_pd(_mm256_load_ps(values)); }

ALWAYS_INLINE __m512d four_products(const __m512d *x, const __m512d *y) {
    __m512d pair = _mm512_fmadd_pd(x[1], y[1], _mm512_mul_pd(x[0], y[0]));
    __m512d other = _mm512_fmadd_pd(x[3], y[3], _mm512_mul_pd(x[2], y[2]));
    return _mm512_add_pd(pair, other);
}

/* The sketch's float32 sums of a tile. */
ALWAYS_INLINE void sum_signed(const __m512 *d, const float *signs, float *out) {
#pragma GCC unroll 2
    for (int half = 0; half < 2; half++) {
        __m512 s[4];
#pragma GCC unroll 4
        for (int row = 0; row < 4; row++)
            s[row] = _mm512_mul_ps(d[2 * row + half], _mm512_load_ps(signs + row * LANES + half * ROW));
        __m512 sum = _mm512_add_ps(_mm512_add_ps(s[0], s[1]), _mm512_add_ps(s[2], s[3]));
        _mm512_store_ps(out + half * ROW, sum);
    }
}

ALWAYS_INLINE void add_moments(Lanes *lanes, const float *b, const float *d, const float *signed_sums) {
#pragma GCC unroll 4
    for (int group = 0; group < 4; group++) {
        __m512d x[4], y[4];
#pragma GCC unroll 4
        for (int row = 0; row < 4; row++) {
            x[row] = doubles_at(d + row * LANES + 8 * group);
            y[row] = doubles_at(b + row * LANES + 8 * group);
        }
        lanes->squares[group] = _mm512_add_pd(lanes->squares[group], four_products(x, x));
        lanes->products[group] = _mm512_add_pd(lanes->products[group], four_products(x, y));
        lanes->base_squares[group] = _mm512_add_pd(lanes->base_squares[group], four_products(y, y));
        lanes->parts[group] = _mm512_add_pd(lanes->parts[group], doubles_at(signed_sums + 8 * group));
    }
}

ALWAYS_INLINE void add_tile(Lanes *lanes, const Block *block, i64 at, bool narrow, bool difference, int hots,
                            const float *signs, Lists *lists) {
    _Alignas(64) float b[TILE], d[TILE], signed_sums[LANES];
    __m512 deltas[8];
#pragma GCC unroll 4
    for (int row = 0; row < 4; row++) {
        __m512 own[2], *delta = deltas + 2 * row;
        load_row(block->base, at + LANES * row, narrow, own);
        load_row(block->expert, at + LANES * row, narrow, delta);
#pragma GCC unroll 2
        for (int half = 0; half < 2; half++) {
            if (difference) delta[half] = _mm512_sub_ps(delta[half], own[half]);
            _mm512_store_ps(b + LANES * row + ROW * half, own[half]);
            _mm512_store_ps(d + LANES * row + ROW * half, delta[half]);
        }
        list_bins(lanes, delta, hots, narrow && difference, lists);
    }
    sum_signed(deltas, signs, signed_sums);
    __asm__ volatile("" : : "r"(b), "r"(d), "r"(signed_sums) : "memory"); /* or they stay in registers */
    add_moments(lanes, b, d, signed_sums);
}

ALWAYS_INLINE void begin_chunk(Lanes *lanes, const Sums *sums, const Tally *tally, bool narrow) {
#pragma GCC unroll 4
    for (int group = 0; group < 4; group++) {
        lanes->squares[group] = lanes_at(sums->squares, group, narrow);
        lanes->products[group] = lanes_at(sums->products, group, narrow);
        lanes->base_squares[group] = lanes_at(sums->base_squares, group, narrow);
        lanes->parts[group] = _mm512_setzero_pd();
    }
    lanes->top = _mm512_setzero_si512();
    lanes->lowest = _mm512_set1_epi16(-1);
    for (int k = 0; k < HOT; k++) {
        lanes->hot[k] = _mm512_set1_epi16((short)tally->hot[k]);
        lanes->reached[k] = _mm512_setzero_si512();
    }
}

ALWAYS_INLINE void end_chunk(const Lanes *lanes, u64 flips, bool narrow, Sums *sums) {
#pragma GCC unroll 4
    for (int group = 0; group < 4; group++) {
        put_lanes(sums->squares, group, narrow, lanes->squares[group]);
        put_lanes(sums->products, group, narrow, lanes->products[group]);
        put_lanes(sums->base_squares, group, narrow, lanes->base_squares[group]);
        __m512d part = lanes->parts[group], sketch = lanes_at(sums->sketch, group, narrow);
        part = _mm512_mask_xor_pd(part, bits_at(flips, group, narrow), part, _mm512_set1_pd(-0.0));
        put_lanes(sums->sketch, group, narrow, _mm512_add_pd(sketch, part));
    }
}

ALWAYS_INLINE void count_listed(u32 *tables, u32 *list, u32 *end) {
    _mm512_storeu_si512(end, _mm512_set1_epi32(BINS));
    for (; list < end; list += 4) {
        tables[list[0]]++;
        tables[TABLE + list[1]]++;
        tables[2 * TABLE + list[2]]++;
        tables[3 * TABLE + list[3]]++;
    }
}

static u32 sum_of_words(__m512i words) {
    __m512i even = _mm512_and_si512(words, _mm512_set1_epi32(0xFFFF)), odd = _mm512_srli_epi32(words, 16);
    return (u32)_mm512_reduce_add_epi32(_mm512_add_epi32(even, odd));
}

static u32 least_word(__m512i words) {
    __m512i even = _mm512_and_si512(words, _mm512_set1_epi32(0xFFFF)), odd = _mm512_srli_epi32(words, 16);
    return _mm512_reduce_min_epu32(_mm512_min_epu32(even, odd));
}

/* What was not listed: zeros, and bins that are hot. */
ALWAYS_INLINE void count_others(const Lanes *lanes, int hots, u32 listed, Tally *tally) {
    u32 left = listed;
    for (int k = hots - 1; k >= 0; k--) {
        u32 reached = sum_of_words(lanes->reached[k]);
        tally->tables[tally->hot[k]] += reached - left;
        left = reached;
    }
    tally->zeros += CHUNK - left;
}

ALWAYS_INLINE bool observe(const Block *block, i64 start, bool narrow, bool difference, int hots, const float *signs,
                           u64 flips, Sums *sums, Tally *tally) {
    Lanes lanes;
    u32 list[CHUNK + ROW], over[CHUNK + ROW];
    Lists ends = {list, over};
    begin_chunk(&lanes, sums, tally, narrow);
    for (i64 t = 0; t < CHUNK; t += TILE)
        add_tile(&lanes, block, start + t, narrow, difference, hots, signs + t, &ends);
    count_listed(tally->tables, list, ends.all);
    for (const u32 *bin = over; bin < ends.over; bin++) tally->tables[TABLES * TABLE + *bin]++;
    count_others(&lanes, hots, (u32)(ends.all - list), tally);
    u32 top = _mm512_reduce_max_epu32(lanes.top), lowest = least_word(lanes.lowest);
    tally->lowest = lowest < tally->lowest ? lowest : tally->lowest;
    tally->highest = top >> 16 > tally->highest ? top >> 16 : tally->highest;
    if (top >= INFINITE) return false;
    sums->top = top > sums->top ? top : sums->top;
    end_chunk(&lanes, flips, narrow, sums);
    return true;
}

bool observe_whole_chunk(const Block *block, i64 start, const Signs *signs, u64 flips, Sums *sums,
                         Tally *tally) {
    const float *own = signs->arranged;
    if (block->narrow && block->difference && tally->hot[0] != BINS)
        return observe(block, start, true, true, HOT, own, flips, sums, tally);
    if (block->narrow && block->difference)
        return observe(block, start, true, true, 0, own, flips, sums, tally);
    if (block->narrow) return observe(block, start, true, false, 0, own, flips, sums, tally);
    if (block->difference) return observe(block, start, false, true, 0, own, flips, sums, tally);
    return observe(block, start, false, false, 0, own, flips, sums, tally);
}

#endif
