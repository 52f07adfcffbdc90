/* Merged words in vector registers: see merge_groups.h for when this is right. */
#include "merge_groups.h"

/* Whether random draws choose the deltas. */
ALWAYS bool by_draw(Kind kind) { return kind == DRAWN || kind == DRAWN_SIGNED; }

/* One half of a group: the sums of its elements. Without election `plus` is of all terms, else of those above 0. */
typedef struct {
    F base;
    F plus, minus;
    Wide wide_plus, wide_minus;
    F ups, downs; /* sums of the marks of experts with terms above 0, and below */
} Half;

ALWAYS F term_of(const Merger *merger, const Quick *expert, F delta, bool wide) {
    F term = f_mul(delta, f_all(expert->first));
    return wide && merger->twice ? f_mul(term, f_all(expert->second)) : term;
}

/* `split`: where neither, the term is 0. */
ALWAYS void add_signed(const Merger *merger, Half *at, const Quick *expert, F term, M up, M down, bool wide,
                       bool split) {
    if (wide && split) {
        wide_add_split(&at->wide_plus, &at->wide_minus, up, down, term);
    } else if (wide) {
        wide_add_signed(&at->wide_plus, &at->wide_minus, up, down, term);
    } else {
        at->plus = f_add_if(up, at->plus, term);
        at->minus = f_add_if(down, at->minus, term);
    }
    if (!merger->shares) return;
    at->ups = f_add_if(up, at->ups, f_all(expert->mark));
    at->downs = f_add_if(down, at->downs, f_all(expert->mark));
}

ALWAYS void add_delta(const Merger *merger, Half *at, const Quick *expert, F delta, M kept, Kind kind, bool wide) {
    F term = term_of(merger, expert, delta, wide), none = f_all(0.0f);
    if (kind == TOP_SIGNED) { /* terms have the sign of their deltas */
        M up = f_at_least(delta, f_all(expert->low)), down = f_at_least(f_all(expert->minus_low), delta);
        add_signed(merger, at, expert, term, up, down, wide, false);
        return;
    }
    if (kind == BAND || kind == BAND_SIGNED) {
        F magnitude = f_abs(delta);
        kept = m_and(f_at_least(magnitude, f_all(expert->low)), f_at_least(f_all(expert->high), magnitude));
    }
    if (kind != ALL) term = f_keep(kept, term);
    if (kind > TOP_SIGNED)
        add_signed(merger, at, expert, term, f_above(term, none), f_above(none, term), wide, true);
    else if (wide)
        at->wide_plus = wide_sum(at->wide_plus, wide_of(term));
    else
        at->plus = f_add(at->plus, term);
}

/* The weights that marks stand for. */
ALWAYS F weights_of(const Merger *merger, F marks) {
    if (merger->share != 0.0f) return f_mul(marks, f_all(merger->share));
    U bits = u_of_whole(marks);
    Wide sum = wide_at(merger->tables[0], bits);
    for (i64 t = 1; t < merger->table_count; t++)
        sum = wide_sum(sum, wide_at(merger->tables[t], u_shift_right(bits, (int)(SHARE_BITS * t))));
    return wide_narrow(sum);
}

ALWAYS F elected(const Merger *merger, const Half *at, bool wide) {
    F merged;
    M up;
    if (wide) {
        up = wide_not_negative(wide_sum(at->wide_plus, at->wide_minus));
        merged = wide_narrow(wide_if(up, at->wide_plus, at->wide_minus));
    } else {
        up = f_at_least(f_add(at->plus, at->minus), f_all(0.0f));
        merged = f_if(up, at->plus, at->minus);
    }
    if (!merger->shares) return merged;
    F divisor = weights_of(merger, f_if(up, at->ups, at->downs));
    return f_div(merged, f_if(f_nonzero(divisor), divisor, f_all(1.0f)));
}

ALWAYS F settle_half(const Merger *merger, const Half *at, Kind kind, bool wide) {
    F merged;
    if (kind >= TOP_SIGNED)
        merged = elected(merger, at, wide);
    else
        merged = wide ? wide_narrow(at->wide_plus) : at->plus;
    if (merger->divides) merged = f_div(merged, f_all(merger->divisor));
    F value = f_add(f_mul(at->base, f_all(merger->base_scale)), f_mul(merged, f_all(merger->factor)));
    return f_if(f_equal(value, at->base), at->base, value);
}

/* A group on its way: `count` experts, of which the first `full` are not deltas themselves. */
typedef struct {
    const Merger *merger;
    const Quick *const *experts;
    i64 full, count, element;
    Extremes words;
    M kept[2][MOST_DELTAS]; /* by draws, of each half and expert */
} Group;

ALWAYS Half begin_half(const Group *group, int half, bool float16) {
    const u16 *words = group->merger->base + group->element;
    Half at;
    at.base = lanes_of(u_take(words), words, half, float16);
    at.plus = at.minus = at.ups = at.downs = f_all(0.0f);
    at.wide_plus = at.wide_minus = wide_zero();
    return at;
}

#define AHEAD 512 /* words: what is fetched before it is needed */

