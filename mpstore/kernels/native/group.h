/* Sixty-four elements at once: a byte of each in vector registers, a bit of each in a word.

   Three ways with the same results: AVX-512, AVX2, and plain C. `extract` packs the bits of a word that stand
   under a mask, `deposit` puts them back (BMI2's pext and pdep). */
#ifndef MP_GROUP_H
#define MP_GROUP_H

#include "native.h"

#if defined(__AVX512BW__) || defined(__AVX2__)
#include <immintrin.h>
#endif

#define GROUP 64
#define GROUPS 16 /* that coders take together: */
#define STRIP (GROUP * GROUPS)
#define LAST_BIT ((u64)1 << 63)
#define ROW_STARTS ((u64)0x0101010101010101u)

static inline i64 count_bits(u64 mask) { return __builtin_popcountll(mask); }

static inline u64 first_bits(i64 count) { return count >= 64 ? ~(u64)0 : ((u64)1 << count) - 1; }

#if defined(__BMI2__) && defined(__x86_64__)
static inline u64 extract(u64 bits, u64 mask) { return _pext_u64(bits, mask); }
static inline u64 deposit(u64 bits, u64 mask) { return _pdep_u64(bits, mask); }
#else
/* By moving bits 1, 2, 4, ... places, those with such a bit in their number of zeros to the right. */
static inline u64 extract(u64 bits, u64 mask) {
    u64 zeros = ~mask << 1;
    bits &= mask;
    for (int step = 1; step < 64; step <<= 1) {
        u64 odd = zeros ^ zeros << 1; /* where an odd number of zeros stands to the right */
        odd ^= odd << 2;
        odd ^= odd << 4;
        odd ^= odd << 8;
        odd ^= odd << 16;
        odd ^= odd << 32;
        u64 moved = odd & mask, kept = bits & moved;
        mask = (mask ^ moved) | moved >> step;
        bits = (bits ^ kept) | kept >> step;
        zeros &= ~odd;
    }
    return bits;
}

static inline u64 deposit(u64 bits, u64 mask) {
    u64 moves[6], whole = mask, zeros = ~mask << 1;
    for (int turn = 0; turn < 6; turn++) {
        u64 odd = zeros ^ zeros << 1;
        odd ^= odd << 2;
        odd ^= odd << 4;
        odd ^= odd << 8;
        odd ^= odd << 16;
        odd ^= odd << 32;
        moves[turn] = odd & mask;
        mask = (mask ^ moves[turn]) | moves[turn] >> (1 << turn);
        zeros &= ~odd;
    }
    for (int turn = 5; turn >= 0; turn--)
        bits = (bits & ~moves[turn]) | ((bits << (1 << turn)) & moves[turn]);
    return bits & whole;
}
#endif

/* Which of the eight bytes of a mask are not zero, as eight bits; and bytes of ones where a bit is set. */
static inline u64 rows_of(u64 mask) {
    u64 marks = ((((mask & 0x7F7F7F7F7F7F7F7Fu) + 0x7F7F7F7F7F7F7F7Fu) | mask) >> 7) & ROW_STARTS;
    return (marks * 0x0102040810204080u) >> 56;
}

static inline u64 whole_rows(u64 rows) {
    u64 marks = (rows * ROW_STARTS) & 0x8040201008040201u;
    marks = ((((marks & 0x7F7F7F7F7F7F7F7Fu) + 0x7F7F7F7F7F7F7F7Fu) | marks) >> 7) & ROW_STARTS;
    return marks * 0xFF;
}

/* Where the elements under the masks of a strip are (room for four more than they are); how many. Mostly a group has
   four or fewer, and these are written without asking how many there are, which could not be foreseen. */
static inline int places_of(const u64 *masks, u16 *at) {
    int count = 0;
    for (int g = 0; g < GROUPS; g++) {
        u64 mask = masks[g];
        int own = (int)count_bits(mask);
        for (int i = 0; i < 4; i++, mask &= mask - 1) {
            int place = g * GROUP + __builtin_ctzll(mask | LAST_BIT);
            __asm__("" : "+r"(place)); /* four stores are quicker than the vector that compilers make of them */
            at[count + i] = (u16)place;
        }
        for (int i = 4; UNLIKELY(i < own); i++, mask &= mask - 1)
            at[count + i] = (u16)(g * GROUP + __builtin_ctzll(mask));
        count += own;
    }
    return count;
}

