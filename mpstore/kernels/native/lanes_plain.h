/* lanes.h by the vectors of GCC and Clang, which every processor has some of. */
#if defined(__AVX2__) && defined(__F16C__) && defined(__FMA__)
#include <immintrin.h>
#define LANES 8
#define HAVE_FLOAT16 1
#else
#define LANES 4
#define HAVE_FLOAT16 0
#endif
#define HALVES_AT_ONCE 1
#define VECTOR(bytes) __attribute__((vector_size(bytes)))

typedef float F VECTOR(4 * LANES);
typedef u32 U VECTOR(4 * LANES);
typedef i32 M VECTOR(4 * LANES);
typedef u64 Doubled VECTOR(4 * LANES);

ALWAYS U u_all(u32 value) { return (U){0} + value; }
ALWAYS U u_of(F x) { return (U)x; }
ALWAYS U u_and(U a, U b) { return a & b; }
ALWAYS U u_or(U a, U b) { return a | b; }
ALWAYS U u_xor(U a, U b) { return a ^ b; }
ALWAYS U u_add(U a, U b) { return a + b; }
ALWAYS U u_sub(U a, U b) { return a - b; }
ALWAYS U u_shift_left(U a, int bits) { return a << bits; }
ALWAYS U u_shift_right(U a, int bits) { return a >> bits; }
ALWAYS U u_if(M which, U yes, U no) { return (yes & (U)which) | (no & ~(U)which); }
ALWAYS M u_nonzero(U a) { return a != 0; }
ALWAYS M u_not_more(U a, U b) { return a <= b; }
ALWAYS U u_take(const void *from) {
    U a;
    memcpy(&a, from, sizeof a);
    return a;
}
ALWAYS void u_put(U a, void *to) { memcpy(to, &a, sizeof a); }

#if LANES == 8
ALWAYS bool m_any(M a) { return !_mm256_testz_si256((__m256i)a, (__m256i)a); }
#else
ALWAYS bool m_any(M a) {
    u64 all[LANES / 2], any = 0;
    memcpy(all, &a, sizeof a);
    for (int i = 0; i < LANES / 2; i++) any |= all[i];
    return any != 0;
}
#endif

ALWAYS U u_counted(U counts, M which) { return counts - (U)which; }
ALWAYS u32 u_total(U a) {
    u32 total = 0;
    for (int i = 0; i < LANES; i++) total += a[i];
    return total;
}

ALWAYS F f_take(const float *from) { return (F)u_take(from); }
ALWAYS void f_put(F x, float *to) { u_put((U)x, to); }

ALWAYS F f_all(float value) { return (F)u_all(bits_of(value)); }
ALWAYS F f_of(U a) { return (F)a; }
ALWAYS F f_add(F a, F b) { return a + b; }
ALWAYS F f_sub(F a, F b) { return a - b; }
ALWAYS F f_mul(F a, F b) { return a * b; }
ALWAYS F f_div(F a, F b) { return a / b; }
ALWAYS M f_at_least(F a, F b) { return a >= b; }
ALWAYS M f_above(F a, F b) { return a > b; }
ALWAYS M f_equal(F a, F b) { return a == b; }
ALWAYS M f_nonzero(F x) { return (U)x << 1 != 0; }
ALWAYS F f_if(M which, F yes, F no) { return (F)(((U)yes & (U)which) | ((U)no & ~(U)which)); }
ALWAYS F f_keep(M which, F x) { return (F)((U)x & (U)which); }
ALWAYS F f_add_if(M which, F sum, F x) { return sum + f_keep(which, x); }

ALWAYS U u_of_whole(F x) { return (U)__builtin_convertvector(x, M); }

/* Words, two a lane. */
typedef u16 W VECTOR(4 * LANES);

