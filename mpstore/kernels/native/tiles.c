/* See tiles.h. */
#include "tiles.h"

int choose_tile(const u8 *nonzero, i64 groups, i64 zero_group_bits) {
    i64 zeros = 0;
    for (i64 g = 0; g < groups; g++) zeros += !nonzero[g];
    int best = 0;
    i64 cheapest = zeros * zero_group_bits;
    for (int tile = 1; zeros != 0 && tile <= LARGEST_TILE + 1; tile++) {
        i64 size = (i64)1 << (tile - 1), tiles = 0, spared = 0;
        for (i64 at = 0; at < groups; at += size, tiles++) {
            i64 stop = least(at + size, groups), g = at;
            while (g < stop && !nonzero[g]) g++;
            spared += g == stop ? stop - at : 0;
        }
        i64 cost = tiles + (zeros - spared) * zero_group_bits;
        if (cost < cheapest) {
            best = tile;
            cheapest = cost;
        }
    }
    return best;
}

void fill_tiles(u8 *coded, i64 groups, int tile) {
    if (tile == 0) memset(coded, 1, (size_t)groups);
    i64 size = tile ? (i64)1 << (tile - 1) : groups;
    for (i64 at = 0; at < groups; at += size) {
        i64 stop = least(at + size, groups);
        u8 any = 0;
        for (i64 g = at; g < stop; g++) any |= coded[g];
        memset(coded + at, any, (size_t)(stop - at));
    }
}

i64 tiles_of(i64 groups, int tile) {
    return tile ? (groups + ((i64)1 << (tile - 1)) - 1) >> (tile - 1) : 0;
}

u8 *put_map(u8 *at, const u8 *coded, i64 groups, int tile) {
    i64 tiles = tiles_of(groups, tile), bytes = (tiles + 7) / 8;
    memset(at, 0, (size_t)bytes);
    for (i64 n = 0; n < tiles; n++) at[n / 8] |= (u8)(coded[n << (tile - 1)] << (n % 8));
    return at + bytes;
}

bool coded_groups(const u8 *map, i64 groups, int tile, i64 first, u8 *coded) {
    if (!tile && groups - first >= GROUPS) {
        memset(coded, 1, GROUPS);
        return true;
    }
    u8 any = 0;
    for (int g = 0; g < GROUPS; g++) {
        i64 n = tile ? (first + g) >> (tile - 1) : 0;
        coded[g] = first + g < groups && (!tile || ((map[n / 8] >> (n % 8)) & 1));
        any |= coded[g];
    }
    return any;
}
