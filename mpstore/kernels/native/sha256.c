/* SHA-256 without SHA instructions: see sha256.h.

   What each block adds to the rounds does not depend on the blocks before it, so it is made for sixteen blocks at
   once, one a lane (Gueron, Krasnov 2012: parallelizing message schedules). The rounds are a chain. A round keeps
   e and a in one vector, as it does f and b, g and c, h and d: then three rotations and one logical step serve
   both sums, and a round takes 13 instructions instead of 25. Two hyperthreads of one core share what it can do in
   a cycle, and there this was 6 to 36 % faster than OpenSSL's code for AVX2; alone on a core it is 3 % slower. */
#include "sha256.h"

#if MP_SHA256
#include <cpuid.h>
#include <immintrin.h>

#define AT_ONCE 16
#define ROUNDS 64
#define INLINE static inline __attribute__((always_inline))
/* Sums are to be made in the order written: the compiler's may take longer to reach the next round. */
#define AS_WRITTEN(vector) __asm__("" : "+x"(vector))
#define XOR3 0x96     /* a ^ b ^ c */
#define OR_AND 0xF8   /* a | (b & c) */
#define AND_OR 0xE0   /* a & (b | c) */
#define CHOOSE_AC 0xE2 /* b ? a : c */

static const u32 ADDED[ROUNDS] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

bool sha256_pays(void) {
    unsigned a, b, c, d;
    return !__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(b >> 29 & 1);
}

/* Sixteen blocks as words: vector w has word w of each. */
INLINE void transpose(const u8 *bytes, __m512i *words) {
    const __m512i reversed = _mm512_set4_epi32(0x0c0d0e0f, 0x08090a0b, 0x04050607, 0x00010203);
    __m512i rows[AT_ONCE], pairs[AT_ONCE];
#pragma GCC unroll 16
    for (int i = 0; i < AT_ONCE; i++)
        rows[i] = _mm512_shuffle_epi8(_mm512_loadu_si512(bytes + SHA256_BLOCK * i), reversed);
#pragma GCC unroll 8
    for (int i = 0; i < AT_ONCE; i += 2) {
        pairs[i] = _mm512_unpacklo_epi32(rows[i], rows[i + 1]);
        pairs[i + 1] = _mm512_unpackhi_epi32(rows[i], rows[i + 1]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < AT_ONCE; i += 4)
        for (int k = 0; k < 2; k++) {
            rows[i + 2 * k] = _mm512_unpacklo_epi64(pairs[i + k], pairs[i + k + 2]);
            rows[i + 2 * k + 1] = _mm512_unpackhi_epi64(pairs[i + k], pairs[i + k + 2]);
        }
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++) { /* rows[4 * j + k]: words k, 4 + k, 8 + k, 12 + k of blocks 4 * j on */
        __m512i even = _mm512_shuffle_i32x4(rows[k], rows[4 + k], 0x88);
        __m512i odd = _mm512_shuffle_i32x4(rows[k], rows[4 + k], 0xdd);
        __m512i later_even = _mm512_shuffle_i32x4(rows[8 + k], rows[12 + k], 0x88);
        __m512i later_odd = _mm512_shuffle_i32x4(rows[8 + k], rows[12 + k], 0xdd);
        words[k] = _mm512_shuffle_i32x4(even, later_even, 0x88);
        words[4 + k] = _mm512_shuffle_i32x4(odd, later_odd, 0x88);
        words[8 + k] = _mm512_shuffle_i32x4(even, later_even, 0xdd);
        words[12 + k] = _mm512_shuffle_i32x4(odd, later_odd, 0xdd);
    }
}

/* What each round of sixteen blocks adds: word and constant, at [round][block]. */
static void make_schedule(const u8 *bytes, u32 *added) {
    __m512i words[AT_ONCE];
    transpose(bytes, words);
#pragma GCC unroll 64
    for (int t = 0; t < ROUNDS; t++) {
        __m512i word = words[t % 16];
        _mm512_store_si512(added + AT_ONCE * t, _mm512_add_epi32(word, _mm512_set1_epi32((int)ADDED[t])));
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
INLINE __m128i paired(u32 first, u32 second) { return _mm_set_epi32(0, (int)second, 0, (int)first); }

/* One round of e, a in `x`, f, b in `y`, g, c in `z` and h, d in `u`, which becomes the next e, a. The majority of
   a, b and c is `a ? b | c : b & c`, which makes it a choice as that by e is. */
INLINE void make_round(__m128i x, __m128i y, __m128i z, __m128i *u, const u32 *added) {
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

INLINE void make_rounds(__m128i *state, const u32 *added) {
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

void sha256_blocks(u32 *state, const u8 *bytes, i64 count) {
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
