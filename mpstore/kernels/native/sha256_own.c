/* SHA-256 with the processor's own instructions. Two rounds wait four cycles for the two before them, and could begin
   every two: two hashes side by side take as long as one, and that is why this is here, as OpenSSL's does one. */
#include "sha256_words.h"

#if MP_SHA256
#include <cpuid.h>

#define WITH_OWN __attribute__((target("sha,sse4.1,ssse3")))

bool sha256_has_own(void) {
    static int known = -1; /* in a virtual machine asking costs more than many a piece */
    int found = __atomic_load_n(&known, __ATOMIC_RELAXED);
    if (found < 0) {
        unsigned a, b, c, d;
        found = __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b >> 29 & 1);
        __atomic_store_n(&known, found, __ATOMIC_RELAXED);
    }
    return found;
}

/* a b e f and c d g h, the highest word first: as the instructions take the state. */
typedef struct {
    __m128i abef, cdgh;
} State;

ALWAYS_INLINE WITH_OWN State load_state(const u32 *words) {
    __m128i dcba = _mm_loadu_si128((const __m128i *)words), hgfe = _mm_loadu_si128((const __m128i *)(words + 4));
    __m128i cdab = _mm_shuffle_epi32(dcba, 0xB1), efgh = _mm_shuffle_epi32(hgfe, 0x1B);
    return (State){_mm_alignr_epi8(cdab, efgh, 8), _mm_blend_epi16(efgh, cdab, 0xF0)};
}

ALWAYS_INLINE WITH_OWN void store_state(State state, u32 *words) {
    __m128i feba = _mm_shuffle_epi32(state.abef, 0x1B), dchg = _mm_shuffle_epi32(state.cdgh, 0xB1);
    _mm_storeu_si128((__m128i *)words, _mm_blend_epi16(feba, dchg, 0xF0));
    _mm_storeu_si128((__m128i *)(words + 4), _mm_alignr_epi8(dchg, feba, 8));
}

/* Four words of the schedule: read in the first 16 rounds, and made of those before in the others. */
ALWAYS_INLINE WITH_OWN __m128i next_words(__m128i *w, const u8 *bytes, int four) {
    const __m128i reversed = _mm_setr_epi8(3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12);
    if (four < 4) return w[four] = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)bytes + four), reversed);
    __m128i *own = &w[four % 4], last = w[(four + 3) % 4];
    __m128i seven_back = _mm_alignr_epi8(last, w[(four + 2) % 4], 4);
    *own = _mm_sha256msg1_epu32(*own, w[(four + 1) % 4]);
    return *own = _mm_sha256msg2_epu32(_mm_add_epi32(*own, seven_back), last);
}

ALWAYS_INLINE WITH_OWN void go_on(u32 *const *states, const u8 *const *from, i64 blocks, int lanes) {
    State state[SHA256_OWN_LANES];
    for (int lane = 0; lane < lanes; lane++) state[lane] = load_state(states[lane]);
    for (i64 at = 0; at < blocks * SHA256_BLOCK; at += SHA256_BLOCK) {
        State s[SHA256_OWN_LANES];
        __m128i w[SHA256_OWN_LANES][4];
        memcpy(s, state, sizeof s);
#pragma GCC unroll 16
        for (int four = 0; four < ROUNDS / 4; four++)
#pragma GCC unroll 2
            for (int lane = 0; lane < lanes; lane++) {
                __m128i added = _mm_add_epi32(next_words(w[lane], from[lane] + at, four),
                                              _mm_loadu_si128((const __m128i *)SHA256_ADDED + four));
                s[lane].cdgh = _mm_sha256rnds2_epu32(s[lane].cdgh, s[lane].abef, added);
                s[lane].abef = _mm_sha256rnds2_epu32(s[lane].abef, s[lane].cdgh, _mm_shuffle_epi32(added, 0x0E));
            }
        for (int lane = 0; lane < lanes; lane++) {
            state[lane].abef = _mm_add_epi32(state[lane].abef, s[lane].abef);
            state[lane].cdgh = _mm_add_epi32(state[lane].cdgh, s[lane].cdgh);
        }
    }
    for (int lane = 0; lane < lanes; lane++) store_state(state[lane], states[lane]);
}

WITH_OWN void sha256_own(u32 *const *states, const u8 *const *from, i64 blocks, int lanes) {
    if (lanes == SHA256_OWN_LANES)
        go_on(states, from, blocks, SHA256_OWN_LANES);
    else
        go_on(states, from, blocks, 1);
}

#endif
