/* What coding and decoding tiers do with words. */
#ifndef MP_TIERS_WORDS_H
#define MP_TIERS_WORDS_H

#include "tiers_head.h"

#define WORD u16
#define NAME(name) name##_16
#define HALVES
#include "distance_words.h"
#include "words_end.h"

/* The calm elements of a group. */
static inline u64 calm_of(const u16 *base, u16 calm) {
#if defined(__AVX512BW__)
    const __m512i kept = _mm512_set1_epi16(WITHOUT_TOP), from = _mm512_set1_epi16((short)calm);
    u64 lower = _mm512_cmpge_epu16_mask(_mm512_and_si512(_mm512_loadu_si512(base), kept), from);
    u64 upper = _mm512_cmpge_epu16_mask(_mm512_and_si512(_mm512_loadu_si512(base + 32), kept), from);
    return lower | upper << 32;
#else
    u8 found[GROUP];
    for (int i = 0; i < GROUP; i++) found[i] = (base[i] & WITHOUT_TOP) >= calm;
    return above(load_bytes(found), 0);
#endif
}

#endif
