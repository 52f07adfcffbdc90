/* merge_groups.c: merged words in vector registers, where plain sums can be proven to be the exact ones.

   The exact way (merge.c) rounds all terms of an element to a grid before it adds them. How far the largest and the
   smallest stored word of an element are apart bounds how far its terms are. While that is little, as for almost all
   elements, every term lies on the grid, and sums in double are exact without it; where all weights are powers of two,
   even sums in float32 are. The caller takes the exact way for what is left. */
#ifndef MP_MERGE_GROUPS_H
#define MP_MERGE_GROUPS_H

#include "lanes.h"
#include "merge.h"

/* What is done with the deltas of one expert. */
typedef struct {
    const u16 *words;
    float first, second; /* factors, one after the other: scale and weight, or their product */
    float low, minus_low, high;
    float mark;          /* what it adds to those that agree: 1, or a bit of its own */
    u32 last;            /* the largest draw that is kept */
    u64 key;
} Quick;

typedef enum {
    ALL,        /* every delta counts */
    BAND,       /* those of a magnitude in low .. high */
    DRAWN,      /* those that are drawn */
    TOP_SIGNED, /* from here with election: those of a magnitude of at least low, which is above 0 */
    BAND_SIGNED,
    DRAWN_SIGNED,
    KINDS,
} Kind;

typedef struct Merger Merger;

/* Merge `groups` (at most 32) groups of words from element `at`, of the `count` experts that change them; the words
   of those from `full` on are deltas themselves. Bit g of the result: group g is not merged. */
typedef u32 (*Groups)(const Merger *merger, const Quick *const *experts, i64 full, i64 count, i64 at, i64 groups,
                      u16 *out);

#define SHARE_BITS 4
#define SHARE_TABLES 6 /* 24 bits: as many as a float has */

struct Merger {
    Groups merge;
    Quick experts[MOST_DELTAS];
    const u16 *base;
    float divisor, factor, base_scale;
    bool twice;           /* whether both factors of an expert count */
    bool divides, shares; /* by `divisor`; by the weights that agree */
    float share;          /* the weight of all, or 0: then from the tables */
    double tables[SHARE_TABLES][1 << SHARE_BITS]; /* exact sums of weights: of the marks in each four bits */
    i64 table_count;
    u16 top, span;        /* twice the largest word that is taken, and how far words may be apart */
    u64 states[2][LANES / 2]; /* of draws, see `States` */
};

/* The loop for a kind, with sums in float32 or `wide`, in double. */
Groups groups_of(Kind kind, bool wide, bool float16);

/* merger.c: make ready for a block. False: this way is not for these terms. */
bool prepare_merger(const Terms *terms, const u16 *base, const u16 *const *items, bool float16,
                    u64 start, Merger *out);

#endif