/* A byte of each element. `above`: which are larger; `having`: which have that bit; `topped`: which have the top
   bit; `only`: these bits of each; `added`: with `amount` more under the mask; `looked_up`: entries 0..15 of a table. */
#if defined(__AVX512BW__)
typedef __m512i Bytes64;

static inline Bytes64 no_bytes(void) { return _mm512_setzero_si512(); }
static inline Bytes64 load_bytes(const u8 *from) { return _mm512_loadu_si512(from); }
static inline void store_bytes(u8 *to, Bytes64 b) { _mm512_storeu_si512(to, b); }
static inline u64 above(Bytes64 b, u8 limit) { return _mm512_cmpgt_epu8_mask(b, _mm512_set1_epi8((char)limit)); }
static inline u64 having(Bytes64 b, u8 bit) { return _mm512_test_epi8_mask(b, _mm512_set1_epi8((char)bit)); }
static inline u64 topped(Bytes64 b) { return _mm512_movepi8_mask(b); }
static inline Bytes64 only(Bytes64 b, u8 bits) { return _mm512_and_si512(b, _mm512_set1_epi8((char)bits)); }
static inline Bytes64 added(Bytes64 b, u64 mask, u8 amount) {
    return _mm512_mask_add_epi8(b, mask, b, _mm512_set1_epi8((char)amount));
}
static inline Bytes64 looked_up(const u8 table[16], Bytes64 index) {
    __m128i entries = _mm_loadu_si128((const __m128i *)table);
    return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(entries), index);
}
#elif defined(__AVX2__)
typedef struct {
    __m256i low, high;
} Bytes64;

static inline Bytes64 no_bytes(void) { return (Bytes64){_mm256_setzero_si256(), _mm256_setzero_si256()}; }
static inline Bytes64 load_bytes(const u8 *from) {
    return (Bytes64){_mm256_loadu_si256((const __m256i *)from), _mm256_loadu_si256((const __m256i *)(from + 32))};
}
static inline void store_bytes(u8 *to, Bytes64 b) {
    _mm256_storeu_si256((__m256i *)to, b.low);
    _mm256_storeu_si256((__m256i *)(to + 32), b.high);
}
static inline u64 topped(Bytes64 b) {
    return (u32)_mm256_movemask_epi8(b.low) | (u64)(u32)_mm256_movemask_epi8(b.high) << 32;
}
static inline u64 nonzero_bytes(__m256i low, __m256i high) {
    __m256i zero = _mm256_setzero_si256();
    return ~topped((Bytes64){_mm256_cmpeq_epi8(low, zero), _mm256_cmpeq_epi8(high, zero)});
}
static inline u64 above(Bytes64 b, u8 limit) {
    __m256i than = _mm256_set1_epi8((char)limit);
    return nonzero_bytes(_mm256_subs_epu8(b.low, than), _mm256_subs_epu8(b.high, than));
}
static inline u64 having(Bytes64 b, u8 bit) {
    __m256i wanted = _mm256_set1_epi8((char)bit);
    return nonzero_bytes(_mm256_and_si256(b.low, wanted), _mm256_and_si256(b.high, wanted));
}
static inline Bytes64 only(Bytes64 b, u8 bits) {
    __m256i rest = _mm256_set1_epi8((char)bits);
    return (Bytes64){_mm256_and_si256(b.low, rest), _mm256_and_si256(b.high, rest)};
}
/* Bytes of ones where a bit of the mask is set. */
static inline Bytes64 spread_bits(u64 mask) {
    const __m256i low = _mm256_setr_epi64x(0, ROW_STARTS, 2 * ROW_STARTS, 3 * ROW_STARTS);
    const __m256i high = _mm256_setr_epi64x(4 * ROW_STARTS, 5 * ROW_STARTS, 6 * ROW_STARTS, 7 * ROW_STARTS);
    const __m256i bit = _mm256_set1_epi64x((i64)0x8040201008040201u);
    __m256i all = _mm256_set1_epi64x((i64)mask);
    return (Bytes64){_mm256_cmpeq_epi8(_mm256_and_si256(_mm256_shuffle_epi8(all, low), bit), bit),
                     _mm256_cmpeq_epi8(_mm256_and_si256(_mm256_shuffle_epi8(all, high), bit), bit)};
}
static inline Bytes64 added(Bytes64 b, u64 mask, u8 amount) {
    __m256i more = _mm256_set1_epi8((char)amount);
    Bytes64 where = spread_bits(mask);
    if (amount == 1) return (Bytes64){_mm256_sub_epi8(b.low, where.low), _mm256_sub_epi8(b.high, where.high)};
    return (Bytes64){_mm256_add_epi8(b.low, _mm256_and_si256(where.low, more)),
                     _mm256_add_epi8(b.high, _mm256_and_si256(where.high, more))};
}
static inline Bytes64 looked_up(const u8 table[16], Bytes64 index) {
    __m256i entries = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)table));
    return (Bytes64){_mm256_shuffle_epi8(entries, index.low), _mm256_shuffle_epi8(entries, index.high)};
}
#else
#define LOW_SEVEN 0x7F7F7F7F7F7F7F7Fu

