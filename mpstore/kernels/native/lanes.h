/* Vectors of floats for loops that the compiler does not turn into good ones: 16 lanes with AVX-512, 8 with AVX2, else
   4 by the compiler's own vectors.

   F is a vector of floats, M a mask of lanes. Words come and go in pairs of vectors, half 0 and half 1: of bfloat16
   the words at even and at odd places (a shift or a mask makes floats of them), of float16 the first and the last. */
#ifndef MP_LANES_H
#define MP_LANES_H

#include "draws.h"

#define ALWAYS static inline __attribute__((always_inline))

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__)
#include "lanes_avx512.h"
#else
#include "lanes_plain.h"
#endif

#define GROUP (2 * LANES) /* words that are taken at a time */

ALWAYS F f_abs(F x) { return f_of(u_and(u_of(x), u_all(MAGNITUDE))); }

/* To the nearest bfloat16, ties to even, in the upper half of each lane; not for NaN. */
ALWAYS U rounded_bf16(F x) {
    U odd = u_and(u_shift_right(u_of(x), 16), u_all(1));
    return u_add(u_add(u_of(x), u_all(0x7FFF)), odd);
}

/* Half `half` of a group of words. */
ALWAYS F lanes_of(U pairs, const u16 *words, int half, bool float16) {
#if HAVE_FLOAT16
    if (float16) return f16_lanes(words, half);
#endif
    return f_of(half == 0 ? u_shift_left(pairs, 16) : u_and(pairs, u_all(0xFFFF0000u)));
}

ALWAYS void put_words(F first, F last, u16 *out, bool float16) {
#if HAVE_FLOAT16
    if (float16) {
        put_f16(first, last, out);
        return;
    }
#endif
    U upper = u_and(rounded_bf16(last), u_all(0xFFFF0000u));
    u_put(u_or(u_shift_right(rounded_bf16(first), 16), upper), out);
}

/* Of each place among words, twice the largest magnitude, and twice the smallest that is not 0, less 1. */
typedef struct {
    U most, least;
} Extremes;

ALWAYS Extremes extremes_of(U words) {
    U twice = w_add(words, words);
    return (Extremes){twice, w_add(twice, u_all(0xFFFFFFFFu))};
}

ALWAYS Extremes extremes_with(Extremes so_far, U words) {
    Extremes more = extremes_of(words);
    return (Extremes){w_larger(so_far.most, more.most), w_smaller(so_far.least, more.least)};
}

ALWAYS bool extremes_within(Extremes words, u16 top, u16 span) {
    return !w_any_more(words.most, top) && !w_any_more(w_sub(words.most, words.least), span);
}

/* Of the pairs of elements that a group is, the one that entry i of part 0 or 1 of `States` draws for: where halves
   are the first lanes and the last, part after part; where they are the even elements and the odd, in turn. */
static inline int pair_of(bool float16, int part, int i) { return float16 ? part * (LANES / 2) + i : 2 * i + part; }

#endif
