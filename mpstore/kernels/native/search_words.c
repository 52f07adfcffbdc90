/* Passes over the magnitudes of experts' deltas: the compiled side of merge_words_numpy.search.

   Elements are first passed over in vectors as they come, without putting them in order: most stretches have nothing
   between the bounds, or nothing but the lowest pattern, for differences of few bits are often powers of two. */
#include "sources.h"

#define STRETCH 512 /* elements at a time */

/* One stretch of the base. */
typedef struct {
    const Sources *sources;
    i64 at, width;
    bool finite;           /* then plain differences are deltas: of what is equal they are 0 */
    bool in_order;         /* whether `values` are there */
    float lanes[STRETCH];  /* as vectors take them */
    float values[STRETCH];
} Stretch;

static const float zeros[STRETCH];

static void begin_stretch(Stretch *stretch, const Sources *sources, i64 at) {
    const u16 *base = sources->base + at;
    const u32 top = sources->float16 ? 0x7C00 : 0x7F80;
    u32 odd = 0;
    stretch->sources = sources;
    stretch->at = at;
    stretch->width = least(STRETCH, sources->size - at);
    for (i64 i = 0; i < stretch->width; i++) odd += (base[i] & top) == top;
    stretch->finite = odd == 0;
    stretch->in_order = false;
    for (i64 i = 0; i + GROUP <= stretch->width; i += GROUP)
        for (int half = 0; half < 2; half++)
            f_put(lanes_of(u_take(base + i), base + i, half, sources->float16), stretch->lanes + i + half * LANES);
}

/* How many patterns are less than `lowest`, and less than `span`, above `low`. */
typedef struct {
    u32 lowest, span;
} Seen;

ALWAYS Seen see_words(const Stretch *stretch, i64 e, u32 low, u32 lowest, u32 span, bool float16) {
    const u16 *words = stretch->sources->items[e] + stretch->at;
    const float *base = stretch->sources->plain[e] ? zeros : stretch->lanes;
    U here = u_all(0), seen = u_all(0);
    for (i64 i = 0; i + GROUP <= stretch->width; i += GROUP) {
        U pairs = u_take(words + i);
        __builtin_prefetch(words + i + STRETCH);
        for (int half = 0; half < 2; half++) {
            F delta = f_sub(lanes_of(pairs, words + i, half, float16), f_take(base + i + half * LANES));
            U offset = u_sub(u_and(u_of(delta), u_all(MAGNITUDE)), u_all(low));
            here = u_counted(here, u_not_more(offset, u_all(lowest - 1)));
            seen = u_counted(seen, u_not_more(offset, u_all(span - 1)));
        }
    }
    return (Seen){u_total(here), u_total(seen)};
}

/* False: there is no first look at this stretch. */
static bool first_look(const Stretch *stretch, i64 e, u32 low, u32 lowest, u32 span, Seen *out) {
    if (!stretch->finite || (stretch->sources->float16 && !HAVE_FLOAT16)) return false;
    if (stretch->sources->float16)
        *out = see_words(stretch, e, low, lowest, span, true);
    else
        *out = see_words(stretch, e, low, lowest, span, false);
    return true;
}

static void subtract(const u16 *restrict words, i64 count, const float *restrict base, float *restrict out) {
    for (i64 i = 0; i < count; i++) out[i] = float_of((u32)words[i] << 16) - base[i];
}

/* An expert's deltas from element `from` of the stretch, in order; how many. */
static i64 deltas_in_order(Stretch *stretch, i64 e, i64 from, float *out) {
    const Sources *sources = stretch->sources;
    i64 at = stretch->at + from, width = stretch->width - from;
    if (!stretch->in_order) widen(sources->base + stretch->at, stretch->width, sources->float16, stretch->values);
    stretch->in_order = true;
    if (stretch->finite && !sources->float16 && !sources->plain[e])
        subtract(sources->items[e] + at, width, stretch->values + from, out);
    else
        find_deltas(sources, e, at, width, stretch->values + from, out);
    return width;
}

static void count_stretch(Stretch *stretch, Search *search) {
    u32 lowest = (u32)least((i64)1 << search->shift, (i64)1 << 31);
    u32 span = (u32)least(search->bins << search->shift, (i64)1 << 31);
    float deltas[STRETCH];
    Seen seen;
    i64 from = 0;
    if (first_look(stretch, search->item, (u32)search->low, lowest, span, &seen) && seen.lowest == seen.span) {
        search->counts[0] += seen.lowest;
        from = stretch->width / GROUP * GROUP;
    }
    if (from == stretch->width) return;
    i64 width = deltas_in_order(stretch, search->item, from, deltas);
    count_magnitudes(deltas, width, search->low, search->shift, search->counts, search->bins);
}

static void collect_stretch(Stretch *stretch, Search *search) {
    u32 span = (u32)(search->high - search->low);
    i64 from = 0, before = search->found_items;
    float deltas[STRETCH];
    Seen seen;
    if (!search->dense && first_look(stretch, search->item, (u32)search->low, span, span, &seen) && seen.span == 0)
        from = stretch->width / GROUP * GROUP;
    if (from == stretch->width) return;
    i64 width = deltas_in_order(stretch, search->item, from, deltas);
    search->found_items += collect_magnitudes(deltas, width, search->low, search->high, search->found + before);
    search->dense = search->found_items > before; /* then a first look does not pay */
}

void words_search(const Sources *sources, Search *searches, i64 count) {
    Stretch stretch;
    for (i64 s = 0; s < count; s++) {
        searches[s].found_items = 0;
        searches[s].dense = false;
    }
    for (i64 at = 0; at < sources->size; at += STRETCH) {
        begin_stretch(&stretch, sources, at);
        for (i64 s = 0; s < count; s++) {
            Search *search = &searches[s];
            if (search->low > 0 && unchanged(sources, search->item, at, stretch.width)) continue;
            if (search->counts == NULL && search->high > search->low)
                collect_stretch(&stretch, search);
            else if (search->counts != NULL && search->bins > 0)
                count_stretch(&stretch, search);
        }
    }
}
