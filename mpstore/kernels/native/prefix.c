/* Exponents in prefix codes: see prefix.h. Strips of sixteen groups of 64 elements; node by node of the tree, each
   group's elements that come to a node are a word of bits under the mask of those that do. */
#include "prefix.h"

#include "bitstream.h"
#include "group.h"
#include "prefix_tree.h"

#define PROBE_BYTES 4096
#define SAMPLED 8 /* every eighth strip is counted, */
#define SAMPLED_FROM 16 /* of blocks of so many */

#define WORD u8
#define NAME(name) name##_8
#include "prefix_body.h"
#undef WORD
#undef NAME

#define WORD u16
#define NAME(name) name##_16
#include "prefix_body.h"
#undef WORD
#undef NAME

#define WORD u32
#define NAME(name) name##_32
#include "prefix_body.h"
#undef WORD
#undef NAME

#define WORD u64
#define NAME(name) name##_64
#include "prefix_body.h"
#undef WORD
#undef NAME

i64 prefix_room(i64 words) { return 2 * words + STRIP + LEAVES * stream_room(words); }

i64 prefix_most(const PrefixShape *shape, i64 words) {
    i64 odd = shape->rest_bits % 8 * ((words + 7) / 8);
    return 3 * words + 1024 + shape->rest_bits / 8 * words + odd;
}

typedef struct {
    u64 reach[LEAVES][GROUPS]; /* of each node and group: the elements that come to it */
    i64 count[LEAVES];         /* of each node: how many these are */
    u64 leaf[4][GROUPS];       /* bits of the leaf that each element comes to; read */
    u64 escaped[GROUPS];
} Strip;

/* A word of each group; compilers make these slow string instructions where they see memset or memcpy. */
static inline void clear(u64 *words) {
    for (int g = 0; g < GROUPS; g += 8) store_bytes((u8 *)(words + g), no_bytes());
}

static inline void copy(u64 *to, const u64 *from) {
    for (int g = 0; g < GROUPS; g += 8) store_bytes((u8 *)(to + g), load_bytes((const u8 *)(from + g)));
}

static void begin_strip(Strip *s, i64 here) {
    for (int n = 0; n < LEAVES; n++) s->count[n] = 0; /* `reach` of what nothing comes to is not looked at */
    for (int bit = 0; bit < 4; bit++) clear(s->leaf[bit]);
    clear(s->escaped);
    s->count[0] = here;
    for (int g = 0; g < GROUPS; g++) s->reach[0][g] = here > g * GROUP ? first_bits(here - g * GROUP) : 0;
}

/* Elements on one side of a node, where another node follows. */
static inline void go_on(Strip *s, int side, const u64 *masks, i64 count) {
    if (side < NODE) return;
    copy(s->reach[side - NODE], masks);
    s->count[side - NODE] = count;
}

/* Counts of the symbols of every `step`th strip; equal neighbours would wait for each other in one table. */
static void count_symbols(const u8 *symbols, i64 count, i64 step, u32 *counts) {
    u32 tables[4][256] = {0};
    for (i64 at = 0; at < count; at += step * STRIP)
        for (i64 i = at; i < least(at + STRIP, count); i++) tables[i & 3][symbols[i]]++;
    for (int s = 0; s < 256; s++) counts[s] = tables[0][s] + tables[1][s] + tables[2][s] + tables[3][s];
}

static bool is_promising(const u8 *plane, i64 count) {
    u32 counts[256];
    u64 size = (u64)least(count, PROBE_BYTES), squares = 0;
    count_symbols(plane, (i64)size, 1, counts);
    for (int s = 0; s < 256; s++) squares += (u64)counts[s] * counts[s];
    return 256 * 100 * squares > 115 * (size * size + 256 * size);
}

typedef struct {
    PrefixTree tree;
    u8 first, low[WINDOW], high[WINDOW]; /* bits of nodes 0 to 7 and 8 to 15 on whose second side a leaf lies */
    u32 escape;
} Coder;

