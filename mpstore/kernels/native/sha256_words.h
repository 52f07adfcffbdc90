/* What the files of SHA-256 share: the constants, what each has for the others, and sixteen blocks turned into words. */
#ifndef MP_SHA256_WORDS_H
#define MP_SHA256_WORDS_H

#include "sha256.h"

#if MP_SHA256
#include <immintrin.h>

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__)
#define MP_SHA256_WIDE 1
#else
#define MP_SHA256_WIDE 0
#endif
#define ROUNDS 64
#define SHA256_OWN_LANES 2
#define XOR3 0x96     /* a ^ b ^ c */
#define OR_AND 0xF8   /* a | (b & c) */
#define AND_OR 0xE0   /* a & (b | c) */
#define CHOOSE_AC 0xE2 /* b ? a : c */
#define CHOOSE_BC 0xCA /* a ? b : c */
#define MAJORITY 0xE8

static const u32 SHA256_ADDED[ROUNDS] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

/* Whether the processor has instructions for it, and then: so many blocks further, 1 or SHA256_OWN_LANES hashes. */
bool sha256_has_own(void);
void sha256_own(u32 *const *states, const u8 *const *from, i64 blocks, int lanes);

#if MP_SHA256_WIDE
/* `count` blocks into one state without those instructions. */
void sha256_wide(u32 *state, const u8 *bytes, i64 count);

/* Sixteen blocks, from[lane] + at, as words: vector w has word w of each. */
ALWAYS_INLINE void load_16(const u8 *const *from, i64 at, __m512i *words) {
    const __m512i reversed = _mm512_set4_epi32(0x0c0d0e0f, 0x08090a0b, 0x04050607, 0x00010203);
    __m512i rows[16], pairs[16];
#pragma GCC unroll 16
    for (int i = 0; i < 16; i++)
        rows[i] = _mm512_shuffle_epi8(_mm512_loadu_si512(from[i] + at), reversed);
#pragma GCC unroll 8
    for (int i = 0; i < 16; i += 2) {
        pairs[i] = _mm512_unpacklo_epi32(rows[i], rows[i + 1]);
        pairs[i + 1] = _mm512_unpackhi_epi32(rows[i], rows[i + 1]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 16; i += 4)
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
#endif

#endif
#endif
