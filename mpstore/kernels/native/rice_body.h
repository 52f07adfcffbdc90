/* The Rice coder for one width: included by rice.c with WORD and NAME set, after rice_words.h.

   It works on strips of sixteen groups of 64 elements, step by step and plane by plane across a strip: each step of
   a group's unary quotients, and each plane of its low bits, is one word of bits under the mask of those it
   concerns, and the words of a strip do not wait for each other. */

#define PARTS ((int)sizeof(WORD))

typedef struct {
    WORD *distance; /* of a block to encode: whole groups, zeros behind the last element */
    u8 *coded;      /* of each group: whether it is coded */
    const WORD *base;
    i64 count, groups;
    bool sign_magnitude;
    WORD mask, lowest;
    int shift, contexts, tile, planes;
    u8 parameters[CONTEXTS];
} NAME(Block);

/* What is known of the elements of a strip: those of a group that are coded at all, whose context is sparse or
   flagged (and, once that is known, flagged and not zero), whose quotient goes on, that have low bits. */
typedef struct {
    WORD base[STRIP], z[STRIP];
    u8 k[STRIP], quotient[STRIP], part[PARTS][STRIP];
    u64 active[GROUPS], sparse[GROUPS], flagged[GROUPS], left[GROUPS], kept[GROUPS];
    /* Read: bits of quotients, and low bits, by place; those of the places that `few` elements have, in `rest`. */
    u64 slices[QUOTIENT_BITS][GROUPS], low[BITS][GROUPS];
    int planes, few;
    u16 at[GROUP + 4];
    WORD rest[STRIP];
} NAME(Strip);

/* Parameters of a strip's elements, and which there are. */
static void NAME(begin_strip)(const NAME(Block) * b, i64 strip, NAME(Strip) * s) {
    i64 at = strip * STRIP, here = least(STRIP, b->count - at);
    const WORD *base = b->base + at;
    if (here < STRIP) {
        memset(s->base, 0, sizeof s->base);
        memcpy(s->base, base, (size_t)here * sizeof(WORD));
        base = s->base;
    }
    for (int g = 0; g < GROUPS; g++) {
        Bytes64 context = NAME(contexts_of)(base + g * GROUP, b->mask, b->shift, b->lowest, b->contexts);
        Bytes64 own = looked_up(b->parameters, context);
        store_bytes(s->k + g * GROUP, only(own, K_MASK));
        i64 group = strip * GROUPS + g;
        s->active[g] = group < b->groups && b->coded[group] ? first_bits(here - g * GROUP) : 0;
        s->sparse[g] = topped(own) & s->active[g];
        s->flagged[g] = having(own, FLAGGED);
    }
}

/* How many bits stand under the masks of the groups before each one, and under all. */
static inline i64 NAME(count_before)(const u64 *masks, i64 *before) {
    i64 sum = 0;
    for (int g = 0; g < GROUPS; g++) {
        before[g] = sum;
        sum += count_bits(masks[g]);
    }
    return sum;
}

/* The bits of few elements back to the groups they are of. */
static inline void NAME(spread)(u64 bits, const u64 *masks, const i64 *before, u64 *into) {
    for (int g = 0; g < GROUPS; g++) into[g] = deposit(bits >> before[g], masks[g]);
}

/* Where the elements under the masks are; how many. Mostly a group has four or fewer, and these are written without
   asking how many there are, which could not be foreseen. */
static inline int NAME(list)(const u64 *masks, u16 *at) {
    int count = 0;
    for (int g = 0; g < GROUPS; g++) {
        u64 mask = masks[g];
        int own = (int)count_bits(mask);
        for (int i = 0; i < 4; i++, mask &= mask - 1) at[count + i] = (u16)(g * GROUP + (__builtin_ctzll(mask | TOP_BIT)));
        for (int i = 4; UNLIKELY(i < own); i++, mask &= mask - 1) at[count + i] = (u16)(g * GROUP + __builtin_ctzll(mask));
        count += own;
    }
    return count;
}

/* Encoding */

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
        const WORD *z = b->distance + g * GROUP, *base = b->base + g * GROUP;
        i64 here = least(GROUP, b->count - g * GROUP);
        if (here < GROUP) base = memcpy(tail, base, (size_t)here * sizeof(WORD));
        store_bytes(context, NAME(contexts_of)(base, b->mask, b->shift, b->lowest, b->contexts));
        for (i64 i = 0; i < here; i++) counts[i & 1][context[i] * tokens + token_of(z[i])]++;
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
        if (s->flagged[g])
            for (int i = 0; i < GROUP; i++) s->z[g * GROUP + i] -= (WORD)((s->flagged[g] >> i) & 1);
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
        int count = NAME(list)(s->left, at);
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
    int count = NAME(list)(has, at);
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
    b.tile = rice_choose_tile(b.coded, b.groups);
    rice_fill_tiles(b.coded, b.groups, b.tile);
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

