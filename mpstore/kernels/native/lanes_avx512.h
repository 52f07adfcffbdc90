/* lanes.h with AVX-512. */
#include <immintrin.h>

#define LANES 16
#define HALVES_AT_ONCE 2 /* there are registers for the sums of both halves */
#define HAVE_FLOAT16 1

typedef __m512 F;
typedef __m512i U;
typedef __mmask16 M;

ALWAYS U u_all(u32 value) { return _mm512_set1_epi32((int)value); }
ALWAYS U u_of(F x) { return _mm512_castps_si512(x); }
ALWAYS U u_and(U a, U b) { return _mm512_and_si512(a, b); }
ALWAYS U u_or(U a, U b) { return _mm512_or_si512(a, b); }
ALWAYS U u_xor(U a, U b) { return _mm512_xor_si512(a, b); }
ALWAYS U u_add(U a, U b) { return _mm512_add_epi32(a, b); }
ALWAYS U u_shift_left(U a, int bits) { return _mm512_slli_epi32(a, (unsigned)bits); }
ALWAYS U u_shift_right(U a, int bits) { return _mm512_srli_epi32(a, (unsigned)bits); }
ALWAYS M u_nonzero(U a) { return _mm512_test_epi32_mask(a, a); }
ALWAYS U u_take(const void *from) {
    U a = _mm512_loadu_si512(from);
    __asm__("" : "+v"(a)); /* one load, not one where it is used */
    return a;
}
ALWAYS void u_put(U a, void *to) { _mm512_storeu_si512(to, a); }

ALWAYS U u_counted(U counts, M which) { return _mm512_mask_sub_epi32(counts, which, counts, _mm512_set1_epi32(-1)); }
ALWAYS u32 u_total(U a) { return (u32)_mm512_reduce_add_epi32(a); }

ALWAYS F f_take(const float *from) { return _mm512_loadu_ps(from); }
ALWAYS void f_put(F x, float *to) { _mm512_storeu_ps(to, x); }
ALWAYS F f_all(float value) { return _mm512_set1_ps(value); }
ALWAYS F f_of(U a) { return _mm512_castsi512_ps(a); }
ALWAYS F f_add(F a, F b) { return _mm512_add_ps(a, b); }
ALWAYS F f_sub(F a, F b) { return _mm512_sub_ps(a, b); }
ALWAYS F f_mul(F a, F b) { return _mm512_mul_ps(a, b); }
ALWAYS F f_div(F a, F b) { return _mm512_div_ps(a, b); }
ALWAYS M f_at_least(F a, F b) { return _mm512_cmp_ps_mask(a, b, _CMP_GE_OQ); }
ALWAYS M f_above(F a, F b) { return _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ); }
ALWAYS M f_equal(F a, F b) { return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ); }
ALWAYS M f_nonzero(F x) { return _mm512_test_epi32_mask(u_of(x), u_all(MAGNITUDE)); }
ALWAYS F f_if(M which, F yes, F no) { return _mm512_mask_blend_ps(which, no, yes); }
ALWAYS F f_keep(M which, F x) { return _mm512_maskz_mov_ps(which, x); }
ALWAYS F f_add_if(M which, F sum, F x) { return _mm512_mask_add_ps(sum, which, sum, x); }

ALWAYS U u_of_whole(F x) { return _mm512_cvttps_epi32(x); }
ALWAYS U u_sub(U a, U b) { return _mm512_sub_epi32(a, b); }
ALWAYS M u_not_more(U a, U b) { return _mm512_cmple_epu32_mask(a, b); }

/* Words, two a lane. */
ALWAYS U w_add(U a, U b) { return _mm512_add_epi16(a, b); }
ALWAYS U w_sub(U a, U b) { return _mm512_sub_epi16(a, b); }
ALWAYS U w_larger(U a, U b) { return _mm512_max_epu16(a, b); }
ALWAYS U w_smaller(U a, U b) { return _mm512_min_epu16(a, b); }
ALWAYS bool w_any_more(U a, u16 than) { return _mm512_cmpgt_epu16_mask(a, _mm512_set1_epi16((short)than)) != 0; }

ALWAYS M m_none(void) { return 0; }
ALWAYS M m_and(M a, M b) { return _kand_mask16(a, b); }
ALWAYS bool m_any(M a) { return a != 0; }

/* Sums in double. */
typedef struct {
    __m512d first, last;
} Wide;

