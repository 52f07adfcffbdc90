/* Words to symbols and to distances: chunk by chunk, a chunk in steps of as many elements as there are lanes. */
#include "rans.h"
#include "rans_vectors.h"

enum { SLOTS = RANS_SLOTS };

bool rans_slots(const u32 *frequency, i64 contexts, i64 symbols, u32 *slots) {
    for (i64 context = 0; context < contexts; context++, frequency += symbols, slots += SLOTS) {
        u32 start = 0;
        for (i64 symbol = 0; symbol < symbols; symbol++) {
            u32 share = frequency[symbol];
            if (share >= SLOTS || start + share > SLOTS) return false;
            for (u32 offset = 0; offset < share; offset++)
                slots[start + offset] = (u32)symbol | share << 8 | offset << 20;
            start += share;
        }
        if (start != SLOTS) return false;
    }
    return true;
}

/* A decoder between two steps. */
typedef struct {
    u32 states[RANS_MANY];
    const u16 *words;
    const u32 *slots;
    i64 lanes;
} Decoder;

static Decoder begin(const u16 *words, const u32 *slots, i64 lanes) {
    Decoder decoder = {{0}, words + 2 * lanes, slots, lanes};
    for (i64 lane = 0; lane < lanes; lane++)
        decoder.states[lane] = words[2 * lane] | (u32)words[2 * lane + 1] << 16;
    return decoder;
}

/* Whether the coder is back where an encoder began: all states at their lowest, all words taken. */
static bool at_rest(const Decoder *decoder, const u16 *end) {
    bool rest = decoder->words == end;
    for (i64 lane = 0; lane < decoder->lanes; lane++) rest = rest && decoder->states[lane] == RANS_LOW;
    return rest;
}

/* No branch: whether a state is short cannot be foreseen. */
static inline u32 refilled(u32 state, const u16 **words) {
    u32 is_short = state < RANS_LOW, next = **words & (0 - is_short);
    *words += is_short;
    return state << (16 * is_short) | next;
}

static u32 pull_symbols(Decoder *decoder, const u32 *contexts, i64 active, u32 *symbols) {
    const u16 *words = decoder->words;
    u32 largest = 0;
    for (i64 lane = 0; lane < active; lane++) {
        u32 state = decoder->states[lane], entry = decoder->slots[contexts[lane] * SLOTS + state % SLOTS];
        u32 symbol = entry & 255;
        decoder->states[lane] = refilled((entry >> 8) % SLOTS * (state / SLOTS) + (entry >> 20), &words);
        symbols[lane] = symbol;
        largest = symbol > largest ? symbol : largest;
    }
    decoder->words = words;
    return largest;
}

/* One turn of raw bits. */
static void pull_raw(Decoder *decoder, const u32 *tokens, i64 turn, i64 active, u32 *rests) {
    const u16 *words = decoder->words;
    for (i64 lane = 0; lane < active; lane++) {
        u32 state = decoder->states[lane], width = rans_width(tokens[lane], turn);
        rests[lane] = state & ((1u << width) - 1);
        decoder->states[lane] = refilled(state >> width, &words);
    }
    decoder->words = words;
}

static i64 pull_lanes(Decoder *decoder, const u32 *contexts, i64 count, u32 *tokens, RansTurns rests) {
    i64 most_turns = 0;
    for (i64 step = 0; step < count; step += decoder->lanes) {
        i64 active = least(decoder->lanes, count - step);
        i64 turns = rans_turns(pull_symbols(decoder, contexts + step, active, tokens + step));
        for (i64 turn = 0; rests != NULL && turn < turns; turn++)
            pull_raw(decoder, tokens + step, turn, active, rests[turn] + step);
        most_turns = most(most_turns, turns);
    }
    return most_turns;
}

#if VECTORS

static inline __m512i refilled16(__m512i state, const u16 **words) {
    __mmask16 is_short = _mm512_cmplt_epu32_mask(state, number(RANS_LOW));
    __m512i next = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const void *)*words));
    *words += __builtin_popcount(is_short);
    next = _mm512_maskz_expand_epi32(is_short, next);
    return _mm512_mask_or_epi32(state, is_short, _mm512_slli_epi32(state, 16), next);
}

static inline __m512i pull_symbols16(__m512i *state, __m512i context, const u32 *slots, const u16 **words) {
    __m512i at = _mm512_add_epi32(_mm512_slli_epi32(context, 12), _mm512_and_si512(*state, number(SLOTS - 1)));
    __m512i entry = _mm512_i32gather_epi32(at, slots, 4);
    __m512i share = _mm512_and_si512(_mm512_srli_epi32(entry, 8), number(SLOTS - 1));
    __m512i within = _mm512_mullo_epi32(share, _mm512_srli_epi32(*state, 12));
    *state = refilled16(_mm512_add_epi32(within, _mm512_srli_epi32(entry, 20)), words);
    return _mm512_and_si512(entry, number(255));
}

