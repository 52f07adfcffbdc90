/* leaning.c: frames of a pack (docs/format.md) that hold a block in Rice codes or tiers, decoded against the
   block that they lean on; and blocks merged from such frames. */
#ifndef MP_LEANING_H
#define MP_LEANING_H

#include "blake3.h"
#include "merge_words.h"
#include "rice.h"
#include "tiers.h"

#define ID_BYTES BLAKE3_BYTES

/* What frames must be: of one of these codecs and of this form, leaning on this block. `room`: to hash what was decoded
   in (blake3_room), NULL where it is not to be hashed. */
typedef struct {
    RiceShape shape;
    int rice, tiers, form;
    const u8 *base_id, *base;
    i64 words;
    u8 *room;
} Leaning;

/* Fill `out` from a frame of `size` bytes that holds the object `id`. False: it is not such a frame, not whole, or
   its content does not hash to the id. */
bool decode_leaning(const Leaning *leaning, const u8 *frame, i64 size, const u8 *id, u8 *out);

/* One block of a merge: experts' frames, and where each is decoded to (`sources.items`). */
typedef struct {
    const u8 *const *frames;
    const i64 *sizes;
    const u8 *ids;
    u8 *rows; /* ROW_STRIDE apart */
    Sources sources;
    const Terms *terms;
    u64 start; /* the block's offset in its tensor */
} LeaningMerge;

/* Bytes from one expert's row to the next: were they a power of two, all rows would share their places in the caches. */
#define ROW_STRIDE(block_bytes) ((block_bytes) + 192)

/* Decode, merge into `out`, and say how it hashes (with the room of `leaning`, which there must be, but for `verify`
   false) and what was not finite. False: a frame was odd, and nothing is merged. */
bool merge_leaning(const Leaning *leaning, bool verify, const LeaningMerge *merge, u8 *out, i64 *nonfinite, u8 *out_id);

#endif
