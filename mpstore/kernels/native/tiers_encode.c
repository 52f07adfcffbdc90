/* From words to tiers: distances of the whole block, what to do with them, and then strip by strip, stream by stream. */
#include "tiers.h"
#include "tiers_words.h"

#define SAMPLED 16
#define SAMPLED_FROM 256
#define ZERO_GROUP_BITS 32 /* that coding one is taken to cost */

typedef struct {
    const u16 *base;
    u16 *distance; /* whole strips, zeros behind the last element */
    u64 *nonzero;  /* of each group */
    u8 *coded;
    i64 count, groups;
} Block;

/* Of the elements of a strip: their codes, the rest that the second tier is of, which have one, and which go on. */
typedef struct {
    u8 code[STRIP], rest[STRIP];
    u64 nonzero[GROUPS], more[GROUPS], far[GROUPS];
    u16 at[STRIP + 4];
} Strip;

/* Words of a group, with zeros behind the last one of the block. */
static const u16 *group_of(const u16 *words, const Block *b, i64 group, u16 *room) {
    i64 at = group * GROUP, here = least(GROUP, b->count - at);
    if (here == GROUP) return words + at;
    memset(room, 0, GROUP * sizeof(u16));
    return memcpy(room, words + at, (size_t)here * sizeof(u16));
}

/* Distances, and which are not zero. */
static void measure(Block *b, const u16 *words, bool sign_magnitude) {
    u16 room[2][GROUP];
    for (i64 g = 0; g < b->groups; g++) {
        const u16 *word = group_of(words, b, g, room[0]), *base = group_of(b->base, b, g, room[1]);
        Halves64 distances = halves_distances(load_halves(word), load_halves(base), sign_magnitude);
        store_halves(b->distance + g * GROUP, distances);
        b->nonzero[g] = halves_at_least(distances, 1);
        b->coded[g] = b->nonzero[g] != 0;
    }
}

static void count_sampled(const Block *b, TierCounts *counts) {
    i64 step = b->groups >= SAMPLED_FROM ? SAMPLED : 1;
    u16 room[GROUP];
    for (i64 g = 0; g < b->groups; g += step) {
        if (!b->coded[g]) continue;
        const u16 *z = b->distance + g * GROUP, *base = group_of(b->base, b, g, room);
        counts->groups++;
        for (int i = 0; i < GROUP; i++) counts->keys[(base[i] & WITHOUT_TOP) >> KEY_SHIFT]++;
        for (u64 left = b->nonzero[g]; left; left &= left - 1) {
            int i = __builtin_ctzll(left);
            counts->moved[(base[i] & WITHOUT_TOP) >> KEY_SHIFT]++;
            counts->distances[z[i] < COUNTED ? z[i] : COUNTED - 1]++;
        }
    }
}

static void split(const u16 *z, const TierHead *head, int g, Strip *s) {
    u16 near = (u16)(1 << head->low), distant = (u16)(near + (1 << (head->low + head->middle)));
    Halves64 distances = load_halves(z), codes = halves_less(distances, 1);
    store_bytes(s->code + g * GROUP, low_bytes(codes));
    store_bytes(s->rest + g * GROUP, low_bytes(halves_less(halves_shifted(codes, head->low), 1)));
    s->more[g] = halves_at_least(distances, (u16)(near + 1));
    s->far[g] = halves_at_least(distances, (u16)(distant + 1));
}

static void put_nonzero(const Block *b, i64 first, const TierHead *head, Sink *sinks) {
    Sink rows = sinks[ROWS], bits = sinks[NONZERO];
    u16 room[GROUP];
    for (i64 g = first; g < least(first + GROUPS, b->groups); g++) {
        if (!b->coded[g]) continue;
        u64 told = ~(u64)0;
        if (head->calm != NO_CALM) {
            u64 calm = calm_of(group_of(b->base, b, g, room), head->calm), row = rows_of(calm & b->nonzero[g]);
            push(&rows, row, 8);
            told = ~calm | whole_rows(row);
        }
        push(&bits, extract(b->nonzero[g], told), count_bits(told));
    }
    sinks[ROWS] = rows;
    sinks[NONZERO] = bits;
}