static inline __m512i pull_raw16(__m512i *state, __m512i token, i64 turn, const u16 **words) {
    __mmask16 has_bits = _mm512_cmpge_epu32_mask(token, number(16));
    __m512i width = _mm512_maskz_sub_epi32(has_bits, _mm512_srli_epi32(token, 1), number((u32)(5 + 16 * turn)));
    width = _mm512_min_epi32(_mm512_max_epi32(width, number(0)), number(16));
    __m512i rest = _mm512_andnot_si512(_mm512_sllv_epi32(number(~0u), width), *state);
    *state = refilled16(_mm512_srlv_epi32(*state, width), words);
    return rest;
}

/* A whole chunk of RANS_MANY lanes, as pull_lanes. */
static i64 pull_chunk(Decoder *decoder, const u32 *contexts, u32 *tokens, RansTurns rests) {
    const u16 *words = decoder->words;
    __m512i low = _mm512_loadu_si512(decoder->states), high = _mm512_loadu_si512(decoder->states + 16);
    i64 most_turns = 0;
    for (i64 step = 0; step < RANS_CHUNK; step += RANS_MANY) {
        __m512i first = pull_symbols16(&low, _mm512_loadu_si512(contexts + step), decoder->slots, &words);
        __m512i second = pull_symbols16(&high, _mm512_loadu_si512(contexts + step + 16), decoder->slots, &words);
        _mm512_storeu_si512(tokens + step, first);
        _mm512_storeu_si512(tokens + step + 16, second);
        __m512i larger = _mm512_max_epu32(first, second);
        if (rests == NULL || _mm512_cmpge_epu32_mask(larger, number(16)) == 0) continue;
        i64 turns = rans_turns(_mm512_reduce_max_epu32(larger));
        for (i64 turn = 0; turn < turns; turn++) {
            _mm512_storeu_si512(rests[turn] + step, pull_raw16(&low, first, turn, &words));
            _mm512_storeu_si512(rests[turn] + step + 16, pull_raw16(&high, second, turn, &words));
        }
        most_turns = most(most_turns, turns);
    }
    _mm512_storeu_si512(decoder->states, low);
    _mm512_storeu_si512(decoder->states + 16, high);
    decoder->words = words;
    return most_turns;
}

#endif

/* The symbols of a chunk, and with `rests` the raw bits that follow those of them that are tokens; how many turns
   of these there were. */
static i64 pull(Decoder *decoder, const u32 *contexts, i64 count, u32 *symbols, RansTurns rests) {
#if VECTORS
    if (decoder->lanes == RANS_MANY && count == RANS_CHUNK) return pull_chunk(decoder, contexts, symbols, rests);
#endif
    return pull_lanes(decoder, contexts, count, symbols, rests);
}

bool rans_decode_symbols(const u16 *words, i64 used, const u32 *slots, i64 lanes, i64 count, u8 *out) {
    Decoder decoder = begin(words, slots, lanes);
    u32 contexts[RANS_CHUNK] = {0}, symbols[RANS_CHUNK];
    for (i64 at = 0; at < count; at += RANS_CHUNK) {
        i64 here = least(RANS_CHUNK, count - at);
        if (decoder.words > words + used) return false;
        pull(&decoder, contexts, here, symbols, NULL);
        for (i64 i = 0; i < here; i++) out[at + i] = (u8)symbols[i];
    }
    return at_rest(&decoder, words + used);
}

bool rans_decode_distances(const RansShape *shape, const u16 *words, i64 used, const u32 *slots, u64 lowest,
                           i64 contexts, i64 lanes, const u8 *coded, const void *base, i64 count, void *out) {
    Decoder decoder = begin(words, slots, lanes);
    u32 own[RANS_CHUNK], tokens[RANS_CHUNK];
    RansTurns rests;
    size_t rests_bytes = (size_t)rans_turns((u32)shape->symbols - 1) * sizeof rests[0];
    for (i64 at = 0; at < count; at += RANS_CHUNK) {
        i64 here = least(RANS_CHUNK, count - at);
        const u8 *reference = (const u8 *)base + at * shape->bytes;
        u8 *target = (u8 *)out + at * shape->bytes;
        if (!coded[at / RANS_CHUNK]) {
            memcpy(target, reference, (size_t)(here * shape->bytes));
            continue;
        }
        if (decoder.words > words + used) return false;
        rans_contexts(shape, reference, here, lowest, lowest + (u64)contexts - 1, own);
        memset(rests, 0, rests_bytes);
        i64 turns = pull(&decoder, own, here, tokens, rests);
        rans_restore(shape, tokens, rests, turns, reference, here, target);
    }
    return at_rest(&decoder, words + used);
}