/* Draw which elements each expert keeps. Before all else: the long chains of a draw would stall what follows. */
ALWAYS void draw_group(Group *group, bool float16) {
    const Merger *merger = group->merger;
    States states = states_at(merger->states[0], merger->states[1], (u64)group->element / 2 * GOLDEN);
    for (i64 i = 0; i < group->count; i++) {
        const Quick *expert = group->experts[i];
        U bound = u_all(expert->last);
        Drawn draws = drawn(states, expert->key, float16);
        group->kept[0][i] = u_not_more(draws.halves[0], bound);
        group->kept[1][i] = u_not_more(draws.halves[1], bound);
    }
}

/* Add one expert to one or two halves. */
ALWAYS void add_expert(Group *group, i64 i, int from, Half *first, Half *second, Kind kind, bool wide, bool float16,
                       bool plain) {
    const Quick *expert = group->experts[i];
    const u16 *words = expert->words + group->element;
    U pairs = u_take(words);
    if (from == 0) {
        __builtin_prefetch(words + AHEAD);
        group->words = extremes_with(group->words, pairs);
    }
    F a = lanes_of(pairs, words, from, float16);
    if (!plain) a = f_sub(a, first->base);
    add_delta(group->merger, first, expert, a, by_draw(kind) ? group->kept[from][i] : m_none(), kind, wide);
    if (second == NULL) return;
    F b = lanes_of(pairs, words, from + 1, float16);
    if (!plain) b = f_sub(b, second->base);
    add_delta(group->merger, second, expert, b, by_draw(kind) ? group->kept[from + 1][i] : m_none(), kind, wide);
}

/* One or two halves, from the first to the last expert. */
ALWAYS void add_experts(Group *group, int from, Half *first, Half *second, Kind kind, bool wide, bool float16) {
    for (i64 i = 0; i < group->full; i++) add_expert(group, i, from, first, second, kind, wide, float16, false);
    for (i64 i = group->full; i < group->count; i++)
        add_expert(group, i, from, first, second, kind, wide, float16, true);
}

/* Whether the group is merged. Where there are registers for it, both halves at once. */
ALWAYS bool merge_group(Group *group, Kind kind, bool wide, bool float16, u16 *out) {
    const Merger *merger = group->merger;
    group->words = extremes_of(u_take(merger->base + group->element));
    if (by_draw(kind)) draw_group(group, float16);
    Half first = begin_half(group, 0, float16), last = begin_half(group, 1, float16);
    add_experts(group, 0, &first, HALVES_AT_ONCE == 2 ? &last : NULL, kind, wide, float16);
    F value = settle_half(merger, &first, kind, wide);
    if (HALVES_AT_ONCE == 1) add_experts(group, 1, &last, NULL, kind, wide, float16);
    put_words(value, settle_half(merger, &last, kind, wide), out, float16);
    return extremes_within(group->words, merger->top, merger->span);
}

#define GROUPS_OF(name, kind, wide, float16)                                                                         \
    static u32 name(const Merger *merger, const Quick *const *experts, i64 full, i64 count, i64 at, i64 groups,      \
                    u16 *out) {                                                                                      \
        u32 left = 0;                                                                                                \
        Group group;                                                                                                 \
        group.merger = merger;                                                                                       \
        group.experts = experts;                                                                                     \
        group.full = full;                                                                                           \
        group.count = count;                                                                                         \
        for (i64 g = 0; g < groups; g++) {                                                                           \
            group.element = at + g * GROUP;                                                                          \
            left |= (u32)!merge_group(&group, kind, wide, float16, out + group.element) << g;                        \
        }                                                                                                            \
        return left;                                                                                                 \
    }
#define GROUPS_OF_KIND(kind, float16)                      \
    GROUPS_OF(kind##_narrow_##float16, kind, 0, float16)   \
    GROUPS_OF(kind##_wide_##float16, kind, 1, float16)
#define GROUPS_OF_KINDS(float16)           \
    GROUPS_OF_KIND(ALL, float16)           \
    GROUPS_OF_KIND(BAND, float16)          \
    GROUPS_OF_KIND(DRAWN, float16)         \
    GROUPS_OF_KIND(TOP_SIGNED, float16)    \
    GROUPS_OF_KIND(BAND_SIGNED, float16)   \
    GROUPS_OF_KIND(DRAWN_SIGNED, float16)
#define NAMES_OF(kind, float16) {kind##_narrow_##float16, kind##_wide_##float16}
#define NAMES_OF_KINDS(float16)                                                                 \
    {NAMES_OF(ALL, float16),        NAMES_OF(BAND, float16),        NAMES_OF(DRAWN, float16),   \
     NAMES_OF(TOP_SIGNED, float16), NAMES_OF(BAND_SIGNED, float16), NAMES_OF(DRAWN_SIGNED, float16)}

GROUPS_OF_KINDS(0)
#if HAVE_FLOAT16
GROUPS_OF_KINDS(1)
static const Groups loops[2][KINDS][2] = {NAMES_OF_KINDS(0), NAMES_OF_KINDS(1)};
#else
static const Groups loops[1][KINDS][2] = {NAMES_OF_KINDS(0)};
#endif

Groups groups_of(Kind kind, bool wide, bool float16) { return loops[float16][kind][wide]; }
