/* The Rice coder for one width: included by rice.c with WORD and NAME set. A group of 64 elements at a time: each
   step of the unary quotients, and each low bit, is one word of bits under the mask of those it concerns. */

#define BITS ((int)(8 * sizeof(WORD)))
#define TOP ((WORD)((WORD)1 << (BITS - 1)))

static inline WORD NAME(zigzag_distance)(WORD word, WORD base, bool sign_magnitude) {
    if (sign_magnitude) {
        word ^= (WORD)(TOP | (WORD)(0 - (WORD)(word >> (BITS - 1))));
        base ^= (WORD)(TOP | (WORD)(0 - (WORD)(base >> (BITS - 1))));
    }
    WORD d = (WORD)(word - base);
    return (WORD)((WORD)(d << 1) ^ (WORD)(0 - (WORD)(d >> (BITS - 1))));
}

static inline WORD NAME(word_at)(WORD distance, WORD base, bool sign_magnitude) {
    WORD d = (WORD)((WORD)(distance >> 1) ^ (WORD)(0 - (WORD)(distance & 1)));
    if (!sign_magnitude) return (WORD)(base + d);
    base ^= (WORD)(TOP | (WORD)(0 - (WORD)(base >> (BITS - 1))));
    WORD word = (WORD)(base + d);
    return word ^ (WORD)(TOP | (WORD)((WORD)(word >> (BITS - 1)) - 1));
}

/* Context of each of 64 elements. */
static inline Bytes64 NAME(contexts)(const WORD *base, WORD mask, int shift, WORD lowest, int contexts) {
    u8 found[GROUP];
    WORD last = (WORD)(contexts - 1);
    for (int i = 0; i < GROUP; i++) {
        WORD key = (WORD)((WORD)(base[i] & mask) >> shift);
        WORD up = key > lowest ? (WORD)(key - lowest) : 0;
        found[i] = (u8)(up < last ? up : last);
    }
    return load_bytes(found);
}

typedef struct {
    WORD *distance; /* whole groups, zeros behind the last element */
    u8 *zero;       /* of each group: all zeros */
    WORD tail[GROUP];
    const WORD *base;
    i64 count, groups;
    bool sign_magnitude;
    WORD mask, lowest;
    int shift, contexts;
    u8 parameters[CONTEXTS];
} NAME(Block);

/* The base's words of a group; those of the last one with zeros behind them. */
static inline const WORD *NAME(base_of)(NAME(Block) * b, i64 group) {
    if ((group + 1) * GROUP <= b->count) return b->base + group * GROUP;
    memset(b->tail, 0, sizeof b->tail);
    memcpy(b->tail, b->base + group * GROUP, (size_t)(b->count - group * GROUP) * sizeof(WORD));
    return b->tail;
}

static inline Bytes64 NAME(contexts_of)(NAME(Block) * b, i64 group) {
    return NAME(contexts)(NAME(base_of)(b, group), b->mask, b->shift, b->lowest, b->contexts);
}

/* Distances, groups of zeros, and the contexts there are. */
static void NAME(measure)(NAME(Block) * b, const WORD *words) {
    WORD highest = 0;
    for (i64 i = 0; i < b->count; i++) {
        WORD key = b->base[i] & b->mask;
        highest = key > highest ? key : highest;
    }
    highest = (WORD)(highest >> b->shift);
    b->lowest = highest >= CONTEXTS ? (WORD)(highest - CONTEXTS + 1) : 0;
    b->contexts = (int)(highest - b->lowest + 1);
    memset(b->distance + b->groups * GROUP - GROUP, 0, GROUP * sizeof(WORD));
    for (i64 g = 0; g < b->groups; g++) {
        i64 at = g * GROUP, here = least(GROUP, b->count - at);
        WORD any = 0;
        for (i64 i = at; i < at + here; i++) {
            b->distance[i] = NAME(zigzag_distance)(words[i], b->base[i], b->sign_magnitude);
            any |= b->distance[i];
        }
        b->zero[g] = any == 0;
    }
}

