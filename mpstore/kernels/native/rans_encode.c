/* Symbols and distances to words: from the last element to the first, the words from the end of their room on. */
#include "rans.h"
#include "rans_vectors.h"

/* An encoder between two steps. */
typedef struct {
    u32 states[RANS_MANY];
    u16 *words; /* the last that was written */
    i64 lanes;
} Encoder;

static Encoder begin(u16 *end, i64 lanes) {
    Encoder encoder = {.words = end, .lanes = lanes};
    for (i64 lane = 0; lane < RANS_MANY; lane++) encoder.states[lane] = RANS_LOW;
    return encoder;
}

static i64 finish(Encoder *encoder, const u16 *room) {
    for (i64 lane = encoder->lanes - 1; lane >= 0; lane--) {
        *--encoder->words = (u16)(encoder->states[lane] >> 16);
        *--encoder->words = (u16)encoder->states[lane];
    }
    return encoder->words - room;
}

static inline u32 emitted(u32 state, u32 full, u16 **words) {
    (*words)[-1] = (u16)state;
    *words -= full;
    return state >> (16 * full);
}

static void push_raw(Encoder *encoder, const u32 *widths, const u32 *rests, i64 active) {
    u16 *words = encoder->words;
    for (i64 lane = active - 1; lane >= 0; lane--) {
        u32 state = encoder->states[lane];
        u32 full = (u64)state >> (32 - widths[lane]) != 0;
        encoder->states[lane] = emitted(state, full, &words) << widths[lane] | rests[lane];
    }
    encoder->words = words;
}

/* `entries` are start << 12 | frequency of each symbol. */
static void push_symbols(Encoder *encoder, const u32 *entries, i64 active) {
    u16 *words = encoder->words;
    for (i64 lane = active - 1; lane >= 0; lane--) {
        u32 state = encoder->states[lane], share = entries[lane] & 4095;
        state = emitted(state, state >= share << 20, &words);
        encoder->states[lane] = (state / share << 12) + state % share + (entries[lane] >> 12);
    }
    encoder->words = words;
}

#if VECTORS

static inline __m512i emitted16(__m512i state, __mmask16 full, u16 **words) {
    i64 count = __builtin_popcount(full);
    __m256i low = _mm512_cvtepi32_epi16(_mm512_maskz_compress_epi32(full, state));
    *words -= count;
    _mm256_mask_storeu_epi16(*words, (__mmask16)((1u << count) - 1), low);
    return _mm512_mask_srli_epi32(state, full, state, 16);
}

static void push_raw16(u32 *states, const u32 *widths, const u32 *rests, u16 **words) {
    __m512i state = _mm512_loadu_si512(states), width = _mm512_loadu_si512(widths);
    __m512i above = _mm512_srlv_epi32(_mm512_srli_epi32(state, 16), _mm512_sub_epi32(number(16), width));
    state = emitted16(state, _mm512_test_epi32_mask(above, above), words);
    _mm512_storeu_si512(states, _mm512_or_si512(_mm512_sllv_epi32(state, width), _mm512_loadu_si512(rests)));
}

/* The quotient is below 2^20: in single precision it is at most one off, which the remainder tells. */
static void push_symbols16(u32 *states, const u32 *entries, u16 **words) {
    __m512i state = _mm512_loadu_si512(states), entry = _mm512_loadu_si512(entries);
    __m512i share = _mm512_and_si512(entry, number(4095));
    state = emitted16(state, _mm512_cmpge_epu32_mask(state, _mm512_slli_epi32(share, 20)), words);
    __m512 ratio = _mm512_div_ps(_mm512_cvtepu32_ps(state), _mm512_cvtepu32_ps(share));
    __m512i quotient = _mm512_cvttps_epi32(ratio);
    __m512i rest = _mm512_sub_epi32(state, _mm512_mullo_epi32(quotient, share));
    __mmask16 below = _mm512_cmplt_epi32_mask(rest, number(0));
    quotient = _mm512_mask_sub_epi32(quotient, below, quotient, number(1));
    rest = _mm512_mask_add_epi32(rest, below, rest, share);
    __mmask16 above = _mm512_cmpge_epu32_mask(rest, share);
    quotient = _mm512_mask_add_epi32(quotient, above, quotient, number(1));
    rest = _mm512_mask_sub_epi32(rest, above, rest, share);
    state = _mm512_add_epi32(_mm512_slli_epi32(quotient, 12), rest);
    _mm512_storeu_si512(states, _mm512_add_epi32(state, _mm512_srli_epi32(entry, 12)));
}

