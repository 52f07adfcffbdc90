/* Steps of the last place between words of one width: included with WORD and NAME set, HALVES for 16 bits. */

#define BITS ((int)(8 * sizeof(WORD)))
#define TOP ((WORD)((WORD)1 << (BITS - 1)))

/* Zigzagged steps of the last place from base to word. */
static inline WORD NAME(distance_of)(WORD word, WORD base, bool sign_magnitude) {
    if (sign_magnitude) {
        word ^= (WORD)(TOP | (WORD)(0 - (WORD)(word >> (BITS - 1))));
        base ^= (WORD)(TOP | (WORD)(0 - (WORD)(base >> (BITS - 1))));
    }
    WORD d = (WORD)(word - base);
    return (WORD)((WORD)(d << 1) ^ (WORD)(0 - (WORD)(d >> (BITS - 1))));
}

/* The word that lies so far from base. */
static inline WORD NAME(word_at)(WORD distance, WORD base, bool sign_magnitude) {
    WORD d = (WORD)((WORD)(distance >> 1) ^ (WORD)(0 - (WORD)(distance & 1)));
    if (!sign_magnitude) return (WORD)(base + d);
    base ^= (WORD)(TOP | (WORD)(0 - (WORD)(base >> (BITS - 1))));
    WORD word = (WORD)(base + d);
    return word ^ (WORD)(TOP | (WORD)((WORD)(word >> (BITS - 1)) - 1));
}

#if defined(__AVX512BW__) && defined(HALVES)
static inline __m512i NAME(words_at)(__m512i distance, __m512i base, bool sign_magnitude) {
    const __m512i top = _mm512_set1_epi16((short)TOP), ones = _mm512_set1_epi16(-1);
    __mmask32 odd = _mm512_test_epi16_mask(distance, _mm512_set1_epi16(1));
    __m512i half = _mm512_srli_epi16(distance, 1), d = _mm512_mask_sub_epi16(half, odd, ones, half);
    if (!sign_magnitude) return _mm512_add_epi16(base, d);
    base = _mm512_xor_si512(base, _mm512_or_si512(_mm512_srai_epi16(base, 15), top));
    __m512i word = _mm512_add_epi16(base, d);
    __m512i flipped = _mm512_xor_si512(_mm512_srai_epi16(word, 15), ones);
    return _mm512_xor_si512(word, _mm512_or_si512(flipped, top));
}
#endif