static void NAME(choose_parameters)(NAME(Block) * b, int tile) {
    u32 counts[CONTEXTS * MOST_TOKENS] = {0};
    int tokens = BITS > 4 ? 16 + 2 * (BITS - 4) : 16;
    i64 step = b->groups >= SAMPLED_FROM ? SAMPLED : 1, tile_groups = tile ? (i64)1 << (tile - 1) : 1;
    for (i64 g = 0; g < b->groups; g += step) {
        bool coded = tile == 0;
        i64 first = g / tile_groups * tile_groups;
        for (i64 n = first; !coded && n < least(first + tile_groups, b->groups); n++) coded = !b->zero[n];
        if (!coded) continue;
        u8 context[GROUP];
        store_bytes(context, NAME(contexts_of)(b, g));
        const WORD *z = b->distance + g * GROUP;
        i64 here = least(GROUP, b->count - g * GROUP);
        for (i64 i = 0; i < here; i++) counts[context[i] * tokens + token_of(z[i])]++;
    }
    for (int c = 0; c < b->contexts; c++)
        b->parameters[c] = rice_choose_parameter(counts + c * tokens, tokens, BITS);
}

/* One group into the sinks; escapes into `escapes`, whose new end is returned. */
static WORD *NAME(encode_group)(NAME(Block) * b, i64 group, Sink *sinks, int planes, WORD *escapes) {
    const WORD *z = b->distance + group * GROUP;
    Bytes64 own = looked_up(b->parameters, NAME(contexts_of)(b, group)), k = without_top(own);
    u64 active = first_bits(b->count - group * GROUP), sparse = topped(own) & active;
    u8 shift[GROUP], quotient[GROUP], part[GROUP];
    store_bytes(shift, k);
    for (int i = 0; i < GROUP; i++) {
        WORD q = (WORD)(z[i] >> shift[i]);
        quotient[i] = (u8)(q < STEPS ? q : STEPS);
    }
    if (sparse) {
        for (int i = 0; i < GROUP; i++) part[i] = z[i] != 0;
        u64 set = sparse & above(load_bytes(part), 0), rows = rows_of(sparse), set_rows = rows_of(set);
        push(&sinks[0], set != 0, 1);
        if (set) push(&sinks[1], extract(set_rows, rows), count_bits(rows));
        active &= ~(sparse & ~whole_rows(set_rows));
    }
    Bytes64 q = load_bytes(quotient);
    u64 left = active;
    for (int step = 0; step < STEPS && left; step++) {
        u64 more = above(q, (u8)step) & left;
        push(&sinks[2 + step], extract(more, left), count_bits(left));
        left = more;
    }
    u64 kept = active & ~left;
    for (int plane = 0; plane < planes; plane += 8) {
        for (int i = 0; i < GROUP; i++) part[i] = (u8)(z[i] >> plane);
        Bytes64 low = load_bytes(part);
        for (int bit = 0; bit < 8 && plane + bit < planes; bit++) {
            u64 has = kept & above(k, (u8)(plane + bit));
            if (!has) break;
            push(&sinks[2 + STEPS + plane + bit], extract(having(low, (u8)(1 << bit)), has), count_bits(has));
        }
    }
    for (; left; left &= left - 1) *escapes++ = z[__builtin_ctzll(left)];
    return escapes;
}

static i64 NAME(write)(NAME(Block) * b, int tile, const u8 *coded, int planes, Sink *sinks, const WORD *escapes,
                       i64 escape_bytes, u8 *out) {
    i64 capacity = b->count * (i64)sizeof(WORD), tile_groups = tile ? (i64)1 << (tile - 1) : 1;
    i64 bits = tile ? (b->groups + tile_groups - 1) / tile_groups : 0, lengths[MOST_STREAMS];
    int streams = 2 + STEPS + planes;
    u8 head[RICE_HEADER_BYTES + CONTEXTS + 5 * MOST_STREAMS], *at = head;
    i64 total = RICE_HEADER_BYTES + b->contexts + (bits + 7) / 8 + escape_bytes;
    for (int s = 0; s < streams; s++) total += lengths[s] = close_sink(&sinks[s]);
    *at++ = (u8)b->shift;
    *at++ = (u8)b->lowest;
    *at++ = (u8)((u64)b->lowest >> 8);
    *at++ = (u8)(b->contexts - 1);
    *at++ = (u8)tile;
    *at++ = (u8)planes;
    memcpy(at, b->parameters, (size_t)b->contexts);
    i64 head_bytes = RICE_HEADER_BYTES + b->contexts;
    u8 *lengths_at = head + head_bytes;
    at = lengths_at;
    for (int s = 0; s < streams; s++) at = put_length(at, lengths[s]);
    at = put_length(at, escape_bytes);
    total += at - lengths_at;
    if (total >= capacity) return -1;
    memcpy(out, head, (size_t)head_bytes);
    u8 *to = out + head_bytes;
    memset(to, 0, (size_t)((bits + 7) / 8));
    for (i64 n = 0; n < bits; n++) to[n / 8] |= (u8)(coded[n * tile_groups] << (n % 8));
    to += (bits + 7) / 8;
    memcpy(to, lengths_at, (size_t)(at - lengths_at));
    to += at - lengths_at;
    for (int s = 0; s < streams; to += lengths[s++]) memcpy(to, sinks[s].start, (size_t)lengths[s]);
    memcpy(to, escapes, (size_t)escape_bytes);
    return total;
}