/* Decoding */

static void NAME(pull_flags)(NAME(Strip) * s, RiceReader *r) {
    Run any, some, one;
    begin_run(&any, r->segment, r->size, &r->sources[0]);
    begin_run(&some, r->segment, r->size, &r->sources[1]);
    begin_run(&one, r->segment, r->size, &r->sources[2]);
    for (int g = 0; g < GROUPS; g++) {
        u64 sparse = s->sparse[g], rows = rows_of(sparse);
        rows &= 0 - (pull(&any, sparse != 0) & (sparse != 0));
        u64 set_rows = deposit(pull(&some, count_bits(rows)), rows);
        s->active[g] &= ~(sparse & ~whole_rows(set_rows));
        u64 flagged = s->flagged[g] & s->active[g];
        s->flagged[g] = 0;
        if (!flagged) continue;
        s->flagged[g] = deposit(pull(&one, count_bits(flagged)), flagged);
        s->active[g] &= ~flagged | s->flagged[g];
    }
    end_run(&any, &r->sources[0]);
    end_run(&some, &r->sources[1]);
    end_run(&one, &r->sources[2]);
}

/* The next bits of a stream under each of the masks. Each group's place is known before its bits are, so that none
   waits for another. */
static inline void NAME(pull_masks)(RiceReader *r, Source *source, const u64 *masks, const i64 *before, i64 sum,
                                    u64 *into) {
    Run run;
    begin_run(&run, r->segment, r->size, source);
    i64 begin = run.bit;
    for (int g = 0; g < GROUPS; g++) {
        run.bit = begin + before[g];
        into[g] = deposit(pull(&run, 0), masks[g]);
    }
    source->bit += sum;
}

/* The next bits of a stream, under the only mask there is. */
static inline u64 NAME(pull_mask)(RiceReader *r, Source *source, u64 mask) {
    Run run;
    begin_run(&run, r->segment, r->size, source);
    source->bit += count_bits(mask);
    return deposit(pull(&run, 0), mask);
}

/* An element whose quotient is q goes on for q steps, so bit i of q changes at each multiple of 2^i. Once few go
   on, they go on together. */
static void NAME(pull_quotients)(NAME(Strip) * s, RiceReader *r) {
    u64 left[GROUPS], few[QUOTIENT_BITS] = {0}, of[GROUPS];
    i64 before[GROUPS], sum;
    int step = 1;
    for (int bit = 0; bit < QUOTIENT_BITS; bit++)
        for (int g = 0; g < GROUPS; g++) s->slices[bit][g] = 0;
    for (int g = 0; g < GROUPS; g++) left[g] = s->active[g];
    for (; (sum = NAME(count_before)(left, before)) > FEW && step <= STEPS; step++) {
        NAME(pull_masks)(r, &r->sources[FLAG_STREAMS + step - 1], left, before, sum, left);
        for (int bit = 0; bit < QUOTIENT_BITS && step % (1 << bit) == 0; bit++)
            for (int g = 0; g < GROUPS; g++) s->slices[bit][g] ^= left[g];
    }
    if (step <= STEPS && sum) {
        u64 going = first_bits(sum);
        for (; step <= STEPS && going; step++) {
            going = NAME(pull_mask)(r, &r->sources[FLAG_STREAMS + step - 1], going);
            for (int bit = 0; bit < QUOTIENT_BITS && step % (1 << bit) == 0; bit++) few[bit] ^= going;
        }
        for (int bit = 0; bit < QUOTIENT_BITS; bit++) {
            if (!few[bit]) continue;
            NAME(spread)(few[bit], left, before, of);
            for (int g = 0; g < GROUPS; g++) s->slices[bit][g] ^= of[g];
        }
        NAME(spread)(going, left, before, left);
    }
    for (int g = 0; g < GROUPS; g++) {
        s->left[g] = left[g];
        s->kept[g] = s->active[g] & ~left[g];
    }
}

