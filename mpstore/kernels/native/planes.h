/* planes.c: byte planes of words, their fine form, counts of bytes, and whether blocks are the same
   (codec_rans_numpy, codec_batch_numpy). */
#ifndef MP_PLANES_H
#define MP_PLANES_H

#include "native.h"

/* `width` is 1, 2, 4 or 8 bytes; `planes` has `width` rows of `size` bytes, least significant first. */
void split_planes(const void *restrict words, i64 width, i64 size, bool rotated, u8 *restrict planes);
void join_planes(const u8 *restrict planes, i64 width, i64 size, bool rotated, void *restrict out);

void count_bytes(const u8 *restrict values, i64 size, u32 *restrict counts);

/* `ranks` has 256 bytes, `values` 64, `packed` (size + 1) / 2 + (size + 3) / 4. */
void split_fine(const u8 *restrict top, const u8 *restrict below, i64 size, const u8 *restrict ranks,
                u8 *restrict symbols, u8 *restrict packed);
void join_fine(const u8 *restrict symbols, i64 size, const u8 *restrict values, const u8 *restrict packed,
               u8 *restrict top, u8 *restrict below);

bool same_bytes(const u8 *left, const u8 *right, i64 size);

#endif
