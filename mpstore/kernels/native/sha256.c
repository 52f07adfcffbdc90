/* SHA-256 without SHA instructions, one hash: see sha256.h.

   What each block adds to the rounds does not depend on the blocks before it, so it is made for sixteen blocks at
   once, one a lane (Gueron, Krasnov 2012: parallelizing message schedules). The rounds are a chain. A round keeps
   e and a in one vector, as it does f and b, g and c, h and d: then three rotations and one logical step serve
   both sums, and a round takes 13 instructions instead of 25. Two hyperthreads of one core share what it can do in
   a cycle, and there this was 6 to 36 % faster than OpenSSL's code for AVX2; alone on a core it is 3 % slower. */
#include "sha256_words.h"

#if MP_SHA256 && MP_SHA256_WIDE
#define AT_ONCE 16
/* Sums are to be made in the order written: the compiler's may take longer to reach the next round. */
#define AS_WRITTEN(vector) __asm__("" : "+x"(vector))

/* What each round of sixteen blocks adds: word and constant, at [round][block]. */
static void make_schedule(const u8 *bytes, u32 *added) {
    const u8 *from[AT_ONCE];
    __m512i words[AT_ONCE];
    for (int i = 0; i < AT_ONCE; i++) from[i] = bytes + SHA256_BLOCK * i;
    load_16(from, 0, words);
#pragma GCC unroll 64
    for (int t = 0; t < ROUNDS; t++) {
        __m512i word = words[t % 16];
        _mm512_store_si512(added + AT_ONCE * t, _mm512_add_epi32(word, _mm512_set1_epi32((int)SHA256_ADDED[t])));
        if (t >= ROUNDS - 16) continue;
        __m512i x = words[(t + 1) % 16], y = words[(t + 14) % 16];
        __m512i low = _mm512_ternarylogic_epi32(_mm512_ror_epi32(x, 7), _mm512_ror_epi32(x, 18),
                                                _mm512_srli_epi32(x, 3), XOR3);
        __m512i high = _mm512_ternarylogic_epi32(_mm512_ror_epi32(y, 17), _mm512_ror_epi32(y, 19),
                                                 _mm512_srli_epi32(y, 10), XOR3);
        word = _mm512_add_epi32(word, words[(t + 9) % 16]);
        words[t % 16] = _mm512_add_epi32(word, _mm512_add_epi32(low, high));
    }
}

/* Two of the state's words; what is in the other lanes does not matter. */
ALWAYS_INLINE __m128i paired(u32 first, u32 second) { return _mm_set_epi32(0, (int)second, 0, (int)first); }

/* One round of e, a in `x`, f, b in `y`, g, c in `z` and h, d in `u`, which becomes the next e, a. The majority of
   a, b and c is `a ? b | c : b & c`, which makes it a choice as that by e is. */
ALWAYS_INLINE void make_round(__m128i x, __m128i y, __m128i z, __m128i *u, const u32 *added) {
    const __m128i only_first = paired(~0u, 0), only_second = paired(0, ~0u);
    __m128i sums = _mm_ternarylogic_epi32(_mm_rorv_epi32(x, paired(6, 2)), _mm_rorv_epi32(x, paired(11, 13)),
                                          _mm_rorv_epi32(x, paired(25, 22)), XOR3);
    __m128i yes = _mm_ternarylogic_epi32(y, z, only_second, OR_AND);
    __m128i no = _mm_ternarylogic_epi32(z, y, only_first, AND_OR);
    __m128i chosen = _mm_ternarylogic_epi32(yes, x, no, CHOOSE_AC);
    __m128i h = _mm_maskz_add_epi32(1, *u, _mm_loadu_si128((const __m128i *)added));
    __m128i total = _mm_add_epi32(chosen, h);
    AS_WRITTEN(total);
    total = _mm_add_epi32(sums, total);
    AS_WRITTEN(total);
    *u = _mm_add_epi32(total, _mm_alignr_epi8(total, *u, 8)); /* d and the first total */
    AS_WRITTEN(*u);
}

ALWAYS_INLINE void make_rounds(__m128i *state, const u32 *added) {
    __m128i x = state[0], y = state[1], z = state[2], u = state[3];
#pragma GCC unroll 4
    for (int t = 0; t < ROUNDS; t += 4, added += 4 * AT_ONCE) {
        make_round(x, y, z, &u, added);
        make_round(u, x, y, &z, added + AT_ONCE);
        make_round(z, u, x, &y, added + 2 * AT_ONCE);
        make_round(y, z, u, &x, added + 3 * AT_ONCE);
    }
    state[0] = _mm_add_epi32(state[0], x);
    state[1] = _mm_add_epi32(state[1], y);
    state[2] = _mm_add_epi32(state[2], z);
    state[3] = _mm_add_epi32(state[3], u);
}

void sha256_wide(u32 *state, const u8 *bytes, i64 count) {
    _Alignas(64) u32 added[ROUNDS * AT_ONCE + AT_ONCE]; /* a round reads four words and takes one */
    u8 padded[AT_ONCE * SHA256_BLOCK];
    __m128i pairs[4];
    memset(added + ROUNDS * AT_ONCE, 0, AT_ONCE * sizeof *added);
    for (int k = 0; k < 4; k++) pairs[k] = paired(state[4 + k], state[k]);
    for (; count > 0; count -= AT_ONCE, bytes += sizeof padded) {
        int here = (int)least(count, AT_ONCE);
        const u8 *from = bytes;
        if (here < AT_ONCE) {
            memset(padded, 0, sizeof padded);
            from = memcpy(padded, bytes, (size_t)here * SHA256_BLOCK);
        }
        make_schedule(from, added);
        for (int block = 0; block < here; block++) {
            if (count > AT_ONCE + block) __builtin_prefetch(bytes + sizeof padded + SHA256_BLOCK * block);
            make_rounds(pairs, added + block);
        }
    }
    for (int k = 0; k < 4; k++) {
        state[4 + k] = (u32)_mm_extract_epi32(pairs[k], 0);
        state[k] = (u32)_mm_extract_epi32(pairs[k], 2);
    }
}

#endif
