/* The merge executor's loops over values: the compiled side of execute_numpy. Most are left to the compiler to
   turn into vectors; the loops that put away what they find are not, so they have a way of their own. */
#include "execute.h"

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

#define LARGEST_HALF 0x7C00u

void widen_bf16(const u16 *restrict words, i64 count, float *restrict out) {
    for (i64 i = 0; i < count; i++) out[i] = float_of((u32)words[i] << 16);
}

/* A half's exponent and mantissa moved up read 2^-112 times its value as float32, subnormals included. */
static inline float of_half(u32 word) {
    u32 magnitude = word & 0x7FFF, moved = magnitude << 13;
    u32 scaled = bits_of(float_of(moved) * 0x1p112f);
    u32 bits = magnitude >= LARGEST_HALF ? moved | INFINITE : scaled;
    return float_of(bits | (word & 0x8000) << 16);
}

void widen_f16(const u16 *restrict words, i64 count, float *restrict out) {
    for (i64 i = 0; i < count; i++) out[i] = of_half(words[i]);
}

static inline u32 is_odd(float value) { return (bits_of(value) & MAGNITUDE) >= INFINITE; }

i64 count_nonfinite(const float *restrict values, i64 count) {
    i64 found = 0;
    for (i64 i = 0; i < count; i++) found += is_odd(values[i]);
    return found;
}

static inline float minus(float value, float base) {
    bool equal = (value == base) | (bits_of(value) == bits_of(base));
    return float_of(choose(equal, 0, bits_of(value - base)));
}

i64 difference(const float *restrict values, const float *restrict base, i64 count, float *restrict out) {
    i64 found = 0;
    for (i64 i = 0; i < count; i++) {
        float delta = minus(values[i], base[i]);
        out[i] = delta;
        found += is_odd(delta);
    }
    return found;
}

i64 difference_bf16(const u16 *restrict words, const float *restrict base, i64 count, float *restrict out) {
    i64 found = 0;
    for (i64 i = 0; i < count; i++) {
        float delta = minus(float_of((u32)words[i] << 16), base[i]);
        out[i] = delta;
        found += is_odd(delta);
    }
    return found;
}

i64 difference_f16(const u16 *restrict words, const float *restrict base, i64 count, float *restrict out) {
    i64 found = 0;
    for (i64 i = 0; i < count; i++) {
        float delta = minus(of_half(words[i]), base[i]);
        out[i] = delta;
        found += is_odd(delta);
    }
    return found;
}

/* Patterns below `low` wrap to huge offsets, so one comparison bounds both ends. */
static inline u32 offset_of(float delta, u32 low) { return (bits_of(delta) & MAGNITUDE) - low; }

#define STRETCH 512
#define GLANCE 64 /* elements that are passed over at once if there is nothing among them */

/* The patterns whose offset from `low` is in first .. first + span - 1, plus `add`, into `out`; how many. */
static i64 pick_out(const float *restrict delta, i64 count, u32 low, u32 first, u32 span, u32 add,
                    u32 *restrict out) {
    i64 found = 0, i = 0;
#if defined(__AVX512F__)
    const __m512i from = _mm512_set1_epi32((int)(low + first)), wide = _mm512_set1_epi32((int)span);
    const __m512i back = _mm512_set1_epi32((int)(first + add)), sign = _mm512_set1_epi32((int)MAGNITUDE);
    for (; i + GLANCE <= count; i += GLANCE) {
        __m512i offsets[GLANCE / 16];
        __mmask16 inside[GLANCE / 16], any = 0;
        for (int k = 0; k < GLANCE / 16; k++) {
            __m512i pattern = _mm512_and_si512(_mm512_loadu_si512(delta + i + 16 * k), sign);
            offsets[k] = _mm512_sub_epi32(pattern, from);
            inside[k] = _mm512_cmplt_epu32_mask(offsets[k], wide);
            any |= inside[k];
        }
        /* Whole vectors, for it is cheaper than as many as there are: what is too much is at most what has been
           looked at, so there is room for it. */
        for (int k = 0; any != 0 && k < GLANCE / 16; k++) {
            __m512i patterns = _mm512_add_epi32(offsets[k], back);
            _mm512_storeu_si512(out + found, _mm512_maskz_compress_epi32(inside[k], patterns));
            found += __builtin_popcount(inside[k]);
        }
    }
#else
    for (; i + GLANCE <= count; i += GLANCE) {
        u32 inside = 0;
        for (i64 j = i; j < i + GLANCE; j++) inside += offset_of(delta[j], low + first) < span;
        for (i64 j = i; inside != 0 && j < i + GLANCE; j++) {
            u32 offset = offset_of(delta[j], low + first);
            out[found] = offset + first + add; /* of no use unless it is counted, but there is room for it */
            found += offset < span;
        }
    }
#endif
    for (; i < count; i++) {
        u32 offset = offset_of(delta[i], low + first);
        if (offset < span) out[found++] = offset + first + add;
    }
    return found;
}