typedef struct {
    u64 of[GROUP / 8]; /* eight bytes a word, the first lowest */
} Bytes64;

static inline Bytes64 no_bytes(void) { return (Bytes64){{0}}; }
static inline Bytes64 load_bytes(const u8 *from) {
    Bytes64 b;
    memcpy(b.of, from, GROUP);
    return b;
}
static inline void store_bytes(u8 *to, Bytes64 b) { memcpy(to, b.of, GROUP); }
/* The top bit of each byte. */
static inline u64 topped(Bytes64 b) {
    u64 mask = 0;
    for (int i = 0; i < GROUP / 8; i++)
        mask |= (((b.of[i] >> 7) & ROW_STARTS) * 0x0102040810204080u >> 56) << (8 * i);
    return mask;
}
/* limit < 128 */
static inline u64 above(Bytes64 b, u8 limit) {
    for (int i = 0; i < GROUP / 8; i++) b.of[i] |= (b.of[i] & LOW_SEVEN) + (u64)(0x7F - limit) * ROW_STARTS;
    return topped(b);
}
static inline u64 having(Bytes64 b, u8 bit) {
    for (int i = 0; i < GROUP / 8; i++) b.of[i] = (b.of[i] & bit * ROW_STARTS) * (0x80 / bit);
    return topped(b);
}
static inline Bytes64 only(Bytes64 b, u8 bits) {
    for (int i = 0; i < GROUP / 8; i++) b.of[i] &= bits * ROW_STARTS;
    return b;
}
static inline Bytes64 added(Bytes64 b, u64 mask, u8 amount) {
    for (int i = 0; i < GROUP / 8; i++) {
        u64 marks = whole_rows((mask >> (8 * i)) & 0xFF) & amount * ROW_STARTS;
        b.of[i] = ((b.of[i] & LOW_SEVEN) + (marks & LOW_SEVEN)) ^ ((b.of[i] ^ marks) & ~LOW_SEVEN);
    }
    return b;
}
static inline Bytes64 looked_up(const u8 table[16], Bytes64 index) {
    u8 bytes[GROUP];
    store_bytes(bytes, index);
    for (int i = 0; i < GROUP; i++) bytes[i] = table[bytes[i] & 15];
    return load_bytes(bytes);
}
#endif

/* Sixteen-bit elements, a byte beside each: those of rice_body.h that compilers widen to 32 bits. */
#if defined(__AVX512BW__)
static inline __m512i widened(const u8 *bytes) {
    return _mm512_cvtepu8_epi16(_mm256_loadu_si256((const __m256i *)bytes));
}
static inline __m512i half_of(Bytes64 bytes, int half) {
    return _mm512_cvtepu8_epi16(half ? _mm512_extracti64x4_epi64(bytes, 1) : _mm512_castsi512_si256(bytes));
}
static inline Bytes64 bytes_of(__m512i lower, __m512i upper) {
    return _mm512_inserti64x4(_mm512_castsi256_si512(_mm512_cvtepi16_epi8(lower)), _mm512_cvtepi16_epi8(upper), 1);
}
static inline void store_narrowed(u8 *bytes, __m512i words) {
    _mm256_storeu_si256((__m256i *)bytes, _mm512_cvtepi16_epi8(words));
}
#endif

#endif
