/* What merging and searching words have in common: a block's words as deltas. */
#ifndef MP_SOURCES_H
#define MP_SOURCES_H

#include "execute.h"
#include "lanes.h"
#include "merge_words.h"

static inline void widen(const u16 *restrict words, i64 count, bool float16, float *restrict out) {
    if (float16)
        widen_f16(words, count, out);
    else
        widen_bf16(words, count, out);
}

/* Of one expert: which values differ from the base, or are themselves; how many are not finite. */
static inline i64 find_deltas(const Sources *sources, i64 e, i64 at, i64 width, const float *restrict base,
                       float *restrict out) {
    const u16 *words = sources->items[e] + at;
    if (sources->plain[e]) {
        widen(words, width, sources->float16, out);
        return count_nonfinite(out, width);
    }
    return sources->float16 ? difference_f16(words, base, width, out) : difference_bf16(words, base, width, out);
}

/* Whether an expert has the base's words; mostly the first few tell. */
static inline bool unchanged(const Sources *sources, i64 e, i64 at, i64 width) {
    const u16 *a = sources->items[e] + at, *b = sources->base + at;
    if (sources->plain[e]) return false;
    for (i64 i = 0; i + GROUP <= width; i += GROUP)
        if (m_any(u_nonzero(u_xor(u_take(a + i), u_take(b + i))))) return false;
    return memcmp(a + width / GROUP * GROUP, b + width / GROUP * GROUP, (size_t)(width % GROUP) * 2) == 0;
}

#endif
