/* Sixty-four elements of sixteen bits at once, by the vectors of GCC and Clang; what these have no word for, in three
   ways with the same results, as in group.h. */
#ifndef MP_HALVES_H
#define MP_HALVES_H

#include "group.h"

#if defined(__AVX512BW__)
#define VECTOR_BYTES 64
#elif defined(__AVX2__)
#define VECTOR_BYTES 32
#else
#define VECTOR_BYTES 16
#endif
#define VECTORS (2 * GROUP / VECTOR_BYTES)
#define EACH_VECTOR _Pragma("GCC unroll 8") for (int k = 0; k < VECTORS; k++)

typedef u16 HalfVector __attribute__((vector_size(VECTOR_BYTES)));
typedef i16 SignedHalves __attribute__((vector_size(VECTOR_BYTES)));

typedef struct {
    HalfVector of[VECTORS];
} Halves64;

ALWAYS_INLINE Halves64 load_halves(const u16 *from) {
    Halves64 a;
    EACH_VECTOR memcpy(&a.of[k], from + k * (VECTOR_BYTES / 2), VECTOR_BYTES); /* one by one they stay in registers */
    return a;
}
ALWAYS_INLINE void store_halves(u16 *to, Halves64 a) {
    EACH_VECTOR memcpy(to + k * (VECTOR_BYTES / 2), &a.of[k], VECTOR_BYTES);
}
ALWAYS_INLINE Halves64 halves_sum(Halves64 a, Halves64 b) {
    EACH_VECTOR a.of[k] += b.of[k];
    return a;
}
ALWAYS_INLINE Halves64 halves_or_difference(Halves64 a, Halves64 b, Halves64 c) {
    EACH_VECTOR a.of[k] |= b.of[k] ^ c.of[k];
    return a;
}
ALWAYS_INLINE Halves64 halves_less(Halves64 a, u16 amount) {
    EACH_VECTOR a.of[k] -= amount;
    return a;
}
ALWAYS_INLINE Halves64 halves_and(Halves64 a, u16 bits) {
    EACH_VECTOR a.of[k] &= bits;
    return a;
}
ALWAYS_INLINE Halves64 halves_shifted(Halves64 a, int bits) {
    EACH_VECTOR a.of[k] >>= (u16)bits;
    return a;
}

/* All bits where the top one is set. */
ALWAYS_INLINE HalfVector half_signs(HalfVector a) { return (HalfVector)((SignedHalves)a >> 15); }

/* Words that have a sign and a magnitude, in an order without a gap at zero; and back. */
ALWAYS_INLINE HalfVector halves_ordered(HalfVector word) { return word ^ (half_signs(word) | 0x8000); }
ALWAYS_INLINE HalfVector halves_disordered(HalfVector word) { return word ^ (~half_signs(word) | 0x8000); }

/* Zigzagged steps of the last place from base to word (distance_words.h), and the words that lie so far from base. */
ALWAYS_INLINE Halves64 halves_distances(Halves64 word, Halves64 base, bool sign_magnitude) {
    EACH_VECTOR {
        HalfVector d = sign_magnitude ? halves_ordered(word.of[k]) - halves_ordered(base.of[k]) : word.of[k] - base.of[k];
        word.of[k] = d << 1 ^ half_signs(d);
    }
    return word;
}
ALWAYS_INLINE Halves64 halves_words(Halves64 distance, Halves64 base, bool sign_magnitude) {
    EACH_VECTOR {
        HalfVector z = distance.of[k], d = z >> 1 ^ (0 - (z & 1));
        distance.of[k] = sign_magnitude ? halves_disordered(halves_ordered(base.of[k]) + d) : base.of[k] + d;
    }
    return distance;
}

/* `halves_at_least`: which are; `low_bytes`: of each; `halves_of`: of bytes. */
#if defined(__AVX512BW__)
ALWAYS_INLINE u64 halves_at_least(Halves64 a, u16 limit) {
    __m512i than = _mm512_set1_epi16((short)limit);
    u64 low = _mm512_cmpge_epu16_mask((__m512i)a.of[0], than), high = _mm512_cmpge_epu16_mask((__m512i)a.of[1], than);
    return low | high << 32;
}
ALWAYS_INLINE Bytes64 low_bytes(Halves64 a) { return bytes_of((__m512i)a.of[0], (__m512i)a.of[1]); }
ALWAYS_INLINE Halves64 halves_of(const u8 *bytes) {
    return (Halves64){{(HalfVector)widened(bytes), (HalfVector)widened(bytes + 32)}};
}
#elif defined(__AVX2__)
ALWAYS_INLINE __m256i packed_bytes(__m256i two_of_each) { return _mm256_permute4x64_epi64(two_of_each, 0xD8); }
ALWAYS_INLINE u64 halves_at_least(Halves64 a, u16 limit) {
    __m256i than = _mm256_set1_epi16((short)limit), are[VECTORS];
    EACH_VECTOR are[k] = _mm256_cmpeq_epi16(_mm256_max_epu16((__m256i)a.of[k], than), (__m256i)a.of[k]);
    return topped((Bytes64){packed_bytes(_mm256_packs_epi16(are[0], are[1])),
                            packed_bytes(_mm256_packs_epi16(are[2], are[3]))});
}
ALWAYS_INLINE Bytes64 low_bytes(Halves64 a) {
    a = halves_and(a, 0xFF);
    return (Bytes64){packed_bytes(_mm256_packus_epi16((__m256i)a.of[0], (__m256i)a.of[1])),
                     packed_bytes(_mm256_packus_epi16((__m256i)a.of[2], (__m256i)a.of[3]))};
}
ALWAYS_INLINE Halves64 halves_of(const u8 *bytes) {
    Halves64 a;
    EACH_VECTOR a.of[k] = (HalfVector)_mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)(bytes + 16 * k)));
    return a;
}
#else
ALWAYS_INLINE u64 halves_at_least(Halves64 a, u16 limit) {
    u16 words[GROUP];
    u8 are[GROUP];
    store_halves(words, a);
    for (int i = 0; i < GROUP; i++) are[i] = words[i] >= limit;
    return above(load_bytes(are), 0);
}
ALWAYS_INLINE Bytes64 low_bytes(Halves64 a) {
    u16 words[GROUP];
    u8 bytes[GROUP];
    store_halves(words, a);
    for (int i = 0; i < GROUP; i++) bytes[i] = (u8)words[i];
    return load_bytes(bytes);
}
ALWAYS_INLINE Halves64 halves_of(const u8 *bytes) {
    u16 words[GROUP];
    for (int i = 0; i < GROUP; i++) words[i] = bytes[i];
    return load_halves(words);
}
#endif

#endif
