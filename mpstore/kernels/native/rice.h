/* rice.c: distances to a base in Rice codes, plane by plane (rice_numpy).

   Words are 1, 2, 4 or 8 bytes, given as bytes. `room` for encoding has rice_room bytes. */
#ifndef MP_RICE_H
#define MP_RICE_H

#include "native.h"

typedef struct {
    int word_bytes;
    bool sign_magnitude;
    u64 mask;  /* of a base word: what names its context, */
    int shift; /* after this shift */
} RiceShape;

i64 rice_room(i64 words, int word_bytes);

/* Bytes of the segment, written to `out`, -1 where it would not be smaller than the block. */
i64 rice_encode(const RiceShape *shape, const u8 *words, const u8 *base, i64 count, u8 *room, u8 *out);

/* Fill `out`; false: the segment is not one of rice_encode's. */
bool rice_decode(const RiceShape *shape, const u8 *segment, i64 size, const u8 *base, i64 count, u8 *out);

#endif
