/* BLAKE3's compression of one block of each lane: included by blake3.c with V (a word of each lane), NAME, BY_16 and BY_8
   (rotated to the right so far) set. */

#define EACH _Pragma("GCC unroll 4") for (int i = first; i < first + AT_ONCE; i++)

/* Half a round: the four mixings of columns (turn 0) or diagonals (1). AT_ONCE of them go step by step beside each
   other: as many as there are registers for, or what is stored is waited for. Mixing i takes the words order[2 * i]
   and the next. */
ALWAYS_INLINE void NAME(mix)(V s[16], const V m[16], const u8 *order, int turn) {
#pragma GCC unroll 4
    for (int first = 0; first < 4; first += AT_ONCE) {
        V a[4], b[4], c[4], d[4];
        EACH a[i] = s[i], b[i] = s[4 + (i + turn) % 4], c[i] = s[8 + (i + 2 * turn) % 4], d[i] = s[12 + (i + 3 * turn) % 4];
        EACH a[i] = a[i] + m[order[2 * i]] + b[i];
        EACH d[i] = BY_16(d[i] ^ a[i]);
        EACH c[i] = c[i] + d[i];
        EACH b[i] = ROTATED(b[i] ^ c[i], 12);
        EACH a[i] = a[i] + m[order[2 * i + 1]] + b[i];
        EACH d[i] = BY_8(d[i] ^ a[i]);
        EACH c[i] = c[i] + d[i];
        EACH b[i] = ROTATED(b[i] ^ c[i], 7);
        EACH s[i] = a[i], s[4 + (i + turn) % 4] = b[i], s[8 + (i + 2 * turn) % 4] = c[i], s[12 + (i + 3 * turn) % 4] = d[i];
    }
}

/* `value`: the chaining value, eight words, which is replaced; `counter`: its words. */
ALWAYS_INLINE void NAME(compress)(V value[8], const V m[16], const V counter[2],
                        u32 size, u32 flags) {
    V zero = counter[0] ^ counter[0], s[16];
    for (int i = 0; i < 8; i++) s[i] = value[i];
    for (int i = 0; i < 4; i++) s[8 + i] = zero + START[i];
    s[12] = counter[0];
    s[13] = counter[1];
    s[14] = zero + size;
    s[15] = zero + flags;
#pragma GCC unroll 7
    for (int r = 0; r < 7; r++) {
        NAME(mix)(s, m, ORDER[r], 0);
        NAME(mix)(s, m, ORDER[r] + 8, 1);
    }
    for (int i = 0; i < 8; i++) value[i] = s[i] ^ s[8 + i];
}

#undef EACH
#undef BY_16
#undef BY_8
#undef V
#undef NAME