static i64 NAME(encode)(const RiceShape *shape, const WORD *words, const WORD *base, i64 count, u8 *room,
                        i64 stream_bytes, u8 *out) {
    NAME(Block) b = {.base = base, .count = count, .groups = (count + GROUP - 1) / GROUP,
                     .sign_magnitude = shape->sign_magnitude, .mask = (WORD)shape->mask, .shift = shape->shift};
    b.distance = (WORD *)room;
    WORD *escapes = b.distance + b.groups * GROUP, *escapes_end = escapes;
    b.zero = (u8 *)(escapes + b.groups * GROUP + GROUP);
    u8 *streams = b.zero + b.groups;
    NAME(measure)(&b, words);
    int tile = rice_choose_tile(b.zero, b.groups), planes = 0;
    NAME(choose_parameters)(&b, tile);
    for (int c = 0; c < b.contexts; c++) planes = (int)most(planes, b.parameters[c] & ~SPARSE);
    Sink sinks[MOST_STREAMS];
    for (int s = 0; s < 2 + STEPS + planes; s++) open_sink(&sinks[s], streams + s * stream_bytes);
    i64 tile_groups = tile ? (i64)1 << (tile - 1) : b.groups;
    for (i64 first = 0; first < b.groups; first += tile_groups) { /* `zero` becomes `coded` */
        i64 stop = least(first + tile_groups, b.groups);
        bool coded = tile == 0;
        for (i64 g = first; !coded && g < stop; g++) coded = !b.zero[g];
        for (i64 g = first; g < stop; g++) {
            b.zero[g] = coded;
            if (coded) escapes_end = NAME(encode_group)(&b, g, sinks, planes, escapes_end);
        }
    }
    i64 escape_bytes = (escapes_end - escapes) * (i64)sizeof(WORD);
    return NAME(write)(&b, tile, b.zero, planes, sinks, escapes, escape_bytes, out);
}

typedef struct {
    const u8 *segment;
    i64 size, escaped; /* escapes so far */
    Source sources[MOST_STREAMS];
    int planes;
    bool sound;
} NAME(Reader);

/* Which elements have a Rice code. */
static inline u64 NAME(awake)(NAME(Reader) * r, u64 active, u64 sparse) {
    if (!sparse) return active;
    if (!(pull(r->segment, r->size, &r->sources[0], 1) & 1)) return active & ~sparse;
    u64 rows = rows_of(sparse);
    u64 set_rows = deposit(pull(r->segment, r->size, &r->sources[1], count_bits(rows)), rows);
    return active & ~(sparse & ~whole_rows(set_rows));
}

static void NAME(escape)(NAME(Reader) * r, u64 left, WORD *z) {
    const Source *rest = &r->sources[2 + STEPS + r->planes];
    for (; left; left &= left - 1, r->escaped++) {
        i64 at = r->escaped * (i64)sizeof(WORD);
        if (at + (i64)sizeof(WORD) > rest->bytes) r->sound = false;
        else memcpy(&z[__builtin_ctzll(left)], r->segment + rest->start + at, sizeof(WORD));
    }
}

