/* From words to Rice codes, for one width: included by rice_body.h. */

/* Distances, and groups that are not all zeros. */
static void NAME(measure)(NAME(Block) * b, const WORD *words) {
    memset(b->distance + b->count / STRIP * STRIP, 0, STRIP * sizeof(WORD));
    for (i64 g = 0; g < b->groups; g++) {
        i64 at = g * GROUP, here = least(GROUP, b->count - at);
        const WORD *word = words + at, *base = b->base + at;
        WORD any = 0, *z = b->distance + at;
        if (here == GROUP) {
            for (int i = 0; i < GROUP; i++) any |= z[i] = NAME(distance_of)(word[i], base[i], b->sign_magnitude);
        } else {
            for (int i = 0; i < here; i++) any |= z[i] = NAME(distance_of)(word[i], base[i], b->sign_magnitude);
        }
        b->coded[g] = any != 0;
    }
}

/* The window of contexts, by the keys of sampled groups. */
static void NAME(choose_contexts)(NAME(Block) * b, i64 step) {
    u32 counts[MOST_KEYS] = {0};
    i64 keys = (i64)(b->mask >> b->shift) + 1;
    for (i64 g = 0; g < b->groups; g += step) {
        const WORD *base = b->base + g * GROUP;
        i64 here = least(GROUP, b->count - g * GROUP);
        for (i64 i = 0; b->coded[g] && i < here; i++) counts[(WORD)(base[i] & b->mask) >> b->shift]++;
    }
    b->lowest = (WORD)densest_window(counts, keys, CONTEXTS);
    b->contexts = (int)least(keys, CONTEXTS);
}

static void NAME(choose_parameters)(NAME(Block) * b, i64 step) {
    u32 counts[2][CONTEXTS * MOST_TOKENS] = {0}; /* in turns: equal neighbours would wait for each other */
    int tokens = BITS > 4 ? 16 + 2 * (BITS - 4) : 16;
    for (i64 g = 0; g < b->groups; g += step) {
        if (!b->coded[g]) continue;
        WORD tail[GROUP] = {0};
        u8 context[GROUP];
        u16 entry[GROUP];
        const WORD *z = b->distance + g * GROUP, *base = b->base + g * GROUP;
        i64 here = least(GROUP, b->count - g * GROUP);
        if (here < GROUP) base = memcpy(tail, base, (size_t)here * sizeof(WORD));
        store_bytes(context, NAME(contexts_of)(base, b->mask, b->shift, b->lowest, b->contexts));
        for (int i = 0; i < GROUP; i++) {
            int token = BITS <= 32 ? short_token_of((u32)z[i]) : token_of(z[i]);
            entry[i] = (u16)(context[i] * tokens + token);
        }
        for (i64 i = 0; i < here; i++) counts[i & 1][entry[i]]++;
    }
    for (int i = 0; i < b->contexts * tokens; i++) counts[0][i] += counts[1][i];
    for (int c = 0; c < b->contexts; c++) {
        b->parameters[c] = rice_choose_parameter(counts[0] + c * tokens, tokens, BITS);
        b->planes = (int)most(b->planes, b->parameters[c] & K_MASK);
    }
}

static void NAME(push_flags)(NAME(Strip) * s, Sink *sinks) {
    Sink any = sinks[0], some = sinks[1], one = sinks[2];
    for (int g = 0; g < GROUPS; g++) {
        u64 sparse = s->sparse[g];
        u8 nonzero[GROUP];
        for (int i = 0; i < GROUP; i++) nonzero[i] = s->z[g * GROUP + i] != 0;
        u64 moved = above(load_bytes(nonzero), 0);
        if (sparse) {
            u64 set = sparse & moved, rows = rows_of(sparse), set_rows = rows_of(set);
            push(&any, set != 0, 1);
            if (set) push(&some, extract(set_rows, rows), count_bits(rows));
            s->active[g] &= ~(sparse & ~whole_rows(set_rows));
        }
        u64 flagged = s->flagged[g] & s->active[g];
        push(&one, extract(moved, flagged), count_bits(flagged));
        s->active[g] &= ~flagged | moved;
        s->flagged[g] = flagged & moved;
        if (s->flagged[g]) {
            u8 less[GROUP];
            store_bytes(less, added(no_bytes(), s->flagged[g], 1));
            for (int i = 0; i < GROUP; i++) s->z[g * GROUP + i] -= less[i];
        }
    }
    sinks[0] = any;
    sinks[1] = some;
    sinks[2] = one;
}

/* Once few go on, they go on together. */
static void NAME(push_quotients)(NAME(Strip) * s, Sink *sinks) {
    i64 before[GROUPS], sum;
    int step = 0;
    for (int g = 0; g < GROUPS; g++) s->left[g] = s->active[g];
    for (; (sum = NAME(count_before)(s->left, before)) > FEW_LISTED && step < STEPS; step++) {
        Sink sink = sinks[FLAG_STREAMS + step];
        for (int g = 0; g < GROUPS; g++) {
            u64 left = s->left[g], more = above(load_bytes(s->quotient + g * GROUP), (u8)step) & left;
            push(&sink, extract(more, left), count_bits(left));
            s->left[g] = more;
        }
        sinks[FLAG_STREAMS + step] = sink;
    }
    if (step < STEPS && sum) {
        u16 at[GROUP + 4];
        u8 quotient[GROUP] = {0};
        int count = places_of(s->left, at);
        for (int i = 0; i < count; i++) quotient[i] = s->quotient[at[i]];
        Bytes64 quotients = load_bytes(quotient);
        u64 going = first_bits(sum);
        for (; step < STEPS && going; step++) {
            u64 more = above(quotients, (u8)step) & going;
            push(&sinks[FLAG_STREAMS + step], extract(more, going), count_bits(going));
            going = more;
        }
        NAME(spread)(going, s->left, before, s->left);
    }
    for (int g = 0; g < GROUPS; g++) s->kept[g] = s->active[g] & ~s->left[g];
}

