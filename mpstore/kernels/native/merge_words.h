/* merge_words.c: stored 16-bit words to merged words (merge_words_numpy). */
#ifndef MP_MERGE_WORDS_H
#define MP_MERGE_WORDS_H

#include "merge.h"

/* One block as it is stored; `items` are `count` experts', the delta itself where `plain`. */
typedef struct {
    const u16 *base;
    const u16 *const *items;
    const u8 *plain;
    i64 count, size;
    bool float16;
} Sources;

/* Merge a block. nonfinite: how many values of the base, and of each delta, are NaN or infinite. */
void words_combine(const Sources *sources, const Terms *terms, u64 start, u16 *restrict out,
                   i64 *restrict nonfinite);

/* search_words.c: a pass over one expert's magnitudes, counted where there are `counts`, else collected into `found`,
   which has room for a block's. */
typedef struct {
    i64 item, low, high;
    int shift;
    u32 *counts;
    i64 bins;
    u32 *found;
    i64 found_items;
    bool dense; /* whether the last stretch had any */
} Search;

void words_search(const Sources *sources, Search *searches, i64 count);

#endif