/* Distances of one group; `own`: its parameters, `active`: its elements. */
static inline void NAME(decode_group)(NAME(Reader) * r, Bytes64 own, u64 active, WORD *z) {
    Bytes64 k = without_top(own), q = no_bytes();
    active = NAME(awake)(r, active, topped(own) & active);
    u64 left = active;
    for (int step = 0; step < STEPS && left; step++) {
        u64 more = deposit(pull(r->segment, r->size, &r->sources[2 + step], count_bits(left)), left);
        q = added(q, more, 1);
        left = more;
    }
    u64 kept = active & ~left;
    u8 shift[GROUP], quotient[GROUP], part[GROUP];
    store_bytes(shift, k);
    store_bytes(quotient, q);
    for (int i = 0; i < GROUP; i++) z[i] = (WORD)((WORD)quotient[i] << shift[i]);
    for (int plane = 0; plane < r->planes; plane += 8) {
        u64 has = kept & above(k, (u8)plane);
        if (!has) break;
        Bytes64 low = no_bytes();
        for (int bit = 0; has; has = kept & above(k, (u8)(plane + bit))) {
            Source *source = &r->sources[2 + STEPS + plane + bit];
            u64 bits = deposit(pull(r->segment, r->size, source, count_bits(has)), has);
            low = added(low, bits, (u8)(1 << bit));
            if (++bit == 8) break;
        }
        store_bytes(part, low);
        for (int i = 0; i < GROUP; i++) z[i] |= (WORD)((WORD)part[i] << plane);
    }
    if (left) NAME(escape)(r, left, z);
}

static bool NAME(decode_groups)(NAME(Block) * b, NAME(Reader) * r, const u8 *map, int tile, WORD *out) {
    i64 tile_groups = tile ? (i64)1 << (tile - 1) : b->groups;
    for (i64 g = 0; g < b->groups; g++) {
        i64 at = g * GROUP, here = least(GROUP, b->count - at), bit = g / tile_groups;
        const WORD *base = b->base + at;
        if (tile && !((map[bit / 8] >> (bit % 8)) & 1)) {
            memcpy(out + at, base, (size_t)here * sizeof(WORD));
            continue;
        }
        WORD z[GROUP];
        Bytes64 own = looked_up(b->parameters, NAME(contexts_of)(b, g));
        NAME(decode_group)(r, own, first_bits(here), z);
        if (here == GROUP) {
            for (int i = 0; i < GROUP; i++) out[at + i] = NAME(word_at)(z[i], base[i], b->sign_magnitude);
        } else {
            for (i64 i = 0; i < here; i++) out[at + i] = NAME(word_at)(z[i], base[i], b->sign_magnitude);
        }
    }
    const Source *rest = &r->sources[2 + STEPS + r->planes];
    for (int s = 0; s < 2 + STEPS + r->planes; s++) r->sound = r->sound && ended(&r->sources[s]);
    return r->sound && r->escaped * (i64)sizeof(WORD) == rest->bytes;
}

static bool NAME(decode)(const RiceShape *shape, const u8 *segment, i64 size, const WORD *base, i64 count,
                         WORD *out) {
    if (size < RICE_HEADER_BYTES) return false;
    int contexts = segment[3] + 1, tile = segment[4], most_planes = 0;
    NAME(Block) b = {.base = base, .count = count, .groups = (count + GROUP - 1) / GROUP,
                     .sign_magnitude = shape->sign_magnitude, .mask = (WORD)shape->mask, .shift = segment[0],
                     .lowest = (WORD)(segment[1] | (u64)segment[2] << 8), .contexts = contexts};
    NAME(Reader) r = {.segment = segment, .size = size, .planes = segment[5], .sound = true};
    if (b.shift >= BITS || contexts > CONTEXTS || tile > LARGEST_TILE + 1 || r.planes >= BITS) return false;
    i64 at = RICE_HEADER_BYTES + contexts, tile_words = (i64)GROUP << (tile ? tile - 1 : 0);
    i64 map_bytes = tile ? ((count + tile_words - 1) / tile_words + 7) / 8 : 0;
    if (size < at + map_bytes) return false;
    memcpy(b.parameters, segment + RICE_HEADER_BYTES, (size_t)contexts);
    for (int c = 0; c < contexts; c++) most_planes = (int)most(most_planes, b.parameters[c] & ~SPARSE);
    if (most_planes != r.planes) return false;
    if (!open_sources(segment, size, at + map_bytes, r.sources, 2 + STEPS + r.planes + 1)) return false;
    return NAME(decode_groups)(&b, &r, segment + at, tile, out);
}

#undef BITS
#undef TOP
