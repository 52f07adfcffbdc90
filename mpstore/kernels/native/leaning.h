/* leaning.c: frames of a pack (docs/format.md) that hold a block in Rice codes, decoded against the block that they
   lean on. */
#ifndef MP_LEANING_H
#define MP_LEANING_H

#include "rice.h"

#define ID_BYTES 32

/* What the frames must be: their codec and form, and the id of what they lean on. */
typedef struct {
    int codec, form;
    const u8 *base_id;
} Leaning;

/* Fill `out` from a frame of `size` bytes that holds the object `id`; false: it is not such a frame, or not whole.
   Nothing is hashed. */
bool decode_leaning(const Leaning *leaning, const RiceShape *shape, const u8 *frame, i64 size, const u8 *id,
                    const u8 *base, i64 words, u8 *out);

#endif
