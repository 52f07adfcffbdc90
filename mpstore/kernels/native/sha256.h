/* sha256.c: the compression function of SHA-256 (FIPS 180-4) over many blocks, for processors that have AVX-512
   but no instructions of their own for it. */
#ifndef MP_SHA256_H
#define MP_SHA256_H

#include "native.h"

#define SHA256_BLOCK 64

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__)
#define MP_SHA256 1
/* Whether this processor computes SHA-256 faster so: it has no SHA instructions, which OpenSSL uses. */
bool sha256_pays(void);

/* Take `count` blocks of 64 bytes into the state a, b, ... h. */
void sha256_blocks(u32 *state, const u8 *bytes, i64 count);

/* Go on with several hashes at once: left[i] blocks from[i] into states[i]. All three are used up. */
void sha256_together(u32 **states, const u8 **from, i64 *left, i64 count);
#else
#define MP_SHA256 0
#endif

#endif
