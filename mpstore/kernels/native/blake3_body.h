/* BLAKE3's compression of one block of each lane: included by blake3.c with V (a word of each lane) and NAME set. */

#define ROTATED(x, by) ((x) >> (by) | (x) << (32 - (by)))
#define MIX(a, b, c, d, x, y)               \
    do {                                    \
        s[a] = s[a] + s[b] + (x);           \
        s[d] = ROTATED(s[d] ^ s[a], 16);    \
        s[c] = s[c] + s[d];                 \
        s[b] = ROTATED(s[b] ^ s[c], 12);    \
        s[a] = s[a] + s[b] + (y);           \
        s[d] = ROTATED(s[d] ^ s[a], 8);     \
        s[c] = s[c] + s[d];                 \
        s[b] = ROTATED(s[b] ^ s[c], 7);     \
    } while (0)
#define ROUND(r)                                        \
    do {                                                \
        MIX(0, 4, 8, 12, m[ORDER[r][0]], m[ORDER[r][1]]);    \
        MIX(1, 5, 9, 13, m[ORDER[r][2]], m[ORDER[r][3]]);    \
        MIX(2, 6, 10, 14, m[ORDER[r][4]], m[ORDER[r][5]]);   \
        MIX(3, 7, 11, 15, m[ORDER[r][6]], m[ORDER[r][7]]);   \
        MIX(0, 5, 10, 15, m[ORDER[r][8]], m[ORDER[r][9]]);   \
        MIX(1, 6, 11, 12, m[ORDER[r][10]], m[ORDER[r][11]]); \
        MIX(2, 7, 8, 13, m[ORDER[r][12]], m[ORDER[r][13]]);  \
        MIX(3, 4, 9, 14, m[ORDER[r][14]], m[ORDER[r][15]]);  \
    } while (0)

/* `value`: the chaining value, eight words, which is replaced; `counter`: its words. */
static inline __attribute__((always_inline)) void NAME(compress)(V value[8], const V m[16], const V counter[2],
                                                                  u32 size, u32 flags) {
    V zero = counter[0] ^ counter[0], s[16];
    for (int i = 0; i < 8; i++) s[i] = value[i];
    for (int i = 0; i < 4; i++) s[8 + i] = zero + START[i];
    s[12] = counter[0];
    s[13] = counter[1];
    s[14] = zero + size;
    s[15] = zero + flags;
    ROUND(0);
    ROUND(1);
    ROUND(2);
    ROUND(3);
    ROUND(4);
    ROUND(5);
    ROUND(6);
    for (int i = 0; i < 8; i++) value[i] = s[i] ^ s[8 + i];
}

#undef ROUND
#undef MIX
#undef ROTATED
#undef V
#undef NAME
