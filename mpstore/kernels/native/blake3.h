/* blake3.c: the BLAKE3 hash (plain mode, 32 bytes) of blocks that are in the caches anyway.

   For kernels that would have to go back to Python for it. Written from the paper (O'Connor, Aumasson, Neves,
   Wilcox-O'Hearn 2021); everything else hashes with the blake3 package, to which the tests hold this. */
#ifndef MP_BLAKE3_H
#define MP_BLAKE3_H

#include "native.h"

#define BLAKE3_BYTES 32

/* Bytes of scratch for a message of `size` bytes, a multiple of 64 of them aligned. */
i64 blake3_room(i64 size);

void blake3_hash(const u8 *message, i64 size, u8 *room, u8 out[BLAKE3_BYTES]);

#endif
