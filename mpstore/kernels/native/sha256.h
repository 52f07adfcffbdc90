/* sha256_own.c, sha256.c and sha256_lanes.c: the compression function of SHA-256 (FIPS 180-4) over many blocks, by the
   processor's own instructions, or with AVX-512 where it has none. */
#ifndef MP_SHA256_H
#define MP_SHA256_H

#include "native.h"

#define SHA256_BLOCK 64

#if defined(__AVX2__)
#define MP_SHA256 1
/* How many hashes go side by side in about the time of two; 1: hashlib is the faster, and none of what follows runs
   here. */
int sha256_lanes(void);

/* Take `count` blocks of 64 bytes into the state a, b, ... h. */
void sha256_blocks(u32 *state, const u8 *bytes, i64 count);

/* Go on with several hashes at once: left[i] blocks from[i] into states[i]. All three are used up. */
void sha256_together(u32 **states, const u8 **from, i64 *left, i64 count);
#else
#define MP_SHA256 0
#endif

#endif
