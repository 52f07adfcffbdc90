/* Making ready for merge_groups.c: what is done with each expert, and how far apart words may be.

   Words have 1 + m bits of mantissa (m: 7 or 10). Let the exponents of an element's words, base and experts, be in
   low .. high, but for zeros. Then deltas are multiples of 2^(low - m) below 2^(high + 2). With factors (scale times
   weight) of exponents a .. a + r:
   - terms are 0 or at least 2^(low - m + a - 1), and at most 2^(high + 3 + a + r), so all lie on the grid if
     high - low <= 29 - spare - m - r - 4;
   - if the factors are multiples of 2^p and at most 2^q, terms are multiples of 2^(low - m + p), rounded or not, and sums
     of K of them below K 2^(high + 2 + q), so float32 holds these if high - low <= 22 - m - (q - p) - log2 K. */
#include "merge_groups.h"

#define WORD_ORDERS 30
#define ENOUGH 6 /* with fewer orders for float32 too many elements would go the exact way */

static float magnitude_of(float value) { return float_of(bits_of(value) & MAGNITUDE); }

/* Within these nothing that is made of words below 2^WORD_ORDERS is NaN, nor infinite before the last product. */
static bool moderate(float value) { return 0x1p-20f <= magnitude_of(value) && magnitude_of(value) <= 0x1p20f; }

static bool moderate_or_zero(float value) { return value == 0.0f || moderate(value); }

/* False: delta e is not for this way. */
static bool take_expert(const Terms *terms, i64 e, Quick *out) {
    float weight = terms->weight[e], scale = terms->scale[e], both = weight * scale;
    u64 last = terms->keep[e] - 1; /* of none: more than any draw */
    *out = (Quick){.first = scale,
                   .second = weight,
                   .low = terms->low[e],
                   .minus_low = -terms->low[e],
                   .high = terms->high[e],
                   .key = terms->key[e],
                   .last = (u32)last};
    if (!moderate(weight) || !moderate(scale) || !moderate(both)) return false;
    if (terms->random) return last <= UINT32_MAX;
    return out->low == out->low && out->high == out->high;
}

static Kind kind_of(const Terms *terms) {
    bool all = true, top = true;
    for (i64 e = 0; e < terms->count; e++) {
        bool open = terms->high[e] == float_of(INFINITE), positive = terms->weight[e] * terms->scale[e] > 0;
        top = top && open && positive && terms->low[e] >= 0x1p-60f; /* so that no term that counts is 0 */
        all = all && open && terms->low[e] <= 0;
    }
    if (terms->random) return terms->elect ? DRAWN_SIGNED : DRAWN;
    if (terms->elect) return top ? TOP_SIGNED : BAND_SIGNED;
    return all ? ALL : BAND;
}

/* Where weight or scale is 1 there is one product. */
static void simplify(Merger *merger, i64 count) {
    merger->twice = false;
    for (i64 e = 0; e < count; e++)
        merger->twice = merger->twice || (merger->experts[e].first != 1.0f && merger->experts[e].second != 1.0f);
    for (i64 e = 0; e < count && !merger->twice; e++) merger->experts[e].first *= merger->experts[e].second;
}

/* How many binary orders the exponents of an element's words may be apart, see above, for sums in double. */
static i64 wide_orders(const Terms *terms, i64 mantissa) {
    i64 least_exponent = 255, most_exponent = 0;
    for (i64 e = 0; e < terms->count; e++) {
        i64 exponent = (bits_of(terms->weight[e] * terms->scale[e]) & MAGNITUDE) >> 23;
        least_exponent = least(least_exponent, exponent);
        most_exponent = most(most_exponent, exponent);
    }
    i64 range = most(most_exponent - least_exponent, 0);
    return 29 - terms->spare - mantissa - range - 5; /* one more: factors are not powers of two */
}

/* The same for sums in float32, of one product each. */
static i64 narrow_orders(const Merger *merger, i64 count, i64 mantissa) {
    i64 multiple_of = 255, at_most = 0, doublings = 0;
    for (i64 e = 0; e < count; e++) {
        u32 bits = bits_of(merger->experts[e].first), whole = (bits & 0x007FFFFF) | 0x00800000;
        i64 exponent = (bits & MAGNITUDE) >> 23;
        multiple_of = least(multiple_of, exponent - 23 + __builtin_ctz(whole));
        at_most = most(at_most, exponent + (whole != 0x00800000));
    }
    while ((i64)1 << doublings < count) doublings++;
    return 22 - mantissa - most(at_most - multiple_of, 0) - doublings;
}

/* By what agreeing deltas are divided: equal weights are counted, others looked up. False: too many for that. */
static bool prepare_shares(const Terms *terms, Merger *out) {
    bool equal = true;
    for (i64 e = 0; e < terms->count; e++) equal = equal && terms->weight[e] == terms->weight[0];
    out->share = equal && terms->count > 0 ? terms->weight[0] : 0.0f;
    out->table_count = (terms->count + SHARE_BITS - 1) / SHARE_BITS;
    for (i64 e = 0; e < terms->count; e++) out->experts[e].mark = equal ? 1 : (float)((u64)1 << e);
    if (equal || !out->shares) return true;
    if (out->table_count > SHARE_TABLES) return false;
    memset(out->tables, 0, sizeof out->tables);
    for (i64 e = 0; e < terms->count; e++)
        for (i64 marks = 0; marks < 1 << SHARE_BITS; marks++)
            if (marks >> e % SHARE_BITS & 1) out->tables[e / SHARE_BITS][marks] += terms->exact[e];
    return true;
}

static void place_states(Merger *out, u64 start, bool float16) {
    for (int part = 0; part < 2; part++)
        for (int i = 0; i < LANES / 2; i++)
            out->states[part][i] = (start / 2 + (u64)pair_of(float16, part, i) + 1) * GOLDEN;
}

bool prepare_merger(const Terms *terms, const u16 *base, const u16 *const *items, bool float16,
                    u64 start, Merger *out) {
    if (terms->random && start % 2 != 0) return false; /* halves of pairs */
    out->base = base;
    out->divides = terms->normalize && !terms->elect;
    out->shares = terms->normalize && terms->elect;
    out->divisor = out->divides ? terms->divisor : 1.0f;
    out->factor = terms->factor;
    out->base_scale = terms->base_scale;
    if (!moderate(out->divisor) || !moderate_or_zero(out->factor) || !moderate_or_zero(out->base_scale)) return false;
    for (i64 e = 0; e < terms->count; e++) {
        if (!take_expert(terms, e, &out->experts[e])) return false;
        out->experts[e].words = items[e];
    }
    simplify(out, terms->count);
    i64 mantissa = float16 ? 10 : 7, apart = wide_orders(terms, mantissa);
    i64 narrow = out->twice ? 0 : narrow_orders(out, terms->count, mantissa);
    bool wide = narrow < ENOUGH;
    if (!wide) apart = least(apart, narrow);
    if (apart < 1 || (float16 && !HAVE_FLOAT16) || !prepare_shares(terms, out)) return false;
    out->top = 2 * (float16 ? 0x7C00 - 1 : (127 + WORD_ORDERS) << 7);
    out->span = (u16)(2 * (apart << (float16 ? 10 : 7)));
    out->merge = groups_of(kind_of(terms), wide, float16);
    place_states(out, start, float16);
    return true;
}