/* The planes from `plane` on, which few elements have. */
static void NAME(push_few_planes)(const NAME(Strip) * s, const u64 *has, int plane, int planes, Sink *sinks) {
    u16 at[GROUP + 4];
    u8 k[GROUP] = {0}, part[PARTS][GROUP];
    int count = places_of(has, at);
    memset(part, 0, sizeof part);
    for (int i = 0; i < count; i++) {
        k[i] = s->k[at[i]];
        for (int p = 0; p < PARTS; p++) part[p][i] = s->part[p][at[i]];
    }
    Bytes64 parameters = load_bytes(k);
    for (; plane < planes; plane++) {
        u64 of = above(parameters, (u8)plane);
        if (!of) break;
        u64 set = having(load_bytes(part[plane / 8]), (u8)(1 << plane % 8));
        push(&sinks[FLAG_STREAMS + STEPS + plane], extract(set, of), count_bits(of));
    }
}

static void NAME(push_planes)(NAME(Strip) * s, int planes, Sink *sinks) {
    u64 has[GROUPS];
    for (int plane = 0; plane < planes; plane++) {
        i64 sum = 0;
        for (int g = 0; g < GROUPS; g++) {
            has[g] = s->kept[g] & above(load_bytes(s->k + g * GROUP), (u8)plane);
            sum += count_bits(has[g]);
        }
        if (sum <= FEW_LISTED) {
            if (sum) NAME(push_few_planes)(s, has, plane, planes, sinks);
            break;
        }
        Sink sink = sinks[FLAG_STREAMS + STEPS + plane];
        for (int g = 0; g < GROUPS; g++) {
            u64 set = having(load_bytes(s->part[plane / 8] + g * GROUP), (u8)(1 << plane % 8));
            push(&sink, extract(set, has[g]), count_bits(has[g]));
        }
        sinks[FLAG_STREAMS + STEPS + plane] = sink;
    }
}

/* One strip into the sinks; escapes into `escapes`, whose new end is returned. */
static WORD *NAME(encode_strip)(const NAME(Block) * b, i64 strip, NAME(Strip) * s, Sink *sinks, WORD *escapes) {
    const WORD *z = b->distance + strip * STRIP;
    NAME(begin_strip)(b, strip, s);
    memcpy(s->z, z, sizeof s->z);
    NAME(push_flags)(s, sinks);
    NAME(quotients)(s->z, s->k, s->quotient);
    for (int p = 0; p < PARTS; p++)
        for (int i = 0; i < STRIP; i++) s->part[p][i] = (u8)(s->z[i] >> (8 * p));
    NAME(push_quotients)(s, sinks);
    NAME(push_planes)(s, b->planes, sinks);
    for (int g = 0; g < GROUPS; g++)
        for (u64 left = s->left[g]; left; left &= left - 1) *escapes++ = z[g * GROUP + __builtin_ctzll(left)];
    return escapes;
}

static i64 NAME(encode)(const RiceShape *shape, const WORD *words, const WORD *base, i64 count, u8 *room,
                        i64 stream_bytes, u8 *out) {
    NAME(Block) b = {.base = base, .count = count, .groups = (count + GROUP - 1) / GROUP,
                     .sign_magnitude = shape->sign_magnitude, .mask = (WORD)shape->mask, .shift = shape->shift};
    NAME(Strip) s;
    i64 strips = (count + STRIP - 1) / STRIP;
    b.distance = (WORD *)room;
    WORD *escapes = b.distance + (strips + 1) * STRIP, *escapes_end = escapes;
    b.coded = (u8 *)(escapes + strips * STRIP);
    u8 *streams = b.coded + b.groups;
    NAME(measure)(&b, words);
    b.tile = choose_tile(b.coded, b.groups, ZERO_GROUP_BITS);
    fill_tiles(b.coded, b.groups, b.tile);
    i64 step = b.groups >= SAMPLED_FROM ? SAMPLED : 1;
    NAME(choose_contexts)(&b, step);
    NAME(choose_parameters)(&b, step);
    Sink sinks[MOST_STREAMS];
    for (int n = 0; n < FLAG_STREAMS + STEPS + b.planes; n++) open_sink(&sinks[n], streams + n * stream_bytes);
    for (i64 strip = 0; strip < strips; strip++)
        escapes_end = NAME(encode_strip)(&b, strip, &s, sinks, escapes_end);
    RiceHead head = {b.shift, b.lowest, b.contexts, b.tile, b.planes, b.parameters, b.coded, b.groups};
    return rice_write(&head, sinks, (u8 *)escapes, (escapes_end - escapes) * PARTS, out, count * PARTS);
}
