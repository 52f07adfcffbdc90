/* What the Rice coder does with words of one width: included by rice.c with WORD and NAME set, before rice_body.h.
   Sixteen-bit words have AVX-512 ways where compilers would go by way of 32 bits. */

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
static inline Bytes64 NAME(contexts_of)(const WORD *base, WORD mask, int shift, WORD lowest, int contexts) {
    __m512i kept = _mm512_set1_epi16((short)mask), low = _mm512_set1_epi16((short)lowest);
    __m512i last = _mm512_set1_epi16((short)(contexts - 1)), found[2];
    for (int half = 0; half < 2; half++) {
        __m512i key = _mm512_and_si512(_mm512_loadu_si512(base + 32 * half), kept);
        key = _mm512_subs_epu16(_mm512_srl_epi16(key, _mm_cvtsi32_si128(shift)), low);
        found[half] = _mm512_min_epu16(key, last);
    }
    __m512i lower = _mm512_castsi256_si512(_mm512_cvtepi16_epi8(found[0]));
    return _mm512_inserti64x4(lower, _mm512_cvtepi16_epi8(found[1]), 1);
}

static void NAME(quotients)(const WORD *z, const u8 *k, u8 *out) {
    for (int i = 0; i < STRIP; i += 32) {
        __m512i q = _mm512_srlv_epi16(_mm512_loadu_si512(z + i), halves_of(k + i));
        store_halves(out + i, _mm512_min_epu16(q, _mm512_set1_epi16(STEPS)));
    }
}

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
#else
static inline Bytes64 NAME(contexts_of)(const WORD *base, WORD mask, int shift, WORD lowest, int contexts) {
    u8 found[GROUP];
    WORD last = (WORD)(contexts - 1);
    for (int i = 0; i < GROUP; i++) {
        WORD key = (WORD)((WORD)(base[i] & mask) >> shift);
        WORD up = key > lowest ? (WORD)(key - lowest) : 0;
        found[i] = (u8)(up < last ? up : last);
    }
    return load_bytes(found);
}

static void NAME(quotients)(const WORD *z, const u8 *k, u8 *out) {
    for (int i = 0; i < STRIP; i++) {
        WORD q = (WORD)(z[i] >> k[i]);
        out[i] = (u8)(q < STEPS ? q : STEPS);
    }
}
#endif
