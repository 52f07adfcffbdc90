/* From Rice codes to words, for one width: included by rice_body.h. */

static void NAME(pull_flags)(NAME(Strip) * s, RiceReader *r) {
    Run any, some, one;
    begin_run(&any, r->segment, r->size, &r->sources[0]);
    begin_run(&some, r->segment, r->size, &r->sources[1]);
    begin_run(&one, r->segment, r->size, &r->sources[2]);
    i64 any_bit = any.bit, some_bit = some.bit, one_bit = one.bit;
    for (int g = 0; g < GROUPS; g++) {
        u64 sparse = s->sparse[g], rows = rows_of(sparse);
        rows &= 0 - (bits_at(any.from, any_bit) & (sparse != 0));
        any_bit += sparse != 0;
        u64 set_rows = deposit(bits_at(some.from, some_bit), rows);
        some_bit += count_bits(rows);
        s->active[g] &= ~(sparse & ~whole_rows(set_rows));
        u64 flagged = s->flagged[g] & s->active[g];
        s->flagged[g] = 0;
        if (!flagged) continue;
        s->flagged[g] = deposit(bits_at(one.from, one_bit), flagged);
        one_bit += count_bits(flagged);
        s->active[g] &= ~flagged | s->flagged[g];
    }
    end_run(&any, any_bit, &r->sources[0]);
    end_run(&some, some_bit, &r->sources[1]);
    end_run(&one, one_bit, &r->sources[2]);
}

/* The next bits of a stream under each of the masks. Each group's place is known before its bits are, so that none
   waits for another. */
static inline void NAME(pull_masks)(RiceReader *r, Source *source, const u64 *masks, const i64 *before, i64 sum,
                                    u64 *into) {
    Run run;
    begin_run(&run, r->segment, r->size, source);
    for (int g = 0; g < GROUPS; g++) into[g] = deposit(bits_at(run.from, run.bit + before[g]), masks[g]);
    source->bit += sum;
}

/* The next bits of a stream, under the only mask there is. */
static inline u64 NAME(pull_mask)(RiceReader *r, Source *source, u64 mask) {
    return deposit(pull(r->segment, r->size, source, count_bits(mask)), mask);
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
    s->few = places_of(has, s->at);
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
        __m512i pair = half_of(both, half), code = _mm512_sllv_epi16(_mm512_srli_epi16(pair, 4), widened(s->k + at));
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
        __m512i code = _mm512_sllv_epi16(half_of(quotient, half), widened(s->k + at));
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
        if (coded_groups(head->coded, head->groups, head->tile, strip * GROUPS, coded)) {
            b.coded = coded - strip * GROUPS;
            NAME(decode_strip)(&b, strip, &s, r, out + at);
        } else {
            memcpy(out + at, base + at, (size_t)least(STRIP, count - at) * sizeof(WORD));
        }
    }
    return rice_ended(r);
}
