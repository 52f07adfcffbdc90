/* From tiers to words. Strips of sixteen groups of 64 elements; of a group, every step is one word of bits under the
   mask of those it concerns. */
#include "tiers.h"
#include "tiers_words.h"

/* Of a strip: which elements are not zero, which have something in the third tier, what the first two tiers say of
   each, and the rest, of zeros elsewhere. */
typedef struct {
    u64 nonzero[GROUPS], far[GROUPS];
    u8 near[STRIP];
    u16 rest[STRIP], base[STRIP], words[STRIP], at[STRIP + 4];
} Strip;

/* Which elements are not zero, where none is calm. */
static void take_nonzero(Strip *s, TierReader *r, const u8 *coded) {
    Run run;
    begin_run(&run, r->segment, r->size, &r->sources[NONZERO]);
    const u8 *from = run.from;
    for (int g = 0; g < GROUPS; g++) {
        s->nonzero[g] = 0;
        if (coded[g]) memcpy(&s->nonzero[g], from, 8);
        from += 8 * coded[g];
    }
    r->sources[NONZERO].bit += 8 * (from - run.from);
}

static void take_nonzero_by_rows(Strip *s, TierReader *r, const TierHead *head, const u8 *coded, const u16 *base) {
    Run rows, run;
    begin_run(&rows, r->segment, r->size, &r->sources[ROWS]);
    begin_run(&run, r->segment, r->size, &r->sources[NONZERO]);
    const u8 *row = rows.from;
    i64 at = run.bit;
    for (int g = 0; g < GROUPS; g++) {
        u64 told = ~calm_of(base + g * GROUP, head->calm) | whole_rows(*row);
        told &= (u64)0 - coded[g];
        row += coded[g];
        s->nonzero[g] = deposit(bits_at(run.from, at), told);
        at += count_bits(told);
    }
    r->sources[ROWS].bit += 8 * (row - rows.from);
    end_run(&run, at, &r->sources[NONZERO]);
}

/* The streams of one tier, all at the same bit. */
typedef struct {
    Run runs[MOST_BITS + 1];
    i64 bit;
} Tier;

ALWAYS_INLINE void begin_tier(Tier *tier, TierReader *r, int first, int planes) {
    for (int j = 0; j <= planes; j++) begin_run(&tier->runs[j], r->segment, r->size, &r->sources[first + j]);
    tier->bit = tier->runs[0].bit;
}

ALWAYS_INLINE void end_tier(const Tier *tier, TierReader *r, int first, int planes) {
    for (int j = 0; j <= planes; j++) end_run(&tier->runs[j], tier->bit, &r->sources[first + j]);
}

/* A group's part of a tier, of the elements in `of`: bits from `place` on to `sum`, and which go on. */
ALWAYS_INLINE u64 take_tier(Tier *tier, u64 of, int planes, int place, Bytes64 *sum) {
    i64 count = count_bits(of);
    u64 more;
    if (UNLIKELY(count > AT_ONCE)) {
        for (int j = 0; j < planes; j++)
            *sum = added(*sum, deposit(bits_at(tier->runs[j].from, tier->bit), of), (u8)(1 << (place + j)));
        more = deposit(bits_at(tier->runs[planes].from, tier->bit), of);
    } else {
        for (int j = 0; j < planes; j++)
            *sum = added(*sum, deposit(few_bits_at(tier->runs[j].from, tier->bit), of), (u8)(1 << (place + j)));
        more = deposit(few_bits_at(tier->runs[planes].from, tier->bit), of);
    }
    tier->bit += count;
    return more;
}

/* The first two tiers. */
ALWAYS_INLINE void take_near(Strip *s, TierReader *r, int low, int middle) {
    Tier first, second;
    begin_tier(&first, r, FIRST, low);
    begin_tier(&second, r, FIRST + low + 1, middle);
    for (int g = 0; g < GROUPS; g++) {
        Bytes64 sum = added(no_bytes(), s->nonzero[g], 1);
        u64 more = take_tier(&first, s->nonzero[g], low, 0, &sum);
        sum = added(sum, more, (u8)(1 << low));
        s->far[g] = take_tier(&second, more, middle, low, &sum);
        store_bytes(s->near + g * GROUP, sum);
    }
    end_tier(&first, r, FIRST, low);
    end_tier(&second, r, FIRST + low + 1, middle);
}

/* With the numbers of planes that are most frequent known to the compiler. */
static void take_near_of(Strip *s, TierReader *r, int low, int middle) {
#define OF(a, b) \
    case 16 * a + b: take_near(s, r, a, b); return;
    switch (16 * low + middle) {
        OF(0, 1) OF(0, 2) OF(0, 3) OF(1, 1) OF(1, 2) OF(1, 3) OF(2, 1) OF(2, 2) OF(2, 3) OF(3, 1) OF(3, 2) OF(3, 3)
    default: take_near(s, r, low, middle);
    }
#undef OF
}