#endif

/* One step: its symbols, and before them (an encoder goes backwards) the turns of their raw bits. */
static void push(Encoder *encoder, const u32 *entries, i64 active, RansTurns widths, RansTurns rests, i64 turns,
                 i64 step) {
#if VECTORS
    if (active == RANS_MANY) {
        for (i64 turn = turns - 1; turn >= 0; turn--)
            for (i64 half = 16; half >= 0; half -= 16)
                push_raw16(encoder->states + half, widths[turn] + step + half, rests[turn] + step + half,
                           &encoder->words);
        for (i64 half = 16; half >= 0; half -= 16)
            push_symbols16(encoder->states + half, entries + step + half, &encoder->words);
        return;
    }
#endif
    for (i64 turn = turns - 1; turn >= 0; turn--)
        push_raw(encoder, widths[turn] + step, rests[turn] + step, active);
    push_symbols(encoder, entries + step, active);
}

/* start << 12 | frequency of each symbol. */
static void starts(const u32 *frequency, i64 contexts, i64 symbols, u32 *out) {
    for (i64 context = 0; context < contexts; context++, frequency += symbols, out += symbols) {
        u32 start = 0;
        for (i64 symbol = 0; symbol < symbols; symbol++) {
            out[symbol] = start << 12 | frequency[symbol];
            start += frequency[symbol];
        }
    }
}

i64 rans_encode_symbols(const u8 *symbols, i64 count, const u32 *frequency, i64 lanes, u16 *words, i64 room) {
    Encoder encoder = begin(words + room, lanes);
    u32 start_of[256], entries[RANS_CHUNK];
    starts(frequency, 1, 256, start_of);
    for (i64 at = (count - 1) / RANS_CHUNK * RANS_CHUNK; at >= 0; at -= RANS_CHUNK) {
        i64 here = least(RANS_CHUNK, count - at);
        if (encoder.words - words < RANS_CHUNK + 2 * lanes + 1) return -1;
        for (i64 i = 0; i < here; i++) entries[i] = start_of[symbols[at + i]];
        for (i64 step = (here - 1) / lanes * lanes; step >= 0; step -= lanes)
            push(&encoder, entries, least(lanes, here - step), NULL, NULL, 0, step);
    }
    return finish(&encoder, words);
}

i64 rans_encode_distances(const RansShape *shape, const void *distances, const u8 *tokens, const u8 *keys,
                          const u8 *coded, i64 count, i64 low, const u32 *frequency, i64 contexts, i64 lanes,
                          u16 *words, i64 room) {
    Encoder encoder = begin(words + room, lanes);
    u32 start_of[RANS_MOST_ROWS * RANS_MOST_SYMBOLS], entries[RANS_CHUNK];
    RansTurns widths, rests;
    starts(frequency, contexts, shape->symbols, start_of);
    for (i64 chunk = (count + RANS_CHUNK - 1) / RANS_CHUNK - 1; chunk >= 0; chunk--) {
        i64 at = chunk * RANS_CHUNK, here = least(RANS_CHUNK, count - at);
        if (!coded[chunk]) continue;
        if (encoder.words - words < 5 * RANS_CHUNK + 2 * lanes + 1) return -1;
        for (i64 i = 0; i < here; i++) {
            i64 context = least(most(keys[at + i] - low, 0), contexts - 1);
            entries[i] = start_of[context * shape->symbols + tokens[at + i]];
        }
        i64 turns = rans_raw_bits(shape, (const u8 *)distances + at * shape->bytes, tokens + at, here, widths, rests);
        for (i64 step = (here - 1) / lanes * lanes; step >= 0; step -= lanes)
            push(&encoder, entries, least(lanes, here - step), widths, rests, turns, step);
    }
    return finish(&encoder, words);
}