/* The planes from s->planes on, which few elements have: into `rest`, of zeros elsewhere. */
static void NAME(pull_few_planes)(NAME(Strip) * s, RiceReader *r, const u64 *has) {
    u8 k[GROUP] = {0}, part[PARTS][GROUP];
    Bytes64 sum[PARTS];
    s->few = NAME(list)(has, s->at);
    for (int i = 0; i < s->few; i++) k[i] = s->k[s->at[i]];
    for (int p = 0; p < PARTS; p++) sum[p] = no_bytes();
    Bytes64 parameters = load_bytes(k);
    for (int plane = s->planes; plane < r->planes; plane++) {
        u64 of = above(parameters, (u8)plane);
        if (!of) break;
        u64 set = NAME(pull_mask)(r, &r->sources[FLAG_STREAMS + STEPS + plane], of);
        sum[plane / 8] = added(sum[plane / 8], set, (u8)(1 << plane % 8));
    }
    for (int p = 0; p < PARTS; p++) store_bytes(part[p], sum[p]);
    for (int i = 0; i < s->few; i++) {
        WORD bits = 0;
        for (int p = 0; p < PARTS; p++) bits |= (WORD)((WORD)part[p][i] << (8 * p));
        s->rest[s->at[i]] = bits;
    }
}

static void NAME(pull_planes)(NAME(Strip) * s, RiceReader *r) {
    u64 has[GROUPS];
    i64 before[GROUPS];
    for (s->planes = 0; s->planes < r->planes; s->planes++) {
        for (int g = 0; g < GROUPS; g++)
            has[g] = s->kept[g] & above(load_bytes(s->k + g * GROUP), (u8)s->planes);
        i64 sum = NAME(count_before)(has, before);
        if (sum <= FEW_LISTED) {
            if (sum) NAME(pull_few_planes)(s, r, has);
            break;
        }
        NAME(pull_masks)(r, &r->sources[FLAG_STREAMS + STEPS + s->planes], has, before, sum, s->low[s->planes]);
    }
}

/* Words of a strip from their bits. */
#if defined(__AVX512BW__) && defined(HALVES)
static inline __m512i NAME(finished)(const NAME(Strip) * s, int at, __m512i code, const WORD *base, bool sign_magnitude) {
    code = _mm512_or_si512(code, _mm512_loadu_si512(s->rest + at));
    u32 flagged = (u32)(s->flagged[at / GROUP] >> at % GROUP);
    code = _mm512_mask_add_epi16(code, flagged, code, _mm512_set1_epi16(1));
    return NAME(words_at)(code, _mm512_loadu_si512(base), sign_magnitude);
}

/* Where all low bits that are not few fit into half a byte: quotient and low bits go together. */
static inline __attribute__((always_inline)) void NAME(put_halves)(const NAME(Strip) * s, int g, const WORD *base,
                                                                   bool sign_magnitude, int planes, WORD *out) {
    Bytes64 both = no_bytes();
    for (int bit = 0; bit < QUOTIENT_BITS; bit++) both = added(both, s->slices[bit][g], (u8)(16 << bit));
    for (int p = 0; p < planes; p++) both = added(both, s->low[p][g], (u8)(1 << p));
    for (int half = 0; half < 2; half++) {
        int at = g * GROUP + 32 * half;
        __m512i pair = half_of(both, half), code = _mm512_sllv_epi16(_mm512_srli_epi16(pair, 4), halves_of(s->k + at));
        code = _mm512_or_si512(code, _mm512_and_si512(pair, _mm512_set1_epi16(15)));
        _mm512_storeu_si512(out + 32 * half, NAME(finished)(s, at, code, base + 32 * half, sign_magnitude));
    }
}

static void NAME(put_wide)(const NAME(Strip) * s, int g, const WORD *base, bool sign_magnitude, WORD *out) {
    Bytes64 quotient = no_bytes(), low = no_bytes(), high = no_bytes();
    for (int bit = 0; bit < QUOTIENT_BITS; bit++) quotient = added(quotient, s->slices[bit][g], (u8)(1 << bit));
    for (int p = 0; p < least(s->planes, 8); p++) low = added(low, s->low[p][g], (u8)(1 << p));
    for (int p = 8; p < s->planes; p++) high = added(high, s->low[p][g], (u8)(1 << (p - 8)));
    for (int half = 0; half < 2; half++) {
        int at = g * GROUP + 32 * half;
        __m512i code = _mm512_sllv_epi16(half_of(quotient, half), halves_of(s->k + at));
        code = _mm512_or_si512(code, half_of(low, half));
        code = _mm512_or_si512(code, _mm512_slli_epi16(half_of(high, half), 8));
        _mm512_storeu_si512(out + 32 * half, NAME(finished)(s, at, code, base + 32 * half, sign_magnitude));
    }
}

