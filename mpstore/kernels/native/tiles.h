/* Tiles of groups of 64 elements, and a map that says of which tiles all elements are zero. */
#ifndef MP_TILES_H
#define MP_TILES_H

#include "group.h"

#define LARGEST_TILE 12

/* The tile of a segment, from whether each group is not all zeros, and what coding a group of zeros costs; 0: no map. */
int choose_tile(const u8 *nonzero, i64 groups, i64 zero_group_bits);

/* Every group of a tile is coded if one of them is (all are, where there is no map). */
void fill_tiles(u8 *coded, i64 groups, int tile);

/* How many bits the map has. */
i64 tiles_of(i64 groups, int tile);

/* The map, from which groups are coded; its end. */
u8 *put_map(u8 *at, const u8 *coded, i64 groups, int tile);

/* Which of sixteen groups are coded; false: none of them. */
bool coded_groups(const u8 *map, i64 groups, int tile, i64 first, u8 *coded);

#endif