/* A plane of the elements in `of`. */
static void put_plane(const u8 *bytes, u8 bit, const u64 *of, Sink *into) {
    Sink sink = *into;
    for (int g = 0; g < GROUPS; g++)
        push(&sink, extract(having(load_bytes(bytes + g * GROUP), bit), of[g]), count_bits(of[g]));
    *into = sink;
}

static void put_flags(const u64 *flags, const u64 *of, Sink *into) {
    Sink sink = *into;
    for (int g = 0; g < GROUPS; g++) push(&sink, extract(flags[g], of[g]), count_bits(of[g]));
    *into = sink;
}

static void put_strip(const Block *b, i64 first, const TierHead *head, Strip *s, Sink *sinks) {
    Sink *tier = sinks + FIRST, *second = sinks + second_tier(head);
    i64 here = least(GROUPS, b->groups - first);
    memset(s->nonzero, 0, sizeof s->nonzero);
    memcpy(s->nonzero, b->nonzero + first, (size_t)here * sizeof(u64));
    for (int g = 0; g < GROUPS; g++) split(b->distance + (first + g) * GROUP, head, g, s);
    for (int j = 0; j < head->low; j++) put_plane(s->code, (u8)(1 << j), s->nonzero, &tier[j]);
    put_flags(s->more, s->nonzero, &tier[head->low]);
    for (int j = 0; j < head->middle; j++) put_plane(s->rest, (u8)(1 << j), s->more, &second[j]);
    put_flags(s->far, s->more, &second[head->middle]);
}

/* Bytes and words of far elements; their ends are moved on. */
static void put_rest(const u16 *z, const TierHead *head, Strip *s, u8 **third, u16 **last) {
    int count = places_of(s->far, s->at);
    for (int i = 0; i < count; i++) {
        u16 distance = z[s->at[i]];
        int f = ((((distance - 1) >> head->low) - 1) >> head->middle) - 1;
        (*third)[i] = (u8)least(f, FULL);
        if (UNLIKELY(f >= FULL)) *(*last)++ = distance;
    }
    *third += count;
}

static bool any_coded(const Block *b, i64 first) {
    u8 any = 0;
    for (i64 g = first; g < least(first + GROUPS, b->groups); g++) any |= b->coded[g];
    return any;
}

i64 tiers_room(i64 words) {
    i64 strips = (words + STRIP - 1) / STRIP, padded = strips * STRIP;
    return padded / GROUP * (8 + 1) + padded * (2 + 1 + 2) + MOST_STREAMS * stream_room(padded) + 64;
}

i64 tiers_encode(bool sign_magnitude, const u16 *words, const u16 *base, i64 count, u8 *room, u8 *out) {
    i64 groups = (count + GROUP - 1) / GROUP, padded = (count + STRIP - 1) / STRIP * STRIP, stream = stream_room(padded);
    Block b = {.base = base, .nonzero = (u64 *)room, .count = count, .groups = groups};
    b.distance = (u16 *)(b.nonzero + groups);
    u16 *last = b.distance + padded, *last_end = last;
    u8 *third = (u8 *)(last + padded), *third_end = third, *streams;
    b.coded = third + padded;
    streams = b.coded + groups;
    memset(b.distance + count / STRIP * STRIP, 0, (size_t)(padded - count / STRIP * STRIP) * sizeof(u16));
    measure(&b, words, sign_magnitude);
    TierHead head = {.tile = choose_tile(b.coded, groups, ZERO_GROUP_BITS)};
    fill_tiles(b.coded, groups, head.tile);
    TierCounts counts = {0};
    count_sampled(&b, &counts);
    head.calm = choose_calm(&counts);
    choose_tiers(&counts, &head);
    Sink sinks[MOST_STREAMS];
    Strip s;
    for (int n = 0; n < third_tier(&head); n++) open_sink(&sinks[n], streams + n * stream);
    for (i64 g = 0; g < groups; g += GROUPS) {
        if (!any_coded(&b, g)) continue;
        put_nonzero(&b, g, &head, sinks);
        put_strip(&b, g, &head, &s, sinks);
        put_rest(b.distance + g * GROUP, &head, &s, &third_end, &last_end);
    }
    return tiers_write(&head, b.coded, groups, sinks, third, third_end - third, last,
                       (last_end - last) * (i64)sizeof(u16), out, count * (i64)sizeof(u16));
}