i64 collect_magnitudes(const float *restrict delta, i64 count, i64 low, i64 high, u32 *restrict out) {
    return high <= low ? 0 : pick_out(delta, count, (u32)low, 0, (u32)(high - low), (u32)low, out);
}

void count_magnitudes(const float *restrict delta, i64 count, i64 low, int shift, u32 *restrict counts,
                      i64 bins) {
    if (bins == 0) return;
    u32 span = (u32)least(bins << shift, (i64)1 << 31), lowest = least((i64)1 << shift, (i64)1 << 31);
    u32 offsets[STRETCH], at_lowest = 0;
    for (i64 start = 0; start < count; start += STRETCH) {
        i64 size = least(STRETCH, count - start);
        const float *piece = delta + start;
        /* The lowest bin often holds all there is: differences of few bits are often powers of two. One counter would
           wait for itself, so that bin is counted in vectors. */
        u32 inside = 0, here = 0;
        for (i64 i = 0; i < size; i++) {
            u32 offset = offset_of(piece[i], (u32)low);
            inside += offset < span;
            here += offset < lowest;
        }
        at_lowest += here;
        if (inside <= here) continue;
        i64 found = pick_out(piece, size, (u32)low, lowest, span - lowest, 0, offsets);
        for (i64 i = 0; i < found; i++) counts[offsets[i] >> shift]++;
    }
    counts[0] += at_lowest;
}

static inline double tree(const double *lanes) {
    double first = (lanes[0] + lanes[1]) + (lanes[2] + lanes[3]);
    return first + ((lanes[4] + lanes[5]) + (lanes[6] + lanes[7]));
}

void dot_chunks(const float *restrict a, const float *restrict b, i64 count, double *restrict out) {
    i64 whole = count / DOT_CHUNK * DOT_CHUNK;
    for (i64 start = 0; start < whole; start += DOT_CHUNK) {
        double lanes[8];
        for (int j = 0; j < 8; j++) lanes[j] = (double)a[start + j] * (double)b[start + j];
        for (int row = 8; row < DOT_CHUNK; row += 8)
            for (int j = 0; j < 8; j++) lanes[j] += (double)a[start + row + j] * (double)b[start + row + j];
        out[start / DOT_CHUNK] = tree(lanes);
    }
    if (whole < count) {
        double lanes[8] = {0};
        for (i64 i = whole; i < count; i++) lanes[(i - whole) & 7] += (double)a[i] * (double)b[i];
        out[whole / DOT_CHUNK] = tree(lanes);
    }
}

static inline float settled(float value, float base) {
    return ((value == base) | (base != base)) ? base : value;
}

i64 settle(const float *restrict values, const float *restrict base, i64 count, float *restrict out) {
    i64 found = 0;
    for (i64 i = 0; i < count; i++) {
        float value = settled(values[i], base[i]);
        out[i] = value;
        found += is_odd(value);
    }
    return found;
}

i64 narrow_bf16(const float *restrict values, const float *restrict base, i64 count, u16 *restrict out) {
    i64 found = 0;
    for (i64 i = 0; i < count; i++) {
        u32 bits = bits_of(settled(values[i], base[i])), high = bits >> 16;
        u32 rounded = (bits + 0x7FFF + (high & 1)) >> 16;
        u32 quiet = (high & 0x7F) != 0 ? high : high | 0x40;
        u32 magnitude = bits & MAGNITUDE;
        out[i] = (u16)(magnitude > INFINITE ? quiet : rounded);
        found += magnitude >= INFINITE;
    }
    return found;
}

i64 narrow_f16(const float *restrict values, const float *restrict base, i64 count, u16 *restrict out) {
    i64 found = 0;
    for (i64 i = 0; i < count; i++) {
        u32 bits = bits_of(settled(values[i], base[i])), magnitude = bits & MAGNITUDE;
        u32 half = (magnitude - 0x38000000u + 0xFFF + ((magnitude >> 13) & 1)) >> 13;
        /* Adding 0.5 rounds a magnitude below 2^-14 to multiples of 2^-24, the step of float16's subnormals. */
        bool tiny = magnitude < 0x38800000u;
        u32 small = bits_of(float_of(choose(tiny, magnitude, 0)) + 0.5f) - 0x3F000000u;
        u32 payload = (magnitude >> 13) & 0x3FF;
        half = choose(tiny, small, half);
        half = choose(magnitude >= 0x477FF000u, LARGEST_HALF, half);
        half = choose(magnitude > INFINITE, LARGEST_HALF | choose(payload != 0, payload, 0x200), half);
        out[i] = (u16)(half | (bits >> 16 & 0x8000));
        found += magnitude >= INFINITE;
    }
    return found;
}
