/* BLAKE3: chunks of 1024 bytes, several at a time, and a tree over them, level by level. See blake3.h. */
#include "blake3.h"

#if defined(__AVX512F__) || defined(__AVX2__)
#include <immintrin.h>
#endif

/* Lanes of a vector, and mixings that go beside each other: half of them where there are 16 registers and not 32. */
#if defined(__AVX512F__)
#define LANES 16
#define AT_ONCE 4
#elif defined(__AVX2__)
#define LANES 8
#define AT_ONCE 2
#else
#define LANES 4
#define AT_ONCE 2
#endif

#define BLOCK 64
#define CHUNK 1024
#define AHEAD 4 /* blocks that are asked of the memory before they are needed: chunks are too many streams for it to guess */
#define WORDS 8 /* of a chaining value */
#define CHUNK_START 1u
#define CHUNK_END 2u
#define PARENT 4u
#define ROOT 8u

typedef u32 Lanes __attribute__((vector_size(4 * LANES)));

static const u32 START[8] = {0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19};
/* Which words of the block a round takes: each time those that the permutation brings to their places. */
static const u8 ORDER[7][16] = {
    {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, {2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8},
    {3, 4, 10, 12, 13, 2, 7, 14, 6, 5, 9, 0, 11, 15, 8, 1}, {10, 7, 12, 9, 14, 3, 13, 15, 4, 0, 11, 2, 5, 8, 1, 6},
    {12, 13, 9, 11, 15, 10, 14, 8, 7, 2, 5, 3, 0, 1, 6, 4}, {9, 14, 11, 5, 8, 12, 15, 1, 13, 3, 0, 10, 2, 6, 4, 7},
    {11, 15, 5, 0, 1, 9, 8, 6, 14, 10, 2, 12, 3, 4, 7, 13},
};

#define ROTATED(x, by) ((x) >> (by) | (x) << (32 - (by)))

#define V u32
#define NAME(name) name##_one
#define BY_16(x) ROTATED(x, 16)
#define BY_8(x) ROTATED(x, 8)
#include "blake3_body.h"

/* AVX2 has no instruction that rotates, but one that moves bytes. */
#if defined(__AVX2__) && !defined(__AVX512F__)
ALWAYS_INLINE Lanes moved(Lanes x, u32 first) {
    __m256i word = _mm256_set1_epi32((int)first), own = _mm256_setr_epi32(0, 4, 8, 12, 0, 4, 8, 12);
    __m256i from = _mm256_add_epi8(word, _mm256_mullo_epi32(own, _mm256_set1_epi32(0x01010101)));
    return (Lanes)_mm256_shuffle_epi8((__m256i)x, from);
}
#define BY_16(x) moved(x, 0x01000302)
#define BY_8(x) moved(x, 0x00030201)
#else
#define BY_16(x) ROTATED(x, 16)
#define BY_8(x) ROTATED(x, 8)
#endif
#define V Lanes
#define NAME(name) name##_lanes
#include "blake3_body.h"

/* Word w of 64 bytes at from + lane * stride, for each lane. */
#if defined(__AVX512F__)
ALWAYS_INLINE void load_blocks(const u8 *from, i64 stride, Lanes m[16]) {
    __m512i a[16], b[16];
    for (int i = 0; i < 16; i++) a[i] = _mm512_loadu_si512(from + i * stride);
    for (int i = 0; i < 16; i += 2) {
        b[i] = _mm512_unpacklo_epi32(a[i], a[i + 1]);
        b[i + 1] = _mm512_unpackhi_epi32(a[i], a[i + 1]);
    }
    for (int i = 0; i < 16; i += 4) {
        a[i] = _mm512_unpacklo_epi64(b[i], b[i + 2]);
        a[i + 1] = _mm512_unpackhi_epi64(b[i], b[i + 2]);
        a[i + 2] = _mm512_unpacklo_epi64(b[i + 1], b[i + 3]);
        a[i + 3] = _mm512_unpackhi_epi64(b[i + 1], b[i + 3]);
    } /* a[i + j], quarter q: word 4 q + j of lanes i to i + 3 */
    for (int j = 0; j < 4; j++) {
        __m512i low = _mm512_shuffle_i32x4(a[j], a[4 + j], 0x88), high = _mm512_shuffle_i32x4(a[j], a[4 + j], 0xDD);
        __m512i low2 = _mm512_shuffle_i32x4(a[8 + j], a[12 + j], 0x88);
        __m512i high2 = _mm512_shuffle_i32x4(a[8 + j], a[12 + j], 0xDD);
        m[j] = (Lanes)_mm512_shuffle_i32x4(low, low2, 0x88);
        m[4 + j] = (Lanes)_mm512_shuffle_i32x4(high, high2, 0x88);
        m[8 + j] = (Lanes)_mm512_shuffle_i32x4(low, low2, 0xDD);
        m[12 + j] = (Lanes)_mm512_shuffle_i32x4(high, high2, 0xDD);
    }
}
#elif defined(__AVX2__)
ALWAYS_INLINE void load_blocks(const u8 *from, i64 stride, Lanes m[16]) {
    for (int half = 0; half < 16; half += 8) {
        __m256i a[8], b[8];
        for (int i = 0; i < 8; i++) a[i] = _mm256_loadu_si256((const __m256i *)(from + i * stride + 4 * half));
        for (int i = 0; i < 8; i += 2) {
            b[i] = _mm256_unpacklo_epi32(a[i], a[i + 1]);
            b[i + 1] = _mm256_unpackhi_epi32(a[i], a[i + 1]);
        }
        for (int i = 0; i < 8; i += 4) {
            a[i] = _mm256_unpacklo_epi64(b[i], b[i + 2]);
            a[i + 1] = _mm256_unpackhi_epi64(b[i], b[i + 2]);
            a[i + 2] = _mm256_unpacklo_epi64(b[i + 1], b[i + 3]);
            a[i + 3] = _mm256_unpackhi_epi64(b[i + 1], b[i + 3]);
        }
        for (int j = 0; j < 4; j++) {
            m[half + j] = (Lanes)_mm256_permute2x128_si256(a[j], a[4 + j], 0x20);
            m[half + 4 + j] = (Lanes)_mm256_permute2x128_si256(a[j], a[4 + j], 0x31);
        }
    }
}
#else
static inline void load_blocks(const u8 *from, i64 stride, Lanes m[16]) {
    u32 words[16][LANES];
    for (int lane = 0; lane < LANES; lane++) {
        u32 own[16];
        memcpy(own, from + lane * stride, BLOCK);
        for (int w = 0; w < 16; w++) words[w][lane] = own[w];
    }
    memcpy(m, words, sizeof words);
}
#endif

/* LANES messages of so many blocks, `stride` apart: their chaining values behind each other. Flags of the first and
   the last block besides those of all; lane l has the counter first + l, or 0 where `first` is below 0. */
static void hash_lanes(const u8 *from, i64 stride, int blocks, i64 first, u32 flags, u32 start, u32 end, u32 *out) {
    Lanes value[WORDS], m[16], counter[2] = {{0}, {0}};
    for (int lane = 0; lane < LANES && first >= 0; lane++) {
        counter[0][lane] = (u32)(first + lane);
        counter[1][lane] = (u32)((u64)(first + lane) >> 32);
    }
    for (int i = 0; i < WORDS; i++) value[i] = (Lanes){0} + START[i];
    for (int b = 0; b < blocks; b++) {
        int ahead = b + AHEAD; /* of the lanes behind these, where there are fewer left; past the end it asks in vain */
        const u8 *soon = ahead < blocks ? from + ahead * BLOCK : from + LANES * stride + (ahead - blocks) * BLOCK;
        for (int lane = 0; lane < LANES; lane++) __builtin_prefetch(soon + lane * stride);
        load_blocks(from + b * BLOCK, stride, m);
        compress_lanes(value, m, counter, BLOCK, flags | (b == 0 ? start : 0) | (b + 1 == blocks ? end : 0));
    }
    for (int i = 0; i < WORDS; i++)
        for (int lane = 0; lane < LANES; lane++) out[lane * WORDS + i] = value[i][lane];
}

/* One chunk of 0 to 1024 bytes. */
static void hash_chunk(const u8 *from, i64 size, u64 number, u32 last_flags, u32 *value) {
    u32 counter[2] = {(u32)number, (u32)(number >> 32)};
    memcpy(value, START, sizeof START);
    for (i64 at = 0;; at += BLOCK) {
        u32 m[16] = {0}, own = (u32)least(BLOCK, size - at);
        memcpy(m, from + at, own);
        bool last = at + BLOCK >= size;
        compress_one(value, m, counter, own, (at == 0 ? CHUNK_START : 0) | (last ? CHUNK_END | last_flags : 0));
        if (last) return;
    }
}

static void hash_pair(const u32 *pair, u32 flags, u32 *value) {
    u32 counter[2] = {0, 0}, own[WORDS];
    memcpy(own, START, sizeof START);
    compress_one(own, pair, counter, BLOCK, PARENT | flags);
    memcpy(value, own, sizeof own);
}

i64 blake3_room(i64 size) { return (size / CHUNK + 1 + 2 * LANES) * WORDS * 4; }

void blake3_hash(const u8 *message, i64 size, u8 *room, u8 out[BLAKE3_BYTES]) {
    u32 *values = (u32 *)room;
    i64 count = size > CHUNK ? (size + CHUNK - 1) / CHUNK : 1, whole = size / CHUNK, done = 0;
    for (; count > 1 && done + LANES <= whole; done += LANES)
        hash_lanes(message + done * CHUNK, CHUNK, CHUNK / BLOCK, done, 0, CHUNK_START, CHUNK_END, values + WORDS * done);
    for (; done < count; done++)
        hash_chunk(message + done * CHUNK, least(CHUNK, size - done * CHUNK), (u64)done, count == 1 ? ROOT : 0,
                   values + WORDS * done);
    for (; count > 2; count = (count + 1) / 2) {
        i64 pairs = count / 2, pair = 0;
        u32 left[WORDS]; /* the last one of an odd number: lanes with nothing to do write over it */
        memcpy(left, values + WORDS * (count - 1), sizeof left);
        for (; pair < pairs - 2; pair += LANES)
            hash_lanes((const u8 *)(values + 2 * WORDS * pair), BLOCK, 1, -1, PARENT, 0, 0, values + WORDS * pair);
        for (; pair < pairs; pair++) hash_pair(values + 2 * WORDS * pair, 0, values + WORDS * pair);
        if (count % 2) memcpy(values + WORDS * pairs, left, sizeof left);
    }
    if (count == 2) hash_pair(values, ROOT, values);
    memcpy(out, values, BLAKE3_BYTES);
}