static u8 *push_strip(const Coder *coder, const u8 *symbols, i64 here, Strip *s, Sink *sinks, u8 *escapes) {
    u8 leaves[STRIP];
    for (int i = 0; i < STRIP; i++) leaves[i] = (u8)(symbols[i] - coder->first);
    begin_strip(s, here);
    for (int g = 0; g < GROUPS; g++) {
        u64 left = s->escaped[g] = above(load_bytes(leaves + g * GROUP), WINDOW - 1) & s->reach[0][g];
        for (; left; left &= left - 1) *escapes++ = symbols[g * GROUP + __builtin_ctzll(left)];
    }
    for (int n = 0; n < coder->tree.nodes; n++) {
        const u8 *table = n < 8 ? coder->low : coder->high;
        u64 escapes_set = (coder->escape >> n) & 1 ? ~(u64)0 : 0, first[GROUPS], second[GROUPS];
        Gathered gathered = {0, 0, s->count[n] <= AT_ONCE};
        Sink sink = sinks[n];
        i64 seconds = 0;
        if (!s->count[n]) continue;
        for (int g = 0; g < GROUPS; g++) {
            u64 reach = s->reach[n][g], escaped = s->escaped[g];
            u64 set = having(looked_up(table, load_bytes(leaves + g * GROUP)), (u8)(1 << n % 8));
            second[g] = ((set & ~escaped) | (escapes_set & escaped)) & reach;
            first[g] = reach & ~second[g];
            gather(&sink, &gathered, extract(second[g], reach), count_bits(reach));
            seconds += count_bits(second[g]);
        }
        push_gathered(&sink, &gathered);
        sinks[n] = sink;
        go_on(s, coder->tree.sides[n][0], first, s->count[n] - seconds);
        go_on(s, coder->tree.sides[n][1], second, seconds);
    }
    return escapes;
}

static i64 encode_symbols(const u8 *symbols, i64 count, u8 *room, u8 *out) {
    Coder coder;
    u32 counts[256], of_leaves[LEAVES], second[LEAVES];
    int lengths[LEAVES];
    count_symbols(symbols, count, count >= SAMPLED_FROM * STRIP ? SAMPLED : 1, counts);
    coder.first = (u8)densest_window(counts, 256, WINDOW);
    for (int leaf = 0; leaf < LEAVES; leaf++) of_leaves[leaf] = 1; /* a sample may lack some */
    for (int s = 0; s < 256; s++) {
        int place = s - coder.first;
        of_leaves[place >= 0 && place < WINDOW ? place : WINDOW] += counts[s];
    }
    prefix_lengths(of_leaves, lengths);
    prefix_tree(lengths, &coder.tree);
    prefix_paths(&coder.tree, second);
    coder.escape = second[WINDOW];
    for (int leaf = 0; leaf < WINDOW; leaf++) {
        coder.low[leaf] = (u8)second[leaf];
        coder.high[leaf] = (u8)(second[leaf] >> 8);
    }
    Sink sinks[LEAVES];
    Strip s;
    u8 *escapes = room + LEAVES * stream_room(count), *escapes_end = escapes;
    for (int n = 0; n < coder.tree.nodes; n++) open_sink(&sinks[n], room + n * stream_room(count));
    for (i64 at = 0; at < count; at += STRIP)
        escapes_end = push_strip(&coder, symbols + at, least(STRIP, count - at), &s, sinks, escapes_end);
    u8 *to = out;
    *to++ = coder.first;
    for (int leaf = 0; leaf < LEAVES; leaf++) *to++ = (u8)lengths[leaf];
    i64 bytes[LEAVES];
    for (int n = 0; n < coder.tree.nodes; n++) to = put_length(to, bytes[n] = close_sink(&sinks[n]));
    to = put_length(to, escapes_end - escapes);
    for (int n = 0; n < coder.tree.nodes; to += bytes[n++]) memcpy(to, sinks[n].start, (size_t)bytes[n]);
    memcpy(to, escapes, (size_t)(escapes_end - escapes));
    return to + (escapes_end - escapes) - out;
}

i64 prefix_split(const PrefixShape *shape, const u8 *words, i64 count, u8 *room, u8 *out, u64 *promising) {
    int bits = shape->rest_bits, planes = bits / 8;
    u8 *symbols = room, *kept = room + count + STRIP; /* push_strip reads a whole strip */
    u8 *bytes = out + 3 * count + 1024, *odd = bytes + planes * count;
    memset(symbols + count, 0, STRIP);
    switch (shape->word_bytes) {
    case 1: take_apart_8(words, count, bits, symbols, bytes, odd); break;
    case 2: take_apart_16((const u16 *)words, count, bits, symbols, bytes, odd); break;
    case 4: take_apart_32((const u32 *)words, count, bits, symbols, bytes, odd); break;
    default: take_apart_64((const u64 *)words, count, bits, symbols, bytes, odd);
    }
    *promising = 0;
    for (int p = 0; p < planes; p++) *promising |= (u64)is_promising(bytes + p * count, count) << p;
    i64 size = encode_symbols(symbols, count, kept, out);
    memmove(out + size, bytes, (size_t)(planes * count + bits % 8 * ((count + 7) / 8)));
    return size;
}

/* Where a node's elements on one side are noted: with the node that follows, those of a leaf `aside`. */
static inline u64 *noted_at(Strip *s, int side, u64 *aside) { return side < NODE ? aside : s->reach[side - NODE]; }

