/* The Rice coder for one width: included by rice.c with WORD and NAME set, after rice_words.h.

   It works on strips of sixteen groups of 64 elements, step by step and plane by plane across a strip: each step of
   a group's unary quotients, and each plane of its low bits, is one word of bits under the mask of those it
   concerns, and the words of a strip do not wait for each other. */

#define PARTS ((int)sizeof(WORD))

typedef struct {
    WORD *distance; /* of a block to encode: whole groups, zeros behind the last element */
    u8 *coded;      /* of each group: whether it is coded */
    const WORD *base;
    i64 count, groups;
    bool sign_magnitude;
    WORD mask, lowest;
    int shift, contexts, tile, planes;
    u8 parameters[CONTEXTS];
} NAME(Block);

/* What is known of the elements of a strip: those of a group that are coded at all, whose context is sparse or
   flagged (and, once that is known, flagged and not zero), whose quotient goes on, that have low bits. */
typedef struct {
    WORD base[STRIP], z[STRIP];
    u8 k[STRIP], quotient[STRIP], part[PARTS][STRIP];
    u64 active[GROUPS], sparse[GROUPS], flagged[GROUPS], left[GROUPS], kept[GROUPS];
    /* Read: bits of quotients, and low bits, by place; those of the places that `few` elements have, in `rest`. */
    u64 slices[QUOTIENT_BITS][GROUPS], low[BITS][GROUPS];
    int planes, few;
    u16 at[GROUP + 4];
    WORD rest[STRIP];
} NAME(Strip);

/* Parameters of a strip's elements, and which there are. */
static void NAME(begin_strip)(const NAME(Block) * b, i64 strip, NAME(Strip) * s) {
    i64 at = strip * STRIP, here = least(STRIP, b->count - at);
    const WORD *base = b->base + at;
    if (here < STRIP) {
        memset(s->base, 0, sizeof s->base);
        memcpy(s->base, base, (size_t)here * sizeof(WORD));
        base = s->base;
    }
    for (int g = 0; g < GROUPS; g++) {
        Bytes64 context = NAME(contexts_of)(base + g * GROUP, b->mask, b->shift, b->lowest, b->contexts);
        Bytes64 own = looked_up(b->parameters, context);
        store_bytes(s->k + g * GROUP, only(own, K_MASK));
        i64 group = strip * GROUPS + g;
        s->active[g] = group < b->groups && b->coded[group] ? first_bits(here - g * GROUP) : 0;
        s->sparse[g] = topped(own) & s->active[g];
        s->flagged[g] = having(own, FLAGGED);
    }
}

/* How many bits stand under the masks of the groups before each one, and under all. */
static inline i64 NAME(count_before)(const u64 *masks, i64 *before) {
    i64 sum = 0;
    for (int g = 0; g < GROUPS; g++) {
        before[g] = sum;
        sum += count_bits(masks[g]);
    }
    return sum;
}

/* The bits of few elements back to the groups they are of. */
static inline void NAME(spread)(u64 bits, const u64 *masks, const i64 *before, u64 *into) {
    for (int g = 0; g < GROUPS; g++) into[g] = deposit(bits >> before[g], masks[g]);
}

#include "rice_encoding.h"
#include "rice_decoding.h"

#undef PARTS
