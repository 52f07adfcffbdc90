/* The words of a block as the coders of distances see them, for each width of words (rans_words_of.h). */
#include "rans.h"

#define WORD u8
#define BITS 8
#define WIDE u32
#include "rans_words_of.h"

#define WORD u16
#define BITS 16
#define WIDE u32
#include "rans_words_of.h"

#define WORD u32
#define BITS 32
#define WIDE u32
#include "rans_words_of.h"

#define WORD u64
#define BITS 64
#define WIDE u64
#include "rans_words_of.h"

/* The function for the width at hand. */
#define CALL(shape, name, ...)                  \
    switch ((shape)->bytes) {                   \
    case 1:                                     \
        name##_8(__VA_ARGS__);                  \
        break;                                  \
    case 2:                                     \
        name##_16(__VA_ARGS__);                 \
        break;                                  \
    case 4:                                     \
        name##_32(__VA_ARGS__);                 \
        break;                                  \
    default:                                    \
        name##_64(__VA_ARGS__);                 \
    }

bool rans_distances(const RansShape *shape, const void *words, const void *base, i64 count, void *out) {
    CALL(shape, return distances, shape->sign_magnitude, words, base, count, out)
}

u64 rans_largest(const RansShape *shape, const void *base, i64 count) {
    CALL(shape, return largest, shape->mask, base, count)
}

void rans_contexts(const RansShape *shape, const void *base, i64 count, u64 lowest, u64 highest, u32 *out) {
    CALL(shape, contexts, shape->mask, shape->shift, base, count, lowest, highest, out)
}

void rans_tokens(const RansShape *shape, const void *distances, i64 count, u8 *tokens) {
    CALL(shape, tokens, distances, count, tokens)
}

i64 rans_raw_bits(const RansShape *shape, const void *distances, const u8 *tokens, i64 count, RansTurns widths,
                  RansTurns rests) {
    u8 largest = 0;
    for (i64 i = 0; i < count; i++) largest = tokens[i] > largest ? tokens[i] : largest;
    i64 turns = rans_turns(largest);
    for (i64 turn = 0; turn < turns; turn++) {
        for (i64 i = 0; i < count; i++) widths[turn][i] = rans_width(tokens[i], turn);
        CALL(shape, rests, distances, turn, count, widths[turn], rests[turn])
    }
    return turns;
}

void rans_restore(const RansShape *shape, const u32 *tokens, RansTurns rests, i64 turns, const void *base, i64 count,
                  void *out) {
    CALL(shape, restore, shape->sign_magnitude, tokens, rests, turns, base, count, out)
}