ALWAYS U w_add(U a, U b) { return (U)((W)a + (W)b); }
ALWAYS U w_sub(U a, U b) { return (U)((W)a - (W)b); }
#if LANES == 8
ALWAYS U w_larger(U a, U b) { return (U)_mm256_max_epu16((__m256i)a, (__m256i)b); }
ALWAYS U w_smaller(U a, U b) { return (U)_mm256_min_epu16((__m256i)a, (__m256i)b); }
#else
ALWAYS U w_larger(U a, U b) { return u_if((M)((W)a > (W)b), a, b); }
ALWAYS U w_smaller(U a, U b) { return u_if((M)((W)a < (W)b), a, b); }
#endif
ALWAYS bool w_any_more(U a, u16 than) { return m_any((M)((W)a > than)); }

ALWAYS M m_none(void) { return (M){0}; }
ALWAYS M m_and(M a, M b) { return a & b; }
/* Sums in double: of the first lanes, and of the last. */
typedef double Doubles VECTOR(4 * LANES);
typedef i64 DoublesMask VECTOR(4 * LANES);
typedef float FHalf VECTOR(2 * LANES);
typedef i32 MHalf VECTOR(2 * LANES);

typedef struct {
    Doubles first, last;
} Wide;

typedef union {
    F whole;
    FHalf halves[2];
} Halved;

ALWAYS Wide wide_zero(void) { return (Wide){(Doubles){0}, (Doubles){0}}; }
#if LANES == 8
ALWAYS Wide wide_of(F x) {
    return (Wide){_mm256_cvtps_pd(_mm256_castps256_ps128(x)), _mm256_cvtps_pd(_mm256_extractf128_ps(x, 1))};
}
ALWAYS Doubles above_zero(Doubles a) { return _mm256_max_pd(a, _mm256_setzero_pd()); }
ALWAYS Doubles below_zero(Doubles a) { return _mm256_min_pd(a, _mm256_setzero_pd()); }
#else
ALWAYS Wide wide_of(F x) {
    Halved part = {x};
    return (Wide){__builtin_convertvector(part.halves[0], Doubles), __builtin_convertvector(part.halves[1], Doubles)};
}
ALWAYS Doubles above_zero(Doubles a) { return (Doubles)((DoublesMask)a & (a > 0)); }
ALWAYS Doubles below_zero(Doubles a) { return (Doubles)((DoublesMask)a & (a < 0)); }
#endif
ALWAYS Wide wide_sum(Wide a, Wide b) { return (Wide){a.first + b.first, a.last + b.last}; }
#if LANES == 8
ALWAYS Wide wide_if(M which, Wide yes, Wide no) {
    __m256i first = _mm256_cvtepi32_epi64(_mm256_castsi256_si128((__m256i)which));
    __m256i last = _mm256_cvtepi32_epi64(_mm256_extracti128_si256((__m256i)which, 1));
    return (Wide){_mm256_blendv_pd(no.first, yes.first, (__m256d)first),
                  _mm256_blendv_pd(no.last, yes.last, (__m256d)last)};
}
#else
ALWAYS Wide wide_if(M which, Wide yes, Wide no) {
    union {
        M whole;
        MHalf halves[2];
    } up = {which};
    DoublesMask first = __builtin_convertvector(up.halves[0], DoublesMask);
    DoublesMask last = __builtin_convertvector(up.halves[1], DoublesMask);
    return (Wide){(Doubles)(((DoublesMask)yes.first & first) | ((DoublesMask)no.first & ~first)),
                  (Doubles)(((DoublesMask)yes.last & last) | ((DoublesMask)no.last & ~last))};
}
#endif
/* x to `plus` where it is above 0, and to `minus` where it is below; `up` and `down` say so, too. */
ALWAYS void wide_add_split(Wide *plus, Wide *minus, M up, M down, F x) {
    Wide more = wide_of(x);
    plus->first += above_zero(more.first);
    plus->last += above_zero(more.last);
    minus->first += below_zero(more.first);
    minus->last += below_zero(more.last);
}
/* The same, but only where `up` or `down`. */
ALWAYS void wide_add_signed(Wide *plus, Wide *minus, M up, M down, F x) {
    wide_add_split(plus, minus, up, down, f_keep(up | down, x));
}
#if LANES == 8 /* as written below, compilers go by way of memory, and wait for it */
/* Of 16 doubles, those at the places that the lowest four bits say. */
ALWAYS Wide wide_at(const double *table, U places) {
    __m256i low = _mm256_and_si256((__m256i)places, _mm256_set1_epi32(15));
    return (Wide){_mm256_i32gather_pd(table, _mm256_castsi256_si128(low), 8),
                  _mm256_i32gather_pd(table, _mm256_extracti128_si256(low, 1), 8)};
}
ALWAYS M wide_not_negative(Wide a) {
    __m256 first = (__m256)_mm256_cmp_pd(a.first, _mm256_setzero_pd(), _CMP_GE_OQ);
    __m256 last = (__m256)_mm256_cmp_pd(a.last, _mm256_setzero_pd(), _CMP_GE_OQ);
    return (M)_mm256_permute4x64_epi64((__m256i)_mm256_shuffle_ps(first, last, 0x88), 0xD8);
}
ALWAYS F wide_narrow(Wide a) { return _mm256_set_m128(_mm256_cvtpd_ps(a.last), _mm256_cvtpd_ps(a.first)); }
#else
/* Of 16 doubles, those at the places that the lowest four bits say. */
ALWAYS Wide wide_at(const double *table, U places) {
    Wide found = wide_zero();
    for (int i = 0; i < LANES / 2; i++) {
        found.first[i] = table[places[i] & 15];
        found.last[i] = table[places[LANES / 2 + i] & 15];
    }
    return found;
}
ALWAYS M wide_not_negative(Wide a) {
    union {
        MHalf halves[2];
        M whole;
    } up = {{__builtin_convertvector((DoublesMask)(a.first >= 0), MHalf),
             __builtin_convertvector((DoublesMask)(a.last >= 0), MHalf)}};
    return up.whole;
}
ALWAYS F wide_narrow(Wide a) {
    Halved part;
    part.halves[0] = __builtin_convertvector(a.first, FHalf);
    part.halves[1] = __builtin_convertvector(a.last, FHalf);
    return part.whole;
}
#endif

