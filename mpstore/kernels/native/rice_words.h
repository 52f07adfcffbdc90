/* What the Rice coder does with words of one width: included by rice.c with WORD and NAME set, before rice_body.h.
   Sixteen-bit words have AVX-512 ways where compilers would go by way of 32 bits. */

#if defined(__AVX512BW__) && defined(HALVES)
static inline Bytes64 NAME(contexts_of)(const WORD *base, WORD mask, int shift, WORD lowest, int contexts) {
    __m512i kept = _mm512_set1_epi16((short)mask), low = _mm512_set1_epi16((short)lowest);
    __m512i last = _mm512_set1_epi16((short)(contexts - 1)), found[2];
    for (int half = 0; half < 2; half++) {
        __m512i key = _mm512_and_si512(_mm512_loadu_si512(base + 32 * half), kept);
        key = _mm512_subs_epu16(_mm512_srl_epi16(key, _mm_cvtsi32_si128(shift)), low);
        found[half] = _mm512_min_epu16(key, last);
    }
    return bytes_of(found[0], found[1]);
}

static void NAME(quotients)(const WORD *z, const u8 *k, u8 *out) {
    for (int i = 0; i < STRIP; i += 32) {
        __m512i q = _mm512_srlv_epi16(_mm512_loadu_si512(z + i), widened(k + i));
        store_narrowed(out + i, _mm512_min_epu16(q, _mm512_set1_epi16(STEPS)));
    }
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