/* The third tier and the last, for the elements listed. */
static void take_rest(Strip *s, TierReader *r, const TierHead *head, int count) {
    const Source *third = &r->sources[third_tier(head)], *last = third + 1;
    if (r->third_bytes + count > third->bytes) {
        r->sound = false;
        return;
    }
    const u8 *from = r->segment + third->start + r->third_bytes;
    int shift = head->low + head->middle;
    u8 largest = 0;
    for (int i = 0; i < count; i++) {
        s->rest[s->at[i]] = (u16)((1 + from[i]) << shift);
        largest = from[i] > largest ? from[i] : largest;
    }
    r->third_bytes += count;
    for (int i = 0; UNLIKELY(largest == FULL) && i < count; i++) {
        if (from[i] != FULL) continue;
        u16 z = 0;
        bool there = r->word_bytes + 2 <= last->bytes;
        if (there) memcpy(&z, r->segment + last->start + r->word_bytes, 2);
        r->sound = r->sound && there;
        r->word_bytes += 2;
        s->rest[s->at[i]] = (u16)(z - s->near[s->at[i]]);
    }
}

ALWAYS_INLINE Halves64 words_of(const Strip *s, int i, const u16 *base, bool sign_magnitude) {
    Halves64 distances = halves_sum(halves_of(s->near + i), load_halves(s->rest + i));
    return halves_words(distances, load_halves(base + i), sign_magnitude);
}

static void put_words(const Strip *s, const u16 *base, bool sign_magnitude, u16 *out) {
    for (int i = 0; i < STRIP; i += GROUP) store_halves(out + i, words_of(s, i, base, sign_magnitude));
}

/* The first `here` words of a strip to `out`: true. */
static bool put_strip(Strip *s, const u16 *base, bool sign_magnitude, i64 here, u16 *out) {
    put_words(s, base, sign_magnitude, here < STRIP ? s->words : out);
    if (here < STRIP) memcpy(out, s->words, (size_t)here * sizeof(u16));
    return true;
}

/* Whether they are those. */
static bool is_strip(Strip *s, const u16 *base, bool sign_magnitude, i64 here, const u16 *expected) {
    if (here < STRIP) {
        put_words(s, base, sign_magnitude, s->words);
        return memcmp(s->words, expected, (size_t)here * sizeof(u16)) == 0;
    }
    Halves64 odd = {{{0}}};
    for (int i = 0; i < STRIP; i += GROUP)
        odd = halves_or_difference(odd, words_of(s, i, base, sign_magnitude), load_halves(expected + i));
    return !halves_at_least(odd, 1);
}

/* No element behind the last one of the block. */
static bool nothing_behind(const Strip *s, i64 here) {
    u64 behind = 0;
    for (int g = 0; g < GROUPS; g++) behind |= s->nonzero[g] & ~first_bits(most(here - g * GROUP, 0));
    return !behind;
}

/* Strip by strip: to `out`, or, where it is NULL, only as long as they are what is `expected`. */
static bool take_strips(bool sign_magnitude, const u8 *segment, i64 size, const u16 *base, i64 count, u16 *out,
                        const u16 *expected) {
    TierReader r;
    TierHead head;
    Strip s;
    u8 coded[GROUPS];
    i64 groups = (count + GROUP - 1) / GROUP;
    if (!tiers_read(&r, &head, segment, size, groups)) return false;
    memset(s.rest, 0, sizeof s.rest);
    for (i64 at = 0; at < count; at += STRIP) {
        i64 here = least(STRIP, count - at);
        size_t bytes = (size_t)here * sizeof(u16);
        if (!coded_groups(r.map, groups, head.tile, at / GROUP, coded)) {
            if (out == NULL && memcmp(expected + at, base + at, bytes) != 0) return false;
            if (out != NULL) memcpy(out + at, base + at, bytes);
            continue;
        }
        const u16 *from = base + at;
        if (here < STRIP) {
            memset(s.base, 0, sizeof s.base);
            from = memcpy(s.base, from, bytes);
        }
        if (head.calm == NO_CALM) take_nonzero(&s, &r, coded);
        else take_nonzero_by_rows(&s, &r, &head, coded, from);
        if (here < STRIP) r.sound = r.sound && nothing_behind(&s, here);
        take_near_of(&s, &r, head.low, head.middle);
        int listed = places_of(s.far, s.at);
        take_rest(&s, &r, &head, listed);
        bool same = out != NULL ? put_strip(&s, from, sign_magnitude, here, out + at)
                                : is_strip(&s, from, sign_magnitude, here, expected + at);
        if (!same) return false;
        for (int i = 0; i < listed; i++) s.rest[s.at[i]] = 0;
    }
    return tiers_ended(&r, &head);
}

bool tiers_decode(bool sign_magnitude, const u8 *segment, i64 size, const u16 *base, i64 count, u16 *out) {
    return take_strips(sign_magnitude, segment, size, base, count, out, NULL);
}

bool tiers_hold(bool sign_magnitude, const u8 *segment, i64 size, const u16 *base, i64 count, const u16 *words) {
    return take_strips(sign_magnitude, segment, size, base, count, NULL, words);
}