static void NAME(put_together)(const NAME(Strip) * s, const WORD *base, bool sign_magnitude, WORD *out) {
#define PUT(planes)                                                                                          \
    case planes:                                                                                             \
        for (int g = 0; g < GROUPS; g++)                                                                     \
            NAME(put_halves)(s, g, base + g * GROUP, sign_magnitude, planes, out + g * GROUP);               \
        return;
    switch (s->planes) {
        PUT(0)
        PUT(1)
        PUT(2)
        PUT(3)
        PUT(4)
    default:
        for (int g = 0; g < GROUPS; g++) NAME(put_wide)(s, g, base + g * GROUP, sign_magnitude, out + g * GROUP);
    }
#undef PUT
}
#else
static void NAME(put_group)(const NAME(Strip) * s, int g, const WORD *base, bool sign_magnitude, WORD *out) {
    u8 quotient[GROUP], part[PARTS][GROUP], flag[GROUP];
    WORD z[GROUP];
    Bytes64 sum = no_bytes();
    for (int bit = 0; bit < QUOTIENT_BITS; bit++) sum = added(sum, s->slices[bit][g], (u8)(1 << bit));
    store_bytes(quotient, sum);
    store_bytes(flag, added(no_bytes(), s->flagged[g], 1));
    for (int i = 0; i < GROUP; i++) z[i] = (WORD)((WORD)quotient[i] << s->k[g * GROUP + i]);
    for (int p = 0; 8 * p < s->planes; p++) {
        sum = no_bytes();
        for (int bit = 8 * p; bit < least(8 * p + 8, s->planes); bit++)
            sum = added(sum, s->low[bit][g], (u8)(1 << bit % 8));
        store_bytes(part[p], sum);
        for (int i = 0; i < GROUP; i++) z[i] |= (WORD)((WORD)part[p][i] << (8 * p));
    }
    const WORD *rest = s->rest + g * GROUP;
    for (int i = 0; i < GROUP; i++) out[i] = NAME(word_at)((WORD)((z[i] | rest[i]) + flag[i]), base[i], sign_magnitude);
}

static void NAME(put_together)(const NAME(Strip) * s, const WORD *base, bool sign_magnitude, WORD *out) {
    for (int g = 0; g < GROUPS; g++) NAME(put_group)(s, g, base + g * GROUP, sign_magnitude, out + g * GROUP);
}
#endif

/* The words of escapes, into `out`. */
static void NAME(pull_escapes)(NAME(Strip) * s, RiceReader *r, const WORD *base, bool sign_magnitude, WORD *out) {
    const Source *rest = &r->sources[FLAG_STREAMS + STEPS + r->planes];
    for (int g = 0; g < GROUPS; g++) {
        for (u64 left = s->left[g]; left; left &= left - 1, r->escaped_bytes += PARTS) {
            i64 i = g * GROUP + __builtin_ctzll(left);
            WORD z = 0;
            bool there = r->escaped_bytes + PARTS <= rest->bytes;
            if (there) memcpy(&z, r->segment + rest->start + r->escaped_bytes, PARTS);
            r->sound = r->sound && there;
            out[i] = NAME(word_at)(z, base[i], sign_magnitude);
        }
    }
}

static void NAME(decode_strip)(const NAME(Block) * b, i64 strip, NAME(Strip) * s, RiceReader *r, WORD *out) {
    i64 here = least(STRIP, b->count - strip * STRIP);
    const WORD *base = here == STRIP ? b->base + strip * STRIP : s->base;
    WORD *to = here == STRIP ? out : s->z;
    NAME(begin_strip)(b, strip, s);
    NAME(pull_flags)(s, r);
    NAME(pull_quotients)(s, r);
    NAME(pull_planes)(s, r);
    NAME(put_together)(s, base, b->sign_magnitude, to);
    for (; s->few; s->few--) s->rest[s->at[s->few - 1]] = 0;
    NAME(pull_escapes)(s, r, base, b->sign_magnitude, to);
    if (here < STRIP) memcpy(out, s->z, (size_t)here * sizeof(WORD));
}

static bool NAME(decode)(const RiceShape *shape, RiceReader *r, const RiceHead *head, const WORD *base, i64 count,
                         WORD *out) {
    NAME(Block) b = {.base = base, .count = count, .groups = head->groups, .sign_magnitude = shape->sign_magnitude,
                     .mask = (WORD)shape->mask, .shift = head->shift, .lowest = (WORD)head->lowest,
                     .contexts = head->contexts, .planes = head->planes};
    NAME(Strip) s;
    u8 coded[GROUPS];
    s.few = 0;
    memset(s.rest, 0, sizeof s.rest);
    memcpy(b.parameters, head->parameters, sizeof b.parameters);
    for (i64 strip = 0; strip * STRIP < count; strip++) {
        i64 at = strip * STRIP;
        if (rice_read_tiles(head, strip * GROUPS, coded)) {
            b.coded = coded - strip * GROUPS;
            NAME(decode_strip)(&b, strip, &s, r, out + at);
        } else {
            memcpy(out + at, base + at, (size_t)least(STRIP, count - at) * sizeof(WORD));
        }
    }
    return rice_ended(r);
}

#undef PARTS
