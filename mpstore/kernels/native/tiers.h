/* tiers.c: distances of 16-bit words to a base, most bits for the few that are far (tiers_numpy).

   `sign_magnitude`: the top bit of a word is a sign. `room` for encoding has tiers_room bytes. */
#ifndef MP_TIERS_H
#define MP_TIERS_H

#include "native.h"

i64 tiers_room(i64 words);

/* Bytes of the segment, written to `out`, -1 where it would not be smaller than the block. */
i64 tiers_encode(bool sign_magnitude, const u16 *words, const u16 *base, i64 count, u8 *room, u8 *out);

/* Fill `out`; false: the segment is not one of tiers_encode's. */
bool tiers_decode(bool sign_magnitude, const u8 *segment, i64 size, const u16 *base, i64 count, u16 *out);

/* Whether it is one, and of these words. */
bool tiers_hold(bool sign_magnitude, const u8 *segment, i64 size, const u16 *base, i64 count, const u16 *words);

#endif
