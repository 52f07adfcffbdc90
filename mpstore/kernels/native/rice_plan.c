/* Tiles and parameters of a rice block: see rice_plan.h. */
#include "rice_plan.h"

#define ZERO_GROUP_BITS 16

int rice_choose_tile(const u8 *zero, i64 groups) {
    i64 zeros = 0;
    for (i64 g = 0; g < groups; g++) zeros += zero[g] != 0;
    int best = 0;
    i64 cheapest = zeros * ZERO_GROUP_BITS;
    for (int tile = 1; zeros != 0 && tile <= LARGEST_TILE + 1; tile++) {
        i64 size = (i64)1 << (tile - 1), tiles = 0, spared = 0;
        for (i64 at = 0; at < groups; at += size, tiles++) {
            i64 stop = least(at + size, groups), g = at;
            while (g < stop && zero[g]) g++;
            spared += g == stop ? stop - at : 0;
        }
        i64 cost = tiles + (zeros - spared) * ZERO_GROUP_BITS;
        if (cost < cheapest) {
            best = tile;
            cheapest = cost;
        }
    }
    return best;
}

static u64 middle_of(int token) {
    return token < 16 ? (u64)token : (u64)(4 | (token & 1) << 1 | 1) << ((token - 16) / 2 + 2);
}

u8 rice_choose_parameter(const u32 *counts, int tokens, int bits) {
    u64 middles[MOST_TOKENS];
    i64 present[MOST_TOKENS], total = 0, cheapest = -1;
    int used = 0, best = 0;
    for (int token = 0; token < tokens; token++) {
        if (counts[token] == 0) continue;
        middles[used] = middle_of(token);
        present[used++] = counts[token];
        total += counts[token];
    }
    for (int k = 0; k < bits - 1; k++) {
        i64 cost = total * (1 + k);
        for (int i = 0; i < used; i++) {
            u64 steps = middles[i] >> k;
            cost += present[i] * (steps < STEPS ? (i64)steps : STEPS + bits);
        }
        if (cheapest < 0 || cost < cheapest) {
            best = k;
            cheapest = cost;
        }
    }
    bool sparse = total != 0 && (i64)counts[0] * 5 >= total * 4;
    return (u8)(best | (sparse ? SPARSE : 0));
}