/* Elements have come to this side of a node. Those of a leaf know it now. */
static inline void come_to(Strip *s, int side, const u64 *aside, i64 count) {
    if (side >= NODE) s->count[side - NODE] = count;
    if (side == WINDOW) copy(s->escaped, aside);
    if (side >= WINDOW || count == 0) return;
    for (int bit = 0; bit < 4; bit++)
        if ((side >> bit) & 1)
            for (int g = 0; g < GROUPS; g++) s->leaf[bit][g] |= aside[g];
}

static void pull_strip(const PrefixTree *tree, const u8 *segment, i64 size, Source *sources, Strip *s) {
    u64 aside[2][GROUPS];
    for (int n = 0; n < tree->nodes; n++) {
        const u64 *reach = s->reach[n];
        u64 *first = noted_at(s, tree->sides[n][0], aside[0]), *second = noted_at(s, tree->sides[n][1], aside[1]);
        i64 count = s->count[n], seconds = 0;
        if (!count) continue;
        if (count <= AT_ONCE) {
            u64 bits = pull(segment, size, &sources[n], count);
            seconds = count_bits(bits & first_bits(count));
            for (int g = 0; g < GROUPS; g++) {
                u64 here = reach[g], set = deposit(bits, here);
                second[g] = set;
                first[g] = here & ~set;
                bits >>= count_bits(here);
            }
        } else {
            Run run;
            begin_run(&run, segment, size, &sources[n]);
            i64 bit = run.bit;
            for (int g = 0; g < GROUPS; g++) {
                u64 here = reach[g], set = deposit(bits_at(run.from, bit), here);
                bit += count_bits(here);
                second[g] = set;
                first[g] = here & ~set;
                seconds += count_bits(set);
            }
            end_run(&run, bit, &sources[n]);
        }
        come_to(s, tree->sides[n][0], aside[0], count - seconds);
        come_to(s, tree->sides[n][1], aside[1], seconds);
    }
}

static void symbols_of(const Strip *s, u8 first, u8 *symbols) {
    for (int g = 0; g < GROUPS; g++) {
        Bytes64 symbol = added(no_bytes(), ~(u64)0, first);
        for (int bit = 0; bit < 4; bit++) symbol = added(symbol, s->leaf[bit][g], (u8)(1 << bit));
        store_bytes(symbols + g * GROUP, symbol);
    }
}

static bool decode_symbols(const u8 *segment, i64 size, i64 count, u8 *out) {
    PrefixTree tree;
    Source sources[LEAVES + 1];
    Strip s;
    u8 last[STRIP];
    int lengths[LEAVES];
    if (size < PREFIX_HEADER_BYTES) return false;
    for (int leaf = 0; leaf < LEAVES; leaf++) lengths[leaf] = segment[1 + leaf];
    if (!prefix_tree(lengths, &tree) || segment[0] > 256 - WINDOW) return false;
    if (!open_sources(segment, size, PREFIX_HEADER_BYTES, sources, tree.nodes + 1)) return false;
    const Source *rest = &sources[tree.nodes];
    i64 escapes = 0;
    for (i64 at = 0; at < count; at += STRIP) {
        i64 here = least(STRIP, count - at);
        u8 *to = here < STRIP ? last : out + at;
        begin_strip(&s, here);
        pull_strip(&tree, segment, size, sources, &s);
        symbols_of(&s, segment[0], to);
        for (int g = 0; g < GROUPS; g++)
            for (u64 left = s.escaped[g]; left; left &= left - 1, escapes++) {
                if (escapes >= rest->bytes) return false;
                to[g * GROUP + __builtin_ctzll(left)] = segment[rest->start + escapes];
            }
        if (here < STRIP) memcpy(out + at, last, (size_t)here);
    }
    bool sound = escapes == rest->bytes;
    for (int n = 0; n < tree.nodes; n++) sound = sound && ended(&sources[n]);
    return sound;
}

bool prefix_join(const PrefixShape *shape, const u8 *segment, i64 size, u8 *const *planes, const u8 *odd, i64 count,
                 u8 *room, u8 *out) {
    int bits = shape->rest_bits;
    if (!decode_symbols(segment, size, count, room)) return false;
    switch (shape->word_bytes) {
    case 1: put_together_8(room, planes, odd, count, bits, out); break;
    case 2: put_together_16(room, planes, odd, count, bits, (u16 *)out); break;
    case 4: put_together_32(room, planes, odd, count, bits, (u32 *)out); break;
    default: put_together_64(room, planes, odd, count, bits, (u64 *)out);
    }
    return true;
}
