/* Words of one width taken apart and put together: included by prefix.c with WORD and NAME set. */

#define BITS ((int)(8 * sizeof(WORD)))

/* Symbols, planes of bytes and planes of bits of `count` words. */
static void NAME(take_apart)(const WORD *words, i64 count, int rest_bits, u8 *symbols, u8 *planes, u8 *odd) {
    i64 odd_bytes = (count + 7) / 8;
    for (i64 i = 0; i < count; i++) symbols[i] = (u8)((WORD)((WORD)(words[i] << 1) | words[i] >> (BITS - 1)) >> rest_bits);
    for (int p = 0; p < rest_bits / 8; p++) {
        u8 *plane = planes + p * count;
        if (p == 0)
            for (i64 i = 0; i < count; i++) plane[i] = (u8)((WORD)(words[i] << 1) | words[i] >> (BITS - 1));
        else
            for (i64 i = 0; i < count; i++) plane[i] = (u8)(words[i] >> (8 * p - 1));
    }
    int low = rest_bits / 8 * 8;
    for (i64 at = 0; rest_bits > low && at < count; at += GROUP) {
        u8 part[GROUP] = {0};
        i64 here = least(GROUP, count - at);
        for (i64 i = 0; i < here; i++)
            part[i] = (u8)((WORD)((WORD)(words[at + i] << 1) | words[at + i] >> (BITS - 1)) >> low);
        Bytes64 bytes = load_bytes(part);
        for (int bit = 0; bit < rest_bits - low; bit++) {
            u64 set = having(bytes, (u8)(1 << bit));
            memcpy(odd + bit * odd_bytes + at / 8, &set, (size_t)((here + 7) / 8));
        }
    }
}

static void NAME(put_together)(const u8 *symbols, u8 *const *planes, const u8 *odd, i64 count, int rest_bits,
                               WORD *out) {
    i64 odd_bytes = (count + 7) / 8;
    int low = rest_bits / 8 * 8;
    for (i64 at = 0; at < count; at += STRIP) {
        i64 here = least(STRIP, count - at);
        WORD *to = out + at;
        if (rest_bits == 8) { /* bfloat16: one loop does it */
            const u8 *own = symbols + at, *plane = planes[0] + at;
            for (i64 i = 0; i < here; i++) {
                WORD turned = (WORD)((WORD)own[i] << 8 % BITS | plane[i]);
                to[i] = (WORD)(turned >> 1 | (WORD)(turned << (BITS - 1)));
            }
            continue;
        }
        for (i64 i = 0; i < here; i++) to[i] = (WORD)((WORD)symbols[at + i] << rest_bits);
        for (int p = 0; p < rest_bits / 8; p++) {
            const u8 *plane = planes[p] + at;
            for (i64 i = 0; i < here; i++) to[i] |= (WORD)((WORD)plane[i] << (8 * p));
        }
        for (i64 g = 0; rest_bits > low && g < here; g += GROUP) {
            Bytes64 bytes = no_bytes();
            u8 part[GROUP];
            i64 few = least(GROUP, here - g);
            for (int bit = 0; bit < rest_bits - low; bit++) {
                u64 set = 0;
                memcpy(&set, odd + bit * odd_bytes + (at + g) / 8, (size_t)((few + 7) / 8));
                bytes = added(bytes, set, (u8)(1 << bit));
            }
            store_bytes(part, bytes);
            for (i64 i = 0; i < few; i++) to[g + i] |= (WORD)((WORD)part[i] << low);
        }
        for (i64 i = 0; i < here; i++) to[i] = (WORD)((WORD)(to[i] >> 1) | (WORD)(to[i] << (BITS - 1)));
    }
}

#undef BITS