/* By way of memory, for loads convert without the one unit that moves lanes. */
ALWAYS Wide wide_of(F x) {
    float all[LANES] __attribute__((aligned(64)));
    _mm512_store_ps(all, x);
    __asm__("" : "+m"(all));
    return (Wide){_mm512_cvtps_pd(_mm256_load_ps(all)), _mm512_cvtps_pd(_mm256_load_ps(all + 8))};
}
ALWAYS Wide wide_zero(void) { return (Wide){_mm512_setzero_pd(), _mm512_setzero_pd()}; }
ALWAYS Wide wide_sum(Wide a, Wide b) {
    return (Wide){_mm512_add_pd(a.first, b.first), _mm512_add_pd(a.last, b.last)};
}
/* x to `plus` where `up`, to `minus` where `down`: there it is above 0, and below. */
ALWAYS void wide_add_signed(Wide *plus, Wide *minus, M up, M down, F x) {
    Wide more = wide_of(x);
    plus->first = _mm512_mask_add_pd(plus->first, (__mmask8)up, plus->first, more.first);
    plus->last = _mm512_mask_add_pd(plus->last, (__mmask8)(up >> 8), plus->last, more.last);
    minus->first = _mm512_mask_add_pd(minus->first, (__mmask8)down, minus->first, more.first);
    minus->last = _mm512_mask_add_pd(minus->last, (__mmask8)(down >> 8), minus->last, more.last);
}
/* The same where `up` and `down` say of every x that is not 0. */
ALWAYS void wide_add_split(Wide *plus, Wide *minus, M up, M down, F x) { wide_add_signed(plus, minus, up, down, x); }
ALWAYS Wide wide_if(M which, Wide yes, Wide no) {
    return (Wide){_mm512_mask_blend_pd((__mmask8)which, no.first, yes.first),
                  _mm512_mask_blend_pd((__mmask8)(which >> 8), no.last, yes.last)};
}
/* Of 16 doubles, those at the places that the lowest four bits say. */
ALWAYS Wide wide_at(const double *table, U places) {
    __m512d low = _mm512_loadu_pd(table), high = _mm512_loadu_pd(table + 8);
    __m512i first = _mm512_cvtepu32_epi64(_mm512_castsi512_si256(places));
    __m512i last = _mm512_cvtepu32_epi64(_mm512_extracti32x8_epi32(places, 1));
    return (Wide){_mm512_permutex2var_pd(low, first, high), _mm512_permutex2var_pd(low, last, high)};
}
ALWAYS M wide_not_negative(Wide a) {
    __mmask8 first = _mm512_cmp_pd_mask(a.first, _mm512_setzero_pd(), _CMP_GE_OQ);
    __mmask8 last = _mm512_cmp_pd_mask(a.last, _mm512_setzero_pd(), _CMP_GE_OQ);
    return (M)(first | last << 8);
}
ALWAYS F wide_narrow(Wide a) {
    return _mm512_insertf32x8(_mm512_castps256_ps512(_mm512_cvtpd_ps(a.first)), _mm512_cvtpd_ps(a.last), 1);
}

/* The states that pairs of draws come from: see `pair_of`. */
typedef struct {
    __m512i parts[2];
} States;

ALWAYS States states_at(const u64 *first, const u64 *last, u64 add) {
    __m512i more = _mm512_set1_epi64((long long)add);
    return (States){
        {_mm512_add_epi64(_mm512_loadu_si512(first), more), _mm512_add_epi64(_mm512_loadu_si512(last), more)}};
}
ALWAYS U mixed(__m512i state) {
    state = _mm512_xor_si512(state, _mm512_srli_epi64(state, 30));
    state = _mm512_mullo_epi64(state, _mm512_set1_epi64((long long)MIX1));
    state = _mm512_xor_si512(state, _mm512_srli_epi64(state, 27));
    state = _mm512_mullo_epi64(state, _mm512_set1_epi64((long long)MIX2));
    return _mm512_xor_si512(state, _mm512_srli_epi64(state, 31));
}
/* The draws of both halves of a group. */
typedef struct {
    U halves[2];
} Drawn;

ALWAYS Drawn drawn(States at, u64 key, bool float16) {
    __m512i add = _mm512_set1_epi64((long long)key);
    U first = mixed(_mm512_add_epi64(at.parts[0], add)), last = mixed(_mm512_add_epi64(at.parts[1], add));
    if (float16) return (Drawn){{first, last}};
    return (Drawn){{u_of(_mm512_mask_moveldup_ps(f_of(first), 0xAAAA, f_of(last))),
                    u_of(_mm512_mask_movehdup_ps(f_of(last), 0x5555, f_of(first)))}};
}
ALWAYS F f16_lanes(const u16 *words, int half) {
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(words + 16 * half)));
}
ALWAYS void put_f16(F first, F last, u16 *out) {
    _mm256_storeu_si256((__m256i *)out, _mm512_cvtps_ph(first, 0));
    _mm256_storeu_si256((__m256i *)(out + 16), _mm512_cvtps_ph(last, 0));
}
