/* Several hashes some blocks on, each in a lane of its own: included by sha256_lanes.c with LANES, V (a word of each
   lane), OF (the intrinsic of that width), LOAD and NAME set. */

#define ADD(a, b) OF(add_epi32)(a, b)
#define TURN(x, by) OF(ror_epi32)(x, by)
#define SHIFT(x, by) OF(srli_epi32)(x, by)
#define LOGIC(a, b, c, table) OF(ternarylogic_epi32)(a, b, c, table)

static void NAME(u32 *const *states, const u8 *const *from, i64 blocks) {
    V state[8], w[16];
    u32 rows[8][LANES];
    for (int k = 0; k < 8; k++) {
        for (int lane = 0; lane < LANES; lane++) rows[k][lane] = states[lane][k];
        memcpy(&state[k], rows[k], sizeof state[k]);
    }
    for (i64 block = 0; block < blocks; block++) {
        V s[8]; /* in round t, a is s[(64 - t) % 8], and b to h those after it */
        for (int k = 0; k < 8; k++) s[k] = state[k];
        LOAD(from, block * SHA256_BLOCK, w);
#pragma GCC unroll 64
        for (int t = 0; t < ROUNDS; t++) {
            V word = w[t % 16], a = s[(64 - t) % 8], e = s[(68 - t) % 8];
            V sum = LOGIC(TURN(e, 6), TURN(e, 11), TURN(e, 25), XOR3);
            V chosen = LOGIC(e, s[(69 - t) % 8], s[(70 - t) % 8], CHOOSE_BC);
            V total = ADD(s[(71 - t) % 8], ADD(word, OF(set1_epi32)((int)SHA256_ADDED[t])));
            total = ADD(ADD(total, chosen), sum);
            V other = LOGIC(TURN(a, 2), TURN(a, 13), TURN(a, 22), XOR3);
            other = ADD(other, LOGIC(a, s[(65 - t) % 8], s[(66 - t) % 8], MAJORITY));
            s[(67 - t) % 8] = ADD(s[(67 - t) % 8], total);
            s[(71 - t) % 8] = ADD(total, other);
            if (t >= ROUNDS - 16) continue;
            V x = w[(t + 1) % 16], y = w[(t + 14) % 16];
            V low = LOGIC(TURN(x, 7), TURN(x, 18), SHIFT(x, 3), XOR3);
            V high = LOGIC(TURN(y, 17), TURN(y, 19), SHIFT(y, 10), XOR3);
            w[t % 16] = ADD(ADD(word, w[(t + 9) % 16]), ADD(low, high));
        }
        for (int k = 0; k < 8; k++) state[k] = ADD(state[k], s[k]);
    }
    for (int k = 0; k < 8; k++) {
        memcpy(rows[k], &state[k], sizeof state[k]);
        for (int lane = 0; lane < LANES; lane++) states[lane][k] = rows[k][lane];
    }
}

#undef ADD
#undef TURN
#undef SHIFT
#undef LOGIC
#undef LANES
#undef V
#undef OF
#undef LOAD
#undef NAME
