/* Several SHA-256 at once. One hash is a chain that nothing can hurry; hashes of several files are chains that do
   not know of each other, and go side by side, one a lane: without SHA instructions eight take 1.2 times as long as one
   (sha256.c), sixteen 2.3 times; with them two as long as one (sha256_own.c). */
#include "sha256_words.h"

#if MP_SHA256
#define MOST_LANES 16

#if MP_SHA256_WIDE
/* Eight blocks, from[lane] + at, as words. */
ALWAYS_INLINE void load_8(const u8 *const *from, i64 at, __m256i *words) {
    const __m256i reversed = _mm256_setr_epi32(0x00010203, 0x04050607, 0x08090a0b, 0x0c0d0e0f, 0x00010203, 0x04050607,
                                               0x08090a0b, 0x0c0d0e0f);
#pragma GCC unroll 2
    for (int half = 0; half < 2; half++, at += 32) {
        __m256i rows[8], pairs[8];
#pragma GCC unroll 8
        for (int i = 0; i < 8; i++)
            rows[i] = _mm256_shuffle_epi8(_mm256_loadu_si256((const __m256i *)(from[i] + at)), reversed);
#pragma GCC unroll 4
        for (int i = 0; i < 8; i += 2) {
            pairs[i] = _mm256_unpacklo_epi32(rows[i], rows[i + 1]);
            pairs[i + 1] = _mm256_unpackhi_epi32(rows[i], rows[i + 1]);
        }
#pragma GCC unroll 2
        for (int i = 0; i < 8; i += 4)
            for (int k = 0; k < 2; k++) {
                rows[i + 2 * k] = _mm256_unpacklo_epi64(pairs[i + k], pairs[i + k + 2]);
                rows[i + 2 * k + 1] = _mm256_unpackhi_epi64(pairs[i + k], pairs[i + k + 2]);
            }
#pragma GCC unroll 4
        for (int k = 0; k < 4; k++) { /* rows[4 * j + k]: words k, 4 + k of lanes 4 * j on */
            words[8 * half + k] = _mm256_permute2x128_si256(rows[k], rows[4 + k], 0x20);
            words[8 * half + 4 + k] = _mm256_permute2x128_si256(rows[k], rows[4 + k], 0x31);
        }
    }
}

#define LANES 8
#define V __m256i
#define OF(name) _mm256_##name
#define LOAD load_8
#define NAME go_on_8
#include "sha256_lanes_body.h"

#define LANES 16
#define V __m512i
#define OF(name) _mm512_##name
#define LOAD load_16
#define NAME go_on_16
#include "sha256_lanes_body.h"

static void go_on(u32 *const *states, const u8 *const *from, i64 blocks, i64 lanes) {
    if (sha256_has_own())
        sha256_own(states, from, blocks, (int)lanes);
    else if (lanes == 1)
        sha256_wide(states[0], from[0], blocks);
    else if (lanes <= 8)
        go_on_8(states, from, blocks);
    else
        go_on_16(states, from, blocks);
}

int sha256_lanes(void) { return sha256_has_own() ? SHA256_OWN_LANES : MOST_LANES; }
#else
static void go_on(u32 *const *states, const u8 *const *from, i64 blocks, i64 lanes) {
    sha256_own(states, from, blocks, (int)lanes);
}

int sha256_lanes(void) { return sha256_has_own() ? SHA256_OWN_LANES : 1; }
#endif

void sha256_blocks(u32 *state, const u8 *bytes, i64 count) { go_on(&state, &bytes, count, 1); }

void sha256_together(u32 **states, const u8 **from, i64 *left, i64 count) {
    i64 most = sha256_lanes();
    for (;;) {
        u32 *own[MOST_LANES], nobodys[8];
        const u8 *bytes[MOST_LANES];
        i64 members[MOST_LANES], taken = 0, blocks = INT64_MAX;
        for (i64 i = 0; i < count && taken < most; i++)
            if (left[i] > 0) {
                members[taken] = i;
                own[taken] = states[i];
                bytes[taken++] = from[i];
                blocks = least(blocks, left[i]);
            }
        if (taken == 0) return;
        for (i64 lane = taken; lane < MOST_LANES; lane++) {
            own[lane] = nobodys; /* what is hashed there does not matter, but it must be there */
            bytes[lane] = bytes[0];
        }
        memset(nobodys, 0, sizeof nobodys);
        go_on(own, bytes, blocks, taken);
        for (i64 lane = 0; lane < taken; lane++) {
            from[members[lane]] += blocks * SHA256_BLOCK;
            left[members[lane]] -= blocks;
        }
    }
}

#endif