/* The states that pairs of draws come from: see `pair_of`. */
typedef struct {
    Doubled parts[2];
} States;

ALWAYS States states_at(const u64 *first, const u64 *last, u64 add) {
    States at;
    memcpy(&at.parts[0], first, sizeof at.parts[0]);
    memcpy(&at.parts[1], last, sizeof at.parts[1]);
    at.parts[0] += add;
    at.parts[1] += add;
    return at;
}
ALWAYS Doubled mixed(Doubled state) {
    state = (state ^ state >> 30) * MIX1;
    state = (state ^ state >> 27) * MIX2;
    return state ^ state >> 31;
}
/* The draws of both halves of a group. */
typedef struct {
    U halves[2];
} Drawn;

ALWAYS Drawn drawn(States at, u64 key, bool float16) {
    Doubled first = mixed(at.parts[0] + key), last = mixed(at.parts[1] + key);
    if (float16) return (Drawn){{(U)first, (U)last}};
    return (Drawn){{(U)((first & UINT32_MAX) | last << 32), (U)(first >> 32 | (last & 0xFFFFFFFF00000000u))}};
}

#if HAVE_FLOAT16
ALWAYS F f16_lanes(const u16 *words, int half) {
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(words + 8 * half)));
}
ALWAYS void put_f16(F first, F last, u16 *out) {
    _mm_storeu_si128((__m128i *)out, _mm256_cvtps_ph(first, 0));
    _mm_storeu_si128((__m128i *)(out + 8), _mm256_cvtps_ph(last, 0));
}
#endif
